"""JAX and PyTorch are one function, in training and in evaluation, where they hide the same.

In float64, where rounding is no excuse, with narrow layers; and in float32 with layers of full width. There kinks of
ReLU, in the Conformer's subsampling too, turn rounding into other gradients.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from algoperf import registry
from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import require
from algoperf.weight_table import to_torch
from algoperf_librispeech.log_mel import FRAME_STEP
from algoperf_librispeech.spec import Conformer
from algoperf_librispeech.weights import jax_gradients_to_torch, jax_to_torch, statistics_table

for _framework in Framework:
    require(_framework)

import jax  # noqa: E402
import torch  # noqa: E402
from flax.traverse_util import flatten_dict, unflatten_dict  # noqa: E402

from algoperf.backends.jax import JaxBackend  # noqa: E402
from algoperf.backends.pytorch import TorchBackend  # noqa: E402
from algoperf_librispeech import jax_spec_augment, jax_workload, torch_spec_augment, torch_workload  # noqa: E402

EVAL, TRAIN = ForwardPassMode.EVAL, ForwardPassMode.TRAIN
NAMES = [
    "librispeech_conformer",
    "librispeech_conformer_attention_temperature",
    "librispeech_conformer_gelu",
    "librispeech_conformer_layernorm",
    "librispeech_deepspeech",
    "librispeech_deepspeech_no_resnet",
    "librispeech_deepspeech_norm_and_spec_aug",
    "librispeech_deepspeech_tanh",
]
# In evaluation variants differ by what they differ by in training.
CASES = [*((name, TRAIN) for name in NAMES), ("librispeech_conformer", EVAL), ("librispeech_deepspeech", EVAL)]

# Frames of the front end and tokens. The third is padding, the fourth has too few frames for its tokens.
LENGTHS, NUM_TOKENS, NUM_FRAMES, VOCAB = [97, 60, 0, 9, 41], [6, 3, 0, 6, 1], 98, 30


class Step(NamedTuple):
    """What a forward pass and its gradients are, by PyTorch's names."""

    logits: np.ndarray
    paddings: np.ndarray
    loss: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


def make_spec(name: str, **sizes: int) -> Any:
    """One layer of each kind."""
    spec = registry.workload_spec(name)
    is_conformer = isinstance(spec.model, Conformer)
    layers = {"num_blocks": 1} if is_conformer else {"num_lstm_layers": 1, "num_mlp_layers": 1}
    if not is_conformer:
        sizes.pop("mlp_dim", None)
        sizes.pop("num_heads", None)
    return replace(spec, model=replace(spec.model, vocab_size=VOCAB, **layers, **sizes))


def make_batch(dtype: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    size = NUM_FRAMES * FRAME_STEP + 300
    paddings = (np.arange(size) >= np.array(LENGTHS)[:, None] * FRAME_STEP).astype(dtype)
    audio = (1000 * rng.standard_normal(paddings.shape)).astype(dtype)
    id_paddings = (np.arange(8) >= np.array(NUM_TOKENS)[:, None]).astype(dtype)
    ids = rng.integers(1, VOCAB, id_paddings.shape).astype(np.int32)
    ids[0, 1] = ids[0, 2]
    return {"inputs": (audio, paddings), "targets": (ids, id_paddings)}


def make_params(spec: Any, dtype: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """JAX's initial parameters with noise, and other running statistics than those of a fresh model; by path."""
    rng = np.random.default_rng(1)
    params, state = jax_of(spec).init_model_fn(jax.random.key(0))
    arrays = {path: np.asarray(leaf, dtype) for path, leaf in flatten_dict(params, sep="/").items()}
    arrays = {path: array + (0.05 * rng.standard_normal(array.shape)).astype(dtype) for path, array in arrays.items()}
    statistics = {} if state is None else flatten_dict(state, sep="/")
    return arrays, {path: rng.uniform(0.5, 1.5, leaf.shape).astype(dtype) for path, leaf in statistics.items()}


def jax_of(spec: Any) -> Any:
    kind = jax_workload.ConformerJax if isinstance(spec.model, Conformer) else jax_workload.DeepSpeechJax
    return kind(spec, JaxBackend())


def step_in_jax(spec: Any, params: Any, statistics: Any, batch: Any, mode: ForwardPassMode) -> Step:
    workload = jax_of(spec)

    def mean_loss(params: Any, state: Any, batch: Any) -> Any:
        output, state = workload.model_fn(
            unflatten_dict(params, sep="/"), batch, state, mode, jax.random.key(0), mode is TRAIN, dropout_rate=0.0
        )
        loss = workload.loss_fn(batch["targets"], output)
        return loss["summed"] / loss["n_valid_examples"], (output, loss, state)

    state = unflatten_dict(statistics, sep="/") or None
    function = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (_, ((logits, paddings), loss, state)), gradients = jax.device_get(function(params, state, batch))
    moved = flatten_dict(state or {}, sep="/")
    in_torch = jax_gradients_to_torch(spec.model, gradients)
    return Step(logits, paddings, loss, in_torch, to_torch(statistics_table(spec.model), moved))


def step_in_torch(spec: Any, params: Any, statistics: Any, batch: Any, mode: ForwardPassMode) -> Step:
    kind = torch_workload.ConformerTorch if isinstance(spec.model, Conformer) else torch_workload.DeepSpeechTorch
    workload = kind(spec, TorchBackend())
    place = workload.backend.place_batch
    arrays = jax_to_torch(spec.model, params) | to_torch(statistics_table(spec.model), statistics)
    model = workload.build_model().to(workload.backend.device, torch.from_numpy(batch["inputs"][0]).dtype)
    model.load_state_dict(place(arrays))
    output, _ = workload.model_fn(model, place(batch), None, mode, None, mode is TRAIN, dropout_rate=0.0)
    loss = workload.loss_fn(place(batch["targets"]), output)
    (loss["summed"] / loss["n_valid_examples"]).backward()
    gradients = {name: parameter.grad.cpu().numpy() for name, parameter in model.named_parameters()}
    moved = {name: buffer.cpu().numpy() for name, buffer in model.named_buffers() if "running" in name}
    (logits, paddings), loss = workload.backend.to_host((output, loss))
    return Step(logits, paddings, loss, gradients, moved)


@pytest.fixture
def same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hide where the same random numbers say."""
    rng, calls = np.random.default_rng(2), {}

    def uniforms(spec: Any, kind: Any, convert: Any) -> Any:
        numbers = (spec.num_time_masks, spec.num_time_masks, spec.num_frequency_masks, spec.num_frequency_masks)
        if not calls:
            calls["drawn"] = [rng.random((len(LENGTHS), number), np.float32) for number in numbers]
        return kind(*map(convert, calls["drawn"]))

    monkeypatch.setattr(
        jax_spec_augment, "draw", lambda key, size, spec: uniforms(spec, jax_spec_augment.Uniforms, jax.numpy.asarray)
    )
    monkeypatch.setattr(
        torch_spec_augment,
        "draw",
        lambda spec, size, device: uniforms(
            spec, torch_spec_augment.Uniforms, lambda array: torch.from_numpy(array).to(device)
        ),
    )


def assert_same_step(found: Step, expected: Step, tolerance: float, gradient_tolerance: float) -> None:
    np.testing.assert_array_equal(found.paddings, expected.paddings)
    assert abs(found.logits - expected.logits).max() < tolerance * abs(expected.logits).max()
    assert (found.logits[found.paddings > 0] == 0).all()
    np.testing.assert_allclose(found.loss["per_example"], expected.loss["per_example"], rtol=tolerance, atol=0)
    assert [loss > 0 for loss in found.loss["per_example"]] == [True, True, False, False, True]
    assert found.loss["n_valid_examples"] == expected.loss["n_valid_examples"] == 10
    np.testing.assert_allclose(found.loss["summed"], expected.loss["summed"], rtol=tolerance)
    assert found.gradients.keys() == expected.gradients.keys()
    total = np.sqrt(sum(np.square(array).sum() for array in expected.gradients.values()))
    for name, gradient in expected.gradients.items():
        # Some are zero but for rounding, as those of attention's key biases.
        bound = gradient_tolerance * max(np.linalg.norm(gradient), 1e-3 * total)
        assert np.linalg.norm(found.gradients[name] - gradient) < bound, name
    assert found.statistics.keys() == expected.statistics.keys()
    for name, array in expected.statistics.items():
        np.testing.assert_allclose(found.statistics[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_narrow_layers_in_float64(name: str, mode: ForwardPassMode, same_masks: None) -> None:
    spec, batch = make_spec(name, width=24, subsampling_channels=10, mlp_dim=40, num_heads=3), make_batch(np.float64)
    params, statistics = make_params(spec, np.float64)
    with jax.enable_x64(True):
        expected = step_in_jax(spec, params, statistics, batch, mode)
    assert expected.logits.dtype == np.float64
    assert_same_step(step_in_torch(spec, params, statistics, batch, mode), expected, 1e-10, 1e-10)


@pytest.mark.parametrize(
    ("name", "mode", "gradient_tolerance"),
    [
        ("librispeech_conformer", TRAIN, 3e-3),
        ("librispeech_deepspeech_tanh", TRAIN, 1e-4),
        ("librispeech_deepspeech_tanh", EVAL, 1e-4),
    ],
)
def test_wide_layers_in_float32(name: str, mode: ForwardPassMode, gradient_tolerance: float, same_masks: None) -> None:
    spec, batch = make_spec(name), make_batch(np.float32)
    params, statistics = make_params(spec, np.float32)
    steps = [step(spec, params, statistics, batch, mode) for step in (step_in_jax, step_in_torch)]
    assert_same_step(steps[1], steps[0], 1e-4, gradient_tolerance)
