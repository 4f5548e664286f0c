"""The conformance kit on fastMRI and its variants, at mini scale."""

from pathlib import Path

from algoperf.spec import Framework
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, WorkloadTests
from algoperf_fastmri.weights import jax_to_torch

GOLDEN = Path(__file__).parent / "golden"
# Enough for three batches, the last of them padded.
QUICK = {"num_eval_train_examples": 20, "eval_batch_size": 8}
# Rounding moves values over the kink of leaky ReLU, where the slope changes by 0.8. The innermost maps have but 8x8
# pixels, so a single one moves a gradient by up to 5e-3: so far is either framework from its own float64. There
# `test_models.py` compares them to ten digits; and tanh, without kinks, is compared as usual.
KINKS = 1e-2


class TestSpec(SpecTests):
    workload_name = "fastmri"
    # An image's similarity is a mean over its pixels already.
    min_mini_examples = 64


class TestSpecModelSize(TestSpec):
    workload_name = "fastmri_model_size"


class TestSpecTanh(TestSpec):
    workload_name = "fastmri_tanh"


class TestSpecLayerNorm(TestSpec):
    workload_name = "fastmri_layernorm"


class TestData(DataTests):
    workload_name = "fastmri"
    example_keys = ("inputs", "targets", "mean", "std", "volume_max", "weights")


class TestJax(WorkloadTests):
    workload_name, framework = "fastmri", Framework.JAX
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_jax.json"


class TestPyTorch(WorkloadTests):
    workload_name, framework = "fastmri", Framework.PYTORCH
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_pytorch.json"


class TestParity(ParityTests):
    workload_name = "fastmri"
    spec_changes = QUICK
    gradient_tolerance = KINKS
    to_torch = staticmethod(jax_to_torch)


class TestParityModelSize(TestParity):
    workload_name = "fastmri_model_size"


class TestParityTanh(ParityTests):
    workload_name = "fastmri_tanh"
    spec_changes = QUICK
    to_torch = staticmethod(jax_to_torch)


class TestParityLayerNorm(TestParity):
    workload_name = "fastmri_layernorm"
