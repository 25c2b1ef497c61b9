"""Progress of long fits, shown when a person is watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

# A fit that takes longer than this is worth a line on the terminal.
_PATIENCE_SECONDS = 2.0


class Point(Protocol):
    """What a search has come to."""

    @property
    def value(self) -> float:
        """Of the criterion."""
        ...

    @property
    def work(self) -> str:
        """What it took beside an evaluation; empty for nothing."""
        ...


Watch = Callable[[int, Point, float], None]


@contextmanager
def watcher(progress: bool | None) -> Iterator[Watch | None]:
    """Something to call after each evaluation; ``None`` if nobody wants to see it.

    ``True`` leaves a line for each on standard error, ``None`` shows a bar on a terminal.
    """
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield None
        return
    if progress is True:
        yield _line
        return
    from tqdm import tqdm

    delay = _PATIENCE_SECONDS
    bar = tqdm(
        desc="fit",
        unit=" evaluations",
        file=sys.stderr,
        leave=False,
        delay=delay,
        mininterval=0.0,
    )
    began = time.perf_counter()

    def watch(n: int, point: Point, gain: float) -> None:
        if time.perf_counter() - began >= delay:
            bar.set_postfix_str(f"criterion {point.value:.6g}, to gain {gain:.1e}", refresh=False)
        bar.update(n - bar.n)

    try:
        yield watch
    finally:
        bar.close()


def _line(n: int, point: Point, gain: float) -> None:
    """One line about an evaluation."""
    work = f", {point.work}" if point.work else ""
    sys.stderr.write(f"evaluation {n}: criterion {point.value:.6f}, to gain {gain:.1e}{work}\n")
    sys.stderr.flush()


@contextmanager
def counter(
    total: int | None, progress: bool | None, *, what: str, unit: str
) -> Iterator[Callable[[int], None]]:
    """Something to call with how many of ``total`` (if known) are newly done."""
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield lambda _: None
        return
    from tqdm import tqdm

    bar = tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        file=sys.stderr,
        leave=progress is True,
        delay=0.0 if progress else _PATIENCE_SECONDS,
    )

    def advance(done: int) -> None:
        bar.update(done)

    try:
        yield advance
    finally:
        bar.close()
