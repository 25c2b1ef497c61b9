"""Residuals against fitted values, covariates and groups."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9
from plotnine.composition import plot_spacer

from interlace.design import frame
from interlace.design.frame import Column
from interlace.design.recipe import require_rows
from interlace.diagnostics.leverage import hat_rstudent, hat_values
from interlace.diagnostics.smooth import local_line
from interlace.errors import InterlaceError
from interlace.model.fitted import FittedModel, Labelled
from interlace.model.kinds import require_gaussian
from interlace.model.scaled import FittedScaledModel
from interlace.model.structured import FittedStructuredModel
from interlace.plots.style import (
    BLUE,
    GREY,
    MANY_LEVELS,
    ORANGE,
    Figure,
    cloud,
    lines,
    start,
    titled,
    wrapped,
    zero_line,
)
from interlace.sums.terms import Floats

Gaussian = FittedModel | FittedStructuredModel | FittedScaledModel


def plot_resid(
    result: Gaussian,
    x: str | Sequence[str] = "fitted",
    *,
    standardized: bool = False,
    smooth: bool = True,
) -> Figure:
    """Conditional residuals against fitted values, covariates or groups.

    Parameters
    ----------
    result
        A fitted model that holds its rows.
    x
        ``"fitted"``, a column of the data or of the model matrix, or a grouping factor; several
        make a panel each.  Numbers give a cloud of points, categories and grouping factors a box
        per level (groups by increasing median; of more than 60 only median and quartiles).
    standardized
        Divide each residual by its standard deviation, ``sigma sqrt((1 - h) / w)``; with
        ``residual=`` normalise them.
    smooth
        Draw a local regression line through clouds
        (:func:`~interlace.diagnostics.smooth.local_line`).

    Returns
    -------
    plotnine.ggplot or composition
        One figure, or one per name in rows of two.  More than 5,000 rows are counted in rectangles.

    Raises
    ------
    InterlaceError
        An unknown name, no name at all, or a result without rows.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_resid
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> figure = plot_resid(result, ["fitted", "Subject"])
    >>> figure.save("residuals.png")  # doctest: +SKIP
    """
    require_gaussian(result, "plot_resid")
    require_rows(result.design, "plot_resid")
    names = [x] if isinstance(x, str) else list(x)
    if not names:
        raise InterlaceError("x names nothing to plot residuals against: give 'fitted' or columns")
    values = {name: values_of(result, name) for name in names}
    y = standard_residuals(result) if standardized else np.asarray(result.resid)
    panels = [_panel(result, n, v, y, standardized, smooth) for n, v in values.items()]
    return in_pairs(panels)


def plot_scale_location(result: Gaussian, *, smooth: bool = True) -> p9.ggplot:
    """Size of the standardised residuals against fitted values: a level line if it is constant.

    Parameters
    ----------
    result
        A fitted model that holds its rows.
    smooth
        As in :func:`plot_resid`.

    Returns
    -------
    plotnine.ggplot
        Square roots of absolute standardised residuals.  More than 5,000 rows are counted in
        rectangles.

    Raises
    ------
    InterlaceError
        A result without rows.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_scale_location
    >>> dyestuff = interlace.datasets.load("dyestuff")
    >>> figure = plot_scale_location(interlace.fit("Yield ~ 1", dyestuff, groups="Batch"))
    """
    require_gaussian(result, "plot_scale_location")
    require_rows(result.design, "plot_scale_location")
    size = np.sqrt(np.abs(standard_residuals(result)))
    return titled(
        _cloud_of(np.asarray(result.fittedvalues), size, smooth),
        size=(5.5, 4.0),
        title="Spread of the residuals",
        x=f"Fitted {result.formula.response}",
        y="Root of |standardised residual|",
    )


def standard_residuals(result: Gaussian) -> Floats:
    """Conditional residuals over their standard deviations, ``(nobs,)``; NaN where it is 0.

    Where residuals of a subject are correlated, those that are freed of it.
    """
    if isinstance(result, FittedStructuredModel | FittedScaledModel):
        return np.asarray(result.normalized_resid)
    design = require_rows(result.design, "plot_scale_location")
    w = design.root_weights
    h = hat_values(design, result.estimate)
    found = hat_rstudent(h, w * result.resid, sigma=result.estimate.sigma)
    return np.where(np.isfinite(found), found, np.nan)


def in_pairs(panels: Sequence[p9.ggplot]) -> Figure:
    """Figures in rows of two; one alone as it is."""
    if len(panels) == 1:
        return panels[0]
    even = [*panels, plot_spacer()] if len(panels) % 2 and len(panels) > 2 else list(panels)
    rows = [even[i] | even[i + 1] for i in range(0, len(even), 2)]
    whole: Figure = reduce(lambda above, below: above / below, rows)
    tallest = max(float(panel.theme.getp("figure_size")[1]) for panel in panels)
    return sized(whole, 11.0, tallest * len(rows))


def sized(whole: Figure, width: float, height: float) -> Figure:
    """A composition of a size in inches."""
    found: Figure = whole & p9.theme(figure_size=(width, height))
    return found


# ------------------------------------------------------------------ what to plot against


def values_of(result: Gaussian, name: str) -> Column:
    """Fitted values, a column or the levels of a grouping factor, for the rows used."""
    if name == "fitted":
        return np.asarray(result.fittedvalues)
    design = require_rows(result.design, "plot_resid")
    for term, codes in zip(design.terms, design.codes, strict=True):
        if term.group == name:
            medians = pd.Series(result.resid).groupby(codes).median()
            order = np.argsort(medians.to_numpy(), kind="stable")
            names = [str(term.levels[i]) for i in order]
            found: Column = pd.Categorical([names[i] for i in np.argsort(order)[codes]], names)
            return found
    if name in design.names:
        return np.asarray(design.X[:, design.names.index(name)])
    return frame.plain(column_of(result, name), name)


def column_of(result: Labelled[Any], name: str) -> Column:
    """A column of the data, rows used."""
    if result.data is not None:
        table = frame.open_table(result.data)
        if name in table.names:
            design = require_rows(result.design, "plot_resid")
            return frame.pick(table, [name])[name][design.kept]
        names = list(dict.fromkeys(["fitted", *table.names, *result.ngroups]))
        raise InterlaceError(f"the data has no column '{name}'{frame.hint(name, names)}")
    design = require_rows(result.design, "plot_resid")
    if isinstance(found := design.factors.get(name), pd.Categorical | np.ndarray):
        return found
    names = list(dict.fromkeys(["fitted", *design.names, *result.ngroups]))
    raise InterlaceError(
        f"the model has no column '{name}', and a result that was stored does not hold the data; "
        f"it has {', '.join(map(repr, names))}"
    )


# ------------------------------------------------------------------ panels


def _panel(
    result: Gaussian, name: str, values: Column, y: Floats, standard: bool, smooth: bool
) -> p9.ggplot:
    """Residuals against one thing."""
    response = result.formula.response
    label = "Standardised residual" if standard else f"Residual of {response}"
    what = f"Fitted {response}" if name == "fitted" else name
    title = f"Residuals against {'fitted values' if name == 'fitted' else name}"
    if frame.is_numeric(values):
        figure = _cloud_of(np.asarray(values, dtype=np.float64), y, smooth) + zero_line()
        return titled(figure, size=(5.5, 4.0), title=title, x=what, y=label)
    levels: pd.Categorical[Any] = pd.Categorical(values).remove_unused_categories()
    count = len(levels.categories)
    names = [wrapped(level, 28) for level in levels.categories] if count <= MANY_LEVELS else []
    figure = _boxes(levels, names, y) if names else _quartiles(levels, y)
    return titled(
        figure,
        size=(5.5, max(3.2, 1.2 + 0.17 * lines(names)) if names else 5.0),
        title=title,
        x=what if names else f"{count:,} levels of {what}, by median",
        y=label,
        beside=names,
        flipped=True,
    )


def _cloud_of(x: Floats, y: Floats, smooth: bool) -> p9.ggplot:
    """Points or counts, and a smooth line."""
    data = pd.DataFrame({"x": x, "y": y}).dropna()
    figure = start(data, p9.aes("x", "y"))
    figure += cloud(len(data))
    curve = local_line(x, y) if smooth else pd.DataFrame()
    if len(curve) > 1:
        figure += p9.geom_line(data=curve, color=ORANGE, size=1.0)
    return figure


def _boxes(levels: pd.Categorical[Any], names: list[str], y: Floats) -> p9.ggplot:
    """A box per level; levels go up the figure."""
    data = pd.DataFrame({"position": levels.codes, "y": y}).dropna()
    figure: p9.ggplot = (
        start(data, p9.aes("position", "y", group="position"))
        + zero_line()
        + p9.geom_boxplot(color=BLUE, fill="#E3EEF6", outlier_size=1.2, size=0.4, width=0.65)
        + p9.scale_x_continuous(
            breaks=list(range(len(names))), labels=names, expand=(0, 0.6), minor_breaks=[]
        )
        + p9.coord_flip()
    )
    return figure


def _quartiles(levels: pd.Categorical[Any], y: Floats) -> p9.ggplot:
    """Median and quartiles of many levels, by median."""
    groups = pd.Series(y).groupby(np.asarray(levels.codes))
    table = (
        groups.quantile(np.array([0.25, 0.5, 0.75]))
        .unstack()
        .set_axis(["low", "mid", "high"], axis=1)
    )
    table = table.sort_values("mid").assign(rank=np.arange(1, len(table) + 1))
    figure: p9.ggplot = (
        start(table, p9.aes("rank", "mid"))
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), color=GREY, alpha=0.5, size=0.3)
        + p9.geom_point(color=BLUE, size=0.6, stroke=0)
        + zero_line()
        + p9.coord_flip()
        + p9.theme(axis_text_y=p9.element_blank(), axis_ticks_major_y=p9.element_blank())
    )
    return figure
