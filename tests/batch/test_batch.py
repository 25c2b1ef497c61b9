"""Many fits at once: the batch against the ordinary solver, fit by fit."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import dense
import interlace
from interlace.batch.factor import factorize
from interlace.batch.fits import BatchProblem, fit_stacked, off_boundary, pad, stacked
from interlace.batch.optimize import Points, minimize_many
from interlace.batch.refits import Refitter, Responses, side_by_side, weighted_columns
from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.estimation.parameters import variance_parameters
from interlace.estimation.search import Outcome
from interlace.model.simulate import Simulator, expected
from interlace.sums.crossprod import CrossProducts, cross_products, with_response
from interlace.sums.terms import Floats

PARTS = [(name, weighted, reml) for name, weighted in dense.MODELS for reml in (True, False)]


@functools.cache
def fitted(name: str, *, weighted: bool = False, reml: bool = True) -> tuple[Design, Estimate]:
    design = dense.design(name, weighted=weighted)
    return design, estimate_theta(Criterion(cross_products(design), reml))


def new_deviations(design: Design, estimate: Estimate, count: int, seed: int = 1) -> Floats:
    model = Simulator(design, estimate)
    rng = np.random.default_rng(seed)
    return model.deviations(rng.standard_normal((count, model.n_draws)))


def other_data(A: CrossProducts, design: Design, count: int) -> list[CrossProducts]:
    """Cross-products that differ in everything: other responses, some rows taken out."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(count):
        y = design.y + rng.normal(size=len(design.y))
        found.append(with_response(A, design, y))
    return found


# ------------------------------------------------------------ one evaluation


@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
@pytest.mark.parametrize(("name", "weighted", "reml"), PARTS)
def test_values_and_derivatives_of_own_data(
    name: str, weighted: bool, reml: bool, singular: bool
) -> None:
    """Nothing shared: data sets and templates of their own."""
    design = dense.design(name, weighted=weighted)
    criteria = [Criterion(A, reml) for A in other_data(cross_products(design), design, 4)]
    templates = [dense.random_templates(c.A, s, singular=singular) for s, c in enumerate(criteria)]
    x = np.stack([c.pack(T) for c, T in zip(criteria, templates, strict=True)])
    points = BatchProblem(stacked(criteria)).evaluate(x)
    for i, criterion in enumerate(criteria):
        agree(points, i, criterion(x[i]))


@pytest.mark.parametrize("term", ["cs(0 + f | g)", "ar1(0 + f | g)", "cs(0 + f | g, hom=True)"])
def test_structured_terms_have_the_derivatives_of_single_fits(term: str) -> None:
    design = dense.design(f"y ~ x + {term} + (1 | h)")
    criterion = Criterion(cross_products(design), True)
    start = criterion.pack([t.template.start(0.6) for t in criterion.A.terms])
    x = start + np.array([[0.1], [0.2]])
    points = BatchProblem(stacked([criterion, criterion])).evaluate(x)
    for i in range(2):
        agree(points, i, criterion(x[i]))


def agree(points: Points, i: int, expected) -> None:
    assert points.value[i] == pytest.approx(expected.value, rel=1e-12)
    scale = np.abs(expected.newton_matrix).max()
    assert_allclose(points.gradient[i], expected.gradient, rtol=0, atol=1e-10 * max(scale, 1.0))
    assert_allclose(points.newton[i], expected.newton_matrix, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
@pytest.mark.parametrize(("name", "weighted", "reml"), PARTS)
def test_values_and_derivatives_of_new_responses(
    name: str, weighted: bool, reml: bool, singular: bool
) -> None:
    """A design that is shared: what the batch computes is what the response alone would give."""
    design, estimate = fitted(name, weighted=weighted, reml=reml)
    refitter = Refitter(estimate, weighted_columns(design, estimate.A))
    deviations = new_deviations(design, estimate, 3)
    templates = dense.random_templates(estimate.A, 7, singular=singular)
    x = np.tile(estimate.criterion.pack(templates), (3, 1))
    batch = refitter.batch(refitter.rows.responses(deviations))
    points = BatchProblem(batch).evaluate(x)
    for i in range(3):
        y = expected(design, estimate) + deviations[:, i]
        criterion = Criterion(with_response(estimate.A, design, y), reml)
        agree(points, i, criterion(x[i]))
        shared = refitter.single_criterion(refitter.rows.responses(deviations), i)
        agree(points, i, shared(x[i]))


def test_some_of_a_batch() -> None:
    """Taking replicates out of a batch does not change the others."""
    design = dense.design("crossed slopes")
    A = cross_products(design)
    criteria = [Criterion(one, True) for one in other_data(A, design, 5)]
    x = np.stack([c.pack(dense.random_templates(A, s)) for s, c in enumerate(criteria)])
    problem = BatchProblem(stacked(criteria))
    keep = np.array([True, False, True, True, False])
    whole, part = problem.evaluate(x).take(keep), problem.take(keep).evaluate(x[keep])
    for a, b in ((whole.value, part.value), (whole.gradient, part.gradient)):
        assert_allclose(a, b, rtol=1e-12, atol=1e-10)
    assert_allclose(whole.newton, part.newton, rtol=1e-12, atol=1e-9)


def test_deleted_groups_as_a_batch() -> None:
    """The monoid and the batch together: every group left out, all fits at once."""
    design, estimate = fitted("crossed")
    A, codes = estimate.A, design.codes[0]
    criteria = []
    for level in range(A.terms[0].l):
        rows = codes == level
        criteria.append(Criterion(A - _rows_of(design, A, rows), True))
    batch = stacked(criteria)
    start = np.tile(estimate.criterion.pack(estimate.templates), (len(criteria), 1))
    found = minimize_many(BatchProblem(batch), start, gain_tolerance=1e-11)
    assert found.converged.all()
    for criterion, value in zip(criteria, found.value, strict=True):
        assert value == pytest.approx(estimate_theta(criterion).value, abs=1e-8)


def _rows_of(design: Design, A: CrossProducts, rows: np.ndarray) -> CrossProducts:
    """Cross-products of some rows in the basis of ``A``."""
    V = np.column_stack((design.X, design.y))[rows] @ A.basis.fixed
    blocks = [
        np.eye(t.l)[c[rows]][:, :, None] * (Z[rows] @ B)[:, None, :]
        for c, Z, B, t in zip(design.codes, design.Z, A.basis.random, A.terms, strict=True)
    ]
    cells = {}
    for (i, j), c in A.cells.items():
        full = np.einsum("nla,nmb->lmab", blocks[i], blocks[j])
        cells[i, j] = replace(c, values=full[c.rows, c.cols])
    return replace(
        A,
        n=int(rows.sum()),
        vv=V.T @ V,
        zv=tuple(np.einsum("nlk,nv->lkv", b, V) for b in blocks),
        zz=tuple(np.einsum("nla,nlb->lab", b, b) for b in blocks),
        cells=cells,
    )


def test_failed_factorisations_are_infinite() -> None:
    """A replicate whose equations are not positive definite does not harm the others."""
    design = dense.design("crossed")
    A = cross_products(design)
    batch = stacked([Criterion(A, True)] * 3)
    S = batch.S.copy()
    S[1] *= -1e3
    T = dense.random_templates(A, 1)
    templates = {j: np.tile(t, (3, 1, 1)) for j, t in enumerate(T)}
    value = factorize(replace(batch, S=S), templates).value
    assert np.isinf(value[1])
    assert_allclose(value[[0, 2]], Criterion(A, True).at(T).value)


# ------------------------------------------------------------ optima


@pytest.mark.parametrize(("name", "weighted"), dense.MODELS)
def test_optima_are_those_of_the_ordinary_fit(name: str, weighted: bool) -> None:
    """On simulated responses, some without random effects so that many are singular."""
    design, estimate = fitted(name, weighted=weighted)
    refitter = Refitter(estimate, weighted_columns(design, estimate.A))
    deviations = new_deviations(design, estimate, 4)
    noise = np.random.default_rng(3).normal(size=(len(design.y), 3)) * estimate.sigma
    deviations = np.column_stack((deviations, noise))
    fits = refitter.refit(refitter.rows.responses(deviations))
    assert fits.errors == {}
    parameters = variance_parameters(estimate.A.terms, fits.templates, fits.sigma)
    for i in range(deviations.shape[1]):
        y = expected(design, estimate) + deviations[:, i]
        alone = estimate_theta(Criterion(with_response(estimate.A, design, y), True))
        assert fits.value[i] == pytest.approx(alone.value, abs=1e-7)
        assert_allclose(fits.sigma[i], alone.sigma, rtol=1e-4)
        assert_allclose(fits.beta[i], alone.beta, atol=1e-3 * np.sqrt(alone.vcov.max(initial=1.0)))
        sd = [j for j, one in enumerate(parameters[i]) if one >= 0]
        assert np.isfinite(parameters[i][sd]).all()
        if fits.singular[i] != alone.is_singular:
            diagonal = np.concatenate([np.diag(T) for T in alone.user_templates])
            assert diagonal.min() < 1e-2  # on the border of the definition, one tells otherwise


def test_some_of_these_are_singular() -> None:
    """The test above sees both kinds."""
    design, estimate = fitted("crossed slopes")
    refitter = Refitter(estimate, weighted_columns(design, estimate.A))
    noise = np.random.default_rng(3).normal(size=(len(design.y), 20)) * estimate.sigma
    assert 3 < refitter.refit(refitter.rows.responses(noise)).singular.sum() <= 20


@pytest.mark.parametrize("name", dense.FORMULAS)
def test_responses_side_by_side(name: str) -> None:
    """Fits do not depend on how responses are grouped."""
    design, estimate = fitted(name)
    refitter = Refitter(estimate, weighted_columns(design, estimate.A))
    deviations = new_deviations(design, estimate, 7)
    whole = refitter.rows.responses(deviations)
    parts = [refitter.rows.responses(deviations[:, part]) for part in (slice(0, 3), slice(3, 7))]
    again = side_by_side(parts)
    assert len(again) == 7
    for i in (0, 4, 6):
        one, two = refitter.responded(whole, i), refitter.responded(again.part(slice(i, i + 1)), 0)
        assert_allclose(one.vv, two.vv, atol=1e-10)
        for a, b in zip(one.zv, two.zv, strict=True):
            assert_allclose(a, b, atol=1e-10)
    assert_allclose(refitter.refit(again).value, refitter.refit(whole).value, atol=1e-8)


@pytest.mark.parametrize("name", dense.FORMULAS)
def test_one_by_one(name: str) -> None:
    """Large models share all that involves no response, and find the same as a fresh fit."""
    design, estimate = fitted(name, weighted=True)
    refitter = Refitter(estimate, weighted_columns(design, estimate.A))
    deviations = new_deviations(design, estimate, 2)
    responses = refitter.rows.responses(deviations)
    for i in range(2):
        y = expected(design, estimate) + deviations[:, i]
        alone = estimate_theta(Criterion(with_response(estimate.A, design, y), True))
        shared = refitter.single(responses, i)
        assert shared.value == pytest.approx(alone.value, abs=1e-7)
        assert_allclose(shared.beta, alone.beta, atol=1e-4)
        assert_allclose(shared.sigma, alone.sigma, rtol=1e-5)
        assert_allclose(
            np.concatenate([b.ravel() for b in shared.b]),
            np.concatenate([b.ravel() for b in alone.b]),
            atol=2e-4,
        )


def test_sparse_tails_share_their_pairs() -> None:
    """Also where the ordinary solver lists pairs of nonzeros: only the column of ``y`` is new."""
    rng = np.random.default_rng(4)
    n = 3000
    frame = {"y": rng.normal(size=n), "x": rng.normal(size=n)}
    frame |= {"g": rng.integers(0, 900, n), "h": rng.integers(0, 300, n)}
    frame["y"] += rng.normal(size=900)[frame["g"]] + rng.normal(size=300)[frame["h"]]
    result = interlace.fit("y ~ x + (1 | g) + (1 | h)", frame)
    refitter = Refitter(result.estimate, weighted_columns(result.design, result.estimate.A))
    assert not refitter.batched
    deviations = new_deviations(result.design, result.estimate, 1)
    shared = refitter.single(refitter.rows.responses(deviations), 0)
    alone = result.refit(expected(result.design, result.estimate) + deviations[:, 0])
    plan, other = (one.criterion.equations.plan for one in (result.estimate, shared))
    tail = other.tails[plan.chain[0]]
    assert tail.pairs is plan.tails[plan.chain[0]].pairs
    assert shared.value == pytest.approx(alone.criterion, abs=1e-7)


def test_far_from_zero() -> None:
    """A mean of 1e8 costs no digits: responses are deviations from the fit."""
    design, estimate = fitted("slope")
    far = replace(design, y=design.y + 1e8)
    moved = estimate_theta(Criterion(cross_products(far), True))
    deviations = new_deviations(design, estimate, 5)
    one, two = (
        Refitter(e, rows).refit(rows.responses(deviations))
        for d, e in ((design, estimate), (far, moved))
        for rows in [weighted_columns(d, e.A)]
    )
    assert_allclose(one.sigma, two.sigma, rtol=1e-6)
    assert_allclose(one.value, two.value, atol=1e-6)


@given(
    scale=st.floats(1e-6, 1e6),
    sign=st.sampled_from([-1.0, 1.0]),
    shift=st.floats(-1e3, 1e3),
    seed=st.integers(0, 50),
)
@settings(max_examples=12)
def test_units_of_the_response(scale: float, sign: float, shift: float, seed: int) -> None:
    """``c y + X a`` has ``c sigma``, ``c beta + a``, and the same relative templates."""
    design, estimate = _slope()
    refitter = Refitter(estimate, weighted_columns(design, estimate.A))
    deviations = new_deviations(design, estimate, 2, seed=seed)
    moved = sign * scale * (deviations + shift * design.X[:, :1])
    one, two = (
        refitter.refit(refitter.rows.responses(deviations)),
        refitter.refit(refitter.rows.responses(moved)),
    )
    assert_allclose(two.sigma, scale * one.sigma, rtol=1e-5)
    change = one.beta - estimate.beta + np.array([shift, 0.0])
    tolerance = 1e-4 * scale * estimate.sigma
    assert_allclose(two.beta - estimate.beta, sign * scale * change, rtol=1e-7, atol=tolerance)
    assert_allclose(two.value, one.value + 2 * estimate.criterion.nu * np.log(scale), atol=1e-6)


@functools.cache
def _slope() -> tuple[Design, Estimate]:
    return fitted("slope")


def test_a_response_without_residual_fails_alone() -> None:
    design, estimate = fitted("slope")
    refitter = Refitter(estimate, weighted_columns(design, estimate.A))
    deviations = new_deviations(design, estimate, 4)
    deviations[:, 2] = 3.0 * design.X[:, 1]
    fits = refitter.refit(refitter.rows.responses(deviations))
    assert fits.errors == {2: "the fixed effects reproduce the response exactly"}
    assert np.isnan(fits.sigma[2]) and np.isnan(fits.beta[2]).all()
    assert np.isfinite(np.delete(fits.sigma, 2)).all()
    responses: Responses = refitter.rows.responses(deviations)
    assert np.isnan(responses.scale[2])
    with pytest.raises(interlace.InterlaceError, match="reproduce the response"):
        refitter.single(responses, 2)


@pytest.mark.parametrize("name", dense.FORMULAS)
def test_samples_with_other_levels(name: str) -> None:
    """Data sets that share nothing but the model, in the user's units."""
    criteria = []
    for seed in range(4):
        data = dense.frame(80 + 5 * seed, seed=seed)
        levels = data["g"].unique()[: 9 - seed % 2]
        chosen = data[data["g"].isin(levels)]
        formula = dense.FORMULAS[name]
        criteria.append(Criterion(cross_products(assemble(parse(formula), chosen)), seed > 1))
    for part in (criteria[:2], criteria[2:]):
        theta0 = np.concatenate([t.theta(np.eye(t.k)) for t in part[0].A.terms])
        fits = fit_stacked(part, theta0)
        for i, criterion in enumerate(part):
            alone = estimate_theta(criterion)
            assert fits.value[i] == pytest.approx(alone.value, abs=1e-7)
            assert fits.sigma[i] == pytest.approx(alone.sigma, rel=1e-4)
            assert_allclose(fits.beta[i], alone.beta, atol=1e-3)
            for T, V in zip(fits.templates, alone.covariances, strict=True):
                assert_allclose(fits.sigma[i] ** 2 * T[i] @ T[i].T, V, atol=5e-3)


def test_levels_without_rows_change_nothing() -> None:
    A = cross_products(dense.design("crossed slopes"))
    padded = pad(A, [12, 9])
    assert [t.l for t in padded.terms] == [12, 9]
    assert pad(A, [t.l for t in A.terms]) is A
    T = dense.random_templates(A, 3)
    one, two = Criterion(A, True).at(T), Criterion(padded, True).at(T)
    assert two.value == pytest.approx(one.value, rel=1e-13)
    assert_allclose(two.gradient, one.gradient, rtol=1e-10, atol=1e-10)


def test_start_is_off_the_boundary() -> None:
    T = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert np.linalg.svd(off_boundary(T), compute_uv=False)[-1] == pytest.approx(0.1)
    assert_allclose(off_boundary(np.diag([2.0, 0.0])), np.diag([2.0, 0.1]))
    assert off_boundary(np.eye(2) * 3) is not None
    assert_allclose(off_boundary(np.eye(2) * 3), np.eye(2) * 3)


# ------------------------------------------------------------ the optimiser


class Functions:
    """``B`` copies of quartics ``sum (x^2 - a)^2 / 4`` with their own ``a``: a saddle at 0."""

    def __init__(self, a: Floats) -> None:
        self.a = a

    def evaluate(self, x: Floats) -> Points:
        gap = x**2 - self.a[:, None]
        newton = np.zeros((*x.shape, x.shape[1]))
        i = np.arange(x.shape[1])
        newton[:, i, i] = 3 * x**2 - self.a[:, None]
        value = (gap**2).sum(axis=1) / 4
        value[~np.isfinite(value)] = np.inf
        return Points(value, x * gap, newton)

    def take(self, which) -> Functions:
        return Functions(self.a[which])


def test_optimiser_leaves_saddles() -> None:
    a = np.array([1.0, 4.0, 0.25, 9.0])
    found = minimize_many(Functions(a), np.zeros((4, 2)))
    assert found.converged.all()
    assert_allclose(found.value, 0.0, atol=1e-8)
    assert_allclose(np.abs(found.x), np.sqrt(a)[:, None] * np.ones(2), atol=1e-4)
    assert (found.predicted_gain < 1e-9).all()


def test_optimiser_counts_and_gives_up() -> None:
    a = np.array([1.0, 100.0])
    start = np.array([[1.001, 1.0], [40.0, -40.0]])
    found = minimize_many(Functions(a), start, max_evaluations=4)
    assert found.outcome.tolist() == [Outcome.CONVERGED, Outcome.EXHAUSTED]
    assert found.n_evaluations[0] < found.n_evaluations[1] == 4
    assert Outcome(found.outcome[1]).sentence == "too many evaluations"


def test_optimiser_refuses_a_start_without_value() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = minimize_many(Functions(np.array([1.0, np.nan])), np.ones((2, 1)))
    assert found.outcome.tolist() == [Outcome.CONVERGED, Outcome.INVALID]
    assert found.value[0] == 0.0
