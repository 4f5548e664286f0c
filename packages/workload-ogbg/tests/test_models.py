"""Both models against numbers of the reference implementation, and against each other.

The goldens fill the parameters by a formula in the reference's order, so they depend neither on initialisers nor
on our names. JAX and PyTorch are filled differently: only the parity tests compare one with the other.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_ogbg.graphs import GraphsTuple
from algoperf_ogbg.spec import OGBG, OGBG_GELU, OGBG_MODEL_SIZE, OGBG_SILU
from algoperf_ogbg.weights import jax_to_torch, torch_to_jax, weight_table

GOLDEN = Path(__file__).parent / "golden"
SPECS = {spec.name: spec for spec in (OGBG, OGBG_GELU, OGBG_SILU, OGBG_MODEL_SIZE)}

every_workload = pytest.mark.parametrize("name", SPECS)
every_framework = pytest.mark.parametrize("framework", BOTH)


class Jax:
    """The JAX workload with numpy at its borders, and parameters as a flat dict."""

    def __init__(self, spec):
        import jax

        from algoperf.backends.jax import JaxBackend
        from algoperf_ogbg.jax_model import OgbgJax

        self.workload = OgbgJax(spec, JaxBackend())
        self._forward = jax.jit(self._logits, static_argnames="mode")
        self._train = jax.jit(jax.value_and_grad(self._mean_loss, has_aux=True))

    def initial(self, seed):
        import jax
        from flax.traverse_util import flatten_dict

        params, model_state = self.workload.init_model_fn(jax.random.key(seed))
        assert model_state is None
        return jax.tree.map(np.array, flatten_dict(params, sep="/"))

    def _logits(self, params, batch, mode):
        import jax
        from flax.traverse_util import unflatten_dict

        params = unflatten_dict(params, sep="/")
        return self.workload.model_fn(params, batch, None, mode, jax.random.key(0), True, dropout_rate=0.0)[0]

    def _mean_loss(self, params, batch):
        logits = self._logits(params, batch, ForwardPassMode.TRAIN)
        loss = self.workload.loss_fn(batch["targets"], logits, batch["weights"])
        return loss["summed"] / loss["n_valid_examples"], logits

    def forward(self, params, batch, mode):
        return np.asarray(self._forward(params, batch, mode=mode))

    def train(self, params, batch):
        """Logits, loss and gradients without dropout."""
        import jax

        (loss, logits), gradients = self._train(params, batch)
        return np.asarray(logits), float(loss), jax.tree.map(np.asarray, gradients)

    def loss(self, *arrays, **options):
        return {key: np.asarray(value) for key, value in self.workload.loss_fn(*arrays, **options).items()}


class Torch:
    """The PyTorch workload with numpy at its borders, and parameters as a flat dict."""

    def __init__(self, spec):
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_ogbg.torch_model import OgbgTorch

        self.workload = OgbgTorch(spec, TorchBackend())
        self.place = self.workload.backend.place_batch

    def initial(self, seed):
        model, model_state = self.workload.init_model_fn(np.array([0, seed], np.uint32))
        assert model_state is None
        return {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}

    def _model(self, params):
        model, _ = self.workload.init_model_fn(np.zeros(2, np.uint32))
        model.load_state_dict(self.place(params))
        return model

    def forward(self, params, batch, mode):
        model = self._model(params)
        logits = self.workload.model_fn(model, self.place(batch), None, mode, None, True, dropout_rate=0.0)[0]
        return logits.detach().cpu().numpy()

    def train(self, params, batch):
        """Logits, loss and gradients without dropout."""
        model, batch = self._model(params), self.place(batch)
        logits, _ = self.workload.model_fn(model, batch, None, ForwardPassMode.TRAIN, None, True, dropout_rate=0.0)
        losses = self.workload.loss_fn(batch["targets"], logits, batch["weights"])
        loss = losses["summed"] / losses["n_valid_examples"]
        loss.backward()
        gradients = {name: p.grad.cpu().numpy() for name, p in model.named_parameters()}
        return logits.detach().cpu().numpy(), loss.item(), gradients

    def loss(self, *arrays, **options):
        arrays = [None if array is None else self.place(array) for array in arrays]
        return {key: value.cpu().numpy() for key, value in self.workload.loss_fn(*arrays, **options).items()}


@cache
def adapter(framework, name):
    require(framework)
    return (Jax if framework is Framework.JAX else Torch)(SPECS[name])


@cache
def golden(framework, name):
    return json.loads((GOLDEN / "models.json").read_text())[f"{name}_{framework}"]


@cache
def golden_logits(framework, name, mode):
    return np.load(GOLDEN / "models_logits.npz")[f"{name}_{framework}_{mode}_logits"]


@cache
def golden_batch():
    """Three graphs of 4, 5 and 3 nodes; the last one stands for padding."""
    arrays = dict(np.load(GOLDEN / "models_inputs.npz"))
    graph = GraphsTuple(**{f: arrays.get(f, {}) for f in GraphsTuple._fields})
    return {"inputs": graph, "targets": arrays["targets"], "weights": arrays["weights"]}


def reference_names(framework, model):
    """Our name of each parameter -> the reference's."""
    if framework is Framework.PYTORCH:
        names = (row.torch for row in weight_table(model))
        mlps = {f"{mlp}_mlp": f"update_{mlp}_fn" for mlp in ("edge", "node", "global")}
        replaced = {n: n.replace("steps.", "graph_network.") for n in names}
        return {n: ".".join(mlps.get(part, part) for part in new.split(".")) for n, new in replaced.items()}
    # The reference numbers its layers in the order of execution, which is the table's.
    names = [row.jax for row in weight_table(model)]
    layers = list(dict.fromkeys(n.rpartition("/")[0] for n in names if "embedding" not in n))
    dense = [layer for layer in layers if "norm" not in layer]
    norms = [layer for layer in layers if "norm" in layer]
    numbered = {layer: f"Dense_{k}" for k, layer in enumerate(dense)}
    numbered |= {layer: f"LayerNorm_{k}" for k, layer in enumerate(norms)}
    return {n: "/".join((numbered.get(layer, layer), leaf)) for n in names for layer, _, leaf in [n.rpartition("/")]}


def hash_uniform(n, index):
    """The goldens' pseudo-random numbers in [-1, 1), float32 [n]."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)


def filled(framework, index, entry):
    shape, kind = entry["shape"], entry["type"]
    r = hash_uniform(int(np.prod(shape)), index).reshape(shape)
    if kind.endswith("_SCALE"):
        return 1 + np.float32(0.1) * r
    if len(shape) == 1:
        return np.float32(0.1) * r
    fan = shape[0] if framework is Framework.JAX else shape[1]
    return r if kind == "EMBEDDING" else np.float32(np.sqrt(3 / fan)) * r


@cache
def golden_params(framework, name):
    """Parameters by our names."""
    entries = golden(framework, name)["params"]
    by_name = {entry["name"]: filled(framework, i, entry) for i, entry in enumerate(entries)}
    return {ours: by_name[theirs] for ours, theirs in reference_names(framework, SPECS[name].model).items()}


def deviation(actual, expected):
    """The largest difference, as a share of the largest expected magnitude."""
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


@every_framework
@every_workload
def test_parameters_are_those_of_the_reference(framework: Framework, name: str) -> None:
    ours = adapter(framework, name).workload.parameters()
    names = reference_names(framework, SPECS[name].model)
    actual = {names[p["name"]]: (p["shape"], p["type"], p["dtype"]) for p in ours}
    expected = {p["name"]: (p["shape"], p["type"], "float32") for p in golden(framework, name)["params"]}
    assert actual == expected
    assert sum(int(np.prod(p["shape"])) for p in ours) == golden(framework, name)["total"]
    if framework is Framework.PYTORCH:
        assert list(actual) == list(expected)


@every_framework
@every_workload
def test_logits_without_gradients(framework: Framework, name: str) -> None:
    logits = adapter(framework, name).forward(golden_params(framework, name), golden_batch(), ForwardPassMode.EVAL)
    assert deviation(logits, golden_logits(framework, name, "eval")) < 5e-6


@every_framework
@every_workload
def test_a_training_step(framework: Framework, name: str) -> None:
    logits, loss, gradients = adapter(framework, name).train(golden_params(framework, name), golden_batch())
    expected = golden(framework, name)
    assert deviation(logits, golden_logits(framework, name, "train")) < 5e-6
    assert loss == pytest.approx(expected["train_loss"], rel=1e-6)
    entries = {entry["name"]: entry for entry in expected["params"]}
    for ours, theirs in reference_names(framework, SPECS[name].model).items():
        entry, gradient = entries[theirs], gradients[ours].astype(np.float64)
        assert np.linalg.norm(gradient) == pytest.approx(entry["grad_l2"], rel=1e-5), ours
        np.testing.assert_allclose(gradient.ravel()[:2], entry["grad_first"], rtol=0, atol=1e-5 * entry["grad_l2"])


@every_framework
@every_workload
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mask", ["weights", "ones", None])
def test_losses(framework: Framework, name: str, mask: str | None, smoothing: float) -> None:
    batch = golden_batch()
    masks = {"weights": batch["weights"], "ones": np.ones_like(batch["weights"]), None: None}
    logits = golden_logits(framework, name, "eval")
    loss = adapter(framework, name).loss(batch["targets"], logits, masks[mask], label_smoothing=smoothing)
    # The reference fails without a mask; by our decision all labels count then.
    expected = golden(framework, name)["losses"][f"{mask or 'ones'}_ls{smoothing}"]
    assert loss["summed"] == pytest.approx(expected["summed"], rel=1e-6)
    assert loss["n_valid_examples"] == expected["n_valid_examples"]
    assert loss["per_example"].shape == logits.shape
    first = expected["per_example_first"]
    np.testing.assert_allclose(loss["per_example"].ravel()[: len(first)], first, rtol=1e-6, atol=1e-7)


@every_framework
@every_workload
def test_initial_values(framework: Framework, name: str) -> None:
    params = adapter(framework, name).initial(seed=1)
    entries = {entry["name"]: entry for entry in golden(framework, name)["params"]}
    for ours, theirs in reference_names(framework, SPECS[name].model).items():
        value = params[ours]
        if value.ndim == 1:
            assert (value == (1 if entries[theirs]["type"].endswith("_SCALE") else 0)).all()
            continue
        fan_in = value.shape[0] if framework is Framework.JAX else value.shape[1]
        sigma = fan_in**-0.5
        # Six standard errors of a mean and of a standard deviation over the entries.
        error = 6 * sigma / value.size**0.5
        assert abs(value.mean()) < error
        assert abs(value.std() - sigma) < error
        assert abs(value).max() <= 2 * sigma / 0.8796 < 1.05 * abs(value).max() + error
        if entries[theirs]["init_std"] is not None:
            assert abs(entries[theirs]["init_std"] - value.std()) < 2 * error


@every_workload
def test_the_frameworks_are_one_function(name: str) -> None:
    model = SPECS[name].model
    params = adapter(Framework.JAX, name).initial(seed=2)
    logits, loss, gradients = adapter(Framework.JAX, name).train(params, golden_batch())
    torch_params = jax_to_torch(model, params)
    torch_logits, torch_loss, torch_gradients = adapter(Framework.PYTORCH, name).train(torch_params, golden_batch())
    assert deviation(torch_logits, logits) < 1e-5
    assert torch_loss == pytest.approx(loss, rel=1e-6)
    for path, gradient in torch_to_jax(model, torch_gradients).items():
        difference = np.linalg.norm(gradient - gradients[path])
        assert difference <= 1e-4 * np.linalg.norm(gradients[path]), path


@every_workload
def test_weights_travel_both_ways(name: str) -> None:
    params = golden_params(Framework.JAX, name)
    there_and_back = torch_to_jax(SPECS[name].model, jax_to_torch(SPECS[name].model, params))
    assert all(np.array_equal(params[path], there_and_back[path]) for path in params)
    with pytest.raises(ValueError, match="decoder/kernel"):
        jax_to_torch(SPECS[name].model, {k: v for k, v in params.items() if k != "decoder/kernel"})
