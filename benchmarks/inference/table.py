"""The tasks as a Markdown table: times beside R, and whether the targets are met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.inference.runner import TaskRun
from benchmarks.inference.tasks import PEERS, Target
from benchmarks.markdown import number, table
from benchmarks.outcome import Outcome

HEADER = ("task", "threads", "interlace", "R", "ratio", "target", "interlace MB", "R MB", "check")
LEGEND = (
    "Median seconds of what follows the fit; a time in parentheses does not count, because the "
    "answer disagrees. The ratio is R's seconds over interlace's, for one replicate in the "
    "bootstraps. MB is the largest resident memory of a fresh process that fits and does the task."
)


def section(runs: Sequence[TaskRun]) -> str:
    rows = table(HEADER, list(map(row, runs)))
    return "\n\n".join(["## What follows a fit", LEGEND, versions(runs), rows])


def versions(runs: Sequence[TaskRun]) -> str:
    """The packages behind the two columns of times."""
    named = {
        f"interlace {o.version}" if o.peer == "interlace" else f"R: {o.version}"
        for run in runs
        for o in run.outcomes.values()
        if o.version
    }
    return "; ".join(sorted(named)) + "."


def row(run: TaskRun) -> list[str]:
    own, other = (run.outcomes.get(peer.name) for peer in PEERS)
    speed = ratio(run)
    return [
        f"{run.task.name}: {run.task.title}",
        str(run.threads),
        seconds(own, run),
        seconds(other, run),
        "" if speed is None else f"{speed:.3g}",
        "; ".join(verdicts(run.task.target, run)),
        "" if own is None else number(own.process_mb, ".0f"),
        "" if other is None else number(other.process_mb, ".0f"),
        "" if own is None or own.status not in {"ok", "disagrees"} else own.reason,
    ]


def seconds(outcome: Outcome | None, run: TaskRun) -> str:
    """The median with its runs, or how it ended."""
    if outcome is None:
        return "not run"
    if outcome.median is None or outcome.status not in {"ok", "disagrees"}:
        return f"not run: {outcome.reason}" if outcome.status == "unsupported" else ended(outcome)
    text = f"{outcome.median:.3g} s"
    if run.task.per_replicate:
        text += f" for {count(outcome, run):,}"
    text += f" ({len(outcome.seconds) or 1} runs)"
    return f"({text})" if outcome.status == "disagrees" else text


def ended(outcome: Outcome) -> str:
    return f"{outcome.status}: {outcome.reason}"


def count(outcome: Outcome, run: TaskRun) -> int:
    return run.task.count(next(peer for peer in PEERS if peer.name == outcome.peer))


def ratio(run: TaskRun) -> float | None:
    """R's seconds over interlace's; None unless both answered and agree."""
    pair = [run.outcomes.get(peer.name) for peer in PEERS]
    unit = []
    for outcome in pair:
        if outcome is None or outcome.status != "ok" or outcome.median is None:
            return None
        unit.append(outcome.median / (count(outcome, run) if run.task.per_replicate else 1))
    return unit[1] / unit[0]


def verdicts(target: Target, run: TaskRun) -> Iterator[str]:
    """Each part of the target with "met", "missed" or why it cannot be said."""
    own = run.outcomes.get("interlace")
    good = own is not None and own.status == "ok"
    if target.seconds is not None and target.threads in {None, run.threads}:
        median = own.median if own is not None and good else None
        yield f"< {target.seconds:g} s: {verdict(median, at_most=target.seconds)}"
    if target.memory_mb is not None:
        memory = own.process_mb if own is not None and good else None
        yield f"< {target.memory_mb:g} MB: {verdict(memory, at_most=target.memory_mb)}"
    if target.ratio is not None:
        speed = ratio(run)
        met = verdict(None if speed is None else -speed, at_most=-target.ratio)
        yield f"x {target.ratio:g}: {met}"


def verdict(value: float | None, *, at_most: float) -> str:
    if value is None:
        return "not measured"
    return "met" if value <= at_most else "missed"
