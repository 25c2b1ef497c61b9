"""The criterion of residual variances that follow a few numbers, against dense matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation.scaled import ScaledCriterion
from interlace.model.scaled import scaled_criterion
from interlace.solver.equations import Exact
from interlace.sums.rows import by_level
from interlace.sums.terms import Floats

FORMULAS = {
    "one factor": "y ~ x + (x | a)",
    "nested": "y ~ x + (x | a) + (1 | c)",
    "crossed": "y ~ x + (x || a) + (1 | b)",
    "three": "y ~ x + (1 | a) + (1 | c) + (1 | b)",
    "cs crossed": "y ~ x + cs(0 + f | a) + (1 | b)",
    "ar1 crossed": "y ~ x + (1 | a) + ar1(0 + f | b)",
    "cs nested": "y ~ x + cs(0 + f | a, hom=True) + (1 | c)",
    "diag": "y ~ x + diag(x | a, hom=True) + ar1(0 + f | b, hom=False)",
}
every = pytest.mark.parametrize("name", FORMULAS)
BOTH = pytest.mark.parametrize("reml", [True, False])


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 90
    made = pd.DataFrame(
        {
            "a": rng.integers(0, 8, n).astype(str),
            "b": rng.integers(0, 6, n).astype(str),
            "x": rng.normal(size=n),
            "s": rng.integers(0, 3, n),
            "f": rng.choice(list("uvw"), n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    made["c"] = made["a"] + rng.integers(0, 3, n).astype(str)
    noise = rng.normal(size=n) * np.exp(0.4 * made["s"])
    return made.assign(y=made["x"] + rng.normal(size=8)[made["a"].astype(int)] + noise)


def criterion_of(name: str, reml: bool) -> ScaledCriterion:
    data = frame()
    rows = assemble(parse(FORMULAS[name]), data, weights="w")
    scales = np.column_stack([data["s"] == 1, data["s"] == 2, 0.4 * data["x"]]).astype(float)
    return scaled_criterion(rows, csr_matrix(scales), reml=reml, solver=lambda A: Exact())


def some_point(c: ScaledCriterion) -> Floats:
    rng = np.random.default_rng(3)
    return np.append(rng.uniform(0.5, 1.0, c.n_templates), rng.normal(size=3) * 0.4)


def differences(f, x: Floats, step: float) -> Floats:
    """Fourth-order central differences, the last axis by entry."""
    found = []
    for d in step * np.eye(len(x)):
        found.append((8 * (f(x + d) - f(x - d)) - (f(x + 2 * d) - f(x - 2 * d))) / (12 * step))
    return np.stack(found, axis=-1)


@BOTH
@every
def test_gradient_against_differences(name: str, reml: bool) -> None:
    c = criterion_of(name, reml)
    x = some_point(c)
    expected = differences(lambda at: c(at).value, x, 1e-3)
    assert_allclose(c(x).gradient, expected, atol=1e-8 * np.abs(expected).max())


@BOTH
@every
def test_value_and_average_information_by_their_definitions(name: str, reml: bool) -> None:
    c = criterion_of(name, reml)
    x, t = some_point(c), c.n_templates
    parts = zip(c.rows.codes, c.working.Z, c.A.terms, strict=True)
    Z = [by_level(codes, columns, term.q).toarray() for codes, columns, term in parts]
    X, y = c.working.X, c.rows.response

    def V(at: Floats) -> Floats:
        total = np.diag(1.0 / c.weights(at[t:]))
        for own, T, term in zip(Z, c.base.unpack(at[:t]), c.A.terms, strict=True):
            ZT = own @ np.kron(np.eye(term.l), T)
            total += ZT @ ZT.T
        return total

    inverse = np.linalg.inv(V(x))
    XVX = X.T @ inverse @ X
    P = inverse - inverse @ X @ np.linalg.solve(XVX, X.T @ inverse)
    Py, nu = P @ y, c.base.nu
    r2 = y @ Py
    at = c(x)
    value = nu * (1 + np.log(2 * np.pi * r2 / nu)) + np.linalg.slogdet(V(x))[1]
    value += reml * (np.linalg.slogdet(XVX)[1] - 2 * c.A.basis.log_det_fixed)
    value -= 2 * nu * np.log(c.A.basis.response_scale)
    assert at.value == pytest.approx(value, abs=1e-8)

    D = np.moveaxis(differences(V, x, 2e-3), -1, 0)
    moved = D @ Py
    q = moved @ Py
    average = nu * (moved @ P @ moved.T / r2 - np.outer(q, q) / r2**2)
    gamma = (P if reml else inverse) - nu / r2 * np.outer(Py, Py)
    bends = differences(
        lambda v: np.tensordot(gamma, differences(V, v, 2e-3), ((0, 1), (0, 1))), x, 2e-3
    )
    found = at.newton_matrix
    assert_allclose(found[:t, t:], average[:t, t:], atol=1e-8 * np.abs(found).max())
    assert_allclose(found - average, bends, atol=1e-7 * np.abs(found).max())


def test_zero_variances_are_stationary() -> None:
    c = criterion_of("crossed", True)
    x = some_point(c)
    x[: c.n_templates] = 0.0
    assert_allclose(c(x).gradient[: c.n_templates], 0.0, atol=1e-12)
