"""One look for all figures: colours, theme, text that fits, clouds of many points."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotnine as p9
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.patheffects import withStroke
from plotnine.composition import Compose

Figure = p9.ggplot | Compose

# Okabe and Ito's colours, which all kinds of colour vision tell apart.
BLUE, ORANGE, GREY, PALE = "#0072B2", "#D55E00", "#7A7A7A", "#BDBDBD"
PALETTE = [BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]

# More points than this are counted in rectangles.
MANY_POINTS = 5000
# More levels than this are not named on an axis.
MANY_LEVELS = 60

# Characters of titles and axis labels in an inch.
_TITLE_DENSITY, _TEXT_DENSITY = 8.5, 12.0
# And of names at ticks and in legends; characters of a name that is turned.
_NAME_DENSITY, _TURNED = 13.5, 22


def start(data: pd.DataFrame, mapping: p9.aes) -> p9.ggplot:
    """A figure in the look of all figures; what is added later may change it."""
    found = p9.ggplot(data, mapping)
    found += _look()  # every "+" copies all layers, "+=" does not
    return found


def _look() -> p9.theme:
    """The theme of all figures."""
    return p9.theme_bw(base_size=10) + p9.theme(
        panel_grid_minor=p9.element_blank(),
        panel_grid_major=p9.element_line(color="#EBEBEB", size=0.5),
        panel_border=p9.element_rect(color="#9A9A9A", size=0.7),
        plot_title=p9.element_text(size=11, weight="bold", linespacing=1.2, ha="left"),
        plot_title_position="plot",
        panel_spacing=0.03,
        plot_caption=p9.element_text(size=8, color="#444444", linespacing=1.2),
        axis_title=p9.element_text(size=9.5, linespacing=1.2),
        axis_text=p9.element_text(size=8, linespacing=1.1),
        strip_text=p9.element_text(
            size=8.5, linespacing=1.2, margin={"t": 4, "b": 4, "units": "pt"}
        ),
        strip_background=p9.element_rect(fill="#F2F2F2", color="#9A9A9A", size=0.7),
        legend_key=p9.element_blank(),
        legend_title=p9.element_text(size=9),
        legend_text=p9.element_text(size=8),
    )


def titled(
    figure: p9.ggplot,
    *,
    size: tuple[float, float],
    title: str,
    x: str,
    y: str,
    caption: str | None = None,
    beside: Sequence[str] = (),
    flipped: bool = False,
) -> p9.ggplot:
    """A figure with title and axis labels, all wrapped to its size.

    ``beside`` are the labels left of the panels, which take room from the lower axis;
    ``flipped`` figures have ``x`` going up.
    """
    width, height = size
    across = int((width - 1.0) * _TEXT_DENSITY) - longest(beside)
    up = int((height - 1.2) * _TEXT_DENSITY)
    texts = {"title": wrapped(title, int(width * _TITLE_DENSITY))}
    texts["x"] = wrapped(x, up if flipped else across)
    texts["y"] = wrapped(y, across if flipped else up)
    if caption:
        texts["caption"] = wrapped(caption, int(width * 13.0))
    added = [p9.labs(**texts), p9.theme(figure_size=size)]
    found: p9.ggplot = figure + added
    return found


# ------------------------------------------------------------------ text


def wrapped(text: object, width: int) -> str:
    """Text on lines of at most ``width`` characters, none lost; for matplotlib, without maths.

    Lines end at spaces and after punctuation that joins names, or within a word longer than a line.
    """
    width = max(width, 8)
    pieces = re.split(r"(?<=[\s:_./|,+*-])(?!%)", str(text).replace("\n", " "))
    lines = [""]
    for piece in pieces:
        while len(lines[-1]) + len(piece.rstrip()) > width:
            if lines[-1].strip():
                lines.append("")
            if len(piece.rstrip()) > width:
                lines[-1], piece = piece[:width], piece[width:]
                lines.append("")
        lines[-1] += piece
    return literal("\n".join(line.rstrip() for line in lines if line.strip()))


def names_across(labels: Sequence[str], inches: float) -> list[object]:
    """Layers for names below an axis of so many inches: on several lines, or turned."""
    room = int(inches * _NAME_DENSITY / max(len(labels), 1)) - 1
    words = (w.strip() for label in labels for w in re.split(r"(?<=[\s:_./|,+*-])", label))
    turned = room < max(map(len, words), default=0)
    width = _TURNED if turned else room
    found: list[object] = [
        p9.scale_x_discrete(labels=lambda names: [wrapped(name, width) for name in names])
    ]
    if turned:
        found.append(p9.theme(axis_text_x=p9.element_text(rotation=90, va="top")))
    return found


def legend_below(labels: Sequence[str], inches: float) -> list[object]:
    """Layers for a legend of colours below a figure, in as many columns as fit."""
    columns = max(1, int(inches * _NAME_DENSITY / (longest(labels) + 5)))
    guide = p9.guide_legend(ncol=min(columns, max(len(labels), 1)))
    return [p9.guides(color=guide, fill=guide), p9.theme(legend_position="bottom")]


def colours(n: int) -> list[str]:
    """``n`` colours, told apart by all kinds of colour vision if there are few."""
    if n <= len(PALETTE):
        return PALETTE[: max(n, 1)]
    shades = [hsv_to_rgb((i / n, 0.65, 0.6 if i % 2 else 0.85)) for i in range(n)]
    return [to_hex((float(r), float(g), float(b))) for r, g, b in shades]


def longest(labels: Sequence[str]) -> int:
    """Characters of the longest line."""
    return max((len(line) for label in labels for line in label.split("\n")), default=0)


def lines(labels: Sequence[str]) -> int:
    """Lines of all labels."""
    return sum(1 + label.count("\n") for label in labels)


def literal(text: str) -> str:
    """Text whose dollar signs do not start a formula."""
    return text.replace("$", r"\$")


# ------------------------------------------------------------------ layers


def is_many(n: int) -> bool:
    """Whether so many points are counted instead of drawn."""
    return n > MANY_POINTS


def cloud(n: int) -> list[object]:
    """Layers for ``n`` points at ``x, y`` of the figure: points, or counts in rectangles."""
    if not is_many(n):
        alpha = 0.75 if n <= 300 else 0.45
        return [p9.geom_point(color=BLUE, alpha=alpha, size=1.6, stroke=0)]
    shades = ["#CFE1F2", "#6AAED6", "#2070B4", "#08306B"]
    return [
        p9.geom_bin_2d(bins=(70, 50)),
        p9.scale_fill_gradientn(colors=shades, trans="log10", name="Rows", breaks=powers),
    ]


def powers(limits: tuple[float, float]) -> list[float]:
    """Powers of ten between two limits, few enough for a legend."""
    return [10.0**i for i in range(int(np.ceil(np.log10(limits[1]))) + 1) if 10.0**i <= limits[1]]


def zero_line() -> p9.geom_hline:
    """A thin line at 0."""
    return p9.geom_hline(yintercept=0.0, color=GREY, size=0.4)


def text_beside(
    points: pd.DataFrame, *, middle: float, height: float, width: int = 24
) -> list[object]:
    """Names beside a few points, moved until they are apart.

    ``points`` has the columns ``x, y, label`` and any that facets need.  A name stands left of
    points beyond ``middle``, right of others.  Names less than a line apart, on an axis ``height``
    long, are pushed up, with a thin line back to the point.
    """
    names = [wrapped(label, width) for label in points["label"]]
    left = points["x"] > middle
    shown = points.assign(
        at=_apart(points["y"], [name.count("\n") + 1 for name in names], 0.042 * height),
        label=[_padded(name, side) for name, side in zip(names, left, strict=True)],
    )
    moved = shown[shown["at"] > shown["y"]]
    lead = p9.geom_segment(
        p9.aes("x", "y", xend="x", yend="at"), data=moved, color=PALE, size=0.4, inherit_aes=False
    )
    sides = [(shown[left], "right"), (shown[~left], "left")]
    texts = [_text(part, side) for part, side in sides if len(part)]
    return [lead, *texts] if len(moved) else list(texts)


def _apart(y: pd.Series, lines: Sequence[int], line: float) -> list[float]:
    """Heights at or above ``y`` at which texts of so many lines do not touch."""
    at, top = np.array(y, dtype=np.float64), -np.inf
    for i in np.argsort(at, kind="stable"):
        half = 0.5 * line * lines[i]
        at[i] = max(at[i], top + half)
        top = at[i] + half
    return [float(a) for a in at]


def _text(shown: pd.DataFrame, side: str) -> p9.geom_text:
    """Names with a white rim, to be read over points."""
    return p9.geom_text(
        p9.aes("x", "at", label="label"),
        data=shown,
        ha=side,
        size=7.5,
        inherit_aes=False,
        path_effects=[withStroke(linewidth=2.0, foreground="white")],
    )


def _padded(text: str, left: bool) -> str:
    """A name with space between it and its point."""
    return "\n".join(f"{line}   " if left else f"   {line}" for line in text.split("\n"))
