"""The conformance kit on the speech models and their variants, at mini scale on the synthetic sentences."""

from dataclasses import replace
from pathlib import Path

import pytest

from algoperf import registry
from algoperf.spec import Framework, Scale
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, WorkloadTests
from algoperf_librispeech.spec import SpecAugment
from algoperf_librispeech.weights import jax_to_torch

GOLDEN = Path(__file__).parent / "golden"


def quick(name):
    """Three batches per evaluation, the last one padded. Nothing is hidden: that is drawn in other ways in each framework."""
    model = registry.workload_spec(name).at(Scale.MINI).model
    shown = SpecAugment(num_time_masks=0, num_frequency_masks=0)
    return {"num_eval_train_examples": 80, "eval_batch_size": 32, "model": replace(model, spec_augment=shown)}


class TestSpecConformer(SpecTests):
    workload_name = "librispeech_conformer"


class TestSpecConformerAttentionTemperature(SpecTests):
    workload_name = "librispeech_conformer_attention_temperature"


class TestSpecConformerLayerNorm(SpecTests):
    workload_name = "librispeech_conformer_layernorm"


class TestSpecConformerGelu(SpecTests):
    workload_name = "librispeech_conformer_gelu"


class TestSpecDeepSpeech(SpecTests):
    workload_name = "librispeech_deepspeech"


class TestSpecDeepSpeechTanh(SpecTests):
    workload_name = "librispeech_deepspeech_tanh"


class TestSpecDeepSpeechNoResNet(SpecTests):
    workload_name = "librispeech_deepspeech_no_resnet"


class TestSpecDeepSpeechNormAndSpecAug(SpecTests):
    workload_name = "librispeech_deepspeech_norm_and_spec_aug"


class TestData(DataTests):
    workload_name = "librispeech_conformer"
    example_keys = ("inputs", "lengths", "targets", "weights")


class SpeechTests(WorkloadTests):
    """A loss counts tokens; the mask is about utterances."""

    @staticmethod
    def num_valid(labels, mask):
        _, paddings = labels
        return float((mask * (1 - paddings).sum(axis=1)).sum())


class TestConformerJax(SpeechTests):
    workload_name, framework = "librispeech_conformer", Framework.JAX
    spec_changes = quick(workload_name)
    golden_parameters = GOLDEN / "parameters_conformer_jax.json"


class TestConformerPyTorch(SpeechTests):
    workload_name, framework = "librispeech_conformer", Framework.PYTORCH
    spec_changes = quick(workload_name)
    golden_parameters = GOLDEN / "parameters_conformer_pytorch.json"


class TestDeepSpeechJax(SpeechTests):
    workload_name, framework = "librispeech_deepspeech", Framework.JAX
    spec_changes = quick(workload_name)
    golden_parameters = GOLDEN / "parameters_deepspeech_jax.json"


class TestDeepSpeechPyTorch(SpeechTests):
    workload_name, framework = "librispeech_deepspeech", Framework.PYTORCH
    spec_changes = quick(workload_name)
    golden_parameters = GOLDEN / "parameters_deepspeech_pytorch.json"


class TestParityConformer(ParityTests):
    workload_name = "librispeech_conformer"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)


class TestParityConformerAttentionTemperature(ParityTests):
    workload_name = "librispeech_conformer_attention_temperature"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)


class TestParityConformerLayerNorm(ParityTests):
    workload_name = "librispeech_conformer_layernorm"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)


class TestParityConformerGelu(ParityTests):
    workload_name = "librispeech_conformer_gelu"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)


class TestParityDeepSpeech(ParityTests):
    workload_name = "librispeech_deepspeech"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)


class TestParityDeepSpeechTanh(ParityTests):
    workload_name = "librispeech_deepspeech_tanh"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)


class TestParityDeepSpeechNoResNet(ParityTests):
    workload_name = "librispeech_deepspeech_no_resnet"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)


class TestParityDeepSpeechNormAndSpecAug(ParityTests):
    workload_name = "librispeech_deepspeech_norm_and_spec_aug"
    spec_changes = quick(workload_name)
    to_torch = staticmethod(jax_to_torch)
