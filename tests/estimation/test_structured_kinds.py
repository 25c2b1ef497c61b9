"""Every structure without random effects, with those of the subject, and with crossed ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from interlace.covariance.grouped import Grouped
from interlace.covariance.stacks import Beside, Joined, Separate
from interlace.covariance.structures import STRUCTURES
from interlace.covariance.templates import Full
from interlace.estimation.crossed import CrossedCriterion, CrossedEvaluation, crossing_of
from interlace.estimation.residual import estimate_structured
from interlace.estimation.structured import StructuredCriterion, StructuredEvaluation
from interlace.sums.crossprod import cross_products
from interlace.sums.patterns import Visits, patterns
from interlace.sums.rows import Rows
from interlace.sums.terms import Floats, ReTerm

TIMES = (0.0, 1.0, 2.5, 3.0)
S, V = 24, len(TIMES)
KINDS = ("none", "nested", "crossed", "both")


@dataclass(frozen=True, eq=False)
class Problem:
    """A criterion and the rows behind it: subjects, visits, weighted ``X, y`` and shared ``Z``."""

    criterion: StructuredCriterion
    at: Visits
    columns: Floats
    Z: Floats


def problem(name: str, kind: str, *, reml: bool = True) -> Problem:
    """Visits missing at random, weights; random slopes of subjects, sites with slopes, raters."""
    rng = np.random.default_rng(7)
    subject, visit = np.repeat(np.arange(S), V), np.tile(np.arange(V), S)
    seen = rng.permutation(np.flatnonzero((rng.random(S * V) > 0.25) | (visit == subject % V)))
    subject, visit = subject[seen], visit[seen]
    n = len(subject)
    codes = (subject % 5, rng.integers(0, 4, n))
    terms = (
        ReTerm("site", ("Intercept", "x"), np.arange(5), Full(2)),
        ReTerm("rater", ("Intercept",), np.arange(4), Full(1)),
    )
    x = rng.normal(size=n)
    blocks = (np.column_stack([np.ones(n), x]), np.ones((n, 1)))
    X = np.column_stack([np.ones(n), x, visit == 1]).astype(float)
    y = X @ [1.0, 0.5, -1.0] + rng.normal(size=5)[codes[0]] + rng.normal(size=4)[codes[1]]
    y = 10.0 * (y + rng.normal(size=S)[subject] + rng.normal(size=n) * (1.0 + 0.2 * visit))
    weights = rng.uniform(0.5, 2.0, n)
    across = kind in ("crossed", "both")
    none = () if not across else (blocks, codes, terms)
    Z, where, random = none or ((), (), ())
    rows = Rows(y, X, ("one", "x", "late"), Z, where, random, weights, None)
    A = cross_products(rows)
    within: Separate | Joined = Separate(STRUCTURES[name](TIMES), 1)
    groups = np.zeros(n, dtype=np.intp)
    if kind in ("nested", "both"):
        which = np.arange(S) % 2
        structure = STRUCTURES[name](TIMES)
        structure = Grouped(structure, which, 2) if kind == "both" else structure
        own = rng.normal(size=(S, V, 2))
        within = Joined(structure, np.zeros((S, V, 0)), (), np.zeros(0), (Full(2),), (own,))
        groups = subject
    at = Visits(subject, visit, groups, S, V, int(groups.max()) + 1)
    columns = rows.weighted(np.column_stack([X, y])) @ A.basis.fixed
    sums = patterns(at, columns, keep=across)
    if not across:
        return Problem(StructuredCriterion(A, sums, within, reml), at, columns, np.zeros((n, 0)))
    working = [rows.weighted(b @ B) for b, B in zip(blocks, A.basis.random, strict=True)]
    crossing = crossing_of(terms, (0, 1), codes, working, at, sums.kept)
    stack = Beside(within, tuple(t.template for t in terms))
    parts = [
        (c[:, None] == np.arange(t.l))[:, :, None] * w[:, None, :]
        for c, t, w in zip(codes, terms, working, strict=True)
    ]
    dense = np.concatenate([part.reshape(n, -1) for part in parts], axis=1)
    criterion = CrossedCriterion(A, sums, stack, reml, crossing)
    return Problem(criterion, at, columns, dense)


def covariance(of: Problem, x: Floats) -> tuple[Floats, Floats]:
    """``V`` and its derivatives by the free numbers, n by n, from the stack alone."""
    stack, at = of.criterion.stack, of.at
    g, i, j = at.groups, at.visits[:, None], at.visits[None, :]
    same = at.subjects[:, None] == at.subjects
    total, slopes = stack(x)[g[:, None], i, j] * same, np.zeros((len(x), len(g), len(g)))
    for group, (own, d) in enumerate(zip(stack.own, stack.jacobians(x), strict=True)):
        slopes[own] += np.moveaxis(d[i, j], 2, 0) * (same & (g[:, None] == group))
    if isinstance(stack, Beside):
        start, column = stack.within.size, 0
        count = len(stack.across)
        for t, T, l in zip(stack.across, stack.templates_at(x)[-count:], (5, 4), strict=True):
            Z = of.Z[:, column : (column := column + l * t.k)]
            total = total + Z @ np.kron(np.eye(l), T @ T.T) @ Z.T
            own = slice(start, start := start + t.size)
            half = np.einsum("abc,db->cad", t.jacobian(x[own]), T)
            turns = half + np.swapaxes(half, 1, 2)
            slopes[own] = [Z @ np.kron(np.eye(l), turn) @ Z.T for turn in turns]
    return total, slopes


def dense(of: Problem, x: Floats) -> tuple[float, Floats, Floats, Floats, Floats]:
    """Quadratic form, gradient, average and expected information, and ``X'V^-1 V_a V^-1 X``."""
    total, slopes = covariance(of, x)
    X, y = of.columns[:, :-1], of.columns[:, -1]
    Vi = np.linalg.inv(total)
    XVX = X.T @ Vi @ X
    P = Vi - Vi @ X @ np.linalg.solve(XVX, X.T @ Vi)
    value = np.linalg.slogdet(total)[1] + y @ P @ y
    value += np.linalg.slogdet(XVX)[1] if of.criterion.reml else 0.0
    T, Py = P if of.criterion.reml else Vi, P @ y
    moved = np.stack([d @ Py for d in slopes])
    gradient = np.array([(T * d).sum() for d in slopes]) - moved @ Py
    turned = np.stack([T @ d for d in slopes])
    expected = np.einsum("aij,bji->ab", turned, turned, optimize=True)
    through = np.stack([X.T @ Vi @ d @ Vi @ X for d in slopes])
    return float(value), gradient, moved @ P @ moved.T, expected, through


def fourth(of: Problem, x: Floats, h: float = 1e-3) -> Floats:
    """The gradient by differences of the value, of the fourth order."""

    def f(d: Floats) -> float:
        return of.criterion(x + d).value

    steps = h * np.eye(len(x))
    return np.array([(8 * (f(d) - f(-d)) - (f(2 * d) - f(-2 * d))) / (12 * h) for d in steps])


def close(found: Floats, known: Floats) -> None:
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-8 * np.abs(known).max())


def checked(of: Problem, x: Floats) -> StructuredEvaluation:
    """Hold all that an evaluation says to the dense definition, and the gradient to differences."""
    point = of.criterion(x)
    value, gradient, average, expected, through = dense(of, x)
    start = of.criterion.start()
    other = dense(of, start)[0] - of.criterion(start).value
    assert point.value == pytest.approx(value - other, rel=1e-11)  # but for a constant
    close(point.gradient, gradient)
    close(point.average(point.jacobians), average)
    close(point.expected(point.jacobians), expected)
    close(point.projections(point.jacobians), through)
    assert isinstance(point, CrossedEvaluation) == (of.Z.shape[1] > 0)
    return point


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_derivatives_of_every_structure_beside_every_kind_of_effects(name: str, kind: str) -> None:
    of = problem(name, kind)
    x = of.criterion.start() + 0.05
    point = checked(of, x)
    np.testing.assert_allclose(
        point.gradient, fourth(of, x), rtol=0, atol=1e-8 * np.abs(point.gradient).max()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["us", "toeph", "ar1", "cs", "ad"])
def test_derivatives_near_the_bounds(name: str, kind: str) -> None:
    """Correlations near one and minus one, variances of random effects of zero."""
    of = problem(name, kind, reml=name != "cs")
    stack, x = of.criterion.stack, of.criterion.start()
    end = len(x) - sum(t.size for t in stack.templates)
    x[end:] = 0.0
    last = stack.within.structure.size if isinstance(stack.within, Separate) else end
    for sign in (1.0, -1.0):
        moved = x.copy()
        moved[last - 1] += 2.5 * sign
        checked(of, moved)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ar1h", "us"])
def test_second_derivatives(name: str, kind: str) -> None:
    of = problem(name, kind)
    x, h = of.criterion.start() + 0.1, 1e-3

    def g(d: Floats) -> Floats:
        return of.criterion(x + d).gradient

    steps = h * np.eye(len(x))
    known = np.stack([(8 * (g(d) - g(-d)) - (g(2 * d) - g(-2 * d))) / (12 * h) for d in steps])
    found = replace(estimate_structured(of.criterion), x=x).information
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-7 * np.abs(known).max())


@pytest.mark.parametrize("kind", ["crossed", "both"])
def test_what_kenward_and_roger_need(kind: str) -> None:
    of = problem("ar1", kind)
    x = of.criterion.start() + 0.05
    point, (total, slopes) = of.criterion(x), covariance(of, x)
    rng = np.random.default_rng(1)
    half = rng.normal(size=(len(x), len(x)))
    W = half @ half.T
    Vi, X = np.linalg.inv(total), of.columns[:, :-1]
    u = np.stack([d @ Vi @ X for d in slopes])
    close(
        point.doubled(point.jacobians, W),
        np.einsum("anp,ab,nm,bmq->pq", u, W, Vi, u, optimize=True),
    )


def test_effects_and_their_covariances() -> None:
    of = problem("ar1", "crossed")
    criterion = of.criterion
    x = criterion.start() + 0.1
    found = replace(estimate_structured(criterion), x=x)
    total, _ = covariance(of, x)
    X, y = of.columns[:, :-1], of.columns[:, -1]
    Vi = np.linalg.inv(total)
    r = y - X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ y)
    parts = zip(found.templates, found.effect_bases, (5, 4), strict=True)
    G = [np.kron(np.eye(l), T @ T.T) for T, _, l in parts]
    ends = (0, 10, 14)
    for j, (own, B) in enumerate(zip(G, found.effect_bases, strict=True)):
        Z = of.Z[:, ends[j] : ends[j + 1]]
        b = (own @ Z.T @ Vi @ r).reshape(-1, len(B)) @ B.T
        close(found.b[j], b)
        left = own - own @ Z.T @ Vi @ Z @ own
        for level, C in enumerate(found.b_cov[j]):
            place = slice(level * len(B), (level + 1) * len(B))
            close(C, B @ left[place, place] @ B.T)
