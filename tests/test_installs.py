"""An installation for one framework holds nothing of the other, and runs the demo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from algoperf.spec import Framework

ROOT = Path(__file__).parent.parent
NAMES = ("criteo", "fastmri", "imagenet", "librispeech", "lm", "ogbg", "wmt")
MODULES = {Framework.JAX: ("jax", "flax", "jraph"), Framework.PYTORCH: ("torch", "torch_geometric")}


def find_uv():
    for uv in ("uv", str(ROOT / ".tools/bin/uv")):
        try:
            subprocess.run([uv, "--version"], check=True, capture_output=True)
        except FileNotFoundError:
            continue
        return uv
    if os.environ.get("CI"):
        pytest.fail("uv is required in CI, where ./dev installs it.")
    pytest.skip("uv is not installed")


def install(folder, framework):
    uv, python = find_uv(), folder / "bin" / "python"
    wheels = [
        place for place in os.environ.get("PIP_FIND_LINKS", "").split() if [*Path(place).glob("torch-*+cpu-*.whl")]
    ]
    links = ["--find-links", wheels[0]] if wheels else []
    packages = [f"packages/workload-{name}[{framework.value},mini]" for name in NAMES]
    packages.append(f"packages/algoperf-baselines[{framework.value}]")
    make = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
    fill = [uv, "pip", "install", "--quiet", "--python", str(python), "-c", "constraints.txt", *links]
    fill += [f"packages/algoperf-core[{framework.value}]", *packages, "packages/algoperf-scoring", "tools/orchestrator"]
    for command in (make, fill):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return python


@pytest.mark.parametrize("framework", list(Framework), ids=lambda framework: framework.value)
@pytest.mark.timeout(1200)
def test_one_framework_alone_runs_the_demo(framework, data_dir, tmp_path):
    python = install(tmp_path / "venv", framework)
    (other,) = set(Framework) - {framework}
    unwanted = [*MODULES[other], "tensorflow"]
    program = f"from importlib.util import find_spec; print([m for m in {unwanted} if find_spec(m)])"
    found = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    command = [python.with_name("algoperf-orchestrate"), "demo", "--data-dir", data_dir, "--clock", "virtual"]
    command += ["--workloads", "criteo1tb"]
    environment = {name: value for name, value in os.environ.items() if name != "ALGOPERF_FRAMEWORKS"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("reached") >= 2
    assert other.value not in done.stdout


@pytest.mark.timeout(600)
def test_scoring_alone_needs_no_framework_and_no_other_package(tmp_path):
    uv, python = find_uv(), tmp_path / "venv" / "bin" / "python"
    make = [uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")]
    fill = [uv, "pip", "install", "--quiet", "--python", str(python), "-c", "constraints.txt"]
    for command in (make, [*fill, "packages/algoperf-scoring"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    trial = tmp_path / "logs" / "mine" / "study_0" / "ogbg_jax" / "trial_1"
    trial.mkdir(parents=True)
    columns = "global_step,score,validation/mean_average_precision"
    (trial / "eval_measurements.csv").write_text(f"{columns}\n1,10.0,0.01\n100,1000.5,0.29\n")
    program = (
        "import sys; from pathlib import Path\n"
        "from algoperf_scoring import board, document, logs, rules\n"
        "read = logs.read([Path('logs')], rules.published('v0.6'), 'external')\n"
        "data = document.as_data(document.Analysis(board=board.score(read)))\n"
        "print(data['submissions']['mine']['workloads']['ogbg']['time_to_target_s'])\n"
        "print(sorted({'algoperf', 'jax', 'torch', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "1000.5\n[]\n", done.stderr
