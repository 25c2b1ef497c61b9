"""Figures of generalised models: quantile residuals, rootogram, calibration, predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotnine as p9
from scipy.special import ndtri

from interlace.diagnostics.checks import is_count
from interlace.diagnostics.general import residuals
from interlace.errors import InterlaceError
from interlace.glmm.ordinal import Ordinal
from interlace.model.confidence import check_level, normal_reach
from interlace.model.drawn import law_at
from interlace.model.generalised import FittedGeneralModel
from interlace.plots.effects import effects_table
from interlace.plots.overview import effects_panel
from interlace.plots.residuals import sized
from interlace.plots.style import BLUE, GREY, ORANGE, cloud, start, titled, zero_line

if TYPE_CHECKING:
    from interlace.plots.style import Figure

# Counts shown one by one in a rootogram, and groups of a calibration.
_MOST_COUNTS, _GROUPS = 40, 10


def plot_quantile_residuals(result: FittedGeneralModel, *, seed: int = 0) -> Figure:
    """Quantile residuals: against normal quantiles, and against fitted values.

    Parameters
    ----------
    result
        A generalised model.
    seed
        Of the residuals of counts, which are drawn within the step of their distribution.

    Returns
    -------
    composition

    Notes
    -----
    If the model is right the residuals are normal given the random effects, whatever the family.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_quantile_residuals
    >>> ticks = interlace.datasets.load("grouseticks")
    >>> result = interlace.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, family="negative-binomial")
    >>> figure = plot_quantile_residuals(result)
    """
    _general(result, "plot_quantile_residuals")
    return sized(quantiles_of(result, seed) | against_fitted(result, seed), 9.5, 4.2)


def _general(result: object, verb: str) -> None:
    if not isinstance(result, FittedGeneralModel):
        raise InterlaceError(
            f"{verb} is made for generalised models, not for {type(result).__name__}"
        )


def quantiles_of(result: FittedGeneralModel, seed: int) -> p9.ggplot:
    """Sorted residuals against normal quantiles."""
    found = np.sort(residuals(result, "quantile", seed=seed))
    n = len(found)
    data = pd.DataFrame({"normal": ndtri((np.arange(n) + 0.5) / n), "residual": found})
    figure = (
        start(data, p9.aes("normal", "residual"))
        + p9.geom_abline(slope=1.0, intercept=0.0, color=GREY, linetype="dashed")
        + p9.geom_point(color=BLUE, size=1.2, alpha=0.7)
    )
    return titled(
        figure,
        size=(4.6, 4.0),
        title="Quantile residuals",
        x="Normal quantile",
        y="Quantile residual",
    )


def against_fitted(result: FittedGeneralModel, seed: int) -> p9.ggplot:
    """Residuals against linear predictors."""
    data = pd.DataFrame(
        {"eta": result.estimate.eta, "residual": residuals(result, "quantile", seed=seed)}
    )
    figure = start(data, p9.aes("eta", "residual")) + zero_line()
    for layer in cloud(len(data)):
        figure = figure + layer
    return titled(
        figure,
        size=(4.6, 4.0),
        title="Residuals and linear predictors",
        x=f"Linear predictor ({result.link.name})",
        y="Quantile residual",
    )


def plot_rootogram(result: FittedGeneralModel) -> p9.ggplot:
    """Hanging rootogram: roots of observed frequencies hung from those that the family expects.

    A bar that does not reach zero lacks counts that the family expects, one below zero has more.

    Parameters
    ----------
    result
        A generalised model of counts.

    Returns
    -------
    plotnine.ggplot

    Raises
    ------
    InterlaceError
        The family has no counts.

    Notes
    -----
    Expected frequencies are sums of the probabilities of the rows given the modes of the random
    effects (Kleiber and Zeileis 2016, The American Statistician 70, 296-303).

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_rootogram
    >>> ticks = interlace.datasets.load("grouseticks")
    >>> result = interlace.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, family="negative-binomial")
    >>> figure = plot_rootogram(result)
    """
    _general(result, "plot_rootogram")
    if not is_count(result.family):
        raise InterlaceError(
            f"a rootogram shows counts; family={result.family.name!r} has none: use "
            f"plot_quantile_residuals"
        )
    law, y = law_at(result, result.estimate.eta), result.estimate.problem.y
    last = min(int(y.max()), _MOST_COUNTS)
    k = np.arange(last + 1.0)
    reached = np.array([law.cdf(np.full(len(y), value)).sum() for value in k])
    expected = np.sqrt(np.maximum(np.diff(reached, prepend=0.0), 0.0))
    observed = np.sqrt(np.array([(y == value).sum() for value in k], dtype=np.float64))
    data = pd.DataFrame({"count": k, "top": expected, "low": expected - observed})
    rest = int((y > last).sum())
    figure = (
        start(data, p9.aes("count"))
        + p9.geom_rect(
            p9.aes(xmin="count - 0.4", xmax="count + 0.4", ymin="low", ymax="top"),
            fill=BLUE,
            alpha=0.45,
        )
        + p9.geom_hline(yintercept=0.0, color=GREY)
        + p9.geom_line(p9.aes(y="top"), color=ORANGE)
        + p9.geom_point(p9.aes(y="top"), color=ORANGE, size=1.6)
    )
    return titled(
        figure,
        size=(6.5, 4.0),
        title=f"Rootogram of {result.formula.response}",
        x=str(result.formula.response),
        y="Root of frequency",
        caption=f"{rest} larger counts are not shown." if rest else None,
    )


def plot_calibration(result: FittedGeneralModel, *, groups: int = _GROUPS) -> p9.ggplot:
    """Observed against predicted means, in groups of rows with similar predictions.

    Bars are two standard deviations of the observed mean to both sides of the prediction.  Of
    ordered categories shares of rows beyond every threshold are compared.

    Parameters
    ----------
    result
        A generalised model.
    groups
        How many, of about equal size.

    Returns
    -------
    plotnine.ggplot

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_calibration
    >>> cbpp = interlace.datasets.load("cbpp")
    >>> result = interlace.fit(
    ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
    ... )
    >>> figure = plot_calibration(result, groups=6)
    """
    _general(result, "plot_calibration")
    if not isinstance(groups, int | np.integer) or groups < 2:
        raise InterlaceError(f"groups must be a whole number of at least 2, not {groups!r}")
    if isinstance(result.family, Ordinal):
        return _of_categories(result, result.family, int(groups))
    data = _calibrated(result, int(groups))
    figure = (
        start(data, p9.aes("predicted", "observed"))
        + p9.geom_abline(slope=1.0, intercept=0.0, color=GREY, linetype="dashed")
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), color=GREY, size=0.8)
        + p9.geom_point(color=BLUE, size=2.4)
    )
    return titled(
        figure, size=(5.2, 4.4), title="Calibration", x="Predicted mean", y="Observed mean"
    )


def _calibrated(result: FittedGeneralModel, groups: int) -> pd.DataFrame:
    """Predicted and observed means by group."""
    problem, law = result.estimate.problem, law_at(result, result.estimate.eta)
    order = np.argsort(law.mean, kind="stable")
    found = []
    for rows in np.array_split(order, min(groups, len(order))):
        n = float(problem.trials[rows].sum())
        predicted = float((law.mean * law.trials)[rows].sum()) / n
        half = 2.0 * float(np.sqrt(law.variance[rows].sum())) / n
        observed = float(problem.y[rows].sum()) / n
        found.append((predicted, observed, predicted - half, predicted + half))
    return pd.DataFrame(found, columns=["predicted", "observed", "low", "high"])


def _of_categories(result: FittedGeneralModel, family: Ordinal, groups: int) -> p9.ggplot:
    """Shares of rows beyond every threshold, in groups with similar probabilities of it."""
    P = family.probabilities(result.estimate.eta, result.estimate.omega)
    code = family.codes(result.estimate.problem.y)
    cuts, parts = list(result.thresholds.index), []
    for j, cut in enumerate(cuts):
        p = P[:, j + 1 :].sum(axis=1)
        order = np.argsort(p, kind="stable")
        for rows in np.array_split(order, min(groups, len(order))):
            predicted, observed = float(p[rows].mean()), float((code[rows] > j).mean())
            half = 2.0 * float(np.sqrt((p[rows] * (1.0 - p[rows])).sum())) / len(rows)
            parts.append((f"beyond {cut}", predicted, observed, predicted - half, predicted + half))
    data = pd.DataFrame(parts, columns=["cut", "predicted", "observed", "low", "high"])
    data["cut"] = pd.Categorical(data["cut"], [f"beyond {cut}" for cut in cuts])
    figure = (
        start(data, p9.aes("predicted", "observed"))
        + p9.geom_abline(slope=1.0, intercept=0.0, color=GREY, linetype="dashed")
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), color=GREY, size=0.8)
        + p9.geom_point(color=BLUE, size=2.0)
        + p9.facet_wrap("cut")
    )
    return titled(
        figure,
        size=(6.4, 5.0) if len(cuts) > 2 else (6.4, 3.6),
        title="Calibration",
        x="Predicted probability",
        y="Observed share",
    )


def plot_general(result: FittedGeneralModel, *, level: float = 0.95) -> Figure:
    """Quantile residuals twice, the rootogram or calibration, and the random effects."""
    _general(result, "plot")
    normal_reach(check_level(level))
    third = plot_rootogram if is_count(result.family) else None
    fit = plot_calibration(result) if third is None else third(result)
    upper = quantiles_of(result, 0) | against_fitted(result, 0)
    lower = fit | effects_panel(effects_table(result, level=level), level)
    return sized(upper / lower, 11.0, 8.4)
