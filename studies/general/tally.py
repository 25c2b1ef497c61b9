"""Counts of misses and moments of estimates over data sets, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.general.measure import PARTS, Verdict
from studies.measure import Cell, Part
from studies.tally import Count, count


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of an estimate over ``n`` data sets of a design."""

    design: str
    cell: Cell
    n: int
    mean: float
    sd: float

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of the mean."""
        return self.sd / math.sqrt(self.n)


@dataclass(frozen=True)
class Run:
    """One part, with what it took; ``failed`` counts data sets without a fit by design."""

    part: Part
    seconds: float
    processes: int
    version: str
    failed: Mapping[str, int]
    counts: tuple[Count, ...]
    moments: tuple[Moments, ...]


@dataclass(frozen=True)
class Study:
    """All parts."""

    seed: int
    runs: tuple[Run, ...]

    def run(self, name: str) -> Run:
        """That of a part."""
        return next(run for run in self.runs if run.part.name == name)

    def counts(self, design: str) -> dict[Cell, Count]:
        """Misses in a design."""
        return {c.cell: c for run in self.runs for c in run.counts if c.design == design}

    def moments(self, design: str) -> dict[Cell, Moments]:
        """Estimates in a design."""
        return {m.cell: m for run in self.runs for m in run.moments if m.design == design}

    def updated(self, run: Run) -> Study:
        """The study with a part replaced, or added."""
        runs = {r.part.name: r for r in (*self.runs, run)}
        return Study(self.seed, tuple(runs[name] for name in PARTS if name in runs))


def added(
    design: str, verdicts: Sequence[Verdict]
) -> tuple[int, Iterable[Count], Iterable[Moments]]:
    """Failures, misses and moments over the verdicts of a design's data sets.

    Estimates that separation leaves without a finite value are left out of the moments.
    """
    fitted = [v for v in verdicts if not v.failed]
    estimates: dict[Cell, list[float]] = {}
    for verdict in fitted:
        if not any(c.target == "separated" and miss.above for c, miss in verdict.misses):
            for cell, value in verdict.estimates:
                estimates.setdefault(cell, []).append(value)
    moments = [Moments(design, cell, *_moments(values)) for cell, values in estimates.items()]
    counts = count(design, [dict(v.misses) for v in fitted])
    return len(verdicts) - len(fitted), counts, moments


def _moments(values: Sequence[float]) -> tuple[int, float, float]:
    n, mean = len(values), math.fsum(values) / len(values)
    spread = math.fsum((v - mean) ** 2 for v in values) / max(n - 1, 1)
    return n, round(mean, 6), round(math.sqrt(spread), 6)


def save(study: Study, path: Path) -> None:
    """Write a study as JSON, a line for each count."""
    runs = ",\n".join(map(_written, study.runs))
    path.write_text(f'{{"seed": {study.seed}, "runs": [\n{runs}\n]}}\n')


def _written(run: Run) -> str:
    head = json.dumps({k: v for k, v in asdict(run).items() if k not in ("counts", "moments")})
    counts = [[c.design, *asdict(c.cell).values(), c.n, c.below, c.above] for c in run.counts]
    moments = [[m.design, *asdict(m.cell).values(), m.n, m.mean, m.sd] for m in run.moments]
    return f'{head[:-1]}, "counts": {_lines(counts)}, "moments": {_lines(moments)}}}'


def _lines(rows: Sequence[Sequence[object]]) -> str:
    """A list with a line for each row."""
    body = ",\n  ".join(map(json.dumps, rows))
    return f"[\n  {body}\n]"


def load(path: Path) -> Study:
    """Read what :func:`save` wrote."""
    stored = json.loads(path.read_text())
    return Study(stored["seed"], tuple(map(_read, stored["runs"])))


def _read(run: dict[str, Any]) -> Run:
    counts = tuple(Count(row[0], Cell(*row[1:4]), *row[4:]) for row in run["counts"])
    moments = tuple(Moments(row[0], Cell(*row[1:4]), *row[4:]) for row in run["moments"])
    part = Part(**run["part"])
    return Run(**run | {"part": part, "counts": counts, "moments": moments})
