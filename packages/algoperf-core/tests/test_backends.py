"""What a backend promises the harness, beyond what trials and the conformance kit show."""

import numpy as np
import pytest

from algoperf.spec import Framework
from algoperf.testing.frameworks import require


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pytorch_copies_to_the_host_also_on_the_host(dtype):
    """An output of an evaluation that is kept must not keep a part of the heap: ten million rows grew by 4 GB."""
    require(Framework.PYTORCH)
    import torch

    from algoperf.backends.pytorch import TorchBackend

    tensor = torch.from_numpy(np.arange(3, dtype=dtype))
    copied = TorchBackend().to_host({"sums": tensor})["sums"]
    assert copied.dtype == dtype
    tensor[0] = 7
    np.testing.assert_array_equal(copied, [0, 1, 2])
