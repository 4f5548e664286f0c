"""The ledger: nobody runs a trial twice, nothing is lost, and it is quick."""

import multiprocessing
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from ledgers import DONE, claim_all, planned

from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.ledger_file import NAME, LedgerError
from algoperf_orchestrator.planned import PlannedTrial
from algoperf_orchestrator.verdict import Cause, State, Verdict, of_cause

FAILED = of_cause(Cause.KILLED, "by SIGKILL")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(3))
        ledger.restrict(planned(3))
        yield ledger


def test_a_trials_way(ledger: Ledger) -> None:
    owner = ledger.register("local")
    row = ledger.next_planned()
    assert row is not None
    assert row.config == planned(1)[0].config
    assert ledger.claim(row, owner) == 1
    assert ledger.claim(row, owner) is None
    attempt = Attempt(number=1, devices=("core 0",), step=5, submission_s=1.5, best=0.7)
    assert ledger.beat(owner, {row.id: attempt}) == []
    assert ledger.end(row.id, 1, FAILED, retry_in_s=0.0)
    (again,) = [one for one in ledger.rows() if one.id == row.id]
    assert (again.state, again.failures, again.attempts) == (State.PLANNED, 1, 1)
    assert ledger.claim(again, owner) == 2
    assert not ledger.end(row.id, 1, DONE), "an attempt of long ago does not end the trial"
    assert ledger.end(row.id, 2, DONE)
    assert [one.state for one in ledger.rows()] == [State.DONE, State.PLANNED, State.PLANNED]
    attempts = ledger.query("SELECT number, reason, devices FROM attempts ORDER BY number")
    assert [tuple(one) for one in attempts] == [(1, "killed", '["core 0"]'), (2, "reached", "[]")]


def test_the_last_that_an_attempt_said_is_kept(ledger: Ledger) -> None:
    owner = ledger.register("local")
    row = ledger.next_planned()
    assert row is not None
    ledger.claim(row, owner)
    ledger.beat(owner, {row.id: Attempt(number=1, step=5, best=0.7)})
    assert ledger.end(row.id, 1, FAILED, retry_in_s=0.0, newest=Attempt(number=1, step=9, best=0.8))
    ledger.claim(ledger.rows()[0], owner)
    assert not ledger.end(row.id, 1, DONE, newest=Attempt(number=1, step=7, best=0.9)), "the second one is running"
    ledger.end(row.id, 2, DONE, newest=Attempt(number=1, step=8, best=0.9))
    (step, best), *_ = ledger.query("SELECT step, best FROM trials ORDER BY id")
    assert (step, best) == (9, 0.8)


def test_only_the_time_of_work_counts(ledger: Ledger) -> None:
    """An orchestrator died on Friday evening, and somebody goes on on Monday."""
    owner = ledger.register("local")
    row = ledger.next_planned()
    assert row is not None
    friday = time.time() - 3 * 86400
    ledger.claim(row, owner)
    ledger.beat(owner, {row.id: Attempt(number=1, started=friday, heartbeat=friday + 10)})
    ledger.end(row.id, 1, of_cause(Cause.NO_HEARTBEAT), retry_in_s=0.0)
    ledger.claim(ledger.rows()[0], owner)
    monday = time.time()
    ledger.end(row.id, 2, DONE, newest=Attempt(number=2, started=monday, heartbeat=monday + 5))
    (wall_s,) = ledger.query("SELECT wall_s FROM trials WHERE id = ?", (row.id,))[0]
    assert wall_s == pytest.approx(15)


def test_a_retry_waits(ledger: Ledger) -> None:
    owner = ledger.register("local")
    row = ledger.next_planned()
    assert row is not None
    ledger.claim(row, owner)
    ledger.end(row.id, 1, FAILED, retry_in_s=60.0)
    following = ledger.next_planned()
    assert following is not None
    assert following.id != row.id
    assert (ledger.num_due(), ledger.num_open()) == (2, 3)


def test_a_trial_that_was_taken_over_is_lost_to_its_owner(ledger: Ledger) -> None:
    first, second = ledger.register("local"), ledger.register("local")
    row = ledger.next_planned()
    assert row is not None
    ledger.claim(row, first)
    (running,) = ledger.running()
    assert ledger.adopt(running, second)
    assert not ledger.adopt(running, first), "it has another owner by now"
    assert ledger.beat(first, {row.id: None}) == [row.id]
    assert ledger.beat(second, {row.id: Attempt(number=1)}) == []


def test_the_same_plan_again_changes_nothing_and_another_is_refused(ledger: Ledger) -> None:
    assert ledger.add(planned(3)) == 0
    assert ledger.add(planned(5)) == 2
    (first, *_) = planned(1)
    other = replace(first, config=replace(first.config, seed=99))
    with pytest.raises(LedgerError, match="with seed 0, now asked for with 99"):
        ledger.add([other])


def test_the_order_of_keys_is_no_difference_and_a_type_is(ledger: Ledger) -> None:
    def with_point(**point: float) -> list[PlannedTrial]:
        return [PlannedTrial(label="tuned", config=replace(one.config, hyperparameters=point)) for one in planned(1)]

    assert ledger.add(with_point(a=1.0, b=2.0)) == 1
    assert ledger.add(with_point(b=2.0, a=1.0)) == 0
    with pytest.raises(LedgerError, match=re.escape("now asked for with {'a': 1, 'b': 2.0}")):
        ledger.add(with_point(a=1, b=2.0))


def test_trials_of_other_suites_stay_where_they_are(ledger: Ledger) -> None:
    ledger.restrict(planned(3)[2:])
    row = ledger.next_planned()
    assert row is not None
    assert row.key.study == 2
    assert ledger.num_open() == 1


def test_damaged_and_missing_ledgers(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="There is no experiment in"):
        Ledger(tmp_path)
    (tmp_path / NAME).write_bytes(b"this is no database, but it is long enough to be looked at" * 100)
    with pytest.raises(LedgerError, match=r"is damaged .* ledger rebuild"):
        Ledger(tmp_path)
    (tmp_path / NAME).unlink()
    Ledger(tmp_path, create=True).__exit__()
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerError, match="is of version 7"):
        Ledger(tmp_path)


def test_a_ledger_that_is_damaged_within(ledger: Ledger) -> None:
    ledger.add([replace(one, label=f"{one.label}_{k}") for k in range(200) for one in planned(3)])
    ledger.query("PRAGMA wal_checkpoint(TRUNCATE)")
    with ledger.path.open("r+b") as file:
        for page in range(2, ledger.path.stat().st_size // 4096):
            file.seek(4096 * page)
            file.write(b"x" * 4096)
    with Ledger(ledger.path.parent) as again, pytest.raises(LedgerError, match=r"is damaged .*; remove it and run"):
        again.rows()


def test_who_may_only_read_can_look(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ledger.rows()
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: connect(f"file:{path}?mode=ro", uri=True, **options)
    )
    with Ledger(ledger.path.parent) as reader:
        assert reader.rows() == before


def test_a_ledger_that_may_not_be_written(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger._db.execute("PRAGMA query_only = ON")  # What a read-only file system does, for root too.
    with pytest.raises(OSError, match="attempt to write a readonly database") as caught:
        ledger.register("local")
    assert str(ledger.path) == caught.value.filename


def test_a_full_disk_leaves_the_ledger_as_it_was(ledger: Ledger) -> None:
    before = [vars(row) for row in ledger.rows()]
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="full"):
        ledger.add([replace(one, label=f"{one.label}_{k}") for k in range(200) for one in planned(3)])
    assert [vars(row) for row in ledger.rows()] == before
    ledger._db.execute("PRAGMA max_page_count = 100000")
    assert ledger.add(planned(4)) == 1


def test_many_may_begin_at_once(tmp_path: Path) -> None:
    def begin(folder: Path) -> int:
        with Ledger(folder, create=True) as ledger:
            return ledger.register("local")

    with ThreadPoolExecutor(3) as threads:
        for number in range(60):
            folder = tmp_path / str(number)
            folder.mkdir()
            assert sorted(threads.map(begin, [folder] * 3)) == [1, 2, 3]


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(200))
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[list[int]] = context.SimpleQueue()
    workers = [context.Process(target=claim_all, args=(tmp_path, 200, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    both = results.get(), results.get()
    for worker in workers:
        worker.join()
    assert sorted(both[0] + both[1]) == list(range(1, 201))


class Crowd(RuleBasedStateMachine):
    """Orchestrators that claim, end, lose and take over trials in any order."""

    owners: Bundle[int] = Bundle("owners")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(Path(self.folder.name), create=True)
        self.ledger.add(planned(4))
        self.ledger.restrict(planned(4))
        self.holds: dict[int, tuple[int, int]] = {}
        self.results: dict[int, int] = {}

    def teardown(self) -> None:
        self.ledger.__exit__()
        self.folder.cleanup()

    @rule(target=owners)
    def arrive(self) -> int:
        return self.ledger.register("local")

    @rule(owner=owners)
    def claim(self, owner: int) -> None:
        row = self.ledger.next_planned()
        if row is not None and (number := self.ledger.claim(row, owner)) is not None:
            assert row.id not in self.holds, "it is run twice"
            assert row.id not in self.results, "it has a result"
            self.holds[row.id] = owner, number

    @rule(owner=owners, verdict=st.sampled_from([DONE, FAILED, of_cause(Cause.STOPPED), of_cause(Cause.MEMORY)]))
    def end(self, owner: int, verdict: Verdict) -> None:
        for trial, (holder, number) in list(self.holds.items()):
            if holder == owner:
                retry_in_s = 0.0 if verdict is FAILED else None
                assert self.ledger.end(trial, number, verdict, retry_in_s)
                del self.holds[trial]
                if verdict.state in (State.DONE, State.FAILED_ALGORITHM):
                    self.results[trial] = self.results.get(trial, 0) + 1

    @rule(owner=owners)
    def take_over(self, owner: int) -> None:
        for row in self.ledger.running():
            if row.owner != owner and self.ledger.adopt(row, owner):
                loser, number = self.holds[row.id]
                assert self.ledger.beat(loser, {row.id: Attempt(number=number)}) == [row.id]
                self.holds[row.id] = owner, number

    @invariant()
    def every_trial_is_somewhere(self) -> None:
        assert {row.id for row in self.ledger.running()} == set(self.holds)
        final = {row.id for row in self.ledger.rows() if row.state.is_final}
        assert final == set(self.results)
        assert all(count == 1 for count in self.results.values())


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_settling_takes_what_the_attempt_said(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    folder.mkdir()
    Attempt(number=1, step=42, best=0.5).write(folder)
    (row, *_) = ledger.rows()
    ledger.settle(row.id, DONE, folder)
    (found, *_) = ledger.query("SELECT state, step, best FROM trials")
    assert tuple(found) == ("done", 42, 0.5)


def test_facts(ledger: Ledger) -> None:
    assert ledger.fact("stop requested") is None
    now = time.time()
    ledger.set_fact("stop requested", now)
    assert ledger.fact("stop requested") == now
