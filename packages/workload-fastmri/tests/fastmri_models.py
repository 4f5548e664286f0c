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
        from algoperf_fastmri.jax_ssim import ssim
        from algoperf_fastmri.jax_workload import FastmriJax

        self.workload = FastmriJax(spec, JaxBackend())
        self._initial = jax.jit(lambda key: self.workload.init_variables(key)[0])
        self._forward = jax.jit(self._outputs, static_argnames="mode")
        self._train = jax.jit(jax.value_and_grad(self._mean_loss, has_aux=True))
        self._ssim = jax.jit(ssim)

    def initial(self, seed: int) -> Arrays:
        """Fresh parameters."""
        import jax
        from flax.traverse_util import flatten_dict

        params = self._initial(random_key(seed))
        return jax.tree.map(np.array, flatten_dict(params, sep="/"))

    def _outputs(self, params: Any, batch: Any, mode: ForwardPassMode, rate: Any, seed: Any) -> Any:
        import jax
        from flax.traverse_util import unflatten_dict

        params = unflatten_dict(params, sep="/")
        return self.workload.model_fn(params, batch, None, mode, jax.random.key(seed), True, dropout_rate=rate)[0]

    def _mean_loss(self, params: Any, batch: Any) -> Any:
        outputs = self._outputs(params, batch, ForwardPassMode.TRAIN, 0.0, 0)
        loss = self.workload.loss_fn(batch["targets"], outputs)
        return loss["summed"] / loss["n_valid_examples"], outputs

    def forward(
        self, params: Arrays, batch: Arrays, mode: ForwardPassMode, rate: float | None = None, seed: int = 0
    ) -> np.ndarray:
        return np.asarray(self._forward(params, batch, mode=mode, rate=rate, seed=seed))

    def train(self, params: Arrays, batch: Arrays) -> tuple[np.ndarray, float, Arrays]:
        """Outputs, mean loss and gradients without dropout; in float64 if the arrays are."""
        import jax

        with jax.enable_x64(batch["inputs"].dtype == np.float64):
            (loss, outputs), gradients = self._train(params, batch)
        return np.asarray(outputs), float(loss), jax.tree.map(np.asarray, gradients)

    def loss(self, *arrays: Any, **options: Any) -> Arrays:
        return {key: np.asarray(value) for key, value in self.workload.loss_fn(*arrays, **options).items()}

    def ssim(self, *arrays: np.ndarray) -> np.ndarray:
        return np.asarray(self._ssim(*arrays))

    def evaluation_sums(self, params: Arrays, batch: Arrays) -> Arrays:
        import jax
        from flax.traverse_util import unflatten_dict

        nested = unflatten_dict(params, sep="/")
        return jax.device_get(self.workload.compiled_eval_step(nested, None, batch, random_key(0)))


class Torch:
    """In PyTorch."""

    def __init__(self, spec: WorkloadSpec) -> None:
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_fastmri.torch_workload import FastmriTorch

        self.workload = FastmriTorch(spec, TorchBackend())
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
        import torch

        model = self._model(params)
        self.workload.backend.begin_step(seed, 0)
        with torch.no_grad():
            return self.workload.model_fn(model, self.place(batch), None, mode, None, True, rate)[0].cpu().numpy()

    def train(self, params: Arrays, batch: Arrays) -> tuple[np.ndarray, float, Arrays]:
        """Outputs, mean loss and gradients without dropout; in float64 if the arrays are."""
        model, placed = self._model(params), self.place(batch)
        outputs, _ = self.workload.model_fn(model, placed, None, ForwardPassMode.TRAIN, None, True, dropout_rate=0.0)
        losses = self.workload.loss_fn(placed["targets"], outputs)
        loss = losses["summed"] / losses["n_valid_examples"]
        loss.backward()
        gradients = {name: p.grad.cpu().numpy() for name, p in model.named_parameters()}
        return outputs.detach().cpu().numpy(), loss.item(), gradients

    def loss(self, *arrays: Any, **options: Any) -> Arrays:
        placed = [None if array is None else self.place(array) for array in arrays]
        return {key: value.cpu().numpy() for key, value in self.workload.loss_fn(*placed, **options).items()}

    def ssim(self, *arrays: np.ndarray) -> np.ndarray:
        from algoperf_fastmri.torch_ssim import ssim

        return ssim(*(self.place(array) for array in arrays)).cpu().numpy()

    def evaluation_sums(self, params: Arrays, batch: Arrays) -> Arrays:
        sums = self.workload.compiled_eval_step(self._model(params), None, self.place(batch), None)
        return self.workload.backend.to_host(sums)


def random_params(workload: Any) -> Arrays:
    """Parameters of a workload, of its framework's shapes: kernels as initialised but normal, scales 1 and biases 0.

    JAX would take a quarter of a minute to compile the initialisers.
    """
    rng = np.random.default_rng(0)
    params = {}
    for parameter in workload.parameters():
        name, shape = parameter["name"], parameter["shape"]
        if len(shape) == 1:
            params[name] = np.full(shape, parameter["type"].endswith("_SCALE"), np.float32)
        else:
            fan_in = np.prod(shape) / shape[0 if workload.framework is Framework.PYTORCH else -1]
            params[name] = rng.normal(0, fan_in**-0.5, shape).astype(np.float32)
    return params


def make(framework: Framework, spec: WorkloadSpec) -> Jax | Torch:
    """Skips the test if the framework is missing."""
    require(framework)
    return (Jax if framework is Framework.JAX else Torch)(spec)
