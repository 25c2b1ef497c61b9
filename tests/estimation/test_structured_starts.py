"""Simulated trials with missing visits: the same optimum from five starts, and no false alarm."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from interlace.covariance.stacks import Separate
from interlace.covariance.structures import STRUCTURES
from interlace.estimation.residual import estimate_structured
from interlace.estimation.structured import StructuredCriterion
from interlace.sums.crossprod import cross_products
from interlace.sums.patterns import Visits, patterns
from interlace.sums.rows import Rows

NAMES = ("us", "toeph", "ar1h", "csh", "adh", "cs", "ar1", "toep")
# Difference of two minima that counts as none.
SAME = 1e-5


def criterion(seed: int, name: str) -> StructuredCriterion:
    """A trial of two arms with a visit of its own for each of some columns, visits missing."""
    rng = np.random.default_rng(seed)
    n, V, missing = int(rng.integers(30, 90)), int(rng.integers(3, 7)), 0.6 * rng.random()
    lags = np.abs(np.subtract.outer(np.arange(V), np.arange(V)))
    R = rng.uniform(0.2, 0.9) ** lags + rng.uniform(0.0, 0.5)
    sd = rng.uniform(0.5, 2.0, V)
    L = np.linalg.cholesky(R * np.outer(sd, sd))
    whole = rng.normal(size=(n, V)) @ L.T
    seen = rng.random((n, V)) >= missing
    seen[np.arange(n), rng.integers(0, V, n)] = True  # nobody is without a visit
    subjects, visits = np.nonzero(seen)
    arm = (np.arange(n) % 2)[subjects].astype(float)
    X = np.column_stack([visits == v for v in range(V)]).astype(float)
    X = np.column_stack([X, arm, rng.normal(size=n)[subjects]])
    names = tuple(f"x{j}" for j in range(X.shape[1]))
    rows = Rows(whole[seen] + arm, X, names, (), (), (), None, None)
    A = cross_products(rows)
    columns = np.column_stack([X, rows.y]) @ A.basis.fixed
    at = Visits(subjects, visits, np.zeros(len(visits), dtype=np.intp), n, V, 1)
    structure = STRUCTURES[name](tuple(range(V)))
    return StructuredCriterion(A, patterns(at, columns), Separate(structure, 1), True)


def outcome(seed: int, name: str) -> str:
    """How the search of one trial went, from the usual start and from four others."""
    function = criterion(seed, name)
    found = estimate_structured(function)
    if found.degenerate:
        return "no maximum"
    if not found.convergence.converged:
        return f"false alarm: {seed} {name}"
    rng = np.random.default_rng(seed)
    for _ in range(4):
        start = function.start() + rng.normal(scale=0.7, size=len(found.x))
        other = estimate_structured(function, start=start)
        if abs(other.value - found.value) > SAME or not other.convergence.converged:
            return f"another optimum: {seed} {name} by {found.value - other.value:.2g}"
    return "the same"


@pytest.mark.parametrize("name", NAMES)
def test_some_trials(name: str) -> None:
    assert {outcome(seed, name) for seed in range(2)} <= {"the same"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_hundred_trials(name: str) -> None:
    counts = Counter(outcome(seed, name) for seed in range(200))
    assert set(counts) <= {"the same", "no maximum"}, counts
