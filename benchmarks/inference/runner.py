"""Runs each task with interlace and with R in turn, once for each number of threads."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import storage
from benchmarks.inference.check import judge
from benchmarks.inference.tasks import PEERS, Task
from benchmarks.outcome import Outcome
from benchmarks.runner import Plan, Say, run_rounds, start_all


@dataclass(frozen=True)
class TaskRun:
    """One task at one number of threads: the outcomes by package, of those that are installed."""

    task: Task
    threads: int
    outcomes: dict[str, Outcome]


def run_task(task: Task, names: Sequence[str], plan: Plan, say: Say) -> TaskRun:
    """Every package in a process of its own, judged against the other."""
    threads = plan.machine.threads
    machine = replace(plan.machine, memory_gb=task.memory_gb, threads=1 if task.jobs else threads)
    plan = replace(plan, machine=machine, limit=task.limit, runs=max(plan.runs, task.runs))
    peers = [task.asked(peer, threads=threads) for peer in PEERS if peer.name in names]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        storage.write(task.problem, directory)
        workers, outcomes = start_all(peers, directory, plan, say, stack)
        run_rounds(workers, outcomes, plan)
        stored = storage.read(directory)
    done = judge(task, list(outcomes.values()), stored)
    return TaskRun(task, threads, {outcome.peer: outcome for outcome in done})
