"""The conformance kit on the toy workload: what it demands can be met."""

from pathlib import Path

import pytest

from algoperf.spec import Framework
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, SubmissionTests, WorkloadTests

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def data_dir():
    return None


def to_torch(model, params):
    layers = ("hidden", "output")
    weights = {f"{layer}.weight": params[f"{layer}/kernel"].T for layer in layers}
    return weights | {f"{layer}.bias": params[f"{layer}/bias"] for layer in layers}


class TestSpec(SpecTests):
    workload_name = "toy"
    # Its points are so well apart that 250 of them judge a trial, in milliseconds.
    min_mini_examples = 250


class TestJax(WorkloadTests):
    workload_name, framework = "toy", Framework.JAX
    golden_parameters = HERE / "golden" / "toy" / "parameters_jax.json"


class TestPyTorch(WorkloadTests):
    workload_name, framework = "toy", Framework.PYTORCH
    golden_parameters = HERE / "golden" / "toy" / "parameters_pytorch.json"


class TestData(DataTests):
    workload_name = "toy"


class TestParity(ParityTests):
    workload_name = "toy"
    to_torch = staticmethod(to_torch)


class TestJaxSubmissions(SubmissionTests):
    framework = Framework.JAX
    submissions = (str(HERE / "submissions" / "momentum_jax.py"),)


class TestPyTorchSubmissions(SubmissionTests):
    framework = Framework.PYTORCH
    submissions = (str(HERE / "submissions" / "momentum_pytorch.py"),)
