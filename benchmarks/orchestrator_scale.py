"""The orchestrator on 10,000 planned trials: planning, ledger, `status`, memory, and overhead per trial.

Trials are no-ops: a shell that says it has ended. Prints JSON; times are in seconds, memory in bytes.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from algoperf.spec import Framework, Scale, TuningRuleset
from algoperf_orchestrator import kept_rules
from algoperf_orchestrator.attempt import Attempt
from algoperf_orchestrator.environment import Devices
from algoperf_orchestrator.executors.local import LocalExecutor
from algoperf_orchestrator.launch_options import Limits
from algoperf_orchestrator.leases import make_pool
from algoperf_orchestrator.ledger import Ledger
from algoperf_orchestrator.plan import Plan, make_plan
from algoperf_orchestrator.scheduler import Place, Policy, Scheduler
from algoperf_orchestrator.suite import Suite
from algoperf_orchestrator.verdict import State, Verdict

NUM_STUDIES = NUM_TRIALS = 100
NUM_RUN = 60
ENDED = {"event": "ended", "end_reason": "budget", "global_step": 1, "seconds": {"submission": 1.0}}
NO_OP = ["/bin/sh", "-c", f"echo '{json.dumps(ENDED)}'"]
SUBMISSION = """
def get_batch_size(workload_name): return 1
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng): return None, None
def update_params(**arguments): ...
def data_selection(workload, input_queue, *rest): ...
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = make_suite(folder)
        plan, plan_s = timed(lambda: make_plan(suite))
        experiment = folder / "experiment"
        experiment.mkdir()
        with Ledger(experiment, create=True) as ledger:
            _, add_s = timed(lambda: ledger.add(plan.trials))
            ledger.restrict(plan.trials)
            kept_rules.write(plan.rules, experiment)
            updates_s = ledger_updates(ledger)
            overhead_s, no_op_s = overhead_per_trial(ledger, plan, experiment)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        status_s = [timed(lambda: run("algoperf-orchestrate", "status", experiment))[1] for _ in range(9)]
        python_s = [timed(lambda: run("python", "-c", "pass"))[1] for _ in range(9)]
    figures = {
        "trials": len(plan.trials),
        "plan_s": plan_s,
        "enter_into_ledger_s": add_s,
        "ledger_update_median_s": median(updates_s),
        "ledger_update_max_s": max(updates_s),
        "status_command_median_s": median(status_s),
        "of_which_python_starts_s": median(python_s),
        "orchestrator_peak_memory_bytes": memory,
        "trials_run": NUM_RUN,
        "no_op_process_median_s": no_op_s,
        "overhead_per_trial_s": overhead_s,
    }
    print(json.dumps(figures, indent=2))


def make_suite(folder: Path) -> Suite:
    """10,000 trials of the toy workload, with a search space of three dimensions."""
    submission = folder / "mine"
    submission.mkdir()
    (submission / "submission.py").write_text(SUBMISSION)
    space = {name: {"min": 1e-4, "max": 1e-2, "scaling": "log"} for name in ("learning_rate", "beta", "decay")}
    (submission / "tuning_search_space.json").write_text(json.dumps(space))
    return Suite(
        submissions=(str(submission),),
        frameworks=(Framework.JAX,),
        ruleset=TuningRuleset.EXTERNAL,
        scale=Scale.MINI,
        workloads=("toy",),
        studies=NUM_STUDIES,
        trials=NUM_TRIALS,
    )


def ledger_updates(ledger: Ledger) -> list[float]:
    """Each of the writes that a trial causes, with what it reads before."""
    owner, times = ledger.register("local"), []
    done = Verdict(state=State.DONE, reason="budget")
    for _ in range(200):
        row, next_s = timed(ledger.next_planned)
        assert row is not None
        number, claim_s = timed(lambda row=row: ledger.claim(row, owner))
        assert number is not None
        _, beat_s = timed(lambda row=row, number=number: ledger.beat(owner, {row.id: Attempt(number=number, step=1)}))
        _, end_s = timed(lambda row=row, number=number: ledger.end(row.id, number, done))
        times += [next_s + claim_s, beat_s, end_s]
    return times


def overhead_per_trial(ledger: Ledger, plan: Plan, experiment: Path) -> tuple[float, float]:
    """What a trial takes beyond its process, one at a time; and the process alone, started as simply as can be."""
    own_s = [timed(lambda: subprocess.run(NO_OP, capture_output=True, check=True))[1] for _ in range(NUM_RUN)]
    open_now = [trial for trial, row in zip(plan.trials, ledger.rows(), strict=True) if row.state is State.PLANNED]
    ledger.restrict(open_now[:NUM_RUN])
    place = Place(experiment=experiment, data_dir=experiment, command=NO_OP)
    pool = make_pool(Devices(kind="cpu"), 1, folder=experiment.parent / "leases")
    scheduler = Scheduler(place, ledger, ledger.register("local"), LocalExecutor(pool, Limits()), Policy())
    is_done, all_s = timed(lambda: scheduler.run(lambda: False))
    assert is_done
    return all_s / NUM_RUN - median(own_s), median(own_s)


def run(command: str, *arguments: str | Path) -> None:
    """A command of this environment."""
    subprocess.run([Path(sys.executable).with_name(command), *arguments], check=True, capture_output=True)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and how long it takes."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
