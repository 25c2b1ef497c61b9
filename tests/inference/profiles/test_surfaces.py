"""Profiles where what is held is a function of what the search moves: structured covariances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError
from interlace.inference.profiles.numbers import LinearNumbers


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(9)
    frame = pd.DataFrame({"g": np.repeat(np.arange(16), 12), "f": np.tile(list("abcd"), 48)})
    u = 0.8 * rng.normal(size=(16, 4)) + 0.5 * rng.normal(size=(16, 1))
    eta = 1.0 + u[frame["g"], frame["f"].map({"a": 0, "b": 1, "c": 2, "d": 3})]
    frame["y"] = eta + rng.normal(size=192)
    frame["count"] = rng.poisson(np.exp(0.7 * eta))
    return frame


@pytest.mark.parametrize(
    "term",
    ["cs(0 + f | g)", "ar1(0 + f | g)", "diag(0 + f | g, hom=True)", "cs(0 + f | g, hom=True)"],
)
def test_derivatives_of_numbers_and_criterion(term: str) -> None:
    result = interlace.fit(f"y ~ 1 + {term}", _frame(), method="ML")
    numbers = LinearNumbers(result.estimate)
    x = numbers.start + 0.1 * np.random.default_rng(2).normal(size=len(numbers.start))
    h = 1e-3
    for f, known in (
        (lambda v: numbers.at(v).value, numbers.at(x).gradient),
        (lambda v: numbers.all(v)[0], numbers.all(x)[1].T),
    ):
        found = [
            (f(x - 2 * h * e) - 8 * f(x - h * e) + 8 * f(x + h * e) - f(x + 2 * h * e)) / (12 * h)
            for e in np.eye(len(x))
        ]
        np.testing.assert_allclose(found, known, atol=1e-8 * np.abs(known).max())


@pytest.mark.parametrize(("response", "family"), [("y", "gaussian"), ("count", "poisson")])
def test_one_variance_of_all_columns_is_that_of_nested_levels(response: str, family: str) -> None:
    """Two ways to write one model, of which one is profiled along a straight path."""
    one = interlace.fit(f"{response} ~ 1 + diag(0 + f | g, hom=True)", _frame(), family=family)
    other = interlace.fit(f"{response} ~ 1 + (1 | g:f)", _frame(), family=family)
    found = one.conf_int(method="profile", parm=["Intercept", "sd_diag|g"])
    known = other.conf_int(method="profile", parm=["Intercept", "sd_Intercept|g:f"])
    np.testing.assert_allclose(found, known, rtol=1e-4)
    curve = one.profile("sd_diag|g", level=0.95)
    np.testing.assert_allclose(curve.conf_int(), found.loc[["sd_diag|g"]], rtol=1e-5)


def test_profile_of_a_correlation_is_the_rise_of_fits_that_hold_it() -> None:
    """Compound symmetry by two intercepts: at the limit the deviance has risen by 3.84."""
    frame = _frame()
    best = interlace.fit("y ~ 1 + cs(0 + f | g, hom=True)", frame, method="ML")
    limits = best.conf_int(method="profile", parm=["rho_cs|g", "sigma"])
    lower, upper = limits.loc["rho_cs|g"]
    assert -1.0 / 3.0 < lower < best.tidy("ran_pars")["estimate"].iloc[1] < upper < 1.0
    numbers = LinearNumbers(best.estimate)
    for rho in (lower, upper):
        rises = []
        for sd in np.linspace(0.5, 1.6, 12):
            for sigma in np.linspace(0.85, 1.15, 7):
                x = np.array([sd / sigma, np.arcsin(np.sqrt(0.75 * (1.0 - rho))), 0.0])
                x[2] = numbers.start[2] + np.log(sigma / best.estimate.sigma)
                rises.append(numbers.at(x).value - numbers.least)
        assert 3.8414 < min(rises) < 4.2  # no point of a grid is lower, and some are near


def test_zeros_and_unknown_names_are_refused_in_words() -> None:
    frame = _frame()
    frame["flat"] = frame["y"] - frame.groupby(["g", "f"])["y"].transform("mean")
    with pytest.warns(interlace.SingularFitWarning):
        zero = interlace.fit("flat ~ 1 + diag(0 + f | g, hom=True)", frame)
    with pytest.raises(InterlaceError, match=r"'sd_diag\|g' is estimated as zero"):
        zero.profile("sd_diag|g")
    nodes = interlace.fit(
        "count ~ 1 + diag(0 + f | g, hom=True)",
        frame[frame["f"] < "c"],
        family="poisson",
        quadrature=3,
    )
    with pytest.raises(InterlaceError, match="quadrature=1"):
        nodes.profile("sd_diag|g")
