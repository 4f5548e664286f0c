"""The scheduler, with an executor that does as it is told: what is run, tried again, taken over and given up."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from ledgers import DONE, planned

from algoperf.records import TrialRecords
from algoperf_orchestrator import processes, verdict
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.executors import Finished, Task
from algoperf_orchestrator.ledger import Ledger, Row
from algoperf_orchestrator.scheduler import Place, Policy, Scheduler
from algoperf_orchestrator.verdict import Cause, Verdict

AT_ONCE = Policy(retries=2, backoff_s=0.0)
LONG_AGO = 1000.0


class Obedient:
    """An executor whose tasks end as a function says; None lets one run until it is stopped."""

    def __init__(self, what: Callable[[Task], Verdict | None], slots: int = 1, silence_s: float | None = None) -> None:
        self.name, self.silence_s, self.waits_for = "local", silence_s, "devices that others use"
        self._what, self._slots = what, slots
        self.running: dict[int, Task] = {}
        self.started: list[Task] = []
        self.stopped: list[int] = []
        self.released: list[int] = []
        self._asked: set[tuple[int, int]] = set()
        self.adoptable: set[str] = set()
        self.most = 0

    def room(self, wanted: int) -> int:
        return min(wanted, self._slots - len(self.running))

    def start(self, tasks: Sequence[Task]) -> Mapping[int, str]:
        self.running |= {task.trial: task for task in tasks}
        self.started += tasks
        self.most = max(self.most, len(self.running))
        return {task.trial: f"job {task.trial}" for task in tasks}

    def wait(self, timeout_s: float) -> Sequence[Finished]:
        found = [(task, self._end_of(task)) for task in list(self.running.values())]
        ended = [Finished(trial=task.trial, number=task.number, verdict=one) for task, one in found if one]
        for one in ended:
            del self.running[one.trial]
        if not ended:
            time.sleep(min(timeout_s, 0.05))
        return ended

    def stop(self, trials: Sequence[int]) -> None:
        self.stopped += trials
        self._asked |= {(trial, self.running[trial].number) for trial in trials if trial in self.running}

    def release(self, trials: Sequence[int]) -> None:
        self.released += trials
        self.stop(trials)

    def _end_of(self, task: Task) -> Verdict | None:
        is_asked = (task.trial, task.number) in self._asked
        return verdict.of_cause(Cause.STOPPED) if is_asked else self._what(task)

    def adopt(self, task: Task, handle: str) -> bool:
        if handle in self.adoptable:
            self.running[task.trial] = task
        return handle in self.adoptable

    def close(self) -> None:
        self.running.clear()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path, create=True) as ledger:
        ledger.add(planned(4))
        ledger.restrict(planned(4))
        yield ledger


@pytest.fixture
def run(ledger: Ledger, tmp_path: Path) -> Callable[..., bool]:
    def call(executor: Obedient, policy: Policy = AT_ONCE, stop: Callable[[], bool] = lambda: False) -> bool:
        place = Place(experiment=tmp_path, data_dir=tmp_path)
        return Scheduler(place, ledger, ledger.register(executor.name), executor, policy).run(stop)

    return call


def states(ledger: Ledger) -> list[tuple[str, str]]:
    return [(row.state.value, row.reason) for row in ledger.rows()]


def ends(ledger: Ledger, row: Row) -> list[str]:
    """How the attempts at a trial ended."""
    return [one["reason"] for one in ledger.query("SELECT reason FROM attempts WHERE trial = ?", (row.id,))]


def test_everything_is_run_in_order_and_once(run: Callable[..., bool], ledger: Ledger) -> None:
    executor = Obedient(lambda task: DONE, slots=2)
    assert run(executor)
    assert [task.key.study for task in executor.started] == [0, 1, 2, 3]
    assert executor.most == 2
    assert states(ledger) == [("done", "reached")] * 4
    again = Obedient(lambda task: DONE)
    assert run(again)
    assert again.started == []


def test_infrastructure_is_tried_again_and_given_up(run: Callable[..., bool], ledger: Ledger) -> None:
    def what(task: Task) -> Verdict:
        if task.key.study == 0 and task.number < 3:
            return verdict.of_cause(Cause.KILLED)
        return verdict.of_cause(Cause.DIED) if task.key.study == 1 else DONE

    executor = Obedient(what)
    assert run(executor)
    assert states(ledger)[:2] == [("done", "reached"), ("failed(infrastructure)", "died")]
    numbers = [[task.number for task in executor.started if task.key.study == study] for study in range(4)]
    assert numbers == [[1, 2, 3], [1, 2, 3], [1], [1]]


@pytest.mark.parametrize("reason", [Cause.MEMORY, Cause.REFUSED])
def test_the_algorithm_is_not_tried_again(run: Callable[..., bool], ledger: Ledger, reason: Cause) -> None:
    executor = Obedient(lambda task: verdict.of_cause(reason))
    assert run(executor)
    assert states(ledger) == [("failed(algorithm)", reason.value)] * 4
    assert len(executor.started) == 4


def test_a_stopped_suite_can_be_gone_on_with(run: Callable[..., bool], ledger: Ledger) -> None:
    executor = Obedient(lambda task: None)
    assert not run(executor, stop=lambda: bool(executor.running))
    assert states(ledger) == [("planned", "stopped"), *[("planned", "")] * 3]
    assert run(Obedient(lambda task: DONE))


def test_somebody_else_may_stop_it(run: Callable[..., bool], ledger: Ledger, tmp_path: Path) -> None:
    def ask() -> None:
        with Ledger(tmp_path) as other:
            other.ask_to_stop()

    threading.Timer(0.5, ask).start()
    assert not run(Obedient(lambda task: None))
    # What was asked for in the past does not stop the next one.
    assert run(Obedient(lambda task: DONE))


def leave_running(ledger: Ledger, *, handle: str = "", host: str = "", executor: str = "local") -> Row:
    """A trial that an orchestrator which is gone has left running."""
    owner = ledger.register(executor)
    gone = {"id": owner, "host": host or socket.gethostname(), "beat": time.time() - LONG_AGO}
    ledger._db.execute("UPDATE owners SET pid = 2147483646, host = :host, heartbeat = :beat WHERE id = :id", gone)
    row = ledger.next_planned()
    assert row is not None
    ledger.claim(row, owner, handle)
    return row


def write_attempt(tmp_path: Path, row: Row, **facts: object) -> None:
    folder = row.folder(tmp_path)
    folder.mkdir(parents=True)
    one = Attempt(number=1)
    vars(one).update(facts)
    one.write(folder)


def test_what_a_dead_orchestrator_has_left_is_gone_on_with(run: Callable[..., bool], ledger: Ledger) -> None:
    row = leave_running(ledger)
    executor = Obedient(lambda task: DONE)
    assert run(executor)
    assert (executor.started[0].trial, executor.started[0].number) == (row.id, 2)
    (first,) = ledger.query("SELECT failures FROM trials WHERE id = ?", (row.id,))
    assert first["failures"] == 0, "it is not the trial's failure"


def test_a_verdict_that_nobody_took_is_taken(run: Callable[..., bool], ledger: Ledger, tmp_path: Path) -> None:
    row = leave_running(ledger)
    write_attempt(tmp_path, row, verdict=verdict.of_cause(Cause.MEMORY, "much"))
    executor = Obedient(lambda task: DONE)
    assert run(executor)
    assert states(ledger)[0] == ("failed(algorithm)", "memory")
    assert row.id not in [task.trial for task in executor.started]


@pytest.mark.parametrize("is_running", [False, True])
def test_a_result_that_nobody_wrote_down_is_not_made_again(
    run: Callable[..., bool], ledger: Ledger, tmp_path: Path, is_running: bool
) -> None:
    row = leave_running(ledger) if is_running else ledger.next_planned()
    assert row is not None
    records = TrialRecords(row.folder(tmp_path))
    records.start(row.config.as_json(), {}, 0, [])
    records.finish({"end_reason": "budget"})
    executor = Obedient(lambda task: DONE)
    assert run(executor)
    assert states(ledger)[0] == ("done", "budget")
    assert row.id not in [task.trial for task in executor.started]
    assert ends(ledger, row) == ["budget"] * is_running


def test_a_result_of_the_last_moment_is_kept(
    run: Callable[..., bool], ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = leave_running(ledger)
    records = TrialRecords(row.folder(tmp_path))
    records.start(row.config.as_json(), {}, 0, [])
    # The trial ends between the look at its records and the kill.
    monkeypatch.setattr(processes, "kill_strays", lambda folder: records.finish({"end_reason": "budget"}))
    executor = Obedient(lambda task: DONE)
    assert run(executor)
    assert states(ledger)[0] == ("done", "budget")
    assert ends(ledger, row) == ["budget"]
    assert row.id not in [task.trial for task in executor.started]


@pytest.mark.parametrize("is_running", [False, True])
def test_damaged_records_stop_no_other_trial(
    run: Callable[..., bool], ledger: Ledger, tmp_path: Path, is_running: bool
) -> None:
    row = leave_running(ledger) if is_running else ledger.next_planned()
    assert row is not None
    row.folder(tmp_path).mkdir(parents=True)
    (row.folder(tmp_path) / "trial.json").write_text('{"conf')
    assert run(Obedient(lambda task: DONE))
    assert states(ledger) == [("failed(infrastructure)", "bad input"), *[("done", "reached")] * 3]
    (detail,) = ledger.query("SELECT detail FROM trials WHERE id = ?", (row.id,))[0]
    assert "trial.json" in detail


def test_a_trial_of_another_host_is_left_alone_while_its_heart_beats(
    run: Callable[..., bool], ledger: Ledger, tmp_path: Path
) -> None:
    row = leave_running(ledger, host="elsewhere")
    write_attempt(tmp_path, row, host="elsewhere", heartbeat=time.time())
    executor = Obedient(lambda task: DONE if len(executor.started) < 3 else None)
    assert not run(executor, stop=lambda: len(executor.started) == 3)
    assert states(ledger)[0] == ("running", "")
    write_attempt_again(tmp_path, row)
    executor = Obedient(lambda task: DONE)
    assert run(executor)
    assert states(ledger)[0] == ("done", "reached")


def write_attempt_again(tmp_path: Path, row: Row) -> None:
    one = Attempt(number=1, host="elsewhere", heartbeat=time.time() - LONG_AGO)
    one.write(row.folder(tmp_path))


def test_a_job_is_adopted_or_given_up(run: Callable[..., bool], ledger: Ledger) -> None:
    first, second = leave_running(ledger, handle="17"), leave_running(ledger, handle="18")
    executor = Obedient(lambda task: DONE)
    executor.adoptable = {"17"}
    assert run(executor)
    assert [(task.trial, task.number) for task in executor.started if task.trial in (first.id, second.id)] == [
        (second.id, 2)
    ]
    attempts = ledger.query("SELECT reason FROM attempts WHERE trial = ? ORDER BY number", (second.id,))
    assert [row["reason"] for row in attempts] == ["no heartbeat", "reached"]


def test_jobs_of_another_executor_are_not_touched(run: Callable[..., bool], ledger: Ledger) -> None:
    leave_running(ledger, handle="17", executor="slurm")
    with pytest.raises(ValueError, match=r"is in the hands of slurm \(job 17\); continue with --executor slurm"):
        run(Obedient(lambda task: DONE))


def test_a_living_orchestrator_keeps_its_trials(run: Callable[..., bool], ledger: Ledger) -> None:
    other = ledger.register("local")
    row = ledger.next_planned()
    assert row is not None
    ledger.claim(row, other)
    executor = Obedient(lambda task: DONE)
    # It waits for the other's end, which comes when the last of its own trials is done.
    ends = threading.Timer(2.0, lambda: None)
    ends.start()
    assert not run(executor, stop=lambda: not ends.is_alive())
    assert states(ledger)[0][0] == "running"
    assert len(executor.started) == 3


def test_a_stolen_lease_ends_the_trial_of_the_thief_s_victim(
    run: Callable[..., bool], ledger: Ledger, tmp_path: Path
) -> None:
    """An orchestrator that slept for a minute finds its trial taken over, and stops its own process."""
    executor = Obedient(lambda task: None if task.trial == 1 else DONE)

    def steal() -> None:
        with Ledger(tmp_path) as other:
            (row,) = other.running()
            thief = other.register("local")
            assert other.adopt(row, thief)
            other.end(row.id, row.attempts, DONE)

    threading.Timer(1.5, steal).start()
    assert run(executor)
    assert executor.released == [1]
    assert states(ledger)[0] == ("done", "reached"), "the thief's result counts"


def test_a_trial_whose_heart_has_stopped_is_tried_again(
    run: Callable[..., bool], ledger: Ledger, tmp_path: Path
) -> None:
    def what(task: Task) -> Verdict | None:
        if task.trial != 1 or task.number > 1:
            return DONE
        folder = tmp_path / "mine" / "study_0" / "toy_jax" / "trial_1"
        if not folder.exists():
            folder.mkdir(parents=True)
            Attempt(number=1, host="elsewhere").write(folder)
        return None

    executor = Obedient(what, slots=2, silence_s=1.5)
    assert run(executor)
    assert 1 in executor.stopped
    attempts = ledger.query("SELECT reason FROM attempts WHERE trial = 1 ORDER BY number")
    assert [row["reason"] for row in attempts] == ["no heartbeat", "reached"]


def test_a_ledger_that_cannot_be_written_ends_the_suite(run: Callable[..., bool], ledger: Ledger) -> None:
    def what(task: Task) -> Verdict:
        ledger._db.execute("PRAGMA query_only = ON")
        return DONE

    with pytest.raises(OSError, match="readonly"):
        run(Obedient(what))
    ledger._db.execute("PRAGMA query_only = OFF")
    ledger._db.execute("UPDATE owners SET pid = 2147483646")  # An orchestrator that fails so does not live on.
    assert run(Obedient(lambda task: DONE))


def test_this_process_is_alive() -> None:
    from algoperf_orchestrator.attempt import is_alive

    me = psutil.Process()
    assert is_alive(socket.gethostname(), me.pid, me.create_time()) is True
    assert is_alive(socket.gethostname(), me.pid, me.create_time() - 100) is False
    assert is_alive(socket.gethostname(), 2147483646, 0.0) is False
    assert is_alive("elsewhere", me.pid, me.create_time()) is None


def test_waiting_for_devices_is_said_once(ledger: Ledger, tmp_path: Path) -> None:
    executor = Obedient(lambda task: DONE, slots=0)
    events: list[str] = []
    threading.Timer(1.5, lambda: setattr(executor, "_slots", 1)).start()
    place = Place(experiment=tmp_path, data_dir=tmp_path)
    owner = ledger.register(executor.name)
    scheduler = Scheduler(place, ledger, owner, executor, AT_ONCE, lambda row, event, verdict: events.append(event))
    assert scheduler.run(lambda: False)
    assert events.count("waits for devices that others use") == 1
