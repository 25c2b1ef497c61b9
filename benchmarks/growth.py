"""Time of one evaluation of interlace's criterion as n grows and the cells stay the same."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks import storage
from benchmarks.problems import GROWTH, Problem
from benchmarks.worker_process import PEERS, ROOT, Machine

REPEATS = 21

T = TypeVar("T")


@dataclass(frozen=True)
class Growth:
    """One n: seconds of the fit, its evaluations, and seconds of one with its derivatives."""

    n: int
    fit_seconds: float | None = None
    evaluations: int | None = None
    evaluation_seconds: float | None = None
    reason: str = ""


def measure(machine: Machine) -> tuple[Growth, ...]:
    """One row for each size, each in a process of its own."""
    return tuple(measure_one(problem, machine) for problem in GROWTH)


def measure_one(problem: Problem, machine: Machine) -> Growth:
    with tempfile.TemporaryDirectory() as name:
        storage.write(problem, Path(name))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.growth", name],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=machine.environment(PEERS[0]),
        )
        n = storage.read(Path(name)).n
    if done.returncode:
        return Growth(n, reason=done.stderr.strip().splitlines()[-1])
    return Growth(**json.loads(done.stdout))


def one(directory: Path) -> Growth:
    """Fits the stored problem and times single evaluations at the optimum."""
    import interlace
    from benchmarks.peers.common import pandas_frame

    stored = storage.read(directory)
    frame = pandas_frame(stored)
    interlace.fit(stored.formula, frame)  # warms up
    fit_seconds, result = timed(lambda: interlace.fit(stored.formula, frame))
    estimate = result.estimate

    def evaluate() -> None:
        point = estimate.criterion.at_theta(estimate.theta)
        _ = point.value, point.gradient, point.newton_matrix

    seconds = statistics.median(timed(evaluate)[0] for _ in range(REPEATS))
    return Growth(stored.n, fit_seconds, result.convergence.n_evaluations, seconds)


def timed(action: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    out = action()
    return time.perf_counter() - start, out


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(one(Path(sys.argv[1])))))
