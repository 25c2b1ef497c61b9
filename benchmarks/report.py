"""Results as JSON for machines and Markdown tables for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.growth import Growth
from benchmarks.inference import table as inference
from benchmarks.inference.runner import TaskRun
from benchmarks.markdown import number, table
from benchmarks.outcome import Outcome
from benchmarks.problems import Problem
from benchmarks.startup import Startup

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Report:
    """Everything one run measured."""

    settings: dict[str, str | int | float]
    problems: tuple[tuple[Problem, tuple[Outcome, ...]], ...] = ()
    tasks: tuple[TaskRun, ...] = ()
    startup: tuple[Startup, ...] = ()
    growth: tuple[Growth, ...] = ()


def settings(*, threads: int, runs: int, limit: float) -> dict[str, str | int | float]:
    """What a reader needs to judge the numbers."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count() or 0,
        "threads": threads,
        "runs": runs,
        "limit_seconds": limit,
    }


def save(report: Report, stem: str) -> tuple[Path, Path]:
    """Writes ``results/<stem>.json`` and ``.md``; returns both paths."""
    RESULTS.mkdir(exist_ok=True)
    as_json, as_text = RESULTS / f"{stem}.json", RESULTS / f"{stem}.md"
    as_json.write_text(json.dumps(plain(report), indent=1) + "\n", encoding="utf-8")
    as_text.write_text(markdown(report), encoding="utf-8")
    return as_json, as_text


def plain(report: Report) -> dict[str, object]:
    """The report as JSON values; the numbers that were only checked are left out."""

    def row(outcome: Outcome) -> dict[str, object]:
        fields = asdict(outcome)
        del fields["covariances"], fields["untimed"], fields["values"]
        return fields

    return {
        "settings": report.settings,
        "problems": [
            {"name": p.name, "title": p.title, "formula": p.formula, "fits": [*map(row, fits)]}
            for p, fits in report.problems
        ],
        "tasks": [
            {
                "name": r.task.name,
                "threads": r.threads,
                "runs": [*map(row, r.outcomes.values())],
                "shown": dict(zip(inference.HEADER, inference.row(r), strict=True)),
            }
            for r in report.tasks
        ],
        "startup": [asdict(s) for s in report.startup],
        "growth": [asdict(g) for g in report.growth],
    }


def markdown(report: Report) -> str:
    head = ", ".join(f"{key} {value}" for key, value in report.settings.items())
    parts = ["# Benchmarks", head + ".", LEGEND]
    if report.problems:
        parts.append("## Summary: times relative to interlace\n\n" + summary(report))
    parts += [detail(problem, outcomes) for problem, outcomes in report.problems]
    if report.tasks:
        parts.append(inference.section(report.tasks))
    if report.startup:
        parts.append(startup_table(report.startup))
    if report.growth:
        parts.append(growth_table(report.growth))
    return "\n\n".join(parts) + "\n"


LEGEND = (
    "Seconds are from a data frame in memory to the result. A time in parentheses does not count, "
    "because the fit disagrees with the best one; x 2.0 means twice interlace's time."
)


def summary(report: Report) -> str:
    names = list(dict.fromkeys(o.peer for _, outcomes in report.problems for o in outcomes))
    rows = []
    for problem, outcomes in report.problems:
        by_name = {o.peer: o for o in outcomes}
        own = by_name.get("interlace")
        cells = [cell(by_name.get(name), own) for name in names]
        rows.append([problem.name, *cells])
    return table(["problem", *names], rows)


def cell(outcome: Outcome | None, own: Outcome | None) -> str:
    """Seconds of interlace, ratio for another package, or why there is none."""
    if outcome is None:
        return ""
    if outcome.median is None:
        return {"limit": outcome.reason, "unsupported": "cannot"}.get(outcome.status, "failed")
    if outcome is own or own is None or own.median is None or own.status != "ok":
        text = f"{outcome.median:.3g} s"
    else:
        text = f"x {outcome.median / own.median:.1f}"
    return text if outcome.status == "ok" else f"({text})"


def detail(problem: Problem, outcomes: Sequence[Outcome]) -> str:
    own = next((o for o in outcomes if o.peer == "interlace"), None)
    rows = [detail_row(outcome, own) for outcome in outcomes]
    header = ["package", "seconds", "min - max", "runs", "ratio", "CPU", "CPU ratio", "peak MB"]
    header += ["fit adds MB", "evaluations", "steps", "criterion", "excess", "note"]
    return f"## {problem.title}\n\n`{problem.formula}`\n\n" + table(header, rows)


def detail_row(outcome: Outcome, own: Outcome | None) -> list[str]:
    o = outcome
    spread = f"{min(o.seconds):.3g} - {max(o.seconds):.3g}" if o.seconds else ""
    added = o.peak_mb - o.before_mb if o.peak_mb and o.before_mb else None
    seconds = number(o.median, ".3g")
    return [
        f"{o.peer} {o.version}{' (ML)' if o.method == 'ML' else ''}",
        f"({seconds})" if o.status == "disagrees" else seconds,
        spread,
        str(len(o.seconds)),
        "" if own is None or o.median is None else cell(o, own) if o is not own else "x 1.0",
        number(o.cpu, ".3g"),
        "" if own is None or not own.cpu or not o.cpu else f"x {o.cpu / own.cpu:.1f}",
        number(o.peak_mb, ".0f"),
        number(added, ".0f"),
        number(o.evaluations, "d"),
        number(o.steps, "d"),
        number(o.criterion, ".6f"),
        number(o.excess, ".1e"),
        o.reason if o.status in {"ok", "disagrees"} else f"{o.status}: {o.reason}",
    ]


def startup_table(startup: Sequence[Startup]) -> str:
    rows = [[s.peer, number(s.medians[0], ".2f"), number(s.medians[1], ".2f")] for s in startup]
    header = ["package", "import, s", "process start to first sleepstudy result, s"]
    return "## A fresh process\n\n" + table(header, rows)


def growth_table(growth: Sequence[Growth]) -> str:
    rows = [
        [
            f"{g.n:,}",
            number(g.fit_seconds, ".3g"),
            number(g.evaluations, "d"),
            number(g.evaluation_seconds and 1e3 * g.evaluation_seconds, ".3g"),
            g.reason,
        ]
        for g in growth
    ]
    header = ["rows", "fit, s", "evaluations", "one evaluation, ms", "note"]
    return "## Growing n in the same 200 x 50 cells\n\n" + table(header, rows)
