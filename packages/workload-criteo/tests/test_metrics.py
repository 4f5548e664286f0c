"""The metric from the sums of batches."""

import numpy as np
import pytest

from algoperf_criteo.metrics import finalize


def batch(loss: float, examples: int) -> dict[str, np.ndarray]:
    return {"loss": np.float32(loss), "examples": np.float32(examples)}


def test_the_loss_is_the_mean_over_examples():
    assert finalize([batch(6, 4), batch(1, 1)], 5) == {"loss": 1.4}


def test_sums_are_added_in_float64():
    """Of 725 batches, as the test split has; in float32 each sum would be rounded to the next 16th by then."""
    losses = np.float32(16_000.3) + np.arange(725, dtype=np.float32) / 64
    outputs = [batch(loss, 131_072) for loss in losses]
    num_examples = 725 * 131_072
    result = finalize(outputs, num_examples)["loss"]
    assert result == pytest.approx(sum(map(float, losses)) / num_examples, rel=1e-14)
    assert isinstance(result, float)


@pytest.mark.parametrize("counted", [9, 11])
def test_a_wrong_number_of_examples_is_refused(counted):
    with pytest.raises(ValueError, match=f"counted {counted} examples in a split of 10"):
        finalize([batch(1, counted - 4), batch(1, 4)], 10)


def test_what_is_not_a_number_stays_so():
    assert np.isnan(finalize([batch(np.nan, 4), batch(1, 4)], 8)["loss"])
