"""All checks of a model at once, each with one probability, judged together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interlace.diagnostics.checks import check_residuals, check_separation, dispersion_of
from interlace.diagnostics.collinearity import check_collinearity
from interlace.diagnostics.general import residuals
from interlace.diagnostics.influence import most_influential
from interlace.diagnostics.leverage import hat_rstudent, hat_values
from interlace.diagnostics.linearity import check_linearity
from interlace.diagnostics.normality import check_random_effects, shapiro_francia
from interlace.diagnostics.predictive import predictive_gap, responses_drawn
from interlace.diagnostics.simulated import FAULT, check_heteroscedasticity
from interlace.diagnostics.units import design_of
from interlace.errors import InterlaceError
from interlace.model.fitted import FittedModel, Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.model.simulate import Seed
from interlace.sums.terms import Floats

# Variance inflation that is a fault, of terms that are in no interaction.
_INFLATED = 10.0
FINE, LOOK, NONE = "fine", "look", "-"


@dataclass(frozen=True)
class Found:
    """What one check found, how probable that is in healthy data, and what to do about it.

    Where ``fault`` is given it is the verdict, else the probability; without either there is none.
    """

    said: str
    p: float = np.nan
    fault: bool | None = None
    advice: str = ""


def panel(result: Labelled[Any], nsim: int, seed: Seed) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A row a check: ``found, p, verdict``; and sentences on those that need a look.

    Probabilities are judged together, by Holm's rule: one healthy data set in 20 has a fault found
    in any of them.  Influence is judged by its own cut-off.
    """
    asked: dict[str, Callable[[], Found]] = {
        "predictions": lambda: _predictions(result, nsim, seed),
        "linearity": lambda: _linearity(result),
        "homogeneity": lambda: _homogeneity(result),
        "normality": lambda: _normality(result, seed),
        "simulated residuals": lambda: _simulated(result, nsim, seed),
        "random effects": lambda: _random_effects(result),
        "influential rows": lambda: _influence(result, 1),
    }
    for group in result.ngroups:
        asked[f"influential {group}"] = lambda group=group: _influence(result, group)  # type: ignore[misc]
    asked["collinearity"] = lambda: _collinearity(result)
    if isinstance(result, FittedGeneralModel):
        model = result
        asked["dispersion"] = lambda: _dispersion(model, nsim, seed)
        asked["separation"] = lambda: _separation(model)
        del asked["homogeneity"]
    asked["singularity"] = lambda: _singularity(result)
    found = {name: ask() for name, ask in asked.items()}
    return _judged(found)


def _judged(found: dict[str, Found]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Verdicts, and the advice of those that need a look."""
    p = np.array([one.p for one in found.values()], dtype=np.float64)
    adjusted = holm(np.where([one.fault is None for one in found.values()], p, np.nan))
    rows, notes = [], []
    for (name, one), q in zip(found.items(), adjusted, strict=True):
        bad = one.fault if np.isnan(q) else bool(q < FAULT)
        verdict = NONE if bad is None else LOOK if bad else FINE
        rows.append((one.said, one.p, verdict))
        if bad and one.advice:
            notes.append(f"{name}: {one.advice}")
    index = pd.Index(list(found), name="check")
    table = pd.DataFrame(rows, columns=["found", "p", "verdict"], index=index)
    said = "No fault was found." if not (table["verdict"] == LOOK).any() else ""
    return table, tuple([said] if said else notes)


def holm(p: Floats) -> Floats:
    """Holm's adjusted probabilities; NaN stay."""
    out, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return out


def _least(p: pd.Series) -> tuple[str, float]:
    """Where the smallest of some probabilities is, and it by Bonferroni's rule."""
    least = p.idxmin()
    name = ", ".join(map(str, least)) if isinstance(least, tuple) else str(least)
    return name, min(1.0, float(p.min()) * len(p))


# ------------------------------------------------------------------ the checks


def _predictions(result: Labelled[Any], nsim: int, seed: Seed) -> Found:
    y, drawn = responses_drawn(result, nsim, seed)
    name, p = predictive_gap(y, drawn)
    return Found(
        f"{name} is farthest",
        p,
        advice="the model does not make such responses; see check_predictions",
    )


def _linearity(result: Labelled[Any]) -> Found:
    table = check_linearity(result)
    if not len(table):
        return Found("no numeric column")
    name, p = _least(table["p"])
    return Found(
        f"{name} bends most", p, advice=f"try poly({name}, 2) or a spline; see check_linearity"
    )


def _homogeneity(result: Labelled[Any]) -> Found:
    try:
        p = float(check_heteroscedasticity(result)["p"].item())  # type: ignore[arg-type]
    except InterlaceError:
        return Found("fitted values all equal")
    return Found(
        "spread along fitted values",
        p,
        advice="try a transformed response, weights=, or robust='CR2' in the tests",
    )


def row_residuals(result: Labelled[Any], seed: Seed = 0) -> Floats:
    """Residuals of the rows that are about standard normal in healthy data, ``(n,)``."""
    if isinstance(result, FittedGeneralModel):
        return residuals(result, "quantile", seed=seed)
    assert isinstance(result, FittedModel)
    design = design_of(result)
    h = hat_values(design, result.estimate)
    weighted = design.root_weights * result.resid
    found = hat_rstudent(h, weighted, sigma=result.estimate.sigma)
    return np.where(np.isfinite(found), found, np.nan)


def _normality(result: Labelled[Any], seed: Seed) -> Found:
    found = row_residuals(result, seed)
    found = found[np.isfinite(found)]
    if len(found) < 5 or not np.ptp(found) > 0.0:
        return Found("too few residuals")
    _, p = shapiro_francia(found)
    far = float(np.abs(found).max())
    return Found(
        f"largest standardised residual {far:.2f}",
        p,
        advice="the residuals are not normal: look at plot_qq, and for rows that are wrong",
    )


def _simulated(result: Labelled[Any], nsim: int, seed: Seed) -> Found:
    table = check_residuals(result, nsim=nsim, seed=seed).table
    name, p = _least(table["p"])
    return Found(f"{name} is farthest", p, advice="see check_residuals")


def _random_effects(result: Labelled[Any]) -> Found:
    table = check_random_effects(result)
    if not len(table):
        return Found("none with 5 levels and a variance")
    name, p = _least(table["p"])
    return Found(f"{name} is least normal", p, advice=f"look at the levels with plot_qq: {name}")


def _influence(result: Labelled[Any], level: int | str) -> Found:
    unit, _, p, beyond = most_influential(result, level)
    if np.isnan(p):
        return Found("not determined")
    what = "row" if level == 1 else str(level)
    return Found(
        f"most: {what} {unit}; {beyond} beyond the cut-off",
        p,
        beyond > 0,
        f"compare the estimates without {what} {unit}; see hlm_influence",
    )


def _collinearity(result: Labelled[Any]) -> Found:
    try:
        table = check_collinearity(result)
    except InterlaceError:
        return Found("fewer than two terms")
    name, worst = str(table["vif"].idxmax()), float(table["vif"].max())
    together = [str(term) for term in table.index if ":" in str(term)]
    parts = {part for term in together for part in [term, *term.split(":")]}
    alone = table[[str(term) not in parts for term in table.index]]
    fault = bool((alone["vif"] > _INFLATED).any())
    return Found(
        f"largest VIF {worst:.3g} ({name})",
        fault=fault,
        advice="terms share what they explain: leave one out, or do not read them one by one",
    )


def _dispersion(model: FittedGeneralModel, nsim: int, seed: Seed) -> Found:
    ratio, p, advice = dispersion_of(model, nsim, seed)
    return Found(f"ratio {ratio:.3g}", p, advice=advice)


def _separation(model: FittedGeneralModel) -> Found:
    check = check_separation(model)
    fault = bool(check.table["limit"].notna().any())
    return Found("none" if not fault else "some", fault=fault, advice=check.notes[0])


def _singularity(result: Labelled[Any]) -> Found:
    singular = bool(result.is_singular)
    said = "an effect without variance" if singular else "no effect without variance"
    return Found(said, fault=singular, advice="see singular_report()")
