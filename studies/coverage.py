"""Coverage of intervals and size of tests in three simulated designs.

``python -m studies.coverage`` runs the study and writes docs/simulation-study.json and, from it,
docs/simulation-study.md; ``--only`` repeats one part of it, ``--report`` only writes the page
again; ``--quick`` runs a few data sets and shows the page on standard output.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import interlace
from studies.designs import DESIGNS, Design
from studies.measure import CASES, FITS, NEW_RESPONSES, PARTS, PROFILES, Cell, Miss, Part, judge
from studies.page import markdown
from studies.running import in_turn
from studies.tally import Run, Study, count, load, save

SEED = 20_260
DOCS = Path(__file__).parent.parent / "docs"
FULL = (
    Part(FITS, 1000),
    Part(PROFILES, 500),
    Part(NEW_RESPONSES, 500, replicates=399),
    Part(CASES, 200, replicates=199),
)
QUICK = tuple(Part(name, datasets=4, replicates=19) for name in PARTS)


@dataclass(frozen=True)
class Task:
    """A part of the study for one data set."""

    part: Part
    design: str
    index: int


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.quick:
        sys.stdout.write(markdown(study(QUICK, processes=args.processes)))
        return
    stored = DOCS / "simulation-study.json"
    DOCS.mkdir(exist_ok=True)
    found = load(stored) if args.report or args.only else Study(SEED, ())
    wanted = () if args.report else [p for p in FULL if args.only in (None, p.name)]
    for part in wanted:
        found = found.updated(run(part, processes=args.processes))
        save(found, stored)  # after each part: a broken run keeps the others
    (DOCS / "simulation-study.md").write_text(markdown(found))


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m studies.coverage", description=__doc__)
    out.add_argument("--processes", type=int, default=os.cpu_count(), help="default: all cores")
    what = out.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="4 data sets a design, nothing saved")
    what.add_argument("--only", choices=PARTS, help="repeat one part, keep the others")
    what.add_argument("--report", action="store_true", help="only write the page, from the JSON")
    return out


def study(parts: Sequence[Part], *, processes: int) -> Study:
    """All parts, one after the other."""
    return Study(SEED, tuple(run(part, processes=processes) for part in parts))


def run(part: Part, *, processes: int) -> Run:
    """Judge the data sets of all designs; the counts do not depend on the number of processes."""
    began = time.perf_counter()
    tasks = [Task(part, name, index) for index in range(part.datasets) for name in DESIGNS]
    verdicts = list(judged(tasks, processes))
    counts = [
        total
        for name in DESIGNS
        for total in count(
            name, [v for task, v in zip(tasks, verdicts, strict=True) if task.design == name]
        )
    ]
    seconds = round(time.perf_counter() - began, 1)
    return Run(part, seconds, processes, interlace.__version__, tuple(counts))


def judged(tasks: Sequence[Task], processes: int) -> Iterator[Mapping[Cell, Miss]]:
    """Verdicts in the order of the tasks."""
    return in_turn(judge_task, tasks, processes, tasks[0].part.name)


def judge_task(task: Task) -> Mapping[Cell, Miss]:
    """One data set, seeded by its design and number."""
    key = (list(DESIGNS).index(task.design), task.index)
    seed = np.random.SeedSequence(SEED, spawn_key=key)
    return judge(built(task.design), task.part, seed)


@functools.cache
def built(name: str) -> Design:
    return DESIGNS[name]()


if __name__ == "__main__":
    main()
