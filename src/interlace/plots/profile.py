"""Profile likelihood curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotnine as p9

from interlace.model.confidence import normal_reach
from interlace.plots.style import BLUE, GREY, literal, start, titled, wrapped

if TYPE_CHECKING:
    from interlace.inference.profiles.curves import Profile

# Characters of a facet label that fit on one line.
_LABEL_WIDTH = 27


def plot_profile(profile: Profile, *, level: float = 0.95) -> p9.ggplot:
    """Profile likelihood: ``zeta`` against each parameter.

    A straight line says that the estimate behaves as if normal; bends show where Wald intervals
    mislead.  Dashed lines are where the limits of ``level`` are read off, the dotted line is the
    estimate, points are the limits.

    Parameters
    ----------
    profile
        From :func:`interlace.inference.profiles.profile.profile`.
    level
        Coverage of the interval marked; not above the level of the profile.

    Returns
    -------
    plotnine.ggplot

    Raises
    ------
    InterlaceError
        ``level`` is not strictly between 0 and 1, or beyond the profile.

    Examples
    --------
    >>> import interlace
    >>> from interlace.inference.profiles.profile import profile
    >>> from interlace.plots import plot_profile
    >>> fitted = interlace.fit("Yield ~ 1 + (1 | Batch)", interlace.datasets.load("dyestuff"))
    >>> figure = plot_profile(profile(fitted.estimate))
    >>> figure.save("profile.png", verbose=False)  # doctest: +SKIP
    """
    z = normal_reach(level)
    rows = -(-len(profile.curves) // 4)
    columns = -(-len(profile.curves) // rows)
    figure = (
        start(_facets(profile.lines(), profile), p9.aes("value", "zeta"))
        + p9.geom_hline(yintercept=[-z, z], linetype="dashed", color=GREY, size=0.4)
        + p9.geom_hline(yintercept=0.0, color=GREY, size=0.3)
        + p9.geom_vline(
            p9.aes(xintercept="value"),
            data=_facets(_estimates(profile), profile),
            linetype="dotted",
            color=GREY,
        )
        + p9.geom_line(color=BLUE, size=0.9)
        + p9.geom_point(data=_facets(_limits(profile, level, z), profile), color=BLUE, size=1.8)
        + p9.facet_wrap("parameter", scales="free_x", ncol=columns)
        + p9.scale_x_continuous(breaks=_few_breaks)
        + p9.theme(axis_text=p9.element_text(size=7))
    )
    return titled(
        figure,
        size=(2.5 * columns + 0.6, 2.1 * rows + 0.9),
        title="Profile likelihood",
        x="Value of the parameter",
        y="zeta",
    )


def _facets(data: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Parameters as an ordered factor with labels that fit their facet."""
    labels = [_wrapped(name) for name in profile.names]
    by_name = dict(zip(profile.names, labels, strict=True))
    facet = pd.Categorical(data["parameter"].map(by_name), categories=labels, ordered=True)
    return data.assign(parameter=facet)


def _wrapped(name: str) -> str:
    """A long name on several lines: broken before the group, between columns, after colons."""
    if len(name) <= _LABEL_WIDTH:
        return literal(name)
    columns, bar, group = name.partition("|")
    pieces = [piece for part in _columns(columns) for piece in _at_colons(part)]
    pieces += [bar + group] if bar else []
    return "\n".join(wrapped(piece, _LABEL_WIDTH) for piece in pieces)


def _columns(names: str) -> list[str]:
    """``cor_b.a`` as two pieces if it is long; a dot inside brackets belongs to a name."""
    if len(names) <= _LABEL_WIDTH or not names.startswith("cor_"):
        return [names]
    depth = np.cumsum([(c == "[") - (c == "]") for c in names])
    dots = [i for i, c in enumerate(names) if c == "." and depth[i] == 0]
    return [names[: dots[0] + 1], names[dots[0] + 1 :]] if dots else [names]


def _at_colons(text: str) -> list[str]:
    """Pieces of an interaction, if it is long."""
    if len(text) <= _LABEL_WIDTH:
        return [text]
    *first, last = text.split(":")
    return [*(f"{piece}:" for piece in first), last]


def _estimates(profile: Profile) -> pd.DataFrame:
    """Estimates that exist, as a frame."""
    values = profile.estimates.dropna()
    return pd.DataFrame({"parameter": values.index, "value": values.to_numpy()})


def _limits(profile: Profile, level: float, z: float) -> pd.DataFrame:
    """Limits that are crossings, with the ``zeta`` where they are."""
    limits = profile.conf_int(level)
    frames = [
        pd.DataFrame({"parameter": limits.index, "value": limits[column], "zeta": sign * z})
        for column, sign in zip(limits.columns, (-1.0, 1.0), strict=True)
    ]
    reached = profile.table.groupby("parameter")["zeta"].agg(["min", "max"])
    found = pd.concat(frames, ignore_index=True)
    low, high = (found["parameter"].map(reached[side]) for side in ("min", "max"))
    return found[(found["zeta"] >= low) & (found["zeta"] <= high)]


def _few_breaks(limits: tuple[float, float]) -> list[float]:
    """Three or so round numbers between two limits, so that they stay apart in a small facet."""
    span = limits[1] - limits[0]
    step = 10.0 ** np.floor(np.log10(span / 2.0)) if span > 0.0 else 1.0
    step = next(step * m for m in (5.0, 2.0, 1.0) if span / (step * m) >= 2.0)
    first = np.ceil(limits[0] / step) * step
    return [float(round(b, 10)) for b in np.arange(first, limits[1] + 1e-9 * step, step)]
