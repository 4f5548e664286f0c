"""One training run: the main loop, and what ends it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from algoperf import failures, returns
from algoperf.checkpoint import Checkpoints
from algoperf.clock import Account, Clock, VirtualClock, WallClock
from algoperf.data.queue import InputQueue
from algoperf.metadata import run_metadata
from algoperf.records import RecordsError, TrialRecords
from algoperf.search import as_hyperparameters
from algoperf.seeds import random_key, stable_hash
from algoperf.spec import Split, TrainingCompleteError
from algoperf.submission import Submission, SubmissionError
from algoperf.trial_config import EndReason, Outcome, TrialConfig
from algoperf.workload import Workload

__all__ = ["EndReason", "Outcome", "Trial", "TrialConfig"]

PROGRESS_PERIOD_S = 0.5

Observer = Callable[[str, Mapping[str, Any]], None]


@dataclass
class _State:
    """What training changes. Nothing else may hold a reference to it: submissions donate its buffers."""

    params: Any
    model_state: Any
    optimizer_state: Any
    global_step: int = 0
    last_eval_s: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)


class Trial:
    """One training run of one submission on one workload.

    Args:
        config: what to run.
        workload: the workload of the configuration.
        submission: the submission of the configuration.
        folder: where records and checkpoints go; a run that was interrupted there is continued.
        metadata: what the records shall say besides what they say anyway, such as the settings of the process.
        observer: is told what happens:
            `("started" | "progress" | "evaluating" | "evaluated" | "stopped" | "ended", facts)`.
        clock: another clock than the configuration's, for tests.
        stop: is asked after steps whether to save a checkpoint and leave; of several processes any may say so.
        leave_at: the step after which to do so unasked.
    """

    def __init__(
        self,
        config: TrialConfig,
        workload: Workload,
        submission: Submission,
        folder: Path,
        observer: Observer = lambda event, facts: None,
        metadata: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        stop: Callable[[], bool] = lambda: False,
        leave_at: int | None = None,
    ) -> None:
        self.config = config
        self.workload = workload
        self.submission = submission
        self.backend = workload.backend
        self.clock = clock or self._make_clock()
        self.records = TrialRecords(folder)
        self.checkpoints = Checkpoints(folder / "checkpoints", self.backend)
        self._observe = observer if self.backend.rank == 0 else lambda event, facts: None
        point = config.hyperparameters
        self._metadata = metadata or {}
        self._stop, self._leave_at = stop, leave_at
        self._hyperparameters = None if point is None else as_hyperparameters(point)
        self._parameter_types = workload.model_params_types
        self._end_reason: EndReason | None = None
        self._error: dict[str, str] | None = None
        self._goals = {Split.VALIDATION: False, Split.TEST: False}
        self._train_state: dict[str, Any] = {}
        self._train_state_view = MappingProxyType(self._train_state)
        self._eval_results: list[tuple[int, dict[str, Any]]] = []
        self._next_progress_s = 0.0
        self._state: _State | None = None
        self._queue: InputQueue | None = None

    def run(self) -> Outcome | None:
        """Trains until something ends it, and says what; None if it was asked to stop, and can be continued.

        Raises:
            DataError: the data is not there; nothing was begun.
            ValueError: the workload's batches cannot be divided among the devices; nothing was begun.
            SubmissionError: the submission does not fit the trial, or has not kept to the API before the first
                evaluation; nothing is left of the trial.
            records.RecordsError: the folder belongs to another configuration, code or number of devices.
        """
        self.records.check_same_config(self.config.as_json())
        self._check_same_code()
        # Now, so that what the user can mend is not a failed trial.
        self.workload.dataset  # noqa: B018
        for size in (self.workload.spec.batch_size, self.workload.spec.eval_batch_size):
            self.workload.check_batch_size(size or 0)
        batch_size = self.submission.batch_size(self.workload.spec, self.backend.shards.total)
        with self._failures_are_results():
            state, queue = self._begin(batch_size)
            while self._end_reason is None:
                self._step(state, queue)
                if self._evaluation_is_due(state):
                    self._evaluate(state, queue)
                if self._end_reason is None and self._is_to_leave(state):
                    self._leave(state, queue)
                    return None
        return self._finish()

    # The parts of the loop, in order.

    def _begin(self, batch_size: int) -> tuple[_State, InputQueue]:
        workload, seed, place = self.workload, self.config.seed, self.backend.place_state
        random.seed(stable_hash(seed, "python"))
        np.random.seed(stable_hash(seed, "numpy") % 2**32)
        params, model_state = workload.init_model_fn(random_key(seed, "model"))
        optimizer_state = self._init_optimizer(params, model_state)
        state = _State(*place((params, model_state, optimizer_state)))
        del params, model_state, optimizer_state
        self._state = state
        position, restarts = self._restore(state)
        data_seed = stable_hash(seed, "data")
        self._queue = workload.input_queue(Split.TRAIN, batch_size, seed=data_seed, state=position)
        self._start_records(state.evaluations, restarts)
        self._observe("started", {"step": state.global_step, "restarts": restarts, "batch_size": batch_size})
        self.clock.enter(Account.SUBMISSION)
        return state, self._queue

    def _step(self, state: _State, queue: InputQueue) -> None:
        seed, step = self.config.seed, state.global_step
        self.backend.begin_step(seed, step)
        state.global_step += 1
        try:
            batch = self.submission.data_selection(
                self.workload,
                queue,
                state.optimizer_state,
                state.params,
                state.model_state,
                self._hyperparameters,
                step,
                random_key(seed, step, "data"),
            )
            returns.check_batch(self.submission, batch)
            arguments = self._arguments(state, step, "update")
            if self.submission.wants_train_state:
                self._update_train_state(state)
                arguments["train_state"] = self._train_state_view
            self._take(state, "update_params", self.submission.update_params(**arguments, batch=batch))
        except TrainingCompleteError:
            self._end_reason = EndReason.COMPLETE
        if state.global_step == self.config.max_steps:
            self._end_reason = self._end_reason or EndReason.STEPS
        self.clock.step()
        self._report_progress(state)

    def _evaluation_is_due(self, state: _State) -> bool:
        budget_s = self.config.max_runtime_s
        if self._end_reason is not None or not state.evaluations:
            # After the first step, and after the last.
            self.clock.read()
        elif not self.clock.passed(min(state.last_eval_s + self.workload.eval_period_time_sec, budget_s)):
            return False
        if self.clock.submission_s >= budget_s:
            self._end_reason = EndReason.BUDGET
            return False
        return True

    def _evaluate(self, state: _State, queue: InputQueue) -> None:
        if self.submission.prepare_for_eval is not None:
            arguments = self._arguments(state, state.global_step, "prepare")
            self._take(state, "prepare_for_eval", self.submission.prepare_for_eval(**arguments))
        self.clock.enter(Account.EVALUATION)
        if self.clock.submission_s >= self.config.max_runtime_s:
            self._end_reason = EndReason.BUDGET
            return
        self._observe("evaluating", {"global_step": state.global_step})
        rng = random_key(self.config.seed, state.global_step, "evaluate")
        metrics = self.workload.evaluate(state.params, state.model_state, rng)
        self.clock.enter(Account.LOGGING)
        row = self._row(state, metrics)
        state.evaluations.append(row)
        # A copy: submissions may change what they are shown.
        self._eval_results.append((state.global_step, dict(row)))
        state.last_eval_s = self.clock.submission_s
        self._judge(state, metrics)
        # First the checkpoint, then the row: a checkpoint knows its rows, so none can be lost between the two.
        self._save(state, queue)
        if self.backend.rank == 0:
            self.records.append_evaluation(row)
        self._observe("evaluated", row)
        self.clock.enter(Account.SUBMISSION)

    def _is_to_leave(self, state: _State) -> bool:
        if state.global_step == self._leave_at:
            return True
        if self.backend.num_processes == 1:
            return self._stop()
        return self.clock.processes_agree and any(self.backend.gather([self._stop()]))

    def _leave(self, state: _State, queue: InputQueue) -> None:
        self.clock.enter(Account.LOGGING)
        self._save(state, queue)
        if self.workload.metrics_logger is not None:
            self.workload.metrics_logger.flush()
        queue.close()
        self._observe("stopped", {"global_step": state.global_step})

    def _finish(self) -> Outcome:
        assert self._end_reason is not None
        self.clock.enter(Account.LOGGING)
        if self._queue is not None:
            self._queue.close()
        state = self._state or _State(None, None, None)
        outcome = Outcome(
            end_reason=self._end_reason,
            global_step=state.global_step,
            seconds={str(account): seconds for account, seconds in self.clock.seconds.items()},
            evaluations=state.evaluations,
            error=self._error,
        )
        facts = {name: value for name, value in asdict(outcome).items() if name != "evaluations"}
        # Whoever fails says so: rank 0 may wait for a failed process for ever.
        if self.backend.rank == 0 or self._error:
            self.records.finish(facts)
        self._observe("ended", facts)
        return outcome

    # What they are made of.

    def _make_clock(self) -> Clock:
        workload = self.workload
        if self.config.clock == "virtual":
            return VirtualClock(workload.max_allowed_runtime_sec, workload.step_hint)

        def wait() -> None:
            state = self._state
            # After a failure the other processes may never come.
            if state is not None and self._error is None:
                self.backend.wait(state.params, state.model_state, state.optimizer_state)

        def latest(seconds: float) -> float:
            return seconds if self._error else self.backend.latest(seconds)

        return WallClock(wait, latest)

    def _init_optimizer(self, params: Any, model_state: Any) -> Any:
        optimizer_state = self.submission.init_optimizer_state(
            self.workload, params, model_state, self._hyperparameters, random_key(self.config.seed, "optimizer")
        )
        returns.check_optimizer_state(self.submission, self.backend.framework, optimizer_state)
        return optimizer_state

    def _arguments(self, state: _State, step: int, purpose: str) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "current_param_container": state.params,
            "current_params_types": self._parameter_types,
            "model_state": state.model_state,
            "hyperparameters": self._hyperparameters,
            "loss_type": self.workload.loss_type,
            "optimizer_state": state.optimizer_state,
            "eval_results": self._eval_results,
            "global_step": step,
            "rng": random_key(self.config.seed, step, purpose),
        }

    def _take(self, state: _State, function: str, result: Any) -> None:
        returns.check_update(self.submission, function, self.backend, result)
        state.optimizer_state, state.params, state.model_state = result

    def _row(self, state: _State, metrics: Mapping[str, float]) -> dict[str, Any]:
        seconds = self.clock.seconds
        return {
            **metrics,
            "global_step": state.global_step,
            "preemption_count": self.records.preemption_count,
            "score": self.clock.submission_s,
            "accumulated_submission_time": self.clock.submission_s,
            "accumulated_eval_time": seconds[Account.EVALUATION],
            "accumulated_logging_time": seconds[Account.LOGGING],
            "total_duration": self.clock.total_s,
        }

    def _judge(self, state: _State, metrics: Mapping[str, float]) -> None:
        self._update_goals(state)
        if all(self._goals.values()):
            self._end_reason = EndReason.REACHED
        losses = [value for name, value in metrics.items() if name.endswith("/loss")]
        # An infinite loss alone may pass; parameters that are no numbers stay that way.
        if not np.isfinite(losses).all() and not self.backend.all_finite(state.params):
            self._end_reason = EndReason.DIVERGED

    def _update_goals(self, state: _State) -> None:
        target = self.workload.spec.target
        for split in self._goals:
            self._goals[split] = any(target.reached(split, row) for row in state.evaluations)

    def _save(self, state: _State, queue: InputQueue) -> None:
        python, numpy = random.getstate(), np.random.get_state()
        trial = {
            "global_step": state.global_step,
            "last_eval_s": state.last_eval_s,
            "evaluations": state.evaluations,
            "end_reason": self._end_reason and str(self._end_reason),
            "clock": self.clock.state(),
            "queue": queue.state(),
            "random": (python, numpy),
        }
        tensors = {
            "params": state.params,
            "model_state": state.model_state,
            "optimizer_state": state.optimizer_state,
        }
        self.checkpoints.save(state.global_step, {**tensors, "trial": trial})

    def _restore(self, state: _State) -> tuple[Mapping[str, Any] | None, int]:
        """Continues from the newest checkpoint, if there is one: the data position, and the number of restarts."""
        template = {
            "params": state.params,
            "model_state": state.model_state,
            "optimizer_state": state.optimizer_state,
        }
        saved = self.checkpoints.load(template)
        # As rank 0 sees it: another rank may look when rank 0 has started its records already.
        restarts = self.backend.gather([self.records.num_starts])[0]
        if saved is None:
            return None, restarts
        state.params, state.model_state = saved["params"], saved["model_state"]
        state.optimizer_state = saved["optimizer_state"]
        trial = saved["trial"]
        state.global_step, state.last_eval_s = trial["global_step"], trial["last_eval_s"]
        state.evaluations = trial["evaluations"]
        self._eval_results = [(row["global_step"], dict(row)) for row in state.evaluations]
        self._end_reason = trial["end_reason"] and EndReason(trial["end_reason"])
        self._update_goals(state)
        self.clock.restore(trial["clock"])
        python, numpy = trial["random"]
        random.setstate(python)
        np.random.set_state(numpy)
        return trial["queue"], restarts

    def _check_same_code(self) -> None:
        data = {name: value for name, value in self._metadata.items() if name.endswith("_sha256")}
        now = {
            "submission_sha256": self.submission.content_hash,
            "submission_adapter": self.submission.adapter,
            "device_count": self.backend.shards.total,
            **data,
        }
        before = self.records.last_metadata()
        for name, value in now.items():
            if before.get(name, value) != value:
                raise RecordsError(
                    f"{self.records.folder} was begun with {name} {before[name]}, which is {value} now; "
                    "choose another --experiment."
                )

    def _start_records(self, evaluations: list[dict[str, Any]], restarts: int) -> None:
        metadata = {
            **run_metadata(),
            **self.backend.hardware(),
            **self._metadata,
            "rng_seed": self.config.seed,
            "clock": self.clock.name,
            "submission_files": self.submission.files,
            "submission_sha256": self.submission.content_hash,
            "submission_adapter": self.submission.adapter,
            **{f"workload.{name}": value for name, value in self.workload.spec.facts().items()},
        }
        self.records.preemption_count = restarts
        if self.backend.rank == 0:
            self.records.start(self.config.as_json(), metadata, restarts, evaluations)
            self.workload.metrics_logger = self.records.metrics_logger()

    def _update_train_state(self, state: _State) -> None:
        seconds = self.clock.seconds
        self._train_state.update(
            validation_goal_reached=self._goals[Split.VALIDATION],
            test_goal_reached=self._goals[Split.TEST],
            is_time_remaining=self.clock.submission_s < self.config.max_runtime_s,
            last_eval_time=state.last_eval_s,
            training_complete=self._end_reason is not None,
            accumulated_submission_time=seconds[Account.SUBMISSION],
            accumulated_eval_time=seconds[Account.EVALUATION],
            accumulated_logging_time=seconds[Account.LOGGING],
            last_step_end_time=self.clock.total_s,
        )

    def _report_progress(self, state: _State) -> None:
        now = time.monotonic()
        if now >= self._next_progress_s:
            self._next_progress_s = now + PROGRESS_PERIOD_S
            self._observe("progress", {"global_step": state.global_step, "submission_s": self.clock.submission_s})

    @contextmanager
    def _failures_are_results(self) -> Iterator[None]:
        try:
            yield
        except Exception as raised:  # noqa: BLE001
            error = failures.explained(raised, self.submission, self._hyperparameters)
            if isinstance(error, SubmissionError) and (self._state is None or not self._state.evaluations):
                # Nothing has a result yet, so that other code may begin here.
                if self._queue is not None:
                    self._queue.close()
                if self.backend.rank == 0:
                    self.records.take_back()
                raise error from error.__cause__
            # Whatever else a submission raises is the trial's result.
            self._error = failures.facts(error)
            self._end_reason = failures.end_reason(error, self.backend, self.submission)
