"""Command line of the large fits; see README.md of the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from benchmarks import problems, report
from benchmarks.large import shapes, table
from benchmarks.large.job import Job
from benchmarks.runner import Plan, run_problem
from benchmarks.worker_process import PEERS, ROOT, Machine

RESULTS = report.RESULTS / "large"
# Shares of 32 million ratings at which one evaluation is timed: three decades of cells.
DECADES = (1e-3, 10**-2.5, 1e-2, 10**-1.5, 1e-1, 10**-0.5, 1.0)
PEER_LEVELS = (50_000, 2_000)

Row = dict[str, object]


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    names = list(STAGES) if args.only is None else args.only.split(",")
    if unknown := sorted(set(names) - set(STAGES)):
        raise SystemExit(f"unknown: {', '.join(unknown)}; known: {', '.join(STAGES)}")
    settings = report.settings(threads=os.cpu_count() or 1, runs=args.runs, limit=args.limit)
    kept = RESULTS / f"{args.save}.json"
    result: dict[str, object] = {"settings": {**settings, "scale": args.scale}}
    for name in names:
        say(f"{name}:")
        result[name] = STAGES[name](args)
        RESULTS.mkdir(parents=True, exist_ok=True)  # after each stage: a broken run keeps the rest
        kept.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write("\n" + table.markdown(result))
    say(f"saved {kept}")


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    out.add_argument("--scale", type=share, default=1.0, help="share of the rows, in (0, 1]")
    out.add_argument("--only", help="comma-separated: " + ", ".join(STAGES))
    out.add_argument("--dir", type=Path, help="where data are written (default: a temporary one)")
    out.add_argument("--runs", type=int, default=3, help="timed fits beside other packages (3)")
    out.add_argument("--limit", type=float, default=600.0, help="seconds for one of these (600)")
    out.add_argument("--peers", default="mixedlm", help="comma-separated packages beside (mixedlm)")
    out.add_argument("--save", default="latest", help="name in benchmarks/results/large (latest)")
    out.add_argument(
        "--peer-python", default=sys.executable, help="Python that has the other packages"
    )
    return out


def share(text: str) -> float:
    """A number in (0, 1]."""
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be in (0, 1], not {text}")
    return value


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


# ------------------------------------------------------------------ stages


def fits(args: argparse.Namespace) -> list[Row]:
    """The published records and an employer-employee graph, each from arrays to the result."""
    rows = []
    for shape in shapes.RECORDS:
        with scratch(args.dir) as directory:
            job = Job("make", shape.name, args.scale, str(directory))
            names = {"name": shape.name, "title": shape.title}
            rows.append({**names, "made": run(job), **run_as(job, "fit")})
    return rows


def general(args: argparse.Namespace) -> list[Row]:
    """Yes-no answers: whether ratings are above three, and crossed answers with a covariate."""
    shape = shapes.MOVIELENS_32M
    with scratch(args.dir) as directory:
        job = Job("make", shape.name, args.scale, str(directory))
        title = f"{shape.title}, above three"
        rows: list[Row] = [{"title": title, "made": run(job), **run_as(job, "fit general")}]
    job = Job("fit answers", shapes.ANSWERS.name, args.scale, "")
    return [*rows, {"title": shapes.ANSWERS.title, **run(job)}]


def growth(args: argparse.Namespace) -> list[Row]:
    """One evaluation as the number of distinct cells grows."""
    rows = []
    for step in dict.fromkeys(max(step * args.scale, min(DECADES)) for step in DECADES):
        with scratch(args.dir) as directory:
            job = Job("make", shapes.GROWING.name, step, str(directory))
            run(job)
            rows.append(run_as(job, "evaluate"))
    return rows


def files(args: argparse.Namespace) -> list[Row]:
    """Parquet files by one call, and the same through Dask workers."""
    with scratch(args.dir) as directory:
        job = Job("make files", "", args.scale, str(directory))
        made = run(job)
        size = sum(path.stat().st_size for path in directory.glob("*.parquet")) / 2**30
        return [
            {"name": kind, "files_gib": size, "made": made, **run_as(job, kind)}
            for kind in ("parquet", "dask")
        ]


def peers(args: argparse.Namespace) -> list[Row]:
    """1e6 rows, 50,000 x 2,000, beside the quickest other package."""
    g, h = (max(round(l * args.scale), 20) for l in PEER_LEVELS)
    make = partial(problems.crossed, max(round(1e6 * args.scale), 400), sizes=(g, h))
    (known,) = (p for p in problems.PROBLEMS if p.name == "crossed-1e6")
    machine = Machine(os.cpu_count() or 1, args.peer_python)
    names = ("interlace", *args.peers.split(","))
    chosen = [peer for peer in PEERS if peer.name in names and not peer.general]
    plan = Plan(machine, args.runs, args.limit)
    outcomes = run_problem(replace(known, make=make), chosen, plan, say)
    return [{**asdict(outcome), "median": outcome.median} for outcome in outcomes]


STAGES: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "fits": fits,
    "general": general,
    "growth": growth,
    "files": files,
    "peers": peers,
}


# ------------------------------------------------------------------ jobs


@contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """A directory that goes when the block ends."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)


def run_as(job: Job, kind: str) -> Row:
    return run(replace(job, kind=kind))


def run(job: Job) -> Row:
    """The answer of a job from its own process, or ``{"reason": ...}`` if that failed."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large.job", json.dumps(asdict(job))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"ended with code {done.returncode}"
        say(f"  {job.kind} {job.shape}: {reason}")
        return {"reason": reason}
    answer: Row = json.loads(done.stdout)
    say(f"  {table.line(job.kind, answer)}")
    return answer


if __name__ == "__main__":
    main()
