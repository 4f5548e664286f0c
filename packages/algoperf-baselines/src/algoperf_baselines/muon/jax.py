"""Muon in JAX; the rule and its sources are in the package."""

from typing import Any

import jax
import optax

from algoperf import spec
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_cosine
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.muon import COEFFICIENTS, EPS, MATRIX_TYPES, NUM_ITERATIONS, RMS

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]

_PROJECTIONS = (spec.ParameterType.ATTENTION_Q, spec.ParameterType.ATTENTION_K, spec.ParameterType.ATTENTION_V)


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """Muon; all parameters decay."""
    b1, weight_decay = 1.0 - hyperparameters.one_minus_beta1, hyperparameters.weight_decay
    optimizer = optax.contrib.muon(
        learning_rate=warmup_cosine(workload, hyperparameters),
        ns_coeffs=COEFFICIENTS,
        ns_steps=NUM_ITERATIONS,
        beta=b1,
        eps=EPS,
        weight_decay=weight_decay,
        nesterov=True,
        adam_b1=b1,
        adam_b2=hyperparameters.beta2,
        adam_weight_decay=weight_decay,
        muon_weight_dimension_numbers=matrices(workload, model_params),
        consistent_rms=RMS,
    )
    return initial_state(optimizer, model_params, hyperparameters)


def matrices(workload: spec.Workload, params: spec.ParameterContainer) -> Any:
    """The tree of parameters with, for each, the axes of inputs and of outputs if it is a matrix, and else None."""

    def axes(path: Any, kind: spec.ParameterType, param: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if kind not in MATRIX_TYPES or param.ndim < 2 or workload.is_output_params(path[0].key):
            return None
        # Those of attention have an axis of heads beside that of their outputs; all others, beside that of inputs.
        num_inputs = 1 if kind in _PROJECTIONS else param.ndim - 1
        everything = tuple(range(param.ndim))
        return optax.contrib.MuonDimensionNumbers(everything[:num_inputs], everything[num_inputs:])

    return jax.tree_util.tree_map_with_path(axes, workload.model_params_types, params)
