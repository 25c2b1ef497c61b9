"""Tables and plots of the page on large data, from the stored results of ``make bench-large``.

``benchmarks/results/large/latest.json`` wins; without one, ``docs/figures-large.json`` is used,
which is such a file kept with the source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotnine as p9
from IPython.display import Markdown

DOCS = Path(__file__).parent
LATEST = DOCS.parent / "benchmarks" / "results" / "large" / "latest.json"
KEPT = DOCS / "figures-large.json"
NONE = Markdown("*Not measured in the stored run.*")

Values = dict[str, Any]


@dataclass(frozen=True)
class LargeFigures:
    """One run of the benchmark of large fits; empty if there is none."""

    run: Values

    def head(self) -> Markdown:
        """When and where."""
        if "settings" not in self.run:
            return Markdown("*No run is stored with this copy; `make bench-large` makes one.*")
        s = self.run["settings"]
        machine = f"{s['system']}, {s['cpus']} cores, Python {s['python']}"
        share = "" if s["scale"] == 1.0 else f", data at {s['scale']:g} of their size"
        return Markdown(f"Run of {s['date']}: {machine}{share}.")

    def fits(self) -> Markdown:
        """From arrays to the result: seconds, memory, and how good the answer is."""
        return _table(self._rows("fits"), {"data": lambda row: row["title"], **_COST, **_ERRORS})

    def files(self) -> Markdown:
        """From Parquet files: by path, and through Dask workers."""
        names = {"parquet": "`fit(formula, 'data/*.parquet')`", "dask": "Dask, two workers"}
        return _table(
            self._rows("files"), {"call": lambda row: names[row["name"]], **_COST, **_WORKERS}
        )

    def peers(self) -> Markdown:
        """1e6 rows beside another package."""
        rows = self._rows("peers")
        own = next((row["median"] for row in rows if row["peer"] == "interlace"), None)
        return _table(
            [row for row in rows if row["median"]],
            {
                "package": lambda row: f"{row['peer']} {row['version']}",
                "s": lambda row: f"{row['median']:.3g}",
                "relative to interlace": lambda row: f"{row['median'] / own:.1f}" if own else "",
            },
        )

    def growth(self) -> p9.ggplot | Markdown:
        """Seconds of one evaluation by distinct cells, with a line of slope one."""
        rows = self._rows("growth")
        if not rows:
            return NONE
        frame = pd.DataFrame(rows)[["cells", "evaluation_seconds"]]
        middle = frame.iloc[len(frame) // 2]
        line = frame.assign(
            evaluation_seconds=middle["evaluation_seconds"] * frame["cells"] / middle["cells"]
        )
        return (
            p9.ggplot(frame, p9.aes("cells", "evaluation_seconds"))
            + p9.geom_line(data=line, linetype="dashed", color="#888888")
            + p9.geom_point(size=2.5)
            + p9.scale_x_log10()
            + p9.scale_y_log10()
            + p9.labs(x="distinct cells", y="one evaluation, s")
            + p9.theme_bw()
        )

    def fit(self, name: str) -> Values:
        """One of the fits, for numbers in sentences."""
        return next(row for row in self._rows("fits") if row["name"] == name)

    def _rows(self, part: str) -> list[Values]:
        return [row for row in self.run.get(part, []) if "reason" not in row or row.get("median")]


def stored_figures() -> LargeFigures:
    """The newest full run, else the one that is kept here, else none."""
    path = LATEST if LATEST.exists() else KEPT
    return LargeFigures(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})


Column = Callable[[Values], str]

_COST: dict[str, Column] = {
    "s": lambda row: f"{row['seconds']:.3g}",
    "CPU, s": lambda row: f"{row['cpu_seconds']:.3g}",
    "peak, GiB": lambda row: f"{row['peak_gib']:.2f}",
}
_WORKERS: dict[str, Column] = {
    "largest worker, GiB": lambda row: f"{row['workers_gib']:.2f}" if row["name"] == "dask" else "",
    "distinct cells": lambda row: f"{row['cells']:,}",
    "theta": lambda row: ", ".join(f"{value:.10f}" for value in row["theta"]),
}
_ERRORS: dict[str, Column] = {
    "theta (truth)": lambda row: ", ".join(
        f"{value:.4f} ({truth:.4f})"
        for value, truth in zip(row["theta"], row["truth"], strict=True)
    ),
    "Monte-Carlo error": lambda row: ", ".join(f"{e:.0e}" for e in row["monte_carlo_error"]),
    "evaluations": lambda row: str(row["evaluations"]),
}


def _table(rows: Sequence[Values], columns: dict[str, Column]) -> Markdown:
    if not rows:
        return NONE
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[show(row) for show in columns.values()] for row in rows]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))
