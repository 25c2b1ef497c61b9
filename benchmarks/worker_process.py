"""The runner's end of a worker: start it, ask it for a run, stop it at the time limit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent
START_LIMIT = 300.0

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

Reply = dict[str, object]


@dataclass(frozen=True)
class Peer:
    """A package to time.

    ``method`` is what it is asked for: "ML" if it has no REML, or the request of a task. A
    ``general`` one fits generalised models.
    """

    name: str
    module: str
    method: str = "REML"
    general: bool = False


PEERS: tuple[Peer, ...] = (
    Peer("interlace", "interlace"),
    Peer("lme4", "lme4"),
    Peer("lme4-default", "lme4_default"),
    Peer("mixedlm", "mixedlm"),
    Peer("lme-python", "lme_python"),
    Peer("mixedlm-rs", "mixedlm_rs"),
    Peer("statsmodels", "statsmodels"),
    Peer("gpboost", "gpboost", method="ML"),
    Peer("gpboost-cholesky", "gpboost_cholesky", method="ML"),
    Peer("interlace", "interlace_general", method="ML", general=True),
    Peer("glmer", "glmer", method="ML", general=True),
    Peer("glmer-nloptwrap", "glmer_nloptwrap", method="ML", general=True),
    Peer("glmmTMB", "glmmtmb", method="ML", general=True),
    Peer("mixedlm", "mixedlm_general", method="ML", general=True),
    Peer("gpboost", "gpboost_general", method="ML", general=True),
)

# The scripts of workers in R, by the module of the peer.
SCRIPTS = {
    "lme4": "lme4.R",
    "lme4_default": "lme4.R",
    "lme4_tasks": "lme4_tasks.R",
    "glmer": "general.R",
    "glmer_nloptwrap": "general.R",
    "glmmtmb": "general.R",
}


@dataclass(frozen=True)
class Machine:
    """How workers run: threads of every numerical library, and the Python of the peers.

    ``memory_gb`` limits the address space of a worker (where the shell's ``ulimit -v`` can).
    """

    threads: int
    peer_python: str
    memory_gb: float | None = None

    def command(self, peer: Peer, directory: Path) -> list[str]:
        """Command line of the worker; FileNotFoundError if R is needed and missing."""
        command = self.unlimited(peer, directory)
        if self.memory_gb is None:
            return command
        kilobytes = round(self.memory_gb * 2**20)
        return ["sh", "-c", f'ulimit -v {kilobytes} && exec "$@"', "sh", *command]

    def unlimited(self, peer: Peer, directory: Path) -> list[str]:
        if peer.module in SCRIPTS:
            rscript = shutil.which("Rscript")
            if rscript is None:
                raise FileNotFoundError("Rscript is not installed")
            script = ROOT / "benchmarks" / "peers" / SCRIPTS[peer.module]
            return [rscript, str(script), str(directory)]
        python = sys.executable if peer.name == "interlace" else self.peer_python
        return [python, "-m", "benchmarks.peers.worker", peer.module, str(directory)]

    def environment(self, peer: Peer) -> dict[str, str]:
        pinned = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        control = "default" if peer.module == "lme4_default" else "quick"
        return {
            **os.environ,
            **pinned,
            "PYTHONPATH": path,
            "LME4_CONTROL": control,
            "PEER": peer.module,
        }


class WorkerError(Exception):
    """The worker ended without an answer; the message is its last word."""


class TimeLimit(Exception):  # noqa: N818
    """The worker was stopped at the time limit."""


class Worker:
    """A running worker process. Use as a context manager; it ends with the block."""

    def __init__(self, machine: Machine, peer: Peer, directory: Path) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            machine.command(peer, directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=machine.environment(peer),
            cwd=ROOT,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                pipe.close()

    def hello(self) -> Reply:
        """The first message, which carries the version; WorkerError if the package is missing."""
        return self.listen(START_LIMIT)

    def ask(self, method: str, *, limit: float) -> Reply:
        """One run. TimeLimit after ``limit`` seconds, WorkerError if the process ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(method + "\n")
        self.process.stdin.flush()
        return self.listen(limit)

    def listen(self, limit: float) -> Reply:
        assert self.process.stdout is not None
        stopped = threading.Event()
        timer = threading.Timer(limit, self.stop, (stopped,))
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith("@@"):
                    reply: Reply = json.loads(line[2:])
                    return reply
        finally:
            timer.cancel()
        if stopped.is_set():
            raise TimeLimit(f"> {limit:g} s")
        raise WorkerError(self.last_error())

    def stop(self, stopped: threading.Event) -> None:
        stopped.set()
        self.process.kill()

    def last_error(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace").strip()
        lines = [line for line in text.splitlines() if not line.startswith("note:")]
        return lines[-1][:300] if lines else f"ended with code {code}"
