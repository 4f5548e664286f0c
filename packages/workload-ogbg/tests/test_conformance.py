"""The conformance kit on OGBG and its variants, at mini scale on real molecules."""

from pathlib import Path

from algoperf.spec import Framework
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, WorkloadTests
from algoperf_ogbg.weights import jax_to_torch

GOLDEN = Path(__file__).parent / "golden"
# Enough for three batches, the last of them padded.
QUICK = {"num_eval_train_examples": 600, "eval_batch_size": 256}


class TestSpec(SpecTests):
    workload_name = "ogbg"


class TestSpecGelu(SpecTests):
    workload_name = "ogbg_gelu"


class TestSpecSilu(SpecTests):
    workload_name = "ogbg_silu"


class TestSpecModelSize(SpecTests):
    workload_name = "ogbg_model_size"


class TestData(DataTests):
    workload_name = "ogbg"
    # Edges say in which rows of the batch they begin and end, so inputs depend on where a device's part lies.
    example_keys = ("targets", "weights")


class TestJax(WorkloadTests):
    workload_name, framework = "ogbg", Framework.JAX
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_jax.json"


class TestPyTorch(WorkloadTests):
    workload_name, framework = "ogbg", Framework.PYTORCH
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_pytorch.json"


class TestParity(ParityTests):
    workload_name = "ogbg"
    spec_changes = QUICK
    to_torch = staticmethod(jax_to_torch)


class TestParityGelu(TestParity):
    workload_name = "ogbg_gelu"


class TestParitySilu(TestParity):
    workload_name = "ogbg_silu"


class TestParityModelSize(TestParity):
    workload_name = "ogbg_model_size"
