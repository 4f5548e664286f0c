"""The conformance kit on Criteo 1TB and its variants, at mini scale."""

from pathlib import Path

from algoperf.spec import Framework
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, WorkloadTests
from algoperf_criteo.weights import jax_to_torch

GOLDEN = Path(__file__).parent / "golden"
# Enough for three batches, the last of them padded.
QUICK = {"num_eval_train_examples": 1_200, "eval_batch_size": 512}


class TestSpec(SpecTests):
    workload_name = "criteo1tb"


class TestSpecLayerNorm(SpecTests):
    workload_name = "criteo1tb_layernorm"


class TestSpecEmbedInit(SpecTests):
    workload_name = "criteo1tb_embed_init"


class TestSpecResNet(SpecTests):
    workload_name = "criteo1tb_resnet"


class TestSpecTest(SpecTests):
    workload_name = "criteo1tb_test"


class TestData(DataTests):
    workload_name = "criteo1tb"


class TestJax(WorkloadTests):
    workload_name, framework = "criteo1tb", Framework.JAX
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_jax.json"


class TestPyTorch(WorkloadTests):
    workload_name, framework = "criteo1tb", Framework.PYTORCH
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_pytorch.json"


class TestParity(ParityTests):
    workload_name = "criteo1tb"
    spec_changes = QUICK
    to_torch = staticmethod(jax_to_torch)


class TestParityLayerNorm(TestParity):
    workload_name = "criteo1tb_layernorm"


class TestParityEmbedInit(TestParity):
    workload_name = "criteo1tb_embed_init"


class TestParityResNet(TestParity):
    workload_name = "criteo1tb_resnet"
