"""What the goldens leave open, in JAX: dropout, packing, padding, masks, errors, evaluation."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_wmt.spec import WMT, WMT_ATTENTION_TEMP, WMT_GLU_TANH, WMT_POST_LN, BeamSearch

require(Framework.JAX)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import linen as nn  # noqa: E402

from algoperf.backends.jax import JaxBackend  # noqa: E402
from algoperf_wmt import jax_model  # noqa: E402
from algoperf_wmt.jax_attention import Tokens  # noqa: E402
from algoperf_wmt.jax_beam_search import beam_search  # noqa: E402
from algoperf_wmt.jax_workload import WmtJax  # noqa: E402

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
SPECS = {spec.name: spec for spec in (WMT, WMT_POST_LN, WMT_ATTENTION_TEMP, WMT_GLU_TANH)}
WIDTH, HIDDEN, VOCAB, LENGTH = 16, 24, 40, 10


def small(spec: Any, sentences_at_once: int = 4) -> WmtJax:
    """A variant with one layer on each side."""
    mini = spec.at(Scale.MINI)
    sizes = {"vocab_size": VOCAB, "width": WIDTH, "num_heads": 2, "mlp_dim": HIDDEN, "max_length": LENGTH}
    search = BeamSearch(sentences_at_once=sentences_at_once)
    model = replace(mini.model, **sizes, num_layers=1, beam_search=search)
    return WmtJax(replace(mini, model=model), JaxBackend())


def noisy(workload: WmtJax) -> Any:
    """Parameters with noise, so that nothing is zero."""
    params, _ = workload.init_model_fn(jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), params)


@cache
def made(name: str = "wmt") -> Any:
    """A workload and its parameters."""
    workload = small(SPECS[name])
    return workload, noisy(workload)


@pytest.fixture(params=SPECS)
def case(request: Any) -> Any:
    return made(request.param)


def sentences(*lengths: int, seed: int = 0) -> np.ndarray:
    """Rows of random tokens, padded [len(lengths), LENGTH]."""
    rows = np.random.default_rng(seed).integers(3, VOCAB, (len(lengths), LENGTH)).astype(np.int32)
    return np.where(np.arange(LENGTH) < np.array(lengths)[:, None], rows, 0)


def make_batch() -> dict[str, np.ndarray]:
    """Five sentences and a row of padding."""
    targets = sentences(7, 1, 10, 2, 4, 0, seed=1)
    return {"inputs": sentences(5, 10, 3, 1, 6, 0), "targets": targets, "weights": (targets > 0).astype(np.float32)}


def forward(workload: WmtJax, mode: ForwardPassMode, params: Any, batch: Any, rate: Any, key: Any) -> Any:
    return workload.model_fn(params, batch, None, mode, key, True, dropout_rate=rate)[0]


compiled_forward = jax.jit(forward, static_argnums=(0, 1))


def logits_of(case: Any, batch: Any, mode: ForwardPassMode = EVAL, rate: Any = None, seed: int = 0) -> Any:
    workload, params = case
    return compiled_forward(workload, mode, params, batch, rate, jax.random.key(seed))


def test_places_of_dropout(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place by the layer whose output is dropped, or else the layer that is given what is left."""
    outputs, places = {}, []

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        # What comes out of dropout is a seven: a layer that sees it is the next one.
        if args and isinstance(args[0], jax.Array) and (args[0] == 7).all():
            places.append(f"before {context.module.name}")
        output = call(*args, **kwargs)
        outputs[id(output)] = (context.module.name, output)
        return output

    def recorded(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
        if x.shape[-1] == HIDDEN:
            places.append("inside an MLP")
            return jnp.full_like(x, 7)
        name, _ = outputs.get(id(x), ("", None))
        places.append(f"after {name}" if name else f"{x.shape}")
        return x

    monkeypatch.setattr(jax_model, "dropout", recorded)
    workload, params = case
    with nn.intercept_methods(intercept):
        forward(workload, TRAIN, params, make_batch(), 0.3, jax.random.key(0))
    last = "Dense_2" if workload.spec.model.gated_mlp else "Dense_1"
    attention, mlp = "after MultiHeadDotProductAttention", ["inside an MLP", f"before {last}", f"after {last}"]
    rows = f"(6, {LENGTH}, {WIDTH})"
    assert places == [rows, f"{attention}_0", *mlp, rows, f"{attention}_0", f"{attention}_1", *mlp]


def test_rates_of_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    workload, params = made()
    rates = []
    monkeypatch.setattr(jax_model, "dropout", lambda x, rate, key: rates.append(rate) or x)
    for mode, rate, expected in ((TRAIN, 0.3, {0.3}), (TRAIN, None, {0.1}), (TRAIN, 0, set()), (EVAL, 0.3, set())):
        rates.clear()
        forward(workload, mode, params, make_batch(), rate, jax.random.key(0))
        assert set(rates) == expected


def test_dropout_rate_may_be_traced() -> None:
    (workload, params), batch, key = made(), make_batch(), jax.random.key(0)
    compilations = []

    @jax.jit
    def logits(rate: jax.Array) -> jax.Array:
        compilations.append(rate)
        return forward(workload, TRAIN, params, batch, rate, key)

    none, some = logits(0.0), logits(0.4)
    assert len(compilations) == 1
    fixed = jax.jit(lambda: forward(workload, TRAIN, params, batch, 0.4, key))()
    np.testing.assert_allclose(none, logits_of(made(), batch), rtol=0, atol=1e-5)
    np.testing.assert_allclose(some, fixed, rtol=0, atol=1e-5)
    assert abs(some - none).max() > 1e-2


def test_dropout_depends_on_the_key() -> None:
    first, again, other = (logits_of(made(), make_batch(), TRAIN, 0.4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-2


def packed(batch: dict[str, np.ndarray], *rows: int) -> dict[str, np.ndarray]:
    """Rows of a batch, one after the other in a row [1, LENGTH] of each side."""
    result = {}
    for side in ("inputs", "targets"):
        parts = [batch[side][row][batch[side][row] > 0] for row in rows]
        arrays = {
            side: np.concatenate(parts),
            f"{side}_position": np.concatenate([np.arange(len(part)) for part in parts]),
            f"{side}_segmentation": np.repeat(np.arange(1, len(parts) + 1), [len(part) for part in parts]),
        }
        result |= {name: np.pad(a, (0, LENGTH - len(a)))[None].astype(np.int32) for name, a in arrays.items()}
    return result


def test_sentences_of_a_row_do_not_see_each_other(case: Any) -> None:
    workload, params = case
    batch = {"inputs": sentences(4, 5), "targets": sentences(3, 6, seed=1)}
    batch["targets"][0, 2] = 2
    row = packed(batch, 0, 1)
    alone, together = logits_of(case, batch), logits_of(case, row)
    np.testing.assert_allclose(together[0, :3], alone[0, :3], rtol=1e-5, atol=1e-5)
    # The second sentence starts with the end of the first ...
    assert abs(together[0, 3:9] - alone[1, :6]).max() > 1e-2
    # ... which is the only difference.
    table = params["shared_embedding"]["embedding"]
    same = {**params, "shared_embedding": {"embedding": table.at[2].set(table[0])}}
    alone, together = logits_of((workload, same), batch), logits_of((workload, same), row)
    np.testing.assert_allclose(together[0, 3:9], alone[1, :6], rtol=1e-5, atol=1e-5)


def test_targets_do_not_see_later_ones(case: Any) -> None:
    batch = make_batch()
    # The fourth target is an input of the fifth.
    changed = {**batch, "targets": batch["targets"].copy()}
    changed["targets"][2, 4:] = 3
    before, after = logits_of(case, batch), logits_of(case, changed)
    np.testing.assert_array_equal(before[2, :5], after[2, :5])
    assert abs(before[2, 5:] - after[2, 5:]).max(axis=-1).min() > 1e-3


def test_padding_does_not_reach_tokens(case: Any) -> None:
    batch = {"inputs": sentences(4), "targets": sentences(6, seed=1)}
    short = {"inputs": batch["inputs"][:, :4], "targets": batch["targets"][:, :6]}
    np.testing.assert_allclose(logits_of(case, batch)[:, :6], logits_of(case, short), rtol=1e-5, atol=1e-5)


def test_eval_step(case: Any) -> None:
    workload, params = case
    batch = make_batch()
    output = workload.compiled_eval_step(params, None, batch, None)
    logits, weights = logits_of(case, batch), batch["weights"]
    # The same without groups of sentences.
    model = workload._model.bind({"params": params})
    cache = model.start_decoding(model.encode(Tokens(batch["inputs"])), batch["inputs"], 4)
    predictions, _ = beam_search(
        model.decode_step, cache, weights.sum(axis=1) > 0, workload.spec.model.beam_search, LENGTH
    )
    losses = workload.loss_fn(batch["targets"], logits)["per_example"]
    expected = {
        "losses": (losses * weights).sum(axis=1),
        "correct": ((logits.argmax(axis=2) == batch["targets"]) * weights).sum(axis=1),
        "tokens": [7, 1, 10, 2, 4, 0],
        "predictions": predictions,
        "targets": batch["targets"],
    }
    assert output.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(output[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        assert output[name].dtype == (jnp.int32 if name in ("predictions", "targets") else jnp.float32)
    assert output["predictions"].shape == (6, LENGTH - 1)


def test_right_answers_count_where_there_are_tokens() -> None:
    workload, params = made()
    batch = make_batch()
    # Logits look at earlier targets only, so that one after the other can be made right.
    for position in range(LENGTH):
        batch["targets"][:, position] = logits_of(made(), batch)[:, position].argmax(axis=1)
    batch["weights"][:] = 0
    batch["weights"][1, :3] = 1
    batch["targets"][1, 2] = (batch["targets"][1, 2] + 1) % VOCAB
    output = workload.compiled_eval_step(params, None, batch, None)
    assert (batch["targets"][:, :2] > 0).all()
    np.testing.assert_array_equal(output["correct"], [0, 2, 0, 0, 0, 0])


@pytest.mark.parametrize("sentences_at_once", [1, 4, 5])
def test_groups_of_sentences_change_nothing(sentences_at_once: int) -> None:
    _, params = made()
    outputs = [
        small(WMT, size).compiled_eval_step(params, None, make_batch(), None) for size in (100, sentences_at_once)
    ]
    for name, value in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_memory_is_that_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    workload, params = made()
    evaluate_group, sizes = workload._evaluate_group, []

    def spy(self: WmtJax, params: Any, arrays: Any) -> Any:
        sizes.append(arrays["inputs"].shape[0])
        return evaluate_group(params, arrays)

    monkeypatch.setattr(WmtJax, "_evaluate_group", spy)
    jax.eval_shape(lambda: workload.eval_step(params, None, make_batch(), None))
    # Six sentences in two groups of at most four; the group is traced once.
    assert set(sizes) == {3}


def test_padding_is_not_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(step: Any, cache: Any, is_real: Any, *rest: Any) -> Any:
        return jnp.broadcast_to(is_real[:, None], (len(is_real), LENGTH - 1)).astype(jnp.int32), None

    monkeypatch.setattr("algoperf_wmt.jax_workload.beam_search", search)
    output = small(WMT).eval_step(made()[1], None, make_batch(), None)
    assert output["predictions"][:, 0].tolist() == [1, 1, 1, 1, 1, 0]


def test_parameters_of_a_shorter_type_are_computed_in_it() -> None:
    workload, params = made()
    shorter = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    logits = logits_of((workload, shorter), make_batch())
    assert logits.dtype == jnp.bfloat16
    assert (workload.eval_step(shorter, None, make_batch(), None)["losses"]).dtype == jnp.float32


def test_sentences_do_not_reach_each_other() -> None:
    workload, params = made()
    batch = make_batch()
    before = workload.compiled_eval_step(params, None, batch, None)
    batch["inputs"][5], batch["targets"][5] = 3, 3
    after = workload.compiled_eval_step(params, None, batch, None)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name][:5], value[:5], err_msg=name)
    assert (after["losses"][5], after["correct"][5], after["tokens"][5]) == (0, 0, 0)


ON_FOUR_DEVICES = """
import sys
sys.path.insert(0, {folder!r})
import jax, numpy as np
import test_models_jax as here
assert jax.device_count() == 4
workload, params = here.made()
batch = {{name: np.concatenate([rows, rows[:2]]) for name, rows in here.make_batch().items()}}
output = workload.compiled_eval_step(params, None, workload.place_batch(batch), None)
assert len(output["losses"].sharding.device_set) == 4
np.savez({path!r}, **output)
"""


def test_evaluations_do_not_depend_on_the_number_of_devices(tmp_path: Any) -> None:
    path = str(tmp_path / "output.npz")
    code = ON_FOUR_DEVICES.format(folder=os.path.dirname(__file__), path=path)
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    workload, params = made()
    batch = {name: np.concatenate([rows, rows[:2]]) for name, rows in make_batch().items()}
    output = workload.compiled_eval_step(params, None, batch, None)
    with np.load(path) as found:
        assert found.keys() == output.keys()
        for name, value in output.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


LOGITS = jnp.array([[[90.0, -90.0, 3.0, 0.0], [0.1, 0.2, 0.3, 0.4]], [[-1.0, 1.0, -2.0, 2.0], [5.0, 5.0, 5.0, 5.0]]])
LABELS = jnp.array([[1, 2], [3, 0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_are_cross_entropies(smoothing: float) -> None:
    labels = (1 - smoothing) * jnp.eye(4)[LABELS] + smoothing / 4
    expected = -(labels * jax.nn.log_softmax(LOGITS)).sum(axis=-1)
    loss_fn = jax.jit(lambda a: made()[0].loss_fn(LABELS, LOGITS, None, a))
    # Label smoothing may be traced.
    for loss in (loss_fn(smoothing), made()[0].loss_fn(LABELS, LOGITS, label_smoothing=smoothing)):
        np.testing.assert_allclose(loss["per_example"], expected, rtol=1e-5)
        np.testing.assert_allclose(loss["summed"], expected.sum(), rtol=1e-5)
        assert loss["n_valid_examples"] == 4


def test_masks_multiply() -> None:
    loss_fn, mask = made()[0].loss_fn, jnp.array([[0.5, 0], [1, 1]])
    whole, masked = loss_fn(LABELS, LOGITS, None, 0.1), loss_fn(LABELS, LOGITS, mask, 0.1)
    np.testing.assert_allclose(masked["per_example"], whole["per_example"] * mask, rtol=1e-6)
    np.testing.assert_allclose(masked["summed"], masked["per_example"].sum(), rtol=1e-6)
    assert (whole["n_valid_examples"], masked["n_valid_examples"]) == (4, 2.5)
    number = loss_fn(LABELS, LOGITS, jnp.array([[1.0, 0], [1, 1]]))
    boolean = loss_fn(LABELS, LOGITS, jnp.array([[True, False], [True, True]]), unheard_of=1)
    for name in number:
        np.testing.assert_array_equal(number[name], boolean[name])
        assert boolean[name].dtype == jnp.float32


def test_sums_of_short_types_count_exactly() -> None:
    loss = made()[0].loss_fn(jnp.zeros((1, 257), jnp.int32), jnp.zeros((1, 257, 10), jnp.bfloat16))
    assert loss["n_valid_examples"] == 257
    assert loss["summed"].dtype == jnp.float32


def test_bad_input_is_refused() -> None:
    workload, params = made()
    good = make_batch()
    for side in ("inputs", "targets"):
        for rows in (np.ones((2, LENGTH + 1), np.int32), np.ones(3, np.int32)):
            with pytest.raises(ValueError, match=rf"needs {side} of at most {LENGTH} tokens a row, \[B, .*, not \("):
                logits_of(made(), {**good, side: rows})
    with pytest.raises(ValueError, match="model_state"):
        workload.model_fn(params, good, {}, EVAL, None, False)
    for arrays in [(LABELS[0], LOGITS), (LABELS[0], LOGITS[0]), (LABELS, LOGITS, jnp.ones(2)), (LABELS[:1], LOGITS)]:
        with pytest.raises(ValueError, match=r"Labels \[B, T\], .* are needed"):
            workload.loss_fn(*arrays)


@pytest.mark.parametrize("name", SPECS)
def test_output_parameters_are_the_embedding(name: str) -> None:
    workload = WmtJax(SPECS[name], JaxBackend())
    assert [key for key in workload.param_shapes if workload.is_output_params(key)] == ["shared_embedding"]
