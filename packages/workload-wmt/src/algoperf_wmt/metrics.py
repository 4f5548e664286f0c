"""The metrics of translation: loss and accuracy per token, and BLEU (Papineni et al., 2002; Post, 2018).

https://aclanthology.org/P02-1040, and https://arxiv.org/abs/1804.08771 for its computation.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from algoperf_wmt.spec import END, PADDING

METRICS = ("accuracy", "loss", "bleu")


class Decoder(Protocol):
    """A data set that can turn token ids back into text."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sentence of token ids."""


def finalize(outputs: Sequence[Mapping[str, np.ndarray]], num_examples: int, dataset: Decoder) -> dict[str, float]:
    """Metrics of a split from the outputs of all its batches.

    Args:
        outputs: per batch `losses`, `correct` and `tokens`, sums over a sentence's tokens, [B]; `predictions`, int
            [B, L - 1], and `targets`, int [B, L], token ids. Sentences of no tokens are padding.
        num_examples: sentences that the split has.
        dataset: turns predictions into text, and targets too: references have gone through the tokenizer.

    Returns:
        `loss` and `accuracy`, means over all tokens, and `bleu`, 0 to 100; all NaN if a loss is not finite.

    Raises:
        ValueError: the batches did not hold as many sentences as the split has.
    """
    names = ("losses", "correct", "tokens", "predictions", "targets")
    arrays = {name: np.concatenate([np.asarray(output[name]) for output in outputs]) for name in names}
    is_real = arrays["tokens"] > 0
    if is_real.sum() != num_examples:
        raise ValueError(f"The evaluation counted {is_real.sum()} sentences in a split of {num_examples}.")
    losses, correct, tokens, predictions, targets = (arrays[name][is_real] for name in names)
    if not np.isfinite(losses).all():
        return dict.fromkeys(METRICS, float("nan"))
    num_tokens = tokens.sum(dtype=np.float64)
    return {
        "accuracy": float(correct.sum(dtype=np.float64) / num_tokens),
        "loss": float(losses.sum(dtype=np.float64) / num_tokens),
        "bleu": bleu(
            dataset.decode([_before_end(row) for row in predictions]),
            dataset.decode([_before_end(_without_padding(row)) for row in targets]),
        ),
    }


def bleu(predictions: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of a corpus, 0 to 100: one reference each, tokenised like `mteval-v13a`, exponential smoothing."""
    import sacrebleu

    # Forced: without it, text that looks tokenised brings a warning.
    result = sacrebleu.corpus_bleu(
        list(predictions), [list(references)], smooth_method="exp", tokenize="13a", force=True
    )
    return float(result.score)


def _before_end(ids: np.ndarray) -> list[int]:
    """The ids before the first END, or all of them."""
    ends = np.flatnonzero(ids == END)
    return ids[: ends[0]].tolist() if len(ends) else ids.tolist()


def _without_padding(ids: np.ndarray) -> np.ndarray:
    """The ids without padding at their end; inside, the same id is that of unknown text."""
    return ids[: len(ids) - np.argmax(ids[::-1] != PADDING)]
