"""The workload in each framework with numpy at its borders, and parameters as a flat dict."""

from dataclasses import replace
from typing import Any

import numpy as np

from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Scale, WorkloadSpec
from algoperf.testing.frameworks import require
from algoperf_lm.spec import (
    FINEWEBEDU_LM,
    FINEWEBEDU_LM_FIXED_TEMPERATURE,
    FINEWEBEDU_LM_POST_NORM,
    FINEWEBEDU_LM_SILU,
)

VARIANTS = {spec.name: spec for spec in (FINEWEBEDU_LM_POST_NORM, FINEWEBEDU_LM_SILU, FINEWEBEDU_LM_FIXED_TEMPERATURE)}
SPECS = {FINEWEBEDU_LM.name: FINEWEBEDU_LM, **VARIANTS}
Arrays = dict[str, np.ndarray]


class Jax:
    """In JAX, compiled."""

    def __init__(self, spec: WorkloadSpec) -> None:
        import jax

        from algoperf.backends.jax import JaxBackend
        from algoperf_lm.jax_workload import LmJax

        self.workload = LmJax(spec, JaxBackend())
        self._initial = jax.jit(lambda key: self.workload.init_variables(key)[0])
        self._forward = jax.jit(self._logits)
        self._train = jax.jit(jax.grad(self._mean_loss))
        self._evaluate = jax.jit(self._sums)

    def initial(self, seed: int) -> Arrays:
        """Fresh parameters."""
        import jax
        from flax.traverse_util import flatten_dict

        return jax.tree.map(np.array, flatten_dict(self._initial(random_key(seed)), sep="/"))

    def _logits(self, params: Any, batch: Any, mode: ForwardPassMode = ForwardPassMode.EVAL) -> Any:
        import jax
        from flax.traverse_util import unflatten_dict

        params = unflatten_dict(params, sep="/")
        return self.workload.model_fn(params, batch, None, mode, jax.random.key(0), True)[0]

    def _mean_loss(self, params: Any, batch: Any) -> Any:
        loss = self.workload.loss_fn(batch["targets"], self._logits(params, batch, ForwardPassMode.TRAIN))
        return loss["summed"] / loss["n_valid_examples"]

    def _sums(self, params: Any, batch: Any) -> Any:
        from flax.traverse_util import unflatten_dict

        return self.workload.eval_step(unflatten_dict(params, sep="/"), None, batch, None)

    def logits(self, params: Arrays, tokens: np.ndarray) -> np.ndarray:
        return np.asarray(self._forward(params, {"inputs": tokens}))

    def gradients(self, params: Arrays, batch: Arrays) -> Arrays:
        return {path: np.asarray(value) for path, value in self._train(params, batch).items()}

    def evaluate(self, params: Arrays, batch: Arrays) -> Arrays:
        import jax

        return jax.device_get(self._evaluate(params, batch))

    def loss(self, targets: np.ndarray, logits: np.ndarray, mask: np.ndarray | None, smoothing: float) -> Arrays:
        import jax

        return jax.device_get(self.workload.loss_fn(targets, logits, mask, smoothing))


class Torch:
    """In PyTorch."""

    def __init__(self, spec: WorkloadSpec) -> None:
        from algoperf.backends.pytorch import TorchBackend
        from algoperf_lm.torch_workload import LmTorch

        self.workload = LmTorch(spec, TorchBackend())
        self._model = self.workload.init_model_fn(random_key(0))[0]

    def initial(self, seed: int) -> Arrays:
        """Fresh parameters."""
        model, _ = self.workload.init_model_fn(random_key(seed))
        return {name: value.detach().numpy().copy() for name, value in model.named_parameters()}

    def _filled(self, params: Arrays) -> Any:
        import torch

        for name, value in self._model.named_parameters():
            value.data.copy_(torch.from_numpy(np.asarray(params[name])))
        return self._model

    def _logits(self, params: Any, batch: Any, mode: ForwardPassMode) -> Any:
        return self.workload.model_fn(params, batch, None, mode, random_key(0), True)[0]

    def logits(self, params: Arrays, tokens: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            batch = {"inputs": torch.from_numpy(tokens)}
            return self._logits(self._filled(params), batch, ForwardPassMode.EVAL).numpy()

    def gradients(self, params: Arrays, batch: Arrays) -> Arrays:
        import torch

        model, tensors = self._filled(params), {name: torch.from_numpy(array) for name, array in batch.items()}
        loss = self.workload.loss_fn(tensors["targets"], self._logits(model, tensors, ForwardPassMode.TRAIN))
        model.zero_grad()
        (loss["summed"] / loss["n_valid_examples"]).backward()
        return {name: value.grad.numpy().copy() for name, value in model.named_parameters()}

    def evaluate(self, params: Arrays, batch: Arrays) -> Arrays:
        import torch

        with torch.no_grad():
            tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
            output = self.workload.eval_step(self._filled(params), None, tensors, None)
        return {name: value.numpy() for name, value in output.items()}

    def loss(self, targets: np.ndarray, logits: np.ndarray, mask: np.ndarray | None, smoothing: float) -> Arrays:
        import torch

        tensors = [None if array is None else torch.from_numpy(array) for array in (targets, logits, mask)]
        return {name: value.numpy() for name, value in self.workload.loss_fn(*tensors, smoothing).items()}


def make(framework: Framework, spec: WorkloadSpec) -> Jax | Torch:
    """A workload in a framework; skips the test where that is missing."""
    require(framework)
    return {Framework.JAX: Jax, Framework.PYTORCH: Torch}[framework](spec)


def small(spec: WorkloadSpec = FINEWEBEDU_LM, **changes: Any) -> WorkloadSpec:
    """A workload with a model of two small layers."""
    sizes = {"vocab_size": 40, "width": 16, "num_heads": 2, "mlp_dim": 24, "num_layers": 2, "context": 10}
    mini = spec.at(Scale.MINI)
    return replace(mini, model=replace(mini.model, **sizes | {"sequences_at_once": 4} | changes))


def noisy(params: Arrays, seed: int = 0) -> Arrays:
    """Parameters with noise, so that no norm does nothing."""
    rng = np.random.default_rng(seed)
    return {n: np.float32(p + 0.3 * rng.standard_normal(np.shape(p))) for n, p in params.items()}


def random_batch(num_sequences: int, length: int = 10, vocab_size: int = 40) -> Arrays:
    """Random tokens, with the weights of an evaluation."""
    rows = np.random.default_rng(1).integers(0, vocab_size, (num_sequences, length + 1)).astype(np.int32)
    ones = np.ones((num_sequences, length), np.float32)
    return {"inputs": rows[:, :-1].copy(), "targets": rows[:, 1:].copy(), "weights": ones}
