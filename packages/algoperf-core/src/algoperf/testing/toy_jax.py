"""The toy workload in JAX."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algoperf.backends.jax import JaxWorkload
from algoperf.spec import ForwardPassMode, ParameterType


class ToyJax(JaxWorkload):
    """Two dense layers with dropout between them."""

    def init_variables(self, rng: Any) -> tuple[Any, None]:
        """Normal kernels, zero biases."""
        model = self.spec.model
        widths = {"hidden": (model.num_features, model.width), "output": (model.width, model.num_classes)}
        keys = jax.random.split(rng, len(widths))
        params = {
            name: {"kernel": jax.random.normal(key, shape) / shape[0] ** 0.5, "bias": jnp.zeros(shape[1])}
            for key, (name, shape) in zip(keys, widths.items(), strict=True)
        }
        return params, None

    def parameter_type(self, path: tuple[str, ...]) -> ParameterType:
        """A kernel or a bias."""
        return ParameterType.BIAS if path[-1] == "bias" else ParameterType.WEIGHT

    def model_fn(
        self,
        params: Any,
        augmented_and_preprocessed_input_batch: Mapping[str, Any],
        model_state: Any,
        mode: ForwardPassMode,
        rng: Any,
        update_batch_norm: bool,
        dropout_rate: Any = None,
    ) -> tuple[jax.Array, None]:
        """Logits, float32 [batch, classes]."""
        rate: Any = self.spec.dropout_rate if dropout_rate is None else dropout_rate
        x = augmented_and_preprocessed_input_batch["inputs"]
        x = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        if mode is ForwardPassMode.TRAIN:
            keep = 1.0 - rate
            x = jnp.where(jax.random.bernoulli(rng, keep, x.shape), x / keep, 0.0)
        return x @ params["output"]["kernel"] + params["output"]["bias"], None

    def loss_fn(
        self,
        label_batch: Any,
        logits_batch: Any,
        mask_batch: Any = None,
        label_smoothing: Any = 0.0,
        **unused: Any,
    ) -> dict[str, jax.Array]:
        """Softmax cross entropy."""
        num_classes = logits_batch.shape[-1]
        labels = jax.nn.one_hot(label_batch, num_classes) * (1 - label_smoothing) + label_smoothing / num_classes
        losses = -jnp.sum(labels * jax.nn.log_softmax(logits_batch), axis=-1)
        mask = jnp.ones_like(losses) if mask_batch is None else mask_batch
        losses *= mask
        return {"summed": losses.sum(), "n_valid_examples": mask.sum(), "per_example": losses}

    def eval_step(self, params: Any, model_state: Any, batch: Mapping[str, Any], rng: Any) -> dict[str, Any]:
        """Sums of loss, correct answers and examples."""
        logits, _ = self.model_fn(params, batch, model_state, ForwardPassMode.EVAL, rng, False)
        weights = batch["weights"]
        correct = (logits.argmax(axis=-1) == batch["targets"]) * weights
        loss = self.loss_fn(batch["targets"], logits, weights)["summed"]
        return {"loss": loss, "accuracy": correct.sum(), "examples": weights.sum()}
