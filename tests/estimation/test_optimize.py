"""The optimiser on functions that are no mixed models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from interlace.estimation.optimize import Minimum, minimize
from interlace.sums.terms import Floats

DONE = "predicted gain below tolerance"


@dataclass(frozen=True, eq=False)
class At:
    """Value and derivatives of a function at a point."""

    value: float
    gradient: Floats
    newton_matrix: Floats


def quadratic(H: Floats, centre: Floats) -> Callable[[Floats], At]:
    def at(x: Floats) -> At:
        d = x - centre
        return At(float(0.5 * d @ H @ d), H @ d, H)

    return at


def rosenbrock(x: Floats) -> At:
    a, b = x
    rest = b - a**2
    hessian = np.array([[2 - 400 * rest + 800 * a**2, -400 * a], [-400 * a, 200.0]])
    slope = np.array([-2 * (1 - a) - 400 * a * rest, 200 * rest])
    return At(float((1 - a) ** 2 + 100 * rest**2), slope, hessian)


def saddle(x: Floats) -> At:
    """Minima of -1/4 at ``(+-1, 0)``, a saddle point at 0."""
    a, b = x
    value = a**4 / 4 - a**2 / 2 + b**2
    return At(float(value), np.array([a**3 - a, 2 * b]), np.diag([3 * a**2 - 1, 2.0]))


def ring(x: Floats) -> At:
    """Minimum on the unit circle: one direction is flat everywhere on it."""
    r2 = float(x @ x)
    return At((r2 - 1) ** 2, 4 * (r2 - 1) * x, 4 * (r2 - 1) * np.eye(2) + 8 * np.outer(x, x))


def found(function: Callable[[Floats], At], *start: float, **options: float) -> Minimum[At]:
    return minimize(function, np.array(start), **options)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_quadratic(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    M = rng.normal(size=(size, size))
    H, centre = M @ M.T + np.eye(size), rng.normal(size=size)
    result = minimize(quadratic(H, centre), np.zeros(size), radius=1e3)
    assert_allclose(result.x, centre, atol=1e-7)
    assert (result.converged, result.message) == (True, DONE)
    assert result.n_evaluations <= 3
    assert_allclose(result.eigenvalues, np.linalg.eigvalsh(H), rtol=1e-9)


@pytest.mark.parametrize("radius", [1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 0.0), (3.0, -4.0)])
def test_rosenbrock(start: tuple[float, float], radius: float) -> None:
    result = found(rosenbrock, *start, radius=radius)
    assert result.converged
    assert_allclose(result.x, 1.0, atol=1e-6)
    assert result.predicted_gain < 1e-12
    assert result.n_evaluations < 60


@pytest.mark.parametrize("start", [(0.0, 0.0), (0.0, 2.0), (1e-9, 0.0), (-0.2, 1.0)])
def test_a_saddle_point_is_left(start: tuple[float, float]) -> None:
    result = found(saddle, *start)
    assert result.converged
    assert result.point.value == pytest.approx(-0.25, abs=1e-10)
    assert_allclose(np.abs(result.x), [1.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("start", [(2.0, 0.0), (0.1, 0.1), (-3.0, 4.0), (0.0, 0.0)])
def test_flat_directions_are_left_out(start: tuple[float, float]) -> None:
    result = found(ring, *start)
    assert result.converged
    assert result.x @ result.x == pytest.approx(1.0, abs=1e-6)
    assert result.eigenvalues[0] == pytest.approx(0, abs=1e-5)
    if any(start):  # nothing pushes it round the circle
        assert_allclose(result.x, np.array(start) / np.hypot(*start), atol=1e-6)


def test_a_function_that_is_flat_in_one_coordinate() -> None:
    result = minimize(quadratic(np.diag([2.0, 0.0]), np.array([1.0, 0.0])), np.array([5.0, 7.0]))
    assert result.converged
    assert_allclose(result.x, [1.0, 7.0], atol=1e-7)


def test_the_limit_of_evaluations_is_told() -> None:
    result = found(rosenbrock, -1.2, 1.0, max_evaluations=5)
    assert (result.converged, result.message) == (False, "no convergence in 5 evaluations")
    assert result.n_evaluations == 5
    assert result.predicted_gain > 1e-3


def test_a_gradient_that_is_wrong_is_told() -> None:
    def uphill(x: Floats) -> At:
        return At(float(x @ x), -2 * x, np.eye(len(x)))

    result = minimize(uphill, np.array([1.0, 1.0]))
    assert (result.converged, result.message) == (False, "no step reduces the criterion")


def test_values_that_are_no_numbers_are_stepped_back_from() -> None:
    def logarithm(x: Floats) -> At:
        value = x[0] - np.log(x[0]) if x[0] > 0 else np.nan
        return At(float(value), 1 - 1 / x, np.diag(1 / x**2))

    result = minimize(logarithm, np.array([20.0]), radius=100.0)
    assert result.converged
    assert_allclose(result.x, 1.0, atol=1e-6)


def test_the_certificate_is_that_of_the_point() -> None:
    result = found(rosenbrock, -1.2, 1.0)
    at = rosenbrock(result.x)
    assert result.point.value == at.value
    assert_allclose(result.gradient, at.gradient)
    assert_allclose(result.eigenvalues, np.linalg.eigvalsh(at.newton_matrix))


def test_watch_sees_every_accepted_point() -> None:
    seen: list[tuple[int, float, float]] = []
    result = minimize(
        rosenbrock,
        np.array([-1.2, 1.0]),
        watch=lambda n, point, gain: seen.append((n, point.value, gain)),
    )
    counts, values, gains = zip(*seen, strict=True)
    assert counts[0] == 1
    assert list(counts) == sorted(counts)
    assert counts[-1] == result.n_evaluations
    assert list(values) == sorted(values, reverse=True)
    assert gains[-1] == result.predicted_gain


def test_a_large_value_raises_the_tolerance() -> None:
    """Differences below the rounding error of the value cannot be asked for."""

    def shifted(x: Floats) -> At:
        at = rosenbrock(x)
        return At(at.value + 1e9, at.gradient, at.newton_matrix)

    result = found(shifted, -1.2, 1.0)
    assert result.converged
    assert_allclose(result.x, 1.0, atol=1e-2)
