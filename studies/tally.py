"""Counts over data sets, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from studies.measure import NOMINAL_MISS, Cell, Effort, Miss

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
class Study:
    """All counts, with what it took to get them."""

    effort: Effort
    seed: int
    version: str
    seconds: float
    processes: int
    counts: tuple[Count, ...]

    def design(self, name: str) -> dict[Cell, Count]:
        return {c.cell: c for c in self.counts if c.design == name}


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


def save(study: Study, path: Path) -> None:
    """Write a study as JSON, a line for each count."""
    head = {k: v for k, v in asdict(study).items() if k != "counts"}
    lines = [
        json.dumps([c.design, *asdict(c.cell).values(), c.n, c.below, c.above])
        for c in study.counts
    ]
    text = json.dumps(head, indent=1)[:-2]
    columns = '["design", "measure", "target", "method", "n", "below", "above"]'
    body = ",\n  ".join(lines)
    path.write_text(f'{text},\n "columns": {columns},\n "counts": [\n  {body}\n ]\n}}\n')


def load(path: Path) -> Study:
    """Read what :func:`save` wrote."""
    stored = json.loads(path.read_text())
    counts = tuple(
        Count(d, Cell(*c), *n) for d, *rest in stored["counts"] for c, n in [(rest[:3], rest[3:])]
    )
    return Study(
        effort=Effort(**stored["effort"]),
        seed=stored["seed"],
        version=stored["version"],
        seconds=stored["seconds"],
        processes=stored["processes"],
        counts=counts,
    )
