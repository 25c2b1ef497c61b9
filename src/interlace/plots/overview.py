"""The four figures that a reviewer asks for."""

from __future__ import annotations

import pandas as pd
import plotnine as p9

from interlace.design.recipe import require_rows
from interlace.inference.tested import TestedModel
from interlace.model.kinds import require_linear
from interlace.model.scaled import FittedScaledModel
from interlace.model.structured import FittedStructuredModel
from interlace.plots.effects import caterpillar, effects_table, zero_variances
from interlace.plots.quantiles import plot_qq
from interlace.plots.residuals import plot_resid, plot_scale_location, sized
from interlace.plots.serial import plot_autocorrelation
from interlace.plots.style import Figure, titled

# Panels of the caterpillar, and lines of names at one, that fit in a quarter of the figure.
_PANELS, _NAMED = 4, 20


def plot(result: TestedModel, *, level: float = 0.95) -> Figure:
    """Residuals against fitted values, their normal quantiles, their spread, and random effects.

    Parameters
    ----------
    result
        A fitted model that holds its rows.
    level
        Of the envelope of the quantiles and of the intervals of the random effects.

    Returns
    -------
    composition
        Of :func:`plot_resid`, :func:`plot_qq`, :func:`plot_scale_location` and :func:`plot_ranef`
        (the first four panels); ``save(path)`` and notebooks work as for one figure.

    Raises
    ------
    InterlaceError
        A result without rows, fewer than 3 residuals that differ, or a level outside (0, 1).

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> figure = plot(interlace.fit("Reaction ~ Days + (Days | Subject)", sleep))
    >>> figure.save("overview.png")  # doctest: +SKIP
    """
    require_linear(result, "plot")
    require_rows(result.design, "plot")
    upper = plot_resid(result) | plot_qq(result, level=level)
    lower = plot_scale_location(result) | effects_panel(effects_table(result, level=level), level)
    return sized(upper / lower, 11.0, 8.4)


def plot_structured(result: FittedStructuredModel, *, level: float = 0.95) -> Figure:
    """The same of a model with a residual structure: its autocorrelation in place of effects."""
    require_rows(result.design, "plot")
    upper = plot_resid(result) | plot_qq(result, level=level)
    lower = plot_scale_location(result) | plot_autocorrelation(result, level=level)
    return sized(upper / lower, 11.0, 8.4)


def plot_scaled(result: FittedScaledModel, *, level: float = 0.95) -> Figure:
    """The same of a model with a variance function: residuals over their standard deviations."""
    require_rows(result.design, "plot")
    upper = plot_resid(result) | plot_qq(result, level=level)
    lower = plot_scale_location(result) | effects_panel(effects_table(result, level=level), level)
    return sized(upper / lower, 11.0, 8.4)


def effects_panel(table: pd.DataFrame, level: float) -> p9.ggplot:
    """A caterpillar plot of at most four panels."""
    panels = list(table["panel"].cat.categories)
    shown = table[table["panel"].isin(panels[:_PANELS])]
    shown = shown.assign(panel=shown["panel"].cat.remove_unused_categories())
    across = min(len(panels), 2)
    lines = shown.groupby("panel", observed=True)["lines"].transform("sum")
    named = lines <= (_NAMED if len(panels) <= 2 else _NAMED // 2)
    rest = f" (4 of {len(panels)} panels)" if len(panels) > _PANELS else ""
    alone = f": {panels[0]}" if len(panels) == 1 else rest
    return titled(
        caterpillar(shown, named, across=across),
        size=(5.5, 4.0),
        title=f"Random effects{alone}",
        x=f"Deviation, {level:.0%} intervals".replace("%", " %"),
        y="",
        caption=zero_variances(shown),
    )
