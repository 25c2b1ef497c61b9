"""Every order of elimination gives the numbers of the covariance matrix written out in full."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import block_diag
from scipy.sparse import csr_matrix

from dense import FORMULAS, MODELS, Dense, design, identity, random_templates
from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.solver import blocks, plan
from interlace.solver.exact import factorize
from interlace.solver.solve import fixed_images, gram_times, projected_square, solve
from interlace.solver.tails import DenseTail, count_pairs, sparse_tail
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.terms import split_theta
from plans import PLANS

CLOSE = {"rtol": 1e-8, "atol": 1e-8}


@functools.cache
def model(name: str, weighted: bool) -> tuple[Design, CrossProducts]:
    full = design(name, weighted=weighted)
    return full, cross_products(full)


@pytest.fixture(params=PLANS)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every model of the test is eliminated in this order."""
    monkeypatch.setattr(plan, "_choose", PLANS[request.param])
    return request.param


# ------------------------------------------------------------ against n x n matrices


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_every_plan_agrees_with_dense_matrices(
    name: str, weighted: bool, singular: bool, reml: bool, forced: str
) -> None:
    full, A = model(name, weighted)
    templates = random_templates(A, 3, singular=singular)
    expected = Dense(full, A, A.basis, templates, reml)
    evaluation = Criterion(A, reml).at(templates)
    factor = evaluation.factor
    assert factor.r2 == pytest.approx(expected.r2, rel=1e-9)
    assert_allclose(factor.beta, expected.beta, **CLOSE)
    assert_allclose(factor.vcov, expected.vcov, **CLOSE)
    for found, e, b in zip(factor.effects, expected.e, expected.b, strict=True):
        assert_allclose(found.e, e, **CLOSE)
        assert_allclose(found.b, b, **CLOSE)
    for gamma, wanted in zip(
        evaluation.variance_gradients, expected.variance_gradients, strict=True
    ):
        assert_allclose(gamma, wanted, rtol=1e-7, atol=1e-7)
    for G, gamma, T in zip(
        evaluation.gradients, expected.variance_gradients, templates, strict=True
    ):
        assert_allclose(G, 2 * gamma @ T, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_criterion_in_the_units_of_the_user(name: str, weighted: bool, forced: str) -> None:
    full, A = model(name, weighted)
    n_theta = sum(t.n_theta for t in A.terms)
    theta = np.random.default_rng(4).normal(size=n_theta)
    for reml in (True, False):
        expected = Dense(full, A, identity(A), split_theta(A.terms, theta), reml)
        assert Criterion(A, reml).at_theta(theta).value == pytest.approx(expected.value, abs=1e-7)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_conditional_covariances(name: str, singular: bool, forced: str) -> None:
    full, A = model(name, True)
    templates = random_templates(A, 6, singular=singular)
    expected = Dense(full, A, A.basis, templates, False).conditional_covariances
    found = Criterion(A, False).at(templates).factor.derivatives(reml=False)
    for part, C in zip(found, expected, strict=True):
        assert_allclose(part.C, C, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_projected_forms(name: str, forced: str) -> None:
    full, A = model(name, True)
    templates = random_templates(A, 8)
    rng = np.random.default_rng(9)
    H = [rng.normal(size=(t.l, t.k, 2)) for t in A.terms]
    dense = Dense(full, A, A.basis, templates, True)
    columns = [np.einsum("nlk,lkc->nc", Z, h) for Z, h in zip(dense.Z, H, strict=True)]
    ZH = np.concatenate(columns, axis=1)
    found = Criterion(A, True).at(templates).factor.projected(H)
    assert_allclose(found, ZH.T @ dense.P @ ZH, rtol=1e-8, atol=1e-8)


# ------------------------------------------------------------ solves


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_solves_for_any_right_hand_side(name: str, singular: bool, forced: str) -> None:
    full, A = model(name, True)
    templates = random_templates(A, 4, singular=singular)
    dense = Dense(full, A, A.basis, templates, True)
    rows = [(Z @ T).reshape(A.n, -1) for Z, T in zip(dense.Z, templates, strict=True)]
    Lambda = block_diag(*(np.kron(np.eye(t.l), T) for t, T in zip(A.terms, templates, strict=True)))
    q, R = len(Lambda), np.concatenate([*rows, dense.X], axis=1)
    M = R.T @ R + np.diag(np.arange(q + A.p) < q).astype(float)
    rng = np.random.default_rng(5)
    random = [rng.normal(size=(t.l, t.k, 3)) for t in A.terms]
    fixed = rng.normal(size=(A.p, 3))
    scaled = Lambda.T @ np.concatenate([r.reshape(-1, 3) for r in random])
    factor = factorize(A, plan.make_plan(A), templates)
    known = np.linalg.solve(M[:q, :q], scaled), np.zeros_like(fixed)
    both = np.split(np.linalg.solve(M, np.concatenate((scaled, fixed))), [q])
    for (u, beta), found in ((known, solve(factor, random)), (both, solve(factor, random, fixed))):
        b = np.concatenate([x.reshape(-1, 3) for x in found[0]])
        assert_allclose(b, Lambda @ u, **CLOSE)
        assert_allclose(found[1], beta, **CLOSE)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_products_with_the_random_effects(name: str, singular: bool, forced: str) -> None:
    full, A = model(name, True)
    templates = random_templates(A, 8, singular=singular)
    dense = Dense(full, A, A.basis, templates, True)
    factor = factorize(A, plan.make_plan(A), templates)
    for found, Z in zip(fixed_images(factor), dense.Z, strict=True):
        assert_allclose(found, np.einsum("nlk,np->lkp", Z, dense.V_inverse @ dense.X), **CLOSE)
    rng = np.random.default_rng(9)
    H = [rng.normal(size=(t.l, t.k, 2)) for t in A.terms]
    ZH = sum(np.einsum("nlk,lkc->nc", Z, h) for Z, h in zip(dense.Z, H, strict=True))
    assert_allclose(projected_square(factor, H), ZH.T @ dense.P @ ZH, **CLOSE)
    for found, Z in zip(gram_times(factor, H), dense.Z, strict=True):
        assert_allclose(found, np.einsum("nlk,nc->lkc", Z, ZH), **CLOSE)


# ------------------------------------------------------------ plans


def test_nested_terms_form_a_chain() -> None:
    _, A = model("nested in three levels", False)
    chain = plan._longest_chain(A)
    assert [A.terms[j].group for j in chain] == ["a:b:c", "a:b", "a"]
    assert plan.nested(A, chain[0], chain[2])
    assert not plan.nested(A, chain[2], chain[0])


def test_crossed_terms_do_not() -> None:
    _, A = model("crossed", False)
    assert [A.terms[j].group for j in plan._longest_chain(A)] == ["g"]


def test_too_large_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "memory_limit", lambda: 10.0)
    _, A = model("crossed", False)
    with pytest.raises(InterlaceError, match=r"g: 9 levels x 1, h: 5 levels x 1"):
        plan.make_plan(A)


def test_equations_that_are_not_positive_definite() -> None:
    _, A = model("crossed", False)
    bad = replace(A, vv=-A.vv)
    with pytest.raises(np.linalg.LinAlgError, match="not positive"):
        factorize(bad, plan.make_plan(bad), random_templates(A, 1))


# ------------------------------------------------------------ tails


@settings(max_examples=25)
@given(
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 7),
    st.integers(1, 3),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_both_tails_have_the_same_products(
    l: int, k: int, q: int, width: int, filled: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    met = rng.random((l, 1, q)) < filled  # a level meets a column with all its rows or none
    among = np.where(met, rng.normal(size=(l, k, q)), 0.0)
    fixed = rng.normal(size=(l, k, width))
    dense = DenseTail(np.concatenate((among, fixed), axis=2))
    sparse = sparse_tail(csr_matrix(among.reshape(l * k, q)), fixed)
    m = q + width
    V, M = rng.normal(size=(m, 2)), rng.normal(size=(l, k, 2))
    K, C = rng.normal(size=(l, k, k)), rng.normal(size=(m, m))
    K, C = K + K.transpose(0, 2, 1), C + C.T
    assert_allclose(sparse.apply(V), dense.apply(V), **CLOSE)
    assert_allclose(sparse.adjoint(M), dense.adjoint(M), **CLOSE)
    assert_allclose(np.triu(sparse.gram(K)), np.triu(dense.gram(K)), **CLOSE)
    assert_allclose(sparse.quadratic(np.triu(C)), dense.quadratic(C), **CLOSE)
    assert_allclose(dense.gram(K), np.einsum("lam,lab,lbn->mn", dense.R, K, dense.R), **CLOSE)
    assert_allclose(dense.quadratic(C), dense.R @ C @ dense.R.transpose(0, 2, 1), **CLOSE)


def test_pairs_in_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    R = csr_matrix(np.where(rng.random((40, 9)) < 0.4, rng.normal(size=(40, 9)), 0.0))
    fixed = rng.normal(size=(20, 2, 2))
    whole = sparse_tail(R, fixed)
    monkeypatch.setattr("interlace.solver.tails._PIECE", 7)
    pieces = sparse_tail(R, fixed)
    assert_allclose(pieces.pairs.toarray(), whole.pairs.toarray())


def test_pairs_are_counted_beforehand() -> None:
    rng = np.random.default_rng(3)
    met = rng.random((8, 1, 6)) < 0.5
    R = csr_matrix(np.where(met, 1.0 + rng.random((8, 2, 6)), 0.0).reshape(16, 6))
    pairs = sparse_tail(R, np.ones((8, 2, 1))).pairs
    assert pairs.nnz == count_pairs(met.sum(axis=(1, 2)).astype(float), 2)


# ------------------------------------------------------------ halves of the inverse


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("order", ["dense", "smallest term first"])
@pytest.mark.parametrize("name", ["slope", "crossed slopes", "three crossed", "nested and crossed"])
def test_halves_of_the_inverse_give_what_the_inverse_does(
    name: str, order: str, singular: bool, reml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, A = model(name, False)
    monkeypatch.setattr(plan, "_choose", PLANS[order])
    factor = factorize(A, plan.make_plan(A), random_templates(A, 7, singular=singular))
    whole = factor.reverse(factor.inverse(fixed=reml)).terms
    for half, found in zip(factor.derivatives(reml=reml), whole, strict=True):
        assert_allclose(half.W, found.W, rtol=1e-10, atol=1e-10)
        assert_allclose(half.PZZ, found.PZZ, rtol=1e-10, atol=1e-10)
        assert_allclose(half.C, found.C, rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------ blocks


@pytest.mark.parametrize("l", [3, 500])
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_blocks(l: int, k: int) -> None:
    rng = np.random.default_rng(l + k)
    A, B, M = rng.normal(size=(l, k, k)), rng.normal(size=(l, k, 3)), rng.normal(size=(k, k))
    symmetric = A + A.transpose(0, 2, 1)
    assert_allclose(blocks.multiply(A, B), A @ B, **CLOSE)
    assert_allclose(blocks.rows_times(A, M), A @ M, **CLOSE)
    assert_allclose(blocks.congruence(symmetric, M), M.T @ symmetric @ M, **CLOSE)
    assert_allclose(blocks.sum_product(A, B), (A @ B).sum(axis=0), **CLOSE)
    D = A @ A.transpose(0, 2, 1) + np.eye(k)
    inverse, logdet = blocks.spd_inverse(D)
    assert_allclose(inverse, np.linalg.inv(D), **CLOSE)
    assert logdet == pytest.approx(np.linalg.slogdet(D)[1].sum(), rel=1e-10)
    assert_allclose(blocks.squares(B), B @ B.transpose(0, 2, 1), **CLOSE)


@pytest.mark.parametrize("m", [1, 5, 64, 65, 150])
def test_symmetric_matrices_from_upper_triangles(m: int) -> None:
    M = np.random.default_rng(m).normal(size=(3, m, m))
    full = blocks.from_upper(M)
    for i in range(3):
        upper = np.triu(M[i])
        assert (full[i] == upper + np.triu(M[i], 1).T).all()
        assert (blocks.from_upper(M[i]) == full[i]).all()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("last", [0.0, -1.0])
def test_blocks_that_are_not_positive_definite(k: int, last: float) -> None:
    D = np.stack([np.eye(k)] * 3)
    D[1, -1, -1] = last
    with np.errstate(all="ignore"), pytest.raises(np.linalg.LinAlgError, match="not positive"):
        blocks.spd_inverse(D)
