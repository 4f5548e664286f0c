"use strict";
// Tables sort by the button of a column; the same button again turns the order round. What has no value stays last.
function sort(button) {
  const header = button.parentElement;
  const body = header.closest("table").tBodies[0];
  const before = header.getAttribute("aria-sort");
  const order = before === null ? button.dataset.first : before === "ascending" ? "descending" : "ascending";
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const key = (row) => {
    const cell = row.cells[header.cellIndex];
    const text = cell.dataset.sort ?? cell.dataset.value ?? cell.textContent.trim();
    return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };
  const compare = (one, other) => (typeof one === "number" && typeof other === "number" ? one - other
    : String(one).localeCompare(String(other), "en"));
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([one], [other]) => (one === "") - (other === "") || (order === "ascending" ? 1 : -1) * compare(one, other));
  body.append(...rows.map(([, row]) => row));
}
for (const button of document.querySelectorAll("button.sort")) button.addEventListener("click", () => sort(button));
// Paper has no buttons: all details are printed.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});
