"""Rows as numbers: what is read off them, against the same written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dense import MODELS, design
from interlace.sums.crossprod import cross_products
from interlace.sums.rows import Rows, columns_kept, in_basis


@pytest.fixture(params=MODELS)
def rows(request: pytest.FixtureRequest) -> Rows:
    name, weighted = request.param
    return design(name, weighted=weighted)


def test_response_is_what_the_offset_leaves(rows: Rows) -> None:
    offset = np.linspace(-1.0, 2.0, len(rows.y))
    assert_array_equal(replace(rows, offset=None).response, rows.y)
    assert_array_equal(replace(rows, offset=offset).response, rows.y - offset)


def test_fixed_columns_are_those_named_in_their_order(rows: Rows) -> None:
    assert_array_equal(rows.fixed(rows.names), rows.X)
    assert_array_equal(rows.fixed(rows.names[::2]), rows.X[:, ::2])
    assert rows.fixed(()).shape == (len(rows.y), 0)
    assert columns_kept(("a", "b", "c"), ("c", "a")).tolist() == [True, False, True]
    assert columns_kept((), ()).dtype == bool


def test_weights_multiply_by_their_roots(rows: Rows) -> None:
    w = np.ones(len(rows.y)) if rows.weights is None else rows.weights
    assert_allclose(rows.root_weights**2, w)
    assert_allclose(rows.weighted(rows.X), rows.X * np.sqrt(w)[:, None])


def test_sparse_columns_hold_each_row_at_its_level(rows: Rows) -> None:
    for sparse, codes, Z, term in zip(rows.sparse, rows.codes, rows.Z, rows.terms, strict=True):
        full = np.zeros((len(Z), term.l, term.k))
        full[np.arange(len(Z)), codes] = Z
        assert_array_equal(sparse.toarray(), full.reshape(len(Z), -1))
    assert rows.random_matrix.shape == (len(rows.y), sum(t.q for t in rows.terms))


def test_rows_in_the_basis_square_to_the_cross_products(rows: Rows) -> None:
    A = cross_products(rows)
    made = rows.in_basis(A.basis, A.names).times(rows.root_weights)
    assert_allclose(made.X.T @ made.X, A.vv[:-1, :-1], atol=1e-9 * A.n)
    for Z, zz in zip(made.Z, A.zz, strict=True):
        assert_allclose(Z.T @ Z, zz.sum(axis=0), atol=1e-9 * A.n)


def test_a_row_without_a_level_has_no_effect_of_that_term(rows: Rows) -> None:
    A = cross_products(rows)
    none = [np.where(np.arange(len(c)) < 3, -1, c) for c in rows.codes]
    made = in_basis(A.basis, none, rows.Z, rows.fixed(A.names))
    whole = rows.in_basis(A.basis, A.names)
    for some, full in zip(made.Z, whole.Z, strict=True):
        assert (some[:3] == 0.0).all()
        assert_allclose(some[3:], full[3:])


def test_an_intercept_alone_is_known_without_looking_at_it(rows: Rows) -> None:
    for j, term in enumerate(rows.terms):
        assert rows.is_ones(j) == (term.columns == ("Intercept",))
