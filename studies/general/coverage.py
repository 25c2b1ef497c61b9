"""Bias of estimates and coverage of intervals of generalised models.

``python -m studies.general.coverage`` runs the study and writes docs/simulation-study-general.json
and, from it, docs/simulation-study-general.md; ``--only`` repeats one part of it, ``--report`` only
writes the page again; ``--quick`` runs a few data sets and shows the page on standard output.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import interlace
from studies.general.designs import DESIGNS, MAIN, SMALL, Design
from studies.general.measure import (
    BOOTSTRAPS,
    FITS,
    PARTS,
    PROFILES,
    SMALL_GROUPS,
    Verdict,
    judge,
)
from studies.general.page import markdown
from studies.general.tally import Run, Study, added, load, save
from studies.measure import Part
from studies.running import in_turn

SEED = 20_261
DOCS = Path(__file__).parents[2] / "docs"
FULL = (
    Part(FITS, 1000),
    Part(PROFILES, 200),
    Part(BOOTSTRAPS, 30, replicates=99),
    Part(SMALL_GROUPS, 200),
)
QUICK = tuple(Part(name, datasets=2, replicates=9) for name in PARTS)


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
    stored = DOCS / "simulation-study-general.json"
    found = load(stored) if args.report or args.only else Study(SEED, ())
    wanted = () if args.report else [p for p in FULL if args.only in (None, p.name)]
    for part in wanted:
        found = found.updated(run(part, processes=args.processes))
        save(found, stored)  # after each part: a broken run keeps the others
    (DOCS / "simulation-study-general.md").write_text(markdown(found))


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m studies.general.coverage", description=__doc__)
    out.add_argument("--processes", type=int, default=os.cpu_count(), help="default: all cores")
    what = out.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="2 data sets a design, nothing saved")
    what.add_argument("--only", choices=PARTS, help="repeat one part, keep the others")
    what.add_argument("--report", action="store_true", help="only write the page, from the JSON")
    return out


def study(parts: Sequence[Part], *, processes: int) -> Study:
    """All parts, one after the other."""
    return Study(SEED, tuple(run(part, processes=processes) for part in parts))


def designs_of(part: Part) -> Mapping[str, object]:
    """Designs that a part tries."""
    return SMALL if part.name == SMALL_GROUPS else MAIN


def run(part: Part, *, processes: int) -> Run:
    """Judge the data sets of all designs; the counts do not depend on the number of processes."""
    began, names = time.perf_counter(), list(designs_of(part))
    tasks = [Task(part, name, index) for index in range(part.datasets) for name in names]
    verdicts = list(in_turn(judge_task, tasks, processes, part.name))
    own = {
        name: added(name, [v for t, v in zip(tasks, verdicts, strict=True) if t.design == name])
        for name in names
    }
    return Run(
        part,
        round(time.perf_counter() - began, 1),
        processes,
        interlace.__version__,
        {name: failed for name, (failed, _, _) in own.items()},
        tuple(c for _, counts, _ in own.values() for c in counts),
        tuple(m for _, _, moments in own.values() for m in moments),
    )


def judge_task(task: Task) -> Verdict:
    """One data set, seeded by its design and number."""
    key = (list(DESIGNS).index(task.design), task.index)
    return judge(built(task.design), task.part, np.random.SeedSequence(SEED, spawn_key=key))


@functools.cache
def built(name: str) -> Design:
    return DESIGNS[name]()


if __name__ == "__main__":
    main()
