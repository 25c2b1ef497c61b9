"""Figures of ordered categories: probabilities along a column, and the thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotnine as p9
from matplotlib import colormaps
from matplotlib.colors import to_hex

from interlace.errors import InterlaceError
from interlace.glmm.ordinal import Ordinal
from interlace.model.confidence import check_level, normal_reach
from interlace.model.generalised import FittedGeneralModel
from interlace.plots.predictions import along, with_series
from interlace.plots.style import BLUE, PALE, start, titled

if TYPE_CHECKING:
    from interlace.choices import Mode
    from interlace.results.general_means import GeneralMeans

# What a mode of probabilities says of the response.
_SAID = {
    "probability": "Probability of every category",
    "exceedance": "Probability of a category beyond",
    "cumulative": "Probability of a category up to",
}
_BINS = 30


def plot_probabilities(
    result: GeneralMeans,
    x: str,
    by: str | None = None,
    *,
    mode: Mode = "probability",
    level: float = 0.95,
) -> p9.ggplot:
    """Probabilities of ordered categories along a number, or at the levels of a factor.

    Parameters
    ----------
    result
        A model with ``family="ordinal"``.
    x
        A column of the fixed effects.
    by
        A factor whose levels have panels of their own.
    mode
        ``"probability"`` of every category, ``"exceedance"``: of one beyond every threshold, or
        ``"cumulative"``: up to it.
    level
        Coverage of the intervals.

    Returns
    -------
    plotnine.ggplot

    Raises
    ------
    InterlaceError
        Another family, an unknown column or mode.

    Notes
    -----
    Probabilities are those of ``emmeans(mode=)``, of a typical group: other factors are averaged
    over, other numbers at their mean.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_probabilities
    >>> ticks = interlace.datasets.load("grouseticks")
    >>> ticks["burden"] = ticks["TICKS"].clip(upper=3)
    >>> result = interlace.fit("burden ~ cHEIGHT + YEAR + (1 | BROOD)", ticks, family="ordinal")
    >>> figure = plot_probabilities(result, "cHEIGHT", by="YEAR")
    """
    _ordered(result, "plot_probabilities")
    if mode not in _SAID:
        raise InterlaceError(f"mode must be one of {', '.join(map(repr, _SAID))}, not {mode!r}")
    seen = result._seen
    is_number = x in seen.variables.numbers
    at = {x: along(seen.values(x), x)} if is_number else None
    categories = result.formula.response if mode == "probability" else "cut"
    specs = [x, categories] if by is None else [x, categories, by]
    table = result.emmeans(specs, at=at, mode=mode, level=level).table
    table = with_series(table, categories)
    table["panel"] = "" if by is None else [f"{by} {value}" for value in table[by]]
    k = table["series"].cat.categories.size
    colors = [to_hex(colormaps["viridis"](v)) for v in np.linspace(0.0, 0.92, k)]
    figure = start(table, p9.aes(x, "probability", color="series", fill="series", group="series"))
    layers = [
        *_layers(is_number, k),
        p9.scale_color_manual(values=colors, name=categories),
        p9.scale_fill_manual(values=colors, name=categories),
        p9.scale_y_continuous(limits=(0.0, 1.0)),
        *([] if by is None else [p9.facet_wrap("panel")]),
    ]
    figure, panels = figure + layers, table["panel"].nunique()
    return titled(
        figure,
        size=(min(4.8 + 1.9 * (panels - 1), 9.5) + 0.8, 4.0 if panels <= 3 else 6.0),
        title=f"{_SAID[mode]}: {result.formula.response}",
        x=x,
        y=f"Probability, {level:.0%} intervals".replace("%", " %"),
    )


def _layers(is_number: bool, k: int) -> list[object]:
    """Lines with bands, or points with intervals beside each other."""
    if is_number:
        return [
            p9.geom_ribbon(p9.aes(ymin="lower", ymax="upper"), alpha=0.18, color="none"),
            p9.geom_line(size=0.9),
        ]
    place = p9.position_dodge(width=min(0.12 * k, 0.75))
    return [
        p9.geom_linerange(p9.aes(ymin="lower", ymax="upper"), position=place, size=0.9),
        p9.geom_point(size=2.2, position=place),
    ]


def plot_thresholds(result: FittedGeneralModel, *, level: float = 0.95) -> p9.ggplot:
    """Thresholds with their intervals, and the linear predictors of the rows beside them.

    Parameters
    ----------
    result
        A model with ``family="ordinal"``.
    level
        Coverage of the intervals.

    Returns
    -------
    plotnine.ggplot

    Raises
    ------
    InterlaceError
        Another family.

    Notes
    -----
    A row whose linear predictor lies at a threshold has even odds to be in a category beyond it
    (with a symmetric link).  Linear predictors are given the modes of the random effects; 0 is that
    of the mean of all columns, so that thresholds do not depend on where columns have their zero.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_thresholds
    >>> ticks = interlace.datasets.load("grouseticks")
    >>> ticks["burden"] = ticks["TICKS"].clip(upper=3)
    >>> result = interlace.fit("burden ~ YEAR + (1 | BROOD)", ticks, family="ordinal")
    >>> figure = plot_thresholds(result)
    """
    _ordered(result, "plot_thresholds")
    estimate, names = result.estimate, list(result.thresholds.index)
    t, p, _ = estimate.problem.sizes
    half = normal_reach(check_level(level)) * np.sqrt(np.diag(estimate.covariance)[t + p :])
    counts, edges = np.histogram(estimate.eta, bins=_BINS)
    bars = pd.DataFrame({"left": edges[:-1], "right": edges[1:], "rows": counts})
    table = pd.DataFrame({"name": names, "estimate": estimate.gamma})
    table["lower"], table["upper"] = estimate.gamma - half, estimate.gamma + half
    table["up"] = counts.max() * (1.1 + 0.1 * np.arange(len(names)))
    figure = (
        start(bars, p9.aes())
        + p9.geom_rect(
            p9.aes(xmin="left", xmax="right", ymax="rows"), ymin=0.0, fill=PALE, color="white"
        )
        + p9.geom_segment(
            p9.aes("estimate", 0.0, xend="estimate", yend="up"),
            data=table,
            color=BLUE,
            linetype="dashed",
            size=0.5,
        )
        + p9.geom_segment(
            p9.aes("lower", "up", xend="upper", yend="up"), data=table, color=BLUE, size=0.9
        )
        + p9.geom_point(p9.aes("estimate", "up"), data=table, color=BLUE, size=2.2)
        + p9.geom_text(
            p9.aes("upper", "up", label="name"), data=table, ha="left", nudge_x=_gap(table), size=8
        )
        + p9.scale_x_continuous(expand=(0.04, 0.0, 0.16, 0.0))
    )
    return titled(
        figure,
        size=(6.4, 4.2),
        title=f"Thresholds of {result.formula.response}",
        x=f"Linear predictor ({result.link.name}), 0 at the mean of the fixed effects",
        y=f"Rows; thresholds, {level:.0%} intervals".replace("%", " %"),
    )


def _gap(table: pd.DataFrame) -> float:
    """Between an interval and its label."""
    return 0.012 * float(table["upper"].max() - table["lower"].min())


def _ordered(result: object, verb: str) -> None:
    """Refuse other models than those of ordered categories."""
    if not isinstance(result, FittedGeneralModel) or not isinstance(result.family, Ordinal):
        what = result.family.name if isinstance(result, FittedGeneralModel) else None
        raise InterlaceError(
            f"{verb} shows ordered categories: it needs family='ordinal', not "
            f"{type(result).__name__ if what is None else repr(what)}"
        )
