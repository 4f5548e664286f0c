"""Schedule-free AdamW in JAX, self-tuning."""

from algoperf_baselines._self_tuning import with_hyperparameters
from algoperf_baselines.schedule_free_adamw import jax
from algoperf_baselines.schedule_free_adamw.jax import data_selection, get_batch_size, prepare_for_eval
from algoperf_baselines.schedule_free_adamw_self_tuning import HYPERPARAMETERS

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "prepare_for_eval", "update_params"]

init_optimizer_state = with_hyperparameters(jax.init_optimizer_state, HYPERPARAMETERS)
update_params = with_hyperparameters(jax.update_params, HYPERPARAMETERS)
