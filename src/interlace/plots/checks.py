"""The panel of checks as figures: one for each question that a reviewer asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9

from interlace.diagnostics.collinearity import check_collinearity
from interlace.diagnostics.normality import standard_effects
from interlace.diagnostics.predictive import responses_drawn
from interlace.errors import InterlaceError
from interlace.model.fitted import FittedModel, Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.model.simulate import Seed
from interlace.plots.general import against_fitted, plot_calibration, quantiles_of
from interlace.plots.influence import plot_influence
from interlace.plots.quantiles import Parts, figure_of, plot_qq
from interlace.plots.residuals import in_pairs, plot_resid, plot_scale_location
from interlace.plots.style import BLUE, GREY, ORANGE, Figure, start, titled, wrapped
from interlace.sums.terms import Floats

# Simulated responses that are drawn, classes of their frequencies, and inflation worth a line.
_LINES, _CLASSES, _INFLATED = 40, 32, 10.0
_SIZE = (5.5, 3.6)
# Characters of a line below a panel.
_CAPTION = 58


def plot_checks(result: Labelled[Any], *, level: float = 0.95, seed: Seed = 0) -> Figure:
    """The checks of :meth:`~interlace.CrossedLMEResult.check` as a panel of figures.

    Responses beside simulated ones, residuals against fitted values, their spread (of generalised
    models the calibration), their quantiles, influence of rows and of the levels of the first
    grouping factor, quantiles of the random effects, and variance inflation.

    Parameters
    ----------
    result
        A fitted model that holds its rows.
    level
        Of the envelopes of the quantiles.
    seed
        Of the simulated responses.

    Returns
    -------
    composition

    Raises
    ------
    InterlaceError
        A result without rows.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_checks
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> figure = plot_checks(interlace.fit("Reaction ~ Days + (Days | Subject)", sleep))
    """
    panels = list(_panels(result, level, seed))
    for panel in panels:
        panel += p9.theme(figure_size=_SIZE)
        if caption := panel.labels.caption:  # narrower than the figure alone
            panel += p9.labs(caption=wrapped(caption, _CAPTION))
    return in_pairs(panels)


def _panels(result: Labelled[Any], level: float, seed: Seed) -> Iterator[p9.ggplot]:
    """The figures, in order."""
    yield plot_predictive(result, seed=seed)
    if isinstance(result, FittedGeneralModel):
        yield against_fitted(result, 0)
        yield plot_calibration(result)
        yield quantiles_of(result, 0)
    else:
        assert isinstance(result, FittedModel)
        yield _alone(plot_resid(result))
        yield plot_scale_location(result)
        yield plot_qq(result, level=level)
    yield plot_influence(result)
    group = next(iter(result.ngroups))
    yield plot_influence(result, level=group)
    effects = _effects(result, group, level)
    if effects is not None:
        yield effects
    inflation = _inflation(result)
    if inflation is not None:
        yield inflation


def _alone(figure: Figure) -> p9.ggplot:
    """One figure, no composition."""
    assert isinstance(figure, p9.ggplot)
    return figure


def plot_predictive(result: Labelled[Any], *, draws: int = _LINES, seed: Seed = 0) -> p9.ggplot:
    """Frequencies of the responses beside those of responses simulated from the model.

    Parameters
    ----------
    result
        A fitted model that holds its rows.
    draws
        Simulated responses, at least 20, each with new random effects.
    seed
        Of these.

    Returns
    -------
    plotnine.ggplot

    Raises
    ------
    InterlaceError
        A result without rows, or fewer than 20 draws.

    Examples
    --------
    >>> import interlace
    >>> from interlace.plots import plot_predictive
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> figure = plot_predictive(interlace.fit("Reaction ~ Days + (Days | Subject)", sleep))
    """
    y, drawn = responses_drawn(result, draws, seed)
    middles, counts = _frequencies(y, drawn)
    # One path, with a gap after every draw: forty lines of their own take forty times as long.
    gap = np.full((drawn.shape[1], 1), np.nan)
    shares = np.hstack([counts[:, 1:].T / len(y), gap])
    data = pd.DataFrame(
        {"x": np.tile([*middles, middles[-1]], len(shares)), "share": shares.ravel()}
    ).iloc[:-1]
    own = pd.DataFrame({"x": middles, "share": counts[:, 0] / len(y)})
    figure = start(data, p9.aes("x", "share"))
    figure += [
        p9.geom_path(color=GREY, alpha=0.35, size=0.4),
        p9.geom_line(data=own, color=BLUE, size=1.1),
    ]
    response = str(result.formula.response)
    return titled(
        figure,
        size=_SIZE,
        title="Responses (blue) and simulated ones",
        x=response,
        y="Share of the rows",
    )


def _frequencies(y: Floats, drawn: Floats) -> tuple[Floats, Floats]:
    """Middles of classes (k,) and how many of each response are in them, ``(k, 1 + m)``."""
    both = np.column_stack((y, drawn))
    low, high = (float(v) for v in np.quantile(both, [0.0005, 0.9995]))
    whole = bool((both == np.round(both)).all()) and high - low < 2 * _CLASSES
    if whole:
        edges = np.arange(low - 0.5, high + 1.0)
    else:
        edges = np.linspace(low, high if high > low else low + 1.0, _CLASSES + 1)
    counts = np.stack([np.histogram(column, edges)[0] for column in both.T], axis=1)
    return 0.5 * (edges[1:] + edges[:-1]), counts.astype(np.float64)


def _effects(result: Labelled[Any], group: str, level: float) -> p9.ggplot | None:
    """Quantiles of the random effects of a grouping factor that have a variance."""
    effects = pd.DataFrame(result.random_effects[group])
    parts: Parts = {}
    for name in effects.columns:
        try:
            parts[str(name)] = (standard_effects(result, group, name), list(effects.index))
        except InterlaceError:
            continue  # zero, as is its variance
    if len(effects) < 3 or not parts:
        return None
    title = f"Normal quantiles of the random effects of {group}"
    return figure_of(parts, title=title, y="Standardised random effect", level=level, label=3)


def _inflation(result: Labelled[Any]) -> p9.ggplot | None:
    """Bars of variance inflation, if there are several terms."""
    try:
        table = check_collinearity(result)
    except InterlaceError:
        return None
    data = table.reset_index()
    data["term"] = pd.Categorical(
        [wrapped(t, 28) for t in data["term"]], [wrapped(t, 28) for t in data["term"]][::-1]
    )
    figure = start(data, p9.aes("term", "vif"))
    figure += [
        p9.geom_col(fill=BLUE, width=0.55),
        p9.geom_hline(yintercept=1.0, color=GREY, size=0.4),
        p9.coord_flip(),
    ]
    if float(data["vif"].max()) > 0.5 * _INFLATED:
        figure += p9.geom_hline(yintercept=_INFLATED, color=ORANGE, linetype="dashed")
    return titled(
        figure,
        size=_SIZE,
        title="Variance inflation",
        x="Term",
        y="VIF",
        beside=[str(t) for t in data["term"]],
        flipped=True,
    )
