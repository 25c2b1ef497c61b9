"""What a new process costs: the import alone, and all of it up to a first small fit."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import storage
from benchmarks.problems import PROBLEMS
from benchmarks.worker_process import ROOT, Machine, Peer, TimeLimit, Worker, WorkerError

IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


@dataclass(frozen=True)
class Startup:
    """Seconds of ``import`` and of a whole process with one sleepstudy fit, one each a run."""

    peer: str
    import_seconds: tuple[float, ...]
    process_seconds: tuple[float, ...]

    @property
    def medians(self) -> tuple[float | None, float]:
        """Median seconds of the import (None where it is not measured) and of the process."""
        seconds = self.import_seconds
        return statistics.median(seconds) if seconds else None, statistics.median(
            self.process_seconds
        )


def measure(peers: Sequence[Peer], machine: Machine, *, runs: int) -> tuple[Startup, ...]:
    """Import and first fit of each installed package, in turn; a first round is not counted."""
    problem = next(p for p in PROBLEMS if p.name == "sleepstudy")
    imports: dict[str, list[float]] = {}
    processes: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        storage.write(problem, directory)
        for _ in range(runs + 1):
            for peer in peers:
                seconds = first_fit(peer, machine, directory)
                if seconds is not None:
                    processes.setdefault(peer.name, []).append(seconds)
                    imports.setdefault(peer.name, []).extend(import_seconds(peer, machine))
    return tuple(Startup(k, tuple(imports[k][1:]), tuple(v[1:])) for k, v in processes.items())


def first_fit(peer: Peer, machine: Machine, directory: Path) -> float | None:
    """Seconds from starting a process to its first result; None if it gives none."""
    start = time.perf_counter()
    try:
        with Worker(machine, peer, directory) as worker:
            worker.hello()
            reply = worker.ask(peer.method, limit=60.0)
            return time.perf_counter() - start if "seconds" in reply else None
    except (FileNotFoundError, WorkerError, TimeLimit):
        return None


def import_seconds(peer: Peer, machine: Machine) -> list[float]:
    """Seconds of the import in a fresh process, as a list of one; empty for R packages."""
    python, *_ = machine.command(peer, Path())
    if peer.module.startswith("lme4"):
        return []
    code = IMPORT.format(peer.module.removesuffix("_cholesky"))
    done = subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=machine.environment(peer),
    )
    return [float(done.stdout.split()[-1])]
