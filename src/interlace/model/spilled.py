"""Generalised models of rows that do not fit in memory: read once into a scratch file, sorted.

The first pass over a source finds the levels, as for Gaussian models; the second encodes every row
and writes it.  All that follows are passes over the scratch file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from interlace.design import frame
from interlace.design.complete import CompleteRows, complete_rows
from interlace.design.design import Design
from interlace.design.formula import MixedFormula
from interlace.design.labels import row_name
from interlace.design.recipe import Recipe
from interlace.errors import InterlaceError
from interlace.glmm.families import Family
from interlace.glmm.problem import prior_precision, unit_of
from interlace.glmm.stored import Entry, codes_of
from interlace.glmm.storing import SAMPLE, Buckets, Sorted, streamed_problem
from interlace.glmm.streamed import StreamedProblem
from interlace.glmm.working import Unheld
from interlace.glmm.zeros import base_of
from interlace.machine.progress import counter
from interlace.machine.scratch import Column, Scratch, Segment, compact
from interlace.model.fitted import Options
from interlace.model.outcomes import (
    RESPONDS,
    Place,
    check_terms,
    check_weights,
    checked_response,
    exposed,
    trials_of,
)
from interlace.sources.passes import refined, sifted_of
from interlace.sources.plan import Blueprint, plan_of
from interlace.sources.recode import changed
from interlace.sources.scan import Request, Scan
from interlace.sources.source import Chunk, Source
from interlace.sums.parts import Chart, Charts, Grams, Sifted, add_grams, finished, grams_of
from interlace.sums.rows import Basis, Rows
from interlace.sums.sizes import require_squares
from interlace.sums.terms import Floats

_ROWS = 1 << 17


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows of a batch as stored columns; what is known of their places in the data."""

    columns: dict[str, Column]
    rows: CompleteRows
    title: str
    design: Design


@dataclass(eq=False)
class _Written:
    """What is kept of the rows as they are written: responses, trials, weights, and places."""

    y: list[Column] = field(default_factory=list)
    trials: list[Column] = field(default_factory=list)
    weights: float = 0.0
    n: int = 0
    places: list[tuple[int, CompleteRows, str]] = field(default_factory=list)

    def note(self, batch: _Batch) -> None:
        """Of one batch."""
        rows = replace(batch.rows, columns={})
        kept = batch.rows.kept
        if kept.all():
            rows = replace(rows, kept=np.broadcast_to(np.True_, len(kept)))
        self.places.append((self.n, rows, batch.title))
        self.n += rows.n
        self.y.append(compact(batch.columns["y"]))
        self.trials.append(compact(batch.columns["trials"]))
        self.weights += float(np.asarray(batch.columns["weights"], dtype=np.float64).sum())

    def called(self, row: int) -> str:
        """What messages call a row used."""
        starts = [start for start, _, _ in self.places]
        at = int(np.searchsorted(starts, row, side="right")) - 1
        start, rows, title = self.places[at]
        return row_name(rows.index, int(np.flatnonzero(rows.kept)[row - start]), title, rows.first)


def spilled(
    spec: MixedFormula,
    source: Source,
    read: tuple[Request, Scan],
    options: Options,
    family: Family,
) -> StreamedProblem:
    """The problem of the rows of a source, in a scratch file; ``read`` is the first pass.

    Raises
    ------
    InterlaceError
        Data that cannot be used, or no room for the file.
    """
    request, scan = read
    plan = plan_of(
        spec,
        scan,
        request.columns,
        weights=options.weights if isinstance(options.weights, str) else None,
        offset=options.offset if isinstance(options.offset, str) else None,
        context=None,
        declared=source.declared,
        whole=False,
        respond=RESPONDS.get(base_of(family).name),
    )
    like = plan.like
    check_terms(like.terms, plan.n, family)
    buckets = Buckets.of(like.terms[0].group, like.terms[0].l, plan.n)
    try:
        grams, written = _dealt(source, plan, options, buckets)
        scaled = _checked(spec, written, options, family)
        based = _based(plan, buckets, grams)
        found = _sorted(plan, buckets, options, family, scaled=scaled)
    finally:
        buckets.close()
    return _problem(plan, options, found, *based)


def _based(plan: Blueprint, buckets: Buckets, grams: Grams) -> tuple[Charts, list[Sifted], Grams]:
    """A basis of the columns; rows are looked at again as often as digits are lost."""
    charts, sifted = plan.charts, sifted_of(plan.charts, grams)
    while not all(one.sure for one in sifted):
        charts = refined(charts, sifted)
        seen = _rows_again(plan, buckets)
        again = add_grams(grams_of(rows, charts, moments=True) for rows in seen)
        assert again is not None
        sifted, grams = sifted_of(charts, again), again
    sifted[0] = _with_response(sifted[0])
    return charts, sifted, grams


def _sorted(
    plan: Blueprint, buckets: Buckets, options: Options, family: Family, *, scaled: bool
) -> Sorted:
    """The rows of all buckets, sorted into one file; ``scaled`` responses are shares of trials."""
    found, rng = Sorted(plan.like.terms, family), np.random.default_rng(0)
    try:
        with counter(plan.n, options.progress, what="sorting", unit="rows") as advance:
            for piece in buckets.emptied():
                n = len(piece["y"])
                if scaled:
                    y, trials = (piece[name].astype(np.float64) for name in ("y", "trials"))
                    piece["y"] = np.round(y * trials)
                found.add(piece, min(1.0, SAMPLE / plan.n), rng)
                advance(n)
    except BaseException:  # also an interruption: the place is given back at once
        found.scratch.close()
        raise
    return found


def _dealt(
    source: Source, plan: Blueprint, options: Options, buckets: Buckets
) -> tuple[Grams, _Written]:
    """Encode all rows and deal them out; sums that a basis is chosen by."""
    written = _Written()

    def grams() -> Iterator[Grams]:
        for partition in source.partitions:
            for chunk in partition.batches(plan.columns):
                batch = _encoded(plan, options, chunk)
                advance(chunk.table.n)
                if batch is not None:
                    written.note(batch)
                    buckets.deal(batch.columns)
                    alone = replace(batch.design, weights=None)
                    yield grams_of(alone, plan.charts, moments=True)

    with counter(plan.n + plan.n_dropped, options.progress, what="rows", unit="rows") as advance:
        found = add_grams(grams())
    if written.n != plan.n or found is None:
        raise InterlaceError(changed(f"{written.n} complete rows after {plan.n}"))
    return found, written


def _encoded(plan: Blueprint, options: Options, chunk: Chunk) -> _Batch | None:
    """Rows of a batch as stored columns."""
    title = chunk.table.title
    stored = frame.pick(chunk.table, plan.columns)
    rows = complete_rows(stored, chunk.table, first=chunk.first)
    if not rows.n:
        return None
    design = plan.design(rows, title)
    require_squares(design)
    offset = exposed(design.offset, options.exposure, rows, title)
    trials = trials_of(options.trials, rows, title)
    ones, zeros = np.ones(rows.n), np.zeros(rows.n)
    columns: dict[str, Column] = {
        codes_of(t.group): codes.astype(np.int32)
        for t, codes in zip(design.terms, design.codes, strict=True)
    }
    columns["y"] = design.y
    columns["trials"] = ones if trials is None else trials
    columns["weights"] = ones if design.weights is None else design.weights
    columns["offset"] = zeros if offset is None else offset
    for names, matrix in _matrices(design):
        for name, column in zip(names, matrix.T, strict=True):
            if name is not None:
                columns[name] = column
    return _Batch(columns, rows, title, design)


def _matrices(design: Design) -> Iterator[tuple[tuple[str | None, ...], Floats]]:
    """Names under which the columns of ``X`` and of every ``Z`` are stored, and these columns."""
    fixed = tuple(_stored_as(name) for name in design.names)
    yield fixed, design.X
    for j, (term, Z) in enumerate(zip(design.terms, design.Z, strict=True)):
        known = {*design.names, "Intercept"}
        if set(term.columns) <= known:
            yield tuple(_stored_as(name) for name in term.columns), Z
        else:
            yield tuple(f"column::{j}:{name}" for name in term.columns), Z


def _stored_as(name: str) -> str | None:
    """Under what name a column of ``X`` is stored; ``None`` for the intercept."""
    return None if name == "Intercept" else f"column:{name}"


def _checked(spec: MixedFormula, written: _Written, options: Options, family: Family) -> bool:
    """Refuse a response that the family cannot have; whether it is proportions of trials."""
    y = np.concatenate([np.asarray(part, dtype=np.float64) for part in written.y])
    trials = None
    if options.trials is not None:
        trials = np.concatenate([np.asarray(part, dtype=np.float64) for part in written.trials])
    if options.weights is not None:
        check_weights(np.array([written.weights / written.n]))
    place = Place(spec.response, options, written.called, family)
    found = checked_response(y, trials, place)
    return found is not y and not np.array_equal(found, y)


def _rows_again(plan: Blueprint, buckets: Buckets) -> Iterator[Rows]:
    """The rows that were dealt out, for another look at their columns."""
    like = plan.like
    for file, segments in zip(buckets.files, buckets.segments, strict=True):
        for segment in segments:
            for start in range(0, segment.n, _ROWS):
                yield _rows_of(like, file, segment, slice(start, min(start + _ROWS, segment.n)))


def _rows_of(like: Design, file: Scratch, segment: Segment, part: slice) -> Rows:
    def read(name: str | None) -> Floats:
        if name is None:
            return np.ones(part.stop - part.start)
        return np.asarray(file.read(segment, name, part), dtype=np.float64)

    X, *Z = (np.stack([read(name) for name in names], axis=1) for names, _ in _matrices(like))
    codes = tuple(file.read(segment, codes_of(t.group), part).astype(np.intp) for t in like.terms)
    return Rows(read("y"), X, like.names, tuple(Z), codes, like.terms, None, read("offset"))


def _problem(
    plan: Blueprint,
    options: Options,
    found: Sorted,
    charts: Charts,
    sifted: Sequence[Sifted],
    grams: Grams,
) -> StreamedProblem:
    """The problem in a working basis; see :func:`interlace.glmm.working.working_rows`."""
    like, sample = plan.like, found.sampled()
    unit = unit_of(found.family, *(sample[c].astype(np.float64) for c in ("y", "trials")))
    A = finished(grams.cross_products(like.names, like.terms, _shifts(charts)), sifted)
    A = replace(A, recipe=Recipe(like.encoding, plan.n_dropped, {}))
    maps = tuple(B * unit for B in A.basis.random)
    matrices = [columns for columns, _ in _matrices(like)]
    p = len(like.names)
    fixed = _entry(matrices[0], charts.fixed, sifted[0].finish[:p, : A.p] * unit)
    random = [
        _entry(columns, chart, np.asarray(np.linalg.solve(chart.shift, B), dtype=np.float64))
        for columns, chart, B in zip(matrices[1:], charts.random, maps, strict=True)
    ]
    head = Unheld(
        names=A.names,
        dropped=A.dropped,
        terms=like.terms,
        codes=tuple(np.zeros(0, np.intp) for _ in like.terms),
        X=np.zeros((0, A.p)),
        Z=tuple(None if one.is_ones else np.zeros((0, len(one.columns))) for one in random),
        fixed=A.basis.fixed[:-1, :-1] * unit,
        random=maps,
        recipe=A.recipe,
        summed=A,
    )
    sd = options.fixed_prior
    precision = None if sd is None else prior_precision(head, sd)
    # Lines of the search say enough where these are asked for; bars are for who is watching.
    progress = None if options.progress is None else False
    return streamed_problem(found, head, fixed, random, precision=precision, progress=progress)


def _shifts(charts: Charts) -> Basis:
    """From the user's columns to those entered."""
    shift = charts.fixed.shift.copy()
    shift[-1] /= charts.unit
    return Basis(shift, tuple(one.shift for one in charts.random))


def _with_response(fixed: Sifted) -> Sifted:
    """The response among the columns kept, if it is reproduced by the others too."""
    if fixed.kept[-1]:
        return fixed
    last = np.append(np.zeros(len(fixed.kept) - 1), 1.0)
    return replace(
        fixed,
        kept=np.append(fixed.kept[:-1], True),
        finish=np.column_stack((fixed.finish, last)),
    )


def _entry(columns: tuple[str | None, ...], chart: Chart, finish: Floats) -> Entry:
    """How stored columns are entered, less their centre, and times what makes them working ones."""
    m = len(finish)
    mix = finish if chart.mix is None else chart.mix[:m, :m] @ finish
    return Entry(columns, chart.center[:m], mix)
