"""One model at other row weights: patterns are laid out once, numbers filled again."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dense import FORMULAS, design, random_templates
from interlace import datasets
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.solver import layout, plan
from interlace.solver.equations import Exact, Iterative
from interlace.solver.exact import factorize
from interlace.solver.layout import make_layout, relay
from interlace.solver.plan import make_plan, refill
from interlace.solver.probes import Probes
from interlace.solver.rows import own_forms, quadratic_forms
from interlace.solver.solve import solve
from interlace.sums import weighted
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.terms import Floats
from interlace.sums.weighted import FixedRows, fixed_rows
from plans import PLANS

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(params=PLANS)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every model of the test is eliminated in this order."""
    monkeypatch.setattr(plan, "_choose", PLANS[request.param])
    return request.param


def same_sums(found: CrossProducts, wanted: CrossProducts) -> None:
    """Both hold the same numbers, in whatever basis each has."""
    wanted = wanted.rebase(found.basis)
    assert found.names == wanted.names and found.n == wanted.n
    assert found.sum_log_w == pytest.approx(wanted.sum_log_w)
    assert_allclose(found.vv, wanted.vv, **CLOSE)
    for a, b in zip((*found.zv, *found.zz), (*wanted.zv, *wanted.zz), strict=True):
        assert_allclose(a, b, **CLOSE)
    for pair, cells in found.cells.items():
        assert_allclose(cells.rows, wanted.cells[pair].rows)
        assert_allclose(cells.cols, wanted.cells[pair].cols)
        assert_allclose(cells.values, wanted.cells[pair].values, **CLOSE)


def some_rows(name: str) -> tuple[FixedRows, Floats]:
    full = design(name, offset="o")
    made = fixed_rows(full, cross_products(full))
    return made, np.random.default_rng(7).uniform(0.1, 3.0, made.n)


@pytest.mark.parametrize("name", FORMULAS)
def test_sums_at_other_weights_are_those_of_rows_with_these_weights(name: str) -> None:
    full = design(name, offset="o")
    rows, W = some_rows(name)
    same_sums(rows.at(W), cross_products(replace(full, weights=W)))


@pytest.mark.parametrize("name", FORMULAS)
def test_weights_of_either_sign_enter_linearly(name: str) -> None:
    rows, W = some_rows(name)
    sign = np.where(np.arange(rows.n) % 3 == 0, -1.0, 1.0)
    mixed, plus, minus = rows.at(W * sign), rows.at(W * (sign > 0)), rows.at(W * (sign < 0))
    assert_allclose(mixed.vv, plus.vv - minus.vv, **CLOSE)
    for a, b, c in zip(mixed.zz, plus.zz, minus.zz, strict=True):
        assert_allclose(a, b - c, **CLOSE)
    for pair, cells in mixed.cells.items():
        assert_allclose(cells.values, plus.cells[pair].values - minus.cells[pair].values, **CLOSE)


@pytest.mark.parametrize("name", FORMULAS)
def test_without_response_its_column_is_a_unit_apart(name: str) -> None:
    full = design(name)
    whole = cross_products(full)
    rows = fixed_rows(full, whole, response=False)
    A = rows.at(np.ones(rows.n))
    assert_allclose(A.vv[-1], np.append(np.zeros(A.p), 1.0))
    assert_allclose(A.vv[:-1, :-1], whole.vv[:-1, :-1], **CLOSE)
    for a, b in zip(A.zv, whole.zv, strict=True):
        assert_allclose(a[..., :-1], b[..., :-1], **CLOSE)
        assert not a[..., -1].any()
    factor = Criterion(A, False).at(random_templates(A, 1)).factor
    assert factor.r2 == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["slope", "crossed slopes", "nested and crossed"])
def test_without_fixed_effects_the_random_ones_are_solved_for_alone(name: str, forced: str) -> None:
    rows, W = some_rows(name)
    whole, lean = rows.at(W), rows.at(W, fixed=False)
    T, rng = random_templates(whole, 1), np.random.default_rng(1)
    sides = [rng.normal(size=(t.l, t.k, 2)) for t in rows.terms]
    with_fixed, _ = solve(factorize(whole, make_plan(whole), T), sides)
    alone, _ = solve(factorize(lean, make_plan(lean), T), sides)
    for a, b in zip(with_fixed, alone, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_refilled_plan_is_a_new_one(
    name: str, forced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, W = some_rows(name)
    A = rows.at(W)
    T = random_templates(A, 3)
    fresh = factorize(A, make_plan(A), T)
    first = make_plan(rows.at(np.ones(rows.n)))
    forbid(monkeypatch, plan, "_choose", "_pattern", "tail_pattern")
    found = factorize(A, refill(first, A), T)
    assert_allclose(found.L, fresh.L, rtol=1e-12, atol=1e-12)
    assert found.logdet_u == pytest.approx(fresh.logdet_u, rel=1e-12)
    for a, b in zip(found.derivatives(reml=True), fresh.derivatives(reml=True), strict=True):
        assert_allclose(a.PZZ, b.PZZ, **CLOSE)
    H = [np.random.default_rng(1).normal(size=(t.l, t.k, 1)) for t in A.terms]
    assert_allclose(found.projected(H), fresh.projected(H), **CLOSE)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_layout_filled_again_is_a_new_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, W = some_rows(name)
    A, first = rows.at(W), make_layout(rows.at(np.ones(rows.n)))
    fresh = make_layout(A)
    forbid(monkeypatch, layout, "chain_with_most", "sparse_rows", "_places")
    found = relay(first, A)
    H = [np.random.default_rng(1).normal(size=(t.l, t.k, 2)) for t in A.terms]
    for a, b in zip(found.gram(A, H), fresh.gram(A, H), strict=True):
        assert_allclose(a, b, **CLOSE)
    for pair, cells in fresh.cells.items():
        assert_allclose(found.cells[pair].values, cells.values, **CLOSE)


def test_other_pairs_of_levels_are_refused() -> None:
    A, B = (cross_products(design("crossed", missing="drop")) for _ in range(2))
    cells = {pair: replace(c, cols=c.cols[::-1]) for pair, c in B.cells.items()}
    with pytest.raises(ValueError, match="other pairs of levels"):
        refill(make_plan(A), replace(B, cells=cells))
    with pytest.raises(ValueError, match="other pairs of levels"):
        relay(make_layout(A), replace(B, cells=cells))


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_forms_of_the_own_rows(name: str, fixed: bool, forced: str) -> None:
    full = design(name, weighted=True)
    A = cross_products(full)
    rows = full.in_basis(A.basis, A.names)
    factor = Criterion(A, True).at(random_templates(A, 3)).factor
    wanted = quadratic_forms(factor, rows, fixed=fixed)
    assert_allclose(own_forms(factor, rows, fixed=fixed), wanted, **CLOSE)


@pytest.mark.parametrize("name", FORMULAS)
def test_products_with_the_rows(name: str) -> None:
    rows, g = some_rows(name)
    rng = np.random.default_rng(1)
    b = [rng.normal(size=(t.l, t.k)) for t in rows.terms]
    beta = rng.normal(size=rows.p)
    both = g @ rows.predictor(b, beta)
    sides = sum((rows.level_totals(j, g) * x).sum() for j, x in enumerate(b))
    assert both == pytest.approx(sides + g @ rows.X @ beta)
    each = [np.einsum("nk,nk->n", rows.Z(j), x[rows.codes[j]]) for j, x in enumerate(b)]
    assert_allclose(rows.predictor(b), sum(each), **CLOSE)


def forbid(monkeypatch: pytest.MonkeyPatch, module: object, *names: str) -> None:
    """Laying out anything again is an error."""

    def refused(*_: object) -> None:
        raise AssertionError("laid out again")

    for name in names:
        monkeypatch.setattr(module, name, refused)
    monkeypatch.setattr(weighted, "indexed_pairs", refused)


# ------------------------------------------------------------------ the solver as one value


@pytest.mark.parametrize("solver", [Exact(), Iterative(Probes(10**6, 0))])
@pytest.mark.parametrize("name", ["slope", "crossed slopes", "nested and crossed"])
def test_both_solvers_solve_for_any_right_hand_sides(name: str, solver: Exact | Iterative) -> None:
    A = cross_products(design(name))
    factor = solver.at(A, random_templates(A, 1))
    rng = np.random.default_rng(2)
    random, fixed = [rng.normal(size=(t.l, t.k, 2)) for t in A.terms], rng.normal(size=(A.p, 2))
    for given in (None, fixed):
        wanted, beta = Exact().at(A, factor.templates).solve(random, given)
        found, other = factor.solve(random, given)
        assert_allclose(other, beta, rtol=1e-7, atol=1e-7)
        for a, b in zip(found, wanted, strict=True):
            assert_allclose(a, b, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("solver", [Exact(), Iterative(Probes(4, 0))])
def test_a_solver_is_laid_out_once(
    solver: Exact | Iterative, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, W = some_rows("crossed slopes")
    A, B = rows.at(np.ones(rows.n)), rows.at(W)
    criterion = Criterion(A, True, solver)
    T = random_templates(A, 3)
    wanted = Criterion(B, False, solver).at(T).value
    assert criterion.equations.on(A) is criterion.equations
    forbid(monkeypatch, plan, "make_plan", "_pattern")
    forbid(monkeypatch, layout, "make_layout")
    assert criterion.on(A, reml=False).equations is criterion.equations
    assert criterion.on(B, reml=False).at(T).value == pytest.approx(wanted, rel=1e-12)
    assert criterion.responded(A).at(T).value == criterion.at(T).value


@pytest.mark.parametrize("solver", [Exact(), Iterative(Probes(4, 0))])
def test_what_is_laid_out_is_not_stored(solver: Exact | Iterative) -> None:
    A = cross_products(design("crossed slopes"))
    criterion = Criterion(A, True, solver.on(A))
    again = pickle.loads(pickle.dumps(criterion))
    assert len(pickle.dumps(criterion)) == len(pickle.dumps(Criterion(A, True, solver)))
    T = random_templates(A, 3)
    assert again.at(T).value == criterion.at(T).value


def test_insteval_at_other_weights_is_the_fresh_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    full = assemble(
        parse("y ~ service + (1 | s) + (1 | d) + (1 | dept)"), datasets.load("insteval")
    )
    rows = fixed_rows(full, cross_products(full))
    first = Criterion(rows.at(np.ones(rows.n)), True)
    first.equations.on(first.A)
    W = np.random.default_rng(1).uniform(0.2, 3.0, rows.n)
    fresh = estimate_theta(Criterion(cross_products(replace(full, weights=W)), True))
    forbid(monkeypatch, plan, "make_plan", "_choose", "_pattern")
    again = estimate_theta(first.on(rows.at(W)))
    assert again.value == pytest.approx(fresh.value, rel=1e-10)
    assert_allclose(again.theta, fresh.theta, rtol=1e-6)
    at = first.on(rows.at(W)).at_theta(fresh.theta)
    assert at.value == pytest.approx(fresh.value, rel=1e-12)
    assert at.factor.r2 == pytest.approx(
        fresh.evaluation.factor.r2
        * (at.criterion.A.basis.response_scale / fresh.A.basis.response_scale) ** 2,
        rel=1e-10,
    )
