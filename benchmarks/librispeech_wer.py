"""How long speech's metrics take: from the likeliest token of each frame to both word error rates. Prints JSON.

The 100,000 sentences are random, of twenty words in 500 frames. A token is a word: what SentencePiece takes to make
text of tokens is left out.
"""

import json
import time
from collections.abc import Sequence

import numpy as np

from algoperf_librispeech.metrics import finalize, reference_wer, word_error_rate

SENTENCES, WORDS, FRAMES, VOCABULARY = 100_000, 20, 500, 1_000
BATCH_SIZE, ERROR_RATE = 256, 0.1


class Words:
    """Decodes tokens as words."""

    def __init__(self) -> None:
        self.decoded: list[list[str]] = []

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sentence, which is kept."""
        self.decoded.append([" ".join(f"WORD{i}" for i in sentence) for sentence in ids])
        return self.decoded[-1]


def batch(rng: np.random.Generator) -> dict[str, np.ndarray]:
    targets = rng.integers(3, VOCABULARY, (BATCH_SIZE, WORDS))
    heard = np.where(rng.random(targets.shape) < ERROR_RATE, rng.integers(3, VOCABULARY, targets.shape), targets)
    # Each word for two frames, and then silence.
    frames = np.zeros((BATCH_SIZE, WORDS, FRAMES // WORDS), np.int32)
    frames[:, :, :2] = heard[:, :, None]
    ones = np.ones(BATCH_SIZE, np.float32)
    predictions = frames.reshape(BATCH_SIZE, FRAMES)
    return {"losses": ones, "tokens": ones, "weights": ones, "predictions": predictions, "targets": targets}


def seconds(function, *arguments) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    function(*arguments)
    return round(time.perf_counter() - start, 2)


def main() -> None:
    rng, dataset = np.random.default_rng(0), Words()
    batches = [batch(rng) for _ in range(-(-SENTENCES // BATCH_SIZE))]
    number = len(batches) * BATCH_SIZE
    finalize_s = seconds(finalize, batches, number, dataset)
    result = {
        "sentences": number,
        "finalize_s": finalize_s,
        "of_it_word_error_rate_s": seconds(word_error_rate, *dataset.decoded),
        "of_it_reference_wer_s": seconds(reference_wer, *dataset.decoded),
    }
    print(json.dumps({"benchmark": "librispeech_wer", "words": WORDS, "frames": FRAMES, **result}))


if __name__ == "__main__":
    main()
