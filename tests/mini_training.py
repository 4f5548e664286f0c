"""What a user does first: train a mini workload to its target, from the command line.

Tests are in a file per framework, so that both frameworks train at the same time.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from algoperf import registry
from algoperf.records import read_experiment
from algoperf.spec import Framework, Scale, Split
from algoperf.testing.frameworks import require

WORKLOADS = [
    "criteo1tb",
    "fastmri",
    "finewebedu_lm",
    "imagenet_resnet",
    "imagenet_vit",
    "librispeech_conformer",
    "librispeech_deepspeech",
    "ogbg",
    "wmt",
]
# These take the longest; each is trained in the other framework, and that both compute the same are other tests.
SLOW = {
    ("finewebedu_lm", Framework.JAX),
    ("librispeech_conformer", Framework.PYTORCH),
    ("librispeech_deepspeech", Framework.PYTORCH),
    ("wmt", Framework.JAX),
}


def workloads(framework):
    """What to train in a framework."""
    return [pytest.param(name, marks=[pytest.mark.slow] if (name, framework) in SLOW else []) for name in WORKLOADS]


def check_that_nadamw_reaches_the_target(workload, framework, data_dir, tmp_path):
    require(framework)
    command = [str(Path(sys.executable).with_name("algoperf-orchestrate")), "run", "--workload", workload]
    command += ["--framework", framework.value, "--scale", "mini", "--submission", "nadamw"]
    command += ["--experiment", str(tmp_path), "--data-dir", str(data_dir), "--clock", "virtual"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = read_experiment(tmp_path)
    assert trial.end_reason == "reached"
    target = registry.workload_spec(workload).at(Scale.MINI).target
    for split in (Split.VALIDATION, Split.TEST):
        assert any(target.reached(split, row) for row in trial.evaluations)
    assert trial.metadata[0]["process_settings"] == f"v1.0-{framework.value}-cpu"
    assert json.loads((trial.folder / "trial.json").read_text())["state"] == "finished"
