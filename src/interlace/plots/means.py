"""Estimated means and contrasts with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotnine as p9

from interlace.errors import InterlaceError
from interlace.plots.style import (
    BLUE,
    GREY,
    colours,
    legend_below,
    names_across,
    start,
    titled,
    wrapped,
)

# Inches.
_WIDTH = 6.5


def plot_means(
    table: pd.DataFrame,
    *,
    name: str,
    inner: Sequence[str],
    by: Sequence[str],
    y: str,
    level: float,
) -> p9.ggplot:
    """Means by the first factor, the others by colour, groups in panels."""
    table = table.dropna(subset=[name]).copy()
    if not len(table):
        raise InterlaceError("none of the means is estimable: there is nothing to draw")
    first = inner[0] if inner else None
    table["place"] = _factor(table, [first]) if first else pd.Categorical(["overall"] * len(table))
    others = list(inner[1:])
    table["series"] = _factor(table, others) if others else pd.Categorical([""] * len(table))
    series = list(table["series"].cat.categories)
    dodge = p9.position_dodge(width=0.5 if others else 0.0)
    figure = start(table, p9.aes("place", name, color="series", group="series"))
    figure += [
        p9.geom_linerange(p9.aes(ymin="lower", ymax="upper"), size=0.8, position=dodge),
        p9.geom_point(size=2.4, position=dodge),
        p9.scale_color_manual(values=colours(len(series)), name=", ".join(others)),
        *(legend_below(series, _WIDTH) if others else [p9.theme(legend_position="none")]),
    ]
    return _panelled(figure, table, by, x=first or "", y=y, level=level)


def plot_contrasts(table: pd.DataFrame, *, by: Sequence[str], y: str, level: float) -> p9.ggplot:
    """Contrasts one below the other, and a line at zero, or at one for ratios."""
    name = "ratio" if "ratio" in table else "estimate"
    table = table.dropna(subset=[name]).copy()
    if not len(table):
        raise InterlaceError("none of the contrasts is estimable: there is nothing to draw")
    names = list(dict.fromkeys(table["contrast"]))
    labels = [wrapped(name, 34) for name in names]
    table["place"] = pd.Categorical(
        table["contrast"].map(dict(zip(names, labels, strict=True))),
        list(dict.fromkeys(labels[::-1])),
    )
    figure = (
        start(table, p9.aes(name, "place"))
        + p9.geom_vline(xintercept=float(name == "ratio"), color=GREY, size=0.4, linetype="dashed")
        + p9.geom_segment(p9.aes("lower", xend="upper", yend="place"), size=0.8, color=BLUE)
        + p9.geom_point(size=2.4, color=BLUE)
    )
    what = "Ratio" if name == "ratio" else "Contrast"
    x = f"{what} of {y}, {level:.0%} intervals".replace("%", " %")
    figure = _faceted(figure, table, by)
    return titled(
        figure,
        size=(6.5, 1.5 + 0.27 * len(names) * max(1, _panels(table, by))),
        title="Contrasts",
        x=x,
        y="",
        beside=labels,
    )


def _panelled(
    figure: p9.ggplot, table: pd.DataFrame, by: Sequence[str], *, x: str, y: str, level: float
) -> p9.ggplot:
    shown = f"{level:.0%}".replace("%", " %")
    panels = _panels(table, by)
    columns = min(panels, 2 if panels in (2, 4) else 3)
    figure = _faceted(figure, table, by, columns)
    figure += names_across(list(table["place"].cat.categories), (_WIDTH - 0.9) / columns)
    size = (_WIDTH, max(4.2, 1.2 + 1.9 * -(-panels // columns)))
    return titled(figure, size=size, title=y, x=x, y=f"Estimate, {shown} intervals")


def _faceted(
    figure: p9.ggplot, table: pd.DataFrame, by: Sequence[str], columns: int | None = None
) -> p9.ggplot:
    """A panel for every group."""
    if not by:
        return figure
    room = int((_WIDTH - 0.9) / (columns or 2) * 12.0) - 2
    names = [", ".join(f"{n} = {row[n]}" for n in by) for _, row in table.iterrows()]
    labels = [wrapped(name, room) for name in names]
    figure.data["panel"] = pd.Categorical(labels, list(dict.fromkeys(labels)))
    return figure + p9.facet_wrap("panel", ncol=columns)


def _panels(table: pd.DataFrame, by: Sequence[str]) -> int:
    return len(table[list(by)].drop_duplicates()) if by else 1


def _factor(table: pd.DataFrame, names: Sequence[str]) -> pd.Categorical[str]:
    """Combinations of levels as text, in the order of the table."""
    texts = [" ".join(str(row[n]) for n in names) for _, row in table.iterrows()]
    return pd.Categorical(texts, list(dict.fromkeys(texts)))
