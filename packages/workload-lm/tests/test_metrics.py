"""Loss and perplexity from sums over sequences."""

import numpy as np
import pytest

from algoperf_lm.metrics import finalize


def outputs(*losses: list[float]) -> list[dict[str, np.ndarray]]:
    """Batches of sequences of 8 tokens, whose losses are given; a sequence of None is padding."""
    return [
        {
            "losses": np.array([loss or 0 for loss in batch], np.float32),
            "tokens": np.array([0 if loss is None else 8 for loss in batch], np.float32),
        }
        for batch in losses
    ]


def test_perplexity_is_the_exponential_of_the_mean_loss_of_a_token() -> None:
    metrics = finalize(outputs([8.0, 24.0], [40.0, None]), 3)
    assert metrics.keys() == {"loss", "ppl"}
    assert metrics["loss"] == pytest.approx((8 + 24 + 40) / 24, rel=1e-12)
    assert metrics["ppl"] == pytest.approx(np.exp(3), rel=1e-12)


def test_sequences_of_fewer_tokens_weigh_less() -> None:
    short = {"losses": np.array([3.0], np.float32), "tokens": np.array([1.0], np.float32)}
    assert finalize([*outputs([8.0]), short], 2)["loss"] == pytest.approx(11 / 9, rel=1e-12)


def test_sums_of_many_batches_are_exact() -> None:
    """In float32, a small loss would be lost behind 2**24."""
    batches = [*outputs([8.0 * 2**24]), *outputs(*[[1.0]] * 1_000)]
    assert finalize(batches, 1_001)["loss"] == pytest.approx((8 * 2**24 + 1_000) / (8 * 1_001), rel=1e-12)


@pytest.mark.parametrize("claimed", [2, 4])
def test_each_sequence_has_to_be_counted(claimed: int) -> None:
    with pytest.raises(ValueError, match=f"counted 3 sequences in a split of {claimed}"):
        finalize(outputs([8.0, 24.0], [40.0, None]), claimed)


@pytest.mark.parametrize(("loss", "expected"), [(np.inf, np.inf), (1e9, np.inf), (np.nan, np.nan)])
def test_a_diverged_model_has_no_perplexity(loss: float, expected: float) -> None:
    assert finalize(outputs([loss]), 1)["ppl"] == pytest.approx(expected, nan_ok=True)
