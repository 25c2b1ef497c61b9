"""Tables of influence measures: dot plots in order, and influence against leverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import ArrayLike

from interlace.design.frame import hint
from interlace.diagnostics.chance import KEPT
from interlace.diagnostics.cutoffs import Cutoff, cutoff_limits
from interlace.diagnostics.envelope import ranks_shown
from interlace.diagnostics.influence import hlm_influence
from interlace.errors import InterlaceError, choose
from interlace.model.fitted import FittedModel, Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.plots.style import (
    BLUE,
    GREY,
    MANY_LEVELS,
    ORANGE,
    PALE,
    cloud,
    is_many,
    lines,
    start,
    text_beside,
    titled,
    wrapped,
)

# What axes call the measures; HLMdiag's own spellings are taken too.
_TITLES = {
    "cooksd": "Cook's distance",
    "cooks.distance": "Cook's distance",
    "mdffits": "MDFFITS",
    "covtrace": "COVTRACE",
    "covratio": "COVRATIO",
    "leverage": "Leverage",
    "leverage.overall": "Leverage",
    "leverage.fixef": "Leverage of the fixed effects",
    "leverage.ranef": "Leverage of the random effects",
}
# No more points beyond a cut-off than this are drawn one by one over counts.
_MOST_OUTSIDE = 2000
# Of groups so many are named in any case.
_ALWAYS = 3
# How cut-offs are found.
_HOW = {
    "nominal": ", which no unit of healthy data exceeds, 19 times in 20",
    "internal": ", 3 interquartile ranges beyond the quartiles",
}
# Nor more than this as lines of their own.
_MOST_LINES = 30


def plot_influence(
    table: pd.DataFrame | Labelled[Any],
    measure: str = "cooksd",
    *,
    level: int | str = 1,
    against: str | None = "leverage.overall",
    cutoff: Cutoff = "nominal",
    label: int = 5,
) -> p9.ggplot:
    """An influence measure against leverage, the most extreme units named.

    Parameters
    ----------
    table
        Measures by row or level, as ``hlm_influence`` and ``hlm_augment`` give them; the index
        names the units.  Or a fitted model.
    measure
        Column to judge by.
    level
        Of a fitted model: 1 for rows, or a grouping factor.
    against
        Column of the other axis; if the table has no ``leverage.overall`` or all are equal within
        5 %, or for ``None``, units are drawn in their order.
    cutoff
        As in :func:`~interlace.diagnostics.cutoffs.cutoff_limits`; ``"nominal"``: what no unit of
        healthy data exceeds, 19 times in 20.  ``None`` draws no line.
    label
        How many units beyond the cut-off (or, without one, of all) are named; of groups the three
        most extreme in any case.

    Returns
    -------
    plotnine.ggplot
        Of more than 5,000 units those within the cut-off are counted in rectangles.

    Raises
    ------
    InterlaceError
        ``table`` is not a data frame, lacks a column, or has no finite value in it; an unknown
        cut-off.

    Examples
    --------
    >>> import pandas as pd
    >>> from interlace.plots import plot_influence
    >>> measures = {"cooksd": [0.01, 0.02, 0.9], "leverage.overall": [0.1, 0.2, 0.3]}
    >>> figure = plot_influence(pd.DataFrame(measures, index=["a", "b", "c"]))
    """
    table = _measures(table, level)
    y = _column(table, measure)
    if against == "leverage.overall" and not _varies(table, against):
        against = None
    x = _places(table.index) if against is None else _column(table, against)
    data = pd.DataFrame({"x": x, "y": y, "label": table.index.tolist()})
    data = data[np.isfinite(data["x"]) & np.isfinite(data["y"])].reset_index(drop=True)
    low, high = cutoff_limits(data["y"].to_numpy(), measure, cutoff, table.attrs.get(KEPT))
    beyond = (data["y"] < low) | (data["y"] > high)
    unit = str(table.index.name or "row")
    needles = _base(measure) if against is None else None
    return titled(
        _scatter(
            data,
            beyond,
            (low, high),
            needles=needles,
            label=label,
            always=0 if unit == "row" else min(label, _ALWAYS),
        ),
        size=(6.5, 4.2),
        title=f"Influence: {_title(measure)} by {unit}",
        x=_where(table.index, unit) if against is None else _title(against),
        y=_title(measure),
        caption=_caption(int(beyond.sum()), len(data), cutoff, (low, high)),
    )


def dotplot_diag(
    x: pd.DataFrame | pd.Series | ArrayLike | Labelled[Any],
    cutoff: Cutoff = None,
    *,
    name: str = "cooksd",
    level: int | str = 1,
    modify: str | None = None,
    label: int = 5,
) -> p9.ggplot:
    """A diagnostic in increasing order, the extreme units named (HLMdiag's ``dotplot_diag``).

    Parameters
    ----------
    x
        A table with the column ``name``, or the values themselves; the index names the units.  Or
        a fitted model.
    cutoff
        As in :func:`plot_influence`.
    name
        The diagnostic: a column, and the title of the axis.  ``"covratio"`` and ``"rvc..."`` have
        two internal cut-offs.
    level
        Of a fitted model, as in :func:`plot_influence`.
    modify
        ``"boxplot"`` or ``"dotplot"`` gathers the units within the cut-off in one line.
    label
        How many extreme units are named when there are more than 60, or without a cut-off.

    Returns
    -------
    plotnine.ggplot
        Of more than 500 units, the 100 at each end and 300 between, unless modified.

    Raises
    ------
    InterlaceError
        A missing column, no finite value, an unknown cut-off or ``modify``, or ``modify`` without a
        cut-off.

    Examples
    --------
    >>> import pandas as pd
    >>> from interlace.plots import dotplot_diag
    >>> values = pd.Series([0.01, 0.02, 0.03, 0.9], index=["a", "b", "c", "d"])
    >>> figure = dotplot_diag(values, "internal", name="cooksd", modify="boxplot")
    """
    if isinstance(x, FittedModel | FittedGeneralModel):
        x = hlm_influence(x, level)
    values = _values(x, name)
    low, high = cutoff_limits(values.to_numpy(), name, cutoff, values.attrs.get(KEPT))
    unit = str(values.index.name or "row")
    data = pd.DataFrame({"value": values.to_numpy(), "label": values.index.tolist()})
    data = data.sort_values("value", kind="stable", ignore_index=True)
    data["beyond"] = (data["value"] < low) | (data["value"] > high)
    caption = _caption(int(data["beyond"].sum()), len(data), cutoff, (low, high))
    if modify is not None:
        modify = choose("modify", modify, ["boxplot", "dotplot"], one_of=True)
        if cutoff is None:
            raise InterlaceError("modify gathers what is within a cut-off: give cutoff='internal'")
        return _gathered(data, modify, name, unit, (low, high), caption)
    figure, height = _ordered(data, label)
    return titled(
        figure + _cut_lines(low, high, vertical=True),
        size=(6.5, height),
        title=f"{_title(name)} by {unit}",
        x=_title(name),
        y=unit if len(data) <= MANY_LEVELS else f"{len(data):,} units in order",
        caption=caption,
    )


# ------------------------------------------------------------------ what is drawn


def _measures(table: object, level: int | str) -> pd.DataFrame:
    """A table of measures, or those of a fitted model."""
    if isinstance(table, FittedModel | FittedGeneralModel):
        return hlm_influence(table, level)
    if not isinstance(table, pd.DataFrame):
        raise InterlaceError(
            "influence plots take a fitted model or a table of measures, such as "
            f"hlm_influence(result), not {type(table).__name__}"
        )
    return table


def _column(table: pd.DataFrame, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A column of numbers."""
    if name not in table.columns:
        raise InterlaceError(f"the table has no column '{name}'{hint(name, list(table.columns))}")
    values = table[name].to_numpy(dtype=np.float64)
    if not np.isfinite(values).any():
        raise InterlaceError(f"column '{name}' has no finite value to draw")
    return values


def _varies(table: pd.DataFrame, name: str) -> bool:
    """Whether a table has the column, and values differ enough to stand apart on an axis."""
    if name not in table.columns:
        return False
    values = table[name].to_numpy(dtype=np.float64)
    values = values[np.isfinite(values)]
    return bool(len(values)) and float(np.ptp(values)) > 0.05 * float(np.abs(values).max())


def _is_numbered(index: pd.Index) -> bool:
    """Whether units are rows that have numbers other than their places in the table."""
    numbers = index.name is None and index.dtype.kind in "iu"
    return numbers and not index.equals(pd.RangeIndex(len(index)))


def _places(index: pd.Index) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Where units stand: at the numbers of rows, if they have such, or one beside the other."""
    return index.to_numpy(np.float64) if _is_numbered(index) else np.arange(len(index), dtype=float)


def _where(index: pd.Index, unit: str) -> str:
    return "Row of the data" if _is_numbered(index) else f"Position of the {unit} in the table"


def _values(x: object, name: str) -> pd.Series:
    """Finite values of a diagnostic by unit."""
    if not isinstance(x, pd.DataFrame):
        kept = x.attrs if isinstance(x, pd.Series) else {}
        x = pd.DataFrame({name: x if isinstance(x, pd.Series) else np.asarray(x)})
        x.attrs.update(kept)
    elif name not in x.columns and name == "cooks.distance":
        name = "cooksd"
    values = pd.Series(_column(x, name), index=x.index)
    values.attrs.update(x.attrs)
    return values[np.isfinite(values)]


def _title(name: str) -> str:
    """A measure in words."""
    if name.startswith("rvc."):
        return f"Relative variance change of {name[4:]}"
    if name.startswith("dfbetas."):
        return f"DFBETAS of {name[8:]}"
    return _TITLES.get(name, name)


def _base(name: str) -> float:
    """The value of a measure that says: no influence."""
    return 1.0 if name == "covratio" else 0.0


def _caption(beyond: int, n: int, cutoff: Cutoff, limits: tuple[float, float]) -> str | None:
    """How many units are beyond the cut-off, and where it is."""
    if cutoff is None:
        return None
    ends = " and ".join(f"{end:.3g}" for end in limits if np.isfinite(end))
    if not ends:
        return f"All {n:,} are equal."
    how = _HOW.get(cutoff, "") if isinstance(cutoff, str) else ""
    return f"{beyond:,} of {n:,} beyond the cut-off ({ends}{how})."


def _cut_lines(low: float, high: float, *, vertical: bool) -> list[object]:
    """Dashed lines at the cut-offs there are."""
    ends = [end for end in (low, high) if np.isfinite(end)]
    if not ends:
        return []
    look = {"linetype": "dashed", "color": GREY, "size": 0.5}
    return [
        p9.geom_vline(xintercept=ends, **look)
        if vertical
        else p9.geom_hline(yintercept=ends, **look)
    ]


# ------------------------------------------------------------------ layers


def _scatter(
    data: pd.DataFrame,
    beyond: pd.Series,
    limits: tuple[float, float],
    *,
    needles: float | None,
    label: int,
    always: int,
) -> p9.ggplot:
    """Units as points, those beyond the cut-off in another colour and named."""
    distance = _distance(data["y"], limits)
    outside = data[beyond].loc[distance[beyond].nlargest(_MOST_OUTSIDE).index]
    named = outside if np.isfinite(limits).any() else data
    named = data if len(named) < always else named
    most = always if len(outside) < always and np.isfinite(limits).any() else label
    named = named.loc[distance[named.index].nlargest(most).index]
    figure = start(data[~beyond], p9.aes("x", "y"))
    if needles is not None and not is_many(len(data)):
        figure += p9.geom_segment(p9.aes(xend="x"), data=data, yend=needles, color=PALE, size=0.4)
    middle = float(data["x"].min() + data["x"].max()) / 2.0
    height = float(np.ptp([*data["y"], *(end for end in limits if np.isfinite(end))]))
    figure += [
        *cloud(len(data)),
        p9.geom_point(data=outside, color=ORANGE, size=2.0, stroke=0),
        *_cut_lines(*limits, vertical=False),
        *text_beside(named, middle=middle, height=height),
    ]
    return figure


def _distance(y: pd.Series, limits: tuple[float, float]) -> pd.Series:
    """How far values are beyond the middle of the cut-offs, or from 0 if there is one or none."""
    centre = sum(limits) / 2.0 if np.isfinite(limits).all() else 0.0
    return (y - centre).abs()


def _ordered(data: pd.DataFrame, label: int) -> tuple[p9.ggplot, float]:
    """One dot a unit, in order; units named on the axis if they are few."""
    n = len(data)
    data = data.assign(rank=np.arange(1, n + 1))
    shown = data.iloc[ranks_shown(n) - 1]
    base = (
        start(shown, p9.aes("value", "rank", color="beyond"))
        + p9.geom_point(size=1.8 if n <= MANY_LEVELS else 1.3, stroke=0)
        + _beyond_colors()
    )
    if n <= MANY_LEVELS:
        names = [wrapped(name, 28) for name in data["label"]]
        axis = p9.scale_y_continuous(breaks=data["rank"].tolist(), labels=names, expand=(0.02, 0.6))
        return base + axis, 1.6 + 0.155 * max(lines(names), 4)
    extreme = data[data["beyond"]] if data["beyond"].any() else data
    centre = data["value"].median()
    extreme = extreme.loc[(extreme["value"] - centre).abs().nlargest(label).index]
    points = pd.DataFrame({"x": extreme["value"], "y": extreme["rank"], "label": extreme["label"]})
    middle = float(data["value"].min() + data["value"].max()) / 2.0
    named = text_beside(points, middle=middle, height=float(n))
    blank = p9.theme(axis_text_y=p9.element_blank(), axis_ticks_major_y=p9.element_blank())
    return base + named + blank, 4.5


def _gathered(
    data: pd.DataFrame,
    modify: str,
    name: str,
    unit: str,
    limits: tuple[float, float],
    caption: str | None,
) -> p9.ggplot:
    """Units within the cut-off in one line at the bottom, the others a line each."""
    within, beyond = data[~data["beyond"]], data[data["beyond"]]
    far = _distance(beyond["value"], limits).nlargest(_MOST_LINES).index
    if len(far) < len(beyond):
        caption = f"{caption} The {_MOST_LINES} farthest are drawn."
    beyond = beyond.loc[far.sort_values()]
    beyond = beyond.assign(rank=np.arange(1, len(beyond) + 1))
    names = ["within cut-off", *(wrapped(label, 28) for label in beyond["label"])]
    figure = (
        start(within.assign(rank=0), p9.aes("rank", "value"))
        + _gathered_layer(within, modify)
        + p9.geom_point(data=beyond, color=ORANGE, size=2.0, stroke=0)
        + _cut_lines(*limits, vertical=False)
        + p9.scale_x_continuous(
            breaks=list(range(len(names))), labels=names, limits=(-0.6, len(names) - 0.4)
        )
        + p9.coord_flip()
    )
    title = f"{_title(name)} by {unit}"
    size = (6.5, 2.4 + 0.17 * lines(names))
    return titled(
        figure,
        size=size,
        title=title,
        x=unit,
        y=_title(name),
        caption=caption,
        beside=names,
        flipped=True,
    )


def _gathered_layer(within: pd.DataFrame, modify: str) -> p9.geom_boxplot | p9.geom_point:
    """Units within the cut-off, at position 0."""
    if modify == "boxplot":
        return p9.geom_boxplot(color=BLUE, fill="#E3EEF6", outlier_size=1.0, width=0.6)
    spread = within.assign(rank=_spread(within["value"]))
    alpha = 0.6 if len(within) <= 500 else 0.15
    return p9.geom_point(data=spread, color=BLUE, size=1.3, stroke=0, alpha=alpha)


def _spread(values: pd.Series) -> Sequence[float]:
    """Small displacements, the same at every call, that keep equal values apart."""
    golden = (np.arange(len(values)) * 0.6180339887) % 1.0
    return [float(g) for g in 0.5 * (golden - 0.5)]


def _beyond_colors() -> p9.scale_color_manual:
    """Colours of units within and beyond the cut-off."""
    return p9.scale_color_manual(values={False: BLUE, True: ORANGE}, guide=None)
