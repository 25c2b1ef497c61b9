"""Autocorrelation and semivariogram of the residuals of subjects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotnine as p9

from interlace.diagnostics.serial import autocorrelation, semivariogram
from interlace.model.structured import FittedStructuredModel
from interlace.plots.style import BLUE, GREY, start, titled, zero_line


def plot_autocorrelation(
    result: FittedStructuredModel,
    *,
    residuals: str = "normalized",
    max_lag: int | None = None,
    level: float = 0.95,
) -> p9.ggplot:
    """Autocorrelation of the residuals of a subject, by lag.

    Arguments are those of :func:`interlace.autocorrelation`; the band has what autocorrelations of
    ``level`` of the lags would stay within if there were none.

    Examples
    --------
    >>> import interlace
    >>> orthodont = interlace.datasets.load("orthodont")
    >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
    >>> figure = interlace.plot_autocorrelation(result)
    """
    table = autocorrelation(result, residuals=residuals, max_lag=max_lag, level=level)
    data = table.reset_index().assign(low=lambda t: -t["band"])
    figure = (
        start(data, p9.aes("lag", "acf"))
        + p9.geom_ribbon(p9.aes(ymin="low", ymax="band"), fill=GREY, alpha=0.25)
        + zero_line()
        + p9.geom_segment(p9.aes(xend="lag", y=0.0, yend="acf"), color=BLUE, size=0.8)
        + p9.geom_point(color=BLUE, size=1.8, stroke=0)
        + p9.scale_x_continuous(breaks=_whole(data["lag"]))
    )
    return titled(
        figure,
        size=(5.0, 4.0),
        title=f"Autocorrelation of the {_called(residuals)} residuals",
        x="Lag",
        y="Autocorrelation",
        caption=f"Band: where {100 * level:g} % lie if there is none.",
    )


def plot_semivariogram(
    result: FittedStructuredModel, *, residuals: str = "normalized"
) -> p9.ggplot:
    """Half the mean squared difference of two residuals of a subject, by their distance.

    Arguments are those of :func:`interlace.semivariogram`.  The line at 1 is where normalised
    residuals without correlation lie; sizes of points say how many pairs there are.

    Examples
    --------
    >>> import interlace
    >>> orthodont = interlace.datasets.load("orthodont")
    >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
    >>> figure = interlace.plot_semivariogram(result, residuals="pearson")
    """
    data = semivariogram(result, residuals=residuals)
    level = pd.DataFrame({"y": [1.0]})
    figure = (
        start(data, p9.aes("distance", "semivariance"))
        + p9.geom_hline(p9.aes(yintercept="y"), data=level, color=GREY, size=0.4)
        + p9.geom_line(color=BLUE, size=0.5)
        + p9.geom_point(p9.aes(size="pairs"), color=BLUE, stroke=0)
        + p9.scale_size_continuous(range=(1.5, 4.0), name="Pairs")
        + p9.expand_limits(y=0.0)
    )
    return titled(
        figure,
        size=(5.5, 4.0),
        title=f"Semivariogram of the {_called(residuals)} residuals",
        x="Distance",
        y="Semivariance",
    )


def _whole(lags: pd.Series) -> list[int]:
    """At most ten whole lags for an axis."""
    last = int(lags.max())
    return list(range(1, last + 1, max(int(np.ceil(last / 10)), 1)))


def _called(residuals: str) -> str:
    return "normalised" if residuals.lower().startswith("norm") else "Pearson"
