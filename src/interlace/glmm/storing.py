"""Rows that come part by part, sorted by their levels into a scratch file, and added up there.

Parts are dealt out to buckets by their level of the first term.  A bucket is small enough to be
sorted in memory; rows that share levels and covariates are in one bucket and, where they are many,
added up as :mod:`interlace.glmm.patterns` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from interlace.glmm.families import Family
from interlace.glmm.parts import parts_of
from interlace.glmm.patterns import found_patterns
from interlace.glmm.problem import Problem, problem_of
from interlace.glmm.stored import Entry, Stored, codes_of
from interlace.glmm.streamed import StreamedProblem
from interlace.glmm.working import Working
from interlace.machine.scratch import Column, Scratch, Segment
from interlace.sums.cells import Codes
from interlace.sums.terms import Floats, ReTerm

Piece = Mapping[str, Column]
# Bytes of a row, about, and of a bucket; buckets at most, each of which is a file.
_ROW, _BUCKET, _MOST = 64, 1 << 27, 200
# Rows drawn at random for the start of the search.
SAMPLE = 50_000


@dataclass(frozen=True, eq=False)
class Buckets:
    """Files among which rows are dealt out by their level of ``group``."""

    group: str
    levels: int
    files: tuple[Scratch, ...]
    segments: tuple[list[Segment], ...]

    @classmethod
    def of(cls, group: str, levels: int, n: int) -> Buckets:
        """Empty ones for about ``n`` rows."""
        count = int(np.clip(-(-n * _ROW // _BUCKET), 1, min(_MOST, levels)))
        files = tuple(Scratch() for _ in range(count))
        return cls(group, levels, files, tuple([] for _ in files))

    def deal(self, piece: Piece) -> None:
        """Write rows, each to its bucket."""
        count = len(self.files)
        if count == 1:
            self.segments[0].append(self.files[0].append(piece))
            return
        own = np.asarray(piece[codes_of(self.group)], dtype=np.int64) * count // self.levels
        order = np.argsort(own, kind="stable")
        ends = np.searchsorted(own[order], np.arange(count + 1))
        moved = {name: column[order] for name, column in piece.items()}
        for i in np.flatnonzero(np.diff(ends)):
            rows = slice(int(ends[i]), int(ends[i + 1]))
            part = {name: column[rows] for name, column in moved.items()}
            self.segments[i].append(self.files[i].append(part))

    def emptied(self) -> Iterator[dict[str, Column]]:
        """The rows of every bucket in turn, whose file is let go of."""
        for file, segments in zip(self.files, self.segments, strict=True):
            if segments:
                names = [*segments[0].places, *segments[0].constants]
                yield {
                    name: np.concatenate(
                        [file.read(one, name, slice(0, one.n)) for one in segments]
                    )
                    for name in names
                }
            file.close()

    def close(self) -> None:
        """Give all places back."""
        for file in self.files:
            file.close()


@dataclass(eq=False)
class Sorted:
    """What is found as buckets are sorted: segments, pairs of levels, a sample, and sums.

    ``alike`` are successes and trials by level of every term, ``(l, 2)``.
    """

    terms: tuple[ReTerm, ...]
    family: Family
    scratch: Scratch = field(default_factory=Scratch)
    segments: list[Segment] = field(default_factory=list)
    pairs: dict[tuple[int, int], list[Codes]] = field(default_factory=dict)
    sample: list[dict[str, Column]] = field(default_factory=list)
    alike: list[Floats] = field(default_factory=list)
    constant: float = 0.0
    n: int = 0
    weighted: bool = False

    def add(self, piece: Piece, share: float, rng: np.random.Generator) -> None:
        """Sort the rows of a bucket, add up those that are alike, and write them."""
        codes = [np.asarray(piece[codes_of(t.group)], dtype=np.intp) for t in self.terms]
        order = np.lexsort(codes[1::-1])
        piece = {name: column[order] for name, column in piece.items()}
        drawn = np.flatnonzero(rng.random(len(order)) < share)
        self.sample.append({name: column[drawn] for name, column in piece.items()})
        self.n += len(order)
        piece = self._added_up(piece, [own[order] for own in codes])
        self._note(piece)
        self.segments.append(self.scratch.append(piece))

    def _added_up(self, piece: Piece, codes: Sequence[Codes]) -> Piece:
        """The rows of a bucket, collapsed where patterns are few."""
        names = [name for name in piece if name.startswith("column:")]
        X = np.empty((len(codes[0]), len(names)))
        for column, name in zip(X.T, names, strict=True):
            column[:] = piece[name]
        y, trials, weights, offset = (
            np.asarray(piece[name], dtype=np.float64)
            for name in ("y", "trials", "weights", "offset")
        )
        rows = Working(
            names=(),
            dropped=(),
            terms=self.terms,
            codes=tuple(codes),
            X=X,
            Z=(),
            fixed=np.eye(0),
            random=(),
            patterns=found_patterns(codes, X.T),
        )
        plain = None if (weights == 1.0).all() else weights
        whole = problem_of(self.family, rows, y, trials=trials, weights=plain, offset=offset)
        found = whole.collapsed()
        self.constant += found.constant
        self.weighted |= found.weights is not None
        if found is whole:
            return piece
        return self._as_piece(found, names)

    def _as_piece(self, found: Problem, names: Sequence[str]) -> Piece:
        """Rows as columns; sorted again, since patterns come in an order of their own."""
        codes = found.rows.codes
        order = np.lexsort(codes[1::-1])
        weights = np.ones(len(order)) if found.weights is None else found.weights
        piece: dict[str, Column] = {
            codes_of(t.group): own[order] for t, own in zip(self.terms, codes, strict=True)
        }
        piece |= {name: column[order] for name, column in zip(names, found.rows.X.T, strict=True)}
        own = {"y": found.y, "trials": found.trials, "weights": weights, "offset": found.offset}
        return piece | {name: column[order] for name, column in own.items()}

    def _note(self, piece: Piece) -> None:
        """Pairs of levels, and sums by level."""
        codes = [np.asarray(piece[codes_of(t.group)], dtype=np.int64) for t in self.terms]
        for i in range(len(codes)):
            for j in range(i + 1, len(codes)):
                keys = codes[i] * self.terms[j].l + codes[j]
                new = keys[np.append(True, keys[1:] != keys[:-1])] if (i, j) == (0, 1) else keys
                own = new if (i, j) == (0, 1) else np.unique(new)
                held = self.pairs.setdefault((i, j), [])
                held.append(own)
                if (i, j) != (0, 1) and sum(map(len, held[1:])) > len(held[0]):
                    self.pairs[i, j] = [np.unique(np.concatenate(held))]
        if self.family.name != "binomial":
            return
        self.alike = self.alike or [np.zeros((t.l, 2)) for t in self.terms]
        for total, term, own in zip(self.alike, self.terms, codes, strict=True):
            for c, name in enumerate(("y", "trials")):
                weights = np.asarray(piece[name], dtype=np.float64)
                total[:, c] += np.bincount(own, weights=weights, minlength=term.l)

    def sampled(self) -> dict[str, Column]:
        """Columns of rows drawn at random."""
        parts = [part for part in self.sample if len(part["y"])]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def pair_levels(self) -> dict[tuple[int, int], tuple[Codes, Codes]]:
        """Pairs of levels that occur, sorted."""
        found: dict[tuple[int, int], tuple[Codes, Codes]] = {}
        for (i, j), held in self.pairs.items():
            keys = np.concatenate(held) if (i, j) == (0, 1) else np.unique(np.concatenate(held))
            self.pairs[i, j] = []
            width = self.terms[j].l
            rows = (keys // width).astype(np.int32)
            keys %= width
            found[i, j] = (rows, keys.astype(np.int32))
        return found


def streamed_problem(
    found: Sorted,
    head: Working,
    fixed: Entry,
    random: Sequence[Entry],
    *,
    precision: Floats | None = None,
    progress: bool | None = False,
) -> StreamedProblem:
    """The problem of rows that have been sorted; ``head`` has none, but their names and maps."""
    none = np.zeros(0)
    G, parts = parts_of(found.family, 0, head.p)
    problem = Problem(
        family=found.family,
        rows=head,
        y=none,
        trials=none,
        weights=none if found.weighted else None,
        offset=none,
        G=G,
        constant=found.constant,
        parts=parts,
        precision=precision,
    )
    places = found.pair_levels()
    stored = Stored(
        found.scratch, tuple(found.segments), problem, fixed, tuple(random), places, progress
    )
    sample = found.sampled()
    own = {name: getattr(problem, name) for name in Problem.__dataclass_fields__}
    return StreamedProblem(
        **own,
        stored=stored,
        sample=stored.problem_of(sample.__getitem__, len(sample["y"])),
        alike=found.alike,
    )
