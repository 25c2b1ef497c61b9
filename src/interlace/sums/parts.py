"""Cross-products by parts of the rows: all in one basis, added, and brought to a good basis.

Where rows are held, :mod:`interlace.sums.columns` looks at them before it chooses a basis.  Here
every part of the rows is squared in a basis known beforehand, columns less a rough mean, and the
sum says what is still to be done: most often a triangular change of basis.  Columns of which the
sum holds too few digits are known after one more round over the rows, in which they are projected
off the others before they are squared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from interlace.sums.cells import Cells, add_cells
from interlace.sums.columns import (
    GRAM_SUSPECT,
    RANK_TOLERANCE,
    Block,
    Pool,
    dependence,
    reproduced,
)
from interlace.sums.crossprod import CrossProducts, pool_for, sums_over_rows
from interlace.sums.moments import Moments, moments_of
from interlace.sums.rows import Basis, Rows
from interlace.sums.terms import Floats, ReTerm

# Below this share of its norm the response is reproduced by the fixed effects.
_RESPONSE_TOLERANCE = 1e-13
# A column that varies by less than this share of its largest value is a constant.
_CONSTANT_TOLERANCE = 1e-13
# Cells waiting to be merged: up to this number, or twice those merged already.
_WAITING = 4_000_000


@dataclass(frozen=True, eq=False)
class Chart:
    """How the columns of one block are entered before they are squared.

    Column ``j`` is ``column - center[j]``, which ``constant`` (the position of a column of ones)
    takes up; then all columns are multiplied by ``mix``, if there is one.

    Parameters
    ----------
    center
        ``(m,)`` rough means; zeros without a constant.
    constant
        Position of the column of ones.
    largest
        ``(m,)`` rough sizes of the columns.
    limit
        ``(m,)`` shares of their norm below which columns depend on earlier ones.
    mix
        ``(m, m)``.
    scaled
        Whether the columns times ``mix`` have mean square 1 if nothing was projected out.
    """

    center: Floats
    constant: int | None
    largest: Floats
    limit: Floats
    mix: Floats | None = None
    scaled: bool = False

    @property
    def shift(self) -> Floats:
        """From the user's columns to those entered, ``(m, m)``."""
        C = np.eye(len(self.center))
        if self.constant is not None:
            C[self.constant] -= self.center
        return C if self.mix is None else C @ self.mix

    def enter(self, pool: Pool, columns: Sequence[Floats]) -> Block:
        """The block of the columns in a pool."""
        index = tuple(pool.add(c, float(m)) for c, m in zip(columns, self.center, strict=True))
        if self.mix is not None:
            index = pool.add_weighted(pool.rows(index) @ self.mix)
        return Block(index, self.shift, np.eye(len(index)))


@dataclass(frozen=True, eq=False)
class Charts:
    """Charts of ``[X y]`` and of the columns of every term, and the unit of the response."""

    fixed: Chart
    random: tuple[Chart, ...]
    unit: float

    def enter(self, pool: Pool, rows: Rows) -> tuple[Block, list[Block]]:
        """Blocks of rows, that of ``[X y]`` first."""
        fixed = self.fixed.enter(pool, [*rows.X.T, rows.response / self.unit])
        shift = fixed.shift.copy()
        shift[-1] /= self.unit
        random = [c.enter(pool, list(Z.T)) for c, Z in zip(self.random, rows.Z, strict=True)]
        return replace(fixed, shift=shift), random


def charts_of(sample: Rows) -> Charts:
    """Charts with the means and sizes of a sample of the rows."""
    y = sample.response
    unit = float(np.abs(y).max()) or 1.0
    columns = [*sample.X.T, y / unit]
    limit = np.full(len(columns), RANK_TOLERANCE)
    limit[-1] = _RESPONSE_TOLERANCE
    fixed = _chart(columns, (*sample.names, ""), limit)
    random = []
    for term, Z in zip(sample.terms, sample.Z, strict=True):
        names = term.columns if term.correlated else ("",) * term.k
        random.append(_chart(list(Z.T), names, np.full(term.k, RANK_TOLERANCE)))
    return Charts(fixed, tuple(random), unit)


def _chart(columns: Sequence[Floats], names: Sequence[str], limit: Floats) -> Chart:
    constant = names.index("Intercept") if "Intercept" in names else None
    center = np.zeros(len(columns))
    if constant is not None:
        center[:] = [c.mean() for c in columns]
        center[constant] = 0.0
    return Chart(center, constant, np.array([np.abs(c).max() for c in columns]), limit)


# ------------------------------------------------------------------ one part, and sums of parts


@dataclass(frozen=True, eq=False)
class Part:
    """Sums over some rows: cross-products in the basis of charts, and the range of the response."""

    A: CrossProducts
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Grams:
    """Sums over some rows that a basis is chosen by: ``V'V`` and every ``Z_j'Z_j``.

    With ``moments`` if these were asked for.
    """

    n: int
    fixed: Floats
    random: tuple[Floats, ...]
    moments: Moments | None = None

    def cross_products(
        self, names: Sequence[str], terms: Sequence[ReTerm], shifts: Basis
    ) -> CrossProducts:
        """The same as cross-products, those of a term as if it had one level."""
        m = len(self.fixed)
        return CrossProducts(
            n=self.n,
            names=tuple(names),
            dropped=(),
            terms=tuple(terms),
            basis=shifts,
            vv=self.fixed,
            zv=tuple(np.zeros((1, t.k, m)) for t in terms),
            zz=tuple(G[None] for G in self.random),
            cells={},
            moments=self.moments,
        )


def part_of(rows: Rows, charts: Charts) -> Part:
    """Sums over some rows."""
    pool = pool_for(rows)
    A = sums_over_rows(rows, pool, *charts.enter(pool, rows), rows.names, moments=True)
    around = rows.response
    return Part(A, float(around.min()), float(around.max()))


def grams_of(rows: Rows, charts: Charts, *, moments: bool = False) -> Grams:
    """The sums that a basis is chosen by, over some rows."""
    pool = pool_for(rows)
    fixed, random = charts.enter(pool, rows)
    grams = tuple(pool.gram(block.index) for block in random)
    means = moments_of(pool, fixed, random) if moments else None
    return Grams(len(rows.y), pool.gram(fixed.index), grams, means)


def add_parts(parts: Iterable[Part]) -> Part | None:
    """The sum of parts in one basis, each of which is let go of when it has been added.

    Cells wait until there are about as many of them as were merged before, so that each is moved a
    few times at most, however many parts there are.
    """
    total: Part | None = None
    waiting: dict[tuple[int, int], list[Cells]] = {}
    for part in parts:
        for pair, cells in part.A.cells.items():
            waiting.setdefault(pair, []).append(cells)
        total = _added(total, part)
        for pair, runs in waiting.items():
            if sum(len(r.rows) for r in runs[1:]) > max(_WAITING, 2 * len(runs[0].rows)):
                waiting[pair] = [add_cells(runs)]
    if total is None:
        return None
    merged = {}
    for pair in list(waiting):
        merged[pair] = add_cells(waiting.pop(pair))
    return replace(total, A=replace(total.A, cells=merged))


def _added(total: Part | None, part: Part) -> Part:
    """The sum without cells; arrays of ``total`` are added to in place."""
    if total is None:
        own = replace(
            part.A,
            vv=part.A.vv.copy(),
            zv=tuple(block.copy() for block in part.A.zv),
            zz=tuple(block.copy() for block in part.A.zz),
            cells={},
        )
        return replace(part, A=own)
    A, B = total.A, part.A
    for mine, other in zip((A.vv, *A.zv, *A.zz), (B.vv, *B.zv, *B.zz), strict=True):
        mine += other
    moments = A.moments.plus(B.moments, 1.0) if A.moments and B.moments else None
    A = replace(A, n=A.n + B.n, sum_log_w=A.sum_log_w + B.sum_log_w, moments=moments)
    return Part(A, min(total.low, part.low), max(total.high, part.high))


def add_grams(parts: Iterable[Grams]) -> Grams | None:
    """The sum of the sums that a basis is chosen by."""
    total: Grams | None = None
    for part in parts:
        if total is None:
            total = part
            continue
        random = tuple(a + b for a, b in zip(total.random, part.random, strict=True))
        means = total.moments.plus(part.moments, 1.0) if total.moments and part.moments else None
        total = Grams(total.n + part.n, total.fixed + part.fixed, random, means)
    return total


# ------------------------------------------------------------------ the basis


@dataclass(frozen=True, eq=False)
class Sifted:
    """What the Gram matrix of entered columns says.

    Parameters
    ----------
    kept
        ``(m,)`` columns that do not depend on earlier ones; known when ``sure``.
    chart
        How to enter the columns in the next round over the rows.
    finish
        ``(m, kept)``: makes the columns orthonormal (mean square 1).
    sure
        Whether no further round is needed.
    """

    kept: NDArray[np.bool_]
    chart: Chart
    finish: Floats
    sure: bool


def sift(chart: Chart, G: Floats, n: int) -> Sifted:
    """Which columns to keep, and how to make them orthonormal, from their Gram matrix."""
    m = len(G)
    if not chart.scaled:
        scale, centred = _scales(chart, G, n)
        if centred is not None:
            return Sifted(np.ones(m, bool), replace(chart, mix=centred), np.eye(m), False)
        scaled = scale[:, None] * G * scale
    else:
        scale, scaled = np.ones(m), G
    present = np.sqrt(np.diag(scaled) / n) > chart.limit
    W, kept, unsure = _triangle(scaled / n, present, chart.limit)
    if not unsure.any():
        return Sifted(kept, chart, scale[:, None] * W[:, kept], True)
    # A column of no size keeps a factor of its own: every column can be found again in the mix.
    known = np.where(chart.largest > 0, chart.largest, 1.0)
    W = np.where(scale > 0, scale, 1.0 / known)[:, None] * W
    mix = W if chart.mix is None else chart.mix @ W
    return Sifted(kept, replace(chart, mix=mix, scaled=True), W, False)


def _scales(chart: Chart, G: Floats, n: int) -> tuple[Floats, Floats | None]:
    """Factors that give each column, less its mean, mean square 1 (0 for a column of no size).

    Also the map that takes the means off, if those known were so far off that digits were lost.
    """
    squares = np.diag(G) / n
    varies = np.sqrt(squares) > _CONSTANT_TOLERANCE * chart.largest
    around, P = squares.copy(), np.eye(len(G))
    c = chart.constant
    if c is not None:
        P[c] -= G[c] / G[c, c]
        P[c, c] = 1.0
        around -= G[c] ** 2 / (G[c, c] * n)
        around[c] = squares[c]
        if (varies & (around < GRAM_SUSPECT * squares)).any() and chart.mix is None:
            return np.ones(len(G)), P
    size = np.sqrt(np.maximum(around, 0.0))
    varies &= size > 0
    return np.where(varies, 1.0 / np.where(varies, size, 1.0), 0.0), None


def _triangle(
    G: Floats, present: NDArray[np.bool_], limit: Floats
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Orthonormalise columns in turn, by their Gram matrix (mean squares).

    Returns the map ``(m, m)``, the mask of columns kept, and that of columns of which too few
    digits are left to tell: these, and those that are not kept, are projected off the columns kept
    before them, no more.
    """
    m = len(G)
    W = np.eye(m)
    kept, unsure = np.zeros(m, bool), np.zeros(m, bool)
    for j in np.flatnonzero(present):
        w = np.zeros(m)
        w[j] = 1.0
        along = W[:, kept].T @ G[:, j]
        w -= W[:, kept] @ along
        again = W[:, kept].T @ (G @ w)
        w -= W[:, kept] @ again
        left = float(w @ G @ w)
        W[:, j] = w
        if left < GRAM_SUSPECT * G[j, j]:
            unsure[j] = True
        elif np.sqrt(left) > limit[j]:
            W[:, j], kept[j] = w / np.sqrt(left), True
    return W, kept, unsure


def finished(A: CrossProducts, sifted: Sequence[Sifted]) -> CrossProducts:
    """Cross-products in the basis that the Gram matrices say, from sums in that of the charts.

    Raises
    ------
    InterlaceError
        The fixed effects reproduce the response.
    """
    fixed, *random = sifted
    if not fixed.kept[-1]:
        raise reproduced()
    F = fixed.finish
    grams = tuple(zz.sum(axis=0) for zz in A.zz)
    parts = zip(A.terms, A.basis.random, grams, random, strict=True)
    B = [random_finish(term, shift, G, A.n, one) for term, shift, G, one in parts]
    kept = fixed.kept[:-1]
    names = np.array(A.names, dtype=object)
    dropped = None if kept.all() else _dependence(A, F, kept)
    basis = Basis(
        (A.basis.fixed @ F)[fixed.kept],
        tuple(b @ finish for b, finish in zip(A.basis.random, B, strict=True)),
    )
    return replace(
        A,
        names=tuple(names[kept]),
        dropped=tuple(names[~kept]),
        basis=basis,
        vv=F.T @ A.vv @ F,
        zv=tuple(b.T @ zv @ F for b, zv in zip(B, A.zv, strict=True)),
        zz=tuple(b.T @ zz @ b for b, zz in zip(B, A.zz, strict=True)),
        cells={(i, j): cells.turned(B[i], B[j]) for (i, j), cells in A.cells.items()},
        dependence=dropped,
        moments=None if A.moments is None else A.moments.turned(F, B),
    )


def _dependence(A: CrossProducts, F: Floats, kept: NDArray[np.bool_]) -> Floats:
    """Columns not kept as combinations of those kept, which ``F`` makes working ones."""
    p = len(kept)
    back = np.linalg.inv(A.basis.fixed)[:, :p][:, ~kept]  # columns dropped, of those entered
    along = F[:, :-1].T @ A.vv
    return dependence((A.basis.fixed @ F)[:p][kept][:, :-1], along @ F[:, :-1], along @ back)


def random_finish(term: ReTerm, shift: Floats, G: Floats, n: int, sifted: Sifted) -> Floats:
    """Orthonormal columns of a term, or the user's with mean square 1 if they depend on each other.

    ``G`` is the Gram matrix of the columns entered, to which ``shift`` maps the user's.
    """
    if term.correlated and sifted.kept.all():
        return sifted.finish
    back = np.linalg.inv(shift)
    squares = np.diag(back.T @ G @ back) / n
    size = term.template.even(np.sqrt(np.where(squares > 0, squares, 1.0)))
    return np.asarray(back / size, dtype=np.float64)
