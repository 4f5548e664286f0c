import os
from pathlib import Path

import pytest

from algoperf import registry, study, submission
from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require
from algoperf.trial import Trial

SUBMISSIONS = Path(__file__).parent / "submissions"


@pytest.fixture
def make_trial(tmp_path):
    """Makes a trial of the toy workload; a submission is a path, or code that goes behind the momentum one's."""

    def make(
        framework,
        *,
        path=None,
        patch="",
        adapter=None,
        clock="virtual",
        folder=None,
        name=None,
        observer=None,
        **config,
    ):
        require(framework)
        path = path or SUBMISSIONS / f"momentum_{framework.value}.py"
        if patch:
            code = path.read_text()
            path = tmp_path / (name or f"patched_{framework.value}") / "submission.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{code}\n\n{patch}\n")
        spec = registry.workload_spec("toy").at(Scale.MINI)
        workload = registry.make_workload(spec, framework)
        settings = study.trial_config(
            spec,
            framework=framework,
            submission=str(path),
            ruleset=study.SELF_TUNING,
            hyperparameters=None,
            clock=clock,
            **config,
        )
        observers = {} if observer is None else {"observer": observer}
        return Trial(settings, workload, submission.load(path, adapter), folder or tmp_path / "trial", **observers)

    return make


@pytest.fixture(params=list(Framework), ids=lambda framework: framework.value)
def framework(request):
    require(request.param)
    return request.param


@pytest.fixture
def no_ddp(monkeypatch):
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return os.environ
