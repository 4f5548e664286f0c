"""Muon's orthogonal matrices."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.spec import Framework
from algoperf.testing.frameworks import require

require(Framework.PYTORCH)

import torch  # noqa: E402

from algoperf_baselines.muon.pytorch import newton_schulz, orthogonal  # noqa: E402

SIZES = st.integers(1, 12)


@settings(max_examples=50, deadline=None)
@given(rows=SIZES, columns=SIZES, seed=st.integers(0, 2**32 - 1), log10=st.floats(-5, 15))
def test_singular_values_come_near_one(rows: int, columns: int, seed: int, log10: float) -> None:
    x = 10**log10 * np.random.default_rng(seed).standard_normal((2, rows, columns))
    for matrix, found in zip(x, newton_schulz(torch.tensor(x, dtype=torch.float32)).numpy(), strict=True):
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        values = np.diag(u.T @ found @ vt.T)
        large = s / np.linalg.norm(s) > 0.02
        assert ((values[large] > 0.6) & (values[large] < 1.3)).all()
        np.testing.assert_allclose((u * values) @ vt, found, atol=1e-3)


def test_matrices_that_are_stacked_are_made_orthogonal_alone() -> None:
    stacked = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([orthogonal(matrix, 1, 0) for matrix in stacked])
    torch.testing.assert_close(orthogonal(stacked.flatten(0, 1), 3, 0), alone)


def test_kernels_of_transposed_convolutions_have_the_inputs_first() -> None:
    kernel = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonal(kernel, 1, 1), orthogonal(kernel.transpose(0, 1), 1, 0).transpose(0, 1))
