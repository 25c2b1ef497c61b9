"""The passes over a source: levels and moments, then cross-products, then more digits if needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from interlace.design import frame
from interlace.design.complete import complete_rows, missing_text
from interlace.design.design import Design, refuse_constant
from interlace.design.formula import MixedFormula
from interlace.design.reads import columns_of, sides_of
from interlace.design.recipe import Recipe
from interlace.design.sides import model_terms
from interlace.errors import InterlaceError
from interlace.machine.memory import memory_limit
from interlace.machine.progress import counter
from interlace.sources.plan import Blueprint, plan_of
from interlace.sources.recode import changed
from interlace.sources.scan import Request, Scan, fold_scans, scan_batch
from interlace.sources.source import Chunk, Source
from interlace.sources.transforms import moments_wanted
from interlace.sums.crossprod import CrossProducts
from interlace.sums.parts import (
    Charts,
    Grams,
    Part,
    Sifted,
    add_grams,
    add_parts,
    finished,
    grams_of,
    part_of,
    sift,
)

P = TypeVar("P")

# Share of the free memory that levels may take: the fit needs more than their number says.
_SHARE_OF_LEVELS = 0.5
# Bytes of a level's label and its place in a table; bytes that the solvers hold for each of its
# sums.
_PER_LABEL, _PER_SUM = 64, 24


def read_source(
    formula: MixedFormula,
    source: Source,
    *,
    weights: str | None = None,
    offset: str | None = None,
    missing: str = "drop",
    whole: bool = True,
    progress: bool | None = None,
) -> CrossProducts:
    """Cross-products of the rows of a source, which are never held.

    Parameters
    ----------
    formula
        The parsed formula.
    source
        Where the rows are.
    weights, offset
        Columns.
    missing
        ``"drop"`` or ``"raise"``.
    whole
        Whether these are all rows of the model: a part of them may be too few for its levels.
    progress
        Whether to show a bar for each pass.

    Raises
    ------
    InterlaceError
        Data that cannot be used; the message names the file, column, term or value.
    """
    request = request_of(formula, source, (weights, offset))
    scan = scanned(source, request, missing, progress)
    plan = plan_of(
        formula,
        scan,
        request.columns,
        weights=weights,
        offset=offset,
        context=request.context,
        declared=source.declared,
        whole=whole,
    )
    part, sifted = _squared(source, plan, progress)
    response = f"the response '{formula.response}'"
    if part.low == part.high:
        refuse_constant(np.array([part.low]), response)
    _refuse_saturated(int(sifted[0].kept[:-1].sum()), part.A)
    A = finished(part.A, sifted)
    recipe = Recipe(plan.like.encoding, plan.n_dropped, dict(source.declared))
    return replace(A, recipe=recipe)


def request_of(formula: MixedFormula, source: Source, beside: Sequence[str | None] = ()) -> Request:
    """Columns and sides to read; refuses names and transforms that cannot be used.

    ``beside`` are columns that arguments name.
    """
    table = source.header
    sides = sides_of(formula)
    wanted = columns_of(formula, table, beside=beside)
    moments = moments_wanted(sides, source.names, None)
    frame.pick(table, wanted)
    if source.check is not None:
        source.check(wanted)
    groups = tuple(dict.fromkeys(term.group for term in formula.random))
    return Request(
        columns=tuple(wanted),
        sides=tuple(sides),
        groups=groups,
        moments=moments,
        context=None,
        room=_SHARE_OF_LEVELS * memory_limit(),
        level_bytes=_level_bytes(formula),
    )


def _level_bytes(formula: MixedFormula) -> dict[str, int]:
    """Bytes that one level takes, by grouping factor: its label, and sums per column."""
    columns = len(model_terms(formula.fixed)) + 1
    found: dict[str, int] = {}
    for term in formula.random:
        for size in range(1, len(term.group) + 1):
            found.setdefault(":".join(term.group[:size]), _PER_LABEL)
        k = len(model_terms(term.expr))
        found[term.key] += _PER_SUM * k * (columns + k)
    return found


def scanned(source: Source, request: Request, missing: str, progress: bool | None) -> Scan:
    """The first pass."""
    scan: Scan | None = run_pass(
        source,
        request.columns,
        partial(scan_batch, request),
        partial(fold_scans, request),
        progress,
        source.n,
        "levels",
    )
    if scan is None or scan.n == 0:
        raise InterlaceError(f"{source.title} has no rows")
    gaps = {name: scan.missing[name] for name in request.columns if name in scan.missing}
    if not scan.kept:
        raise InterlaceError(f"none of the {scan.n} rows is complete: {missing_text(gaps)}")
    if missing == "raise" and gaps:
        raise InterlaceError(f"{missing_text(gaps)}; missing='drop' leaves these rows out")
    return scan


def _squared(source: Source, plan: Blueprint, progress: bool | None) -> tuple[Part, list[Sifted]]:
    """Sums over all rows; in a basis refined as often as digits are lost."""
    part = _sum(source, plan, plan.charts, progress)
    A = part.A
    grams = Grams(A.n, A.vv, tuple(zz.sum(axis=0) for zz in A.zz))
    sifted = sifted_of(plan.charts, grams)
    if all(one.sure for one in sifted):
        return part, sifted
    charts = plan.charts
    while not all(one.sure for one in sifted):
        charts = refined(charts, sifted)
        again: Grams | None = run_pass(
            source,
            plan.columns,
            partial(_grams_batch, plan, charts),
            add_grams,
            progress,
            plan.n + plan.n_dropped,
            "more digits",
        )
        sifted = sifted_of(charts, _checked(again, plan))
    return _sum(source, plan, charts, progress), sifted


def sifted_of(charts: Charts, grams: Grams) -> list[Sifted]:
    """What the Gram matrices of all blocks say, that of ``[X y]`` first."""
    random = zip(charts.random, grams.random, strict=True)
    return [
        sift(charts.fixed, grams.fixed, grams.n),
        *(sift(chart, G, grams.n) for chart, G in random),
    ]


def refined(charts: Charts, sifted: list[Sifted]) -> Charts:
    """How columns are entered in the next round."""
    fixed, *random = sifted
    return replace(charts, fixed=fixed.chart, random=tuple(one.chart for one in random))


def _sum(source: Source, plan: Blueprint, charts: Charts, progress: bool | None) -> Part:
    part: Part | None = run_pass(
        source,
        plan.columns,
        partial(_part_batch, plan, charts),
        add_parts,
        progress,
        plan.n + plan.n_dropped,
        "cross-products",
    )
    return _checked(part, plan)


def _checked(found: P | None, plan: Blueprint) -> P:
    """What a pass found, if it saw the rows of the first one."""
    n = 0 if found is None else found.A.n if isinstance(found, Part) else found.n  # type: ignore[attr-defined]
    if found is None or n != plan.n:
        raise InterlaceError(changed(f"{n} complete rows after {plan.n}"))
    return found


def _part_batch(plan: Blueprint, charts: Charts, batch: Chunk) -> Part | None:
    design = _design_of(plan, batch)
    return None if design is None else part_of(design, charts)


def _grams_batch(plan: Blueprint, charts: Charts, batch: Chunk) -> Grams | None:
    design = _design_of(plan, batch)
    return None if design is None else grams_of(design, charts)


def _design_of(plan: Blueprint, batch: Chunk) -> Design | None:
    stored = frame.pick(batch.table, plan.columns)
    rows = complete_rows(stored, batch.table, first=batch.first)
    return plan.design(rows, batch.table.title) if rows.n else None


def run_pass(
    source: Source,
    columns: tuple[str, ...],
    work: Callable[[Chunk], P | None],
    fold: Callable[[Iterable[P]], P | None],
    progress: bool | None,
    n: int | None,
    what: str,
) -> P | None:
    """One pass, with its bar."""
    with counter(n, progress, what=what, unit="rows") as advance:
        return source.engine.run(source, columns, work, fold, advance)


def _refuse_saturated(rank: int, A: CrossProducts) -> None:
    if rank >= A.n:
        raise InterlaceError(
            f"the fixed effects have {A.p} coefficients for {A.n} rows: leave out predictors"
        )
