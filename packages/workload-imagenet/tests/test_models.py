"""All models at full size against numbers of the reference implementation, and against each other.

The goldens fill the parameters by a formula in the reference's order, so they do not depend on initialisers. JAX and
PyTorch are filled differently. Our PyTorch models are therefore held against the JAX goldens as well, with JAX's fill
in PyTorch's layout. For the ResNet that is the only possibility: the reference's PyTorch ResNet pads symmetrically and
keeps the unbiased variance, so it is another function. The vision transformers also meet PyTorch's goldens.

Bounds. In float32 the ResNet with ReLU is ill-conditioned on two images: batch norm and kinks amplify rounding, and
the goldens themselves are 5e-5 in the logits and up to 1e-2 in single gradients' norms from a float64 evaluation of
the same function. With SiLU and GELU, which have no kinks, gradients' norms are within 3e-5. So these two, and not
ReLU, tell whether gradients are right; `test_relu_networks_are_one_function` is exact about ReLU, in float64.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_imagenet.resnet import weights as resnet_weights
from algoperf_imagenet.resnet.spec import (
    IMAGENET_RESNET,
    IMAGENET_RESNET_GELU,
    IMAGENET_RESNET_LARGE_BN_INIT,
    IMAGENET_RESNET_SILU,
    ResNet,
)
from algoperf_imagenet.vit import weights as vit_weights
from algoperf_imagenet.vit.spec import IMAGENET_VIT, IMAGENET_VIT_GLU, IMAGENET_VIT_MAP, IMAGENET_VIT_POST_LN

GOLDEN = Path(__file__).parent / "golden"
RESNETS = {
    spec.name: spec
    for spec in (IMAGENET_RESNET, IMAGENET_RESNET_SILU, IMAGENET_RESNET_GELU, IMAGENET_RESNET_LARGE_BN_INIT)
}
VITS = {spec.name: spec for spec in (IMAGENET_VIT, IMAGENET_VIT_GLU, IMAGENET_VIT_POST_LN, IMAGENET_VIT_MAP)}
SPECS = RESNETS | VITS
SIZES = {
    **dict.fromkeys(RESNETS, 25_557_032),
    "imagenet_vit": 22_122_472,
    "imagenet_vit_glu": 50_452_456,
    "imagenet_vit_post_ln": 22_121_704,
    "imagenet_vit_map": 23_896_552,
}
# With filled parameters, large_bn_init computes what the base does.
FUNCTIONS = [name for name in SPECS if name != "imagenet_resnet_large_bn_init"]
# Framework, workload, and the framework whose fill and goldens are used.
CASES = [
    *((framework, name, Framework.JAX) for name in FUNCTIONS for framework in Framework),
    *((Framework.PYTORCH, name, Framework.PYTORCH) for name in VITS),
]
TARGETS = np.array([3, 777], np.int32)
EVAL, TRAIN = ForwardPassMode.EVAL, ForwardPassMode.TRAIN

every_workload = pytest.mark.parametrize("name", SPECS)
every_framework = pytest.mark.parametrize("framework", BOTH)
every_case = pytest.mark.parametrize(("framework", "name", "fill"), CASES)


def weights_of(name: str) -> Any:
    return resnet_weights if name in RESNETS else vit_weights


@dataclass
class Step:
    """A training step. Arrays are JAX's, by path, or PyTorch's, by name, whichever the parameters were."""

    logits: np.ndarray
    loss: float
    gradients: dict[str, np.ndarray]
    model_state: dict[str, np.ndarray]


class Jax:
    """A JAX workload with numpy at its borders; parameters and model state are flat dicts."""

    def __init__(self, spec: Any) -> None:
        import jax

        from algoperf.backends.jax import JaxBackend
        from algoperf_imagenet.resnet.jax_model import ResNetJax
        from algoperf_imagenet.vit.jax_model import VisionTransformerJax

        self.is_resnet = isinstance(spec.model, ResNet)
        self.workload = (ResNetJax if self.is_resnet else VisionTransformerJax)(spec, JaxBackend())
        self._evaluate = jax.jit(lambda params, state, images: self._forward(params, state, images, EVAL)[0])
        self._train = jax.jit(jax.value_and_grad(self._mean_loss, has_aux=True))

    def initial(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        import jax

        params, model_state = self.workload.init_model_fn(jax.random.key(seed))
        return self._flat(params), self._flat(model_state or {})

    @staticmethod
    def _flat(tree: Any) -> dict[str, np.ndarray]:
        from flax.traverse_util import flatten_dict

        return {path: np.asarray(leaf) for path, leaf in flatten_dict(tree, sep="/").items()}

    def _forward(self, params: Any, state: Any, images: Any, mode: ForwardPassMode) -> Any:
        import jax
        from flax.traverse_util import unflatten_dict

        params, state = (unflatten_dict(tree, sep="/") for tree in (params, state))
        update = mode is TRAIN
        key = jax.random.key(0)
        return self.workload.model_fn(params, {"inputs": images}, state or None, mode, key, update, dropout_rate=0.0)

    def _mean_loss(self, params: Any, state: Any, images: Any, targets: Any) -> Any:
        logits, state = self._forward(params, state, images, TRAIN)
        loss = self.workload.loss_fn(targets, logits)
        return loss["summed"] / loss["n_valid_examples"], (logits, state or {})

    def evaluate(self, params: Any, state: Any, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._evaluate(params, state, images))

    def train(self, params: Any, state: Any, images: np.ndarray, targets: np.ndarray) -> Step:
        (loss, (logits, state)), gradients = self._train(params, state, images, targets)
        gradients = {path: np.asarray(gradient) for path, gradient in gradients.items()}
        return Step(np.asarray(logits), float(loss), gradients, self._flat(state))

    def loss(self, *arrays: Any, **options: float) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in self.workload.loss_fn(*arrays, **options).items()}


class Torch:
    """A PyTorch workload with numpy at its borders; parameters and running statistics are dicts by name."""

    def __init__(self, spec: Any) -> None:
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_imagenet.resnet.torch_model import ResNetTorch
        from algoperf_imagenet.vit.torch_model import VisionTransformerTorch

        is_resnet = isinstance(spec.model, ResNet)
        self.workload = (ResNetTorch if is_resnet else VisionTransformerTorch)(spec, TorchBackend())
        self.place = self.workload.backend.place_batch
        self._model = self.workload.build_model().to(self.workload.backend.device)

    def initial(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        model, model_state = self.workload.init_model_fn(np.array([0, seed], np.uint32))
        assert model_state is None
        return {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}, self._statistics(model)

    @staticmethod
    def _statistics(model: Any) -> dict[str, np.ndarray]:
        return {name: b.cpu().numpy().copy() for name, b in model.named_buffers() if "running" in name}

    def _forward(self, params: Any, state: Any, images: np.ndarray, mode: ForwardPassMode) -> Any:
        names = self._model.load_state_dict(self.place({**params, **state}), strict=False)
        assert all("num_batches_tracked" in name for name in (*names.missing_keys, *names.unexpected_keys))
        # A view, so that the memory keeps its order, as that of real batches.
        batch = {"inputs": self.place(images).permute(0, 3, 1, 2)}
        return self.workload.model_fn(self._model, batch, None, mode, None, mode is TRAIN, dropout_rate=0.0)[0]

    def evaluate(self, params: Any, state: Any, images: np.ndarray) -> np.ndarray:
        return self._forward(params, state, images, EVAL).detach().cpu().numpy()

    def train(self, params: Any, state: Any, images: np.ndarray, targets: np.ndarray) -> Step:
        self._model.zero_grad()
        logits = self._forward(params, state, images, TRAIN)
        loss = self.workload.loss_fn(self.place(targets), logits)
        mean = loss["summed"] / loss["n_valid_examples"]
        mean.backward()
        gradients = {name: p.grad.cpu().numpy() for name, p in self._model.named_parameters()}
        return Step(logits.detach().cpu().numpy(), mean.item(), gradients, self._statistics(self._model))

    def loss(self, *arrays: Any, **options: float) -> dict[str, np.ndarray]:
        arrays = [None if array is None else self.place(array) for array in arrays]
        return {name: value.cpu().numpy() for name, value in self.workload.loss_fn(*arrays, **options).items()}


@cache
def adapter(framework: Framework, name: str) -> Any:
    require(framework)
    return (Jax if framework is Framework.JAX else Torch)(SPECS[name])


@cache
def golden_parameters(framework: Framework, name: str) -> list[dict[str, Any]]:
    """Name, shape and type of each parameter. ResNets have the same ones."""
    short = "resnet" if name in RESNETS else name.removeprefix("imagenet_")
    return json.loads((GOLDEN / f"parameters_{short}_{framework}.json").read_text())


@cache
def golden(framework: Framework, name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / "models.json").read_text())[f"{name}_{framework}"]


@cache
def golden_logits(framework: Framework, name: str, what: str) -> np.ndarray:
    """Every seventh logit of "eval" or "train"; all of "loss", those that the losses were computed from."""
    return np.load(GOLDEN / "models_logits.npz")[f"{name}_{framework}_{what}"]


def hash_uniform(n: int, index: int) -> np.ndarray:
    """The goldens' pseudo-random numbers in [-1, 1), float32 [n]."""
    h = (np.arange(n, dtype=np.uint64) * 2654435761 + index * 40503 + 12345) & 0xFFFFFFFF
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = (h * 0x045D9F3B) & 0xFFFFFFFF
    h ^= h >> np.uint64(16)
    return (2 * (h / 2**32) - 1).astype(np.float32)


@cache
def golden_images() -> np.ndarray:
    return 2 * hash_uniform(2 * 224 * 224 * 3, 10_001).reshape(2, 224, 224, 3)


def filled(framework: Framework, index: int, shape: list[int], kind: str) -> np.ndarray:
    size = int(np.prod(shape))
    r = hash_uniform(size, index).reshape(shape)
    if kind.endswith("_SCALE"):
        return 1 + np.float32(0.1) * r
    if len(shape) == 1:
        return np.float32(0.1) * r
    fan = min(4096, size // shape[-1 if framework is Framework.JAX else 0])
    return np.float32(np.sqrt(3 / fan)) * r


def golden_state(name: str) -> dict[str, np.ndarray]:
    """Running statistics by JAX's path; of a vision transformer, none."""
    first = len(golden_parameters(Framework.JAX, name))
    state = {}
    for i, entry in enumerate(golden(Framework.JAX, name).get("model_state", [])):
        r = hash_uniform(entry["shape"][0], first + i)
        state[entry["name"]] = np.float32(0.1) * r if entry["name"].endswith("mean") else 1 + np.float32(0.5) * abs(r)
    return state


def golden_variables(framework: Framework, name: str, fill: Framework) -> tuple[Any, Any]:
    """Parameters and running statistics in a framework's layout, with a framework's fill."""
    entries = golden_parameters(fill, name)
    params = {e["name"]: filled(fill, i, e["shape"], e["type"]) for i, e in enumerate(entries)}
    if framework is fill is Framework.PYTORCH:
        return params, {}
    state = golden_state(name)
    if framework is Framework.PYTORCH:
        model = SPECS[name].model
        params = weights_of(name).jax_to_torch(model, params)
        state = resnet_weights.statistics_jax_to_torch(model, state) if state else {}
    return params, state


@cache
def golden_step(framework: Framework, name: str, fill: Framework) -> Step:
    """A training step by the fill's names and in its layout. Of each gradient, its norm and about 1000 entries."""
    params, state = golden_variables(framework, name, fill)
    step = adapter(framework, name).train(params, state, golden_images(), TARGETS)
    if framework is not fill:
        model = SPECS[name].model
        step.gradients = weights_of(name).torch_to_jax(model, step.gradients)
        if state:
            step.model_state = resnet_weights.statistics_torch_to_jax(model, step.model_state)
    step.gradients = {path: sampled(gradient) for path, gradient in step.gradients.items()}
    return step


def sampled(gradient: np.ndarray) -> np.ndarray:
    """The norm and, less would be too few and all too much memory, every n-th entry."""
    flat = gradient.ravel().astype(np.float64)
    return np.concatenate([[np.linalg.norm(flat)], flat[:2], flat[:: max(1, flat.size // 1000)]])


def deviation(actual: Any, expected: Any) -> float:
    """The largest difference, as a share of the largest expected magnitude."""
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


def is_relu(name: str) -> bool:
    return name in RESNETS and SPECS[name].model.activation == "relu"


@every_framework
@every_workload
def test_parameters_are_those_of_the_reference(framework: Framework, name: str) -> None:
    ours = adapter(framework, name).workload.parameters()
    assert [{key: p[key] for key in ("name", "shape", "type")} for p in ours] == golden_parameters(framework, name)
    assert {p["dtype"] for p in ours} == {"float32"}
    assert sum(int(np.prod(p["shape"])) for p in ours) == SIZES[name]


@every_case
def test_logits_in_evaluation(framework: Framework, name: str, fill: Framework) -> None:
    params, state = golden_variables(framework, name, fill)
    logits = adapter(framework, name).evaluate(params, state, golden_images())
    assert deviation(logits.ravel()[::7], golden_logits(fill, name, "eval")) < 5e-6


@every_case
def test_a_training_step(framework: Framework, name: str, fill: Framework) -> None:
    step, expected = golden_step(framework, name, fill), golden(fill, name)
    # Batch norm over two images amplifies rounding: see above.
    logits_bound = 2e-4 if is_relu(name) else 1e-4 if name in RESNETS else 5e-6
    norm_bound = 2e-2 if is_relu(name) else 2e-4 if name in RESNETS else 1e-5
    assert deviation(step.logits.ravel()[::7], golden_logits(fill, name, "train")) < logits_bound
    assert step.loss == pytest.approx(expected["train_loss"], rel=2e-5 if is_relu(name) else 2e-6)
    entries = golden_parameters(fill, name)
    assert step.gradients.keys() == {entry["name"] for entry in entries}
    # Gradients of keys' biases are zero but for rounding, so there is an absolute bound too.
    rounding = 1e-7 * expected["gradient_norm"]
    for entry, (norm, *first) in zip(entries, expected["gradients"], strict=True):
        gradient, bound = step.gradients[entry["name"]], norm_bound * norm + rounding
        assert abs(gradient[0] - norm) < bound, entry["name"]
        if not is_relu(name):
            np.testing.assert_allclose(gradient[1:3], first, rtol=0, atol=bound, err_msg=entry["name"])
    total = np.linalg.norm([gradient[0] for gradient in step.gradients.values()])
    assert total == pytest.approx(expected["gradient_norm"], rel=5e-3 if is_relu(name) else norm_bound / 2)


@pytest.mark.parametrize(("framework", "name", "fill"), [case for case in CASES if case[1] in RESNETS])
def test_a_training_step_moves_running_statistics(framework: Framework, name: str, fill: Framework) -> None:
    state, before = golden_step(framework, name, fill).model_state, golden_state(name)
    entries = golden(fill, name)["model_state"]
    assert state.keys() == {entry["name"] for entry in entries}
    for entry in entries:
        found, path = state[entry["name"]], entry["name"]
        assert list(found.shape) == entry["shape"]
        # A running variance moved by the unbiased variance would be off by up to 1e-3, at 98 values per channel.
        np.testing.assert_allclose(found[:2], entry["first"], rtol=5e-5, atol=2e-5, err_msg=path)
        assert found.mean() == pytest.approx(entry["mean"], rel=1e-5, abs=2e-6), path
        assert abs(found - before[path]).max() > 1e-3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_frameworks_are_one_function(name: str) -> None:
    jax, torch = (golden_step(framework, name, Framework.JAX) for framework in Framework)
    assert deviation(torch.logits, jax.logits) < (2e-4 if is_relu(name) else 1e-4 if name in RESNETS else 5e-6)
    assert torch.loss == pytest.approx(jax.loss, rel=2e-5 if is_relu(name) else 2e-6)
    assert torch.gradients.keys() == jax.gradients.keys()
    assert torch.model_state.keys() == jax.model_state.keys()
    for path, statistics in jax.model_state.items():
        assert deviation(torch.model_state[path], statistics) < 1e-4, path
    total = np.linalg.norm([gradient[0] for gradient in jax.gradients.values()])
    for path, gradient in jax.gradients.items():
        difference = np.linalg.norm((torch.gradients[path] - gradient)[1:])
        bound = (0.2 if is_relu(name) else 1e-3 if name in RESNETS else 1e-4) * np.linalg.norm(gradient[1:])
        assert difference < bound + 1e-7 * total, path


def random_variables(workload: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Parameters and running statistics of a JAX ResNet, float64, none of them trivial."""
    params, state = {}, {}
    for entry in workload.parameters():
        layer, _, leaf = entry["name"].rpartition("/")
        values = rng.standard_normal(entry["shape"])
        fan_in = np.prod(entry["shape"][:-1])
        params[entry["name"]] = float(leaf == "scale") + values * (fan_in**-0.5 if leaf == "kernel" else 0.1)
        if leaf == "scale":
            state[f"batch_stats/{layer}/mean"] = 0.1 * rng.standard_normal(entry["shape"])
            state[f"batch_stats/{layer}/var"] = 1 + rng.random(entry["shape"])
    return params, state


@pytest.mark.parametrize("size", [32, 37])
def test_relu_networks_are_one_function(size: int) -> None:
    """In float64, where no rounding moves a value over ReLU's kink; sizes of the stages are even, or odd."""
    for framework in Framework:
        require(framework)
    import jax
    import torch

    rng = np.random.default_rng(1)
    model = ResNet(stage_sizes=(2, 1, 1), width=8, num_classes=5)
    images, targets = rng.standard_normal((3, size, size, 3)), np.array([0, 4, 2])
    jax_adapter, torch_adapter = (one(replace(IMAGENET_RESNET, model=model)) for one in (Jax, Torch))
    params, state = random_variables(jax_adapter.workload, rng)
    with jax.enable_x64(True):
        evaluated = jax_adapter.evaluate(params, state, images)
        expected = jax_adapter.train(params, state, images, targets)
    assert expected.logits.dtype == np.float64

    torch_adapter._model.to(torch.float64)
    torch_params = resnet_weights.jax_to_torch(model, params)
    torch_state = resnet_weights.statistics_jax_to_torch(model, state)
    assert deviation(torch_adapter.evaluate(torch_params, torch_state, images), evaluated) < 1e-12
    found = torch_adapter.train(torch_params, torch_state, images, targets)
    assert deviation(found.logits, expected.logits) < 1e-12
    gradients = resnet_weights.torch_to_jax(model, found.gradients)
    for path, gradient in expected.gradients.items():
        assert deviation(gradients[path], gradient) < 1e-10, path
    statistics = resnet_weights.statistics_torch_to_jax(model, found.model_state)
    for path, array in expected.model_state.items():
        assert deviation(statistics[path], array) < 1e-12, path


LOSSES = ["nomask_ls0.0", "nomask_ls0.1", "mask10_ls0.0", "mask10_ls0.1", "mixup_soft_labels_0.7_0.3_ls0.1"]


@every_framework
@pytest.mark.parametrize("key", LOSSES)
def test_losses(framework: Framework, key: str) -> None:
    one_hot = np.eye(1000, dtype=np.float32)[TARGETS]
    mixed = np.float32(0.7) * one_hot + np.float32(0.3) * np.roll(one_hot, 1, axis=0)
    labels = mixed if key.startswith("mixup") else TARGETS
    mask = np.array([1, 0], np.float32) if key.startswith("mask10") else None
    logits = golden_logits(framework, "imagenet_vit", "loss")
    loss = adapter(framework, "imagenet_vit").loss(labels, logits, mask, label_smoothing=float(key[-3:]))
    expected = golden(framework, "imagenet_vit")["losses"][key]
    assert loss["summed"] == pytest.approx(expected["summed"], rel=1e-6)
    assert loss["n_valid_examples"] == expected["n_valid_examples"]
    np.testing.assert_allclose(loss["per_example"], expected["per_example"], rtol=1e-6)
    assert {array.dtype for array in loss.values()} == {np.dtype(np.float32)}


def expected_initial(name: str, path: str, shape: tuple[int, ...]) -> tuple[str, float]:
    """The distribution of a parameter, by JAX's path and shape, and its one number."""
    *_, block, layer, leaf = ("", "", *path.split("/"))
    inputs, outputs = int(np.prod(shape[:-1])), shape[-1]
    if "norm" in layer.lower():
        is_last = layer == "BatchNorm_2" and leaf == "scale"
        return "constant", SPECS[name].model.last_norm_scale if is_last else float(leaf == "scale")
    if leaf == "probe":
        return "uniform", (6 / (1 + 384)) ** 0.5
    if leaf == "bias":
        return ("normal", 1e-6) if block.startswith("Mlp") else ("constant", 0)
    if layer == "head":
        return "constant", 0
    if layer == "Dense_0" and name in RESNETS:
        return "normal", 0.01
    if layer in ("query", "key", "value", "out"):
        return "uniform", (6 / (384 + 384)) ** 0.5
    if block.startswith("Mlp"):
        return "uniform", (6 / (inputs + outputs)) ** 0.5
    assert layer.lower().startswith("conv") or layer == "pre_logits"
    return "cut normal", inputs**-0.5


# The other variants draw nothing that these do not.
INITIALISED = ["imagenet_resnet", "imagenet_resnet_large_bn_init", "imagenet_vit_glu", "imagenet_vit_map"]


@every_framework
@pytest.mark.parametrize("name", INITIALISED)
def test_initial_values(framework: Framework, name: str) -> None:
    require(framework)
    # A model with all kinds and sizes of layers, but fewer of each: it is compiled in a fraction of the time.
    full = SPECS[name].model
    model = replace(full, stage_sizes=(1, 1, 1, 1)) if name in RESNETS else replace(full, depth=2)
    make = Jax if framework is Framework.JAX else Torch
    params, state = make(replace(SPECS[name], model=model)).initial(seed=1)
    if framework is Framework.PYTORCH:
        params = weights_of(name).torch_to_jax(model, params)
        state = resnet_weights.statistics_torch_to_jax(model, state) if state else {}
    for path, value in params.items():
        check_distribution(value, *expected_initial(name, path, value.shape), path)
    for path, value in state.items():
        assert (value == (0 if path.endswith("mean") else 1)).all(), path
    assert bool(state) == (name in RESNETS)


def check_distribution(value: np.ndarray, kind: str, number: float, path: str) -> None:
    if kind == "constant":
        assert (value == number).all(), path
        return
    sigma = number / 3**0.5 if kind == "uniform" else number
    # Six standard errors of a mean and of a standard deviation over the entries.
    error = 6 * sigma / value.size**0.5
    assert abs(value.mean()) < error, path
    assert abs(value.std() - sigma) < error, path
    largest = {"normal": 7 * sigma, "uniform": number * (1 + 1e-6), "cut normal": 2 * sigma / 0.8796}[kind]
    assert abs(value).max() <= largest, path
    # Of a distribution with an end, some of many entries come near to it.
    enough = {"uniform": 300}.get(kind, 1000)
    assert kind == "normal" or value.size < enough or abs(value).max() > 0.9 * largest, path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_weights_travel_both_ways(name: str) -> None:
    model, weights = SPECS[name].model, weights_of(name)
    params, state = golden_variables(Framework.JAX, name, Framework.JAX)
    travelled = weights.jax_to_torch(model, params)
    shapes = {entry["name"]: tuple(entry["shape"]) for entry in golden_parameters(Framework.PYTORCH, name)}
    assert {key: array.shape for key, array in travelled.items()} == shapes
    back = weights.torch_to_jax(model, travelled)
    assert back.keys() == params.keys()
    assert all(np.array_equal(params[path], back[path]) for path in params)
    missing = next(iter(params))
    with pytest.raises(ValueError, match=f"the first that differ: {missing}"):
        weights.jax_to_torch(model, {path: array for path, array in params.items() if path != missing})
    with pytest.raises(ValueError, match="the first that differ: more"):
        weights.torch_to_jax(model, travelled | {"more": np.zeros(1)})
    if state:
        there = resnet_weights.statistics_jax_to_torch(model, state)
        counted = there | {"bn1.num_batches_tracked": np.array(3)}
        back = resnet_weights.statistics_torch_to_jax(model, counted)
        assert back.keys() == state.keys()
        assert all(np.array_equal(state[path], back[path]) for path in state)
