"""Distributed Shampoo in PyTorch; the rule and its sources are in `blocks`.

Our own, because torch has none, and what packages exist (pytorch-optimizer 4.1, heavyball 3.2) follows other rules, of
which none exists in JAX.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.shampoo.blocks import BLOCK_SIZE, EPSILON, ROOT_PERIOD_STEPS, START_STEP, Blocks, devices_of

__all__ = ["Shampoo", "data_selection", "get_batch_size", "init_optimizer_state", "inverse_root", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Shampoo; all parameters decay."""
    optimizer = Shampoo(
        model_params.parameters(),
        lr=hyperparameters.learning_rate,
        betas=(1.0 - hyperparameters.one_minus_beta1, hyperparameters.beta2),
        eps=1e-8,
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, workload, hyperparameters)


class Shampoo(torch.optim.Optimizer):
    """Shampoo, with the arguments of `torch.optim.AdamW`, and the constants of `blocks`.

    The state of a parameter is `step`, the number of its updates; `mu` and `nu`, its moments; and the lists
    `statistics` and `roots` of float32 [blocks, size, size], one for each preconditioned dimension; roots are 0 until
    there are some.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        block_size: int = BLOCK_SIZE,
        start_step: int = START_STEP,
        root_period_steps: int = ROOT_PERIOD_STEPS,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        defaults |= {"block_size": block_size, "start_step": start_step, "root_period_steps": root_period_steps}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of all parameters that have a gradient; returns what `closure` returns."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        params = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for param, group in params:
            self._accumulate(param, group)
        _renew_roots([self.state[param] for param, group in params if _is_due(self.state[param], group)])
        for param, group in params:
            param.mul_(1 - group["lr"] * group["weight_decay"])
            param.sub_(self._direction(param, group), alpha=group["lr"])
        return loss

    def _accumulate(self, param: torch.Tensor, group: dict[str, Any]) -> None:
        """Takes the gradient of a parameter into its moments and statistics."""
        blocks, state, grad = Blocks.of(param.shape, group["block_size"]), self.state[param], param.grad
        assert grad is not None
        if not state:
            state.update(step=0, mu=torch.zeros_like(param), nu=torch.zeros_like(param))
            state.update({name: [param.new_zeros(s) for s in blocks.statistics] for name in ("statistics", "roots")})
        state["step"] += 1
        b1, b2 = group["betas"]
        state["mu"].lerp_(grad, 1 - b1)
        state["nu"].mul_(b2).addcmul_(grad, grad, value=1 - b2)
        for statistics, axis in zip(state["statistics"], blocks.axes, strict=True):
            rows = _as_rows(_split(grad, blocks), axis)
            statistics.lerp_(rows @ rows.mT, 1 - b2)

    def _direction(self, param: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """The direction of the update of a parameter, which has its shape."""
        blocks, state = Blocks.of(param.shape, group["block_size"]), self.state[param]
        momentum, graft = _nadam(state, param.grad, group)
        if not blocks.axes or state["step"] < group["start_step"]:
            return graft
        direction = _split(momentum, blocks)
        for axis, root in zip(blocks.axes, state["roots"], strict=True):
            direction = _multiply(root, direction, axis)
        return _join(_with_norm_of(_split(graft, blocks), direction), blocks).view_as(param)


def _nadam(
    state: dict[str, Any], grad: torch.Tensor | None, group: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The momentum, as it will be if the next gradient is this one again, and the direction of NAdamW."""
    b1, b2 = group["betas"]
    momentum = state["mu"].lerp(grad, 1 - b1)
    deviation = (state["nu"] / (1 - b2 ** state["step"])).sqrt_()
    return momentum, momentum / (1 - b1 ** state["step"]) / (deviation + group["eps"])


def _is_due(state: dict[str, Any], group: dict[str, Any]) -> bool:
    """Whether it is time for the roots of a parameter."""
    steps: int = state["step"] - group["start_step"]
    return steps >= 0 and steps % group["root_period_steps"] == 0


def _renew_roots(states: list[dict[str, Any]]) -> None:
    """The roots of all statistics of some parameters, of which each process computes its own."""
    rank, num_processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    stacks = [
        (roots.zero_(), statistics, 2 * len(state["roots"]))
        for state in states
        for roots, statistics in zip(state["roots"], state["statistics"], strict=True)
    ]
    devices = devices_of([roots.shape for roots, *_ in stacks], num_processes)
    for (roots, statistics, p), owners in zip(stacks, devices, strict=True):
        for block, owner in enumerate(owners):
            if owner == rank:
                roots[block] = inverse_root(statistics[block], p)
    if dist.is_initialized():
        for roots, *_ in stacks:
            dist.all_reduce(roots)


def inverse_root(matrices: torch.Tensor, p: int) -> torch.Tensor:
    """(L / largest eigenvalue of L + EPSILON I)^(-1 / p) of symmetric matrices, float32 [..., n, n].

    Of a matrix that is 0, or has entries that are not finite, it is a multiple of I.
    """
    tiny = torch.finfo(matrices.dtype).tiny
    matrices = matrices.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    row_sum = matrices.abs().sum(dim=-1).amax(dim=-1)[..., None, None]
    # The EPSILON is taken off again: eigh of some libraries fails where all of a part of a matrix is next to 0.
    shifted = matrices / row_sum.clamp(min=tiny) + EPSILON * torch.eye(matrices.shape[-1], device=matrices.device)
    values, vectors = torch.linalg.eigh(shifted)
    values = (values - EPSILON).clamp(min=0.0)
    powers = (values / values[..., -1:].clamp(min=tiny) + EPSILON) ** (-1 / p)
    return (vectors * powers[..., None, :]) @ vectors.mT


def _split(x: torch.Tensor, blocks: Blocks) -> torch.Tensor:
    """The blocks of a parameter, [blocks, *sizes]."""
    # From the last dimension to the first.
    padding = [n for before, after in zip(blocks.shape[::-1], blocks.padded[::-1]) for n in (0, after - before)]
    nested = F.pad(x.reshape(blocks.shape), padding).reshape(blocks.nested)
    return nested.permute(blocks.outside_in).reshape(-1, *blocks.sizes)


def _join(x: torch.Tensor, blocks: Blocks) -> torch.Tensor:
    """The inverse of `_split`."""
    nested = x.reshape(*blocks.counts, *blocks.sizes).permute(blocks.inside_out)
    return nested.reshape(blocks.padded)[tuple(slice(size) for size in blocks.shape)]


def _as_rows(x: torch.Tensor, axis: int) -> torch.Tensor:
    """[blocks, *sizes] as matrices whose rows are a dimension of the blocks."""
    return x.movedim(axis + 1, 1).flatten(start_dim=2)


def _multiply(root: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Multiplies [blocks, *sizes] by a matrix for each block, along a dimension of the blocks."""
    moved = x.movedim(axis + 1, 1).shape
    return (root @ _as_rows(x, axis)).reshape(moved).movedim(1, axis + 1)


def _with_norm_of(graft: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The direction of each block, as long as the graft; the graft itself where it has none."""
    within = tuple(range(1, graft.ndim))
    length, wanted = (torch.linalg.vector_norm(x, dim=within, keepdim=True) for x in (direction, graft))
    return torch.where(length > 0, direction * (wanted / length), graft)
