"""Every template against its own definition: derivatives, charts and the form that is reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from interlace.covariance.templates import Diagonal, Floats, Full, Template
from interlace.sums.terms import ReTerm, pack, places, unpack

STRUCTURES = {"full": Full, "diagonal": Diagonal}
TEMPLATES = [structure(k) for structure in STRUCTURES.values() for k in (1, 2, 3, 5)]
every_template = pytest.mark.parametrize("template", TEMPLATES, ids=str)


def draw(template: Template, *leading: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*leading, template.size))
    return x, template(x)


@every_template
def test_packing_is_the_inverse_with_any_leading_axes(template: Template) -> None:
    for leading in ((), (4,), (3, 2)):
        x, T = draw(template, *leading)
        assert T.shape == (*leading, template.k, template.k)
        assert_array_equal(template.pack(T), x)


@every_template
def test_jacobian_and_second_derivatives(template: Template) -> None:
    x, T = draw(template)
    G = np.random.default_rng(1).normal(size=T.shape)
    step, eye = 1e-6, np.eye(template.size)
    J = template.jacobian(x)
    moved = [(template(x + step * d) - template(x - step * d)) / (2 * step) for d in eye]
    assert_allclose(J, np.moveaxis(moved, 0, -1), atol=1e-9)
    changes = [
        np.tensordot(G, template.jacobian(x + step * d) - template.jacobian(x - step * d), 2)
        for d in eye
    ]
    assert_allclose(
        np.zeros((template.size,) * 2) + template.second(x, G),
        np.array(changes) / (2 * step),
        atol=1e-9,
    )


@every_template
def test_directions_follow_from_the_jacobian(template: Template) -> None:
    rng = np.random.default_rng(2)
    x, T = draw(template)
    u, e = rng.normal(size=(2, 6, template.k))
    J = template.jacobian(x)
    expected = np.einsum("abc,lb->lac", J, u) + np.einsum("ab,dbc,ld->lac", T, J, e)
    assert_allclose(template.directions(T, u, e), expected, atol=1e-14)
    by_column = template.directions_by_column(T[..., None], u.T, e.T)
    assert_allclose(by_column, np.moveaxis(expected, 0, -1), atol=1e-14)


@every_template
def test_directions_are_shifts_of_the_covariance_times_their_rates(template: Template) -> None:
    rng = np.random.default_rng(5)
    _, T = draw(template)
    e = rng.normal(size=(6, template.k))
    assert_allclose(
        template.shifts(T, e) @ template.rates(T), template.directions(T, e @ T, e), atol=1e-14
    )


@every_template
def test_directions_of_many_at_once(template: Template) -> None:
    rng = np.random.default_rng(3)
    _, T = draw(template, 4)
    u, e = rng.normal(size=(2, 4, 6, template.k))
    each = [template.directions(*one) for one in zip(T, u, e, strict=True)]
    assert_array_equal(template.directions(T, u, e), each)


@every_template
def test_second_order_part_of_the_covariance(template: Template) -> None:
    x, T = draw(template)
    J = template.jacobian(x)
    gamma = np.random.default_rng(4).normal(size=(3, template.k, template.k))
    gamma = gamma + np.swapaxes(gamma, 1, 2)
    expected = 2.0 * np.einsum("abr,nac,cbs->nrs", J, gamma, J)
    assert_allclose(template.second_order(T, gamma), expected, atol=1e-14)
    assert_array_equal(template.second_order(T, gamma)[1], template.second_order(T, gamma[1]))


@given(st.sampled_from(TEMPLATES), st.integers(0, 2**32 - 1))
def test_the_reported_template_has_the_same_covariance(template: Template, seed: int) -> None:
    _, T = draw(template, seed=seed)
    lower = template.canonical(T)
    assert_allclose(lower @ lower.T, T @ T.T, atol=1e-12 * (T**2).sum())
    assert_array_equal(lower, np.tril(lower))
    assert (np.diag(lower) >= 0.0).all()
    outside = np.ones_like(T, dtype=bool)
    outside[template.entries] = False
    assert_array_equal(lower[outside], 0.0)


@every_template
def test_entries_run_column_by_column_and_backwards_where_columns_are_apart(
    template: Template,
) -> None:
    rows, columns = template.entries
    assert list(zip(columns, rows, strict=True)) == sorted(zip(columns, rows, strict=True))
    listed = template.listed(backwards=True)
    assert sorted(listed) == list(range(len(rows)))
    assert_array_equal(listed[:: -1 if template.joint == 1 else 1], np.arange(len(rows)))


@every_template
def test_start_and_parts(template: Template) -> None:
    assert_array_equal(template.start(0.5), 0.5 * np.eye(template.k))
    some = template.part(range(1, template.k)) if template.k > 1 else template
    assert type(some) is type(template)
    assert some.k == max(template.k - 1, 1)


def test_terms_are_packed_one_after_the_other() -> None:
    levels = np.array(["a", "b"])
    terms = [ReTerm("g", tuple("abcde"[: t.k]), levels, t) for t in TEMPLATES]
    drawn = [draw(t, 2, seed=i) for i, t in enumerate(TEMPLATES)]
    x = pack(terms, [T for _, T in drawn])
    for (part, T), own, again in zip(drawn, places(terms), unpack(terms, x), strict=True):
        assert_array_equal(x[:, own], part)
        assert_array_equal(again, T)


def test_equal_structures_are_equal_values() -> None:
    for structure in STRUCTURES.values():
        assert structure(3) == structure(3) != structure(2)
        assert len({structure(3), structure(3), structure(2)}) == 2
