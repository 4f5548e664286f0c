"""Before hours are spent: each submission takes three steps of each workload, at mini scale, on this machine."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from algoperf import registry
from algoperf.spec import Scale
from algoperf.trial_config import EndReason, TrialConfig
from algoperf_orchestrator import verdict
from algoperf_orchestrator.launch import Ended, launch
from algoperf_orchestrator.launch_options import Launch, Limits
from algoperf_orchestrator.leases import Pool
from algoperf_orchestrator.plan import Plan
from algoperf_orchestrator.run_trial import PREFLIGHT_STEPS
from algoperf_orchestrator.verdict import Cause

if TYPE_CHECKING:
    from rich.table import Table

# A first step compiles; what has not come to its third by then hangs.
_SILENCE_S = 600.0
_POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """A submission on a workload.

    Attributes:
        label: the submission's name in the experiment.
        config: of its first trial, at mini scale.
    """

    label: str
    config: TrialConfig

    @property
    def kind(self) -> tuple[str, str, str]:
        """Submission, workload and framework: what it stands for."""
        return self.label, self.config.workload, self.config.framework.value


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of a check.

    Attributes:
        check: which.
        problem: one line; "" if all went well.
        log: the end of what its process wrote, if there was a problem.
        seconds: how long it took.
    """

    check: Check
    problem: str
    log: str
    seconds: float


def checks(plan: Plan) -> list[Check]:
    """One for each submission, workload and framework of a plan, with the point of its first trial."""
    first: dict[tuple[str, str, str], Check] = {}
    for trial in plan.trials:
        if trial.key[:3] not in first:
            config = replace(
                trial.config,
                scale=Scale.MINI,
                study=0,
                trial=1,
                max_steps=None,
                # The budget must not end it, however slow the machine.
                clock="virtual",
                max_runtime_s=registry.workload_spec(trial.config.workload)
                .at(Scale.MINI)
                .budget(plan.suite.rules)
                .max_runtime_s,
            )
            first[trial.key[:3]] = Check(label=trial.label, config=config)
    return list(first.values())


def run(
    wanted: Sequence[Check], data_dir: Path, pool: Pool, limits: Limits, is_stopped: Callable[[], bool]
) -> Iterator[Found]:
    """Makes the checks, as many at once as the pool has shares, and yields what became of each.

    Args:
        wanted: the checks.
        data_dir: where prepared data lies.
        pool: this machine's devices and cores; checks wait for those that are in use.
        limits: memory, as in trials.
        is_stopped: is asked every second whether to stop.

    Raises:
        KeyboardInterrupt: it was to stop; the checks have left.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(len(pool.shares)) as threads:
        limits = replace(limits, silence_s=_SILENCE_S)
        running = {threads.submit(_run, check, data_dir, pool, limits, stop) for check in wanted}
        try:
            while running:
                ended, running = wait(running, _POLL_S, FIRST_COMPLETED)
                if is_stopped():
                    raise KeyboardInterrupt
                yield from (one.result() for one in ended)
        finally:
            stop.set()


def _run(check: Check, data_dir: Path, pool: Pool, limits: Limits, stop: threading.Event) -> Found:
    start = time.monotonic()
    with pool.wait(stop) as lease, tempfile.TemporaryDirectory(prefix="algoperf-preflight-") as folder:
        what = Launch(
            config=check.config,
            experiment=Path(folder),
            data_dir=data_dir,
            devices=lease.devices,
            cores=lease.cores,
            locks=lease.locks,
            limits=limits,
            options=["--preflight"],
        )
        ended = launch(what, lambda event, facts: None, stop)
    problem = _problem(ended)
    return Found(check=check, problem=problem, log=ended.stderr if problem else "", seconds=time.monotonic() - start)


def _problem(ended: Ended) -> str:
    found = ended.verdict
    if found == verdict.of_cause(Cause.STOPPED, f"at step {PREFLIGHT_STEPS}"):
        return ""
    if found.reason in (EndReason.ERROR, Cause.REFUSED, Cause.BAD_INPUT):
        return found.detail
    return f"{found.reason}: {found.detail}" if found.detail else found.reason


def table(found: Sequence[Found]) -> Table:
    """A row for each check."""
    from rich.table import Table

    rows = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("submission", "workload", "framework", "seconds", "result"):
        rows.add_column(name, overflow="fold", justify="right" if name == "seconds" else "left")
    for one in found:
        config = one.check.config
        rows.add_row(
            one.check.label, config.workload, config.framework.value, f"{one.seconds:.0f}", one.problem or "ok"
        )
    return rows
