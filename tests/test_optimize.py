"""The optimiser on functions that are not mixed models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interlace.optimize import minimize


@dataclass(frozen=True)
class At:
    value: float
    gradient: np.ndarray
    newton_matrix: np.ndarray


def bowl(x: np.ndarray) -> At:
    H = np.diag([1.0, 100.0])
    return At(0.5 * x @ H @ x - x.sum(), H @ x - 1.0, H)


def rosenbrock(x: np.ndarray) -> At:
    a, b = x
    gradient = np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])
    H = np.array([[2 - 400 * (b - 3 * a * a), -400 * a], [-400 * a, 200.0]])
    return At((1 - a) ** 2 + 100 * (b - a * a) ** 2, gradient, H)


def double_well(x: np.ndarray) -> At:
    """Even in the first coordinate: 0 is stationary but no minimum."""
    a, b = x
    gradient = np.array([4 * a**3 - 2 * a, 2 * b])
    return At(a**4 - a**2 + b * b, gradient, np.diag([12 * a * a - 2, 2.0]))


def ring(x: np.ndarray) -> At:
    """Flat along the circle of radius 1."""
    r2 = x @ x
    return At((r2 - 1) ** 2, 4 * (r2 - 1) * x, 8 * np.outer(x, x) + 4 * (r2 - 1) * np.eye(2))


@pytest.mark.parametrize(
    ("function", "start", "best"),
    [
        (bowl, [30.0, -4.0], -0.505),
        (rosenbrock, [-1.2, 1.0], 0.0),
        (double_well, [0.0, 1.0], -0.25),
        (ring, [3.0, 4.0], 0.0),
    ],
)
def test_minimum(function: Callable[[np.ndarray], At], start: list[float], best: float) -> None:
    found = minimize(function, np.array(start))
    assert found.converged
    assert_allclose(found.point.value, best, atol=1e-9)
    assert_allclose(found.gradient, 0.0, atol=1e-5)
    assert found.predicted_gain < 1e-9


def test_evaluations_are_counted_and_limited() -> None:
    calls = 0

    def counted(x: np.ndarray) -> At:
        nonlocal calls
        calls += 1
        return rosenbrock(x)

    found = minimize(counted, np.array([-1.2, 1.0]))
    assert found.n_evaluations == calls
    short = minimize(rosenbrock, np.array([-1.2, 1.0]), max_evaluations=4)
    assert not short.converged
    assert short.message == "no convergence in 4 evaluations"


def test_steps_are_watched() -> None:
    seen: list[int] = []
    minimize(bowl, np.array([3.0, 3.0]), watch=lambda n, point, gain: seen.append(n))
    assert seen == sorted(seen)
    assert seen[0] == 1
