"""The criterion with a residual structure against its dense definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from interlace.covariance.stacks import Joined, Separate
from interlace.covariance.structures import STRUCTURES
from interlace.covariance.templates import Full, Places
from interlace.estimation import structured
from interlace.estimation.residual import estimate_structured
from interlace.estimation.structured import StructuredCriterion, StructuredEvaluation
from interlace.sums.crossprod import cross_products
from interlace.sums.patterns import Visits, patterns
from interlace.sums.rows import Rows
from interlace.sums.terms import Floats

TIMES = (0.0, 1.0, 2.5, 3.0)
KINDS = [(name, groups) for name in STRUCTURES for groups in (1, 2)]


def problem(
    name: str, *, groups: int = 1, subjects: int = 90, reml: bool = True, missing: float = 0.3
) -> tuple[StructuredCriterion, Rows, Visits]:
    """Subjects with visits missing at random, weights, an offset, rows in any order.

    Some patterns have many subjects, others few.
    """
    rng = np.random.default_rng(3)
    V = len(TIMES)
    subject, visit = np.repeat(np.arange(subjects), V), np.tile(np.arange(V), subjects)
    seen = rng.random(len(subject)) > missing * (subject % 3 > 0)
    seen[visit == subject % V] = True
    order = rng.permutation(np.flatnonzero(seen))
    subject, visit = subject[order], visit[order]
    n = len(subject)
    X = np.column_stack([np.ones(n), rng.normal(size=n), visit == 1, subject % 2])
    common = rng.normal(size=subjects)[subject]
    rows = Rows(
        y=30.0 * (X @ [1.0, 0.5, -1.0, 2.0] + common + rng.normal(size=n) * (1.0 + 0.3 * visit)),
        X=np.asarray(X, dtype=np.float64),
        names=("one", "x", "late", "arm"),
        Z=(),
        codes=(),
        terms=(),
        weights=rng.uniform(0.5, 2.0, n),
        offset=rng.normal(size=n),
    )
    A = cross_products(rows)
    at = Visits(subject, visit, (subject % groups), subjects, V, groups)
    columns = rows.weighted(np.column_stack([rows.X, rows.response])) @ A.basis.fixed
    sums = patterns(at, columns)
    return StructuredCriterion(A, sums, Separate(STRUCTURES[name](TIMES), groups), reml), rows, at


def dense(
    rows: Rows, at: Visits, Sigmas: Floats, D: list[Floats], own: Sequence[Places], reml: bool
) -> tuple[float, Floats, Floats, Floats]:
    """Value, gradient, average and expected information along ``D`` of every group, n by n."""
    n, p = rows.X.shape
    root = rows.root_weights
    same = (at.subjects[:, None] == at.subjects) / np.outer(root, root)
    g, i, j = at.groups, at.visits[:, None], at.visits[None, :]
    V = Sigmas[g[:, None], i, j] * same
    slopes = np.zeros((1 + max(int(o.max()) for o in own), n, n))
    for group, d in enumerate(D):
        mine = same * (g[:, None] == group)
        slopes[own[group]] += np.stack([mine * d[i, j, a] for a in range(d.shape[2])])
    Vi = np.linalg.inv(V)
    XVX = rows.X.T @ Vi @ rows.X
    P = Vi - Vi @ rows.X @ np.linalg.solve(XVX, rows.X.T @ Vi)
    y = rows.response
    nu = n - p if reml else n
    value = nu * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + y @ P @ y
    value += np.linalg.slogdet(XVX)[1] if reml else 0.0
    T, Py = P if reml else Vi, P @ y
    moved = np.stack([d @ Py for d in slopes])
    gradient = np.array([(T * d).sum() for d in slopes]) - moved @ Py
    average = moved @ P @ moved.T
    turned = np.stack([T @ d for d in slopes])
    expected = np.einsum("aij,bji->ab", turned, turned, optimize=True)
    return float(value), gradient, average, expected


def close(found: Floats, known: Floats) -> None:
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-8 * np.abs(known).max())


def checked(criterion: StructuredCriterion, rows: Rows, at: Visits, x: Floats) -> None:
    """Compare all that an evaluation says with the dense definition."""
    point, unit = criterion(x), criterion.A.basis.response_scale**-2
    D = [unit * J for J in point.jacobians]
    value, gradient, average, expected = dense(
        rows, at, unit * point.covariances, D, point.own, criterion.reml
    )
    assert point.value == pytest.approx(value, rel=1e-11)
    close(point.gradient, gradient)
    close(point.average(point.jacobians), average)
    close(point.expected(point.jacobians), expected)


@pytest.mark.parametrize(("name", "groups"), KINDS)
@pytest.mark.parametrize("reml", [True, False])
def test_value_gradient_and_information_are_the_dense_ones(
    name: str, groups: int, reml: bool
) -> None:
    criterion, rows, at = problem(name, groups=groups, reml=reml)
    assert criterion.patterns.summed and len(criterion.patterns.kept.rows)
    checked(criterion, rows, at, criterion.start())


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("zero", [True, False])
def test_with_scales_and_random_effects_too(reml: bool, zero: bool) -> None:
    criterion, rows, at = problem("ar1", groups=2, reml=reml)
    rng = np.random.default_rng(4)
    stack = Joined(
        STRUCTURES["ar1"](TIMES),
        rng.normal(size=(2, 4, 1)),
        (("rate", False),),
        np.ones(1),
        (Full(2),),
        (rng.normal(size=(2, 4, 2)),),
    )
    criterion = replace(criterion, stack=stack)
    x = criterion.start() + 0.2
    if zero:
        x[-4:] = 0.0
    checked(criterion, rows, at, x)


@pytest.mark.parametrize("name", ["ar1", "cs", "toep", "ad", "csh", "us"])
def test_near_the_bounds_too(name: str) -> None:
    criterion, rows, at = problem(name)
    for sign in (1.0, -1.0):
        x = criterion.start()
        x[-1] += 2.5 * sign
        checked(criterion, rows, at, x)


def test_many_visits_are_paired_without_all_pairs_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    criterion, rows, at = problem("toeph", groups=2)
    monkeypatch.setattr(structured, "_MOST_PAIRS", 2)
    checked(criterion, rows, at, criterion.start())


@pytest.mark.parametrize(("name", "groups"), [("us", 1), ("toeph", 2), ("ar1", 1), ("sp_gau", 1)])
def test_the_information_is_the_second_derivative(name: str, groups: int) -> None:
    criterion, _, _ = problem(name, groups=groups)
    x = criterion.start() + 0.1
    found = estimate_structured(criterion)
    at = replace(found, x=x)
    h = 1e-3
    known = np.stack(
        [
            (
                8 * (criterion(x + e).gradient - criterion(x - e).gradient)
                - (criterion(x + 2 * e).gradient - criterion(x - 2 * e).gradient)
            )
            / (12 * h)
            for e in h * np.eye(len(x))
        ]
    )
    np.testing.assert_allclose(at.information, known, atol=1e-7 * np.abs(known).max())


@pytest.mark.parametrize(("name", "groups"), [("us", 2), ("adh", 1)])
def test_how_the_covariance_of_the_coefficients_moves(name: str, groups: int) -> None:
    criterion, _, _ = problem(name, groups=groups)
    x = criterion.start()
    point: StructuredEvaluation = criterion(x)
    found = point.C @ point.projections(point.jacobians) @ point.C
    h = 1e-5
    for e, one in zip(h * np.eye(len(x)), found, strict=True):
        known = (criterion(x + e).C - criterion(x - e).C) / (2 * h)
        np.testing.assert_allclose(one, known, atol=1e-6 * np.abs(found).max())


@pytest.mark.parametrize("name", ["us", "toeph", "ar1h", "csh", "ad", "cs", "sp_exp"])
@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_the_same_optimum_from_several_starts(name: str, missing: float) -> None:
    criterion, _, _ = problem(name, missing=missing)
    found = estimate_structured(criterion)
    assert found.convergence.converged and found.convergence.n_starts == 1
    rng = np.random.default_rng(8)
    for _ in range(4):
        start = criterion.start() + rng.normal(size=len(found.x)) * 0.6
        again = structured_minimum(criterion, start)
        assert again == pytest.approx(found.value, abs=1e-7)


def structured_minimum(criterion: StructuredCriterion, start: Floats) -> float:
    from interlace.estimation.optimize import minimize

    found = minimize(criterion, start)
    assert found.converged
    return found.point.value


def test_patterns_do_not_depend_on_how_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from interlace.sums import patterns as module

    criterion, rows, at = problem("us", groups=2)
    monkeypatch.setattr(module, "_BITS", 0)
    monkeypatch.setattr(module, "_CHUNK", 7)
    columns = rows.weighted(np.column_stack([rows.X, rows.response])) @ criterion.A.basis.fixed
    again = replace(criterion, patterns=patterns(at, columns))
    x = criterion.start()
    assert again(x).value == pytest.approx(criterion(x).value, rel=1e-13)
    np.testing.assert_allclose(again(x).gradient, criterion(x).gradient, rtol=1e-8, atol=1e-8)
