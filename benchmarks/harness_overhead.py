"""What the harness adds to each step: a submission that does nothing, with few and with many evaluations logged.

Prints JSON: microseconds of submission time per step, in each installed framework.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from algoperf import registry, study, submission
from algoperf.clock import Account
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import is_installed
from algoperf.trial import Trial

STEPS = 3000
ROUNDS = 5

IDLE = """
def get_batch_size(workload_name):
    return 32

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    return {}, None

def data_selection(workload, input_queue, optimizer_state, params, model_state, hyperparameters, global_step, rng):
    return None

def update_params(workload, current_param_container, current_params_types, model_state, hyperparameters, batch,
                  loss_type, optimizer_state, eval_results, global_step, rng):
    return optimizer_state, current_param_container, model_state
"""


def microseconds_per_step(framework: Framework, num_logged: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "idle.py"
        path.write_text(IDLE)
        spec = registry.workload_spec("toy").at(Scale.MINI)
        workload = registry.make_workload(spec, framework)
        config = study.trial_config(
            spec,
            framework=framework,
            submission=str(path),
            ruleset=study.SELF_TUNING,
            hyperparameters=None,
            max_steps=STEPS,
        )
        # A budget that nothing here uses up, and no evaluation but the first and the last.
        config = replace(config, max_runtime_s=1e6)
        trial = Trial(config, workload, submission.load(path), Path(folder) / "trial")
        trial._save = lambda state, queue: None
        evaluate = trial._evaluate

        def first_evaluation(state, queue):
            evaluate(state, queue)
            if len(state.evaluations) == 1:
                state.evaluations *= num_logged
                trial._eval_results *= num_logged
            state.last_eval_s = 1e6

        trial._evaluate = first_evaluation
        outcome = trial.run()
        first = outcome.evaluations[0]["accumulated_submission_time"]
        return (outcome.seconds[Account.SUBMISSION] - first) / (STEPS - 1) * 1e6


def main() -> None:
    result = {}
    for framework in [Framework(name) for name in sys.argv[1:]] or [f for f in Framework if is_installed(f)]:
        figures: dict[int, list[float]] = {1: [], 1000: []}
        for _ in range(ROUNDS):
            for num_logged, values in figures.items():
                values.append(microseconds_per_step(framework, num_logged))
        result[framework.value] = {
            f"us_per_step_with_{n}_evaluations": round(statistics.median(v), 1) for n, v in figures.items()
        }
    print(json.dumps({"benchmark": "harness_overhead", "steps": STEPS, "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
