"""A suite on a Ray cluster of this machine, through the command: a trial that is killed goes on."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import suites

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

NUM_TRIALS = 4
SUBMISSION = Path(__file__).parents[3] / "packages/algoperf-core/tests/submissions/momentum_jax.py"
SLOW = """
_update = update_params

def update_params(**arguments):
    time.sleep(float(os.environ.get("PAUSE_S", "0")))
    return _update(**arguments)
"""
# With it a trial takes about 10 s, in 21 steps.
PAUSE_S = "0.3"


@pytest.fixture
def learner(tmp_path: Path) -> Path:
    """A submission that learns the toy workload, as slowly as the environment says."""
    require(Framework.JAX)
    folder = tmp_path / "learner"
    folder.mkdir()
    (folder / "submission.py").write_text(f"import os, time\n{SUBMISSION.read_text()}\n{SLOW}")
    return folder
