"""What benchmarks of training steps share: NAdamW on one batch that stays on the devices."""

from collections.abc import Mapping
from typing import Any

from algoperf import search, submission
from algoperf.seeds import random_key
from algoperf.workload import Workload

POINT = {
    "learning_rate": 1e-3,
    "one_minus_beta1": 0.1,
    "beta2": 0.99,
    "warmup_factor": 0.05,
    "weight_decay": 1e-2,
    "label_smoothing": 0.1,
    "dropout_rate": 0.1,
}


class Training:
    """A workload with fresh parameters in training."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._algorithm = submission.load(submission.locate("nadamw", workload.framework))
        self._hyperparameters = search.as_hyperparameters(POINT)
        params, model_state = workload.init_model_fn(random_key(0))
        state = self._algorithm.init_optimizer_state(
            workload, params, model_state, self._hyperparameters, random_key(1)
        )
        place = workload.backend.place_state
        self._optimizer, self.params, self.model_state = (place(tree) for tree in (state, params, model_state))

    def step(self, batch: Mapping[str, Any], number: int = 0) -> object:
        """Takes a step; returns what has to be waited for."""
        self._optimizer, self.params, self.model_state = self._algorithm.update_params(
            workload=self.workload,
            current_param_container=self.params,
            current_params_types=None,
            model_state=self.model_state,
            hyperparameters=self._hyperparameters,
            batch=batch,
            loss_type=self.workload.loss_type,
            optimizer_state=self._optimizer,
            eval_results=[],
            global_step=number,
            rng=random_key(2, number),
        )
        return self._optimizer, self.params
