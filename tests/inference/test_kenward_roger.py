"""Kenward-Roger tests against pbkrtest's numbers and against matrices written out in full."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from dense import FORMULAS, MODELS, Dense, at_templates, design, random_templates
from fits import of_case as fitted
from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.inference.kenward_roger import KenwardRoger, scaled_f
from interlace.inference.wald import FTest
from interlace.solver import plan, traces
from interlace.solver.traces import projected_traces
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.terms import Floats, ReTerm
from reference import cases

GOLDEN = {name: cases.load_golden(name, "inference")["reml"] for name in cases.case_names()}
CASES = [name for name, golden in GOLDEN.items() if "kenward_roger" in golden]
COMPARED = [name for name in CASES if GOLDEN[name].get("kr_modcomp")]


def tangents(term: ReTerm) -> Floats:
    """Along which the covariance of a term moves: unit steps of its entries."""
    return term.template.tangents(np.eye(term.k), np.eye(term.k))


# ------------------------------------------------------------ pbkrtest


@pytest.mark.parametrize("name", CASES)
def test_equals_pbkrtest(name: str) -> None:
    result, golden = fitted(name), cases.load_golden(name, "inference")["reml"]["kenward_roger"]
    names = [cases.r_name(n) for n in result.fe_params.index]
    reference = KenwardRoger(result.estimate)
    table = golden["vcov_adjusted"]
    vcov = pd.DataFrame(table["values"], table["rows"], table["cols"]).loc[names, names]
    se = np.array([golden["se"][n] for n in names])
    assert_allclose(np.sqrt(np.diag(reference.vcov)), se, rtol=1e-6)
    assert_allclose(reference.vcov / np.outer(se, se), vcov / np.outer(se, se), atol=1e-6)
    df = reference.df(np.eye(len(names)))
    assert_allclose(df, [golden["df"][n] for n in names], rtol=1e-6)


@pytest.mark.parametrize("name", COMPARED)
def test_equals_model_comparison(name: str) -> None:
    case, result = cases.load_case(name), fitted(name)
    golden = cases.load_golden(name, "inference")["reml"]["kr_modcomp"]
    formula = cases.python_formula(golden["reduced"], polynomial=name == "cake_poly")
    kept = cross_products(assemble(parse(formula), case.data))
    dropped = [i for i, n in enumerate(result.fe_params.index) if n not in kept.names]
    test = KenwardRoger(result.estimate).f_test(np.eye(len(result.fe_params))[dropped])
    stats = golden["stats"]
    assert test.numerator_df == stats["ndf"]
    assert test.denominator_df == pytest.approx(stats["ddf"], rel=1e-6)
    assert test.scaling == pytest.approx(stats["F.scaling"], rel=1e-8)
    assert test.statistic == pytest.approx(stats["Fstat"], rel=1e-6)
    assert test.p_value == pytest.approx(stats["p.value"], rel=1e-4)


def test_hotelling() -> None:
    """Six workers, a covariance without structure: F(2, 4) and the scaling 4/5 are exact."""
    test = KenwardRoger(fitted("machines_slopes").estimate).f_test(np.eye(3)[1:])
    assert test.denominator_df == pytest.approx(4.0, abs=1e-9)
    assert test.scaling == pytest.approx(0.8, abs=1e-12)


# ------------------------------------------------------------ against n x n matrices


@functools.cache
def model(name: str, weighted: bool) -> tuple[Design, CrossProducts]:
    full = design(name, weighted=weighted)
    return full, cross_products(full)


@dataclass(frozen=True, eq=False)
class Full:
    """Kenward and Roger (1997) with the n x n matrices of their paper, for weighted rows too.

    The variance parameters are those of the paper: every covariance, and the residual variance.
    """

    dense: Dense
    L: Floats

    @functools.cached_property
    def G(self) -> list[Floats]:
        """Derivative of the covariance by every parameter, in the weighted rows."""
        parts = [
            np.einsum("nla,ab,mlb->nm", Z, E, Z)
            for Z, term in zip(self.dense.Z, self.dense.A.terms, strict=True)
            for E in tangents(term)
        ]
        return [*parts, np.eye(self.dense.A.n)]

    @functools.cached_property
    def sigma2(self) -> float:
        return self.dense.r2 / self.dense.nu

    @property
    def Phi(self) -> Floats:
        return self.sigma2 * self.dense.vcov

    @functools.cached_property
    def terms(self) -> tuple[Floats, Floats, Floats]:
        """``P_i``, ``Q_ij`` and ``W``."""
        inverse, X, Phi = self.dense.V_inverse / self.sigma2, self.dense.X, self.Phi
        GV = [G @ inverse for G in self.G]
        P = np.array([-X.T @ inverse @ gv @ X for gv in GV])
        Q = np.array([[X.T @ inverse @ a @ b @ X for b in GV] for a in GV])
        K = np.array([[np.sum(a * b.T) for b in GV] for a in GV])
        information = K - 2 * np.einsum("ab,ijba->ij", Phi, Q)
        information += np.einsum("ab,ibc,cd,jda->ij", Phi, P, Phi, P)
        return P, Q, 2 * np.linalg.inv(information)

    @property
    def adjusted(self) -> Floats:
        P, Q, W = self.terms
        inner = np.einsum("ij,ijab->ab", W, Q) - np.einsum("ij,iab,bc,jcd->ad", W, P, self.Phi, P)
        return self.Phi + 2 * self.Phi @ inner @ self.Phi

    @property
    def test(self) -> tuple[float, float]:
        """Denominator degrees of freedom and scaling, step by step as in the paper."""
        (P, _, W), Phi, L = self.terms, self.Phi, self.L
        q = len(L)
        Theta = L.T @ np.linalg.inv(L @ Phi @ L.T) @ L
        TP = [Theta @ Phi @ p @ Phi for p in P]
        traces = np.array([np.trace(tp) for tp in TP])
        A1 = traces @ W @ traces
        A2 = np.sum(W * [[np.trace(a @ b) for b in TP] for a in TP])
        B = (A1 + 6 * A2) / (2 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        d = 3 * q + 2 * (1 - g)
        c1, c2, c3 = g / d, (q - g) / d, (q + 2 - g) / d
        E = 1 / (1 - A2 / q)
        V = 2 / q * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
        rho = V / (2 * E**2)
        m = 4 + (q + 2) / (q * rho - 1)
        return m, m / (E * (m - 2))


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize(("name", "weighted"), [m for m in MODELS if m[0] != "no fixed effects"])
def test_agrees_with_dense_matrices(name: str, weighted: bool, singular: bool) -> None:
    full, A = model(name, weighted)
    templates = random_templates(A, 5, singular=singular)
    reference = KenwardRoger(at_templates(A, templates))
    F = A.basis.fixed[:-1, :-1] / A.basis.response_scale
    rng = np.random.default_rng(2)
    for q in {1, A.p}:
        L = rng.normal(size=(q, A.p))
        expected = Full(Dense(full, A, A.basis, templates, True), L @ F)
        assert_allclose(reference.vcov, F @ expected.adjusted @ F.T, rtol=1e-7, atol=1e-10)
        test, (m, scaling) = reference.f_test(L), expected.test
        assert test.denominator_df == pytest.approx(m, rel=1e-6)
        assert test.scaling == pytest.approx(scaling, rel=1e-6)
        if q == 1:
            assert reference.df(L) == pytest.approx(m, rel=1e-6)


PLANS = {
    "chosen": plan._choose,
    "chain": lambda A: (plan._longest_chain(A), False),
    "dense": lambda A: (plan._longest_chain(A)[:1], False),
    "sparse": lambda A: (plan._longest_chain(A)[:1], True),
    "smallest term first": lambda A: ((int(np.argmin([t.q for t in A.terms])),), False),
}


@pytest.fixture(params=PLANS)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(plan, "_choose", PLANS[request.param])
    return request.param


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_traces_under_every_plan(name: str, singular: bool, forced: str) -> None:
    full, A = model(name, True)
    templates = random_templates(A, 3, singular=singular)
    dense = Dense(full, A, A.basis, templates, True)
    PG = [dense.P @ G for G in Full(dense, np.eye(A.p)).G[:-1]]
    first, second = projected_traces(
        Criterion(A, True).at(templates).factor, [tangents(t) for t in A.terms]
    )
    assert_allclose(first, [np.trace(a) for a in PG], rtol=1e-8, atol=1e-8)
    assert_allclose(second, [[np.sum(a * b.T) for b in PG] for a in PG], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1.0, 1e4])
@pytest.mark.parametrize("name", ["slope", "crossed", "crossed slopes"])
def test_all_products_and_those_by_direction_are_one(
    name: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    A = cross_products(design(name, weighted=True))
    factor = Criterion(A, True).at([size * np.eye(t.k) for t in A.terms]).factor
    found = []
    for held in (True, False):
        monkeypatch.setattr(traces.Images, "is_held", lambda self, c, held=held: held)
        found.append(projected_traces(factor, [tangents(t) for t in A.terms])[1])
    unit = np.sqrt(np.diag(found[1]))
    assert_allclose(found[0] / np.outer(unit, unit), found[1] / np.outer(unit, unit), atol=1e-12)


def test_large_variances_lose_no_digits() -> None:
    """Effects 10,000 times the residual: what is left of ``Z' P Z`` is a small difference."""
    A = cross_products(design("crossed", weighted=True))
    E = [tangents(t) for t in A.terms]

    def scaled(size: float) -> Floats:
        factor = Criterion(A, True).at([size * np.eye(1) for _ in A.terms]).factor
        return projected_traces(factor, E)[1] * size**4

    assert_allclose(scaled(1e4), scaled(1e3), rtol=1e-5, atol=1e-9)
    assert_allclose(np.diag(scaled(1e4)), [t.l - 1 for t in A.terms], rtol=1e-5)


def test_tests_at_large_variances() -> None:
    """Degrees of freedom approach those of the effects taken as fixed."""
    A = cross_products(design("crossed", weighted=True))
    for size, close in ((1e2, 1e-2), (1e4, 1e-6)):
        reference = KenwardRoger(at_templates(A, [size * np.eye(1) for _ in A.terms]))
        within = A.n - A.p - sum(t.l - 1 for t in A.terms)
        assert reference.df(np.array([[0.0, 1.0]]))[0] == pytest.approx(within, rel=close)


# ------------------------------------------------------------ scaling


@pytest.mark.parametrize("q", [2, 3, 7])
@pytest.mark.parametrize("nu", [4.5, 9.0, 12.0, 250.0])
def test_scaling_is_exact_for_hotelling(q: int, nu: float) -> None:
    m, scaling = scaled_f(2 * q / nu, q * (q + 1) / nu, q)
    assert m == pytest.approx(nu - q + 1, rel=1e-8)
    expected = 1.0 if abs(m - 2) < 1e-2 else (nu - q + 1) / nu
    assert scaling == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("q", [2, 3, 7])
@pytest.mark.parametrize("nu", [2.5, 9.0, 12.0, 250.0])
def test_scaling_is_exact_for_balanced_analysis_of_variance(q: int, nu: float) -> None:
    m, scaling = scaled_f(2 * q**2 / nu, 2 * q / nu, q)
    assert (m, scaling) == pytest.approx((nu, 1.0), rel=1e-8)


@pytest.mark.parametrize("q", [2, 5])
def test_scaling_near_two_degrees_of_freedom(q: int) -> None:
    m, scaling = scaled_f(2 * q**2 / 2.0, 2 * q / 2.0, q)
    assert m == pytest.approx(2.0)
    assert scaling == 1.0


def test_value_of_the_hypothesis() -> None:
    result = fitted("sleepstudy_slope")
    reference = KenwardRoger(result.estimate)
    L = np.array([[0.0, 1.0]])
    value = np.array([8.0])
    expected = (result.fe_params["Days"] - 8.0) ** 2 / reference.vcov[1, 1]
    assert reference.f_test(L, value).statistic == pytest.approx(expected, rel=1e-12)
    assert reference.f_test(L, L @ result.estimate.beta) == FTest(
        0.0, 1, pytest.approx(17.0, rel=1e-6), 1.0
    )


# ------------------------------------------------------------ refusals


def test_maximum_likelihood_is_refused() -> None:
    _, A = model("slope", False)
    estimate = at_templates(A, random_templates(A, 1), reml=False)
    with pytest.raises(InterlaceError, match=r'by ML: refit with update\(method="REML"\)'):
        KenwardRoger(estimate)


def test_too_large_arrays_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_MAX_BYTES", 10.0)
    _, A = model("crossed", False)
    reference = KenwardRoger(at_templates(A, random_templates(A, 1)))
    with pytest.raises(InterlaceError, match=r"g: 9 levels x 1, h: 5 levels x 1.*of 7 x 7"):
        reference.df(np.eye(2))


def test_contrasts_of_the_wrong_length() -> None:
    _, A = model("crossed", False)
    reference = KenwardRoger(at_templates(A, random_templates(A, 1)))
    with pytest.raises(InterlaceError, match=r"shape \(1, 3\) do not fit 2 fixed effects"):
        reference.df(np.ones((1, 3)))
