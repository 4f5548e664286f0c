"""How the report's files are written."""

import errno
import sys
from pathlib import Path

import pytest

from algoperf_scoring import report
from algoperf_scoring.report import page
from algoperf_scoring.report.svg import Chart


@pytest.fixture
def write(monkeypatch):
    """Writes a page that says what it is told to say; nothing is scored for it."""

    def write(text, folder):
        chart = Chart(name="profiles", title="", inline="", alone=f"chart {text}")
        monkeypatch.setattr(page, "render", lambda analysis, data: (f"page {text}", [chart]))
        return report.write(None, {}, folder)

    return write


def test_page_and_charts(write, tmp_path):
    assert write("1 ≤ 2", tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "index.html"
    assert write("2", tmp_path / "new" / "folder").read_text(encoding="utf-8") == "page 2"
    assert (tmp_path / "new" / "folder" / "charts" / "profiles.svg").read_text(encoding="utf-8") == "chart 2"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("fails_at", ["index.html", "profiles.svg"])
def test_a_full_disk_leaves_what_was_there(write, tmp_path, monkeypatch, fails_at):
    path = write("before", tmp_path)
    write_text = Path.write_text

    def full(path, text, **options):
        if fails_at in path.name:
            write_text(path, text[:3], **options)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write("after", tmp_path)
    assert path.read_text() == "page before"
    assert (tmp_path / "charts" / "profiles.svg").read_text() == (
        "chart before" if fails_at == "profiles.svg" else "chart after"
    )
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_a_folder_that_cannot_be_made(write, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        write("", tmp_path / "file" / "report")


def test_missing_libraries_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "algoperf_scoring.report.page", None)
    with pytest.raises(ImportError, match=r"pip install 'algoperf-scoring\[report\]'"):
        report.write(None, {}, tmp_path)
    assert not list(tmp_path.iterdir())
