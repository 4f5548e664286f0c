"""The cross entropy of tokens that two workloads share: values, gradients, and types in which sums would fail."""

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require

NUM_SEQUENCES, NUM_TOKENS, VOCAB_SIZE = 3, 5, 7
SMOOTHING = 0.1

every_framework = pytest.mark.parametrize("framework", BOTH)


@pytest.fixture
def tokens():
    """Labels [B, T], logits [B, T, V] and a mask [B, T]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(VOCAB_SIZE, size=(NUM_SEQUENCES, NUM_TOKENS))
    logits = rng.normal(scale=3, size=(*labels.shape, VOCAB_SIZE)).astype(np.float32)
    return labels, logits, rng.integers(2, size=labels.shape).astype(np.float32)


def plain(labels, logits, label_smoothing):
    """By its definition, in float64: [B, T]."""
    logits = logits.astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = (1 - label_smoothing) * np.eye(VOCAB_SIZE)[labels] + label_smoothing / VOCAB_SIZE
    return -(expected * log_probabilities).sum(axis=-1)


def loss_of(framework, arrays, dtype="float32", **options):
    """What the framework's function returns, in numpy; `dtype` is of the logits."""
    require(framework)
    labels, logits, *mask = arrays
    if framework is Framework.JAX:
        import jax.numpy as jnp

        from algoperf.backends.jax_losses import token_cross_entropy

        returned = token_cross_entropy(jnp.asarray(labels), jnp.asarray(logits, dtype), *mask, **options)
        return {name: np.asarray(value) for name, value in returned.items()}
    import torch

    from algoperf.backends.pytorch_losses import token_cross_entropy

    arguments = [torch.tensor(labels), torch.tensor(logits).to(getattr(torch, dtype)), *map(torch.tensor, mask)]
    return {name: value.numpy() for name, value in token_cross_entropy(*arguments, **options).items()}


@every_framework
@pytest.mark.parametrize("label_smoothing", [0.0, SMOOTHING])
def test_values_are_those_of_the_definition(framework, tokens, label_smoothing):
    labels, logits, mask = tokens
    found = loss_of(framework, tokens, label_smoothing=label_smoothing)
    expected = plain(labels, logits, label_smoothing) * mask
    np.testing.assert_allclose(found["per_example"], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["summed"], expected.sum(), rtol=1e-6)
    assert found["n_valid_examples"] == mask.sum()
    assert loss_of(framework, tokens[:2])["n_valid_examples"] == labels.size


@every_framework
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_of_short_types_are_float32(framework, tokens, dtype):
    """Bfloat16 does not count beyond 256, and float16 ends at 65,504."""
    labels, logits, _ = tokens
    # Whole numbers below 256 are none the shorter in any of these types.
    logits = np.round(20 * logits)
    many = np.tile(labels, (1_000, 1)), np.tile(logits, (1_000, 1, 1))
    found = loss_of(framework, many, dtype)
    assert {str(value.dtype) for value in found.values()} == {"float32"}
    assert found["n_valid_examples"] == 1_000 * labels.size
    np.testing.assert_allclose(found["summed"], 1_000 * plain(labels, logits, 0.0).sum(), rtol=1e-5)


@every_framework
def test_large_logits_do_not_overflow(framework, tokens):
    labels, logits, _ = tokens
    found = loss_of(framework, (labels, logits + 1e4))
    np.testing.assert_allclose(found["per_example"], plain(labels, logits, 0.0), atol=5e-3)


@every_framework
@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_shapes_that_do_not_fit_are_named(framework, tokens, wrong):
    arrays = [array[1:] if number == wrong else array for number, array in enumerate(tokens)]
    with pytest.raises(ValueError, match=r"a mask \[B, T\] are needed; they have the shapes \((2|3), 5\), \("):
        loss_of(framework, arrays)


def test_gradients_in_jax_are_those_of_the_definition(tokens):
    require(Framework.JAX)
    import jax
    import optax

    from algoperf.backends.jax_losses import token_cross_entropy

    labels, logits, mask = tokens

    def definition(logits):
        smoothed = optax.smooth_labels(jax.nn.one_hot(labels, VOCAB_SIZE), SMOOTHING)
        return (optax.softmax_cross_entropy(logits, smoothed) * mask).sum()

    def ours(logits):
        return token_cross_entropy(labels, logits, mask, SMOOTHING)["summed"]

    for derivative in (jax.grad, jax.hessian):
        np.testing.assert_allclose(derivative(ours)(logits), derivative(definition)(logits), atol=1e-6)


@pytest.mark.parametrize("rows_at_once", [1, 4, 100])
def test_gradients_in_pytorch_are_right_in_blocks_and_twice(tokens, monkeypatch, rows_at_once):
    """SAM-like and second-order methods take gradients of gradients."""
    require(Framework.PYTORCH)
    import torch

    from algoperf.backends import pytorch_losses

    monkeypatch.setattr(pytorch_losses, "_BLOCK_SIZE", rows_at_once * VOCAB_SIZE)
    labels, logits, mask = map(torch.tensor, tokens)

    def losses(logits):
        return pytorch_losses.token_cross_entropy(labels, logits, mask, SMOOTHING)["per_example"]

    exact = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(losses, exact)
    assert torch.autograd.gradgradcheck(losses, exact)
