"""NAdamW in PyTorch, self-tuning."""

from algoperf_baselines._self_tuning import with_hyperparameters
from algoperf_baselines.nadamw import pytorch
from algoperf_baselines.nadamw.pytorch import data_selection, get_batch_size
from algoperf_baselines.nadamw_self_tuning import HYPERPARAMETERS

__all__ = ["data_selection", "get_batch_size", "init_optimizer_state", "update_params"]

init_optimizer_state = with_hyperparameters(pytorch.init_optimizer_state, HYPERPARAMETERS)
update_params = with_hyperparameters(pytorch.update_params, HYPERPARAMETERS)
