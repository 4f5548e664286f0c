"""Prints what a trial of the toy workload comes to on this process's devices.

`run_devices.py FRAMEWORK FOLDER CLOCK [SUBMISSION ADAPTER [LEAVE_AT]]`
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from algoperf import registry, study, submission
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale
from algoperf.trial import Trial


def main() -> None:
    framework, folder = Framework(sys.argv[1]), Path(sys.argv[2])
    spec = registry.workload_spec("toy").at(Scale.MINI)
    # Without dropout: its masks depend on how a batch is divided.
    spec = replace(spec, dropout_rate=0.0)
    workload = registry.make_workload(spec, framework)
    name, adapter = sys.argv[4:6] if len(sys.argv) > 4 else (f"momentum_{framework.value}.py", "")
    path = Path(__file__).parent / "submissions" / name
    loaded = submission.load(path, adapter or None)
    config = study.trial_config(
        spec,
        framework=framework,
        submission=path.name,
        ruleset=study.SELF_TUNING,
        hyperparameters=None,
        clock=sys.argv[3],
        max_steps=25,
    )
    if len(sys.argv) > 6:
        assert Trial(config, workload, loaded, folder, leave_at=int(sys.argv[6])).run() is None
    trial = Trial(config, workload, loaded, folder)
    trial._judge = lambda state, metrics: None
    outcome = trial.run()
    params, _ = workload.init_model_fn(random_key(0))
    result = {
        "reason": outcome.end_reason,
        "evaluations": outcome.evaluations,
        "initial": workload.evaluate(params, None, random_key(1)),
        "shards": workload.backend.shards.total,
    }
    if workload.backend.rank == 0:
        print("RESULT " + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
