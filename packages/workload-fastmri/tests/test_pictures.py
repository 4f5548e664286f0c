"""What `data show` draws of slices."""

import numpy as np

from algoperf_fastmri.pictures import pictures


def test_images_are_on_the_scale_of_their_volume_and_padding_is_not_drawn():
    rng = np.random.default_rng(0)
    batch = {
        "inputs": rng.normal(size=(3, 8, 8)),
        "targets": rng.normal(size=(3, 8, 8)),
        "mean": np.array([2.0, 3.0, 0.0]),
        "std": np.array([0.5, 1.0, 0.0]),
        "volume_max": np.array([5.0, 0.0, 0.0]),
        "weights": np.array([1.0, 1.0, 0.0]),
    }
    rows = pictures(None, batch)
    assert [[picture.title for picture in row] for row in rows] == [["zero-filled", "target"]] * 2
    expected = np.clip((batch["inputs"][0] * 0.5 + 2) / 5, 0, 1)
    np.testing.assert_allclose(rows[0][0].pixels, expected)
    with_model = pictures(None, batch, logits=batch["targets"])
    assert [picture.title for picture in with_model[0]] == ["zero-filled", "model", "target"]
    np.testing.assert_array_equal(with_model[0][1].pixels, with_model[0][2].pixels)
