"""The summary of a mixed model with a variance function and random effects of several factors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interlace.choices import Ddf
from interlace.inference.information import errors_of
from interlace.model.confidence import check_level
from interlace.model.fitted import shown_components
from interlace.reporting.broom import (
    fixed_rows,
    joined,
    level_rows,
    parameter_rows,
    wanted_effects,
)
from interlace.reporting.summary import (
    Summary,
    Table,
    aligned,
    chance_notes,
    chance_table,
    fixed_table,
    random_table,
)

if TYPE_CHECKING:
    from interlace.inference.scaled_tests import TestedScaledModel


def summarize_scaled(result: TestedScaledModel) -> Summary:
    """Collect the tables of a mixed model with a variance function."""
    random = random_table(shown_components(result), None)
    return Summary(
        title=f"Linear mixed model with unequal residual variances fitted by {result.method}",
        facts=_facts(result),
        tables=(
            random,
            _residuals(result),
            fixed_table(result),
            *chance_table(result, _moved(result)),
        ),
        notes=_notes(result),
    )


def _facts(result: TestedScaledModel) -> tuple[tuple[str, str], ...]:
    criterion = "REML criterion" if result.method == "REML" else "-2 log-likelihood"
    dropped = f" ({result.n_dropped:,} dropped: missing values)" if result.n_dropped else ""
    convergence = result.convergence
    state = "converged" if convergence.converged else f"NOT converged: {convergence.message}"
    return (
        ("Formula", str(result.formula)),
        ("Residuals", str(result.residual)),
        ("Observations", f"{result.nobs:,}{dropped}"),
        ("Groups", ", ".join(f"{key} {size:,}" for key, size in result.ngroups.items())),
        (criterion, f"{result.criterion:.4f}"),
        ("Log-likelihood", f"{result.llf:.4f}"),
        ("AIC, BIC", f"{result.aic:.2f}, {result.bic:.2f}"),
        ("Optimiser", f"{state}, {convergence.n_evaluations} evaluations"),
    )


def _residuals(result: TestedScaledModel) -> Table:
    values = result.residual_values
    numbers = zip(values, aligned(np.array(list(values.values()))), strict=True)
    return Table("Residual parameters", ("", "Estimate"), tuple(numbers), labels=1)


def _moved(result: TestedScaledModel) -> dict[str, tuple[float, float]]:
    """Logarithms of ratios, and exponents, by name; and how they change with what is searched."""
    found = {}
    parts = zip(result.ratios, result.units, result.estimate.eta.tolist(), strict=True)
    for (name, is_ratio), unit, eta in parts:
        rate = 1.0 if is_ratio else 1.0 / unit
        found[f"log {name}" if is_ratio else name] = (rate * eta, rate)
    return found


def _notes(result: TestedScaledModel) -> tuple[str, ...]:
    notes, dropped = chance_notes(result), result.estimate.A.dropped
    if dropped:
        notes.append(f"Dropped as linearly dependent on earlier columns: {', '.join(dropped)}")
    return tuple(notes)


# ------------------------------------------------------------------ tidy


def tidy_scaled(
    result: TestedScaledModel,
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
        "ran_pars": lambda: _parameters(result),
        "ran_vals": lambda: level_rows(result, conf_level),
    }
    return joined([parts[kind]() for kind in wanted_effects(effects)], conf_int=conf_int)


def _parameters(result: TestedScaledModel) -> pd.DataFrame:
    """Standard deviations and correlations of the random effects, then of the residuals."""
    estimate = result.estimate
    own = np.append(np.arange(len(estimate.theta)), -1)
    errors = errors_of(estimate.weighted, result.parameter_covariance[np.ix_(own, own)])
    rows = [
        {"group": term.group, **row}
        for j, term in enumerate(estimate.A.terms)
        for row in parameter_rows(
            term, estimate.covariances[j], errors.sds[j], errors.correlations[j], None
        )
    ]
    rows += [
        {"group": "Residual", "term": name, "estimate": value, "std.error": error}
        for name, value, error in result.residual_parameters[["estimate", "se"]].itertuples(
            name=None
        )
    ]
    return pd.DataFrame(rows).assign(effect="ran_pars")
