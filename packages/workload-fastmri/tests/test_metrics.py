"""The metrics from the sums of batches."""

import numpy as np
import pytest

from algoperf_fastmri.metrics import finalize


def batch(ssim: float, loss: float, examples: int) -> dict[str, np.ndarray]:
    return {"ssim": np.float32(ssim), "loss": np.float32(loss), "examples": np.float32(examples)}


def test_metrics_are_means_over_examples():
    assert finalize([batch(2, 6, 4), batch(0.5, 1, 1)], 5) == {"ssim": 0.5, "loss": 1.4}


def test_sums_are_added_in_float64():
    """Of 14 batches, as the validation split has."""
    sums = np.float32(191.3) + np.arange(14, dtype=np.float32) / 2**16
    result = finalize([batch(one, 1 - one, 256) for one in sums], 14 * 256)
    assert result["ssim"] == pytest.approx(sum(map(float, sums)) / (14 * 256), rel=1e-14)
    assert all(isinstance(value, float) for value in result.values())


@pytest.mark.parametrize("counted", [9, 11])
def test_a_wrong_number_of_examples_is_refused(counted):
    with pytest.raises(ValueError, match=f"counted {counted} examples in a split of 10"):
        finalize([batch(1, 1, counted - 4), batch(1, 1, 4)], 10)


def test_what_is_not_a_number_stays_so():
    result = finalize([batch(np.nan, 1, 4), batch(1, 1, 4)], 8)
    assert np.isnan(result["ssim"])
    assert result["loss"] == 0.25
