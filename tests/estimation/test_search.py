"""The rules of the search, and that one function and many are searched alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from interlace.batch.optimize import Points, minimize_many
from interlace.estimation.optimize import minimize
from interlace.estimation.search import (
    MOVES,
    SHRINKS,
    Outcome,
    Secant,
    Step,
    bounds,
    model_of,
    secant,
    verdict,
)
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class At:
    value: float
    gradient: Floats
    newton_matrix: Floats


@dataclass(frozen=True, eq=False)
class Quartics:
    """``sum (x^2 - a)^2 / 4`` with a Newton matrix that is ``wrong`` times the right one."""

    a: Floats
    wrong: float

    def evaluate(self, x: Floats) -> Points:
        gap = x**2 - self.a
        newton = np.zeros((*x.shape, x.shape[1]))
        i = np.arange(x.shape[1])
        newton[:, i, i] = self.wrong * (3 * x**2 - self.a)
        value = (gap**2).sum(axis=1) / 4
        return Points(np.where(np.abs(x).max(axis=1) > 50, np.inf, value), x * gap, newton)

    def take(self, which: object) -> Quartics:
        return Quartics(self.a[which], self.wrong)

    def one(self, i: int, x: Floats) -> At:
        points = Quartics(self.a[[i]], self.wrong).evaluate(x[None])
        return At(float(points.value[0]), points.gradient[0], points.newton[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.8, 2.5, 4.0]))
def test_many_functions_are_searched_as_each_alone(seed: int, wrong: float) -> None:
    rng = np.random.default_rng(seed)
    problem = Quartics(rng.uniform(0.1, 9.0, size=(5, 3)), wrong)
    start = rng.normal(size=(5, 3)) * rng.choice([0.0, 1.0, 5.0], size=(5, 1))
    many = minimize_many(problem, start, gain_tolerance=1e-11)
    for i in range(5):
        alone = minimize(lambda x, i=i: problem.one(i, x), start[i], gain_tolerance=1e-11)
        assert alone.converged == many.converged[i]
        assert abs(alone.n_evaluations - many.n_evaluations[i]) <= 1
        assert_allclose(many.x[i], alone.x, atol=1e-4)
        assert many.value[i] == pytest.approx(alone.point.value, abs=1e-9)


def test_a_wrong_newton_matrix_is_corrected_in_a_batch_too() -> None:
    problem = Quartics(np.array([[1.0, 4.0], [9.0, 2.0]]), 4.0)
    start = np.array([[1.3, 2.2], [2.6, 1.1]])
    corrected = minimize_many(problem, start)
    plain = minimize_many(problem, start, correct=Secant(small=0.0))
    assert corrected.converged.all() and plain.converged.all()
    assert (corrected.n_evaluations < 0.7 * plain.n_evaluations).all()


def test_the_correction_follows_the_constants() -> None:
    problem = Quartics(np.array([[1.0, 4.0]]), 4.0)
    start = np.array([1.3, 2.2])

    def evaluations(correct: Secant) -> int:
        return minimize(lambda x: problem.one(0, x), start, correct=correct).n_evaluations

    early, usual, never = Secant(slow=0.1), Secant(), Secant(small=0.0)
    assert evaluations(early) <= evaluations(usual) < evaluations(never)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_trial_values_that_are_no_numbers_shorten_the_step(bad: float) -> None:
    """Only the value is asked for there."""

    @dataclass(frozen=True)
    class Nowhere:
        value: float

    def function(x: Floats) -> At:
        if x[0] <= 0.0:
            return Nowhere(bad)  # type: ignore[return-value]
        value = x[0] - np.log(x[0])
        return At(float(value), 1 - 1 / x, np.diag(1 / x**2))

    found = minimize(function, np.array([20.0]), radius=100.0)
    assert found.converged
    assert_allclose(found.x, 1.0, atol=1e-6)


def test_a_start_without_a_value_is_told() -> None:
    found = minimize(lambda x: At(np.inf, x, np.eye(2)), np.zeros(2))
    assert (found.converged, found.n_evaluations) == (False, 1)
    assert found.outcome is Outcome.INVALID
    assert found.message == "the criterion cannot be evaluated at the start"


@pytest.mark.parametrize("gain_tolerance", [1e-12, 1e-9])
@pytest.mark.parametrize("value", [0.0, 200.0, 1e6, 1e9])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0, 1.1, 1.3, 5.0])
def test_a_gain_near_the_tolerance_converges_whatever_is_found(
    gain_tolerance: float, value: float, share: float
) -> None:
    """No verdict hangs on the last digits of a gain or of the value."""
    limit = bounds(value, 3, gain_tolerance)
    gain = np.asarray(share * limit.tolerance)
    for actual in (-3.0, -1.5, -1.0, 0.0, 0.5, 1.0):
        step = Step(np.asarray(0.1), gain, np.asarray(actual * limit.tolerance))
        found = int(verdict(gain, step, limit))
        assert found == MOVES or Outcome(found).found


def test_verdicts_on_steps() -> None:
    limit = bounds(1.0, 2, 1e-12)
    gain = np.array([1.0, 1.0, 1.0, 1e-13, 5e-11])
    length = np.array([1.0, 1.0, 1e-13, 1e-3, 1e-3])
    actual = np.array([0.9, -0.5, -0.5, -1e-9, -1e-9])
    promised = np.array([1.0, 1.0, 1.0, 1e-13, 5e-11])
    found = verdict(gain, Step(length, promised, actual), limit).tolist()
    assert found == [MOVES, SHRINKS, Outcome.STUCK, Outcome.CONVERGED, Outcome.NEGLIGIBLE]


def test_the_update_satisfies_the_secant_equation() -> None:
    rng = np.random.default_rng(0)
    correction, step, missed = np.zeros((4, 3, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    updated = secant(correction, step, missed)
    assert_allclose((updated @ step[..., None])[..., 0], missed, atol=1e-12)
    assert_allclose(updated[1], secant(correction[1], step[1], missed[1]))
    assert_allclose(secant(correction, step, np.zeros((4, 3))), 0.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_steps_stay_inside_the_radius(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    M = rng.normal(size=(6, size, size))
    gradient, radius = rng.normal(size=(6, size)), rng.uniform(0.01, 2.0, size=6)
    models = model_of(gradient, M + M.swapaxes(1, 2))
    steps, promised = models.step(radius)
    assert (np.linalg.norm(steps, axis=1) <= radius * (1 + 1e-9)).all()
    assert (promised > 0).all()
    for i in range(6):
        step, gain = model_of(gradient[i], (M + M.swapaxes(1, 2))[i]).step(radius[i])
        assert_allclose(steps[i], step, rtol=1e-6, atol=1e-9)
        assert promised[i] == pytest.approx(float(gain), rel=1e-6)
