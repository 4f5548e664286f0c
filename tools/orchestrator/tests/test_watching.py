"""What `stop` and `retry` do to trials whose orchestrator is gone, or whose logs are thrown away."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledgers import planned

from algoperf_orchestrator import watching
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.verdict import Cause, of_cause

Cli = Callable[..., Any]


@pytest.fixture
def orphan(tmp_path: Path) -> Callable[[float], None]:
    """Leaves a running trial without an orchestrator; its supervisor, on another machine, spoke so long ago."""
    folder = tmp_path / "mine/study_0/toy_jax/trial_1"

    def speak(ago_s: float) -> None:
        one = Attempt(number=1, host="elsewhere", heartbeat=time.time() - ago_s)
        one.write(folder)

    folder.mkdir(parents=True)
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(1))
        ledger.restrict(planned(1))
        row = ledger.next_planned()
        assert row is not None
        ledger.claim(row, ledger.register("ray"))
        ledger._db.execute("UPDATE owners SET pid = 2147483646")
    return speak


def test_stop_waits_for_what_still_lives(
    orphan: Callable[[float], None], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_STOP_LIMIT_S", 2.0)
    orphan(0.0)
    result = cli("stop", tmp_path)
    assert result.code == 3
    assert "Trials are still running" in result.err
    orphan(1000.0)
    # The first one was this process too.
    with Ledger(tmp_path) as ledger:
        ledger._db.execute("UPDATE owners SET pid = 2147483646")
    assert cli("stop", tmp_path).code == 0
    with Ledger(tmp_path) as ledger:
        assert [row.state.value for row in ledger.rows()] == ["planned"]


def test_what_is_thrown_away_is_no_longer_told(cli: Cli, tmp_path: Path) -> None:
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(1))
        ledger.restrict(planned(1))
        row, owner = ledger.next_planned(), ledger.register("local")
        assert row is not None
        ledger.claim(row, owner)
        now = time.time()
        newest = Attempt(number=1, step=7, best=0.9, started=now - 9, heartbeat=now)
        ledger.end(row.id, 1, of_cause(Cause.MEMORY), newest=newest)
        assert cli("retry", tmp_path, "--algorithm").code == 0
        facts = ledger.query("SELECT state, best, step, wall_s FROM trials")[0]
    assert tuple(facts) == ("planned", None, 0, 0.0)
