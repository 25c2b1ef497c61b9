"""Independent tasks in several processes, with results in the order of the tasks.

Threads do not help here: small arrays keep the interpreter busy, not the arithmetic.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def n_workers(n_jobs: int, n_tasks: int) -> int:
    """Processes to use for ``n_jobs``, at most one for each task; -1 means all cores."""
    wanted = (os.cpu_count() or 1) if n_jobs == -1 else int(n_jobs)
    return max(1, min(wanted, n_tasks))


def in_order(
    run: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """``run(task)`` for every task, in the order of the tasks; joblib's processes if several."""
    if workers == 1:
        yield from map(run, tasks)
        return
    from joblib import Parallel, delayed  # here: not everyone needs it

    pool = Parallel(n_jobs=workers, return_as="generator")
    parent = os.getpid()
    yield from pool(delayed(_quietly)(run, task, parent) for task in tasks)


def _quietly(run: Callable[[Task], Result], task: Task, parent: int) -> Result:
    """A task in a process that leaves interrupts to its parent, which ends it."""
    if os.getpid() != parent:  # not where joblib is told to use threads
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return run(task)
