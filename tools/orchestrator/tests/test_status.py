"""What `status` says of an experiment."""

import io
import json
import time
from pathlib import Path

import pytest
from ledgers import planned
from rich.console import Console

from algoperf_orchestrator import status
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.ledger import Ledger


def test_the_time_that_is_left_shrinks_while_a_trial_runs(tmp_path: Path) -> None:
    """A trial whose budget is 20 s has run for 15."""
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(1))
        ledger.restrict(planned(1))
        row, owner = ledger.next_planned(), ledger.register("local")
        assert row is not None
        ledger.claim(row, owner)
        assert status.of(ledger, tmp_path).left_s == pytest.approx(20, abs=0.1)
        now = time.time()
        ledger.beat(owner, {row.id: Attempt(number=1, started=now - 15, heartbeat=now)})
        assert status.of(ledger, tmp_path).left_s == pytest.approx(5, abs=0.1)


def test_what_waits_in_a_queue_is_not_at_work(tmp_path: Path) -> None:
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(3))
        ledger.restrict(planned(3))
        owner = ledger.register("slurm")
        for row in ledger.rows():
            ledger.claim(row, owner)
        found = status.of(ledger, tmp_path)
        assert (found.num_queued, found.left_s) == (3, pytest.approx(60))
        ledger.beat(owner, {row.id: Attempt(number=1) for row in ledger.rows()[:2]})
        found = status.of(ledger, tmp_path)
    assert (found.num_queued, found.left_s) == (1, pytest.approx(30, abs=0.1))
    assert "3 running (1 of them in a queue)" in status.summary(found)


def test_a_terminal_of_80_columns_shows_names(tmp_path: Path) -> None:
    group = status.Cell(
        submission="shampoo_pytorch",
        workload="librispeech_deepspeech",
        framework="pytorch",
        metric="wer",
        goal="min",
        target=0.119936,
        counts={"done": 11, "running": 2, "planned": 1, "failed(algorithm)": 1, "failed(infrastructure)": 0},
        failed={"memory": 1},
        best=0.1187,
        left_s=7200.0,
    )
    found = status.Status(experiment=tmp_path, groups=[group], running=[], orchestrators=1, counts={}, left_s=7200.0)
    console = Console(width=80, file=io.StringIO())
    console.print(status.view(found, 80))
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].split() == "librispeech_ shampoo_py 11 of 15 2 1 memory 0.1187 ✓ ≤ 0.1199 2.0 h".split()


def test_without_rules_there_is_no_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(1))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    status.show(tmp_path, as_json=True, watch=False)
    (group,) = json.loads(capsys.readouterr().out, parse_constant=refuse)["groups"]
    assert group["target"] is None
    status.show(tmp_path, as_json=False, watch=False)
    assert "0 of 1 trials have ended" in capsys.readouterr().out
