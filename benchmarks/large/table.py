"""What the large fits measured, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import number, table

# What JSON gives back.
Values = Mapping[str, Any]


def line(kind: str, answer: Values) -> str:
    """One line for someone who waits."""
    if "theta" not in answer:
        return f"{kind}: {answer['seconds']:.3g} s, {answer['peak_gib']:.2g} GiB"
    theta = ", ".join(f"{value:.4f}" for value in answer["theta"])
    return (
        f"{kind}, {answer['n']:,} rows: {answer['seconds']:.3g} s, CPU "
        f"{answer['cpu_seconds']:.3g} s, {answer['peak_gib']:.2f} GiB, theta {theta}, "
        f"{answer['evaluations']} evaluations, {answer['solver']}"
    )


def markdown(result: Values) -> str:
    """All tables of a run."""
    head = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    parts = ["# Large fits", head + "."]
    parts += [PARTS[name](rows) for name, rows in result.items() if name in PARTS]
    return "\n\n".join(parts) + "\n"


FIT_HEADER = (
    "data",
    "s",
    "CPU, s",
    "peak GiB",
    "data GiB",
    "theta (truth)",
    "Monte-Carlo error",
    "log-likelihood",
    "probes",
    "evaluations",
    "iterations",
    "solver",
)


def fit_row(row: Values) -> list[str]:
    """A fit, or the reason why there is none."""
    title = str(row.get("title", row.get("name", "")))
    if "reason" in row:
        return [title, row["reason"], *[""] * (len(FIT_HEADER) - 2)]
    pairs = zip(row["theta"], row["truth"], strict=True)
    return [
        title,
        number(row["seconds"], ".3g"),
        number(row["cpu_seconds"], ".3g"),
        number(max(row["peak_gib"], row["workers_gib"]), ".2f"),
        number(row["data_gib"], ".2f"),
        ", ".join(f"{value:.4f} ({true:.4f})" for value, true in pairs),
        ", ".join(f"{error:.1e}" for error in row["monte_carlo_error"]),
        f"{row['log_likelihood']:.3f} ± {row['log_likelihood_error']:.1g}",
        str(row["probes"]),
        str(row["evaluations"]),
        str(row["iterations"]),
        row["solver"],
    ]


def _fits(title: str, rows: Sequence[Values]) -> str:
    return f"## {title}\n\n" + table(FIT_HEADER, [fit_row(row) for row in rows])


GENERAL_HEADER = (
    "data",
    "s",
    "CPU, s",
    "peak GiB",
    "theta",
    "Monte-Carlo error",
    "coefficients (errors)",
    "log-likelihood",
    "probes",
    "evaluations",
    "iterations",
)


def _general(rows: Sequence[Values]) -> str:
    shown = [
        [str(row["title"]), row["reason"], *[""] * (len(GENERAL_HEADER) - 2)]
        if "reason" in row
        else [
            str(row["title"]),
            number(row["seconds"], ".3g"),
            number(row["cpu_seconds"], ".3g"),
            number(row["peak_gib"], ".2f"),
            ", ".join(f"{value:.4f}" for value in row["theta"]),
            ", ".join(f"{error:.1e}" for error in row["monte_carlo_error"]),
            ", ".join(
                f"{value:.4f} ({error:.4f})"
                for value, error in zip(row["coefficients"], row["errors"], strict=True)
            ),
            f"{row['log_likelihood']:.3f} ± {row['log_likelihood_error']:.1g}",
            str(row["probes"]),
            str(row["evaluations"]),
            str(row["iterations"]),
        ]
        for row in rows
    ]
    return "## Yes-no answers, from arrays to the result\n\n" + table(GENERAL_HEADER, shown)


def _growth(rows: Sequence[Values]) -> str:
    header = ("cells", "one evaluation, s", "ns a cell", "iterations")
    shown = [
        [
            f"{row['cells']:,}",
            number(row["evaluation_seconds"], ".3g"),
            number(1e9 * row["evaluation_seconds"] / row["cells"], ".0f"),
            str(row["iterations"]),
        ]
        for row in rows
        if "reason" not in row
    ]
    return "## One evaluation as the cells grow\n\n" + table(header, shown)


def _peers(rows: Sequence[Values]) -> str:
    own = next((r["median"] for r in rows if r["peer"] == "interlace"), None)
    header = ("package", "s", "ratio", "note")
    shown = [
        [
            f"{row['peer']} {row['version']}",
            number(row["median"], ".3g"),
            number(row["median"] / own if row["median"] and own else None, ".1f"),
            row["reason"] or row["status"],
        ]
        for row in rows
    ]
    return "## 1e6 rows, 50,000 x 2,000, beside other packages\n\n" + table(header, shown)


PARTS = {
    "fits": lambda rows: _fits("From arrays to the result", rows),
    "general": _general,
    "growth": _growth,
    "files": lambda rows: _fits("From files to the result", rows),
    "peers": _peers,
}
