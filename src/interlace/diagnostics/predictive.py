"""Summaries of the responses beside those of responses simulated from the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interlace.diagnostics.simulated import two_sided
from interlace.diagnostics.units import design_of
from interlace.errors import InterlaceError
from interlace.model.drawn import simulate_general
from interlace.model.fitted import Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.model.simulate import Seed, simulate
from interlace.sums.terms import Floats

STATISTICS = (
    "mean",
    "sd",
    "skewness",
    "minimum",
    "lower quartile",
    "median",
    "upper quartile",
    "maximum",
)


def check_predictions(
    result: Labelled[Any], *, nsim: int = 250, level: float = 0.95, seed: Seed = 0
) -> pd.DataFrame:
    """Whether the model could have made the responses: their summaries beside simulated ones.

    Parameters
    ----------
    result
        A fitted model that holds its rows.
    nsim, seed
        Of the simulated responses, for which new random effects are drawn.
    level
        Of the interval of the simulated summaries.

    Returns
    -------
    DataFrame
        By summary of the responses: ``observed``, ``expected`` (the median of the simulated ones),
        ``lower``, ``upper`` and ``p``, both tails.

    Raises
    ------
    InterlaceError
        The result has no rows, or fewer than 20 simulations are asked for.

    Notes
    -----
    Parameters are taken as estimated, so that ``mean`` and ``sd``, which the fit has made alike,
    hardly differ: p is large for them by construction.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> found = check_predictions(result, seed=1)
    >>> bool(found.loc["maximum", "lower"] < 466 < found.loc["maximum", "upper"])
    True
    """
    y, drawn = responses_drawn(result, nsim, seed)
    return predictive_table(y, drawn, level)


def responses_drawn(result: Labelled[Any], nsim: int, seed: Seed) -> tuple[Floats, Floats]:
    """Responses (n,) and simulated ones (n, nsim), counts as counts."""
    if not isinstance(nsim, int | np.integer) or nsim < 20:
        raise InterlaceError(f"nsim must be a whole number from 20 on, not {nsim!r}")
    if isinstance(result, FittedGeneralModel):
        return result.estimate.problem.y, simulate_general(result, int(nsim), seed)
    design = design_of(result)
    return design.y, simulate(design, result.estimate, int(nsim), seed)


def predictive_table(y: Floats, drawn: Floats, level: float) -> pd.DataFrame:
    """Summaries of responses beside those of simulated ones."""
    both = np.column_stack((y, drawn))
    values = _summaries(both)
    tail = (1.0 - level) / 2.0
    own, others = values[:, 0], values[:, 1:]
    lower, middle, upper = np.quantile(others, [tail, 0.5, 1.0 - tail], axis=1)
    columns = {
        "observed": own,
        "expected": middle,
        "lower": lower,
        "upper": upper,
        "p": [two_sided(float(a), b) for a, b in zip(own, others, strict=True)],
    }
    return pd.DataFrame(columns, index=pd.Index(STATISTICS, name="summary"))


def predictive_gap(y: Floats, drawn: Floats) -> tuple[str, float]:
    """The summary that is farthest from simulated ones, and how probable one as far is.

    Each is in standard deviations from its mean over the simulations.
    """
    values = _summaries(np.column_stack((y, drawn)))
    mean, sd = values[:, 1:].mean(axis=1), values[:, 1:].std(axis=1)
    away = np.abs(values - mean[:, None]) / np.where(sd > 0.0, sd, 1.0)[:, None]
    most = away.max(axis=0)
    return STATISTICS[int(away[:, 0].argmax())], float((most >= most[0]).mean())


def _summaries(Y: Floats) -> Floats:
    """All summaries of the columns of ``Y`` (n, m), ``(8, m)``."""
    mean, sd = Y.mean(axis=0), Y.std(axis=0)
    unit = np.where(sd > 0.0, sd, 1.0)
    skewness = (((Y - mean) / unit) ** 3).mean(axis=0)
    low, first, middle, third, high = np.quantile(Y, [0.0, 0.25, 0.5, 0.75, 1.0], axis=0)
    return np.stack([mean, sd, skewness, low, first, middle, third, high])
