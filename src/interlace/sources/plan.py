"""What the first pass found -> how every row is encoded: levels, states of transforms, a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from interlace.design.categories import refuse_text
from interlace.design.complete import CompleteRows, refuse_nonfinite
from interlace.design.design import (
    Design,
    Respond,
    build,
    offset_of,
    refuse_unidentifiable,
    slopes_for,
    weights_of,
)
from interlace.design.encode import Columns, Context, Encoded, Side, encode, replay_side
from interlace.design.formula import MixedFormula
from interlace.design.frame import Codes, Column, Levels
from interlace.design.groups import Grouping
from interlace.design.reads import sides_of
from interlace.design.sides import expression
from interlace.errors import InterlaceError
from interlace.sources.recode import Recoder
from interlace.sources.scan import Name, Scan, split_pairs
from interlace.sources.transforms import restate
from interlace.sums.parts import Charts, charts_of
from interlace.sums.terms import Floats

# Two evaluations of an expression on the same row agree to this share of its largest value.
_SAME = 1e-9


@dataclass(frozen=True, eq=False)
class Blueprint:
    """How rows become a design and its cross-products.

    Parameters
    ----------
    formula, weights, offset, context
        As given.
    columns
        Columns read.
    like
        A design of some rows, with the terms and the encoding of all.
    sides
        Encoded sides by text.
    recoders
        Per grouping factor.
    charts
        Rough means and sizes.
    n, n_dropped
        Rows used, and rows left out.
    respond
        Makes numbers of a response that may hold categories.
    """

    formula: MixedFormula
    weights: str | None
    offset: str | None
    context: Context | None
    columns: tuple[str, ...]
    like: Design
    sides: Mapping[str, Side]
    recoders: Mapping[Name, Recoder]
    charts: Charts
    n: int
    n_dropped: int
    respond: Respond | None = None

    def design(self, rows: CompleteRows, title: str) -> Design:
        """The design of other rows."""
        encoded = {
            text: Encoded(side, replay_side(side, rows.columns, rows.n, self.context))
            for text, side in self.sides.items()
        }
        refuse_nonfinite(encoded.values(), rows, title)
        formula = self.formula
        slopes = [encoded[side.text] for side in self.like.encoding.slopes]
        fixed = encoded[formula.fixed]
        codes = {name: recode(rows.columns) for name, recode in self.recoders.items()}
        offsets = [encoded[expression(text)] for text in formula.offset]
        return replace(
            self.like,
            y=self._response(encoded[expression(formula.response)]),
            X=fixed.matrix,
            codes=tuple(codes[group.columns] for group in self.like.encoding.groups),
            Z=tuple(slopes_for(one, fixed) for one in slopes),
            weights=weights_of(rows, self.weights, title),
            offset=offset_of(offsets, rows.columns, self.offset),
            kept=rows.kept,
            index=rows.index,
            factors={},
        )

    def _response(self, encoded: Encoded) -> Floats:
        if self.respond is None:
            return encoded.matrix[:, 0]
        return self.respond(self.formula, encoded)


def plan_of(
    formula: MixedFormula,
    scan: Scan,
    columns: Sequence[str],
    *,
    weights: str | None,
    offset: str | None,
    context: Context | None,
    declared: Mapping[str, Levels],
    whole: bool,
    respond: Respond | None = None,
) -> Blueprint:
    """Encode example rows in which every category occurs, with the levels and moments of all."""
    orders = {**scan.orders, **declared}
    rows = _example_rows(scan, orders)
    refuse_text(formula, rows.columns, scan.kept, answers=respond is not None)
    texts = sides_of(formula)
    encoded = dict(zip(texts, encode(texts, rows.columns, rows.n, context), strict=True))
    for one in encoded.values():
        restate(one.side, scan.moments)
    encoded = {
        text: replace(one, matrix=replay_side(one.side, rows.columns, rows.n, context))
        for text, one in encoded.items()
    }
    refuse_nonfinite(encoded.values(), rows)
    for one in encoded.values():
        _refuse_dependence_on_rows(one, rows.columns, rows.n, context)
    groups = {g: grouping(g, scan, orders) for g in {term.group: None for term in formula.random}}
    recoders = {name: Recoder.of(group) for name, group in groups.items()}
    found = {name: (group, recoders[name](rows.columns)) for name, group in groups.items()}
    extra = {"weights": weights, "offset": offset}
    like = build(formula, rows, encoded, found, extra, context, respond)
    if whole:
        refuse_unidentifiable(like.terms, scan.kept)
    return Blueprint(
        formula=formula,
        weights=weights,
        offset=offset,
        context=context,
        columns=tuple(columns),
        like=_few_rows(like),
        sides={text: one.side for text, one in encoded.items()},
        recoders=recoders,
        charts=charts_of(like),
        n=scan.kept,
        n_dropped=scan.n - scan.kept,
        respond=respond,
    )


def _few_rows(design: Design) -> Design:
    """The design with one row: enough to say what all designs have in common."""
    return replace(
        design,
        y=design.y[:1].copy(),
        X=design.X[:1].copy(),
        codes=tuple(codes[:1].copy() for codes in design.codes),
        Z=tuple(Z[:1].copy() for Z in design.Z),
        weights=None,
        offset=None,
        kept=design.kept[:1].copy(),
        index=None,
        factors={},
    )


def _example_rows(scan: Scan, orders: Mapping[str, Levels]) -> CompleteRows:
    """The sample and an example of every category, as plain columns."""
    tables = [scan.sample, *(rows for _, rows in scan.examples.values())]
    columns: dict[str, Column] = {}
    for name in scan.sample:
        values = pd.concat([pd.Series(table[name]) for table in tables], ignore_index=True)
        if scan.kinds[name][0] == "text or categories":
            present = np.asarray(values.unique())
            columns[name] = pd.Categorical(values, categories=in_order(present, orders.get(name)))
        else:
            columns[name] = (
                values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array
            )
    n = len(next(iter(columns.values())))
    return CompleteRows(columns, np.broadcast_to(np.True_, n), n)


def in_order(values: Levels, order: Levels | None) -> Levels:
    """Distinct values in their declared order, or sorted."""
    if order is None:
        return np.asarray(pd.factorize(pd.Index(values), sort=True)[1])
    places = pd.Index(order).get_indexer(pd.Index(values))
    known = places >= 0
    return np.concatenate((values[known][np.argsort(places[known])], np.sort(values[~known])))


def grouping(name: Name, scan: Scan, orders: Mapping[str, Levels]) -> Grouping:
    """The grouping factor of columns, with all levels found."""
    levels: list[Levels] = []
    places: list[Codes] = []
    for column in name:
        pool = scan.pools[column,]
        levels.append(in_order(pool, orders.get(column)))
        places.append(pd.Index(levels[-1]).get_indexer(pd.Index(pool)))
    cells = places[0][:, None]
    for size in range(2, len(name) + 1):
        first, second = split_pairs(scan.pools[name[:size]])
        cells = np.column_stack((cells[first], places[size - 1][second]))
    order = np.lexsort(cells.T[::-1])
    return Grouping(name, tuple(levels), cells[order].astype(np.intp))


def _refuse_dependence_on_rows(
    encoded: Encoded, columns: Columns, n: int, context: Context | None
) -> None:
    """Refuse an expression whose value in a row depends on the other rows, such as ``x.mean()``."""
    if encoded.side.spec is None or n < 2:
        return
    half = np.arange(n)[::-2]
    part = {name: column[half] for name, column in columns.items()}
    again: Floats = replay_side(encoded.side, part, len(half), context)
    gap = np.abs(again - encoded.matrix[half]).max(axis=0)
    size = np.abs(encoded.matrix).max(axis=0)
    for name, wrong in zip(encoded.side.names, gap > _SAME * size, strict=True):
        if wrong:
            raise InterlaceError(
                f"'{name}' depends on more than its own row, so it cannot be computed part by "
                "part: compute it as a column beforehand, or pass the rows as a frame in memory"
            )
