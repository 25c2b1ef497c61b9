"""A fit by the iterative solver that turns out dearer than an exact one changes over, once."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.estimation import probed
from interlace.estimation.changeover import forecast, probes_needed
from interlace.estimation.criterion import Criterion, Evaluation
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.solver import choose
from interlace.solver.choose import choose_solver, iterative_seconds
from interlace.solver.equations import Exact, Iterative
from interlace.solver.probes import Probes
from interlace.sums.crossprod import CrossProducts


def data(pupils: int = 1200, teachers: int = 150, rows: int = 3000) -> dict[str, object]:
    """Few rows a pupil, each with another teacher: the equations of the teachers are hard."""
    rng = np.random.default_rng(4)
    pupil = rng.integers(0, pupils, rows)
    teacher = (pupil * teachers // pupils + rng.integers(0, 4, rows)) % teachers
    y = rng.normal(size=pupils)[pupil] + rng.normal(size=teachers)[teacher]
    return {"y": y + rng.normal(size=rows), "pupil": pupil, "teacher": teacher}


@functools.cache
def exact() -> Estimate:
    return interlace.fit("y ~ 1 + (1 | pupil) + (1 | teacher)", data(), solver="exact").estimate


def fitted(seconds: float | None, tolerance: float = 0.05) -> tuple[Estimate, list[int]]:
    """The fit whose exact evaluations would take so long, and the evaluations told of."""
    told: list[int] = []

    def watch(n: int, point: Evaluation, gain: float) -> None:
        told.append(n)

    solver = Iterative(Probes(4, 0), exact_seconds=seconds)
    criterion = Criterion(exact().A, True, solver)
    return estimate_theta(criterion, mc_tolerance=tolerance, watch=watch), told


def test_a_dearer_fit_changes_at_the_first_point() -> None:
    found, told = fitted(0.0)
    assert found.convergence.solver == "exact"
    assert found.convergence.monte_carlo_error is None
    assert "changed from the iterative solver to the exact one" in found.convergence.message
    assert "CG iterations" in found.convergence.message
    assert isinstance(found.criterion.equations, Exact)
    assert found.value == pytest.approx(exact().value, abs=1e-8)
    assert_allclose(found.theta, exact().theta, rtol=1e-6)
    assert told == sorted(set(told))
    assert found.convergence.n_evaluations >= told[-1]


@pytest.mark.parametrize("seconds", [None, np.inf])
def test_others_keep_their_solver(seconds: float | None) -> None:
    found, _ = fitted(seconds)
    assert found.convergence.solver == "iterative"
    assert "changed" not in found.convergence.message


def test_a_fit_changes_where_more_probes_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first forecast was wrong: it is asked again before probes are added."""
    asked = []

    def wrong(equations: Iterative, point: Evaluation, excess: float, *, searched: bool) -> object:
        asked.append(searched)
        honest = forecast(equations, point, excess, searched=searched)
        assert honest is not None
        return honest if searched else replace(honest, iterative=0.0)

    monkeypatch.setattr(probed, "forecast", wrong)
    found, told = fitted(0.0, tolerance=1e-3)
    assert asked == [False, True]
    assert found.convergence.solver == "exact"
    assert told == sorted(set(told))
    assert found.value == pytest.approx(exact().value, abs=1e-8)


def test_what_is_asked_for_is_kept() -> None:
    made = interlace.fit("y ~ 1 + (1 | pupil) + (1 | teacher)", data(), solver="iterative")
    assert made.convergence.solver == "iterative"
    assert made.estimate.criterion.equations.exact_seconds is None  # type: ignore[union-attr]


def test_only_a_choice_may_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_QUICK", 0.0)
    monkeypatch.setattr(choose, "_ADVANTAGE", 0.0)
    chosen = choose_solver(exact().A, "auto", 0)
    assert isinstance(chosen, Iterative)
    assert chosen.exact_seconds == choose.predict_costs(exact().A).exact.seconds


def test_the_forecast_counts_probes_and_iterations() -> None:
    A: CrossProducts = exact().A
    few = iterative_seconds(A, 16, 12)
    assert iterative_seconds(A, 16, 48) == pytest.approx(4.0 * few)
    assert iterative_seconds(A, 1024, 12) > 20.0 * few
    point = Criterion(A, True, Iterative(Probes(4, 0))).at(exact().templates)
    solver = Iterative(Probes(4, 0), exact_seconds=1.0).on(A)
    assert isinstance(solver, Iterative)
    known = [forecast(solver, point, excess, searched=False) for excess in (0.5, 3.0, 100.0)]
    assert [one.probes for one in known if one is not None] == [4, 47, 150]


def test_probes_that_are_needed() -> None:
    assert probes_needed(16, 5000, 0.9) is None
    assert probes_needed(16, 5000, 2.0) == 84
    assert probes_needed(16, 5000, 1e9) == 1024
    assert probes_needed(1024, 5000, 2.0) is None
    assert probes_needed(16, 100, 2.0) == 100
