"""Whether the parts of cross-products fit together: shapes, levels, codes, and sums that can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from interlace.design import keys
from interlace.design.design import Encoding
from interlace.design.frame import Codes, Levels
from interlace.design.groups import Grouping
from interlace.design.reads import sides_of
from interlace.design.recipe import recipe_of
from interlace.sums.cells import Cells
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats, ReTerm

# Sums that should be at least 0, or symmetric, may miss it by this share of their size.
_ROUNDING = 1e-6
# Sums are of columns in units of their own size, so that they are near the number of rows; those of
# which squares and their products could leave the range of double precision are of no rows.
_LARGEST = 1e70


def is_consistent(A: CrossProducts) -> bool:
    """Whether cross-products could have been made from rows; never raises on values of any type."""
    return all(_checks(A))


def _checks(A: CrossProducts) -> Iterator[bool]:
    """Each thing that must hold; what comes later relies on what comes before."""
    recipe = recipe_of(None, A)
    encoding = recipe.encoding
    yield _is_count(A.n, 1) and _is_count(recipe.n_dropped, 0) and bool(np.isfinite(A.sum_log_w))
    yield _are_names([*A.names, *A.dropped]) and _are_names([t.group for t in A.terms], twice=True)
    yield len(A.terms) == len(encoding.groups) == len(encoding.slopes) > 0
    yield from of_encoding([*A.names, *A.dropped], A.terms, encoding)
    yield len(encoding.response.names) == 1
    yield _are_names(list(recipe.orders))
    yield all(own.ndim == 1 and _are_distinct(own) for own in recipe.orders.values())
    yield from (_is_term(term) for term in A.terms)
    yield from _of_shapes(A)
    yield from _of_sums(A)
    yield from _of_totals(A)


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _are_names(values: Sequence[object], *, twice: bool = False) -> bool:
    """Whether values are texts, each once."""
    texts = all(type(value) is str and value for value in values)
    return texts and (twice or len(set(values)) == len(values))


def of_encoding(names: Sequence[str], terms: Sequence[ReTerm], e: Encoding) -> Iterator[bool]:
    """The encoding is that of the formula, of the columns ``names`` in any order, and the terms."""
    columns = (e.offset_column, e.weights_column)
    yield all(name is None or type(name) is str for name in columns)
    yield type(e.offset_array) is bool and not (e.offset_array and e.offset_column is not None)
    yield set(e.fixed.names) == set(names) and len(e.fixed.names) == len(names)
    yield all(len(side.names) == 1 for side in e.offset)
    texts = [e.response.text, e.fixed.text, *(side.text for side in e.offset)]
    yield list(dict.fromkeys([*texts, *(t.expr for t in e.formula.random)])) == sides_of(e.formula)
    wanted = sorted((t.expr, t.group) for t in e.formula.random)
    pairs = list(zip(e.slopes, e.groups, strict=True))
    yield sorted((side.text, group.columns) for side, group in pairs) == wanted
    for term, (side, group) in zip(terms, pairs, strict=True):
        yield is_grouping(group) and term.group == ":".join(group.columns)
        yield term.columns == side.names
        yield term.levels.tolist() == group.labels.tolist()


def is_grouping(group: Grouping) -> bool:
    """Whether its parts fit together."""
    return (
        _are_names(group.columns)
        and len(group.columns) == len(group.levels) > 0
        and all(levels.ndim == 1 and _are_distinct(levels) for levels in group.levels)
        and _are_combinations(group.cells, [len(levels) for levels in group.levels])
    )


def _are_distinct(values: Levels) -> bool:
    index = pd.Index(values)
    return index.is_unique and not index.hasnans and keys.repeated(values) is None


def _are_combinations(cells: Codes, sizes: Sequence[int]) -> bool:
    """Whether rows are distinct combinations of positions, sorted, and every position occurs."""
    if cells.dtype != np.intp or cells.shape != (len(cells), len(sizes)) or not len(cells):
        return False
    if (cells < 0).any() or (cells >= np.array(sizes)).any():
        return False
    order = np.lexsort(cells.T[::-1])
    new = (np.diff(cells, axis=0) != 0).any(axis=1)
    occur = [len(np.unique(part)) == size for part, size in zip(cells.T, sizes, strict=True)]
    return bool((order == np.arange(len(cells))).all() and new.all()) and all(occur)


def _is_term(term: ReTerm) -> bool:
    return type(term.backwards) is bool and _are_names(term.columns) and term.template.k == term.k


def _of_shapes(A: CrossProducts) -> Iterator[bool]:
    """Every array has the shape that names and levels say, and holds numbers."""
    m = len(A.names) + 1
    ks, ls = [t.k for t in A.terms], [t.l for t in A.terms]
    yield len(A.basis.random) == len(A.zv) == len(A.zz) == len(ks)
    yield _is_floats(A.basis.fixed, (m, m)) and _is_floats(A.vv, (m, m))
    for j, (k, l) in enumerate(zip(ks, ls, strict=True)):
        yield _is_floats(A.basis.random[j], (k, k))
        yield _is_floats(A.zv[j], (l, k, m)) and _is_floats(A.zz[j], (l, k, k))
    pairs = [(i, j) for i in range(len(ks)) for j in range(i + 1, len(ks))]
    yield list(A.cells) == pairs
    d = A.dependence
    yield len(A.dropped) == 0 if d is None else _is_floats(d, (m - 1, len(A.dropped)))
    if A.moments is not None:
        yield len(A.moments.random) == len(ks) and _is_floats(A.moments.fixed, (m + 1, m + 1))
        for M, k in zip(A.moments.random, ks, strict=True):
            yield _is_floats(M, (k + 1, k + 1)) and _is_square(M[None]) and M[0, 0] == A.n
        yield _is_square(A.moments.fixed[None]) and A.moments.fixed[0, 0] == A.n
    for i, j in pairs:
        yield _are_cells(A.cells[i, j], (ks[i], ks[j]), (ls[i], ls[j]))


def _is_floats(array: Floats, shape: tuple[int, ...]) -> bool:
    return array.dtype == np.float64 and array.shape == shape and bool(np.isfinite(array).all())


def _are_cells(cells: Cells, k: tuple[int, int], l: tuple[int, int]) -> bool:
    rows, cols = cells.rows, cells.cols
    if not all(c.dtype in (np.int32, np.int64) and c.shape == (len(rows),) for c in (rows, cols)):
        return False
    if not _is_floats(cells.values, (len(rows), *k)) or not len(rows):
        return False
    inside = min(rows.min(), cols.min()) >= 0 and rows.max() < l[0] and cols.max() < l[1]
    places = rows.astype(np.int64) * l[1] + cols
    return bool(inside) and bool((np.diff(places) > 0).all())


def _of_sums(A: CrossProducts) -> Iterator[bool]:
    """Bases can be inverted; squares are not negative, and products no larger than they allow."""
    for basis in (A.basis.fixed, *A.basis.random):
        yield _is_basis(basis)
    yield A.basis.response_scale > 0.0
    sums = [A.vv, *A.zv, *A.zz, *(cells.values for cells in A.cells.values())]
    yield all(np.abs(values).max(initial=0.0) < _LARGEST for values in sums)
    yield _is_square(A.vv[None])
    largest = np.diag(A.vv)
    for zv, zz in zip(A.zv, A.zz, strict=True):
        yield _is_square(zz)
        squares = np.einsum("lkk->lk", zz)
        with np.errstate(over="ignore"):
            room = _ROUNDING * (A.n + squares.max()) * max(1.0, float(largest.max()))
            yield bool((zv**2 <= squares[:, :, None] * largest + room).all())


def _of_totals(A: CrossProducts) -> Iterator[bool]:
    """Sums over all levels are those of the rows: a term's intercepts add up to the constant.

    Without weights the squares of the constant are the number of rows.
    """
    places = [t.columns.index("Intercept") if "Intercept" in t.columns else None for t in A.terms]
    back = [np.linalg.inv(basis) for basis in A.basis.random]
    ones = [None if at is None else b[:, at] for at, b in zip(places, back, strict=True)]
    total = float(A.n)
    if "Intercept" in A.names:
        column = np.linalg.inv(A.basis.fixed)[:, A.names.index("Intercept")]
        total = float(column @ A.vv @ column)
        yield A.sum_log_w != 0.0 or _is_near(total, A.n, A.n)
    size = float(np.sqrt(total * np.diag(A.vv).max()))  # of products with the constant
    for j, one in enumerate(ones):
        if one is None:
            continue
        counts = np.einsum("lkm,k,m->l", A.zz[j], one, one)
        yield A.sum_log_w != 0.0 or _is_near(counts.sum(), A.n, A.n)
        if "Intercept" in A.names:
            yield _is_near(one @ A.zv[j].sum(axis=0), A.vv @ column, size)
    for (i, j), cells in A.cells.items():
        left, right = ones[i], ones[j]
        if left is not None and right is not None:
            rows, cols = np.zeros(A.zz[i].shape[:2]), np.zeros(A.zz[j].shape[:2])
            np.add.at(rows, cells.rows, cells.values @ right)
            np.add.at(cols, cells.cols, cells.values.transpose(0, 2, 1) @ left)
            yield _is_near(rows, A.zz[i] @ left, size)
            yield _is_near(cols, A.zz[j] @ right, size)


def _is_near(found: Floats | float, expected: Floats | float, size: float) -> bool:
    return bool((np.abs(np.subtract(found, expected)) <= _ROUNDING * size).all())


def _is_basis(basis: Floats) -> bool:
    """Whether a map can be inverted, and the squares of its inverse be computed."""
    scaled = basis
    for axis in (1, 0):  # units of the columns, then those of the combinations of them
        sizes = np.abs(scaled).max(axis=axis, keepdims=True)
        if not (sizes > 0).all():
            return False
        scaled = scaled / sizes
    if not np.linalg.cond(scaled) < 1e15:
        return False
    with np.errstate(all="ignore"):
        squares = (np.linalg.inv(basis) ** 2).sum(axis=0)
    return bool(np.isfinite(squares).all() and (squares > 0).all())


def _is_square(blocks: Floats) -> bool:
    """Whether symmetric matrices have no eigenvalue below 0."""
    size = float(np.abs(blocks).max(initial=0.0))
    if size == 0.0:
        return True
    blocks = blocks / size
    gap = np.abs(blocks - blocks.transpose(0, 2, 1)).max()
    return bool(gap <= _ROUNDING and np.linalg.eigvalsh(blocks).min() >= -_ROUNDING)
