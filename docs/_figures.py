"""Tables of the performance page, from the stored results of ``make bench``.

The newest file in ``benchmarks/results`` wins; without one, ``docs/figures.json`` is used, which is
such a file kept with the source.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.display import Markdown

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
KEPT = DOCS / "figures.json"
GENERAL = DOCS / "figures-general.json"
NONE = Markdown("*Not measured in the stored run.*")

Values = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """One run of the benchmark; empty if there is none."""

    run: dict[str, list[Values]]
    settings: Values

    def head(self) -> Markdown:
        """When, where and how."""
        if not self.settings:
            return Markdown("*No run is stored with this copy; `make bench` makes one.*")
        s = self.settings
        machine = f"{s['system']}, {s['cpus']} cores, Python {s['python']}"
        limits = f"{s['runs']} timed fits each, at most {s['limit_seconds']} s"
        return Markdown(f"Run of {s['date']}: {machine}, {s['threads']} thread(s), {limits}.")

    def problems(self) -> Markdown:
        """A table for each model: seconds and how they compare."""
        if not self.run["problems"]:
            return NONE
        return Markdown("\n\n".join(map(_problem, self.run["problems"])))

    def tasks(self) -> Markdown:
        """What follows a fit, beside R: a row for every task and number of threads."""
        columns = ["threads", "interlace", "R", "ratio", "target", "interlace MB"]
        rows = []
        for task in self.run["tasks"]:
            shown = task["shown"]
            title = shown["task"].split(": ", 1)[1]  # without the name for the command line
            rows.append([title, *(shown[name] for name in columns)])
        return _table(["task", *columns], rows)

    def general(self) -> Markdown:
        """Generalised models: seconds of the processor, beside each package."""
        fits = [(p, fit) for p in self.run["problems"] for fit in p["fits"]]
        names = [name for name in dict.fromkeys(f["peer"] for _, f in fits) if name != "interlace"]
        rows = [_general(problem, names) for problem in self.run["problems"]]
        columns = ["model", "interlace, s", "evaluations", "MB", *(f"{n}, s" for n in names)]
        return _table(columns, rows)

    def startup(self) -> Markdown:
        """Import and first fit."""
        rows = [
            [str(s["peer"]), _median(s["import_seconds"]), _median(s["process_seconds"])]
            for s in self.run["startup"]
        ]
        return _table(["package", "import, s", "start to first small fit, s"], rows)

    def growth(self) -> Markdown:
        """Seconds by number of rows."""
        rows = [
            [
                f"{g['n']:,}",
                _number(g["fit_seconds"]),
                str(g["evaluations"] or ""),
                _number(_times(g["evaluation_seconds"], 1e3)),
            ]
            for g in self.run["growth"]
        ]
        return _table(["rows", "fit, s", "evaluations", "one evaluation, ms"], rows)


def stored_figures() -> Figures:
    """The newest run in ``benchmarks/results``, else the one that is kept here, else none."""
    found = sorted(RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime)
    return _figures(found[-1] if found else KEPT)


def general_figures() -> Figures:
    """The run of generalised models that is kept here."""
    return _figures(GENERAL)


def _figures(path: Path) -> Figures:
    """A stored run; an empty one if there is none."""
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = {key: data.get(key, []) for key in ("problems", "tasks", "startup", "growth")}
    return Figures(parts, data.get("settings", {}))


def _general(problem: Values, names: Sequence[str]) -> list[str]:
    """Seconds of the processor, in parentheses where a fit is not the best one; ratios behind."""
    fits = {fit["peer"]: fit for fit in problem["fits"]}
    own = fits["interlace"]
    base = min(own["cpu_seconds"])
    cells = [
        problem["title"],
        _number(base),
        str(own["evaluations"] or ""),
        f"{own['peak_mb']:.0f}",
    ]
    for name in names:
        fit = fits.get(name)
        if fit is None or not fit["cpu_seconds"]:
            cells.append("")
            continue
        cpu = min(fit["cpu_seconds"])
        text = f"{_number(cpu)} (x {cpu / base:.1f})"
        cells.append(text if fit["status"] == "ok" else f"*{text}*")
    return cells


def _problem(problem: Values) -> str:
    """Title, formula, and a row for every package."""
    fits: list[Values] = problem["fits"]
    own = next((f for f in fits if f["peer"] == "interlace"), None)
    rows = [_fit(fit, own) for fit in fits]
    table = _rows(["package", "seconds", "relative to interlace", "evaluations", "note"], rows)
    return f"**{problem['title']}**\n\n`{problem['formula']}`\n\n{table}"


def _fit(fit: Values, own: Values | None) -> list[str]:
    seconds = _seconds(fit)
    base = _seconds(own) if own is not None else None
    ratio = f"{seconds / base:.1f}" if seconds and base else ""
    text = _number(seconds)
    shown = text if fit["status"] == "ok" or not text else f"({text})"
    method = " (ML)" if fit["method"] == "ML" else ""
    note = str(fit["reason"] or "")
    if fit["status"] in ("failed", "unsupported"):
        note = "failed" if fit["status"] == "failed" else "does not fit this model"
    name = f"{fit['peer']} {fit['version']}{method}"
    return [name, shown, ratio, str(fit["evaluations"] or ""), note]


def _seconds(fit: Values) -> float | None:
    """Median of the timed fits; of a fit timed once only, that."""
    seconds: Sequence[float] = fit["seconds"] or []
    return statistics.median(seconds) if seconds else fit["warm_up"]


def _median(seconds: Sequence[float]) -> str:
    return _number(statistics.median(seconds)) if seconds else ""


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markdown:
    return Markdown(_rows(header, rows)) if rows else NONE


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines
    )
