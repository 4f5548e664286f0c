"""What the goldens leave open, in JAX: dropout, labels and masks, errors, evaluation."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET
from algoperf_imagenet.vit.spec import IMAGENET_VIT, IMAGENET_VIT_GLU, IMAGENET_VIT_MAP, IMAGENET_VIT_POST_LN

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import linen as nn  # noqa: E402

from algoperf.backends.jax import JaxBackend  # noqa: E402
from algoperf_imagenet.resnet.jax_model import ResNetJax  # noqa: E402
from algoperf_imagenet.vit import jax_model as vit_model  # noqa: E402
from algoperf_imagenet.vit.jax_model import VisionTransformerJax  # noqa: E402

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
VITS = [IMAGENET_VIT, IMAGENET_VIT_GLU, IMAGENET_VIT_POST_LN, IMAGENET_VIT_MAP]
WIDTH, HIDDEN, TOKENS, BATCH, CLASSES = 16, 24, 49, 4, 10


def small_vit(spec: Any) -> VisionTransformerJax:
    """A variant with a single block."""
    mini = spec.at(Scale.MINI)
    model = replace(mini.model, patch_size=4, width=WIDTH, mlp_dim=HIDDEN, depth=1, num_heads=2)
    return VisionTransformerJax(replace(mini, model=model), JaxBackend())


def small_resnet() -> ResNetJax:
    mini = IMAGENET_RESNET.at(Scale.MINI)
    return ResNetJax(replace(mini, model=replace(mini.model, stage_sizes=(1,), width=8)), JaxBackend())


def variables(workload: Any) -> Any:
    """Parameters with noise, so that nothing is zero, and the model state."""
    params, model_state = workload.init_model_fn(jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, np.float32), params), model_state


@cache
def made(name: str) -> Any:
    """A workload, its parameters and its model state."""
    workload = small_resnet() if name == "resnet" else small_vit(IMAGENET_VIT)
    return (workload, *variables(workload))


@pytest.fixture(params=["resnet", "vit"])
def case(request: Any) -> Any:
    return made(request.param)


@pytest.fixture
def vit() -> Any:
    return made("vit")[:2]


def make_batch(padding: float = 0.0) -> dict[str, Any]:
    """Three images, and one of padding that is filled with `padding`."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, 28, 28, 3), np.float32)
    images[3:] = padding
    return {
        "inputs": jnp.asarray(images),
        "targets": jnp.array([1, 9, 4, 0], jnp.int32),
        "weights": jnp.array([1, 1, 1, 0], jnp.float32),
    }


@pytest.mark.parametrize("spec", VITS, ids=lambda spec: spec.name)
def test_places_of_dropout(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place by the layer whose output is dropped, or else the layer that is given what is left."""
    outputs, rates, places = {}, [], []

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        # What comes out of dropout is a seven: a layer that sees it is the next one.
        if args and isinstance(args[0], jax.Array) and (args[0] == 7).all():
            places.append(f"before {context.module.name}")
        output = call(*args, **kwargs)
        outputs[id(output)] = (context.module.name, output)
        return output

    def recorded(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
        name, _ = outputs.get(id(x), ("", None))
        rates.append(rate)
        if x.shape[-1] == HIDDEN:
            return jnp.full_like(x, 7)
        places.append(f"after {name}" if name else f"{x.shape}")
        return x

    workload = small_vit(spec)
    params, _ = variables(workload)
    monkeypatch.setattr(vit_model, "dropout", recorded)
    with nn.intercept_methods(intercept):
        workload.model_fn(params, make_batch(), None, TRAIN, jax.random.key(0), True, dropout_rate=0.3)
    last = "Dense_2" if spec is IMAGENET_VIT_GLU else "Dense_1"
    expected = [f"({BATCH}, {TOKENS}, {WIDTH})", "after MultiHeadDotProductAttention_1", f"before {last}"]
    expected += ["after MlpBlock_3", *(["before Dense_1"] if spec is IMAGENET_VIT_MAP else [])]
    assert places == expected
    assert set(rates) == {0.3}
    rates.clear()
    for mode, rate in ((EVAL, 0.3), (TRAIN, None), (TRAIN, 0.0), (TRAIN, 0)):
        workload.model_fn(params, make_batch(), None, mode, jax.random.key(0), False, dropout_rate=rate)
    assert rates == []


def test_dropout_rate_may_be_traced(vit: Any) -> None:
    (workload, params), batch, key = vit, make_batch(), jax.random.key(5)
    compilations = []

    @jax.jit
    def logits(rate: jax.Array) -> jax.Array:
        compilations.append(rate)
        return workload.model_fn(params, batch, None, TRAIN, key, True, dropout_rate=rate)[0]

    none, some = logits(0.0), logits(0.4)
    assert len(compilations) == 1
    fixed = jax.jit(lambda: workload.model_fn(params, batch, None, TRAIN, key, True, dropout_rate=0.4)[0])()
    evaluated = jax.jit(lambda: workload.model_fn(params, batch, None, EVAL, None, False)[0])()
    np.testing.assert_allclose(none, evaluated, rtol=0, atol=1e-5)
    np.testing.assert_allclose(some, fixed, rtol=0, atol=1e-5)
    assert abs(some - none).max() > 1e-2


def test_dropout_depends_on_the_key(vit: Any) -> None:
    workload, params = vit
    logits = jax.jit(lambda key: workload.model_fn(params, make_batch(), None, TRAIN, key, True, 0.4)[0])
    first, again, other = (logits(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-2


def test_a_resnet_ignores_dropout() -> None:
    workload, params, model_state = made("resnet")
    forward = jax.jit(lambda rate: workload.model_fn(params, make_batch(), model_state, TRAIN, None, False, rate)[0])
    np.testing.assert_array_equal(forward(0.0), forward(0.9))


def test_images_do_not_reach_each_other(case: Any) -> None:
    workload, params, model_state = case
    evaluate = jax.jit(lambda batch: workload.eval_step(params, model_state, batch, None))
    clean, noisy = evaluate(make_batch()), evaluate(make_batch(padding=100.0))
    assert clean.keys() == {"loss", "correct", "images"}
    for name, value in clean.items():
        assert value.shape == ()
        np.testing.assert_array_equal(noisy[name], value)


def test_eval_step_sums_over_real_images(case: Any) -> None:
    workload, params, model_state = case
    batch = make_batch()
    logits = jax.jit(lambda b: workload.model_fn(params, b, model_state, EVAL, None, False)[0])(batch)
    # The first two right, the third wrong, and the padding right, which must not count.
    best = logits.argmax(axis=1)
    batch["targets"] = best.at[2].set((best[2] + 1) % CLASSES)
    sums = jax.jit(lambda b: workload.eval_step(params, model_state, b, None))(batch)
    log_probabilities = jax.nn.log_softmax(logits)
    losses = [-log_probabilities[i, batch["targets"][i]] for i in range(3)]
    np.testing.assert_allclose(sums["loss"], sum(losses), rtol=1e-5)
    assert (sums["correct"], sums["images"]) == (2, 3)


LOGITS = jnp.array([[90.0, -90.0, 3.0, 0.0], [0.1, 0.2, 0.3, 0.4], [-1.0, 1.0, -2.0, 2.0]])
LABELS = jnp.array([1, 2, 3])


def test_labels_may_be_probabilities(vit: Any) -> None:
    loss_fn = vit[0].loss_fn
    one_hot = jnp.eye(4)[LABELS]
    for smoothing in (0.0, 0.2):
        hard, soft = (loss_fn(y, LOGITS, jnp.array([1, 0, 0.5]), smoothing) for y in (LABELS, one_hot))
        for name in hard:
            np.testing.assert_allclose(hard[name], soft[name], rtol=1e-6)
    smooth = loss_fn(0.8 * one_hot + 0.05, LOGITS)
    np.testing.assert_allclose(loss_fn(LABELS, LOGITS, None, 0.2)["summed"], smooth["summed"], rtol=1e-6)


def test_label_smoothing_may_be_traced(vit: Any) -> None:
    smoothed = jax.jit(lambda a: vit[0].loss_fn(LABELS, LOGITS, None, a)["per_example"])(0.3)
    np.testing.assert_allclose(smoothed, vit[0].loss_fn(LABELS, LOGITS, None, 0.3)["per_example"], rtol=1e-6)


def test_masks_multiply(vit: Any) -> None:
    loss_fn, mask = vit[0].loss_fn, jnp.array([0.5, 0, 1])
    whole, masked = loss_fn(LABELS, LOGITS), loss_fn(LABELS, LOGITS, mask)
    np.testing.assert_allclose(masked["per_example"], whole["per_example"] * mask, rtol=1e-6)
    np.testing.assert_allclose(masked["summed"], masked["per_example"].sum(), rtol=1e-6)
    assert (whole["n_valid_examples"], masked["n_valid_examples"]) == (3, 1.5)
    number = loss_fn(LABELS, LOGITS, jnp.array([1.0, 0, 1]), 0.1)
    boolean = loss_fn(LABELS, LOGITS, jnp.array([True, False, True]), 0.1, unheard_of=1)
    for name in number:
        np.testing.assert_array_equal(number[name], boolean[name])
        assert boolean[name].dtype == jnp.float32
        assert np.isfinite(boolean[name]).all()


def test_bad_input_is_refused(case: Any) -> None:
    workload, params, model_state = case
    for shape in [(28, 28, 3), (2, 28, 28, 1), (2, 3, 28, 28)]:
        batch = {"inputs": jnp.zeros(shape)}
        with pytest.raises(ValueError, match=r"needs inputs of the shape \[B, .*, 3\], not \("):
            workload.model_fn(params, batch, model_state, EVAL, None, False)
    labels, one_hot = LABELS, jnp.eye(4)[LABELS]
    for arrays in [(labels[:2], LOGITS), (one_hot[:, :3], LOGITS), (one_hot[0], LOGITS[0]), (labels[0], LOGITS)]:
        with pytest.raises(ValueError, match=r"Labels .* are needed"):
            workload.loss_fn(*arrays)
    for mask in (jnp.ones(2), jnp.ones((3, 1)), jnp.ones((3, 4))):
        with pytest.raises(ValueError, match=r"Labels .* are needed"):
            workload.loss_fn(labels, LOGITS, mask)


def test_images_of_another_size_are_refused_by_the_transformer_alone(vit: Any) -> None:
    batch = {"inputs": jnp.zeros((1, 32, 32, 3))}
    with pytest.raises(ValueError, match=r"\[B, 28, 28, 3\], not \(1, 32, 32, 3\)"):
        vit[0].model_fn(vit[1], batch, None, EVAL, None, False)
    workload, params, model_state = made("resnet")
    logits = jax.eval_shape(lambda b: workload.model_fn(params, b, model_state, EVAL, None, False)[0], batch)
    assert logits.shape == (1, CLASSES)


def test_a_model_state_of_another_model_is_refused(vit: Any) -> None:
    with pytest.raises(ValueError, match="model_state"):
        vit[0].model_fn(vit[1], make_batch(), {}, EVAL, None, False)
    workload, params, _ = made("resnet")
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, make_batch(), None, EVAL, None, False)


@pytest.mark.parametrize("spec", [IMAGENET_RESNET, *VITS], ids=lambda spec: spec.name)
def test_output_parameters_are_those_of_the_last_layer(spec: Any) -> None:
    make = ResNetJax if spec is IMAGENET_RESNET else VisionTransformerJax
    model = make(spec, JaxBackend())
    expected = "Dense_0" if spec is IMAGENET_RESNET else "head"
    assert [key for key in model.param_shapes if model.is_output_params(key)] == [expected]
