"""Normal quantile plots of residuals and random effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotnine as p9

from interlace.design.recipe import require_rows
from interlace.diagnostics.envelope import qq_envelope
from interlace.diagnostics.normality import standard_effects
from interlace.errors import InterlaceError, choose
from interlace.model.kinds import require_gaussian
from interlace.plots.residuals import Gaussian, standard_residuals
from interlace.plots.style import BLUE, GREY, ORANGE, start, text_beside, titled, wrapped
from interlace.sums.terms import Floats

# Values by panel, with the names of their units.
Parts = dict[str, tuple[Floats, Sequence[object]]]


def plot_qq(
    result: Gaussian, what: str = "resid", *, level: float = 0.95, label: int = 3
) -> p9.ggplot:
    """Normal quantile plot with a simultaneous envelope.

    Parameters
    ----------
    result
        A fitted model.
    what
        ``"resid"``: conditional residuals, each over its standard deviation.  A grouping factor:
        its random effects, a panel a column, each over the standard deviation it has in the model,
        ``sqrt(variance component - conditional variance)``.
    level
        Probability that all points of a normal sample lie in the envelope.
    label
        How many points outside the envelope are named, by row (from 0) or level.

    Returns
    -------
    plotnine.ggplot
        Of more than 500 values the 100 at each end and 300 between.

    Raises
    ------
    InterlaceError
        An unknown grouping factor, a level outside (0, 1), random effects that are all zero, or
        fewer than 3 of them; residuals of a result without rows.

    Notes
    -----
    The envelope is :func:`interlace.diagnostics.envelope.qq_envelope`'s, and takes the values as
    independent.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_qq
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> figure = plot_qq(result, "Subject")
    """
    what = choose("what", what, ["resid", *result.random_effects], one_of=True, exact=True)
    if what == "resid":
        require_gaussian(result, "plot_qq of residuals")
        labels = require_rows(result.design, "plot_qq").labels
        parts: Parts = {"": (standard_residuals(result), labels.tolist())}
        title, y = "Normal quantiles of the residuals", "Standardised residual"
    else:
        parts = _effects(result, what)
        title, y = f"Normal quantiles of the random effects of {what}", "Standardised random effect"
    return figure_of(parts, title=title, y=y, level=level, label=label)


def _effects(result: Gaussian, key: str) -> Parts:
    """Standardised random effects by column, with their levels."""
    effects = pd.DataFrame(result.random_effects[key])
    if len(effects) < 3:
        raise InterlaceError(
            f"'{key}' has {len(effects)} levels, too few for a quantile plot: plot_ranef shows them"
        )
    names, levels = list(effects.columns), list(effects.index)
    return {str(name): (standard_effects(result, key, name), levels) for name in names}


def figure_of(
    parts: Parts,
    *,
    title: str,
    y: str,
    level: float,
    label: int,
) -> p9.ggplot:
    """A panel a part."""
    panels = {name: wrapped(name, 34) for name in parts}
    tables = [qq_envelope(v, level=level).assign(panel=panels[n]) for n, (v, _) in parts.items()]
    data = pd.concat(tables, ignore_index=True)
    data["panel"] = pd.Categorical(data["panel"], list(dict.fromkeys(panels.values())))
    outside = (data["sample"] < data["lower"]) | (data["sample"] > data["upper"])
    columns = min(len(parts), 3)
    rows = -(-len(parts) // columns)
    size = (5.0, 4.2) if len(parts) == 1 else (3.4 * columns + 0.6, 3.4 * rows + 0.8)
    figure = start(data, p9.aes("theoretical", "sample"))
    figure += [
        p9.geom_ribbon(p9.aes(ymin="lower", ymax="upper"), fill=GREY, alpha=0.25),
        p9.geom_line(p9.aes(y="line"), color=GREY, size=0.5),
        p9.geom_point(data=data[~outside], color=BLUE, size=1.5, stroke=0),
        p9.geom_point(data=data[outside], color=ORANGE, size=1.8, stroke=0),
        *_named(data[outside], float(np.ptp(data["sample"])), parts, panels, label),
        *([p9.facet_wrap("panel", ncol=columns)] if len(parts) > 1 else []),
    ]
    caption = f"Band: {level:.0%} of normal samples lie wholly within.".replace("%", " %")
    return titled(figure, size=size, title=title, x="Normal quantile", y=y, caption=caption)


def _named(
    outside: pd.DataFrame,
    height: float,
    parts: Parts,
    panels: dict[str, str],
    label: int,
) -> list[object]:
    """Names of the points farthest from the line."""
    layers: list[object] = []
    for name, (_, labels) in parts.items():
        mine = outside[outside["panel"] == panels[name]]
        far = mine.loc[(mine["sample"] - mine["line"]).abs().nlargest(label).index]
        points = pd.DataFrame(
            {
                "x": far["theoretical"],
                "y": far["sample"],
                "label": [labels[i] for i in far["position"]],
                "panel": far["panel"],
            }
        )
        layers += text_beside(points, middle=0.0, height=height)
    return layers
