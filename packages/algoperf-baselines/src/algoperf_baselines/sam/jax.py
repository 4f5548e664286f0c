"""Sharpness-aware minimization (SAM) around NAdamW in JAX.

Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", arXiv 2010.01412,
algorithm 1: the gradients are those at w + rho g / |g|, where g are the gradients at w, of the global batch.
"""

from functools import partial

import optax

from algoperf import spec
from algoperf_baselines._jax import data_selection, initial_state, update_params, warmup_cosine
from algoperf_baselines.batch_sizes import get_batch_size
from algoperf_baselines.nadamw.jax import nadamw

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]


def init_optimizer_state(
    workload: spec.Workload,
    model_params: spec.ParameterContainer,
    model_state: spec.ModelAuxiliaryState,
    hyperparameters: spec.Hyperparameters,
    rng: spec.RandomState,
) -> spec.OptimizerState:
    """NAdamW on the gradients of SAM; all parameters decay."""
    optimizer = nadamw(
        learning_rate=warmup_cosine(workload, hyperparameters),
        b1=1.0 - hyperparameters.one_minus_beta1,
        b2=hyperparameters.beta2,
        eps=1e-8,
        weight_decay=hyperparameters.weight_decay,
    )
    # Unlike `optax.contrib.normalize` also where all gradients are 0.
    ascent = optax.chain(optax.normalize_by_update_norm(eps=1e-12), optax.sgd(hyperparameters.rho))
    around = partial(optax.contrib.sam, adv_optimizer=ascent, opaque_mode=True)
    return initial_state(optimizer, model_params, hyperparameters, around)
