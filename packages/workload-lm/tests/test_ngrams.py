"""Models that count."""

import numpy as np
import pytest

from algoperf_lm.ngrams import bigram_perplexity, bigram_probabilities, unigram_perplexity

RNG = np.random.default_rng(0)


def test_of_tokens_that_are_drawn_evenly_the_perplexity_is_their_number():
    train, evaluated = RNG.integers(0, 8, (400, 65)), RNG.integers(0, 8, (100, 65))
    assert unigram_perplexity(train, evaluated, 8) == pytest.approx(8, rel=0.01)
    assert bigram_perplexity(train, evaluated, 8) == pytest.approx(8, rel=0.01)


def test_what_follows_from_the_token_before_only_pairs_know():
    """Each token is followed by the next one, or in a quarter of the cases by the one after it."""
    steps = 1 + (RNG.random((500, 65)) < 0.25)
    sequences = steps.cumsum(axis=1) % 16
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert bigram_perplexity(sequences[:400], sequences[400:], 16) == pytest.approx(np.exp(entropy), rel=0.02)
    assert unigram_perplexity(sequences[:400], sequences[400:], 16) == pytest.approx(16, rel=0.02)


def test_after_each_token_the_probabilities_add_up_to_one_and_none_is_zero():
    # Token 9 is never followed by anything.
    probabilities = bigram_probabilities(RNG.integers(0, 9, (3, 9)), 10)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(10))
    assert probabilities.min() > 0


def test_a_pair_that_was_never_seen_is_as_likely_as_its_second_token_has_companions():
    """Token 3 was seen often, but only after token 2; token 1 was seen after several."""
    train = np.array([[2, 3, 2, 3, 2, 3, 2, 3, 0, 1, 2, 1, 3, 1, 0, 2]])
    probabilities = bigram_probabilities(train, 5)
    assert probabilities[0, 3] < probabilities[4, 1]
    assert probabilities[4, 3] < probabilities[4, 1]
    counts = np.bincount(train[0, 1:])
    assert counts[3] > counts[1]


def test_the_first_token_of_a_sequence_is_not_predicted():
    train = RNG.integers(0, 4, (50, 9))
    evaluated = RNG.integers(0, 4, (20, 9))
    changed = evaluated.copy()
    changed[:, 0] = 3 - changed[:, 0]
    assert unigram_perplexity(train, evaluated, 4) == unigram_perplexity(train, changed, 4)
