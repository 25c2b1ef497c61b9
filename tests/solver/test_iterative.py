"""The iterative solver against the exact one: equal with as many probes as there are effects, and
within its stated errors with few.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dense import FORMULAS, MODELS, design, random_templates
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion, Evaluation
from interlace.solver import choose, conjugate
from interlace.solver.choose import choose_solver, predict_costs
from interlace.solver.conjugate import quadrature, solve
from interlace.solver.deflate import deflate, known_coupling, known_inverse
from interlace.solver.equations import Exact, Iterative
from interlace.solver.iterative import IterativeFactor
from interlace.solver.layout import make_layout
from interlace.solver.pieces import flatten, rows_of
from interlace.solver.plan import as_array, flat_cross
from interlace.solver.probes import Probes, error_of_mean
from interlace.solver.sparse import reduce_equations
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.terms import Floats

ALL = Probes(10**6, 0)
CLOSE = {"rtol": 1e-6, "atol": 1e-7}
EXACT = {"rtol": 1e-9, "atol": 1e-9}
# Terms whose template is zero: none, the first, the last.
ZERO = [None, 0, -1]


@functools.cache
def model(name: str, weighted: bool) -> CrossProducts:
    return cross_products(design(name, weighted=weighted))


def templates(A: CrossProducts, zero: int | None, seed: int = 3) -> list[Floats]:
    found = random_templates(A, seed)
    if zero is not None:
        found[zero] = np.zeros_like(found[zero])
    return found


def both(name: str, weighted: bool, zero: int | None, probes: Probes) -> tuple[Evaluation, ...]:
    A = model(name, weighted)
    T = templates(A, zero)
    return Criterion(A, True).at(T), Criterion(A, True, Iterative(probes)).at(T)


# ------------------------------------------------------------ as many probes as effects


@pytest.mark.parametrize("zero", ZERO)
@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_value_and_effects_are_those_of_the_exact_solver(
    name: str, weighted: bool, zero: int | None
) -> None:
    exact, iterative = both(name, weighted, zero, ALL)
    assert_allclose(iterative.value, exact.value, **EXACT)
    assert_allclose(iterative.factor.beta, exact.factor.beta, **EXACT)
    assert_allclose(iterative.factor.vcov, exact.factor.vcov, **EXACT)
    for ours, theirs in zip(iterative.factor.effects, exact.factor.effects, strict=True):
        assert_allclose(ours.b, theirs.b, **CLOSE)
        assert_allclose(ours.e, theirs.e, **CLOSE)
        assert_allclose(ours.u, theirs.u, **CLOSE)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("zero", ZERO)
@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_derivatives_are_those_of_the_exact_solver(
    name: str, weighted: bool, zero: int | None, reml: bool
) -> None:
    exact, iterative = both(name, weighted, zero, ALL)
    pairs = zip(
        iterative.factor.derivatives(reml=reml), exact.factor.derivatives(reml=reml), strict=True
    )
    for ours, theirs in pairs:
        assert_allclose(ours.PZZ, theirs.PZZ, **CLOSE)
        assert_allclose(ours.W, theirs.W, **CLOSE)


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_conditional_covariances_are_those_of_the_exact_solver(name: str, weighted: bool) -> None:
    exact, iterative = both(name, weighted, None, ALL)
    pairs = zip(
        iterative.factor.conditional_covariances(),
        exact.factor.conditional_covariances(),
        strict=True,
    )
    for ours, theirs in pairs:
        assert_allclose(ours, theirs, **CLOSE)


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_newton_matrix_is_that_of_the_exact_solver(name: str, weighted: bool) -> None:
    exact, iterative = both(name, weighted, None, ALL)
    scale = float(np.abs(exact.newton_matrix).max())
    assert_allclose(iterative.newton_matrix / scale, exact.newton_matrix / scale, atol=2e-5)


def test_all_probes_leave_no_error() -> None:
    _, iterative = both("crossed", False, None, ALL)
    assert iterative.value_error == 0.0
    assert not iterative.gradient_covariance.any()


# ------------------------------------------------------------ few probes


@pytest.mark.parametrize("name", ["crossed", "crossed slopes", "nested and crossed"])
def test_means_over_many_seeds_are_the_exact_numbers(name: str) -> None:
    A = model(name, False)
    T = templates(A, None)
    exact = Criterion(A, True).at(T)
    found = [Criterion(A, True, Iterative(Probes(2, seed))).at(T) for seed in range(200)]
    values = np.array([point.value for point in found])
    gradients = np.array([point.gradient for point in found])
    for estimates, truth in ((values, exact.value), (gradients, exact.gradient)):
        error = estimates.std(axis=0, ddof=1) / np.sqrt(len(found))
        assert (np.abs(estimates.mean(axis=0) - truth) < 4.0 * error + 1e-7).all()


def test_probes_do_not_depend_on_their_number() -> None:
    few, many = Probes(3, 7).draw(50), Probes(9, 7).draw(50)
    assert_allclose(many[:, :3], few)
    assert set(np.unique(many)) == {-1.0, 1.0}
    assert not np.array_equal(Probes(3, 8).draw(50), few)


def test_as_many_probes_as_effects_are_unit_vectors() -> None:
    z = Probes(6, 0).draw(5)
    assert_allclose(z @ z.T / 5, np.eye(5))


def test_error_of_a_mean_is_an_upper_limit() -> None:
    values = np.random.default_rng(1).normal(size=(16, 2000))
    stated = error_of_mean(values, False)
    assert 0.98 < (stated > 0.25).mean() < 0.999
    assert not error_of_mean(values, True).any()


# ------------------------------------------------------------ parts


@pytest.mark.parametrize("name", ["crossed", "three crossed", "nested slopes"])
def test_what_is_known_of_the_deflated_equations(name: str) -> None:
    A = model(name, False)
    T = templates(A, None)
    reduced = reduce_equations(A, make_layout(A), T)
    q = reduced.layout.q
    if not q:
        pytest.skip("nothing is left after elimination")
    M = reduced.scaled(np.eye(q))
    deflated = deflate(reduced)
    Q, F = deflated.Q, deflated.F
    H = np.eye(q) - Q @ F.T
    S = deflated.schur(np.eye(q))
    assert_allclose(S @ Q, 0.0, atol=1e-10)
    inverse = Q @ deflated.E_inverse @ Q.T + H @ np.linalg.pinv(S, rcond=1e-10) @ H.T
    assert_allclose(inverse, np.linalg.inv(M), atol=1e-8)
    low = known_inverse(deflated)
    assert_allclose(
        low.U @ low.core @ low.U.T, Q @ deflated.E_inverse @ Q.T + H @ H.T - np.eye(q), atol=1e-9
    )
    coupling = known_coupling(deflated)
    P = np.eye(q) - Q @ Q.T
    rest = H @ (S - P) @ H.T - coupling.U @ coupling.core @ coupling.U.T
    for j in reduced.layout.rest:
        k, part = A.terms[j].k, reduced.slice(j)
        for a in range(part.start, part.stop, k):
            assert_allclose(rest[a : a + k, a : a + k], 0.0, atol=1e-9)
            assert_allclose(M[a : a + k, a : a + k], np.eye(k), atol=1e-9)


def test_conjugate_gradients_and_quadrature() -> None:
    rng = np.random.default_rng(2)
    B = rng.normal(size=(40, 40))
    M = np.eye(40) + B @ B.T / 40
    f = rng.normal(size=(40, 3))
    f[:, 1] = 0.0
    found = solve(lambda v: M @ v, f, 1e-12 * np.linalg.norm(f, axis=0))
    assert_allclose(M @ found.x, f, atol=1e-9)
    assert_allclose(found.first, M @ f, atol=1e-12)
    assert found.steps[1] == 0
    values, vectors = np.linalg.eigh(M)
    log = (vectors * np.log(values)) @ vectors.T
    nodes, weights = quadrature(found, 2)
    assert_allclose(weights.sum(), 1.0)
    assert_allclose(f[:, 2] @ f[:, 2] * (weights @ np.log(nodes)), f[:, 2] @ log @ f[:, 2])


def test_conjugate_gradients_that_do_not_converge() -> None:
    M = np.diag(np.logspace(0, 8, 60))
    with pytest.raises(InterlaceError, match=r"did not converge in 5 iterations"):
        solve(lambda v: M @ v, np.ones((60, 1)), np.full(1, 1e-10), max_iterations=5)
    assert conjugate.MAX_ITERATIONS >= 1000


@pytest.mark.parametrize("name", FORMULAS)
def test_flat_cells(name: str) -> None:
    A = model(name, False)
    cross = flat_cross(A)
    for (i, j), cells in A.cells.items():
        flat = flatten(cells, A.terms[i].l, A.terms[j].l)
        assert_allclose(flat.toarray(), as_array(cross[i, j]))


@pytest.mark.parametrize("threads", [1, 2])
def test_products_of_pieces(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlace.solver.pieces._NONZEROS", 10)
    monkeypatch.setattr("interlace.solver.pieces._PER_ROW", 0)
    A = model("crossed slopes", False)
    l_i, l_j = A.terms[0].l, A.terms[1].l
    rows = rows_of(l_i, A.terms[0].k, {1: (A.cells[0, 1], l_j)}, threads)
    assert len(rows.pieces) > 2
    R = flatten(A.cells[0, 1], l_i, l_j).toarray()
    rng = np.random.default_rng(1)
    v, w = rng.normal(size=(R.shape[1], 3)), rng.normal(size=(l_i, A.terms[0].k, 3))
    K = rng.normal(size=(l_i, 2, 2))
    assert_allclose(rows.apply({1: v}).reshape(-1, 3), R @ v)
    assert_allclose(rows.adjoint(w)[1], R.T @ w.reshape(-1, 3))
    KRv = np.matmul(K, (R @ v).reshape(l_i, 2, 3)).reshape(-1, 3)
    assert_allclose(rows.sandwich(K, {1: v})[1], R.T @ KRv)


# ------------------------------------------------------------ choice


def test_small_models_are_solved_exactly() -> None:
    assert isinstance(choose_solver(model("crossed", False), "auto", 0), Exact)


def test_a_solver_can_be_forced() -> None:
    A = model("crossed", False)
    assert isinstance(choose_solver(A, "exact", 0), Exact)
    chosen = choose_solver(A, "iterative", 5)
    assert isinstance(chosen, Iterative)
    assert chosen.probes.seed == 5
    assert isinstance(Criterion(A, True, chosen).at(templates(A, None)).factor, IterativeFactor)


def test_the_iterative_solver_is_taken_where_the_exact_one_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    A = model("crossed", False)
    costs = predict_costs(A)
    between = 0.5 * (costs.exact.bytes + costs.iterative.bytes)
    cheaper = "iterative" if costs.iterative.bytes < costs.exact.bytes else "exact"
    monkeypatch.setattr(choose, "memory_limit", lambda: between)
    assert isinstance(choose_solver(A, "auto", 0), Iterative) == (cheaper == "iterative")


@pytest.mark.parametrize("solver", ["auto", "exact", "iterative"])
def test_a_model_that_does_not_fit_is_refused(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "memory_limit", lambda: 100.0)
    with pytest.raises(InterlaceError) as error:
        choose_solver(model("crossed", False), solver, 0)
    assert "these terms (g: 9 levels x 1, h: 5 levels x 1), but 1e-07 GB can be used" in str(
        error.value
    )


@pytest.mark.parametrize("name", ["crossed slopes", "three crossed", "nested and crossed"])
@pytest.mark.parametrize("count", [10**6, 6])
def test_templates_of_which_a_direction_is_zero(name: str, count: int) -> None:
    A = model(name, False)
    T = [t @ np.diag([1.0, *[0.0] * (len(t) - 1)]) for t in templates(A, None)]
    exact = Criterion(A, True).at(T)
    found = [
        Criterion(A, True, Iterative(Probes(count, seed))).at(T)
        for seed in range(60 if count < 99 else 1)
    ]
    for j in range(len(T)):
        parts = np.array([point.variance_gradients[j] for point in found])
        error = parts.std(axis=0) / np.sqrt(len(found))
        scale = float(np.abs(exact.variance_gradients[j]).max())
        assert (
            np.abs(parts.mean(axis=0) - exact.variance_gradients[j]) < 4 * error + 1e-6 * scale
        ).all()
