"""The conformance kit on the ImageNet workloads and their variants, at mini scale on real digits."""

from pathlib import Path

import pytest

from algoperf import registry
from algoperf.spec import Framework
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, WorkloadTests
from algoperf_imagenet.resnet import weights as resnet_weights
from algoperf_imagenet.vit import weights as vit_weights

GOLDEN = Path(__file__).parent / "golden"
# Enough for three batches, the last of them padded.
QUICK = {"num_eval_train_examples": 300, "eval_batch_size": 128}


class TestSpecResNet(SpecTests):
    workload_name = "imagenet_resnet"


class TestSpecResNetSilu(SpecTests):
    workload_name = "imagenet_resnet_silu"


class TestSpecResNetGelu(SpecTests):
    workload_name = "imagenet_resnet_gelu"


class TestSpecResNetLargeBnInit(SpecTests):
    workload_name = "imagenet_resnet_large_bn_init"


class TestSpecViT(SpecTests):
    workload_name = "imagenet_vit"


class TestSpecViTGlu(SpecTests):
    workload_name = "imagenet_vit_glu"


class TestSpecViTPostLn(SpecTests):
    workload_name = "imagenet_vit_post_ln"


class TestSpecViTMap(SpecTests):
    workload_name = "imagenet_vit_map"


class TestDataResNet(DataTests):
    workload_name = "imagenet_resnet"


class TestDataViT(DataTests):
    workload_name = "imagenet_vit"


class TestResNetJax(WorkloadTests):
    workload_name, framework = "imagenet_resnet", Framework.JAX
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_resnet_jax.json"


class TestResNetPyTorch(WorkloadTests):
    workload_name, framework = "imagenet_resnet", Framework.PYTORCH
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_resnet_pytorch.json"


class TestViTJax(WorkloadTests):
    workload_name, framework = "imagenet_vit", Framework.JAX
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_vit_jax.json"


class TestViTPyTorch(WorkloadTests):
    workload_name, framework = "imagenet_vit", Framework.PYTORCH
    spec_changes = QUICK
    golden_parameters = GOLDEN / "parameters_vit_pytorch.json"


class TestParityResNetSilu(ParityTests):
    workload_name = "imagenet_resnet_silu"
    spec_changes = QUICK
    to_torch = staticmethod(resnet_weights.jax_to_torch)


class TestParityResNet(TestParityResNetSilu):
    workload_name = "imagenet_resnet"


class TestParityResNetGelu(TestParityResNetSilu):
    workload_name = "imagenet_resnet_gelu"


class TestParityViT(ParityTests):
    workload_name = "imagenet_vit"
    spec_changes = QUICK
    to_torch = staticmethod(vit_weights.jax_to_torch)


class TestParityViTGlu(TestParityViT):
    workload_name = "imagenet_vit_glu"


class TestParityViTPostLn(TestParityViT):
    workload_name = "imagenet_vit_post_ln"


class TestParityViTMap(TestParityViT):
    workload_name = "imagenet_vit_map"


def test_an_image_that_is_no_multiple_of_its_patches_is_refused():
    spec = registry.workload_spec("imagenet_vit")
    with pytest.raises(ValueError, match="224 pixels cannot be divided into patches of 15; choose"):
        type(spec.model)(patch_size=15)
