"""Command line of the benchmarks; see README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks import growth, report, startup
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.runner import Plan, run_problem
from benchmarks.worker_process import PEERS, Machine, Peer

EXTRAS = ("startup", "growth")
OPTIONAL_PEERS = ("lme4-default",)  # timed only when asked for by name


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    peers = chosen_peers(args.peers)
    problems, extras = chosen_problems(args.problems, quick=args.quick)
    plan = Plan(Machine(args.threads, args.peer_python), 2 if args.quick else args.runs, args.limit)
    settings = report.settings(threads=args.threads, runs=plan.runs, limit=args.limit)
    empty = result = report.Report(settings)
    for result in stages(problems, extras, peers, plan, empty):
        paths = report.save(result, args.save)  # after each stage: a broken run keeps the rest
    sys.stdout.write("\n" + report.markdown(result))
    say("saved " + " and ".join(map(str, paths)))


def stages(
    problems: Sequence[Problem],
    extras: Sequence[str],
    peers: Sequence[Peer],
    plan: Plan,
    result: report.Report,
) -> Iterator[report.Report]:
    """The report, longer by one problem or extra each time."""
    for problem in problems:
        say(f"{problem.name}: {problem.formula}")
        done = tuple(run_problem(problem, peers, plan, say))
        result = replace(result, problems=(*result.problems, (problem, done)))
        yield result
    if "startup" in extras:
        say("startup: import, and a first fit in a fresh process")
        result = replace(result, startup=startup.measure(peers, plan.machine, runs=plan.runs))
        yield result
    if "growth" in extras:
        say("growth: one evaluation as n grows")
        yield replace(result, growth=growth.measure(plan.machine))


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join([p.name for p in PROBLEMS] + list(EXTRAS))
    out.add_argument("--problems", help=f"comma-separated names or beginnings of: {names}")
    out.add_argument("--peers", help="comma-separated: " + ", ".join(p.name for p in PEERS))
    out.add_argument("--runs", type=int, default=5, help="timed fits of each (default 5)")
    out.add_argument("--threads", type=int, choices=(1, 2), default=1)
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


def chosen_problems(text: str | None, *, quick: bool) -> tuple[list[Problem], list[str]]:
    """Problems and extras asked for, in the order of the tables."""
    if text is None:
        return [p for p in PROBLEMS if p.quick or not quick], list(EXTRAS)
    known = [*(p.name for p in PROBLEMS), *EXTRAS]
    wanted = {name for part in text.split(",") for name in named(part, known)}
    return [p for p in PROBLEMS if p.name in wanted], [e for e in EXTRAS if e in wanted]


def named(part: str, known: Sequence[str]) -> list[str]:
    """The name ``part``, or else all that begin with it; SystemExit if none does."""
    found = [part] if part in known else [name for name in known if name.startswith(part)]
    if not found:
        raise SystemExit(f"unknown problem: {part}; known: {', '.join(known)}")
    return found


if __name__ == "__main__":
    main()
