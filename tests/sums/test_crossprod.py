"""Cross-products are sums over rows, whatever the basis they are kept in."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dense import MODELS, Dense, design, frame, identity
from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.errors import InterlaceError
from interlace.sums import cells, columns
from interlace.sums.crossprod import Cells, CrossProducts, cross_products, group_sums, with_response

ROWS = {"rtol": 1e-9, "atol": 1e-9}


def rows_of(full: Design, rows: np.ndarray) -> Design:
    """The design of some rows, with the columns and levels of all."""
    return replace(
        full,
        y=full.y[rows],
        X=full.X[rows],
        codes=tuple(codes[rows] for codes in full.codes),
        Z=tuple(Z[rows] for Z in full.Z),
        weights=None if full.weights is None else full.weights[rows],
        offset=None if full.offset is None else full.offset[rows],
    )


def dense_cells(A: CrossProducts, i: int, j: int) -> np.ndarray:
    """``Z_i' Z_j`` in full, ``(l_i, l_j, k_i, k_j)``."""
    cells = A.cells[i, j]
    full = np.zeros((A.terms[i].l, A.terms[j].l, A.terms[i].k, A.terms[j].k))
    np.add.at(full, (cells.rows, cells.cols), cells.values)
    return full


def assert_same(a: CrossProducts, b: CrossProducts) -> None:
    """The same sums, in the user's columns."""
    a, b = a.rebase(identity(a)), b.rebase(identity(b))
    assert (a.n, a.names, a.dropped) == (b.n, b.names, b.dropped)
    assert a.sum_log_w == pytest.approx(b.sum_log_w, abs=1e-10)
    assert_allclose(a.vv, b.vv, **ROWS)
    for left, right in zip(a.zv + a.zz, b.zv + b.zz, strict=True):
        assert_allclose(left, right, **ROWS)
    assert a.cells.keys() == b.cells.keys()
    for i, j in a.cells:
        assert_allclose(dense_cells(a, i, j), dense_cells(b, i, j), **ROWS)


@functools.cache
def whole(name: str, weighted: bool) -> tuple[Design, CrossProducts]:
    full = design(name, weighted=weighted)
    return full, cross_products(full)


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_sums_are_those_of_the_rows(name: str, weighted: bool) -> None:
    full, A = whole(name, weighted)
    rows = Dense(full, A, A.basis, (), True)
    assert_allclose(A.vv, rows.V_rows.T @ rows.V_rows, **ROWS)
    for j, Z in enumerate(rows.Z):
        assert_allclose(A.zv[j], np.einsum("nlk,nv->lkv", Z, rows.V_rows), **ROWS)
        assert_allclose(A.zz[j], np.einsum("nla,nlb->lab", Z, Z), **ROWS)
    for i, j in A.cells:
        full_cells = np.einsum("nla,nmb->lmab", rows.Z[i], rows.Z[j])
        assert_allclose(dense_cells(A, i, j), full_cells, **ROWS)


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_working_fixed_columns_are_orthonormal(name: str, weighted: bool) -> None:
    _, A = whole(name, weighted)
    assert_allclose(A.vv / A.n, np.eye(A.p + 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "weighted"), MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_add_up_and_subtract(name: str, weighted: bool, seed: int) -> None:
    full, A = whole(name, weighted)
    first = np.random.default_rng(seed).random(A.n) < 0.5
    a, b = cross_products(rows_of(full, first)), cross_products(rows_of(full, ~first))
    assert_same(a + b, A)
    assert_same(b + a, A)
    assert_same(A - b, a)
    assert_same(A - a + a, A)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2), min_size=90, max_size=90), st.integers(30, 60))
def test_addition_is_associative(parts: list[int], at_least: int) -> None:
    full, A = whole("crossed slopes", True)
    part = np.array(parts)
    part[:at_least] = np.arange(at_least) % 3  # no part without enough rows
    a, b, c = (cross_products(rows_of(full, part == i)) for i in range(3))
    assert_same((a + b) + c, a + (b + c))
    assert_same((a + b) + c, A)


def test_rebase_and_back() -> None:
    _, A = whole("nested and crossed", True)
    there = A.rebase(identity(A))
    assert_allclose(there.rebase(A.basis).vv, A.vv, **ROWS)
    assert_same(there, A)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g) + (x | h)", "y ~ x + f + (0 + f | g)"])
@pytest.mark.parametrize("argument", [None, "o"])
def test_new_response(formula: str, argument: str | None) -> None:
    full = design(formula, weighted=True, offset=argument)
    y = np.random.default_rng(5).normal(size=len(full.y))
    A = with_response(cross_products(full), full, y)
    assert_same(A, cross_products(replace(full, y=y)))


def test_an_offset_is_taken_from_the_response() -> None:
    full = design("crossed", offset="o")
    without = replace(full, y=full.y - full.offset, offset=None)
    assert_same(cross_products(full), cross_products(without))


def deficient() -> tuple[Design, Design]:
    """A design with two redundant columns, and the one without them."""
    data = frame().assign(twice=lambda d: 2 * d["x"] - 3, both=lambda d: d["x"] + d["z"])
    formulas = ("y ~ x + twice + z + both + (1 | g)", "y ~ x + z + (1 | g)")
    return tuple(assemble(parse(formula), data) for formula in formulas)


def test_redundant_columns_are_named() -> None:
    more, fewer = deficient()
    A = cross_products(more)
    assert A.names == ("Intercept", "x", "z")
    assert A.dropped == ("twice", "both")
    assert_same(replace(A, dropped=()), cross_products(fewer))


def test_a_new_response_keeps_the_columns_of_the_first() -> None:
    more, _ = deficient()
    A = with_response(cross_products(more), more, more.y[::-1])
    assert A.names == ("Intercept", "x", "z")


def test_a_large_constant_in_a_predictor_costs_no_digits() -> None:
    plain = frame()
    shifted = plain.assign(x=plain["x"] + 1e6)
    formula = parse("y ~ x + (x | g) + (1 | h)")
    a, b = (cross_products(assemble(formula, data)) for data in (plain, shifted))
    for left, right in zip(a.zv + a.zz, b.zv + b.zz, strict=True):
        assert_allclose(left, right, rtol=0, atol=1e-7)
    assert_allclose(dense_cells(a, 0, 1), dense_cells(b, 0, 1), rtol=0, atol=1e-7)


def test_nearly_dependent_columns_are_kept_and_orthonormal() -> None:
    data = frame().assign(near=lambda d: d["x"] + 1e-5 * d["z"])
    A = cross_products(assemble(parse("y ~ x + near + (1 | g)"), data))
    assert A.names == ("Intercept", "x", "near")
    assert_allclose(A.vv / A.n, np.eye(4), rtol=0, atol=1e-10)


def test_other_models_do_not_add() -> None:
    a, b, c = (cross_products(design(name)) for name in ("intercept", "factor slopes", "slope"))
    with pytest.raises(InterlaceError) as caught:
        a + b
    assert str(caught.value) == (
        "cross-products of different fixed effects cannot be combined: "
        "Intercept, x and Intercept, f[T.f1], f[T.f2]"
    )
    with pytest.raises(InterlaceError) as caught:
        a - c
    assert str(caught.value) == (
        "cross-products of different random effects cannot be combined: term 'g' has other "
        "columns or levels in the two"
    )


def test_models_with_another_number_of_terms_do_not_add() -> None:
    a, b = (cross_products(design(name)) for name in ("intercept", "crossed"))
    with pytest.raises(InterlaceError, match="random effects cannot be combined: 1 and 2 terms"):
        a + b


def test_a_response_without_variance_is_refused() -> None:
    data = frame().assign(y=lambda d: 2 + 3 * d["x"])
    with pytest.raises(InterlaceError, match="reproduce the response exactly"):
        cross_products(assemble(parse("y ~ x + (1 | g)"), data))


def test_cells_transposed_twice() -> None:
    rows, cols = np.array([0, 0, 2]), np.array([1, 3, 0])
    cells = Cells(rows, cols, np.arange(18.0).reshape(3, 2, 3))
    other = cells.transpose()
    assert other.rows.tolist() == [0, 1, 3]
    assert other.values.shape == (3, 3, 2)
    again = other.transpose()
    assert_allclose(again.values, cells.values)
    assert again.cols.tolist() == cols.tolist()


@pytest.mark.parametrize("m", [1, 2, 5])
def test_group_sums(m: int) -> None:
    rng = np.random.default_rng(m)
    codes, columns = rng.integers(0, 4, 30), rng.normal(size=(30, m))
    expected = [columns[codes == level].sum(axis=0) for level in range(6)]
    assert_allclose(group_sums(codes, 6, columns), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("table", [True, False])
@given(data=st.data())
def test_pairs_of_codes(table: bool, data: st.DataObject) -> None:
    """Counted and indexed as `numpy.unique` does, by a table and by sorting; any level may lack."""
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    rows = st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1))
    drawn = np.array(data.draw(st.lists(rows, min_size=1, max_size=30)), dtype=np.intp)
    codes = drawn[:, 0], drawn[:, 1]
    pairs, index, counts = np.unique(drawn, axis=0, return_inverse=True, return_counts=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_tabulable", lambda n, shape: table)
        counted = cells.counted_pairs(codes, shape)
        indexed = cells.indexed_pairs(codes, shape)
    for found, last in ((counted, counts), (indexed, index)):
        assert_array_equal(np.stack(found[:2], axis=1), pairs)
        assert_array_equal(found[2], last)
        assert found[0].dtype == found[1].dtype == np.int32


def test_a_response_is_not_kept_twice() -> None:
    """The pool needs one column for the response, not the response beside it."""
    pool = columns.Pool(100, None, 2)
    y = np.random.default_rng(1).normal(size=100)
    place = pool.add_response(y, y.mean())
    assert_allclose(pool.table[place], y - y.mean())
    assert pool.add(y, y.mean()) != place


def test_a_constant_takes_no_memory() -> None:
    full = assemble(parse("y ~ x + (1 | g)"), frame())
    alone = assemble(parse("y ~ 1 + (1 | g)"), frame())
    assert alone.X.strides == (0, 0)
    assert_array_equal(alone.X, np.ones((len(alone.y), 1)))
    assert full.X.strides != (0, 0)
