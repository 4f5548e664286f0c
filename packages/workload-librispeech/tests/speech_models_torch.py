"""Small models in PyTorch, with noise on their parameters, and batches for them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from algoperf.backends.pytorch import TorchBackend
from algoperf.spec import ForwardPassMode
from algoperf_librispeech.log_mel import FRAME_STEP
from algoperf_librispeech.spec import (
    BLANK,
    CONFORMER,
    CONFORMER_ATTENTION_TEMPERATURE,
    CONFORMER_GELU,
    CONFORMER_LAYERNORM,
    DEEPSPEECH,
    DEEPSPEECH_NO_RESNET,
    DEEPSPEECH_NORM_AND_SPEC_AUG,
    DEEPSPEECH_TANH,
    END,
    Conformer,
    SpecAugment,
)
from algoperf_librispeech.torch_audio import finish
from algoperf_librispeech.torch_workload import ConformerTorch, DeepSpeechTorch, SpeechTorch

CONFORMERS = (CONFORMER, CONFORMER_ATTENTION_TEMPERATURE, CONFORMER_LAYERNORM, CONFORMER_GELU)
DEEPSPEECHES = (DEEPSPEECH, DEEPSPEECH_TANH, DEEPSPEECH_NO_RESNET, DEEPSPEECH_NORM_AND_SPEC_AUG)
SPECS = {spec.name: spec for spec in (*CONFORMERS, *DEEPSPEECHES)}
WIDTH, HIDDEN, VOCAB = 16, 24, 11
SHOWN = SpecAugment(num_time_masks=0, num_frequency_masks=0)
TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL


def make_workload(spec: Any) -> SpeechTorch:
    """The workload of a spec."""
    kind = ConformerTorch if isinstance(spec.model, Conformer) else DeepSpeechTorch
    return kind(spec, TorchBackend())


def small_spec(name: str, **changes: Any) -> Any:
    """A variant of few and narrow layers, which hides nothing."""
    sizes = {"vocab_size": VOCAB, "width": WIDTH, "subsampling_channels": 6, "spec_augment": SHOWN}
    spec = SPECS[name]
    if isinstance(spec.model, Conformer):
        sizes |= {"num_blocks": 1, "num_heads": 2, "mlp_dim": HIDDEN}
    else:
        sizes |= {"num_lstm_layers": 2, "num_mlp_layers": 1}
    return replace(spec, model=replace(spec.model, **{**sizes, **changes}))


def make(name: str, **changes: Any) -> tuple[SpeechTorch, Any]:
    """A small workload, and its model with noise, so that nothing is zero."""
    workload = make_workload(small_spec(name, **changes))
    model, _ = workload.init_model_fn(np.zeros(2, np.uint32))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return workload, model


def make_batch(num_frames: int, lengths: Sequence[int], num_tokens: Sequence[int] | None = None) -> dict[str, Any]:
    """Rows of noise as submissions get them, with so many real frames of the front end and so many tokens."""
    rng = np.random.default_rng(0)
    # A frame more begins with every step of samples.
    size = (num_frames - 1) * FRAME_STEP + 401
    samples = np.array(lengths, np.int32) * FRAME_STEP
    audio = rng.integers(-8000, 8000, (len(samples), size)).astype(np.int16)
    tokens = np.array([2] * len(samples) if num_tokens is None else num_tokens)[:, None]
    ids = rng.integers(END + 1, VOCAB, (len(samples), 5))
    places = np.arange(ids.shape[1])
    ids = np.where(places < tokens - 1, ids, np.where(places == tokens - 1, END, BLANK)).astype(np.int32)
    weights = (tokens[:, 0] > 0).astype(np.float32)
    batch = {"inputs": audio, "lengths": samples, "targets": ids, "weights": weights}
    placed: dict[str, Any] = finish(TorchBackend().place_batch(batch))
    return placed


def logits_of(case: Any, batch: Any, mode: ForwardPassMode = EVAL, rate: float | None = 0.0, **options: Any) -> Any:
    """Logits and their paddings, with gradients."""
    workload, model = case
    update = options.pop("update", False)
    return workload.model_fn(model, batch, None, mode, None, update, dropout_rate=rate, **options)[0]


def loss_and_gradients(case: Any, batch: Any, mode: ForwardPassMode) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The mean loss of a token, and the gradients of all parameters."""
    workload, model = case
    model.zero_grad()
    loss = workload.loss_fn(batch["targets"], logits_of(case, batch, mode, update=mode is TRAIN), batch["weights"])
    mean = loss["summed"] / loss["n_valid_examples"]
    mean.backward()
    return mean.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Some are zero but for rounding, as those of a bias before a batch norm."""
    assert found.keys() == expected.keys()
    total = sum(gradient.square().sum() for gradient in expected.values()) ** 0.5
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() < 1e-4 * max(gradient.norm(), 1e-3 * total), name


def statistics_of(model: Any) -> dict[str, torch.Tensor]:
    """Copies of all running statistics."""
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}
