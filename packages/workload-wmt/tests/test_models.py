"""All models at full size against numbers of the reference implementation, and against each other.

The goldens fill the parameters by a formula in the reference's order, so they do not depend on initialisers. JAX and
PyTorch are filled differently. Our PyTorch models are held against both: against PyTorch's goldens, and with JAX's fill
in PyTorch's layout against those of JAX. The functions are smooth enough for float32: no bound is looser than 1e-4.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoperf import registry
from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import BOTH, require
from algoperf_wmt.spec import WMT, WMT_ATTENTION_TEMP, WMT_GLU_TANH, WMT_POST_LN
from algoperf_wmt.weights import jax_to_torch, torch_to_jax

GOLDEN = Path(__file__).parent / "golden"
SPECS = {spec.name: spec for spec in (WMT, WMT_POST_LN, WMT_ATTENTION_TEMP, WMT_GLU_TANH)}
# Framework, workload, and the framework whose fill and goldens are used.
CASES = [
    (framework, name, fill)
    for name in SPECS
    for framework, fill in (
        (Framework.JAX, Framework.JAX),
        (Framework.PYTORCH, Framework.JAX),
        (Framework.PYTORCH, Framework.PYTORCH),
    )
]
EVAL, TRAIN = ForwardPassMode.EVAL, ForwardPassMode.TRAIN

every_workload = pytest.mark.parametrize("name", SPECS)
every_framework = pytest.mark.parametrize("framework", BOTH)
every_case = pytest.mark.parametrize(("framework", "name", "fill"), CASES)


class Jax:
    """A JAX workload with numpy at its borders; parameters are a flat dict by path."""

    def __init__(self, spec: Any) -> None:
        import jax

        from algoperf.backends.jax import JaxBackend
        from algoperf_wmt.jax_workload import WmtJax

        self.workload = WmtJax(spec, JaxBackend())
        self._evaluate = jax.jit(lambda params, batch: self._forward(params, batch, EVAL))
        self._train = jax.jit(jax.value_and_grad(self._mean_loss, has_aux=True))

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        import jax
        from flax.traverse_util import flatten_dict

        params, model_state = self.workload.init_model_fn(jax.random.key(seed))
        assert model_state is None
        return {path: np.asarray(leaf) for path, leaf in flatten_dict(params, sep="/").items()}

    def _forward(self, params: Any, batch: Any, mode: ForwardPassMode) -> Any:
        import jax
        from flax.traverse_util import unflatten_dict

        params, key = unflatten_dict(params, sep="/"), jax.random.key(0)
        return self.workload.model_fn(params, batch, None, mode, key, True, dropout_rate=0.0)[0]

    def _mean_loss(self, params: Any, batch: Any, weights: Any) -> Any:
        logits = self._forward(params, batch, TRAIN)
        loss = self.workload.loss_fn(batch["targets"], logits, weights)
        return loss["summed"] / loss["n_valid_examples"], logits

    def evaluate(self, params: Any, batch: Any) -> np.ndarray:
        return np.asarray(self._evaluate(params, batch))

    def train(self, params: Any, batch: Any, weights: np.ndarray | None) -> tuple[float, np.ndarray, Any]:
        (loss, logits), gradients = self._train(params, batch, weights)
        return float(loss), np.asarray(logits), {path: np.asarray(gradient) for path, gradient in gradients.items()}

    def loss(self, *arrays: Any, **options: float) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in self.workload.loss_fn(*arrays, **options).items()}


class Torch:
    """A PyTorch workload with numpy at its borders; parameters are a dict by name."""

    def __init__(self, spec: Any) -> None:
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_wmt.torch_workload import WmtTorch

        self.workload = WmtTorch(spec, TorchBackend())
        self.place = self.workload.backend.place_batch
        self._model = self.workload.build_model().to(self.workload.backend.device)

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        model, model_state = self.workload.init_model_fn(np.array([0, seed], np.uint32))
        assert model_state is None
        return {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}

    def _forward(self, params: Any, batch: Any, mode: ForwardPassMode) -> Any:
        self._model.load_state_dict(self.place(params))
        return self.workload.model_fn(self._model, self.place(batch), None, mode, None, True, dropout_rate=0.0)[0]

    def evaluate(self, params: Any, batch: Any) -> np.ndarray:
        import torch

        with torch.no_grad():
            return self._forward(params, batch, EVAL).cpu().numpy()

    def train(self, params: Any, batch: Any, weights: np.ndarray | None) -> tuple[float, np.ndarray, Any]:
        self._model.zero_grad()
        logits = self._forward(params, batch, TRAIN)
        mask = None if weights is None else self.place(weights)
        loss = self.workload.loss_fn(self.place(batch["targets"]), logits, mask)
        mean = loss["summed"] / loss["n_valid_examples"]
        mean.backward()
        gradients = {name: p.grad.cpu().numpy() for name, p in self._model.named_parameters()}
        return mean.item(), logits.detach().cpu().numpy(), gradients

    def loss(self, *arrays: Any, **options: float) -> dict[str, np.ndarray]:
        arrays = [None if array is None else self.place(array) for array in arrays]
        return {name: value.cpu().numpy() for name, value in self.workload.loss_fn(*arrays, **options).items()}


def adapter(framework: Framework, spec: Any) -> Any:
    require(framework)
    return (Jax if framework is Framework.JAX else Torch)(spec)


@cache
def golden_parameters(framework: Framework, name: str) -> list[dict[str, Any]]:
    """Name, shape and type of each parameter. A temperature has none."""
    variant = name.removeprefix("wmt").removeprefix("_attention_temp")
    return json.loads((GOLDEN / f"parameters{variant}_{framework}.json").read_text())


@cache
def golden(framework: Framework, name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / "models.json").read_text())[f"{name}_{framework}"]


@cache
def golden_logits(framework: Framework, name: str, what: str) -> np.ndarray:
    """Every 3500th logit of "eval", "packed" (in evaluation) or "train"."""
    return np.load(GOLDEN / "models_logits.npz")[f"{name}_{framework}_{what}"]


@cache
def golden_inputs() -> dict[str, np.ndarray]:
    """Two rows of two sentences, [2, 32]."""
    return dict(np.load(GOLDEN / "models_inputs.npz"))


def plain(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same rows, as if each were one sentence."""
    return {side: batch[side] for side in ("inputs", "targets")}


def hash_uniform(n: int, index: int) -> np.ndarray:
    """The goldens' pseudo-random numbers in [-1, 1), float32 [n]."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)


def filled(framework: Framework, index: int, shape: list[int], kind: str) -> np.ndarray:
    size = int(np.prod(shape))
    r = hash_uniform(size, index).reshape(shape)
    if kind.endswith("_SCALE"):
        return 1 + np.float32(0.1) * r
    if len(shape) == 1:
        return np.float32(0.1) * r
    if kind == "EMBEDDING":
        return r
    fan = min(4096, size // shape[-1 if framework is Framework.JAX else 0])
    return np.float32(np.sqrt(3 / fan)) * r


@dataclass
class Golden:
    """What a model makes of the golden inputs: every 3500th logit, all losses, about 1000 entries of each gradient.

    Gradients are by the fill's names and in its layout.
    """

    logits: dict[str, np.ndarray]
    losses: dict[str, dict[str, np.ndarray]]
    train_loss: float
    gradients: dict[str, np.ndarray]


@cache
def computed(framework: Framework, name: str, fill: Framework) -> Golden:
    one, batch, spec = adapter(framework, SPECS[name]), golden_inputs(), SPECS[name]
    entries = golden_parameters(fill, name)
    params = {e["name"]: filled(fill, i, e["shape"], e["type"]) for i, e in enumerate(entries)}
    if framework is not fill:
        params = jax_to_torch(spec.model, params)
    targets, weights = batch["targets"], batch["weights"]
    logits = {"eval": one.evaluate(params, plain(batch)), "packed": one.evaluate(params, batch)}
    losses = {
        f"{kind}_ls{smoothing}": one.loss(targets, logits["eval"], mask, label_smoothing=smoothing)
        for kind, mask in (("nomask", None), ("weights", weights))
        for smoothing in (0.0, 0.1)
    }
    losses["packed_weights_ls0.1"] = one.loss(targets, logits["packed"], weights, label_smoothing=0.1)
    train_loss, logits["train"], gradients = one.train(params, plain(batch), weights)
    if framework is not fill:
        gradients = torch_to_jax(spec.model, gradients)
    sampled_logits = {what: array.ravel()[::3500].copy() for what, array in logits.items()}
    return Golden(sampled_logits, losses, train_loss, {path: sampled(array) for path, array in gradients.items()})


def sampled(gradient: np.ndarray) -> np.ndarray:
    """The norm, the first two, and every n-th entry."""
    flat = gradient.ravel()
    norm = np.sqrt(np.square(flat, dtype=np.float64).sum())
    return np.concatenate([[norm], flat[:2], flat[:: max(1, flat.size // 1000)]])


def deviation(actual: Any, expected: Any) -> float:
    """The largest difference, as a share of the largest expected magnitude."""
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


@every_framework
@every_workload
def test_parameters_are_those_of_the_reference(framework: Framework, name: str) -> None:
    require(framework)
    ours = registry.make_workload(SPECS[name], framework).parameters()
    assert [{key: p[key] for key in ("name", "shape", "type")} for p in ours] == golden_parameters(framework, name)
    assert {p["dtype"] for p in ours} == {"float32"}


@every_case
def test_logits(framework: Framework, name: str, fill: Framework) -> None:
    for what, logits in computed(framework, name, fill).logits.items():
        assert deviation(logits, golden_logits(fill, name, what)) < 5e-6, what


@every_case
def test_losses(framework: Framework, name: str, fill: Framework) -> None:
    losses, expected = computed(framework, name, fill).losses, golden(fill, name)["losses"]
    assert losses.keys() == expected.keys()
    for key, loss in losses.items():
        assert loss["summed"] == pytest.approx(expected[key]["summed"], rel=2e-6), key
        assert loss["n_valid_examples"] == expected[key]["n_valid_examples"]
        assert loss["per_example"].shape == (2, 32)
        np.testing.assert_allclose(loss["per_example"].ravel()[:16], expected[key]["per_example_first"], rtol=5e-6)
        assert {array.dtype for array in loss.values()} == {np.dtype(np.float32)}


@every_case
def test_a_training_step(framework: Framework, name: str, fill: Framework) -> None:
    one, expected = computed(framework, name, fill), golden(fill, name)
    assert one.train_loss == pytest.approx(expected["train_loss"], rel=2e-6)
    entries = golden_parameters(fill, name)
    assert one.gradients.keys() == {entry["name"] for entry in entries}
    for entry, (norm, *first) in zip(entries, expected["gradients"], strict=True):
        gradient = one.gradients[entry["name"]]
        assert abs(gradient[0] - norm) < 1e-4 * norm, entry["name"]
        np.testing.assert_allclose(gradient[1:3], first, rtol=0, atol=1e-4 * norm, err_msg=entry["name"])


@every_workload
def test_the_frameworks_are_one_function(name: str) -> None:
    jax, torch = (computed(framework, name, Framework.JAX) for framework in Framework)
    for what, logits in jax.logits.items():
        assert deviation(torch.logits[what], logits) < 5e-6, what
    for path, gradient in jax.gradients.items():
        # The norm comes first.
        assert np.linalg.norm((torch.gradients[path] - gradient)[1:]) < 1e-4 * np.linalg.norm(gradient[1:]), path


def small(name: str, **sizes: int) -> Any:
    """Mini scale with one layer and the sizes, of which no two are equal."""
    mini = SPECS[name].at(Scale.MINI)
    return replace(mini, model=replace(mini.model, num_layers=1, num_heads=4, **sizes))


@every_workload
@pytest.mark.parametrize("is_packed", [False, True])
def test_padding_is_one_function_too(name: str, is_packed: bool) -> None:
    """In float64, where padding counts: rows that can look at nothing, and gradients through them."""
    for framework in Framework:
        require(framework)
    import jax
    import torch

    spec, rng = small(name, vocab_size=50, width=16, mlp_dim=24, max_length=32), np.random.default_rng(0)
    batch = {key: array % 50 if key in ("inputs", "targets") else array for key, array in golden_inputs().items()}
    batch = batch if is_packed else plain(batch)
    # In a row of padding alone even attention to the inputs can look at nothing.
    batch["inputs"][1] = 0
    jax_adapter, torch_adapter = Jax(spec), Torch(spec)
    params = {entry["name"]: rng.standard_normal(entry["shape"]) * 0.3 for entry in jax_adapter.workload.parameters()}
    with jax.enable_x64(True):
        loss, logits, gradients = jax_adapter.train(params, batch, None)
    assert logits.dtype == np.float64
    torch_adapter._model.to(torch.float64)
    found = torch_adapter.train(jax_to_torch(spec.model, params), batch, None)
    assert found[0] == pytest.approx(loss, rel=1e-12)
    assert deviation(found[1], logits) < 1e-10
    found_gradients = torch_to_jax(spec.model, found[2])
    assert found_gradients.keys() == gradients.keys()
    for path, gradient in gradients.items():
        assert deviation(found_gradients[path], gradient) < 1e-9, path


def expected_initial(path: str, shape: tuple[int, ...]) -> tuple[str, float]:
    """The distribution of a parameter, by JAX's path and shape, and its one number."""
    *_, layer, leaf = path.split("/")
    if "norm" in layer.lower():
        return "constant", float(leaf == "scale")
    if leaf == "embedding":
        return "normal", 1.0
    if leaf == "bias":
        return "normal", 1e-6
    # As one matrix, whatever its axis of heads.
    inputs = int(np.prod(shape[:-1])) if layer == "out" else shape[0]
    return "uniform", (6 / (inputs + np.prod(shape) / inputs)) ** 0.5


@every_framework
@pytest.mark.parametrize("name", ["wmt", "wmt_glu_tanh"])
def test_initial_parameters(framework: Framework, name: str) -> None:
    spec = small(name, vocab_size=700, width=256, mlp_dim=400)
    one = adapter(framework, spec)
    params, other = (one.initial(seed) for seed in (0, 1))
    if framework is Framework.PYTORCH:
        params, other = (torch_to_jax(spec.model, arrays) for arrays in (params, other))
    seen = set()
    for path, array in params.items():
        kind, number = expected_initial(path, array.shape)
        if kind == "constant":
            assert (array == number).all(), path
            continue
        assert abs(array - other[path]).max() > 0.1 * number, path
        seen.add(array.ravel()[0])
        deviations = 5 / array.size**0.5
        assert abs(array.mean()) < number * deviations, path
        sigma = number / 3**0.5 if kind == "uniform" else number
        assert array.std() == pytest.approx(sigma, rel=deviations), path
        if kind == "uniform":
            assert 0.99 * number < abs(array).max() <= number * (1 + 1e-6), path
        elif array.size > 1000:
            # No tail is cut.
            assert abs(array).max() > 3.5 * number, path
    # No two parameters are copies.
    assert len(seen) == sum("norm" not in path.lower() for path in params)
