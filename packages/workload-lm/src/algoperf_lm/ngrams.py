"""Perplexity of models that count: what a trained model has to be clearly better than. Numpy only."""

import numpy as np


def unigram_perplexity(train: np.ndarray, evaluated: np.ndarray, vocab_size: int) -> float:
    """Perplexity of a model that knows how frequent each token is.

    Each token counts once more than it was seen (Laplace), so that none is impossible.

    Args:
        train: sequences that are counted, token ids [N, L + 1].
        evaluated: sequences whose tokens are predicted, all but the first of each, [M, L + 1].
        vocab_size: tokens that there are.
    """
    counts = np.bincount(train[:, 1:].ravel(), minlength=vocab_size) + 1.0
    return _perplexity((counts / counts.sum())[evaluated[:, 1:].ravel()])


def bigram_perplexity(train: np.ndarray, evaluated: np.ndarray, vocab_size: int) -> float:
    """Perplexity of a model that knows which token follows which: interpolated Kneser-Ney smoothing.

    Kneser and Ney (https://doi.org/10.1109/ICASSP.1995.479394), interpolated as in Chen and Goodman
    (https://doi.org/10.1006/csla.1999.0128), with their estimate of the discount. Arguments as in
    `unigram_perplexity`.
    """
    return _perplexity(bigram_probabilities(train, vocab_size)[evaluated[:, :-1].ravel(), evaluated[:, 1:].ravel()])


def bigram_probabilities(train: np.ndarray, vocab_size: int) -> np.ndarray:
    """The probability of each token after each token, float64 [V, V]; see `bigram_perplexity`."""
    pairs = train[:, :-1].astype(np.int64).ravel() * vocab_size + train[:, 1:].ravel()
    counts = np.bincount(pairs, minlength=vocab_size**2).reshape(vocab_size, vocab_size)
    # Where no pair was seen once only, one counts as if it were.
    once, twice = max(1, (counts == 1).sum()), (counts == 2).sum()
    discount = once / (once + 2 * twice)
    seen = counts > 0
    # How many tokens a token follows, rather than how often it was seen; one more each, as above.
    followed = seen.sum(axis=0) + 1.0
    totals = counts.sum(axis=1, keepdims=True)
    left = np.where(totals > 0, discount * seen.sum(axis=1, keepdims=True) / np.maximum(totals, 1), 1.0)
    return np.maximum(counts - discount, 0) / np.maximum(totals, 1) + left * followed / followed.sum()


def _perplexity(probabilities: np.ndarray) -> float:
    return float(np.exp(-np.log(probabilities).mean()))
