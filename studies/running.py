"""Many independent tasks of a study, in processes, with a line of progress."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
V = TypeVar("V")


def in_turn(judge: Callable[[T], V], tasks: Sequence[T], processes: int, name: str) -> Iterator[V]:
    """Verdicts in the order of the tasks, with a line of progress on standard error."""
    if processes == 1:
        yield from reported(map(judge, tasks), len(tasks), name)
        return
    # Read by the fresh interpreters of the pool, each of which is to use one thread.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        yield from reported(pool.map(judge, tasks, chunksize=3), len(tasks), name)


def reported(verdicts: Iterator[V], total: int, name: str) -> Iterator[V]:
    """The same, counted on standard error."""
    began = time.perf_counter()
    every = max(1, total // 50)
    for done, verdict in enumerate(verdicts, start=1):
        if done % every == 0 or done == total:
            seconds = time.perf_counter() - began
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{name}: {done} of {total} data sets, {seconds:.0f} s{end}")
            sys.stderr.flush()
        yield verdict
