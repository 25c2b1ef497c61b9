"""Coverage of intervals and size of tests in three simulated designs.

``python -m studies.coverage`` runs the study and writes docs/simulation-study.json and, from it,
docs/simulation-study.md; ``--report`` only writes the page again; ``--quick`` runs a few data sets
and shows the page on standard output.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import interlace
from studies.designs import DESIGNS, Design
from studies.measure import Cell, Effort, Miss, judge
from studies.page import markdown
from studies.tally import Study, count, load, save

SEED = 20_260
DOCS = Path(__file__).parent.parent / "docs"
FULL = Effort(
    datasets=1000,
    profiled=500,
    bootstrapped=500,
    replicates=399,
    cases_bootstrapped=200,
    cases_replicates=199,
)
QUICK = Effort(
    datasets=4,
    profiled=4,
    bootstrapped=4,
    replicates=19,
    cases_bootstrapped=4,
    cases_replicates=19,
)

Task = tuple[str, int]


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    stored = DOCS / "simulation-study.json"
    if args.quick:
        sys.stdout.write(markdown(run(QUICK, processes=args.processes)))
        return
    if not args.report:
        DOCS.mkdir(exist_ok=True)
        save(run(FULL, processes=args.processes), stored)
    (DOCS / "simulation-study.md").write_text(markdown(load(stored)))


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m studies.coverage", description=__doc__)
    out.add_argument("--processes", type=int, default=os.cpu_count(), help="default: all cores")
    what = out.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="4 data sets a design, nothing saved")
    what.add_argument("--report", action="store_true", help="only write the page, from the JSON")
    return out


def run(effort: Effort, *, processes: int) -> Study:
    """Judge all data sets of all designs; the counts do not depend on the number of processes."""
    began = time.perf_counter()
    tasks = [(name, index) for index in range(effort.datasets) for name in DESIGNS]
    verdicts = dict(zip(tasks, judged(tasks, effort, processes), strict=True))
    counts = [
        c
        for name in DESIGNS
        for c in count(name, [verdicts[name, index] for index in range(effort.datasets)])
    ]
    seconds = round(time.perf_counter() - began, 1)
    return Study(effort, SEED, interlace.__version__, seconds, processes, tuple(counts))


def judged(tasks: Sequence[Task], effort: Effort, processes: int) -> Iterator[Mapping[Cell, Miss]]:
    """Verdicts in the order of the tasks, with a line of progress on standard error."""
    one = functools.partial(judge_task, effort)
    if processes == 1:
        yield from reported(map(one, tasks), len(tasks))
        return
    # Read by the fresh interpreters of the pool: as many threads as there are cores to go round.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        yield from reported(pool.map(one, tasks, chunksize=3), len(tasks))


def judge_task(effort: Effort, task: Task) -> Mapping[Cell, Miss]:
    """One data set, seeded by its design and number."""
    name, index = task
    seed = np.random.SeedSequence(SEED, spawn_key=(list(DESIGNS).index(name), index))
    return judge(built(name), index, seed, effort)


@functools.cache
def built(name: str) -> Design:
    return DESIGNS[name]()


def reported(verdicts: Iterator[Mapping[Cell, Miss]], total: int) -> Iterator[Mapping[Cell, Miss]]:
    """The same, counted on standard error."""
    began = time.perf_counter()
    every = max(1, total // 50)
    for done, verdict in enumerate(verdicts, start=1):
        if done % every == 0 or done == total:
            seconds = time.perf_counter() - began
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{done} of {total} data sets, {seconds:.0f} s{end}")
            sys.stderr.flush()
        yield verdict


if __name__ == "__main__":
    main()
