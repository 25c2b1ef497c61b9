"""A worker process: reads a problem, then fits it each time a line with a method arrives.

``python -m benchmarks.peers.worker MODULE DIRECTORY`` answers on standard output, one line of JSON
after ``@@`` for each request; whatever a package prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import warnings
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TextIO

from benchmarks import storage
from benchmarks.peers.common import Unsupported


def main(module: str, directory: str) -> None:
    replies = take_stdout()
    warnings.simplefilter("ignore")
    stored = storage.read(Path(directory))
    adapter = importlib.import_module(f"benchmarks.peers.{module}")
    send(replies, {"version": version_of(package_of(module))})
    for line in sys.stdin:
        send(replies, fit(adapter, stored, method=line.strip()))


def take_stdout() -> TextIO:
    """The original standard output; later prints of packages go to standard error instead."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def send(replies: TextIO, message: dict[str, object]) -> None:
    replies.write("@@" + json.dumps(message) + "\n")
    replies.flush()


def fit(adapter: ModuleType, stored: storage.Stored, *, method: str) -> dict[str, object]:
    """One timed run of what ``prepare`` gives: a fit, from frame to result, or a task after it."""
    try:
        run = adapter.prepare(stored, method=method)
        earlier = peak_mb()
        reset_peak()
        before = resident_mb()
        start, used = time.perf_counter(), time.process_time()
        result = run()
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
    except Unsupported as reason:
        return {"unsupported": str(reason)}
    except Exception as error:  # a peer may raise anything: the table must show it
        return {"error": f"{type(error).__name__}: {error}"[:300], "process_mb": peak_mb()}
    peak = peak_mb()
    answer = asdict(adapter.answer(result))
    memory = {"peak_mb": peak, "before_mb": before, "process_mb": max(earlier, peak)}
    return {"seconds": seconds, "cpu_seconds": cpu, **memory, **answer}


def package_of(module: str) -> str:
    """The package of an adapter."""
    for ending in ("_cholesky", "_tasks", "_general"):
        module = module.removesuffix(ending)
    return module


def version_of(package: str) -> str:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return str(getattr(sys.modules[package], "__version__", ""))


def reset_peak() -> None:
    """Start the peak anew (Linux; elsewhere it stays that of the process so far)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_mb() -> float:
    peak = status_mb("VmHWM")
    if peak is not None:
        return peak
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def resident_mb() -> float | None:
    return status_mb("VmRSS")


def status_mb(field: str) -> float | None:
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    lines = (line.split() for line in path.read_text().splitlines())
    return next((int(words[1]) / 1024 for words in lines if words[0] == f"{field}:"), None)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
