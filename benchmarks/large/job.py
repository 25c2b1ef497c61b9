"""One measurement in a process of its own: reads a job from the command line, answers in JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.large import parquet, shapes

if TYPE_CHECKING:
    import interlace

FORMULA = "y ~ 1 + (1 | u) + (1 | m)"
# Probes of the evaluation that is timed, the same at all sizes.
PROBES = 8
# Ratings above this one are a yes.
ABOVE = 3.0
# One evaluation is repeated for as many seconds, and at least and at most so often.
EVALUATING, FEWEST, MOST = 1.0, 3, 21
DASK_WORKERS = 2


@dataclass(frozen=True)
class Job:
    """What to do: ``kind`` is a key of ``KINDS``, ``shape`` the name of one, at ``scale``."""

    kind: str
    shape: str
    scale: float
    directory: str


@dataclass(frozen=True)
class Fit:
    """What a fit cost and found.

    ``peak_gib`` is the largest resident size of the process from its start to the result, data
    included, and of its largest child process beside it (``workers_gib``).
    """

    n: int
    levels: tuple[int, ...]
    cells: int
    seconds: float
    cpu_seconds: float
    data_gib: float
    peak_gib: float
    workers_gib: float
    solver: str
    converged: bool
    theta: tuple[float, ...]
    truth: tuple[float, ...]
    monte_carlo_error: tuple[float, ...]
    log_likelihood: float
    log_likelihood_error: float
    probes: int
    evaluations: int
    iterations: int
    evaluation_seconds: float | None = None


@dataclass(frozen=True)
class General:
    """What a fit of a generalised model cost and found; errors as in :class:`Fit`."""

    n: int
    levels: tuple[int, ...]
    seconds: float
    cpu_seconds: float
    data_gib: float
    peak_gib: float
    solver: str
    converged: bool
    theta: tuple[float, ...]
    monte_carlo_error: tuple[float, ...]
    coefficients: tuple[float, ...]
    errors: tuple[float, ...]
    log_likelihood: float
    log_likelihood_error: float
    probes: int
    evaluations: int
    iterations: int


@dataclass(frozen=True)
class Made:
    """What making the data cost."""

    seconds: float
    peak_gib: float


def make(job: Job) -> Made:
    """Write the columns of a shape."""
    with _clock() as clock:
        shapes.write(_shape(job), Path(job.directory))
    return Made(clock.seconds, _peak_gib())


def make_files(job: Job) -> Made:
    """Write the Parquet files."""
    with _clock() as clock:
        parquet.write(parquet.Files().scaled(job.scale), Path(job.directory))
    return Made(clock.seconds, _peak_gib())


def fit_arrays(job: Job) -> Fit:
    """Fit from arrays in memory."""
    import interlace

    shape, data = _shape(job), shapes.read(Path(job.directory))
    before = _peak_gib()
    with _clock() as clock:
        result = interlace.fit(FORMULA, data)
    return _fit(result, clock, before, shape.sds)


def fit_general(job: Job) -> General:
    """Fit whether responses are above three from arrays in memory."""
    import interlace

    data = shapes.read(Path(job.directory))
    data["y"] = data["y"] > ABOVE
    before = _peak_gib()
    with _clock() as clock:
        result = interlace.fit(FORMULA, data, family="binomial")
    return _general(result, clock, before)


def fit_answers(job: Job) -> General:
    """Fit yes-no answers with a covariate, made here, that many pairs of levels give once."""
    import interlace

    shape = shapes.ANSWERS.scaled(job.scale)
    data = shapes.answers(shape)
    before = _peak_gib()
    with _clock() as clock:
        result = interlace.fit("y ~ 1 + x + (1 | u) + (1 | m)", data, family="binomial")
    return _general(result, clock, before)


def evaluate(job: Job) -> Fit:
    """As ``fit_arrays``, by the iterative solver, and the time of one evaluation at the optimum."""
    import interlace

    shape, data = _shape(job), shapes.read(Path(job.directory))
    before = _peak_gib()
    with _clock() as clock:
        result = interlace.fit(FORMULA, data, solver="iterative")
    return _fit(result, clock, before, shape.sds, _evaluation_seconds(result))


def fit_files(job: Job) -> Fit:
    """Fit from Parquet files by their path."""
    import interlace

    before = _peak_gib()
    with _clock() as clock:
        result = interlace.fit(parquet.FORMULA, os.path.join(job.directory, "*.parquet"))
    return _fit(result, clock, before, parquet.Files().sds)


def fit_dask(job: Job) -> Fit:
    """Fit from the same files as a Dask data frame on workers that are processes of their own."""
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    import interlace

    before = _peak_gib()
    with (
        LocalCluster(n_workers=DASK_WORKERS, threads_per_worker=1, dashboard_address=None) as local,
        Client(local),
        _clock() as clock,
    ):
        frame = dd.read_parquet(os.path.join(job.directory, "*.parquet"))
        result = interlace.fit(parquet.FORMULA, frame)
    return _fit(result, clock, before, parquet.Files().sds)


KINDS = {
    "make": make,
    "make files": make_files,
    "fit": fit_arrays,
    "fit general": fit_general,
    "fit answers": fit_answers,
    "evaluate": evaluate,
    "parquet": fit_files,
    "dask": fit_dask,
}


# ------------------------------------------------------------------ parts


@dataclass
class Clock:
    """Seconds of the wall and of all threads, once the block is over."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def _clock() -> Iterator[Clock]:
    clock = Clock()
    wall, cpu = time.perf_counter(), time.process_time()
    yield clock
    clock.seconds = time.perf_counter() - wall
    clock.cpu_seconds = time.process_time() - cpu


def _shape(job: Job) -> shapes.Shape:
    return shapes.SHAPES[job.shape].scaled(job.scale)


def _fit(
    result: interlace.CrossedLMEResult,
    clock: Clock,
    data_gib: float,
    sds: tuple[float, float, float],
    evaluation_seconds: float | None = None,
) -> Fit:
    certificate, A = result.convergence, result.estimate.A
    known = dict(zip(("u", "m", "g", "h"), sds[:2] * 2, strict=True))
    return Fit(
        n=result.nobs,
        levels=tuple(term.l for term in A.terms),
        cells=sum(len(cells.rows) for cells in A.cells.values()),
        seconds=clock.seconds,
        cpu_seconds=clock.cpu_seconds,
        data_gib=data_gib,
        peak_gib=_peak_gib(),
        workers_gib=_rusage_gib(resource.RUSAGE_CHILDREN),
        solver=certificate.solver,
        converged=certificate.converged,
        theta=tuple(result.theta.tolist()),
        truth=tuple(known[term.group] / sds[2] for term in A.terms),
        monte_carlo_error=()
        if certificate.monte_carlo_error is None
        else tuple(certificate.monte_carlo_error.tolist()),
        log_likelihood=result.llf,
        log_likelihood_error=(certificate.criterion_error or 0.0) / 2.0,
        probes=certificate.n_probes or 0,
        evaluations=certificate.n_evaluations,
        iterations=certificate.n_iterations or 0,
        evaluation_seconds=evaluation_seconds,
    )


def _general(result: interlace.CrossedGLMMResult, clock: Clock, data_gib: float) -> General:
    certificate = result.convergence
    error = certificate.monte_carlo_error
    return General(
        n=result.nobs,
        levels=tuple(term.l for term in result.estimate.A.terms),
        seconds=clock.seconds,
        cpu_seconds=clock.cpu_seconds,
        data_gib=data_gib,
        peak_gib=_peak_gib(),
        solver=certificate.solver,
        converged=certificate.converged,
        theta=tuple(result.theta.tolist()),
        monte_carlo_error=() if error is None else tuple(error.tolist()),
        coefficients=tuple(result.fe_params.tolist()),
        errors=tuple(result.fe_bse.tolist()),
        log_likelihood=result.llf,
        log_likelihood_error=(certificate.criterion_error or 0.0) / 2.0,
        probes=certificate.n_probes or 0,
        evaluations=certificate.n_evaluations,
        iterations=certificate.n_iterations or 0,
    )


def _evaluation_seconds(result: interlace.CrossedLMEResult) -> float:
    """Seconds of the criterion with gradient and Newton matrix at the optimum: the quickest."""
    from interlace.solver.equations import Iterative

    fitted, theta = result.estimate.criterion, result.theta
    assert isinstance(fitted.equations, Iterative)
    criterion = replace(fitted, solver=fitted.equations.with_probes(PROBES))
    seconds: list[float] = []
    while len(seconds) < FEWEST or (sum(seconds) < EVALUATING and len(seconds) < MOST):
        with _clock() as clock:
            point = criterion.at_theta(theta)
            _ = point.value, point.gradient, point.newton_matrix
        seconds.append(clock.seconds)
    return min(seconds)


def _peak_gib() -> float:
    """Largest resident size of this process so far.

    Linux keeps it with the memory map; ``getrusage`` there also counts what the process was before
    it became Python, a copy of its parent.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return _rusage_gib(resource.RUSAGE_SELF)
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) / 2**20


def _rusage_gib(who: int) -> float:
    """Largest resident size by ``getrusage``; Linux counts it in KiB, macOS in bytes."""
    return resource.getrusage(who).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    sys.stdout.write(json.dumps(asdict(KINDS[job.kind](job))))


if __name__ == "__main__":
    main()
