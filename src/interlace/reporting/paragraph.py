"""The paragraph on a model for a paper: what was fitted, how it was tested, what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interlace import __version__
from interlace.choices import Ddf
from interlace.inference.tested import TestedModel
from interlace.model.fitted import effect_powers, shown_components, tame
from interlace.reporting import apa
from interlace.reporting.explained import r2
from interlace.sums.sizes import in_units

_SD = "a standard deviation"
_TESTS = {
    "normal": "Tests refer to the normal distribution (z).",
    "satterthwaite": "Degrees of freedom of the tests are Satterthwaite's.",
    "kenward-roger": (
        "Standard errors and degrees of freedom of the tests are Kenward and Roger's."
    ),
}


def report(result: TestedModel, *, ddf: Ddf | None = None, level: float = 0.95) -> str:
    """Methods and results in words; see the method ``report``."""
    parts = [
        *_methods(result),
        _TESTS.get(ddf or result.options.ddf, ""),
        _explained(result),
        _effects(result.coef_table(ddf, level), level),
        _spread(result),
        *_doubts(result),
    ]
    return " ".join(part for part in parts if part)


def _methods(result: TestedModel) -> list[str]:
    way = {
        "REML": "restricted maximum likelihood (REML)",
        "ML": "maximum likelihood (ML)",
    }[result.method]
    response = result.formula.response
    sentences = [
        f"We fitted a linear mixed model of {response} to {result.nobs:,} observations by {way} "
        f"with interlace {__version__} (formula: {result.formula}).",
        f"Random effects were {_listed(_random_terms(result))}.",
    ]
    if result.n_dropped:
        sentences.append(
            f"{result.n_dropped:,} of {result.nobs + result.n_dropped:,} rows were left out "
            "because of missing values."
        )
    if result.options.weights is not None:
        sentences.append("Observations were weighted.")
    return sentences


def _random_terms(result: TestedModel) -> list[str]:
    """``intercepts and slopes of Days by Subject (18 levels)``."""
    words = []
    for key, component in shown_components(tame(result)).items():
        names = list(component.index) if isinstance(component, pd.DataFrame) else ["Intercept"]
        slopes = [str(name) for name in names if name != "Intercept"]
        kinds = ["intercepts"] if "Intercept" in names else []
        kinds += [f"slopes of {_listed(slopes)}"] if slopes else []
        words.append(f"{' and '.join(kinds)} by {key} ({result.ngroups[key]:,} levels)")
    return words


def _explained(result: TestedModel) -> str:
    found = r2(result)
    return (
        f"The fixed effects explained {100 * found.marginal:.1f} % of the variance (marginal R2 = "
        f"{_share(found.marginal)}), fixed and random effects together "
        f"{100 * found.conditional:.1f} % (conditional R2 = {_share(found.conditional)})."
    )


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def _effects(table: pd.DataFrame, level: float) -> str:
    """All coefficients but the intercept, with interval and test."""
    sentences = []
    for name, row in table.iterrows():
        if name == "Intercept" and len(table) > 1:
            continue
        places = apa.decimals_for(float(row["se"]), 2)
        b, low, high = (apa.number(float(row[c]), places) for c in ("estimate", "lower", "upper"))
        tested = apa.test(float(row["statistic"]), float(row["df"]), float(row["p"]))
        clear = "" if row["p"] < 1.0 - level else "not "
        sentences.append(
            f"The estimate for {name} was {clear}significantly different from 0, b = {b}, "
            f"{100 * level:g} % CI [{low}, {high}], {tested}."
        )
    return " ".join(sentences)


def _spread(result: TestedModel) -> str:
    """Standard deviations of the random effects and the residuals."""
    parts, units, near = [], result.estimate.units, tame(result)
    powers = {} if units is None else effect_powers(result, units)
    spread = shown_components(near) if units is None else near.variance_components
    for key, component in spread.items():
        if isinstance(component, pd.DataFrame):
            sds = np.sqrt(np.diag(component))
            names = [str(name) for name in component.index]
        else:
            sds, names = np.sqrt(np.array([component])), ["Intercept"]
        for name, sd in zip(names, in_units(sds, powers.get(key, 0), _SD), strict=True):
            what = "intercepts" if name == "Intercept" else f"slopes of {name}"
            shown = apa.number(sd, apa.decimals_for(sd, 2)) or "not determined by the data"
            parts.append(f"{shown} for {what} by {key}")
    sd = result.estimate.sigma
    parts.append(f"{apa.number(sd, apa.decimals_for(sd, 2))} for the residuals")
    return f"Standard deviations were {_listed(parts)}."


def _doubts(result: TestedModel) -> list[str]:
    doubts = []
    if not result.converged:
        doubts.append("The search for the optimum did not converge, so the numbers are not final.")
    if result.is_singular:
        groups = _listed(list(result.estimate.singular_groups))
        doubts.append(f"The fit was singular: a variance of {groups} is estimated as zero.")
    return doubts


def _listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
