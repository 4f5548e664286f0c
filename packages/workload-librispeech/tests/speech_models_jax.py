"""Small models in JAX, with noise on their parameters, and batches for them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from algoperf.backends.jax import JaxBackend
from algoperf.spec import ForwardPassMode
from algoperf_librispeech.jax_audio import finish
from algoperf_librispeech.jax_workload import ConformerJax, DeepSpeechJax, JaxSpeech
from algoperf_librispeech.log_mel import FRAME_SIZE, FRAME_STEP
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

CONFORMERS = (CONFORMER, CONFORMER_ATTENTION_TEMPERATURE, CONFORMER_LAYERNORM, CONFORMER_GELU)
DEEPSPEECHES = (DEEPSPEECH, DEEPSPEECH_TANH, DEEPSPEECH_NO_RESNET, DEEPSPEECH_NORM_AND_SPEC_AUG)
SPECS = {spec.name: spec for spec in (*CONFORMERS, *DEEPSPEECHES)}
WIDTH, HIDDEN, VOCAB = 16, 24, 11
SHOWN = SpecAugment(num_time_masks=0, num_frequency_masks=0)
TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL


class Case(NamedTuple):
    """A workload, its parameters, and its running statistics."""

    workload: JaxSpeech
    params: Any
    state: Any


def make_workload(spec: Any) -> JaxSpeech:
    """The workload of a spec."""
    kind = ConformerJax if isinstance(spec.model, Conformer) else DeepSpeechJax
    return kind(spec, JaxBackend())


def small_spec(name: str, **changes: Any) -> Any:
    """A variant of few and narrow layers, which hides nothing."""
    sizes = {"vocab_size": VOCAB, "width": WIDTH, "subsampling_channels": 6, "spec_augment": SHOWN}
    spec = SPECS[name]
    if isinstance(spec.model, Conformer):
        sizes |= {"num_blocks": 1, "num_heads": 2, "mlp_dim": HIDDEN}
    else:
        sizes |= {"num_lstm_layers": 1, "num_mlp_layers": 1}
    return replace(spec, model=replace(spec.model, **{**sizes, **changes}))


def make(name: str, **changes: Any) -> Case:
    """A small workload, with noise for parameters, so that nothing is zero."""
    workload = make_workload(small_spec(name, **changes))
    # Initialising takes longer to compile than a step.
    shapes, state = jax.eval_shape(workload.init_variables, jax.random.key(0))
    rng = np.random.default_rng(0)

    def noise(leaf: Any) -> np.ndarray:
        scale = 0.2 if leaf.ndim == 1 else math.prod(leaf.shape[:-1]) ** -0.5
        return np.float32(scale) * rng.standard_normal(leaf.shape, np.float32)

    fresh = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, path[-1].key == "var", leaf.dtype), state
    )
    return Case(workload, *jax.device_put((jax.tree.map(noise, shapes), fresh)))


def make_batch(num_frames: int, lengths: Sequence[int], num_tokens: Sequence[int] | None = None) -> dict[str, Any]:
    """Rows of noise as submissions get them, with so many real frames of the front end and so many tokens."""
    rng = np.random.default_rng(0)
    # A frame more begins with every step of samples.
    size = (num_frames - 1) * FRAME_STEP + FRAME_SIZE
    samples = np.array(lengths, np.int32) * FRAME_STEP
    audio = rng.integers(-8000, 8000, (len(samples), size)).astype(np.int16)
    tokens = np.array([2] * len(samples) if num_tokens is None else num_tokens)[:, None]
    ids = rng.integers(END + 1, VOCAB, (len(samples), 5))
    places = np.arange(ids.shape[1])
    ids = np.where(places < tokens - 1, ids, np.where(places == tokens - 1, END, BLANK)).astype(np.int32)
    weights = (tokens[:, 0] > 0).astype(np.float32)
    batch = {"inputs": audio, "lengths": samples, "targets": ids, "weights": weights}
    return jax.device_get(finish(batch))


def _forward(workload: JaxSpeech, mode: Any, update: bool, running: Any, *arrays: Any) -> Any:
    params, state, batch, key, rate = arrays
    return workload.model_fn(params, batch, state, mode, key, update, dropout_rate=rate, use_running_average_bn=running)


_compiled_forward = jax.jit(_forward, static_argnums=(0, 1, 2, 3))


def forward(
    case: Case,
    batch: Any,
    mode: ForwardPassMode = EVAL,
    rate: float | None = 0.0,
    *,
    seed: int = 0,
    update: bool = False,
    running: bool | None = None,
) -> Any:
    """Logits with their paddings, and the new model state. The rate is traced."""
    workload, params, state = case
    return _compiled_forward(workload, mode, update, running, params, state, batch, jax.random.key(seed), rate)


def _mean_loss(params: Any, workload: JaxSpeech, mode: ForwardPassMode, state: Any, batch: Any) -> Any:
    output, state = workload.model_fn(params, batch, state, mode, jax.random.key(0), mode is TRAIN, dropout_rate=0.0)
    loss = workload.loss_fn(batch["targets"], output, batch["weights"])
    return loss["summed"] / loss["n_valid_examples"], (output, state)


_compiled_gradients = jax.jit(jax.value_and_grad(_mean_loss, has_aux=True), static_argnums=(1, 2))


def loss_and_gradients(case: Case, batch: Any, mode: ForwardPassMode) -> Any:
    """The mean loss of a token, with logits, their paddings and the new model state; and the gradients."""
    return jax.device_get(_compiled_gradients(case.params, case.workload, mode, case.state, batch))
