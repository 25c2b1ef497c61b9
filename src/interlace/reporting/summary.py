"""Tables of a fitted model, as text, as HTML and as frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interlace.choices import Ddf
from interlace.errors import choose
from interlace.estimation.parameters import theta_names
from interlace.machine.markup import html_facts, html_table
from interlace.model.fitted import DDF, effect_powers, shown_components, tame
from interlace.model.undetermined import in_words
from interlace.sums.sizes import Powers
from interlace.sums.terms import Floats

if TYPE_CHECKING:
    from interlace.inference.correlated import TestedStructuredModel
    from interlace.inference.general import TestedGeneralModel
    from interlace.inference.scaled_tests import TestedScaledModel
    from interlace.inference.tested import Coefficients, TestedModel

Row = tuple[str, ...]

# Columns of a terminal, and what is left of a label that is cut.
WIDTH, _LEAST_LABEL = 80, 14

# What the table of the fixed effects says about its tests.
_METHODS: Mapping[Ddf, str] = {
    "normal": "",
    "satterthwaite": " (degrees of freedom by Satterthwaite)",
    "kenward-roger": " (standard errors and degrees of freedom by Kenward and Roger)",
    "kenward-roger-linear": " (standard errors and df by Kenward and Roger, linear)",
    "between-within": " (degrees of freedom between and within subjects)",
    "residual": " (residual degrees of freedom)",
}


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


def summarize(result: TestedModel, ddf: Ddf | None = None) -> Summary:
    """Collect the tables of a result, tests with other degrees of freedom if asked."""
    return Summary(
        title=f"Linear mixed model fitted by {result.method}",
        facts=_facts(result),
        tables=(
            _variances(result),
            fixed_table(result, ddf),
            *chance_table(result),
        ),
        notes=_notes(result),
    )


def _facts(result: TestedModel) -> tuple[tuple[str, str], ...]:
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


def _variances(result: TestedModel) -> Table:
    """Of the random effects and the residuals, whether doubles can hold them or not."""
    units = result.estimate.units
    if units is None:
        return random_table(shown_components(result), result.scale)
    near = tame(result)
    powers = np.concatenate([*effect_powers(result, units).values(), [units.sigma]])
    return random_table(near.variance_components, near.scale, powers)


def random_table(
    components: Mapping[str, float | pd.DataFrame],
    residual: float | None,
    powers: Powers | None = None,
) -> Table:
    """Variances, standard deviations and correlations of the random effects.

    ``powers`` of 2 by which standard deviations are to be multiplied, that of the residuals last.
    """
    frames = {k: v if isinstance(v, pd.DataFrame) else _one(v) for k, v in components.items()}
    widest = max(len(frame) for frame in frames.values())
    left = [] if residual is None else [residual]
    variances = np.concatenate([*(np.diag(frame) for frame in frames.values()), left])
    columns = aligned(variances), aligned(np.sqrt(variances))
    if powers is not None:
        columns = _far(variances, 2 * powers), _far(np.sqrt(variances), powers)
    numbers = list(zip(*columns, strict=True))
    rows: list[Row] = []
    for key, frame in frames.items():
        above = correlations(frame.to_numpy())
        for i, name in enumerate(frame.index):
            label = (key if i == 0 else "", str(name))
            blank = ("",) * (widest - 1 - i)
            rows.append((*label, *numbers[len(rows)], *above[i], *blank))
    if residual is not None:
        rows.append(("Residual", "", *numbers[-1], *("",) * (widest - 1)))
    correlation = ("Corr.", *("",) * (widest - 2)) if widest > 1 else ()
    header = ("Group", "Effect", "Variance", "Std. dev.", *correlation)
    return Table("Random effects", header, tuple(rows), labels=2)


def _one(variance: float) -> pd.DataFrame:
    return pd.DataFrame([[variance]], index=["Intercept"], columns=["Intercept"])


def correlations(covariance: Floats) -> list[Row]:
    """Per row, correlations with the rows above; empty where a variance is zero, a dash for NaN."""
    sd = np.sqrt(np.diag(covariance))
    return [
        tuple(_correlation(c, sd[i] * sd[j]) for j, c in enumerate(covariance[i, :i]))
        for i in range(len(sd))
    ]


def _correlation(covariance: float, scale: float) -> str:
    if np.isnan(covariance) or np.isnan(scale):
        return "-"
    return f"{covariance / scale:.3f}" if scale > 0 else ""


def fixed_table(
    result: TestedModel | TestedGeneralModel | TestedStructuredModel | TestedScaledModel,
    ddf: Ddf | None = None,
) -> Table:
    """Coefficients with z tests, or with t tests and their degrees of freedom."""
    found = result.coef_table(ddf)
    large = bool(np.isinf(found["df"]).all())
    letter = "z" if large else "t"
    columns = {
        "": [str(name) for name in found.index],
        "Estimate": aligned(found["estimate"].to_numpy()),
        "Std. error": aligned(found["se"].to_numpy()),
        **({} if large else {"df": [f"{df:.2f}" for df in found["df"]]}),
        letter: [f"{t:.3f}" for t in found["statistic"]],
        f"P>|{letter}|": [f"{p:.3f}" if p >= 0.0005 else "<0.001" for p in found["p"]],
        "[0.025": aligned(found["lower"].to_numpy()),
        "0.975]": aligned(found["upper"].to_numpy()),
    }
    rows = tuple(zip(*columns.values(), strict=True))
    how = _METHODS[choose("ddf", ddf or result.options.ddf, DDF, one_of=True)]
    return Table(f"Fixed effects{how}", tuple(columns), rows, labels=1)


def chance_notes(result: Coefficients[Any]) -> list[str]:
    """What the errors in :func:`chance_table` make of other numbers."""
    if result.convergence.criterion_error is None:
        return []
    return ["AIC and BIC have twice the Monte-Carlo error of the log-likelihood."]


def chance_table(
    result: Coefficients[Any], further: Mapping[str, tuple[float, float]] | None = None
) -> tuple[Table, ...]:
    """Monte-Carlo errors that the iterative solver left; nothing after the exact one.

    ``further`` are parameters beside theta, by name: the value, and the rate at which it changes
    with what a search moves.
    """
    found = result.convergence
    error, statistical = found.monte_carlo_error, found.statistical_error
    if error is None or statistical is None or found.criterion_error is None:
        return ()
    names = [f"theta {name}" for name in theta_names(result.estimate.A.terms)]
    shown = dict(zip(names, ((value, 1.0) for value in result.theta), strict=True))
    shown |= further or {}
    rows: list[Row] = [
        (name, f"{value:.6g}", f"{rate * mc:.1e}", f"{rate * se:.1e}", _share(mc, se))
        for (name, (value, rate)), mc, se in zip(shown.items(), error, statistical, strict=True)
    ]
    rows.append(("Log-likelihood", f"{result.llf:.4f}", f"{0.5 * found.criterion_error:.1e}"))
    title = (
        f"Monte-Carlo standard errors ({found.n_probes} random probes, {found.n_iterations} "
        f"iterations of conjugate gradients)"
    )
    header = ("", "Estimate", "Monte Carlo", "Statistical", "Ratio")
    return (Table(title, header, tuple((*row, *[""] * (5 - len(row))) for row in rows), labels=1),)


def _share(part: float, whole: float) -> str:
    return f"{100.0 * part / whole:.2g} %" if whole > 0.0 else ""


def _notes(result: TestedModel) -> tuple[str, ...]:
    notes = chance_notes(result)
    if result.estimate.A.dropped:
        dropped = ", ".join(result.estimate.A.dropped)
        notes.append(f"Dropped as linearly dependent on earlier columns: {dropped}")
    if result.is_singular:
        terms = ", ".join(result.estimate.singular_groups)
        notes.append(
            f"Singular fit: a variance, or a combination of random effects,\nis zero in {terms}; "
            f"see singular_report()"
        )
    if result.estimate.undetermined:
        held = result.estimate
        notes.append(f"(-) {in_words(held.undetermined, held.A.terms, result.encoding)}")
    if result.convergence.n_basins > 1:
        notes.append(
            f"{result.convergence.n_basins} minima of the criterion were seen, of which this is "
            f"the lowest; there may be lower ones"
        )
    elif result.convergence.doubtful:
        notes.append(
            "Doubtful optimum: a search for it did not end, or ended elsewhere; there may be a "
            "lower one"
        )
    return tuple(notes)


def aligned(values: Floats) -> list[str]:
    """One column of numbers with the same decimals, six digits of the largest; a dash for NaN."""
    sizes = np.abs(values[~np.isnan(values)])
    largest = float(sizes.max(initial=0.0))
    smallest = float(sizes[sizes != 0].min(initial=largest))
    if not 1e-4 <= largest < 1e7 or smallest < 1e-6 * largest:
        return [_or_dash(v, f"{v:.4e}" if v else "0") for v in values]
    decimals = int(np.clip(5 - np.floor(np.log10(largest)), 2, 6))
    return [_or_dash(v, f"{v:.{decimals}f}") for v in values]


def _far(values: Floats, powers: Powers) -> list[str]:
    """Numbers times powers of 2, written also where doubles end; a dash for NaN."""
    texts = []
    for value, power in zip(values.tolist(), powers.tolist(), strict=True):
        tens = float(np.log10(value)) + power * float(np.log10(2.0)) if value > 0.0 else 0.0
        whole = int(np.floor(tens)) if np.isfinite(tens) else 0
        texts.append(
            _or_dash(value, f"{10.0 ** (tens - whole):.4f}e{whole:+03d}" if value else "0")
        )
    return texts


def _or_dash(value: float, text: str) -> str:
    """A dash for what is not determined."""
    return "-" if np.isnan(value) else text


def as_text(summary: Summary) -> str:
    """Plain text in 80 columns."""
    width = max(len(name) for name, _ in summary.facts)
    lines = [summary.title, "=" * len(summary.title)]
    for name, value in summary.facts:
        first, *more = wrap(value, WIDTH - width - 2, break_long_words=False) or [""]
        lines += [f"{name + ':':<{width + 2}}{first}", *(" " * (width + 2) + one for one in more)]
    for table in summary.tables:
        shown = fitting(table)
        lines += ["", *wrap(shown.title, WIDTH), *text_rows(shown)]
    for note in summary.notes:
        lines.append("")
        for line in note.split("\n"):
            lines += wrap(line, WIDTH, break_long_words=False)
    return "\n".join(lines)


def fitting(table: Table) -> Table:
    """A table in 80 columns: long labels are cut, then the last columns left out."""
    grid = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(table.header))]
    over = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    for i in sorted(range(table.labels), key=lambda i: -widths[i]):
        cut = max(0, min(over, widths[i] - _LEAST_LABEL))
        widths[i] -= cut
        over -= cut
    kept = len(widths)
    while over > 0 and kept > table.labels + 1:
        kept -= 1
        over -= widths[kept] + 2
    rows = [
        tuple(
            cell if i >= table.labels or len(cell) <= widths[i] else cell[: widths[i] - 2] + ".."
            for i, cell in enumerate(row[:kept])
        )
        for row in grid
    ]
    more = "" if kept == len(table.header) else " (more columns: in HTML, or as frames)"
    return Table(table.title + more, rows[0], tuple(rows[1:]), table.labels)


def text_rows(table: Table) -> list[str]:
    """Lines of a table, with rules."""
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
    parts = [f"<div><h4>{escape(summary.title)}</h4>{html_facts(summary.facts)}"]
    for table in summary.tables:
        title = f"<b>{escape(table.title)}</b>"
        caption = f'<caption style="text-align:left;padding:0.7em 0.7em 0.1em">{title}</caption>'
        left = [i < table.labels for i in range(len(table.header))]
        parts.append(html_table(table.header, table.rows, left, caption))
    parts += [f"<p>{escape(note)}</p>" for note in summary.notes]
    return "".join(parts) + "</div>"
