"""One look for all figures: colours, theme, text that fits, clouds of many points."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotnine as p9
from plotnine.composition import Compose

from interlace.errors import InterlaceError

Figure = p9.ggplot | Compose

# Okabe and Ito's colours, which all kinds of colour vision tell apart.
BLUE, ORANGE, GREY, PALE = "#0072B2", "#D55E00", "#7A7A7A", "#BDBDBD"
PALETTE = [BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]

# More points than this are counted in rectangles.
MANY_POINTS = 5000
# More levels than this are not named on an axis.
MANY_LEVELS = 60

# Characters of titles and axis labels in an inch.
_TITLE_DENSITY, _TEXT_DENSITY = 10.5, 12.0


def look(width: float, height: float) -> p9.theme:
    """The theme of all figures, at a size in inches."""
    return p9.theme_bw(base_size=10) + p9.theme(
        figure_size=(width, height),
        panel_grid_minor=p9.element_blank(),
        panel_grid_major=p9.element_line(color="#EBEBEB", size=0.5),
        panel_border=p9.element_rect(color="#9A9A9A", size=0.7),
        plot_title=p9.element_text(size=11.5, weight="bold", linespacing=1.2),
        plot_subtitle=p9.element_text(size=9, color="#444444", linespacing=1.2),
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
    subtitle: str | None = None,
    caption: str | None = None,
) -> p9.ggplot:
    """A figure with theme, title and axis labels, all wrapped to its size."""
    width, height = size
    wide, across = int(width * _TITLE_DENSITY), int((width - 1.0) * _TEXT_DENSITY)
    texts = {"title": wrapped(title, wide), "x": wrapped(x, across)}
    texts["y"] = wrapped(y, int((height - 1.2) * _TEXT_DENSITY))
    if subtitle:
        texts["subtitle"] = wrapped(subtitle, int(wide * 1.25))
    if caption:
        texts["caption"] = wrapped(caption, int(wide * 1.3))
    found: p9.ggplot = figure + p9.labs(**texts) + look(width, height)
    return found


# ------------------------------------------------------------------ text


def wrapped(text: object, width: int) -> str:
    """Text on lines of at most ``width`` characters, none lost; for matplotlib, without maths.

    Lines end at spaces and after punctuation that joins names, or within a word longer than a line.
    """
    width = max(width, 8)
    pieces = re.split(r"(?<=[\s:_./|,+*-])", str(text).replace("\n", " "))
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


def literal(text: str) -> str:
    """Text whose dollar signs do not start a formula."""
    return text.replace("$", r"\$")


# ------------------------------------------------------------------ arguments


def known(name: object, names: Sequence[str], what: str) -> str:
    """The name, if it is one of those known.

    Raises
    ------
    InterlaceError
        It is not; the message lists those that are.
    """
    if name not in names:
        raise InterlaceError(f"{what} must be one of {', '.join(map(repr, names))}, not {name!r}")
    return str(name)


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
    points beyond ``middle``, right of others.  Names on one side that would be less than a line
    apart, on an axis ``height`` long, are pushed up, with a thin line back to the point.
    """
    layers: list[object] = []
    for left, part in points.groupby(points["x"] > middle):
        layers += _side(part.sort_values("y"), bool(left), width, line=0.042 * height)
    return layers


def _side(part: pd.DataFrame, left: bool, width: int, *, line: float) -> list[object]:
    """Names left or right of their points."""
    names = [wrapped(label, width) for label in part["label"]]
    at, top = [], -np.inf
    for y, name in zip(part["y"], names, strict=True):
        half = 0.5 * line * (name.count("\n") + 1)
        at.append(max(y, top + half))
        top = at[-1] + half
    shown = part.assign(at=at, label=[_padded(name, left) for name in names])
    moved = shown[shown["at"] > shown["y"]]
    lead = p9.geom_segment(
        p9.aes("x", "y", xend="x", yend="at"), data=moved, color=PALE, size=0.4, inherit_aes=False
    )
    text = p9.geom_text(
        p9.aes("x", "at", label="label"),
        data=shown,
        ha="right" if left else "left",
        size=7.5,
        inherit_aes=False,
    )
    return [lead, text] if len(moved) else [text]


def _padded(text: str, left: bool) -> str:
    """A name with space between it and its point."""
    return "\n".join(f"{line}   " if left else f"   {line}" for line in text.split("\n"))
