"""Fits each problem with every package in turn, and keeps what each answered."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import storage
from benchmarks.check import judge
from benchmarks.outcome import Outcome, extend
from benchmarks.problems import Problem
from benchmarks.worker_process import Machine, Peer, TimeLimit, Worker, WorkerError

# A first fit of so many seconds of the processor needs no warming up: it counts as a run.
LONG = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How often and how long: ``runs`` timed fits a package, ``limit`` seconds for one."""

    machine: Machine
    runs: int
    limit: float


def run_problem(problem: Problem, peers: Sequence[Peer], plan: Plan, say: Say) -> list[Outcome]:
    """One outcome for each installed package, judged against the others."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        storage.write(problem, directory)
        workers, outcomes = start_all(peers, directory, plan, say, stack)
        reference = maximum_likelihood(workers, outcomes, plan)
        run_rounds(workers, outcomes, plan)
        stored = storage.read(directory)
    return judge([*outcomes.values(), *reference], stored, tolerance=problem.tolerance)


def start_all(
    peers: Sequence[Peer], directory: Path, plan: Plan, say: Say, stack: ExitStack
) -> tuple[dict[Peer, Worker], dict[str, Outcome]]:
    """Workers, which end with ``stack``, and the first run of each installed package."""
    outcomes: dict[str, Outcome] = {}
    workers: dict[Peer, Worker] = {}
    for peer in peers:
        started = start(peer, directory, plan)
        if started is None:
            continue
        outcome, worker = started
        if worker is not None:
            workers[peer] = stack.enter_context(worker)
            outcome = first_fit(peer, worker, outcome, plan)
        outcomes[peer.name] = outcome
        say(f"  {outcome.line()}")
    return workers, outcomes


def run_rounds(workers: dict[Peer, Worker], outcomes: dict[str, Outcome], plan: Plan) -> None:
    """All further runs; ``outcomes`` grow by them."""
    for peer in rounds(workers, outcomes, plan):
        outcomes[peer.name] = next_fit(peer, workers[peer], outcomes[peer.name], plan)


def start(peer: Peer, directory: Path, plan: Plan) -> tuple[Outcome, Worker | None] | None:
    """The empty outcome and its worker, no worker if it failed; None if not installed."""
    try:
        worker = Worker(plan.machine, peer, directory)
    except FileNotFoundError:
        return None
    try:
        version = str(worker.hello()["version"])
    except (TimeLimit, WorkerError) as error:
        worker.close()
        if is_missing(str(error)) and peer.name != "interlace":
            return None
        return Outcome(peer.name, "", peer.method, status="failed", reason=str(error)), None
    return Outcome(peer.name, version, peer.method), worker


def is_missing(message: str) -> bool:
    return "No module named" in message or "there is no package" in message


def first_fit(peer: Peer, worker: Worker, outcome: Outcome, plan: Plan) -> Outcome:
    """The fit that is checked and warms the process up; its time counts only if it is long."""
    out = next_fit(peer, worker, outcome, plan)
    if out.seconds and out.cpu_seconds[0] < LONG:
        return replace(out, seconds=(), warm_up=out.seconds[0])
    return out


def next_fit(peer: Peer, worker: Worker, outcome: Outcome, plan: Plan) -> Outcome:
    """``outcome`` with one more run, or with the reason why there is none."""
    try:
        return extend(outcome, worker.ask(peer.method, limit=plan.limit))
    except TimeLimit as error:
        return replace(outcome, status="limit", reason=str(error))
    except WorkerError as error:
        return replace(outcome, status="failed", reason=str(error))


def rounds(workers: dict[Peer, Worker], outcomes: dict[str, Outcome], plan: Plan) -> Iterator[Peer]:
    """Whose turn it is: all in turn, until each has its runs or has spent the limit."""
    for _ in range(plan.runs):
        for peer in workers:
            outcome = outcomes[peer.name]
            spent = sum(outcome.seconds)
            if outcome.status == "ok" and len(outcome.seconds) < plan.runs and spent < plan.limit:
                yield peer


def maximum_likelihood(
    workers: dict[Peer, Worker], outcomes: dict[str, Outcome], plan: Plan
) -> list[Outcome]:
    """An untimed ML fit for packages without REML to be compared with."""
    if not any(o.method == "ML" and o.status == "ok" for o in outcomes.values()):
        return []
    for peer, worker in workers.items():
        if peer.method == "REML" and outcomes[peer.name].status == "ok":
            empty = Outcome(peer.name, outcomes[peer.name].version, "ML")
            out = next_fit(replace(peer, method="ML"), worker, empty, plan)
            return [replace(out, seconds=(), untimed=True)] if out.status == "ok" else []
    return []
