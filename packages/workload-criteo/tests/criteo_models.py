"""The workload in each framework with numpy at its borders, and parameters as a flat dict."""

from typing import Any

import numpy as np

from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, WorkloadSpec
from algoperf.testing.frameworks import require

Arrays = dict[str, np.ndarray]


class Jax:
    """In JAX, compiled; the dropout rate is traced."""

    def __init__(self, spec: WorkloadSpec) -> None:
        import jax

        from algoperf.backends.jax import JaxBackend
        from algoperf_criteo.jax_workload import CriteoJax

        self.workload = CriteoJax(spec, JaxBackend())
        self._forward = jax.jit(self._logits, static_argnames="mode")
        self._train = jax.jit(jax.value_and_grad(self._mean_loss, has_aux=True))

    def initial(self, seed: int) -> Arrays:
        """Fresh parameters."""
        import jax
        from flax.traverse_util import flatten_dict

        params, model_state = self.workload.init_model_fn(random_key(seed))
        assert model_state is None
        return jax.tree.map(np.array, flatten_dict(params, sep="/"))

    def _logits(self, params: Any, batch: Any, mode: ForwardPassMode, rate: Any, seed: Any) -> Any:
        import jax
        from flax.traverse_util import unflatten_dict

        params = unflatten_dict(params, sep="/")
        return self.workload.model_fn(params, batch, None, mode, jax.random.key(seed), True, dropout_rate=rate)[0]

    def _mean_loss(self, params: Any, batch: Any) -> Any:
        logits = self._logits(params, batch, ForwardPassMode.TRAIN, 0.0, 0)
        loss = self.workload.loss_fn(batch["targets"], logits)
        return loss["summed"] / loss["n_valid_examples"], logits

    def forward(
        self, params: Arrays, batch: Arrays, mode: ForwardPassMode, rate: float | None = None, seed: int = 0
    ) -> np.ndarray:
        return np.asarray(self._forward(params, batch, mode=mode, rate=rate, seed=seed))

    def train(self, params: Arrays, batch: Arrays) -> tuple[np.ndarray, float, Arrays]:
        """Logits, mean loss and gradients without dropout; in float64 if the arrays are."""
        import jax

        with jax.enable_x64(batch["inputs"].dtype == np.float64):
            (loss, logits), gradients = self._train(params, batch)
        return np.asarray(logits), float(loss), jax.tree.map(np.asarray, gradients)

    def loss(self, *arrays: Any, **options: Any) -> Arrays:
        return {key: np.asarray(value) for key, value in self.workload.loss_fn(*arrays, **options).items()}

    def after_sgd(self, params: Arrays, batch: Arrays) -> tuple[Arrays, Arrays]:
        """Gradients, and the parameters after a step of plain SGD."""
        import jax
        import optax

        optimizer = optax.sgd(0.1)
        gradients = self.train(params, batch)[2]
        updates, _ = optimizer.update(gradients, optimizer.init(params))
        return gradients, jax.tree.map(np.asarray, optax.apply_updates(params, updates))


class Torch:
    """In PyTorch."""

    def __init__(self, spec: WorkloadSpec) -> None:
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_criteo.torch_workload import CriteoTorch

        self.workload = CriteoTorch(spec, TorchBackend())
        self.place = self.workload.backend.place_batch

    def initial(self, seed: int) -> Arrays:
        """Fresh parameters."""
        model, model_state = self.workload.init_model_fn(random_key(seed))
        assert model_state is None
        return {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}

    def _model(self, params: Arrays) -> Any:
        model, _ = self.workload.init_model_fn(random_key(0))
        placed = self.place(params)
        model.to(next(iter(placed.values())).dtype).load_state_dict(placed)
        return model

    def forward(
        self, params: Arrays, batch: Arrays, mode: ForwardPassMode, rate: float | None = None, seed: int = 0
    ) -> np.ndarray:
        model = self._model(params)
        self.workload.backend.begin_step(seed, 0)
        logits = self.workload.model_fn(model, self.place(batch), None, mode, None, True, dropout_rate=rate)[0]
        return logits.detach().cpu().numpy()

    def train(self, params: Arrays, batch: Arrays) -> tuple[np.ndarray, float, Arrays]:
        """Logits, mean loss and gradients without dropout; in float64 if the arrays are."""
        model = self._model(params)
        loss, logits = self._backward(model, batch)
        return logits, loss, {name: p.grad.cpu().numpy() for name, p in model.named_parameters()}

    def _backward(self, model: Any, batch: Arrays) -> tuple[float, np.ndarray]:
        placed = self.place(batch)
        logits, _ = self.workload.model_fn(model, placed, None, ForwardPassMode.TRAIN, None, True, dropout_rate=0.0)
        losses = self.workload.loss_fn(placed["targets"], logits)
        loss = losses["summed"] / losses["n_valid_examples"]
        loss.backward()
        return loss.item(), logits.detach().cpu().numpy()

    def loss(self, *arrays: Any, **options: Any) -> Arrays:
        placed = [None if array is None else self.place(array) for array in arrays]
        return {key: value.cpu().numpy() for key, value in self.workload.loss_fn(*placed, **options).items()}

    def after_sgd(self, params: Arrays, batch: Arrays) -> tuple[Arrays, Arrays]:
        """Gradients, and the parameters after a step of plain SGD."""
        import torch

        model = self._model(params)
        self._backward(model, batch)
        gradients = {name: p.grad.cpu().numpy().copy() for name, p in model.named_parameters()}
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        return gradients, {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}


def make(framework: Framework, spec: WorkloadSpec) -> Jax | Torch:
    """Skips the test if the framework is missing."""
    require(framework)
    return (Jax if framework is Framework.JAX else Torch)(spec)
