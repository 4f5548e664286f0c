"""`Workload`: the runtime object that a submission is handed and the harness evaluates with."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from algoperf.backends import Backend
from algoperf.data import Dataset
from algoperf.data.preparation import open_prepared
from algoperf.data.queue import InputQueue
from algoperf.spec import (
    DEFAULT_RULES,
    ForwardPassMode,
    Framework,
    LossType,
    ModelAuxiliaryState,
    ModelInitState,
    ParameterContainer,
    ParameterShapeTree,
    ParameterTypeTree,
    RandomState,
    Split,
    Tensor,
    WorkloadSpec,
)

EVAL_SPLITS = (Split.EVAL_TRAIN, Split.VALIDATION, Split.TEST)
EvalOutput = dict[str, Any]


class Workload(abc.ABC):
    """One workload in one framework. Subclassed by `JaxWorkload` and `TorchWorkload` only.

    Hash and equality are by identity: submissions pass it to `jax.jit` as a static argument.

    Args:
        spec: the facts, at the scale to run.
        backend: the devices to run on.
        data_dir: the folder below which prepared data sets lie; needed from the first batch on.
        rules: the rules version that budgets are taken from.
    """

    framework: Framework

    def __init__(
        self,
        spec: WorkloadSpec,
        backend: Backend,
        data_dir: Path | None = None,
        rules: str = DEFAULT_RULES,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self.rules = rules
        self.metrics_logger: Any = None
        self._data_dir = data_dir

    # What submissions read.

    @property
    def step_hint(self) -> int:
        """Steps that a good submission may expect to take within the budget."""
        return self.spec.step_hint

    @property
    def loss_type(self) -> LossType:
        """The training loss."""
        return self.spec.loss_type

    @property
    def target_metric_name(self) -> str:
        """Name of the metric whose target ends a trial."""
        return self.spec.target.metric

    @property
    def validation_target_value(self) -> float | None:
        """The target on the validation split; None if there is none yet."""
        return self.spec.target.validation

    @property
    def test_target_value(self) -> float | None:
        """The target on the test split; None if there is no such split."""
        return self.spec.target.test

    @property
    def max_allowed_runtime_sec(self) -> float:
        """The budget, in seconds of submission time."""
        return self.spec.budget(self.rules).max_runtime_s

    @property
    def eval_period_time_sec(self) -> float:
        """Seconds of submission time between evaluations."""
        return self.spec.budget(self.rules).eval_period_s

    @property
    def eval_batch_size(self) -> int:
        """Examples per evaluation batch, over all devices."""
        return self.spec.eval_batch_size

    @property
    def num_train_examples(self) -> int:
        """Examples of the training split."""
        return self.spec.num_train_examples

    @property
    def num_eval_train_examples(self) -> int:
        """Training examples that evaluations look at."""
        return self.spec.num_eval_train_examples

    @property
    def num_validation_examples(self) -> int:
        """Examples of the validation split."""
        return self.spec.num_validation_examples

    @property
    def num_test_examples(self) -> int:
        """Examples of the test split."""
        return self.spec.num_test_examples

    def has_reached_validation_target(self, eval_result: Mapping[str, float]) -> bool:
        """Whether an evaluation is at least as good as the validation target."""
        return self.spec.target.reached(Split.VALIDATION, eval_result)

    def has_reached_test_target(self, eval_result: Mapping[str, float]) -> bool:
        """Whether an evaluation is at least as good as the test target."""
        return self.spec.target.reached(Split.TEST, eval_result)

    def is_output_params(self, param_key: str) -> bool:
        """Whether a parameter (or, in JAX, a top-level key) belongs to the model's last layer."""
        layer = self.spec.output_layer[self.framework]
        return param_key == layer or param_key.startswith((f"{layer}.", f"{layer}/"))

    @property
    @abc.abstractmethod
    def param_shapes(self) -> ParameterShapeTree:
        """The parameters' tree with a `ShapeTuple` for each; costs no memory on any device."""

    @property
    @abc.abstractmethod
    def model_params_types(self) -> ParameterTypeTree:
        """The parameters' tree (in PyTorch: a dict by name) with a `ParameterType` for each."""

    @abc.abstractmethod
    def parameters(self) -> list[dict[str, Any]]:
        """`name`, `shape`, `dtype` and `type` of every parameter, without making one."""

    # What a workload package writes, once per framework.

    @abc.abstractmethod
    def init_model_fn(self, rng: RandomState) -> ModelInitState:
        """Fresh parameters and model state (None if the model has none)."""

    @abc.abstractmethod
    def model_fn(
        self,
        params: ParameterContainer,
        augmented_and_preprocessed_input_batch: Mapping[str, Tensor],
        model_state: ModelAuxiliaryState,
        mode: ForwardPassMode,
        rng: RandomState,
        update_batch_norm: bool,
        dropout_rate: float | None = None,
    ) -> tuple[Tensor, ModelAuxiliaryState]:
        """The forward pass: logits and the new model state.

        Args:
            params: as `init_model_fn` or a submission's update returned them.
            augmented_and_preprocessed_input_batch: a batch of the input queue.
            model_state: batch statistics, or None.
            mode: TRAIN or EVAL; decides dropout and which statistics normalise, on every call.
            rng: randomness of dropout (JAX).
            update_batch_norm: whether running statistics move. False with TRAIN normalises with the
                batch's statistics and leaves the running ones alone.
            dropout_rate: None means the workload's default. May be traced under `jax.jit`.
        """

    @abc.abstractmethod
    def loss_fn(
        self,
        label_batch: Tensor,
        logits_batch: Tensor,
        mask_batch: Tensor | None = None,
        label_smoothing: float = 0.0,
        **unused: Any,
    ) -> dict[str, Tensor]:
        """`summed`, `n_valid_examples` (both scalars) and `per_example` losses; the mask multiplies."""

    @abc.abstractmethod
    def eval_step(
        self,
        params: ParameterContainer,
        model_state: ModelAuxiliaryState,
        batch: Mapping[str, Tensor],
        rng: RandomState,
    ) -> EvalOutput:
        """What the metrics need from one evaluation batch: sums, or (only where no sum will do) arrays."""

    # The harness's side.

    @cached_property
    def dataset(self) -> Dataset:
        """The prepared data. Raises `algoperf.data.DataError` if it is not prepared or damaged."""
        return open_prepared(self.spec, self._data_dir)

    def input_queue(
        self, split: Split, global_batch_size: int, seed: int = 0, state: Mapping[str, Any] | None = None
    ) -> InputQueue:
        """Batches of a split on the devices, one of them ahead.

        TRAIN is endless and shuffled by `seed`; the others end after each example came once, in order.
        """
        self.check_batch_size(global_batch_size)
        shards = self.backend.shards
        if split is Split.TRAIN:
            batches = self.dataset.train(global_batch_size, shards, seed)
        else:
            batches = self.dataset.evaluation(split, global_batch_size, shards)
        return InputQueue(batches, self.place_batch, state)

    def place_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """A batch of the data set on the devices, as submissions get it."""
        placed = self.backend.place_batch(batch)
        return placed if self._finish_batch is None else self._finish_batch(placed)

    @cached_property
    def _finish_batch(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        name = self.spec.dataset.on_device.get(self.framework)
        return None if name is None else resolve_name(name)

    def check_batch_size(self, size: int) -> None:
        """Raises ValueError if a batch size cannot be divided among the devices."""
        total = self.backend.shards.total
        if size % total:
            raise ValueError(
                f"{self.spec.name}: a batch size of {size} cannot be divided among {total} devices; use another number."
            )

    @abc.abstractmethod
    def compiled_eval_step(
        self,
        params: ParameterContainer,
        model_state: ModelAuxiliaryState,
        batch: Mapping[str, Tensor],
        rng: RandomState,
    ) -> EvalOutput:
        """`eval_step` as the harness runs it: compiled, without gradients."""

    @abc.abstractmethod
    def predict(
        self,
        params: ParameterContainer,
        model_state: ModelAuxiliaryState,
        batch: Mapping[str, Tensor],
        rng: RandomState,
    ) -> Any:
        """What the model makes of a placed batch in evaluation, without gradients. Numpy arrays, as the logits are."""

    def evaluate(
        self,
        params: ParameterContainer,
        model_state: ModelAuxiliaryState,
        rng: RandomState,
        splits: Sequence[Split] = EVAL_SPLITS,
    ) -> dict[str, float]:
        """Metrics of each split as "<split>/<metric>", each example counted exactly once. The one loop.

        A split without examples has none.
        """
        results: dict[str, float] = {}
        for split in splits:
            num_examples = self.spec.num_examples(split)
            if num_examples == 0:
                continue
            outputs = self._eval_outputs(params, model_state, rng, split)
            metrics = self.finalize(outputs, num_examples)
            results |= {f"{split.log_name}/{name}": value for name, value in metrics.items()}
            if split is not Split.EVAL_TRAIN:
                results[f"{split.log_name}/num_examples"] = num_examples
        return results

    def _eval_outputs(
        self, params: ParameterContainer, model_state: ModelAuxiliaryState, rng: RandomState, split: Split
    ) -> list[EvalOutput]:
        outputs = []
        pending: EvalOutput | None = None
        with self.input_queue(split, self.spec.eval_batch_size) as queue:
            for batch in queue:
                current = self.compiled_eval_step(params, model_state, batch, rng)
                # One batch behind, so that copying an output never keeps the devices waiting.
                if pending is not None:
                    outputs.append(self.backend.to_host(pending))
                pending = current
        if pending is not None:
            outputs.append(self.backend.to_host(pending))
        return self.backend.gather(outputs)

    def finalize(self, outputs: Sequence[EvalOutput], num_examples: int) -> dict[str, float]:
        """Metrics from the outputs of all evaluation batches of a split, by the data set's `finalize`.

        That is also given the data set: some metrics are of text, which needs the data's tokenizer.
        """
        function = resolve_name(self.spec.dataset.finalize)
        metrics: dict[str, float] = function(outputs, num_examples, self.dataset)
        return metrics

    def output_activation_fn(self, logits_batch: Tensor) -> Tensor:
        """Probabilities from logits, by the loss type: softmax, sigmoid, or the identity."""
        return self._activations()[self.loss_type](logits_batch)

    @abc.abstractmethod
    def _activations(self) -> Mapping[LossType, Any]: ...


def sum_over_batches(outputs: Sequence[EvalOutput]) -> dict[str, np.ndarray]:
    """Sums of each entry over all batches, in float64: what most `finalize` functions start from."""
    return {name: np.sum([np.asarray(o[name], np.float64) for o in outputs], axis=0) for name in outputs[0]}
