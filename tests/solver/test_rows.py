"""Rows against the inverse of the mixed-model equations, written out in full."""

from __future__ import annotations

import functools
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import block_diag

from dense import FORMULAS, MODELS, Dense, design, random_templates
from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.solver import plan, rows
from interlace.solver.exact import Factor, factorize
from interlace.solver.rows import fixed_on_random, quadratic_forms
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.rows import WorkingRows, in_basis
from interlace.sums.terms import Floats
from plans import PLANS

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@functools.cache
def model(name: str, weighted: bool) -> tuple[Design, CrossProducts]:
    full = design(name, weighted=weighted)
    return full, cross_products(full)


@pytest.fixture(params=PLANS)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every model of the test is eliminated in this order."""
    monkeypatch.setattr(plan, "_choose", PLANS[request.param])
    return request.param


def full_covariance(dense: Dense, *, fixed: bool) -> Floats:
    """``Lambda_ext M^-1 Lambda_ext'``, random effects by term and level, then fixed effects."""
    A, n = dense.A, dense.A.n
    Z = np.concatenate([z.reshape(n, -1) for z in dense.Z], axis=1)
    Lambda = block_diag(
        *(np.kron(np.eye(t.l), T) for t, T in zip(A.terms, dense.templates, strict=True))
    )
    q, p = Z.shape[1], A.p
    R = np.concatenate((Z @ Lambda, dense.X), axis=1)
    M = R.T @ R + np.diag(np.repeat([1.0, 0.0], [q, p]))
    inverse = np.zeros((q + p, q + p))
    size = q + p if fixed else q
    inverse[:size, :size] = np.linalg.inv(M[:size, :size])
    outer = block_diag(Lambda, np.eye(p))
    return outer @ inverse @ outer.T


def any_rows(A: CrossProducts, m: int = 40, seed: int = 5) -> WorkingRows:
    """Levels in any combination, a fifth of them left out."""
    rng = np.random.default_rng(seed)
    codes = [np.where(rng.random(m) < 0.2, -1, rng.integers(0, t.l, m)) for t in A.terms]
    Z = [
        np.where((c >= 0)[:, None], rng.normal(size=(m, t.k)), 0.0)
        for c, t in zip(codes, A.terms, strict=True)
    ]
    return WorkingRows(tuple(codes), tuple(Z), rng.normal(size=(m, A.p)))


def in_full(A: CrossProducts, given: WorkingRows) -> Floats:
    """The rows as ``(m, q + p)``."""
    m = len(given.X)
    parts = []
    for codes, Z, term in zip(given.codes, given.Z, A.terms, strict=True):
        part = np.zeros((m, term.l, term.k))
        known = np.flatnonzero(codes >= 0)
        part[known, codes[known]] = Z[known]
        parts.append(part.reshape(m, -1))
    return np.concatenate([*parts, given.X], axis=1)


def expected(dense: Dense, given: WorkingRows, *, fixed: bool) -> Floats:
    """The quadratic forms, from the whole matrix."""
    full = in_full(dense.A, given)
    return np.einsum("rq,qs,rs->r", full, full_covariance(dense, fixed=fixed), full, optimize=True)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_every_plan_agrees_with_the_whole_matrix(
    name: str, weighted: bool, singular: bool, forced: str
) -> None:
    full, A = model(name, weighted)
    templates = random_templates(A, 3, singular=singular)
    factor = Criterion(A, True).at(templates).factor
    dense = Dense(full, A, A.basis, templates, True)
    given = any_rows(A)
    for fixed in (True, False):
        found = quadratic_forms(factor, given, fixed=fixed)
        assert_allclose(found, expected(dense, given, fixed=fixed), **CLOSE)


@pytest.mark.parametrize("name", ["crossed slopes", "nested slopes", "nested and crossed"])
def test_small_pieces(name: str, forced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, A = model(name, True)
    factor = Criterion(A, True).at(random_templates(A, 3)).factor
    given = any_rows(A)
    whole = quadratic_forms(factor, given)
    monkeypatch.setattr(rows, "_LEVEL_NUMBERS", 1)
    assert_allclose(quadratic_forms(factor, given), whole, **CLOSE)
    monkeypatch.setattr(rows, "_ROW_NUMBERS", 1)
    assert_allclose(quadratic_forms(factor, given), whole, **CLOSE)
    monkeypatch.setattr(rows, "_LEVEL_NUMBERS", 1 << 21)
    assert_allclose(quadratic_forms(factor, given), whole, **CLOSE)


def test_no_rows() -> None:
    _, A = model("crossed slopes", False)
    factor = Criterion(A, True).at(random_templates(A, 3)).factor
    assert quadratic_forms(factor, any_rows(A, 0)).shape == (0,)


def test_rows_without_any_level_leave_the_covariance_of_the_fixed_effects(forced: str) -> None:
    _, A = model("nested slopes", True)
    factor = Criterion(A, True).at(random_templates(A, 3)).factor
    some = any_rows(A)
    none = WorkingRows(
        tuple(np.full(40, -1) for _ in A.terms), tuple(np.zeros_like(Z) for Z in some.Z), some.X
    )
    wanted = np.einsum("rp,ps,rs->r", some.X, factor.vcov, some.X)
    assert_allclose(quadratic_forms(factor, none), wanted, **CLOSE)
    assert (quadratic_forms(factor, none, fixed=False) == 0.0).all()


def test_a_row_of_no_level_counts_nothing_whatever_its_columns() -> None:
    full, A = model("crossed slopes", True)
    codes = [np.full(3, -1), np.array([0, -1, 2])]
    Z = [np.full((3, 2), np.nan), np.array([[1.0, 2.0], [np.nan, np.inf], [0.5, 1.0]])]
    made = in_basis(A.basis, codes, Z, full.X[:3])
    assert (made.Z[0] == 0.0).all()
    assert (made.Z[1][1] == 0.0).all()
    assert_allclose(made.Z[1][[0, 2]], Z[1][[0, 2]] @ A.basis.random[1], **CLOSE)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_fixed_effects_on_random_effects(
    name: str, weighted: bool, singular: bool, forced: str
) -> None:
    full, A = model(name, weighted)
    templates = random_templates(A, 4, singular=singular)
    dense = Dense(full, A, A.basis, templates, True)
    Z = np.concatenate([z.reshape(A.n, -1) for z in dense.Z], axis=1)
    q = Z.shape[1]
    wanted = full_covariance(dense, fixed=False)[:q, :q] @ Z.T @ dense.X
    found = fixed_on_random(Criterion(A, True).at(templates).factor)
    stacked = [b.reshape(t.q, A.p) for t, b in zip(A.terms, found, strict=True)]
    assert_allclose(np.concatenate(stacked), wanted, **CLOSE)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_forms_of_the_rows_used_add_up_to_the_degrees_of_freedom(name: str) -> None:
    """Their sum is ``tr C~ [Z X]'[Z X]``, which the derivatives of the criterion give as well."""
    full, A = model(name, False)
    factor = Criterion(A, True).at(random_templates(A, 7)).factor
    forms = quadratic_forms(factor, rows_used(full, A))
    assert forms.sum() == pytest.approx(degrees_of_freedom(factor), rel=1e-9)


def rows_used(full: Design, A: CrossProducts) -> WorkingRows:
    return full.in_basis(A.basis, A.names)


def degrees_of_freedom(factor: Factor) -> float:
    """``p + sum of tr T'W`` over the terms."""
    parts = zip(factor.templates, factor.derivatives(reml=True), strict=True)
    return factor.A.p + sum(float((T * d.W).sum()) for T, d in parts)


def test_memory_does_not_grow_with_levels_times_remainder() -> None:
    l, q = 20_000, 1_000  # 160 MB, if all levels were taken at once
    rng = np.random.default_rng(1)
    g, h = np.repeat(np.arange(l), 2), rng.permutation(2 * l) % q
    y = rng.normal(size=2 * l) + rng.normal(size=l)[g]
    full = assemble(parse("y ~ 1 + (1 | g) + (1 | h)"), {"y": y, "g": g, "h": h})
    A = cross_products(full)
    factor = factorize(A, plan.make_plan(A), [np.eye(1)] * 2)
    given = rows_used(full, A)
    tracemalloc.start()
    forms = quadratic_forms(factor, given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 130e6
    assert forms.sum() == pytest.approx(degrees_of_freedom(factor), rel=1e-9)
