"""Muon in PyTorch; the rule and its sources are in the package."""

from collections.abc import Iterable
from typing import Any

import torch

from algoperf import spec
from algoperf_baselines._pytorch import data_selection, initial_state, update_params
from algoperf_baselines._pytorch_optimizer import Optimizer, State, Tensors, adam_denominators
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.muon import COEFFICIENTS, EPS, MATRIX_TYPES, NUM_ITERATIONS, RMS

__all__ = ["Muon", "data_selection", "get_batch_size", "init_optimizer_state", "update_params"]

# Parts of the names of parameters that are several matrices with the same inputs; in JAX each is an array.
_STACKED = {"in_proj.": 3, "kv_proj.": 2, "lstm.": 4}
# Kernels of transposed convolutions have the inputs first.
_TRANSPOSED = "transpose_"


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Muon; all parameters decay."""
    optimizer = Muon(
        param_groups(workload, model_params),
        lr=hyperparameters.learning_rate,
        betas=(1.0 - hyperparameters.one_minus_beta1, hyperparameters.beta2),
        weight_decay=hyperparameters.weight_decay,
    )
    return initial_state(optimizer, workload, hyperparameters)


def param_groups(workload: spec.Workload, model_params: torch.nn.Module) -> list[dict[str, Any]]:
    """Groups of parameters: by the number of matrices in each, 0 where it is none, and the axis of outputs."""
    groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
    kinds = workload.model_params_types
    # In this order, because DDP changes the names.
    for (name, kind), param in zip(kinds.items(), model_params.parameters(), strict=True):
        is_matrix = kind in MATRIX_TYPES and param.ndim >= 2 and not workload.is_output_params(name)
        stacked = next((count for part, count in _STACKED.items() if part in name), 1)
        groups.setdefault((stacked if is_matrix else 0, int(_TRANSPOSED in name)), []).append(param)
    return [{"params": params, "num_matrices": count, "output_axis": axis} for (count, axis), params in groups.items()]


class Muon(Optimizer):
    """Muon as in optax. `torch.optim.Muon` takes no convolutions, computes in bfloat16 and corrects no bias.

    Groups of parameters say `num_matrices`, in how many matrices their `output_axis` is to be divided; 0 for NAdamW.
    """

    is_elementwise = False

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def first_state(self, param: torch.Tensor) -> State:
        """The momentum; the second moment comes with the first update that needs it."""
        return {"mu": torch.zeros_like(param)}

    def update(self, params: Tensors, grads: Tensors, states: list[State], group: dict[str, Any]) -> None:
        """One step of the rule."""
        lr, (b1, b2) = group["lr"], group["betas"]
        mu, steps = [state["mu"] for state in states], [state["step"] for state in states]
        torch._foreach_lerp_(mu, grads, 1 - b1)
        ahead = torch._foreach_mul(mu, [b1 / (1 - b1 ** (step + 1)) for step in steps])
        torch._foreach_add_(ahead, torch._foreach_mul(grads, [(1 - b1) / (1 - b1**step) for step in steps]))
        if group["num_matrices"]:
            updates = [orthogonal(x, group["num_matrices"], group["output_axis"]) for x in ahead]
        else:
            for state in states:
                state.setdefault("nu", torch.zeros_like(state["mu"]))
            denominators, corrections = adam_denominators(grads, states, b2, EPS)
            updates = list(torch._foreach_div(ahead, denominators))
            torch._foreach_mul_(updates, corrections)
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_add_(params, updates, alpha=-lr)


def orthogonal(x: torch.Tensor, num_matrices: int, output_axis: int) -> torch.Tensor:
    """A kernel of any shape, as `num_matrices` matrices that are made orthogonal and brought to the size of AdamW's."""
    outputs_first = x.movedim(output_axis, 0)
    matrices = outputs_first.reshape(num_matrices, outputs_first.shape[0] // num_matrices, -1)
    size = RMS * max(matrices.shape[1:]) ** 0.5
    return (size * newton_schulz(matrices)).reshape(outputs_first.shape).movedim(0, output_axis)


def newton_schulz(x: torch.Tensor) -> torch.Tensor:
    """About U V^T for each of the matrices U S V^T, float32 [number, rows, columns]; zeros for zeros."""
    if x.shape[1] > x.shape[2]:
        return newton_schulz(x.mT).mT
    a, b, c = COEFFICIENTS
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPS)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
