"""The metrics of OGBG: those of the Open Graph Benchmark (https://arxiv.org/abs/2005.00687, section 4.2)."""

from collections.abc import Mapping, Sequence

import numpy as np

from algoperf.data import Dataset

METRICS = ("accuracy", "loss", "mean_average_precision")


def finalize(
    outputs: Sequence[Mapping[str, np.ndarray]], num_examples: int, dataset: Dataset | None = None
) -> dict[str, float]:
    """Metrics of a split from the outputs of all its batches.

    Args:
        outputs: per batch `logits`, `labels`, `weights` (0: unlabelled or padding) and `losses` (per element), each
            [graphs, tasks], and `num_graphs`, how many of the graphs are no padding.
        num_examples: graphs that the split has.
        dataset: not needed.

    Returns:
        `accuracy` and `loss`, means over all labelled elements, and `mean_average_precision`; all NaN if a logit of a
        labelled element is.

    Raises:
        ValueError: the batches did not hold as many graphs as the split has.
    """
    num_graphs = round(sum(float(o["num_graphs"]) for o in outputs))
    if num_graphs != num_examples:
        raise ValueError(f"The evaluation counted {num_graphs} graphs in a split of {num_examples}.")
    names = ("logits", "labels", "weights", "losses")
    logits, labels, weights, losses = (np.concatenate([np.asarray(o[name]) for o in outputs]) for name in names)
    mask = weights > 0
    if np.isnan(logits[mask]).any():
        return dict.fromkeys(METRICS, float("nan"))
    correct = (logits > 0) == (labels > 0.5)
    return {
        "accuracy": float(correct[mask].mean(dtype=np.float64)),
        "loss": float(losses[mask].mean(dtype=np.float64)),
        "mean_average_precision": mean_average_precision(labels, logits, mask),
    }


def mean_average_precision(labels: np.ndarray, logits: np.ndarray, mask: np.ndarray) -> float:
    """Mean over tasks of the average precision of the labelled graphs; NaN if no task qualifies.

    A task qualifies if its labels hold a 0 and a 1, those of unlabelled graphs and of padding (0) included: the
    reference asks it so, and the published targets were measured so.

    Args:
        labels: [graphs, tasks], 0 or 1.
        logits: [graphs, tasks].
        mask: [graphs, tasks], whether an element is labelled.
    """
    from sklearn.metrics import average_precision_score

    probabilities = sigmoid(logits)
    qualified = np.flatnonzero((labels == 0).any(axis=0) & (labels == 1).any(axis=0))
    precisions = []
    for task in qualified:
        labelled = mask[:, task]
        precisions.append(average_precision_score(labels[labelled, task], probabilities[labelled, task]))
    return float(np.mean(precisions)) if precisions else float("nan")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float32, of which average precision depends on the ties: from a logit of 17 on they are 1."""
    with np.errstate(over="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-logits.astype(np.float32)))
