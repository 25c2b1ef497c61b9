"""Command line of the benchmarks; see README.md beside this file."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks import growth, report, startup
from benchmarks.general import GENERAL
from benchmarks.inference.runner import run_task
from benchmarks.inference.tasks import TASKS, Task
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.runner import Plan, run_problem
from benchmarks.worker_process import PEERS, Machine, Peer

EXTRAS = ("startup", "growth")
ALL = (*PROBLEMS, *GENERAL)
KINDS = tuple(dict.fromkeys(task.kind for task in TASKS))
TASK_THREADS = (1, 2)
OPTIONAL_PEERS = ("lme4-default",)  # timed only when asked for by name


@dataclass(frozen=True)
class Chosen:
    """What to time."""

    problems: tuple[Problem, ...]
    tasks: tuple[Task, ...]
    extras: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    peers = chosen_peers(args.peers)
    chosen = chosen_problems(args.problems, quick=args.quick)
    machine = Machine(args.threads or 1, args.peer_python)
    plan = Plan(machine, 2 if args.quick else args.runs, args.limit)
    task_threads = (args.threads,) if args.threads else TASK_THREADS
    settings = report.settings(threads=machine.threads, runs=plan.runs, limit=args.limit)
    empty = result = report.Report(settings)
    for result in stages(chosen, peers, plan, task_threads, empty):
        paths = report.save(result, args.save)  # after each stage: a broken run keeps the rest
    sys.stdout.write("\n" + report.markdown(result))
    say("saved " + " and ".join(map(str, paths)))


def stages(
    chosen: Chosen,
    peers: Sequence[Peer],
    plan: Plan,
    task_threads: Sequence[int],
    result: report.Report,
) -> Iterator[report.Report]:
    """The report, longer by one problem, task or extra each time."""
    linear = [peer for peer in peers if not peer.general]
    for problem in chosen.problems:
        say(f"{problem.name}: {problem.formula}")
        own = [peer for peer in peers if peer.general == bool(problem.family)]
        done = tuple(run_problem(problem, own, plan, say))
        result = replace(result, problems=(*result.problems, (problem, done)))
        yield result
    for task, threads in itertools.product(chosen.tasks, task_threads):
        say(f"{task.name}, threads {threads}: {task.title}")
        own_plan = replace(plan, machine=replace(plan.machine, threads=threads))
        run = run_task(task, [peer.name for peer in linear], own_plan, say)
        result = replace(result, tasks=(*result.tasks, run))
        yield result
    if "startup" in chosen.extras:
        say("startup: import, and a first fit in a fresh process")
        result = replace(result, startup=startup.measure(linear, plan.machine, runs=plan.runs))
        yield result
    if "growth" in chosen.extras:
        say("growth: one evaluation as n grows")
        yield replace(result, growth=growth.measure(plan.machine))


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    tasks = (*KINDS, *(t.name for t in TASKS))
    names = ", ".join([*(p.name for p in ALL), *tasks, *EXTRAS])
    out.add_argument("--problems", help=f"comma-separated names or beginnings of: {names}")
    out.add_argument("--peers", help="comma-separated: " + ", ".join(p.name for p in PEERS))
    out.add_argument("--runs", type=int, default=5, help="timed fits of each (default 5)")
    out.add_argument(
        "--threads", type=int, choices=(1, 2), help="default 1; tasks after a fit: 1 and then 2"
    )
    out.add_argument("--limit", type=float, default=120.0, help="seconds for one fit (120)")
    out.add_argument("--quick", action="store_true", help="small problems, two runs")
    out.add_argument("--save", default="latest", help="name in benchmarks/results (latest)")
    out.add_argument(
        "--peer-python", default=sys.executable, help="Python that has the other packages"
    )
    return out


def chosen_peers(text: str | None) -> list[Peer]:
    """The peers named, or all but the optional ones; SystemExit for an unknown name."""
    if text is None:
        return [peer for peer in PEERS if peer.name not in OPTIONAL_PEERS]
    names = text.split(",")
    unknown = sorted(set(names) - {peer.name for peer in PEERS})
    if unknown:
        raise SystemExit(f"unknown peers: {', '.join(unknown)}")
    return [peer for peer in PEERS if peer.name in names]


def chosen_problems(text: str | None, *, quick: bool) -> Chosen:
    """Problems, tasks and extras asked for, in the order of the tables."""
    if text is None:
        problems = tuple(p for p in ALL if p.quick or not quick)
        tasks = tuple(t for t in TASKS if t.quick or not quick)
        return Chosen(problems, tasks, EXTRAS)
    known = [*(p.name for p in ALL), *(t.name for t in TASKS), *EXTRAS]
    wanted = {name for part in text.split(",") for name in named(part, known)}
    return Chosen(
        problems=tuple(p for p in ALL if p.name in wanted),
        tasks=tuple(t for t in TASKS if t.name in wanted),
        extras=tuple(e for e in EXTRAS if e in wanted),
    )


def named(part: str, known: Sequence[str]) -> list[str]:
    """The name ``part``, all that begin with it, or all tasks of that kind; or SystemExit."""
    if part in KINDS:
        return [task.name for task in TASKS if task.kind == part]
    found = [part] if part in known else [name for name in known if name.startswith(part)]
    if not found:
        raise SystemExit(f"unknown problem: {part}; known: {', '.join(known)}")
    return found


if __name__ == "__main__":
    main()
