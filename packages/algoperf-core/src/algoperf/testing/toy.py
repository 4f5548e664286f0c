"""A workload for tests of the harness: a small MLP that classifies generated points, in steps of milliseconds."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from algoperf.spec import (
    Budget,
    DatasetSpec,
    Framework,
    LossType,
    Scale,
    Split,
    Target,
    WorkloadSpec,
)


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """Widths of the network."""

    num_features: int = 8
    width: int = 32
    num_classes: int = 4


_FULL = WorkloadSpec(
    name="toy",
    summary="a small MLP on generated points, for tests",
    target=Target(metric="accuracy", goal="max", validation=0.83, test=0.77),
    loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
    num_train_examples=1000,
    num_eval_train_examples=100,
    num_validation_examples=250,
    num_test_examples=250,
    eval_batch_size=128,
    budgets={rules: Budget(max_runtime_s=20.0, eval_period_s=1.0) for rules in ("v0.6", "v1.0")},
    step_hint=200,
    dropout_rate=0.1,
    dataset=DatasetSpec(
        name="",
        open="algoperf.testing.toy:open_dataset",
        finalize="algoperf.testing.toy:finalize",
        source="generated",
        licence="none",
    ),
    model=Mlp(),
    implementations={
        Framework.JAX: "algoperf.testing.toy_jax:ToyJax",
        Framework.PYTORCH: "algoperf.testing.toy_pytorch:ToyTorch",
    },
    output_layer={Framework.JAX: "output", Framework.PYTORCH: "output"},
)
TOY = replace(_FULL, mini=replace(_FULL, scale=Scale.MINI, batch_size=32, dropout_rate=0.0))

_FIRST_EXAMPLE = {Split.TRAIN: 0, Split.EVAL_TRAIN: 0, Split.VALIDATION: 10_000, Split.TEST: 20_000}


def open_dataset(spec: WorkloadSpec, folder: Path | None) -> Any:
    """The generated points."""
    # Imported here, because listing workloads must not import grain.
    from algoperf.testing.toy_data import ToyDataset

    return ToyDataset(spec)


def points(spec: WorkloadSpec, split: Split, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Examples of a split: overlapping Gaussian clusters, one per class; each depends on its index alone."""
    model = spec.model
    rows = []
    for index in indices:
        rng = np.random.default_rng([_FIRST_EXAMPLE[split] + int(index)])
        label = rng.integers(model.num_classes)
        centre = np.where(np.arange(model.num_features) % model.num_classes == label, 1.5, 0.0)
        rows.append((centre + rng.standard_normal(model.num_features), label))
    inputs, targets = zip(*rows, strict=True)
    return {"inputs": np.array(inputs, np.float32), "targets": np.array(targets, np.int32)}


def finalize(outputs: list[dict[str, np.ndarray]], num_examples: int, dataset: Any = None) -> dict[str, float]:
    """Mean loss and accuracy. Raises ValueError if not every example was counted exactly once."""
    sums = {name: float(np.sum([output[name] for output in outputs], dtype=np.float64)) for name in outputs[0]}
    if sums.pop("examples") != num_examples:
        raise ValueError(f"The evaluation did not cover {num_examples} examples exactly once.")
    return {name: value / num_examples for name, value in sums.items()}
