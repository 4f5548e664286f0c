"""The metrics of speech recognition: CTC loss per token, and word error rates of what greedy decoding writes down."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from rapidfuzz.distance import Levenshtein

from algoperf_librispeech.spec import BLANK

METRICS = ("ctc_loss", "loss", "wer", "word_error_rate")


class Decoder(Protocol):
    """A data set that can turn token ids back into text."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sentence of token ids."""


def finalize(outputs: Sequence[Mapping[str, np.ndarray]], num_examples: int, dataset: Decoder) -> dict[str, float]:
    """Metrics of a split from the outputs of all its batches.

    Args:
        outputs: per batch `losses` and `tokens`, float [B]; `predictions`, the likeliest token of each frame, int
            [B, T]; `targets`, token ids, int [B, L]; `weights` [B], 0 for padding. T and L may differ between batches.
        num_examples: utterances that the split has.
        dataset: turns predictions into text, and targets too: references have gone through the tokenizer.

    Returns:
        `ctc_loss` per token, and `loss`, which is the same; the word error rates `wer` and `word_error_rate`, see
        `reference_wer` and `word_error_rate`. All are NaN if a loss is not finite.

    Raises:
        ValueError: the batches did not hold as many utterances as the split has.
    """
    real = [_without_padding(output) for output in outputs]
    losses, tokens = (np.concatenate([batch[name] for batch in real]) for name in ("losses", "tokens"))
    if len(losses) != num_examples:
        raise ValueError(f"The evaluation counted {len(losses)} utterances in a split of {num_examples}.")
    if not np.isfinite(losses).all():
        return dict.fromkeys(METRICS, float("nan"))
    hypotheses = dataset.decode([ids for batch in real for ids in collapsed(batch["predictions"])])
    references = dataset.decode([ids for batch in real for ids in _without_blanks(batch["targets"])])
    loss = float(losses.sum(dtype=np.float64) / max(tokens.sum(dtype=np.float64), 1))
    return {
        "ctc_loss": loss,
        "loss": loss,
        "wer": reference_wer(hypotheses, references),
        "word_error_rate": word_error_rate(hypotheses, references),
    }


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Words that have to be changed, left out or added in all hypotheses, per word of the references."""
    words = [reference.split() for reference in references]
    return _distance(map(str.split, hypotheses), words) / max(sum(map(len, words)), 1)


def reference_wer(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The word error rate as the public implementation counts, in terms of which the published targets are.

    It takes each text as TensorFlow prints it, "tf.Tensor(b'THE CAT', shape=(), dtype=string)". So a reference has two
    words more than it should, and an empty one three; and where only one of the two texts has an apostrophe, their
    quotation marks differ, and with them the first and the last word.
    """
    printed = [_as_printed(text) for text in references]
    errors = _distance((_as_printed(text).split() for text in hypotheses), [text.split() for text in printed])
    return errors / max(sum(len(text.split(" ")) for text in printed), 1)


def collapsed(predictions: np.ndarray) -> list[list[int]]:
    """The tokens of each row of frames [B, T]: repetitions are one token, and then blanks are none."""
    is_new = np.ones(predictions.shape, bool)
    is_new[:, 1:] = predictions[:, 1:] != predictions[:, :-1]
    return _chosen(predictions, is_new & (predictions != BLANK))


def _without_blanks(targets: np.ndarray) -> list[list[int]]:
    return _chosen(targets, targets != BLANK)


def _chosen(ids: np.ndarray, is_chosen: np.ndarray) -> list[list[int]]:
    ends = np.cumsum(is_chosen.sum(axis=1))
    return [part.tolist() for part in np.split(ids[is_chosen], ends[:-1])] if len(ids) else []


def _without_padding(output: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    is_real = np.asarray(output["weights"]) > 0
    return {name: np.asarray(output[name])[is_real] for name in ("losses", "tokens", "predictions", "targets")}


def _as_printed(text: str) -> str:
    return f"tf.Tensor({text.encode()!r}, shape=(), dtype=string)"


def _distance(hypotheses: Iterable[list[str]], references: Iterable[list[str]]) -> int:
    """Changes of words over all pairs."""
    return sum(Levenshtein.distance(*pair) for pair in zip(hypotheses, references, strict=True))
