"""Rows that are not held: sums over blocks give what the rows themselves give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from glmm.models import FAMILY_LINKS, STRUCTURES, name_of, point, problem
from interlace.glmm import stored
from interlace.glmm.estimate import estimate_general
from interlace.glmm.families import Binomial, NegativeBinomial
from interlace.glmm.laplace import Laplace, evaluate, zeros
from interlace.glmm.probing import Estimated
from interlace.glmm.problem import Problem
from interlace.glmm.stored import Entry
from interlace.glmm.storing import Buckets, Sorted, codes_of, streamed_problem
from interlace.glmm.streamed import Passes, StreamedProblem
from interlace.solver.probes import Probes


def streamed(held: Problem, buckets: int = 1) -> StreamedProblem:
    """The problem with its rows, in the working basis, in a scratch file."""
    rows = held.rows
    piece = {codes_of(t.group): codes for t, codes in zip(rows.terms, rows.codes, strict=True)} | {
        "y": held.y,
        "trials": held.trials,
        "offset": held.offset,
    }
    piece["weights"] = np.ones(rows.n) if held.weights is None else held.weights
    names = [f"column:{j}" for j in range(rows.p)]
    piece |= dict(zip(names, rows.X.T, strict=True))
    random = []
    for j, Z in enumerate(rows.Z):
        own = [] if Z is None else [f"column:{j}.{a}" for a in range(Z.shape[1])]
        piece |= {} if Z is None else dict(zip(own, Z.T, strict=True))
        random.append(entry(own or [None]))
    found = Sorted(rows.terms, held.family)
    dealt = Buckets.of(rows.terms[0].group, rows.terms[0].l, buckets * (1 << 21))
    for part in np.array_split(np.arange(rows.n), 3):
        dealt.deal({name: np.asarray(column)[part] for name, column in piece.items()})
    for bucket in dealt.emptied():
        found.add(bucket, 0.5, np.random.default_rng(1))
    made = streamed_problem(found, rows.some(np.zeros(0, np.intp)), entry(names), random)
    return replace(made, probes=held.probes)


def entry(names: list[str | None]) -> Entry:
    return Entry(tuple(names), np.zeros(len(names)), np.eye(len(names)))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "ROWS", 17)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("family", FAMILY_LINKS, ids=name_of)
def test_the_criterion_and_its_derivatives_are_those_of_the_rows(family, structure) -> None:
    held = problem(family, structure)
    other = streamed(held)
    at = held.unpack(point(held, np.random.default_rng(2)))
    near = evaluate(held, at, zeros(held)).u
    wanted, found = evaluate(held, at, near), Passes()(other, at, near)
    assert_allclose(found.value, wanted.value, rtol=1e-10)
    assert_allclose(found.gradient, wanted.gradient, rtol=1e-6, atol=1e-6)
    assert_allclose(found.newton_matrix, wanted.newton_matrix, rtol=1e-6, atol=1e-6)
    to = held.unpack(held.pack(*at) + 1e-3)
    for one, two in zip(found.predicted(to), wanted.predicted(to), strict=True):
        assert_allclose(one, two, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_fits_are_those_of_the_rows(structure) -> None:
    for family in (Binomial(), NegativeBinomial()):
        held = problem(family, structure, seed=3)
        wanted = estimate_general(held, Laplace())
        found = estimate_general(streamed(held), Passes())
        assert_allclose(found.value, wanted.value, atol=1e-8)
        assert_allclose(found.beta, wanted.beta, atol=1e-5)
        assert_allclose(found.vcov, wanted.vcov, rtol=1e-4)
        assert found.convergence.converged == wanted.convergence.converged


@pytest.mark.parametrize("structure", ["crossed", "nested", "row"])
@pytest.mark.parametrize("family", [Binomial(), NegativeBinomial()], ids=name_of)
def test_the_iterative_solver_has_the_same_probes(family, structure) -> None:
    held = replace(problem(family, structure, seed=4), probes=Probes(8, 1))
    at = held.unpack(point(held, np.random.default_rng(2)))
    near = evaluate(held, at, zeros(held)).u
    wanted, found = evaluate(held, at, near), Passes()(streamed(held), at, near)
    assert_allclose(found.value, wanted.value, rtol=1e-6)
    assert_allclose(found.gradient, wanted.gradient, rtol=1e-4, atol=1e-4)
    assert_allclose(found.newton_matrix, wanted.newton_matrix, rtol=1e-4, atol=1e-4)
    one, other = Estimated(found).gradient_covariance, Estimated(wanted).gradient_covariance
    assert_allclose(one, other, rtol=1e-3, atol=1e-6)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.integers(1, 90),
    buckets=st.integers(1, 8),
    seed=st.integers(0, 99),
    structure=st.sampled_from(STRUCTURES),
)
def test_blocks_and_buckets_of_any_size_give_the_same_sums(
    monkeypatch: pytest.MonkeyPatch, rows: int, buckets: int, seed: int, structure: str
) -> None:
    monkeypatch.setattr(stored, "ROWS", rows)
    held = problem(Binomial(), structure, seed=seed)
    at = held.unpack(point(held, np.random.default_rng(seed)))
    near = evaluate(held, at, zeros(held)).u
    wanted, found = evaluate(held, at, near), Passes()(streamed(held, buckets), at, near)
    assert_allclose(found.value, wanted.value, rtol=1e-10)
    assert_allclose(found.gradient, wanted.gradient, rtol=1e-6, atol=1e-6)
