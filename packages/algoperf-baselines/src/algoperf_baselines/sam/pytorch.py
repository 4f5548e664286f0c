"""Sharpness-aware minimization (SAM) around NAdamW in PyTorch.

Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", arXiv 2010.01412,
algorithm 1: the gradients are those at w + rho g / |g|, where g are the gradients at w, of the global batch.
"""

from functools import partial

import torch

from algoperf import spec
from algoperf_baselines import _pytorch
from algoperf_baselines._pytorch import Backward, LossAndState, data_selection
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.nadamw.pytorch import init_optimizer_state

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "take_gradients", "update_params"]


def take_gradients(backward: Backward, params: torch.nn.Module, hyperparameters: spec.Hyperparameters) -> LossAndState:
    """Leaves the gradients of SAM in the parameters; returns the mean loss and the model state without ascent.

    Both passes drop out the same. The second leaves the statistics of batch norm alone.
    """
    device = next(params.parameters()).device
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        loss_and_state = backward(True)
    moved: list[torch.Tensor] = [p.detach() for p in params.parameters() if p.grad is not None]
    gradients = [p.grad for p in params.parameters() if p.grad is not None]
    starts = [p.clone() for p in moved]
    # As in optax, also where all gradients are 0.
    scale = hyperparameters.rho / (torch.nn.utils.get_total_norm(gradients) + 1e-12)
    torch._foreach_add_(moved, list(torch._foreach_mul(gradients, scale)))
    backward(False)
    torch._foreach_copy_(moved, starts)
    return loss_and_state


update_params = partial(_pytorch.update_params, take_gradients=take_gradients)
