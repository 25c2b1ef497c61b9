"""Quantiles of levels of confidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm, t

from interlace.errors import InterlaceError
from interlace.model.confidence import check_level, normal_reach, reach, tails


@given(st.floats(0.001, 1 - 1e-12))
def test_an_interval_of_the_reach_has_the_level(level: float) -> None:
    z = normal_reach(level)
    assert_allclose(2.0 * norm.sf(z), 1.0 - level, rtol=1e-9)
    df = np.array([1.0, 4.5, 300.0, np.inf])
    half = reach(level, df)
    assert_allclose(2.0 * t.sf(half[:-1], df[:-1]), 1.0 - level, rtol=1e-6)
    assert half[-1] == z


def test_tails_name_the_limits() -> None:
    assert tails(0.95) == [0.025, 0.975]
    assert tails(0.9) == [0.05, 0.95]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 95, np.nan])
def test_what_is_no_level(level: float) -> None:
    with pytest.raises(InterlaceError, match=r"^conf_level must be strictly between 0 and 1, not"):
        check_level(level, "conf_level")
