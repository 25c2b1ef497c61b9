"""Rows of a generalised model in a scratch file, and sums over them, block by block.

Rows lie sorted by their levels of the first term, then of the second: those of a level are next to
each other, and so are those of a pair of levels.  What a fit asks of them are sums at parameters
that change from step to step; a block is read, its sums are taken, and it is let go of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
from scipy.sparse import csc_array

from interlace.errors import InterlaceError
from interlace.glmm.equations import SomeRows
from interlace.glmm.incidence import row_matrix
from interlace.glmm.problem import Problem
from interlace.glmm.working import Working
from interlace.machine.progress import counter
from interlace.machine.scratch import Column, Scratch, Segment
from interlace.machine.threads import blas_threads, threads_for
from interlace.solver.layout import Layout, make_layout
from interlace.solver.own import OwnRows
from interlace.solver.pieces import some_rows
from interlace.solver.plan import Plan, make_plan
from interlace.solver.probed import ProbedRows
from interlace.sums.cells import Cells, Codes
from interlace.sums.crossprod import CrossProducts
from interlace.sums.rows import WorkingRows
from interlace.sums.terms import Floats

P = TypeVar("P")
Pair = tuple[int, int]

# Rows of a block, so that what is computed of them stays in the cache.
ROWS = 1 << 16
# Largest table of all pairs of levels in which the place of a pair is looked up.
_TABLE = 1 << 26


@dataclass(frozen=True, eq=False)
class Entry:
    """How stored columns become those of one side in the working basis.

    ``columns`` are their names, ``None`` for ones; they are taken less ``center`` times ``mix``.
    """

    columns: tuple[str | None, ...]
    center: Floats
    mix: Floats

    @property
    def is_ones(self) -> bool:
        """Whether this is one column of ones."""
        return self.columns == (None,) and bool((self.mix == 1.0).all())

    def of(self, read: Callable[[str], Floats], n: int) -> Floats:
        """The working columns, ``(n, k)``."""
        X = np.empty((n, len(self.columns)), order="F")
        for column, name, center in zip(X.T, self.columns, self.center, strict=True):
            np.subtract(1.0 if name is None else read(name), center, out=column)
        return np.asarray(X @ self.mix)


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows next to each other: their problem, and where their levels and pairs of levels are.

    ``spans`` are the first level of every term and the number of those that the rows may have,
    ``cells`` the same for the pairs of levels, with the position of every row's pair.
    """

    problem: Problem
    spans: tuple[tuple[int, int], ...]
    cells: dict[Pair, tuple[int, int, Codes]]

    @property
    def random(self) -> SomeRows:
        """The random part of the rows."""
        rows = self.problem.rows
        one = np.broadcast_to(1.0, (rows.n, 1))
        return SomeRows(
            rows.codes,
            tuple(one if z is None else z for z in rows.Z),
            row_matrix(rows.terms, rows.codes, rows.Z),
            {pair: first + index for pair, (first, _, index) in self.cells.items()},
        )

    def sums(self, j: int, V: Floats) -> tuple[int, Floats]:
        """Sums of ``V`` (n, c) by level of term ``j``: the first level, and from there on."""
        first, size = self.spans[j]
        return first, by_level(self.problem.rows.codes[j] - first, size, V)

    def cell_sums(self, pair: Pair, V: Floats) -> tuple[int, Floats]:
        """The same by pair of levels."""
        first, size, index = self.cells[pair]
        return first, by_level(index, size, V)


def not_held() -> InterlaceError:
    """The error for what asks for rows that are not there."""
    return InterlaceError(
        "this needs the rows of the model, and this one was fitted without holding them: fit it to "
        "a frame in memory (data=)"
    )


def codes_of(group: str) -> str:
    """Name of the stored positions in the levels of a group."""
    return f"codes:{group}"


def by_level(codes: Codes, size: int, V: Floats) -> Floats:
    """Sums of rows ``V`` (n, c) by their code, ``(size, c)``."""
    n = len(codes)
    kind: type[np.integer] = np.int32 if max(n, size) < np.iinfo(np.int32).max else np.int64
    places: Codes = codes.astype(kind, copy=False)
    starts: Codes = np.arange(n + 1, dtype=np.int64).astype(kind)
    rows = csc_array((np.ones(n), places, starts), shape=(size, n))
    return np.asarray(rows @ V)


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows in a scratch file.

    Attributes
    ----------
    scratch, segments
        Where they are; rows are sorted within and between segments.
    head
        The problem without rows: terms, names and maps to the working basis, the family and its
        coefficients.
    fixed, random
        How stored columns become working ones.
    pairs
        Levels ``(rows, cols)`` of the pairs of levels that occur, sorted.
    progress
        Whether to show a bar for passes that take long; see :func:`interlace.machine.progress`.
    threads
        Blocks at a time: as many as the linear algebra has threads, outside a search, which leaves
        it one.
    """

    scratch: Scratch
    segments: tuple[Segment, ...]
    head: Problem
    fixed: Entry
    random: tuple[Entry, ...]
    pairs: dict[Pair, tuple[Codes, Codes]] = field(default_factory=dict)
    progress: bool | None = False
    threads: int = field(default_factory=blas_threads)

    @property
    def n(self) -> int:
        """Rows."""
        return sum(segment.n for segment in self.segments)

    def close(self) -> None:
        """Give the place of the rows back."""
        self.scratch.close()

    def __getstate__(self) -> dict[str, object]:
        """Without the file, which belongs to this process."""
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return state | {"scratch": None, "segments": ()}

    def _block(self, segment: Segment, rows: slice) -> Block:
        def read(name: str) -> Column:
            return self.scratch.read(segment, name, rows)

        problem = self.problem_of(read, rows.stop - rows.start)
        codes = problem.rows.codes
        cells = {(i, j): own(codes[i], codes[j]) for (i, j), own in self._places.items()}
        return Block(problem, self._spans(codes), cells)

    def problem_of(self, read: Callable[[str], Column], n: int) -> Problem:
        """The problem of ``n`` rows whose columns are read by name."""

        def number(name: str) -> Floats:
            return np.asarray(read(name), dtype=np.float64)

        head = self.head
        groups = {t.group: read(codes_of(t.group)).astype(np.intp) for t in head.rows.terms}
        weights = None if head.weights is None else number("weights")
        shape = (len(head.G), n, head.G.shape[2])
        return Problem(
            family=head.family,
            rows=Working(
                names=head.rows.names,
                dropped=head.rows.dropped,
                terms=head.rows.terms,
                codes=tuple(groups[t.group] for t in head.rows.terms),
                X=self.fixed.of(number, n),
                Z=tuple(None if own.is_ones else own.of(number, n) for own in self.random),
                fixed=head.rows.fixed,
                random=head.rows.random,
            ),
            y=number("y"),
            trials=number("trials"),
            weights=weights,
            offset=number("offset"),
            G=np.broadcast_to(np.eye(len(head.G))[:, None, :], shape),
            constant=0.0,
            parts=head.parts,
        )

    def _spans(self, codes: Sequence[Codes]) -> tuple[tuple[int, int], ...]:
        found = []
        for own in codes:
            first = int(own.min())
            found.append((first, int(own.max()) - first + 1))
        return tuple(found)

    @cached_property
    def _places(self) -> dict[Pair, Places]:
        """Where pairs of levels are among those that occur."""
        terms = self.head.rows.terms
        return {
            (i, j): Places.of(*own, (terms[i].l, terms[j].l), ordered=(i, j) == (0, 1))
            for (i, j), own in self.pairs.items()
        }

    @property
    def pattern(self) -> CrossProducts:
        """``Z'Z`` as far as solvers ask: where it has entries."""
        terms = self.head.rows.terms
        zz = [np.broadcast_to(np.eye(t.k), (t.l, t.k, t.k)) for t in terms]
        cells = {
            (i, j): np.ones((len(rows), terms[i].k, terms[j].k))
            for (i, j), (rows, _) in self.pairs.items()
        }
        return self.cross_products(zz, cells)

    @cached_property
    def plan(self) -> Plan:
        """Order of elimination of the exact solver, laid out once."""
        return make_plan(self.pattern)

    @cached_property
    def layout(self) -> Layout:
        """Order of elimination of the iterative solver, laid out once."""
        return make_layout(self.pattern)

    @cached_property
    def own(self) -> OwnRows:
        """Rows against the inverse of the equations: none, and the place of any."""
        codes = self.head.rows.codes
        Z = tuple(np.zeros((0, t.k)) for t in self.head.rows.terms)
        return OwnRows(WorkingRows(codes, Z, np.zeros((0, 0))), self.plan)

    @cached_property
    def own_probed(self) -> ProbedRows:
        """The same for the iterative solver."""
        codes = self.head.rows.codes
        Z = tuple(np.zeros((0, t.k)) for t in self.head.rows.terms)
        return ProbedRows(
            self.layout,
            codes,
            Z,
            partial(some_rows, row_matrix(self.head.rows.terms, codes, Z)),
            {},
        )

    def cross_products(self, zz: Sequence[Floats], cells: dict[Pair, Floats]) -> CrossProducts:
        """``Z'WZ`` from its blocks."""
        rows = self.head.rows
        return CrossProducts(
            n=self.n,
            names=(),
            dropped=(),
            terms=rows.terms,
            basis=rows.basis,
            vv=np.eye(1),
            zv=tuple(np.zeros((t.l, t.k, 1)) for t in rows.terms),
            zz=tuple(zz),
            cells={pair: Cells(*self.pairs[pair], values) for pair, values in cells.items()},
        )

    def visit(self, work: Callable[[Block], P], add: Callable[[P], None]) -> None:
        """``add(work(block))`` for every block in its order, with several threads at work.

        Raises
        ------
        InterlaceError
            The rows are no longer held.
        """
        if self.scratch is None or self.scratch.file.closed:
            raise not_held()

        def done(place: tuple[Segment, slice]) -> P:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # per thread
                return work(self._block(*place))

        waiting: deque[tuple[int, Future[P]]] = deque()
        with (
            counter(self.n, self.progress, what="pass", unit="rows") as advance,
            threads_for(1),  # blocks are shared out, not the products of one
            ThreadPoolExecutor(self.threads) as pool,
        ):
            try:
                for place in self._places_of_blocks():
                    waiting.append((place[1].stop - place[1].start, pool.submit(done, place)))
                    if len(waiting) > 2 * self.threads:
                        _next(waiting, add, advance)
                while waiting:
                    _next(waiting, add, advance)
            finally:  # of an interrupted pass only the blocks at work are waited for
                for _, future in waiting:
                    future.cancel()

    def _places_of_blocks(self) -> Iterator[tuple[Segment, slice]]:
        for segment in self.segments:
            for start in range(0, segment.n, ROWS):
                yield segment, slice(start, min(start + ROWS, segment.n))


def _next(
    waiting: deque[tuple[int, Future[P]]], add: Callable[[P], None], advance: Callable[[int], None]
) -> None:
    """Add what the first block in the queue gives, and count its rows."""
    n, future = waiting.popleft()
    add(future.result())
    advance(n)


@dataclass(frozen=True, eq=False)
class Places:
    """Where pairs of levels are among those that occur, which are sorted.

    By a table of all pairs; or, of rows in the order of the pairs, by counting from the first one;
    or by a search.
    """

    rows: Codes
    cols: Codes
    width: int
    ordered: bool
    table: Codes | None = None

    @classmethod
    def of(cls, rows: Codes, cols: Codes, shape: tuple[int, int], *, ordered: bool) -> Places:
        """For the pairs that occur of ``shape`` levels."""
        if ordered or shape[0] * shape[1] > _TABLE:
            return cls(rows, cols, shape[1], ordered)
        table = np.zeros(shape[0] * shape[1], np.int32)
        table[rows.astype(np.intp) * shape[1] + cols] = np.arange(len(rows))
        return cls(rows, cols, shape[1], ordered, table)

    def __call__(self, left: Codes, right: Codes) -> tuple[int, int, Codes]:
        """Of every row: the first place, the number of those up to the last, places from there."""
        keys = left * self.width + right
        if self.ordered:
            index: Codes = np.zeros(len(keys), np.intp)
            np.cumsum(keys[1:] != keys[:-1], out=index[1:])
            a, b = self._starts[left[0] : left[0] + 2]
            first = int(a + np.searchsorted(self.cols[a:b], right[0]))
            return first, int(index[-1]) + 1, index
        index = self._keys_searched(keys) if self.table is None else self.table[keys]
        first = int(index.min())
        return first, int(index.max()) - first + 1, index - first

    def _keys_searched(self, keys: Codes) -> Codes:
        return np.searchsorted(self._all_keys, keys)

    @cached_property
    def _starts(self) -> Codes:
        """Where the pairs of every level on the left begin, and the end of the last."""
        return np.searchsorted(self.rows, np.arange(self.rows[-1] + 2, dtype=self.rows.dtype))

    @cached_property
    def _all_keys(self) -> Codes:
        return self.rows.astype(np.int64) * self.width + self.cols
