"""The summary and the tidy tables of a model with a residual structure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interlace.choices import Ddf
from interlace.estimation.parameters import entry_names
from interlace.inference.profiles.structured import covariance_table
from interlace.model.confidence import check_level
from interlace.model.fitted import shown_components
from interlace.reporting.broom import (
    chance_columns,
    fixed_rows,
    joined,
    level_rows,
    wanted_effects,
)
from interlace.reporting.summary import (
    Row,
    Summary,
    Table,
    aligned,
    correlations,
    fixed_table,
    random_table,
)

if TYPE_CHECKING:
    from interlace.inference.correlated import TestedStructuredModel
    from interlace.inference.scaled_tests import TestedScaledModel


def summarize_structured(result: TestedStructuredModel) -> Summary:
    """Collect the tables of a model with a residual structure."""
    return Summary(
        title=f"Linear model with correlated residuals fitted by {result.method}",
        facts=_facts(result),
        tables=(*_covariance_tables(result), *_random(result), fixed_table(result)),
        notes=_notes(result),
    )


def _facts(result: TestedStructuredModel) -> tuple[tuple[str, str], ...]:
    criterion = "REML criterion" if result.method == "REML" else "-2 log-likelihood"
    dropped = f" ({result.n_dropped:,} dropped: missing values)" if result.n_dropped else ""
    convergence = result.convergence
    state = "converged" if convergence.converged else f"NOT converged: {convergence.message}"
    subjects = list(result.ngroups.values())
    return (
        ("Formula", str(result.formula)),
        ("Residuals", str(result.residual)),
        ("Observations", f"{result.nobs:,}{dropped}"),
        ("Subjects", f"{subjects[0]:,}" if subjects else "-"),
        *_groups(result),
        (criterion, f"{result.criterion:.4f}"),
        ("Log-likelihood", f"{result.llf:.4f}"),
        ("AIC, BIC", f"{result.aic:.2f}, {result.bic:.2f}"),
        ("BIC by subjects", f"{result.bic_subjects:.2f}"),
        ("Optimiser", f"{state}, {convergence.n_evaluations} evaluations"),
    )


def _groups(result: TestedStructuredModel) -> list[tuple[str, str]]:
    """Levels of the factors whose effects subjects share."""
    sizes = [(t.group, t.l) for t in (result.estimate.A.terms[j] for j in result.shared)]
    shown = ", ".join(f"{group} {size:,}" for group, size in dict(sizes).items())
    return [("Groups", shown)] if sizes else []


def _random(result: TestedStructuredModel) -> list[Table]:
    """Random effects, and parameters of the residuals beside variances by visit."""
    found = []
    if result.variance_components:
        found.append(random_table(shown_components(result), None))
    if result.residual is not None and (result.residual.variance or _timed(result)):
        table = result.residual_parameters
        numbers = zip(table.index, aligned(table["estimate"].to_numpy()), strict=True)
        found.append(Table("Residual parameters", ("", "Estimate"), tuple(numbers), labels=1))
    return found


def _timed(result: TestedStructuredModel) -> bool:
    """Whether subjects have times of their own."""
    return result.grid is not None and result.grid.times is not None


def _covariance_tables(result: TestedStructuredModel) -> list[Table]:
    """Variances, standard deviations and correlations by visit, a table a group."""
    if (result.residual is not None and result.residual.structure == "id") or _timed(result):
        return []
    found = result.residual_covariance
    if isinstance(found, pd.DataFrame):
        return [_covariance_table("Residual covariance by visit", found)]
    by = "" if result.residual is None else f"{result.residual.by} = "
    return [
        _covariance_table(f"Residual covariance by visit, {by}{group}", frame)
        for group, frame in found.items()
    ]


def _covariance_table(title: str, frame: pd.DataFrame) -> Table:
    variances, k = np.diag(frame), len(frame)
    numbers = zip(aligned(variances), aligned(np.sqrt(variances)), strict=True)
    above = correlations(frame.to_numpy())
    rows: list[Row] = [
        (str(name), *own, *above[i], *("",) * (k - 1 - i))
        for i, (name, own) in enumerate(zip(frame.index, numbers, strict=True))
    ]
    header = ("Visit", "Variance", "Std. dev.", "Corr.", *("",) * (k - 2))
    return Table(title, header, tuple(rows), labels=1)


def _notes(result: TestedStructuredModel) -> tuple[str, ...]:
    notes = []
    if result.estimate.A.dropped:
        dropped = ", ".join(result.estimate.A.dropped)
        notes.append(f"Dropped as linearly dependent on earlier columns: {dropped}")
    if result.tried:
        tried = ", ".join(map(str, result.tried))
        notes.append(f"Structures before this one whose fits did not converge: {tried}")
    return tuple(notes)


# ------------------------------------------------------------------ tidy


def tidy_structured(
    result: TestedStructuredModel,
    effects: str | Iterable[str] = "fixed",
    *,
    ddf: Ddf | None = None,
    conf_int: bool = False,
    conf_level: float = 0.95,
) -> pd.DataFrame:
    """Estimates of a model, one a row, in broom.mixed's columns; see the method ``tidy``."""
    check_level(conf_level, "conf_level")
    parts = {
        "fixed": lambda: fixed_rows(result.coef_table(ddf, conf_level)),
        "ran_pars": lambda: _parameters(result, conf_level),
        "ran_vals": lambda: level_rows(result, conf_level),
    }
    return joined([parts[kind]() for kind in wanted_effects(effects)], conf_int=conf_int)


def _parameters(result: TestedStructuredModel, level: float) -> pd.DataFrame:
    """Parameters of the random effects, and of the residual structure."""
    table = covariance_table(result, level)
    labels = [
        (t.group, name)
        for t in result.estimate.A.terms
        for name in entry_names(t, "sd__{}", "cor__{1}.{0}")
    ]
    for name in result.parameter_names:
        by, _, own = name.rpartition(": ")
        labels.append((f"Residual {by}" if by else "Residual", own))
    columns = {
        "effect": "ran_pars",
        "group": [group for group, _ in labels],
        "term": [name for _, name in labels],
        "estimate": table["estimate"].to_numpy(),
        "std.error": table["se"].to_numpy(),
        "conf.low": table["lower"].to_numpy(),
        "conf.high": table["upper"].to_numpy(),
    }
    return pd.DataFrame(columns)


def glance_structured(result: TestedStructuredModel | TestedScaledModel) -> pd.DataFrame:
    """One row about a model, in broom.mixed's columns."""
    row = {
        "nobs": result.nobs,
        "logLik": result.llf,
        "AIC": result.aic,
        "BIC": result.bic,
        "REMLcrit" if result.method == "REML" else "deviance": result.criterion,
        "df.residual": result.nobs - result.nparams,
    }
    return pd.DataFrame([row | chance_columns(result.convergence)])
