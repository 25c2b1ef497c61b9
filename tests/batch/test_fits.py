"""Batched fits: what is left of the residuals at their ends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numpy.testing import assert_allclose

from interlace.batch.fits import LOST_RESIDUALS, lost, share_left


def test_sums_that_leave_nothing_have_lost_the_residuals() -> None:
    """A search may end where sums, added again, leave less than nothing: that is no number."""
    batch = SimpleNamespace(nu=10.0, yy=np.ones(3))
    factor = SimpleNamespace(sigma2=np.array([0.05, np.nan, 1e-13]))
    assert_allclose(share_left(batch, factor), [0.5, 0.0, 1e-12])
    assert lost(batch, factor) == {1: LOST_RESIDUALS, 2: LOST_RESIDUALS}
