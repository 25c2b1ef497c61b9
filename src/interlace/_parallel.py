"""Independent tasks in several processes, results in order, ended cleanly by an interrupt.

Threads do not help here: small arrays keep the interpreter busy, not the arithmetic.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import platform
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import Event
from typing import Any, TypeVar, cast

from interlace.errors import InterlaceError

Task = TypeVar("Task")
Result = TypeVar("Result")

# What a worker works with; set once when it starts.
_worker: list[Any] = []


def n_workers(n_jobs: int, n_tasks: int) -> int:
    """Processes to use for ``n_jobs``, at most one for each task; -1 means all cores."""
    wanted = (os.cpu_count() or 1) if n_jobs == -1 else int(n_jobs)
    return max(1, min(wanted, n_tasks))


def in_order(
    run: Callable[[Task, Callable[[], bool]], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """``run(task, stopped)`` for every task, in the order of the tasks.

    ``stopped()`` tells a long task that nobody waits for it any more.
    """
    if workers == 1:
        for task in tasks:
            yield run(task, _never)
        return
    context = _context(run)
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start, (run, stop))
    remaining = iter(tasks)
    waiting: deque[Future[object]] = deque()
    try:
        while True:
            for task in islice(remaining, 2 * workers - len(waiting)):
                waiting.append(_submit(pool, task))
            if not waiting:
                break
            yield cast("Result", waiting.popleft().result())
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _never() -> bool:
    return False


def _context(run: object) -> BaseContext:
    """How to start processes: forked where that is safe, so that nothing need be pickled."""
    if platform.system() == "Linux":
        return multiprocessing.get_context("fork")
    try:
        pickle.dumps(run)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InterlaceError(
            f"processes cannot share what is to be computed ({error}): define the statistic as a "
            f"function of a module, or use n_jobs=1"
        ) from error
    return multiprocessing.get_context("spawn")


def _start(run: Callable[..., object], stop: Event) -> None:
    """In a new process: remember the work, and let an interrupt end it without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _worker[:] = [run, stop]


def _submit(pool: ProcessPoolExecutor, task: object) -> Future[object]:
    """Hand a task to the pool, whose processes start with the first one."""
    with warnings.catch_warnings():
        # Python warns of forking a process with threads.  Those here are numpy's and wait for
        # work; the children only compute.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        return pool.submit(_work, task)


def _work(task: object) -> object:
    """One task, in a worker."""
    run, stop = _worker
    return run(task, stop.is_set)
