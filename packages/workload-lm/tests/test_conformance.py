"""The conformance kit on the language model and its variants, at mini scale on the Bible."""

from pathlib import Path

from algoperf.spec import Framework
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, WorkloadTests
from algoperf_lm.weights import jax_to_torch

GOLDEN = Path(__file__).parent / "golden"
# Enough for three batches, the last of them padded.
QUICK = {"num_eval_train_examples": 80, "eval_batch_size": 32}


class TestSpec(SpecTests):
    workload_name = "finewebedu_lm"


class TestSpecPostNorm(SpecTests):
    workload_name = "finewebedu_lm_post_norm"


class TestSpecSilu(SpecTests):
    workload_name = "finewebedu_lm_silu"


class TestSpecFixedTemperature(SpecTests):
    workload_name = "finewebedu_lm_fixed_temperature"


class TestData(DataTests):
    workload_name = "finewebedu_lm"


class TestJax(WorkloadTests):
    workload_name, framework = "finewebedu_lm", Framework.JAX
    spec_changes = QUICK


class TestPyTorch(WorkloadTests):
    workload_name, framework = "finewebedu_lm", Framework.PYTORCH
    spec_changes = QUICK


class TestParity(ParityTests):
    workload_name = "finewebedu_lm"
    spec_changes = QUICK
    to_torch = staticmethod(jax_to_torch)


class TestParityPostNorm(TestParity):
    workload_name = "finewebedu_lm_post_norm"


class TestParitySilu(TestParity):
    workload_name = "finewebedu_lm_silu"


class TestParityFixedTemperature(TestParity):
    workload_name = "finewebedu_lm_fixed_temperature"
