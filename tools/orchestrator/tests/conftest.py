import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from algoperf_orchestrator.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALGOPERF_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("ALGOPERF_FRAMEWORKS", raising=False)
    # Without nvidia-smi there are no CUDA devices to find: a test is the same on every machine.
    monkeypatch.setattr("shutil.which", lambda name, *args: None)


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that `nvidia-smi` finds three GPUs."""
    lines = "".join(f"GPU {k}: NVIDIA A100 (UUID: GPU-{k})\n  MIG 1g.5gb (UUID: MIG-{k})\n" for k in range(3))

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, stdout=lines)

    monkeypatch.setattr("shutil.which", lambda name, *args: name)
    monkeypatch.setattr("algoperf_orchestrator.environment.subprocess.run", run)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs the command line in this process; what it starts are processes of their own."""

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(int(left.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def sgd(tmp_path: Path) -> Path:
    """A submission in both frameworks, as a file to be changed by tests; see `SGD`."""
    folder = tmp_path / "my_submission"
    folder.mkdir()
    path = folder / "submission.py"
    path.write_text(SGD)
    return path


SGD = """
import os, time
print("a submission may print")

def get_batch_size(workload_name):
    return 32

def data_selection(workload, input_queue, optimizer_state, current_param_container, model_state,
                   hyperparameters, global_step, rng):
    return next(input_queue)

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    return ({"step": 0}, None)

def update_params(workload, current_param_container, current_params_types, model_state, hyperparameters,
                  batch, loss_type, optimizer_state, eval_results, global_step, rng):
    os.write(1, b"and so may C\\n")
    time.sleep(hyperparameters.sleep_s)
    if global_step == hyperparameters.fail_at:
        raise RuntimeError("I fail on purpose")
    if global_step == hyperparameters.die_at:
        os._exit(7)
    return optimizer_state, current_param_container, model_state
"""
