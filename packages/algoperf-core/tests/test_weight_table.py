"""Arrays travel from one framework's names and layouts to the other's, and back."""

import numpy as np
import pytest

from algoperf.weight_table import CONV_AXES, DENSE_AXES, WeightRow, dense_rows, norm_rows, to_jax, to_torch

RNG = np.random.default_rng(0)
HEADS = ((6, 2, 3), (6, 6))
TABLE = [
    *dense_rows("conv", "features.0", CONV_AXES),
    *norm_rows("norm", "features.1"),
    *dense_rows("dense", "fc"),
    # Out of order on purpose: the parts say where they belong.
    WeightRow("value", "kv", DENSE_AXES, HEADS, part=1, parts=2),
    WeightRow("key", "kv", DENSE_AXES, HEADS, part=0, parts=2),
    WeightRow("table", "chunk_1", part=1, parts=2, whole="jax"),
    WeightRow("table", "chunk_0", part=0, parts=2, whole="jax"),
]
SHAPES = {
    "conv/kernel": (3, 5, 2, 4),
    "conv/bias": (4,),
    "norm/scale": (4,),
    "norm/bias": (4,),
    "dense/kernel": (4, 7),
    "dense/bias": (7,),
    "key": HEADS[0],
    "value": HEADS[0],
    "table": (4, 3),
}


@pytest.fixture
def arrays():
    return {name: RNG.standard_normal(shape) for name, shape in SHAPES.items()}


def test_layouts_are_those_of_pytorch(arrays):
    turned = to_torch(TABLE, arrays)
    assert {name: array.shape for name, array in turned.items()} == {
        "features.0.weight": (4, 2, 3, 5),
        "features.0.bias": (4,),
        "features.1.weight": (4,),
        "features.1.bias": (4,),
        "fc.weight": (7, 4),
        "fc.bias": (7,),
        "kv": (12, 6),
        "chunk_1": (2, 3),
        "chunk_0": (2, 3),
    }
    assert turned["features.0.weight"][3, 1, 2, 4] == arrays["conv/kernel"][2, 4, 1, 3]
    np.testing.assert_array_equal(turned["fc.weight"], arrays["dense/kernel"].T)
    np.testing.assert_array_equal(turned["kv"][:6], arrays["key"].reshape(6, 6).T)
    np.testing.assert_array_equal(turned["kv"][6:], arrays["value"].reshape(6, 6).T)
    np.testing.assert_array_equal(turned["chunk_0"], arrays["table"][:2])
    np.testing.assert_array_equal(turned["chunk_1"], arrays["table"][2:])
    assert all(array.flags.c_contiguous for array in turned.values())


def test_there_and_back_is_where_it_began(arrays):
    back = to_jax(TABLE, to_torch(TABLE, arrays))
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("convert", [to_torch, to_jax])
def test_other_parameters_are_refused(convert):
    with pytest.raises(ValueError, match="not the parameters of this model; the first that differ: "):
        convert(TABLE, {"another": np.zeros(1)})
