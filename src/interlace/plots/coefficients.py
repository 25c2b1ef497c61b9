"""Coefficients with their intervals, of one model or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9

from interlace.choices import Ddf
from interlace.errors import InterlaceError, choose
from interlace.inference.tested import Coefficients
from interlace.model.fitted import Labelled
from interlace.plots.style import BLUE, GREY, PALETTE, start, titled, wrapped

_SHAPES = ["o", "s", "^", "D", "v", "P", "X"]


def plot_coef(
    *results: Coefficients[Any] | Sequence[Coefficients[Any]] | Mapping[str, Coefficients[Any]],
    level: float = 0.95,
    ddf: Ddf | None = None,
    intercept: bool = False,
    parm: str | Sequence[str] | None = None,
) -> p9.ggplot:
    """Fixed effects with their intervals.

    Parameters
    ----------
    results
        One fitted model or several, one list of them, or one dict under names of your own; at most
        7.
    level
        Coverage of the intervals.
    ddf
        As in :meth:`interlace.CrossedLMEResult.coef_table`; by default that of each fit.
    intercept
        Draw the intercept as well, which is often far from the other coefficients.
    parm
        Coefficients to draw, in this order, from the top; by default those of the models in turn.

    Returns
    -------
    plotnine.ggplot
        A row per coefficient, models side by side in their own colour and shape.

    Raises
    ------
    InterlaceError
        No model or more than 7, an unknown coefficient, nothing to draw, or an unusable level or
        ``ddf``.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_coef
    >>> machines = interlace.datasets.load("machines")
    >>> one = interlace.fit("score ~ Machine + (1 | Worker)", machines)
    >>> two = interlace.fit("score ~ Machine + (Machine | Worker)", machines)
    >>> figure = plot_coef({"intercepts": one, "slopes": two})
    """
    models = _models(results[0] if len(results) == 1 else results)  # type: ignore[arg-type]
    tables = [r.coef_table(ddf, level).assign(model=name) for name, r in models.items()]
    table = pd.concat(tables).rename_axis("name").reset_index()
    names = _names(table, parm, intercept)
    table = table[table["name"].isin(names)]
    place = table["name"].map({name: len(names) - i for i, name in enumerate(names)})
    order = table["model"].map({name: i for i, name in enumerate(models)})
    step = 0.7 / len(models)
    table = table.assign(place=place - step * (order - (len(models) - 1) / 2.0))
    table["model"] = pd.Categorical(table["model"], list(models))
    responses = list(dict.fromkeys(r.formula.response for r in models.values()))
    labels = [wrapped(name, 34) for name in names]
    high = sum(max(1 + label.count("\n"), len(models) * 0.7) for label in labels)
    shown = f"{level:.0%}".replace("%", " %")
    return titled(
        _layers(table, labels, list(models)),
        size=(6.5, 1.5 + 0.27 * high),
        title="Fixed effects",
        x=f"Effect on {', '.join(responses)}, {shown} intervals",
        y="",
        beside=labels,
    )


def _models(
    results: Coefficients[Any] | Sequence[Coefficients[Any]] | Mapping[str, Coefficients[Any]],
) -> dict[str, Coefficients[Any]]:
    """Models under names: those given, or numbers and formulas."""
    if isinstance(results, Labelled):
        return {"": results}
    if isinstance(results, Mapping):
        found = {str(name): result for name, result in results.items()}
    else:
        found = {f"{i}: {result.formula}": result for i, result in enumerate(results, start=1)}
    if not 1 <= len(found) <= len(PALETTE):
        raise InterlaceError(f"plot_coef draws 1 to {len(PALETTE)} models, not {len(found)}")
    return found


def _names(table: pd.DataFrame, parm: str | Sequence[str] | None, intercept: bool) -> list[str]:
    """Coefficients to draw."""
    every = list(dict.fromkeys(table["name"]))
    if parm is not None:
        asked = [parm] if isinstance(parm, str) else parm
        return [choose("parm", name, every, one_of=True, exact=True) for name in asked]
    names = [name for name in every if intercept or name != "Intercept"]
    if not names:
        raise InterlaceError("the only coefficient is the intercept: draw it with intercept=True")
    return names


def _layers(table: pd.DataFrame, labels: list[str], models: list[str]) -> p9.ggplot:
    """Points and intervals."""
    keys = {name: wrapped(name, 44) for name in models}
    table = table.assign(model=table["model"].cat.rename_categories(keys))
    figure: p9.ggplot = (
        start(table, p9.aes("estimate", "place", color="model", shape="model"))
        + p9.geom_vline(xintercept=0.0, color=GREY, size=0.4, linetype="dashed")
        + p9.geom_segment(p9.aes("lower", xend="upper", yend="place"), size=0.8)
        + p9.geom_point(size=2.4)
        + p9.scale_y_continuous(
            breaks=np.arange(len(labels), 0, -1).tolist(),
            labels=labels,
            limits=(0.5, len(labels) + 0.5),
            expand=(0, 0.1),
        )
    )
    alone = len(models) == 1
    scales = [
        p9.scale_color_manual(values=PALETTE if not alone else [BLUE], name=""),
        p9.scale_shape_manual(values=_SHAPES, name=""),
        p9.theme(
            legend_position="none" if alone else "bottom",
            legend_direction="vertical",
            legend_title=p9.element_blank(),
            panel_grid_major_y=p9.element_blank(),
        ),
    ]
    return figure + scales
