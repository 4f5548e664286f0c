"""The metrics of language models: loss per token, and perplexity, which is its exponential."""

from collections.abc import Mapping, Sequence

import numpy as np

from algoperf.data import Dataset


def finalize(
    outputs: Sequence[Mapping[str, np.ndarray]], num_examples: int, dataset: Dataset | None = None
) -> dict[str, float]:
    """The metrics of a split from the outputs of all its batches, which are added in float64.

    Args:
        outputs: per batch `losses` and `tokens`, sums over a sequence's tokens, [B]; those of no tokens are padding.
        num_examples: sequences that the split has.
        dataset: not needed.

    Returns:
        `loss`, the mean cross entropy of a token, and `ppl`, the perplexity.

    Raises:
        ValueError: the batches did not hold as many sequences as the split has.
    """
    losses, tokens = (np.concatenate([np.asarray(output[name]) for output in outputs]) for name in ("losses", "tokens"))
    found = int((tokens > 0).sum())
    if found != num_examples:
        raise ValueError(f"The evaluation counted {found} sequences in a split of {num_examples}.")
    loss = float(losses.sum(dtype=np.float64) / tokens.sum(dtype=np.float64))
    with np.errstate(over="ignore"):
        return {"loss": loss, "ppl": float(np.exp(loss))}
