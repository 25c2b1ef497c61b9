"""Counts over data sets, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.measure import NOMINAL_MISS, PARTS, Cell, Miss, Part

FLAG = 3.0  # Monte-Carlo standard errors


@dataclass(frozen=True)
class Count:
    """How often the truth was missed, over ``n`` data sets of a design."""

    design: str
    cell: Cell
    n: int
    below: int
    above: int

    @property
    def misses(self) -> int:
        return self.below + self.above

    @property
    def rate(self) -> float:
        """Share of data sets that missed: size of a test, one less the coverage."""
        return self.misses / self.n

    @property
    def excess(self) -> float:
        """Misses above the nominal rate, in Monte-Carlo standard errors."""
        return (self.rate - NOMINAL_MISS) / standard_error(NOMINAL_MISS, self.n)

    @property
    def is_off(self) -> bool:
        """Further from nominal than Monte-Carlo error explains."""
        return abs(self.excess) > FLAG


@dataclass(frozen=True)
class Run:
    """The counts of one part, with what it took to get them."""

    part: Part
    seconds: float
    processes: int
    version: str
    counts: tuple[Count, ...]


@dataclass(frozen=True)
class Study:
    """All parts."""

    seed: int
    runs: tuple[Run, ...]

    def part(self, name: str) -> Part:
        return next(run.part for run in self.runs if run.part.name == name)

    def design(self, name: str) -> dict[Cell, Count]:
        return {c.cell: c for run in self.runs for c in run.counts if c.design == name}

    def updated(self, run: Run) -> Study:
        """The study with a part replaced, or added."""
        runs = {r.part.name: r for r in (*self.runs, run)}
        return Study(self.seed, tuple(runs[name] for name in PARTS if name in runs))


def standard_error(rate: float, n: int) -> float:
    """Binomial standard error of a share of ``n``."""
    return math.sqrt(rate * (1.0 - rate) / n)


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100.0 * share:.1f}"


def count(design: str, verdicts: Iterable[Mapping[Cell, Miss]]) -> list[Count]:
    """Add up the verdicts of a design's data sets."""
    sums: dict[Cell, list[int]] = {}
    for verdict in verdicts:
        for cell, miss in verdict.items():
            total = sums.setdefault(cell, [0, 0, 0])
            total[0] += 1
            total[1] += miss.below
            total[2] += miss.above
    return [Count(design, cell, *total) for cell, total in sums.items()]


COLUMNS = ("design", "measure", "target", "method", "n", "below", "above")


def save(study: Study, path: Path) -> None:
    """Write a study as JSON, a line for each count."""
    runs = ",\n".join(map(_written, study.runs))
    path.write_text(
        f'{{"seed": {study.seed}, "columns": {json.dumps(COLUMNS)}, "runs": [\n{runs}\n]}}\n'
    )


def _written(run: Run) -> str:
    head = json.dumps({k: v for k, v in asdict(run).items() if k != "counts"})
    rows = [[c.design, *asdict(c.cell).values(), c.n, c.below, c.above] for c in run.counts]
    body = ",\n  ".join(map(json.dumps, rows))
    return f'{head[:-1]}, "counts": [\n  {body}\n]}}'


def load(path: Path) -> Study:
    """Read what :func:`save` wrote."""
    stored = json.loads(path.read_text())
    return Study(stored["seed"], tuple(map(_read, stored["runs"])))


def _read(run: dict[str, Any]) -> Run:
    counts = tuple(Count(row[0], Cell(*row[1:4]), *row[4:]) for row in run["counts"])
    return Run(**run | {"part": Part(**run["part"]), "counts": counts})
