"""The conformance kit on the speech models and their variants, at mini scale on the synthetic sentences."""

from dataclasses import replace
from pathlib import Path

from algoperf import registry
from algoperf.spec import Framework, Scale
from algoperf.testing.conformance import DataTests, ParityTests, SpecTests, WorkloadTests
from algoperf_librispeech.spec import SpecAugment
from algoperf_librispeech.weights import jax_gradients_to_torch, jax_to_torch

GOLDEN = Path(__file__).parent / "golden"


def quick(name):
    """Three batches per evaluation, the last one padded. Nothing is hidden: each framework draws that its way."""
    model = registry.workload_spec(name).at(Scale.MINI).model
    shown = SpecAugment(num_time_masks=0, num_frequency_masks=0)
    return {"num_eval_train_examples": 80, "eval_batch_size": 32, "model": replace(model, spec_augment=shown)}


class SpeechSpecTests(SpecTests):
    # The published metric only makes sense beside published results.
    mini_metric = "word_error_rate"


class TestSpecConformer(SpeechSpecTests):
    workload_name = "librispeech_conformer"


class TestSpecConformerAttentionTemperature(SpeechSpecTests):
    workload_name = "librispeech_conformer_attention_temperature"


class TestSpecConformerLayerNorm(SpeechSpecTests):
    workload_name = "librispeech_conformer_layernorm"


class TestSpecConformerGelu(SpeechSpecTests):
    workload_name = "librispeech_conformer_gelu"


class TestSpecDeepSpeech(SpeechSpecTests):
    workload_name = "librispeech_deepspeech"


class TestSpecDeepSpeechTanh(SpeechSpecTests):
    workload_name = "librispeech_deepspeech_tanh"


class TestSpecDeepSpeechNoResNet(SpeechSpecTests):
    workload_name = "librispeech_deepspeech_no_resnet"


class TestSpecDeepSpeechNormAndSpecAug(SpeechSpecTests):
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


class SpeechParityTests(ParityTests):
    # Kinks of ReLU, which both models have, turn rounding into other gradients. In float64 `test_parity_models.py`
    # compares them to ten digits.
    gradient_tolerance = 1e-3
    to_torch = staticmethod(jax_to_torch)
    gradients_to_torch = staticmethod(jax_gradients_to_torch)


class TestParityConformer(SpeechParityTests):
    workload_name = "librispeech_conformer"
    spec_changes = quick(workload_name)


class TestParityConformerAttentionTemperature(SpeechParityTests):
    workload_name = "librispeech_conformer_attention_temperature"
    spec_changes = quick(workload_name)


class TestParityConformerLayerNorm(SpeechParityTests):
    workload_name = "librispeech_conformer_layernorm"
    spec_changes = quick(workload_name)


class TestParityConformerGelu(SpeechParityTests):
    workload_name = "librispeech_conformer_gelu"
    spec_changes = quick(workload_name)


class TestParityDeepSpeech(SpeechParityTests):
    workload_name = "librispeech_deepspeech"
    spec_changes = quick(workload_name)


class TestParityDeepSpeechTanh(SpeechParityTests):
    workload_name = "librispeech_deepspeech_tanh"
    spec_changes = quick(workload_name)
    # No kinks.
    gradient_tolerance = 1e-4


class TestParityDeepSpeechNoResNet(SpeechParityTests):
    workload_name = "librispeech_deepspeech_no_resnet"
    spec_changes = quick(workload_name)
    # Nothing passes by the batch norms here, and each amplifies it.
    gradient_tolerance = 3e-3


class TestParityDeepSpeechNormAndSpecAug(SpeechParityTests):
    workload_name = "librispeech_deepspeech_norm_and_spec_aug"
    spec_changes = quick(workload_name)
