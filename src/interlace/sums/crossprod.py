"""Cross-products of ``[Z X y]``: everything a linear mixed model needs from its rows.

They are sums over rows, so they form a monoid: two :class:`CrossProducts` of the same terms add and
subtract.  Squaring squares condition numbers; therefore the sums are taken in a *working basis*, in
which the fixed-effects columns are orthonormal, the response is its least-squares residual, and the
columns of each random-effects term are orthonormal too.  :class:`Basis` remembers the map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from scipy.sparse import csc_matrix

from interlace.covariance.templates import Full
from interlace.machine.markup import html_facts, text_facts
from interlace.sums import merge
from interlace.sums.cells import Cells as Cells
from interlace.sums.cells import Codes as Codes
from interlace.sums.cells import counted_pairs, indexed_pairs
from interlace.sums.columns import Block, Pool, Streamed, working_fixed, working_random
from interlace.sums.joint import Joins, Joint
from interlace.sums.moments import Moments, moments_of
from interlace.sums.rows import Basis as Basis
from interlace.sums.rows import Rows, columns_kept
from interlace.sums.sizes import Units, tamed, units_of_rows
from interlace.sums.terms import Floats, ReTerm

T = TypeVar("T")

_CHUNK = 1 << 16
# Rows from which the columns of models without random terms are not held.
_MANY_ROWS = 200_000
# Entries up to which sums by level are taken column by column.
_SHORT = 4096


@dataclass(frozen=True, eq=False, repr=False)
class CrossProducts:
    """Sufficient statistics of a linear mixed model; add, subtract, or give a new response.

    Attributes
    ----------
    n, sum_log_w
        Rows, and the sum of the logs of their prior weights.
    names
        The ``p`` fixed-effects columns kept; ``dropped`` are those that depend on earlier ones.
    terms, basis
        The random-effects terms, and the working basis of all blocks below.
    vv
        ``V' V`` for ``V = [X y]``, ``(p + 1, p + 1)``.
    zv, zz
        Per term ``Z_j' V`` (l, k, p + 1), and the diagonal blocks of ``Z_j' Z_j`` (l, k, k).
    cells
        ``Z_i' Z_j`` for every pair of terms ``i < j``.
    recipe
        How the rows were encoded; carried along, not looked at.
    dependence
        ``(p, number dropped)``: the columns dropped, as combinations of those kept.
    moments
        Unweighted means over the rows; ``None`` where the rows are held beside the sums.
    """

    n: int
    names: tuple[str, ...]
    dropped: tuple[str, ...]
    terms: tuple[ReTerm, ...]
    basis: Basis
    vv: Floats
    zv: tuple[Floats, ...]
    zz: tuple[Floats, ...]
    cells: Mapping[tuple[int, int], Cells]
    sum_log_w: float = 0.0
    recipe: object = None
    dependence: Floats | None = None
    moments: Moments | None = None

    @property
    def p(self) -> int:
        """Rank of the fixed-effects matrix."""
        return len(self.names)

    def __repr__(self) -> str:
        return text_facts("Cross-products", self._facts())

    def _repr_html_(self) -> str:
        return f"<div><h4>Cross-products</h4>{html_facts(self._facts())}</div>"

    def _facts(self) -> list[tuple[str, str]]:
        """What there is to know, in words."""
        facts = [("rows", f"{self.n:,}"), ("fixed effects", ", ".join(self.names) or "none")]
        if self.dropped:
            facts.append(("left out", f"{', '.join(self.dropped)}: they depend on the others"))
        for term in self.terms:
            labels = ", ".join(term.columns)
            facts.append((term.group, f"{len(term.levels):,} levels, with {labels}"))
        return facts

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Cross-products of the rows of both, on the levels of both.

        A category, a level or a value that only one of them has is one of both; which columns of
        the fixed effects depend on others is found anew.

        Raises
        ------
        InterlaceError
            They are of different models, or the state of a transform differs.
        """
        joint = self._joint(other)
        return (
            merge.combined(self, other, 1.0) if joint is None else merge.added(self, other, joint)
        )

    def __sub__(self, other: CrossProducts) -> CrossProducts:
        """Cross-products of the rows of ``self`` without those of ``other``.

        Levels of ``other`` must be levels of ``self``, all of which stay.

        Raises
        ------
        InterlaceError
            They are of different models, ``other`` has a level that ``self`` has not, or no row
            would be left.
        """
        joint = self._joint(other, within=True)
        return (
            merge.combined(self, other, -1.0)
            if joint is None
            else merge.removed(self, other, joint)
        )

    def _joint(self, other: CrossProducts, *, within: bool = False) -> Joint | None:
        """What the rows of both have in common, if it is known how they were encoded."""
        if not isinstance(self.recipe, Joins):
            return None
        return self.recipe.joined(other.recipe, self.terms, other.terms, within=within)

    def save(self, path: str | Path) -> None:
        """Write to a file, with all that :func:`interlace.fit` and ``predict`` need.

        The file appears whole or not at all: it is written beside its place, and moved there when
        it is on the disk.

        Raises
        ------
        InterlaceError
            The disk is full or the place cannot be written to; the cross-products were not made by
            :func:`interlace.cross_products`; levels of a type that cannot be kept; a formula that
            says more than :meth:`load` lets a file say.

        Notes
        -----
        Numbers, labels with their types, the formula, its categories and the states of its
        transforms are written one by one, under a digest of the whole; nothing is pickled.

        Examples
        --------
        >>> import interlace, tempfile, pathlib
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> A = interlace.cross_products("Reaction ~ Days", sleep, groups="Subject")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     A.save(pathlib.Path(folder) / "sleep.cross")
        ...     again = interlace.CrossProducts.load(pathlib.Path(folder) / "sleep.cross")
        >>> again.n
        180
        """
        from interlace.sources.archive import save

        save(self, path)

    @staticmethod
    def load(path: str | Path) -> CrossProducts:
        """Read from a file that :meth:`save` has written.

        A formula is code, and this one comes with the file.  It is therefore held to arithmetic on
        columns, the transforms of formulas, and numpy's functions of numbers: it reads no
        attributes, calls nothing else, and never sees the names of your program.  What was saved
        from other formulas is refused, and nothing in a file is run to read it.

        Raises
        ------
        InterlaceError
            There is no such file, or it is not of cross-products, was written by an older version,
            is corrupt or incomplete, or its formula says more than a file may.
        """
        from interlace.sources.archive import load

        return load(path)

    def rebase(self, basis: Basis) -> CrossProducts:
        """The same cross-products in another working basis."""
        F: Floats = np.asarray(np.linalg.solve(self.basis.fixed, basis.fixed), dtype=np.float64)
        pairs = zip(self.basis.random, basis.random, strict=True)
        A = [np.asarray(np.linalg.solve(a, b), dtype=np.float64) for a, b in pairs]
        return replace(
            self,
            basis=basis,
            vv=F.T @ self.vv @ F,
            zv=tuple(a.T @ block @ F for a, block in zip(A, self.zv, strict=True)),
            zz=tuple(a.T @ block @ a for a, block in zip(A, self.zz, strict=True)),
            cells={(i, j): c.turned(A[i], A[j]) for (i, j), c in self.cells.items()},
            moments=None if self.moments is None else self.moments.turned(F, A),
        )


def cross_products(rows: Rows, *, moments: bool = False, whole: bool = True) -> CrossProducts:
    """One pass over the rows of a model, or over a part of them that is to be added to others.

    With the unweighted ``moments`` if these are asked for.

    Raises
    ------
    InterlaceError
        If the response is an exact linear function of the fixed effects, so that there is no
        residual variance to divide; not in a part.
    """
    units = units_of_rows(rows)
    if not units.plain:
        tame = cross_products(tamed(rows, units), moments=moments, whole=whole)
        return _in_units(tame, units, rows.names)
    pool = pool_for(rows)
    kept, fixed = working_fixed(pool, rows.X, rows.response, whole=whole)
    random = [working_random(pool, Z, term) for Z, term in zip(rows.Z, rows.terms, strict=True)]
    names = np.array(rows.names, dtype=object)
    labels = tuple(names[kept]), tuple(names[~kept])
    A = sums_over_rows(rows, pool, fixed, random, *labels, moments=moments)
    if kept.all():
        return A
    dependence = np.linalg.lstsq(rows.X[:, kept], rows.X[:, ~kept], rcond=None)[0]
    return replace(A, dependence=np.asarray(dependence, dtype=np.float64))


def _in_units(A: CrossProducts, units: Units, names: Sequence[str]) -> CrossProducts:
    """Cross-products of rows that were measured in units, of the rows themselves.

    The working columns are the same, the maps to them are others; moments have no weights.
    """
    kept = columns_kept(names, A.names)
    of_kept = replace(units, fixed=units.fixed[kept])
    power, half = units.weights, 2.0 ** (-units.weights // 2)
    turned = A.moments
    if turned is not None and power:
        p, sizes = A.p + 1, [t.k for t in A.terms]
        turned = turned.turned(half * np.eye(p), [half * np.eye(k) for k in sizes])
    dependence = A.dependence
    if dependence is not None:
        dependence = np.ldexp(dependence, units.fixed[~kept] - units.fixed[kept][:, None])
    return replace(
        A,
        basis=of_kept.inverse().of_basis(A.basis),
        sum_log_w=A.sum_log_w + A.n * power * float(np.log(2.0)),
        moments=turned,
        dependence=dependence,
    )


def pool_for(rows: Rows) -> Pool:
    """An empty pool with room for the columns of rows."""
    capacity = rows.X.shape[1] + 1 + sum(t.k for t in rows.terms)
    kind = Pool if rows.terms or len(rows.y) < _MANY_ROWS else Streamed
    return kind(len(rows.y), rows.weights, capacity)


def sums_over_rows(
    rows: Rows,
    pool: Pool,
    fixed: Block,
    random: Sequence[Block],
    names: tuple[str, ...],
    dropped: tuple[str, ...] = (),
    *,
    moments: bool = False,
) -> CrossProducts:
    """Cross-products of the columns that blocks of the pool stand for."""
    w = rows.weights
    sums = [
        level_sums(pool, codes, term.l, block.index, fixed.index)
        for codes, term, block in zip(rows.codes, rows.terms, random, strict=True)
    ]
    V = fixed.finish
    return CrossProducts(
        n=len(rows.y),
        names=names,
        dropped=dropped,
        terms=rows.terms,
        basis=Basis(fixed.shift @ V, tuple(b.shift @ b.finish for b in random)),
        vv=V.T @ pool.gram(fixed.index) @ V,
        zv=tuple(b.finish.T @ zv @ V for b, (_, zv) in zip(random, sums, strict=True)),
        zz=tuple(b.finish.T @ zz @ b.finish for b, (zz, _) in zip(random, sums, strict=True)),
        cells={
            (i, j): _cells(pool, rows, (i, j), (random[i], random[j]))
            for i in range(len(random))
            for j in range(i + 1, len(random))
        },
        sum_log_w=0.0 if w is None else float(np.log(w).sum()),
        moments=moments_of(pool, fixed, random) if moments else None,
    )


def with_response(A: CrossProducts, rows: Rows, y: Floats) -> CrossProducts:
    """Cross-products with the response ``y`` (n,) in place of that of the rows."""
    return cross_products(replace(rows, y=y, X=rows.fixed(A.names), names=A.names))


def group_sums(codes: Codes, l: int, columns: Floats) -> Floats:
    """Sums of ``columns`` (n, m) within each of ``l`` groups, ``(l, m)``."""
    n, m = columns.shape
    if m == 1 or 0 < n * m <= _SHORT:
        each = [np.bincount(codes, weights=column, minlength=l) for column in columns.T]
        return np.stack(each, axis=1)
    members = csc_matrix((np.ones(n), codes, np.arange(n + 1)), shape=(l, n))
    return np.asarray(members @ columns, dtype=np.float64)


# ------------------------------------------------------------------ sums over rows


class Columns(Protocol):
    """Columns whose products over rows are to be summed."""

    def counted(self, a: int, b: int) -> bool:
        """Whether the product of columns ``a`` and ``b`` is 1 in every row."""
        ...

    def product(self, rows: slice, a: int, b: int, out: Floats) -> None:
        """Product of columns ``a`` and ``b`` on some rows, with their weights."""
        ...


def level_sums(
    columns: Columns, codes: Codes, l: int, z: Sequence[int], v: Sequence[int]
) -> tuple[Floats, Floats]:
    """``Z'Z`` (l, k, k) and ``Z'V`` (l, k, m) by level, of columns of a table.

    Every product of two columns is formed and summed once, however many blocks it enters.
    """
    pairs = sorted({(min(a, b), max(a, b)) for a in z for b in (*z, *v)})
    position = {pair: i for i, pair in enumerate(pairs)}
    totals = pair_sums(columns, codes, l, pairs)

    def block(columns: Sequence[int]) -> Floats:
        index = [[position[min(a, b), max(a, b)] for b in columns] for a in z]
        return totals[:, np.array(index, dtype=np.intp).reshape(len(z), len(columns))]

    return block(z), block(v)


def pair_sums(columns: Columns, codes: Codes, l: int, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Sums by level of products of two columns of a table, ``(l, number of pairs)``."""
    totals = np.zeros((l, len(pairs)))
    counted = [i for i, pair in enumerate(pairs) if columns.counted(*pair)]
    summed = [i for i in range(len(pairs)) if i not in counted]
    for i in counted:
        totals[:, i] = np.bincount(codes, minlength=l)
    if not summed:
        return totals
    for rows in _chunks(len(codes), l):
        products = np.empty((rows.stop - rows.start, len(summed)))
        for column, i in enumerate(summed):
            columns.product(rows, *pairs[i], out=products[:, column])
        totals[:, summed] += group_sums(codes[rows], l, products)
    return totals


def _chunks(n: int, l: int) -> Iterator[slice]:
    """Slices of rows small enough for the cache, yet longer than the table they add to."""
    step = max(_CHUNK, 4 * l)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _cells(pool: Pool, rows: Rows, pair: tuple[int, int], blocks: tuple[Block, Block]) -> Cells:
    """Sums of ``z_i z_j'`` over the rows of each pair of levels that occurs."""
    i, j = pair
    left, right = blocks
    codes, shape = (rows.codes[i], rows.codes[j]), (rows.terms[i].l, rows.terms[j].l)
    if left.index == right.index == (pool.ones,):
        first, second, counts = counted_pairs(codes, shape)
        values = counts.astype(np.float64)[:, None, None]
    else:
        first, second, index = indexed_pairs(codes, shape)
        products = [(a, b) for a in left.index for b in right.index]
        sums = pair_sums(pool, index, len(first), products)
        values = sums.reshape(len(first), len(left.index), len(right.index))
    if values.shape[1:] == (1, 1):
        values *= left.finish[0, 0]
        values *= right.finish[0, 0]
        return Cells(first, second, values)
    return Cells(first, second, left.finish.T @ values @ right.finish)


# ------------------------------------------------------------------ smaller random parts


def map_columns(A: CrossProducts, j: int, M: Floats, columns: Sequence[str]) -> CrossProducts:
    """Cross-products with the columns ``Z_j M`` in place of those of term ``j``.

    Parameters
    ----------
    A
        Cross-products of a model.
    j
        Position of the term.
    M
        ``(k, m)`` of full column rank: the new columns in terms of the user's old ones.
    columns
        Names of the ``m`` new columns; their template is a full triangle.

    Notes
    -----
    With ``inv(B) M = Q R`` the columns ``Z_j M inv(R)`` are the stored ones times ``Q``, as
    orthonormal as those were.
    """
    Q, R = np.linalg.qr(np.linalg.solve(A.basis.random[j], M))
    term = replace(A.terms[j], columns=tuple(columns), template=Full(len(columns)))
    return _turned(A, j, term, Q, np.linalg.inv(R))


def select_columns(A: CrossProducts, j: int, keep: Sequence[int]) -> CrossProducts:
    """Cross-products of the model in which term ``j`` has only the columns at ``keep``.

    The template keeps its structure, so a term of independent columns stays one.
    """
    kept = list(keep)
    old = A.terms[j]
    columns = tuple(old.columns[c] for c in kept)
    smaller = map_columns(A, j, np.eye(old.k)[:, kept], columns)
    term = replace(smaller.terms[j], template=old.template.part(kept))
    return replace(smaller, terms=_with(A.terms, j, term))


def drop_term(A: CrossProducts, j: int) -> CrossProducts:
    """Cross-products of the model without term ``j``; without any, if it was the only one."""
    rest = [i for i in range(len(A.terms)) if i != j]
    place = {old: new for new, old in enumerate(rest)}
    return replace(
        A,
        terms=tuple(A.terms[i] for i in rest),
        basis=Basis(A.basis.fixed, tuple(A.basis.random[i] for i in rest)),
        zv=tuple(A.zv[i] for i in rest),
        zz=tuple(A.zz[i] for i in rest),
        cells={(place[a], place[b]): c for (a, b), c in A.cells.items() if j not in (a, b)},
        moments=None if A.moments is None else A.moments.of_terms(rest),
    )


def _turned(A: CrossProducts, j: int, term: ReTerm, Q: Floats, B: Floats) -> CrossProducts:
    """Term ``j`` with the stored columns times ``Q``, which are the user's new ones times ``B``."""

    def cells(pair: tuple[int, int], old: Cells) -> Cells:
        if pair[0] == j:
            return replace(old, values=Q.T @ old.values)
        return replace(old, values=old.values @ Q) if pair[1] == j else old

    return replace(
        A,
        terms=_with(A.terms, j, term),
        basis=Basis(A.basis.fixed, _with(A.basis.random, j, B)),
        zv=_with(A.zv, j, Q.T @ A.zv[j]),
        zz=_with(A.zz, j, Q.T @ A.zz[j] @ Q),
        cells={pair: cells(pair, old) for pair, old in A.cells.items()},
        moments=None,
    )


def _with(items: tuple[T, ...], j: int, item: T) -> tuple[T, ...]:
    """The tuple with one item replaced."""
    return (*items[:j], item, *items[j + 1 :])
