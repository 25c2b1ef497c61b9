"""First pass over a source: levels, missing values, moments, and example rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from formulaic.parser.types import Factor
from numpy.typing import NDArray

from interlace.design import frame, keys
from interlace.design.complete import CompleteRows, complete_rows
from interlace.design.encode import Columns, Context, encode
from interlace.design.frame import Codes, Column, Levels
from interlace.design.sides import model_terms, names_in, side_of
from interlace.errors import InterlaceError
from interlace.sources.source import Chunk

Name = tuple[str, ...]

# Rows of each batch, spread evenly, that centres and sizes of columns are taken from, and how many
# of them are kept of all batches.
_PER_BATCH, _SAMPLE = 200, 20_000
_PROBE = 20
_MASK = (1 << 32) - 1


@dataclass(frozen=True)
class Request:
    """What the first pass is asked for.

    Parameters
    ----------
    columns
        Columns read.
    sides
        Texts of the sides.
    groups
        Columns of every grouping factor.
    moments
        Columns of which mean and variance are wanted.
    context
        Further names that the texts may use.
    room
        Bytes that levels may take.
    level_bytes
        Per grouping column, bytes that each of its levels takes in the end.
    """

    columns: tuple[str, ...]
    sides: tuple[str, ...]
    groups: tuple[Name, ...]
    moments: tuple[str, ...] = ()
    context: Context | None = None
    room: float = np.inf
    level_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squares around it."""

    n: int
    mean: float
    squares: float

    def __add__(self, other: Moments) -> Moments:
        n, gap = self.n + other.n, other.mean - self.mean
        mean = self.mean + gap * other.n / n
        return Moments(n, mean, self.squares + other.squares + gap**2 * self.n * other.n / n)


@dataclass(frozen=True, eq=False)
class Scan:
    """What the first pass found in some of the rows.

    Parameters
    ----------
    n, kept
        Rows, and those without a missing value; all that follows is of these.
    missing
        Rows with a missing value, by column.
    kinds
        What a column holds, and where that was first seen.
    orders
        Declared order of the categories of a column, unless it is that of their values.
    pools
        Distinct values of a grouping column, in any order.  For ``("a", "b")``: distinct pairs of
        positions in the pools of ``("a",)`` and ``("b",)``, as ``first * 2^32 + second``; for
        ``("a", "b", "c")``, of ``("a", "b")`` and ``("c",)``.
    examples
        Per factor that is encoded as categories: its distinct values, and a row for each.
    sample
        Rows spread over all.
    moments
        By column.
    """

    n: int
    kept: int
    missing: dict[str, int]
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)
    orders: dict[str, Levels] = field(default_factory=dict)
    pools: dict[Name, NDArray[np.generic]] = field(default_factory=dict)
    examples: dict[str, tuple[Levels, dict[str, Column]]] = field(default_factory=dict)
    sample: dict[str, Column] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of levels held."""
        return sum(len(pool) for pool in self.pools.values())


# One batch ----------------------------------------------------------------------------------------


def scan_batch(request: Request, batch: Chunk) -> Scan:
    """What is found in the rows of a batch."""
    stored = frame.pick(batch.table, request.columns)
    masks = {name: frame.missing(column) for name, column in stored.items()}
    counts = {name: int(mask.sum()) for name, mask in masks.items() if mask is not None}
    rows = complete_rows(stored, batch.table, first=batch.first)
    if not rows.n:
        return Scan(batch.table.n, 0, counts)
    orders = {
        name: order
        for name, column in stored.items()
        if (order := declared_order(column)) is not None
    }
    return Scan(
        n=batch.table.n,
        kept=rows.n,
        missing=counts,
        kinds={k: (frame.kind(c), batch.table.title) for k, c in rows.columns.items()},
        orders=orders,
        pools=_pools(request.groups, rows.columns),
        examples=_examples(request, rows),
        sample=_take(rows.columns, np.unique(np.linspace(0, rows.n - 1, _PER_BATCH).astype(int))),
        moments={name: _moments(rows.columns[name]) for name in request.moments},
    )


def declared_order(column: Column) -> Levels | None:
    """Categories as declared, unless they stand in the order of their values."""
    if not isinstance(column, pd.Categorical) or column.categories.is_monotonic_increasing:
        return None
    return np.asarray(column.categories)


def _pools(groups: Sequence[Name], columns: Columns) -> dict[Name, NDArray[np.generic]]:
    pools: dict[Name, NDArray[np.generic]] = {}
    codes: dict[Name, Codes] = {}
    for name in dict.fromkeys(name for group in groups for name in group):
        codes[name,], pools[name,] = frame.factorize(columns[name])
    for group in groups:
        for size in range(2, len(group) + 1):
            key = group[:size]
            if key not in pools:
                pairs = codes[key[:-1]].astype(np.int64) << 32 | codes[key[-1],]
                codes[key], pools[key] = _distinct(pairs)
    return pools


def _distinct(values: NDArray[np.generic]) -> tuple[Codes, NDArray[np.generic]]:
    """Codes and distinct values, in the order in which they come."""
    codes, levels = pd.factorize(values)
    return codes.astype(np.intp, copy=False), np.asarray(levels)


def _moments(column: Column) -> Moments:
    values = np.asarray(column, dtype=np.float64)
    mean = float(values.mean())
    return Moments(len(values), mean, float(((values - mean) ** 2).sum()))


def _take(columns: Columns, rows: NDArray[np.integer]) -> dict[str, Column]:
    """Some rows of plain columns; categories as the values they stand for."""
    return {
        name: np.asarray(column[rows], dtype=object)
        if isinstance(column, pd.Categorical)
        else column[rows]
        for name, column in columns.items()
    }


def _examples(request: Request, rows: CompleteRows) -> dict[str, tuple[Levels, dict[str, Column]]]:
    """Values of the factors that are categories, and a row for each of them."""
    found = {}
    for factor in _factors(request.sides):
        side = side_of(factor)
        reads = sorted(frozenset.union(*names_in(side)) & set(rows.columns))
        if not reads or not _is_categorical(factor, reads, rows, request.context):
            continue
        first = _first_rows(rows.columns, reads)
        values = _values(factor, _select(rows.columns, reads, first), len(first), request.context)
        _, at = np.unique(_distinct(values)[0], return_index=True)
        found[factor.expr] = (values[at], _take(rows.columns, first[at]))
    return found


def _factors(sides: Iterable[str]) -> list[Factor]:
    """Factors of all sides that read a column."""
    factors = [f for side in sides for term in model_terms(side) for f in term.factors]
    return list(
        {f.expr: f for f in factors if f.eval_method is not Factor.EvalMethod.LITERAL}.values()
    )


def _is_categorical(
    factor: Factor, reads: Sequence[str], rows: CompleteRows, context: Context | None
) -> bool:
    if [factor.expr] == list(reads):
        return isinstance(rows.columns[factor.expr], pd.Categorical)
    few = np.arange(min(_PROBE, rows.n))
    columns = _select(rows.columns, reads, few)
    return factor.expr in encode([side_of(factor)], columns, len(few), context)[0].side.categories


def _first_rows(columns: Columns, reads: Sequence[str]) -> NDArray[np.intp]:
    """The first row of every combination of values of some columns."""
    codes = frame.factorize(columns[reads[0]])[0].astype(np.int64)
    for name in reads[1:]:
        more, levels = frame.factorize(columns[name])
        codes = _distinct(codes * len(levels) + more)[0].astype(np.int64, copy=False)
    size = int(codes.max()) + 1
    first = np.full(size, len(codes), dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return np.sort(first[first < len(codes)])


def _select(columns: Columns, names: Sequence[str], rows: NDArray[np.intp]) -> dict[str, Column]:
    return {name: frame.plain(columns[name][rows], name) for name in names}


def _values(factor: Factor, columns: Columns, n: int, context: Context | None) -> Levels:
    if factor.expr in columns:
        return np.asarray(columns[factor.expr], dtype=object)
    encoded = encode([side_of(factor)], columns, n, context)[0]
    return np.asarray(encoded.factors[factor.expr], dtype=object)


# All of them --------------------------------------------------------------------------------------


def fold_scans(request: Request, parts: Iterable[Scan]) -> Scan | None:
    """What is found in all parts; those at hand are joined when they hold enough to be worth it."""
    waiting: list[Scan] = []
    for part in parts:
        waiting.append(part)
        if sum(s.size for s in waiting[1:]) >= waiting[0].size or len(waiting) > 64:
            waiting = [_joined(request, waiting)]
    return _joined(request, waiting) if waiting else None


def _joined(request: Request, scans: Sequence[Scan]) -> Scan:
    missing: dict[str, int] = {}
    kinds: dict[str, tuple[str, str]] = {}
    orders: dict[str, Levels] = {}
    moments: dict[str, Moments] = {}
    for scan in scans:
        for name, count in scan.missing.items():
            missing[name] = missing.get(name, 0) + count
        for name, seen in scan.kinds.items():
            _refuse_other_kind(name, kinds.setdefault(name, seen), seen)
        for name, order in scan.orders.items():
            orders[name] = join_orders(orders.get(name), order)
        for name, part in scan.moments.items():
            moments[name] = moments[name] + part if name in moments else part
    full = [scan for scan in scans if scan.kept]
    n, kept = sum(scan.n for scan in scans), sum(scan.kept for scan in scans)
    if not full:
        return Scan(n, 0, missing)
    pools = _join_pools([scan.pools for scan in full])
    refuse_too_many(request, pools, n)
    sample = _stack([scan.sample for scan in full])
    return Scan(
        n, kept, missing, kinds, orders, pools, _join_examples(full), _thinned(sample), moments
    )


def _refuse_other_kind(name: str, known: tuple[str, str], seen: tuple[str, str]) -> None:
    if known[0] != seen[0]:
        raise InterlaceError(
            f"the column '{name}' changes its type: it holds {known[0]} in {known[1]}, "
            f"but {seen[0]} in {seen[1]}; give it one type in all of them"
        )


def join_orders(known: Levels | None, order: Levels) -> Levels:
    if known is None or np.array_equal(known, order):
        return order
    return np.asarray(pd.Index(known).append(pd.Index(order)).unique())


def _join_pools(
    all_pools: Sequence[dict[Name, NDArray[np.generic]]],
) -> dict[Name, NDArray[np.generic]]:
    """Pools of several scans; positions in pairs follow those of the values."""
    if len(all_pools) == 1:
        return all_pools[0]
    joined: dict[Name, NDArray[np.generic]] = {}
    places: dict[Name, list[Codes]] = {}
    for key in sorted(all_pools[0], key=len):
        parts = [pools[key] for pools in all_pools]
        if len(key) > 1:
            moved = zip(parts, places[key[:-1]], places[key[-1:]], strict=True)
            parts = [_move_pairs(pairs, left, right) for pairs, left, right in moved]
        codes, joined[key] = _distinct(keys.joined(parts))
        places[key] = np.split(codes, np.cumsum([len(part) for part in parts])[:-1])
    return joined


def _move_pairs(pairs: NDArray[np.generic], left: Codes, right: Codes) -> NDArray[np.int64]:
    first, second = split_pairs(pairs)
    return left[first].astype(np.int64) << 32 | right[second]


def split_pairs(pairs: NDArray[np.generic]) -> tuple[Codes, Codes]:
    """The two positions in each pair."""
    numbers = np.asarray(pairs, dtype=np.int64)
    return numbers >> 32, numbers & _MASK


def _join_examples(scans: Sequence[Scan]) -> dict[str, tuple[Levels, dict[str, Column]]]:
    joined = {}
    for factor in dict.fromkeys(name for scan in scans for name in scan.examples):
        found = [scan.examples[factor] for scan in scans if factor in scan.examples]
        values = np.concatenate([values for values, _ in found])
        _, at = np.unique(_distinct(values)[0], return_index=True)
        rows = _stack([rows for _, rows in found])
        joined[factor] = (values[at], _take(rows, at))
    return joined


def _stack(tables: Sequence[dict[str, Column]]) -> dict[str, Column]:
    """Rows of several tables of the same columns."""
    return {name: _stacked([table[name] for table in tables]) for name in tables[0]}


def _stacked(columns: Sequence[Column]) -> Column:
    if all(isinstance(column, np.ndarray) for column in columns):
        return keys.joined([np.asarray(column) for column in columns])
    whole: Column = pd.concat([pd.Series(column) for column in columns]).array
    return whole


def _thinned(sample: dict[str, Column]) -> dict[str, Column]:
    """Every second row of a sample that has grown too large."""
    size = len(next(iter(sample.values())))
    return sample if size <= _SAMPLE else _take(sample, np.arange(0, size, 2))


def refuse_too_many(request: Request, pools: Mapping[Name, NDArray[np.generic]], n: int) -> None:
    """Stop when the levels found so far would not leave room for a model.

    Raises
    ------
    InterlaceError
        The message names the column, its levels so far, and the rows read.
    """
    need = {
        key: len(pool) * request.level_bytes.get(":".join(key), 8) for key, pool in pools.items()
    }
    if sum(need.values()) <= request.room:
        return
    worst = max(need, key=lambda key: need[key])
    raise InterlaceError(
        f"the grouping factor '{':'.join(worst)}' has too many levels for the memory at hand: "
        f"{len(pools[worst]):,} in the first {n:,} rows, which take "
        f"{need[worst] / 2**30:.2g} GiB of {request.room / 2**30:.2g} GiB; "
        "is it a column of identifiers of single rows? Group by a coarser column"
    )
