"""The vocabulary of the benchmark: what a workload is, as data, and the names that submissions use.

Nothing here imports a framework. The runtime object that a submission is handed is
`algoperf.workload.Workload`, available here as `Workload` because submissions look for it here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from algoperf.workload import Workload

__all__ = [
    "DEFAULT_RULES",
    "Budget",
    "DatasetSpec",
    "ForwardPassMode",
    "Framework",
    "Hyperparameters",
    "LossType",
    "ModelAuxiliaryState",
    "ModelInitState",
    "OptimizerState",
    "ParameterContainer",
    "ParameterShapeTree",
    "ParameterType",
    "ParameterTypeTree",
    "RandomState",
    "Scale",
    "ShapeTuple",
    "Split",
    "SubmissionSpec",
    "Target",
    "Tensor",
    "TrainingCompleteError",
    "TuningRuleset",
    "UpdateReturn",
    "Workload",
    "WorkloadSpec",
]

# What submissions annotate with. A tensor is a `jax.Array` or a `torch.Tensor`; a parameter container
# is a nested dict of arrays in JAX and an `nn.Module` in PyTorch. Neither can be named here.
Tensor = Any
ParameterContainer = Any
ParameterShapeTree = Any
ParameterTypeTree = Any
ModelAuxiliaryState = Any
OptimizerState = Any
Hyperparameters = Any
RandomState = Any
UpdateReturn = tuple[OptimizerState, ParameterContainer, ModelAuxiliaryState]
ModelInitState = tuple[ParameterContainer, ModelAuxiliaryState]

DEFAULT_RULES = "v1.0"


class Framework(enum.StrEnum):
    """The framework that a trial runs in."""

    JAX = "jax"
    PYTORCH = "pytorch"


class Scale(enum.StrEnum):
    """How large a workload is: the published benchmark, or the same code made small on small real data."""

    FULL = "full"
    MINI = "mini"


class Split(enum.StrEnum):
    """A part of the data. `EVAL_TRAIN` is one fixed subset of `TRAIN`; its metrics are logged as `train/…`."""

    TRAIN = "train"
    EVAL_TRAIN = "eval_train"
    VALIDATION = "validation"
    TEST = "test"

    @property
    def log_name(self) -> str:
        """The prefix of this split's columns in the public logs."""
        return "train" if self is Split.EVAL_TRAIN else self.value


class TuningRuleset(enum.StrEnum):
    """How hyperparameters may be chosen (arXiv 2306.07179, section 4.4)."""

    EXTERNAL = "external"
    SELF = "self"


class LossType(enum.Enum):
    """The training loss of a workload."""

    SOFTMAX_CROSS_ENTROPY = 0
    SIGMOID_CROSS_ENTROPY = 1
    MEAN_SQUARED_ERROR = 2
    CTC_LOSS = 3
    MEAN_ABSOLUTE_ERROR = 4


class ForwardPassMode(enum.Enum):
    """Whether `model_fn` trains (dropout, batch statistics) or evaluates."""

    TRAIN = 0
    EVAL = 1


class ParameterType(enum.Enum):
    """What a parameter is for. Submissions may treat types differently."""

    WEIGHT = 0
    BIAS = 1
    CONV_WEIGHT = 2
    BATCH_NORM_SCALE = 3
    BATCH_NORM_BIAS = 4
    LAYER_NORM_SCALE = 5
    LAYER_NORM_BIAS = 6
    EMBEDDING = 7
    ATTENTION_Q = 8
    ATTENTION_K = 9
    ATTENTION_V = 10
    ATTENTION_OUT = 11
    ATTENTION_QKV = 12
    ATTENTION_KV = 13
    ATTENTION_BIAS = 14


class TrainingCompleteError(Exception):
    """Raised by `update_params` of a submission that wants its training to end here."""


class ShapeTuple:
    """The shape of one parameter, as a leaf of `Workload.param_shapes`.

    A plain tuple would be taken apart by `jax.tree`; this object is a leaf.
    """

    def __init__(self, shape_tuple: tuple[int, ...]) -> None:
        self.shape_tuple = tuple(shape_tuple)

    def __repr__(self) -> str:
        return f"ShapeTuple({self.shape_tuple})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeTuple) and self.shape_tuple == other.shape_tuple

    def __hash__(self) -> int:
        return hash(self.shape_tuple)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a trial must reach, on both splits, to be complete.

    Attributes:
        metric: name of the metric, as the workload's evaluation returns it.
        goal: whether the metric is to be minimised or maximised.
        validation: value to reach on the validation split; this one is scored. None: not set yet, so never reached.
        test: value to reach on the test split; training goes on until this is reached too. None: there is no such
            split, so nothing to reach.
    """

    metric: str
    goal: Literal["min", "max"]
    validation: float | None
    test: float | None

    def __post_init__(self) -> None:
        if self.goal not in ("min", "max"):
            raise ValueError(f"A target's goal is 'min' or 'max', not {self.goal!r}.")

    def reached(self, split: Split, metrics: Mapping[str, float]) -> bool:
        """Whether `metrics` ("validation/<metric>": value, …) is at least as good as the target on `split`.

        A missing or NaN value has not reached anything.
        """
        if split not in (Split.VALIDATION, Split.TEST):
            raise ValueError(f"Targets exist on validation and test, not on {split}.")
        goal = self.validation if split is Split.VALIDATION else self.test
        if goal is None:
            return split is Split.TEST
        value = metrics.get(f"{split.log_name}/{self.metric}", float("nan"))
        return bool(value <= goal if self.goal == "min" else value >= goal)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a trial may train, and how often it is evaluated, in seconds of submission time."""

    max_runtime_s: float
    eval_period_s: float

    def __post_init__(self) -> None:
        if not 0 < self.eval_period_s < self.max_runtime_s:
            raise ValueError(f"An evaluation period must be positive and below the budget: {self}.")


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Where the examples of a workload come from, as names that are resolved when they are needed.

    Attributes:
        name: folder below the data directory that holds the prepared data, e.g. "ogbg/mini".
            Empty for data that is generated and needs no preparation.
        prepare: "package.module:function" that makes that folder; see `algoperf.data.preparation`.
        open: "package.module:function" `(spec, folder) -> algoperf.data.Dataset`.
        finalize: "package.module:function" `(outputs, num_examples, dataset) -> metrics`; see
            `algoperf.workload.Workload.finalize`.
        source: what the data is and where it comes from, for people.
        licence: under which terms.
        options: a frozen dataclass of what batches are like: their sizes, augmentation.
        on_device: per framework "package.module:function" `(batch) -> batch` that finishes a batch once it is on the
            devices; none for batches that are finished on the host.
        pictures: "package.module:function" `(dataset, batch, logits) -> pictures of each example`, to look at: for each
            example of a batch of an evaluation, in numpy, a list of `algoperf.data.pictures.Picture`. `logits` are
            what a model made of it, or None. Empty where nothing can be looked at.
        recorded: prepared files whose SHA-256 every trial records by itself, as well as that of all data: per entry of
            the trial's metadata the file's name. For what others may have made differently, such as a tokenizer.
    """

    name: str
    open: str
    finalize: str
    prepare: str = ""
    source: str = ""
    licence: str = ""
    options: Any = None
    on_device: Mapping[Framework, str] = field(default_factory=dict)
    pictures: str = ""
    recorded: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """Every fact of a workload, and nothing that is code.

    Attributes:
        name: the workload's name, the same at both scales.
        summary: one line for people.
        scale: which of the two scales these facts describe.
        target: what a trial must reach.
        loss_type: the training loss.
        num_train_examples: size of the training split; the other `num_*` likewise.
        eval_batch_size: examples per evaluation batch, over all devices.
        batch_size: the training batch size that the harness uses at mini scale, where a submission's
            `get_batch_size` (written for full scale) is not asked; None at full scale.
        budgets: per rules version ("v0.6", "v1.0") the budget and the evaluation period.
        step_hint: steps that a good submission may expect to take within the budget.
        dropout_rate: what `model_fn` uses when a submission passes none; None where there is no dropout.
        dataset: where the examples come from.
        model: a frozen dataclass of architecture choices.
        implementations: per framework "package.module:Class", resolved when a trial starts.
        output_layer: per framework the name of the last layer, for `Workload.is_output_params`.
        base: name of the base workload if this is a variant.
        mini: the same workload at mini scale (None in a spec that is at mini scale itself; that may be all there is of
            a workload, such as one with other mini data).
    """

    name: str
    summary: str
    scale: Scale = Scale.FULL
    target: Target
    loss_type: LossType
    num_train_examples: int
    num_eval_train_examples: int
    num_validation_examples: int
    num_test_examples: int
    eval_batch_size: int
    batch_size: int | None = None
    budgets: Mapping[str, Budget]
    step_hint: int
    dropout_rate: float | None
    dataset: DatasetSpec
    model: Any
    implementations: Mapping[Framework, str]
    output_layer: Mapping[Framework, str]
    base: str | None = None
    mini: WorkloadSpec | None = None

    def __post_init__(self) -> None:
        if (self.scale is Scale.MINI) != (self.batch_size is not None):
            raise ValueError(f"{self.name}: a batch size is given at mini scale, and only there.")

    @property
    def base_name(self) -> str:
        """The name of the base workload: this one's own unless it is a variant."""
        return self.base or self.name

    def budget(self, rules: str = DEFAULT_RULES) -> Budget:
        """The budget under a rules version. Raises ValueError for a version this workload has none for."""
        if rules not in self.budgets:
            known = ", ".join(self.budgets)
            raise ValueError(f"{self.name} has no budget under rules {rules!r}; choose from {known}.")
        return self.budgets[rules]

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Those that `at` knows."""
        return (self.scale, Scale.MINI) if self.mini else (self.scale,)

    def at(self, scale: Scale) -> WorkloadSpec:
        """These facts at another scale. Raises ValueError if the workload does not have it."""
        if scale is self.scale:
            return self
        if scale is Scale.MINI and self.mini is not None:
            return self.mini
        raise ValueError(f"{self.name} has no {scale} scale; choose {self.scale}.")

    def facts(self) -> dict[str, Any]:
        """These facts as plain data, without those of the other scale."""
        return asdict(replace(self, mini=None))

    def num_examples(self, split: Split) -> int:
        """Number of examples that a split has."""
        return int(getattr(self, f"num_{split.value}_examples"))

    def variant(
        self,
        suffix: str,
        *,
        summary: str,
        target: Target,
        mini_target: Target | None = None,
        mini_model: Mapping[str, Any] | None = None,
        **model: Any,
    ) -> WorkloadSpec:
        """A held-out variant of this workload: another target and changed fields of the model, at both scales.

        Args:
            suffix: what the variant's name adds to the base's.
            summary: one line for people.
            target: the variant's targets at full scale.
            mini_target: the variant's targets at mini scale; needed where the base has that scale.
            mini_model: model fields that change at mini scale, where they are not those of full scale.
            **model: model fields that change.
        """
        if (mini_target is None) != (self.mini is None):
            raise ValueError(f"{self.name}_{suffix}: a mini target is given exactly where the base is mini too.")
        mini = (
            self.mini
            and mini_target
            and self.mini.variant(
                suffix, summary=summary, target=mini_target, **(model if mini_model is None else mini_model)
            )
        )
        return replace(
            self,
            name=f"{self.name}_{suffix}",
            base=self.name,
            summary=summary,
            target=target,
            model=replace(self.model, **model),
            mini=mini or None,
        )


@dataclass(frozen=True, kw_only=True)
class SubmissionSpec:
    """A submission that is installed as a package and found by name.

    Attributes:
        name: the name to run it by.
        summary: one line for people.
        package: dotted name of the package that holds `jax.py` and/or `pytorch.py`, and
            `tuning_search_space.json` for external tuning.
        frameworks: those it is written for.
    """

    name: str
    summary: str
    package: str
    frameworks: tuple[Framework, ...] = field(default=(Framework.JAX, Framework.PYTORCH))


def __getattr__(name: str) -> Any:
    # `spec.Workload` is what submissions annotate with; the class itself depends on this module.
    if name == "Workload":
        from algoperf.workload import Workload

        return Workload
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Kept for submissions that annotate with them; the harness calls these functions by keyword.
InitOptimizerFn = Callable[..., OptimizerState]
UpdateParamsFn = Callable[..., UpdateReturn]
DataSelectionFn = Callable[..., Mapping[str, Tensor]]
