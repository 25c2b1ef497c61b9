"""Tables of a fitted model, as text, as HTML and as frames."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from interlace.result import CrossedLMEResult

Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells of one table: a header, rows, and how many leading columns are labels."""

    title: str
    header: Row
    rows: tuple[Row, ...]
    labels: int


@dataclass(frozen=True)
class Summary:
    """Summary of a fitted model; ``str()`` gives text, notebooks show HTML."""

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def summarize(result: CrossedLMEResult) -> Summary:
    """Collect the tables of a result."""
    return Summary(
        title=f"Linear mixed model fitted by {result.method}",
        facts=_facts(result),
        tables=(_random_table(result), _fixed_table(result)),
        notes=_notes(result),
    )


def coefficient_frame(result: CrossedLMEResult) -> pd.DataFrame:
    """Estimate, standard error, statistic, p-value and 95 % interval of every coefficient."""
    frame = pd.DataFrame(
        {
            "estimate": result.fe_params,
            "se": result.fe_bse,
            "z": result.fe_tvalues,
            "p": result.fe_pvalues,
        }
    )
    return frame.join(result.fe_conf_int)


def _facts(result: CrossedLMEResult) -> tuple[tuple[str, str], ...]:
    criterion = "REML criterion" if result.method == "REML" else "-2 log-likelihood"
    groups = ", ".join(f"{key} {size:,}" for key, size in result.ngroups.items())
    dropped = f" ({result.n_dropped:,} dropped: missing values)" if result.n_dropped else ""
    convergence = result.convergence
    state = "converged" if convergence.converged else f"NOT converged: {convergence.message}"
    return (
        ("Formula", str(result.formula)),
        ("Observations", f"{result.nobs:,}{dropped}"),
        ("Groups", groups),
        (criterion, f"{result.criterion:.4f}"),
        ("Log-likelihood", f"{result.llf:.4f}"),
        ("AIC, BIC", f"{result.aic:.2f}, {result.bic:.2f}"),
        (
            "Optimiser",
            f"{state}, {convergence.n_evaluations} evaluations, {convergence.solver} solver",
        ),
    )


def _random_table(result: CrossedLMEResult) -> Table:
    """Variances, standard deviations and correlations of the random effects."""
    blocks = [
        (key, value if isinstance(value, pd.DataFrame) else _one(value))
        for key, value in result.variance_components.items()
    ]
    widest = max(len(frame) for _, frame in blocks)
    rows: list[Row] = []
    for key, frame in blocks:
        variances = np.diag(frame)
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations = frame.to_numpy() / np.sqrt(np.outer(variances, variances))
        for i, name in enumerate(frame.index):
            shown = [_correlation(r) for r in correlations[i, :i]]
            cells = (_number(variances[i]), _number(np.sqrt(variances[i])))
            label = (key if i == 0 else "", str(name))
            rows.append((*label, *cells, *shown, *[""] * (widest - 1 - len(shown))))
    residual = (_number(result.scale), _number(np.sqrt(result.scale)))
    rows.append(("Residual", "", *residual, *[""] * (widest - 1)))
    correlation = ("Corr.", *[""] * (widest - 2)) if widest > 1 else ()
    header = ("Group", "Effect", "Variance", "Std. dev.", *correlation)
    return Table("Random effects", header, tuple(rows), labels=2)


def _one(variance: float) -> pd.DataFrame:
    return pd.DataFrame([[variance]], index=["Intercept"], columns=["Intercept"])


def _fixed_table(result: CrossedLMEResult) -> Table:
    header = ("", "Estimate", "Std. error", "z", "P>|z|", "[0.025", "0.975]")
    rows = tuple(
        (
            str(name),
            _number(row.estimate),
            _number(row.se),
            f"{row.z:.3f}",
            f"{row.p:.3f}" if row.p >= 0.0005 else "<0.001",
            _number(row.low),
            _number(row.high),
        )
        for name, row in zip(
            result.fe_params.index,
            coefficient_frame(result)
            .set_axis([*["estimate", "se", "z", "p", "low", "high"]], axis=1)
            .itertuples(),
            strict=True,
        )
    )
    return Table("Fixed effects", header, rows, labels=1)


def _notes(result: CrossedLMEResult) -> tuple[str, ...]:
    notes = []
    if result.estimate.A.dropped:
        dropped = ", ".join(result.estimate.A.dropped)
        notes.append(f"Dropped as linearly dependent on earlier columns: {dropped}")
    if result.is_singular:
        terms = ", ".join(result.estimate.singular_groups)
        notes.append(
            f"Singular fit: a variance, or a combination of random effects, is zero in {terms}"
        )
    return tuple(notes)


def _number(value: float) -> str:
    """Six significant digits, plainly where that is readable."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        decimals = 4 if value == 0 else int(np.clip(5 - np.floor(np.log10(abs(value))), 0, 6))
        return f"{value:.{decimals}f}"
    return f"{value:.4e}"


def _correlation(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def as_text(summary: Summary) -> str:
    """Plain-text rendering."""
    width = max(len(name) for name, _ in summary.facts)
    lines = [summary.title, "=" * len(summary.title)]
    lines += [f"{name + ':':<{width + 2}}{value}" for name, value in summary.facts]
    for table in summary.tables:
        lines += ["", table.title, *_text_rows(table)]
    if summary.notes:
        lines += ["", *summary.notes]
    return "\n".join(lines)


def _text_rows(table: Table) -> list[str]:
    grid = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(table.header))]

    def line(row: Row) -> str:
        cells = [
            cell.ljust(w) if i < table.labels else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "-" * len("  ".join(" " * w for w in widths))
    return [rule, line(table.header), rule, *(line(row) for row in table.rows), rule]


def as_html(summary: Summary) -> str:
    """HTML rendering, without styles of its own beyond alignment."""
    facts = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in summary.facts
    )
    parts = [f"<div><h4>{escape(summary.title)}</h4><table>{facts}</table>"]
    for table in summary.tables:
        head = "".join(_html_cell(c, i, table.labels, "th") for i, c in enumerate(table.header))
        body = "".join(
            "<tr>"
            + "".join(_html_cell(c, i, table.labels, "td") for i, c in enumerate(r))
            + "</tr>"
            for r in table.rows
        )
        caption = f'<caption style="text-align:left"><b>{escape(table.title)}</b></caption>'
        parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    parts += [f"<p>{escape(note)}</p>" for note in summary.notes]
    return "".join(parts) + "</div>"


def _html_cell(text: str, column: int, labels: int, tag: str) -> str:
    side = "left" if column < labels else "right"
    return f'<{tag} style="text-align:{side}">{escape(text)}</{tag}>'
