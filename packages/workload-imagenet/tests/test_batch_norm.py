"""Batch norm: which statistics normalise, which move, and that devices do not matter."""

import copy
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.frameworks import BOTH, require
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET, IMAGENET_RESNET_SILU

TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
MINI = IMAGENET_RESNET.at(Scale.MINI)
SCRIPT = Path(__file__).parent / "run_batch_norm.py"

every_framework = pytest.mark.parametrize("framework", BOTH)


def images(seed: int = 0, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 2, (size, 28, 28, 3)).astype(np.float32)


class Jax:
    """The JAX workload with fresh parameters; `statistics` are the stem's running mean and variance."""

    def __init__(self) -> None:
        import jax

        from algoperf.backends.jax import JaxBackend
        from algoperf_imagenet.resnet.jax_model import ResNetJax

        self.workload = ResNetJax(MINI, JaxBackend())
        self.params, self.state = self.workload.init_model_fn(jax.random.key(0))
        self._forward = jax.jit(self.workload.model_fn, static_argnums=(3, 4, 5, 7))

    def forward(self, pictures: np.ndarray, mode: Any, update: bool, use_running: bool | None = None) -> np.ndarray:
        batch = {"inputs": pictures}
        logits, self.state = self._forward(self.params, batch, self.state, mode, None, update, None, use_running)
        return np.asarray(logits)

    @property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        stem = self.state["batch_stats"]["BatchNorm_init"]
        return np.asarray(stem["mean"]), np.asarray(stem["var"])

    def all_statistics(self) -> dict[str, np.ndarray]:
        from flax.traverse_util import flatten_dict

        return {path: np.asarray(leaf) for path, leaf in flatten_dict(self.state, sep="/").items()}

    def stem(self, pictures: np.ndarray) -> np.ndarray:
        """What the stem's batch norm is given, [N, C]."""
        from flax import linen as nn

        conv = nn.Conv(MINI.model.width, (7, 7), 2, padding=3, use_bias=False)
        return np.asarray(conv.apply({"params": self.params["Conv_init"]}, pictures)).reshape(-1, MINI.model.width)


class Torch:
    """The same in PyTorch."""

    def __init__(self) -> None:
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_imagenet.resnet.torch_model import ResNetTorch

        self.workload = ResNetTorch(MINI, TorchBackend())
        self.model, _ = self.workload.init_model_fn(np.zeros(2, np.uint32))

    def place(self, pictures: np.ndarray) -> Any:
        return self.workload.backend.place_batch(pictures).permute(0, 3, 1, 2)

    def forward(self, pictures: np.ndarray, mode: Any, update: bool) -> np.ndarray:
        batch = {"inputs": self.place(pictures)}
        logits, model_state = self.workload.model_fn(self.model, batch, None, mode, None, update)
        assert model_state is None
        return logits.detach().cpu().numpy()

    @property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        norm = self.model.bn1
        return norm.running_mean.cpu().numpy().copy(), norm.running_var.cpu().numpy().copy()

    def all_statistics(self) -> dict[str, np.ndarray]:
        return {name: buffer.cpu().numpy().copy() for name, buffer in self.model.named_buffers()}

    def stem(self, pictures: np.ndarray) -> np.ndarray:
        """What the stem's batch norm is given, [N, C]."""
        y = self.model.conv1(self.place(pictures)).detach().cpu().numpy()
        return y.transpose(0, 2, 3, 1).reshape(-1, MINI.model.width)


@cache
def compiled_once() -> Jax:
    return Jax()


def make(framework: Framework) -> Any:
    require(framework)
    # JAX's parameters and statistics are never changed in place, so a shallow copy is a fresh one.
    return copy.copy(compiled_once()) if framework is Framework.JAX else Torch()


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


@every_framework
def test_mode_and_update_decide_on_statistics(framework: Framework) -> None:
    """What normalises is seen in logits: whether they depend on the other images of the batch."""
    model, first, other = make(framework), images(0), images(1)
    joined = np.concatenate([first[:1], other[1:]])
    fresh = model.all_statistics()

    still = model.forward(first, TRAIN, False)
    assert same(model.all_statistics(), fresh)
    moved = model.forward(first, TRAIN, True)
    after = model.all_statistics()
    assert not any(np.array_equal(fresh[name], after[name]) for name in fresh)
    assert {n: (a.shape, a.dtype) for n, a in fresh.items()} == {n: (a.shape, a.dtype) for n, a in after.items()}

    # Batch statistics normalise in training, whether or not they move the running ones.
    np.testing.assert_allclose(still, moved, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.forward(first, TRAIN, False), moved, rtol=0, atol=1e-6)
    assert abs(model.forward(joined, TRAIN, False)[0] - moved[0]).max() > 1e-3
    # Running ones normalise in evaluation, and stay as they are.
    evaluated = model.forward(first, EVAL, False)
    np.testing.assert_allclose(model.forward(joined, EVAL, False)[0], evaluated[0], rtol=0, atol=1e-5)
    assert abs(evaluated - moved).max() > 1e-3
    assert same(model.all_statistics(), after)
    with pytest.raises(ValueError, match="EVAL mode"):
        model.forward(first, EVAL, True)
    assert same(model.all_statistics(), after)


@every_framework
def test_running_statistics_follow_the_batch(framework: Framework) -> None:
    model = make(framework)
    mean, variance = np.zeros(MINI.model.width), np.ones(MINI.model.width)
    for seed in range(3):
        # One image, so that biased and unbiased variance differ by 1/196.
        values = model.stem(images(seed, size=1)).astype(np.float64)
        model.forward(images(seed, size=1), TRAIN, True)
        mean, variance = 0.9 * mean + 0.1 * values.mean(axis=0), 0.9 * variance + 0.1 * values.var(axis=0)
        np.testing.assert_allclose(model.statistics[0], mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(model.statistics[1], variance, rtol=1e-5)


@pytest.mark.parametrize(
    ("use_running", "mode", "update"), [(True, TRAIN, True), (True, TRAIN, False), (True, EVAL, False)]
)
def test_running_statistics_may_be_demanded(use_running: bool, mode: ForwardPassMode, update: bool) -> None:
    model = make(Framework.JAX)
    model.forward(images(0), TRAIN, True)
    before, evaluated = model.all_statistics(), model.forward(images(1), EVAL, False)
    np.testing.assert_allclose(model.forward(images(1), mode, update, use_running), evaluated, rtol=0, atol=1e-6)
    assert same(model.all_statistics(), before)


def test_batch_statistics_may_be_demanded() -> None:
    model = make(Framework.JAX)
    before, trained = model.all_statistics(), model.forward(images(1), TRAIN, False)
    np.testing.assert_allclose(model.forward(images(1), EVAL, False, False), trained, rtol=0, atol=1e-6)
    assert same(model.all_statistics(), before)


@pytest.mark.parametrize("mode", ForwardPassMode)
def test_a_state_that_need_not_move_is_returned_as_it_is(mode: ForwardPassMode) -> None:
    model = make(Framework.JAX)
    import jax

    states = []

    def logits(pictures: Any) -> Any:
        logits, state = model.workload.model_fn(
            model.params, {"inputs": pictures}, model.state, mode, None, update_batch_norm=False
        )
        states.append(state)
        return logits

    jax.eval_shape(logits, images())
    assert states[0] is model.state


def test_a_module_moves_its_statistics_unless_told_otherwise() -> None:
    model = make(Framework.PYTORCH)
    fresh = model.all_statistics()
    model.model(model.place(images()))
    assert not same(model.all_statistics(), fresh)
    # An error within a pass that moves nothing must not keep later ones from moving.
    before = model.all_statistics()
    wrong = {"inputs": model.place(images()).double()}
    with pytest.raises(RuntimeError):
        model.workload.model_fn(model.model, wrong, None, TRAIN, None, False)
    assert same(model.all_statistics(), before)
    model.model(model.place(images()))
    assert not same(model.all_statistics(), before)


def test_statistics_travel_with_a_module() -> None:
    model = make(Framework.PYTORCH)
    model.forward(images(), TRAIN, True)
    twin = copy.deepcopy(model.model)
    fresh = model.workload.build_model()
    fresh.load_state_dict(model.model.state_dict())
    expected = model.forward(images(1), EVAL, False)
    for other in (twin, fresh):
        other.eval()
        np.testing.assert_array_equal(other(model.place(images(1))).detach().numpy(), expected)


def test_a_module_is_one_of_torch() -> None:
    """Submissions look for batch norms by class, and read and set these attributes."""
    model = make(Framework.PYTORCH)
    import torch

    norms = [module for module in model.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 1 + 3 * 4
    for norm in norms:
        assert (norm.momentum, norm.eps) == (0.1, 1e-5)
        assert norm.running_var.shape == norm.weight.shape
        norm.momentum = 0.0
    fresh = model.statistics
    model.forward(images(), TRAIN, True)
    np.testing.assert_array_equal(model.statistics, fresh)
    assert norms[0].num_batches_tracked == 1


def test_a_compiled_module_moves_its_statistics() -> None:
    model, compiled = make(Framework.PYTORCH), make(Framework.PYTORCH)
    import torch

    compiled.model = torch.compile(compiled.model, backend="aot_eager")
    for update in (True, False, True):
        expected = model.forward(images(2), TRAIN, update)
        np.testing.assert_allclose(compiled.forward(images(2), TRAIN, update), expected, rtol=0, atol=1e-5)
        found = compiled.all_statistics()
        for name, statistics in model.all_statistics().items():
            np.testing.assert_allclose(found[f"_orig_mod.{name}"], statistics, rtol=1e-5, atol=1e-6)
    expected = model.forward(images(2), EVAL, False)
    np.testing.assert_allclose(compiled.forward(images(2), EVAL, False), expected, rtol=0, atol=1e-5)


@pytest.fixture
def alone_in_a_group(tmp_path, monkeypatch):
    """A group of one process, which takes the path of several."""
    require(Framework.PYTORCH)
    import torch.distributed as dist

    from algoperf_imagenet.resnet import batch_norm

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    monkeypatch.setattr(batch_norm, "_has_other_processes", lambda: True)
    yield batch_norm
    dist.destroy_process_group()


def test_the_path_of_several_processes_is_the_same_function(alone_in_a_group, monkeypatch) -> None:
    import torch

    torch.manual_seed(0)
    # Far from zero, where a careless variance loses its digits.
    x = (torch.randn(3, 5, 4, 6) + 100).to(memory_format=torch.channels_last)
    norm = alone_in_a_group.BatchNorm2d(5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    twin, slope = copy.deepcopy(norm), torch.randn(x.shape)
    results = []
    for module, is_alone in ((norm, False), (twin, True)):
        if is_alone:
            monkeypatch.undo()
        inputs = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = module(inputs)
        assert y.is_contiguous(memory_format=torch.channels_last)
        (y * slope).sum().backward()
        results.append((y, inputs.grad, module.weight.grad, module.bias.grad, module.running_mean, module.running_var))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert norm.num_batches_tracked == twin.num_batches_tracked == 1


def test_gradients_of_the_path_of_several_processes(alone_in_a_group) -> None:
    import torch
    from torch.func import functional_call

    torch.manual_seed(0)
    norm = alone_in_a_group.BatchNorm2d(2).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def function(x: Any, weight: Any, bias: Any) -> Any:
        return functional_call(norm, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(function, (x, weight, bias))
    # Second derivatives would miss the other processes' part; they are refused and not wrong.
    (gradient,) = torch.autograd.grad(function(x, weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_the_path_of_several_processes_takes_short_types(alone_in_a_group) -> None:
    """As under automatic mixed precision: statistics are not computed from rounded values' rounded sums."""
    import torch

    torch.manual_seed(0)
    x = (torch.randn(4, 3, 8, 8) + 3).bfloat16().requires_grad_()
    norm = alone_in_a_group.BatchNorm2d(3)
    y = norm(x)
    y.square().sum().backward()
    assert y.dtype is x.grad.dtype is torch.bfloat16
    expected = 0.1 * x.detach().double().mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean.double(), expected, rtol=1e-6, atol=0)


def step_on_devices(framework: Framework, path: Path, devices: int, sizes: str) -> dict[str, np.ndarray]:
    """Logits, gradients and running statistics of one training step, from a process of its own or several."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(SCRIPT), framework.value, str(path), sizes]
    if framework is Framework.JAX:
        environment |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        if devices > 1:
            command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(devices), *command]
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(np.load(path))


DIVISIONS = {Framework.JAX: ["8", "4,4", "2,2,2,2"], Framework.PYTORCH: ["8", "4,4", "5,3"]}


@every_framework
@pytest.mark.timeout(600)
def test_a_step_does_not_depend_on_the_number_of_devices(framework: Framework, tmp_path: Path) -> None:
    require(framework)
    assert IMAGENET_RESNET_SILU.mini is not None
    one, *others = (
        step_on_devices(framework, tmp_path / f"{i}.npz", sizes.count(",") + 1, sizes)
        for i, sizes in enumerate(DIVISIONS[framework])
    )
    assert {name.partition("/")[0] for name in one} == {"logits", "gradients", "state"}
    for other in others:
        assert other.keys() == one.keys()
        for name, array in one.items():
            # Sums in another order; statistics of a part of the batch would be off by a tenth.
            assert np.linalg.norm(other[name] - array) < 2e-5 * np.linalg.norm(array), name
