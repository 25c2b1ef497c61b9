"""Power against the size of a design, with the error of the simulation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotnine as p9

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


def plot_power(table: pd.DataFrame, sizes: Sequence[str], *, level: float) -> p9.ggplot:
    """Power by the first size, or by test where nothing varies."""
    names = list(dict.fromkeys(table["test"]))
    labels = {name: wrapped(name, 36) for name in names}
    series = pd.Categorical(table["test"].map(labels), list(labels.values()))
    data = table.assign(series=series)
    shown = f"{level:.0%}".replace("%", " %")
    caption = f"Lines: {shown} limits of the simulation error"
    if sizes:
        figure = _by_size(data, sizes, list(labels.values()))
        title = "Power" if len(names) > 1 else f"Power of the test of {names[0]}"
        x = f"Levels of {sizes[0]}"
    else:
        figure = _by_test(data, list(labels.values()))
        title, x = "Power of each test", ""
    return titled(_whole(figure), size=(6.5, 4.2), title=title, x=x, y="Power", caption=caption)


def _by_test(data: pd.DataFrame, labels: Sequence[str]) -> p9.ggplot:
    """A point for every test."""
    figure = (
        start(data, p9.aes("series", "power"))
        + p9.geom_hline(yintercept=0.8, color=GREY, size=0.4, linetype="dashed")
        + p9.geom_linerange(p9.aes(ymin="lower", ymax="upper"), size=0.7, color=BLUE)
        + p9.geom_point(size=2.4, color=BLUE)
    )
    figure += names_across(labels, 5.6)
    return figure


def _by_size(data: pd.DataFrame, sizes: Sequence[str], labels: Sequence[str]) -> p9.ggplot:
    """A line for every test along the first size, a panel for all that the others are."""
    first, *others = sizes
    several = len(labels) > 1
    aes = p9.aes(first, "power", group="series", **({"color": "series"} if several else {}))
    own = {} if several else {"color": BLUE}
    figure = (
        start(data, aes)
        + p9.geom_hline(yintercept=0.8, color=GREY, size=0.4, linetype="dashed")
        + p9.geom_line(size=0.7, **own)
        + p9.geom_linerange(p9.aes(ymin="lower", ymax="upper"), size=0.7, **own)
        + p9.geom_point(size=2.2, **own)
        + p9.scale_x_continuous(breaks=sorted(set(data[first])))
    )
    if several:
        figure += [
            p9.scale_color_manual(values=colours(len(labels))),
            *legend_below(labels, 6.5),
            p9.theme(legend_title=p9.element_blank()),
        ]
    if others:
        data_labels = [", ".join(f"{n} = {row[n]}" for n in others) for _, row in data.iterrows()]
        figure.data["panel"] = pd.Categorical(data_labels, list(dict.fromkeys(data_labels)))
        figure = figure + p9.facet_wrap("panel")
    return figure


def _whole(figure: p9.ggplot) -> p9.ggplot:
    """All of the scale from 0 to 1."""
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    found: p9.ggplot = figure + p9.scale_y_continuous(limits=(0.0, 1.0), breaks=ticks)
    return found
