"""Products with the random columns of rows, beside the columns themselves."""

import numpy as np
import pytest

from glmm.models import FAMILY_LINKS, problem
from interlace.covariance.templates import Full
from interlace.glmm.incidence import Levels, incidence, products
from interlace.sums.terms import ReTerm


def terms_and_rows(n, ordered, seed=0):
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, 7, n), rng.integers(0, 5, n)]
    if ordered:
        codes[0].sort()
    Z = [None, rng.normal(size=(n, 2))]
    terms = [
        ReTerm("g", ("Intercept",), np.arange(8), Full(1)),  # nobody is in the last level
        ReTerm("h", ("Intercept", "x"), np.arange(5), Full(2)),
    ]
    full = []
    for term, own, z in zip(terms, codes, Z, strict=True):
        columns = np.ones((n, 1)) if z is None else z
        block = np.zeros((n, term.l, term.k))
        block[np.arange(n), own] = columns
        full.append(block.reshape(n, -1))
    return terms, codes, Z, full


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("n", [40, 1500, 140_000])
def test_images_and_sums_are_products_with_the_columns(n, ordered):
    terms, codes, Z, full = terms_and_rows(n, ordered)
    found, rng = incidence(terms, codes, Z), np.random.default_rng(1)
    b = [rng.normal(size=(t.l, t.k)) for t in terms]
    image = sum(block @ part.ravel() for block, part in zip(full, b, strict=True))
    np.testing.assert_allclose(found.image(b), image, rtol=1e-12, atol=1e-12)
    for v in (rng.normal(size=n), rng.normal(size=(n, 3))):
        for term, block, sums in zip(terms, full, found.sums(v), strict=True):
            assert sums.shape == (term.l, term.k, *v.shape[1:])
            wanted = (block.T @ v).reshape(sums.shape)
            np.testing.assert_allclose(sums, wanted, rtol=1e-9, atol=1e-9)


def test_many_rows_without_slopes_are_not_laid_out(monkeypatch):
    terms, codes, _, _ = terms_and_rows(60, ordered=False)
    terms[1] = ReTerm("h", ("Intercept",), np.arange(5), Full(1))
    laid_out = incidence(terms, codes, [None, None])
    monkeypatch.setattr("interlace.glmm.incidence._LAID_OUT", 59)
    found, rng = incidence(terms, codes, [None, None]), np.random.default_rng(1)
    assert isinstance(found, Levels) and not isinstance(laid_out, Levels)
    b = [rng.normal(size=(t.l, 1)) for t in terms]
    np.testing.assert_allclose(found.image(b), laid_out.image(b), rtol=1e-12)
    for v in (rng.normal(size=60), rng.normal(size=(60, 3))):
        for one, other in zip(found.sums(v), laid_out.sums(v), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    some = found.some(7, 31).toarray()
    np.testing.assert_array_equal(some, laid_out.some(7, 31).toarray())


@pytest.mark.parametrize("n", [40, 1500])
def test_products_are_weighted_squares_of_the_columns(n):
    terms, codes, Z, full = terms_and_rows(n, ordered=False)
    W = np.random.default_rng(2).normal(size=n)
    for j, term in enumerate(terms):
        blocks = products(codes[j], term.l, Z[j], Z[j], same=True)(W)
        dense = full[j].T @ (W[:, None] * full[j])
        for level in range(term.l):
            own = slice(level * term.k, (level + 1) * term.k)
            np.testing.assert_allclose(blocks[level], dense[own, own], rtol=1e-9, atol=1e-10)
    both = codes[0] * 5 + codes[1]
    blocks = products(both, 40, Z[0], Z[1], same=False)(W)
    dense = (full[0].T @ (W[:, None] * full[1])).reshape(8, 5, 2)
    np.testing.assert_allclose(blocks.reshape(8, 5, 2), dense, rtol=1e-9, atol=1e-10)


def test_many_products_are_not_stored(monkeypatch):
    index, wide = np.zeros(10, dtype=int), np.ones((10, 5))
    assert products(index, 1, wide, wide, same=True) is None
    assert products(index, 1, None, wide, same=False) is not None
    monkeypatch.setattr("interlace.glmm.incidence._HELD", 49)
    assert products(index, 1, None, wide, same=False) is None


def test_products_that_are_not_stored_are_multiplied_each_time(monkeypatch):
    made = problem(FAMILY_LINKS[0], "crossed").rows
    W = np.random.default_rng(3).normal(size=made.n)
    wanted = made.cross_products(W)
    monkeypatch.setattr("interlace.glmm.incidence._STORED", 0)
    found = problem(FAMILY_LINKS[0], "crossed").rows.cross_products(W)
    for a, b in zip(found.zz, wanted.zz, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for pair, cells in wanted.cells.items():
        np.testing.assert_allclose(found.cells[pair].values, cells.values, rtol=1e-12, atol=1e-12)
