"""The part that `submission.py` imports by its whole name, as Muon submissions do."""

import torch


# Compiled, as in those; "eager" needs no compiler.
@torch.compile(backend="eager")
def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """Singular values nearer to 1, by five cubic Newton-Schulz steps (Higham, "Functions of Matrices", section 8.3)."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                momentum = state.setdefault("momentum", torch.zeros_like(p))
                momentum.mul_(0.9).add_(p.grad)
                p.add_(orthogonalized(momentum), alpha=-group["lr"])
