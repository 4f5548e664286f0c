"""Runs a trial of the toy workload in a process of its own: `run_toy.py FRAMEWORK SUBMISSION FOLDER MAX_STEPS`."""

import sys
import time
from pathlib import Path

from algoperf import registry, study, submission
from algoperf.spec import Framework, Scale
from algoperf.trial import Trial


def main() -> None:
    framework, path, folder = Framework(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    spec = registry.workload_spec("toy").at(Scale.MINI)
    config = study.trial_config(
        spec,
        framework=framework,
        submission=path.name,
        ruleset=study.SELF_TUNING,
        hyperparameters=None,
        clock="virtual",
        max_steps=int(sys.argv[4]),
    )

    def observe(event, facts):
        if event == "evaluated":
            print(facts["global_step"], flush=True)
            time.sleep(0.03)  # So that a kill may come at any moment between two evaluations.

    workload = registry.make_workload(spec, framework)
    trial = Trial(config, workload, submission.load(path), folder, observe)
    trial._judge = lambda state, metrics: None  # All steps, whatever the targets.
    print(trial.run().end_reason, flush=True)


if __name__ == "__main__":
    main()
