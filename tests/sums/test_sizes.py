"""Numbers whose squares leave the range of double precision."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.errors import InterlaceError


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(15), 12), rng.normal(size=180)
    y = 2.0 + x + (rng.normal(size=15) + 0.5 * rng.normal(size=15) * x[:, None])[range(180), g]
    return {"y": y + rng.normal(size=180), "x": x, "g": g, "w": rng.uniform(0.5, 2.0, 180)}


FORMULAS = ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + (x || g)"]


@pytest.mark.parametrize("power", [-990, -700, -300, 300, 700, 990])
@pytest.mark.parametrize("formula", FORMULAS)
def test_weights_of_any_size_rescale_the_variance_alone(formula: str, power: int) -> None:
    frame = data()
    one = interlace.fit(formula, frame, weights="w")
    other = interlace.fit(formula, frame | {"w": np.ldexp(frame["w"], power)}, weights="w")
    assert other.convergence.converged
    assert_allclose(other.fe_params, one.fe_params, rtol=1e-8)
    assert_allclose(other.fe_bse, one.fe_bse, rtol=1e-6)
    assert_allclose(np.ldexp(other.scale, -power), one.scale, rtol=1e-6)
    assert other.criterion == pytest.approx(one.criterion, abs=1e-6)
    for a, b in zip(other.estimate.covariances, one.estimate.covariances, strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-160, 1e160, 1e200, 1e300])
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize(("column", "named"), [("y", "the response"), ("x", "column 'x'")])
def test_units_that_cannot_be_squared_are_refused(
    formula: str, size: float, column: str, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    frame = data()
    with pytest.raises(InterlaceError, match=f"{named} is of the size .*times 1e"):
        interlace.fit(formula, frame | {column: frame[column] * size})
    assert capfd.readouterr() == ("", "")  # LAPACK says nothing


def test_weights_that_are_no_normal_numbers_are_refused() -> None:
    frame = data()
    with pytest.raises(InterlaceError, match="a weight is of the size"):
        interlace.fit(FORMULAS[0], frame | {"w": frame["w"] * 1e-320}, weights="w")


@pytest.mark.parametrize("power", [-430, 430])
@pytest.mark.parametrize("formula", FORMULAS)
def test_other_units_rescale_everything(formula: str, power: int) -> None:
    frame = data()
    one = interlace.fit(formula, frame)
    other = interlace.fit(formula, frame | {"y": np.ldexp(frame["y"], power)})
    assert_allclose(np.ldexp(other.fe_params, -power), one.fe_params, rtol=1e-6)
    assert_allclose(np.ldexp(other.fe_bse, -power), one.fe_bse, rtol=1e-5)
    assert_allclose(np.ldexp(other.scale, -2 * power), one.scale, rtol=1e-5)
    assert_allclose(other.theta, one.theta, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("theta0", ["x", ["a"], [None, "b"], object(), [1.0, 2.0], np.nan])
def test_starting_values_that_are_none(theta0: object) -> None:
    with pytest.raises(InterlaceError, match="theta0 must hold 1 finite numbers"):
        interlace.fit(FORMULAS[0], data(), theta0=theta0)  # type: ignore[arg-type]
