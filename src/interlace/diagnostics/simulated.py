"""Residuals beside simulated responses, and tests whose null distribution is simulated too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from interlace.diagnostics.units import design_of
from interlace.errors import InterlaceError
from interlace.model.fitted import FittedModel
from interlace.model.simulate import Seed, seed_sequence, simulate
from interlace.sums.terms import Floats

# Probabilities below which a check finds fault in words.
FAULT = 0.05


def linear_residual_checks(
    result: FittedModel, nsim: int, seed: Seed
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Tests of simulated residuals of a linear model; see ``check_residuals``.

    Each simulated response is tested among the others in the same way, and p is the share of them
    that are at least as far from what is expected: residuals of one group are correlated, so that
    textbook distributions do not hold.
    """
    if not isinstance(nsim, int | np.integer) or nsim < 20:
        raise InterlaceError(f"nsim must be a whole number from 20 on, not {nsim!r}")
    design = design_of(result)
    rng = np.random.default_rng(seed_sequence(seed))
    S = simulate(design, result.estimate, int(nsim), seed)
    all_ = np.column_stack((design.y, S))
    centre = S.mean(axis=1, keepdims=True)
    statistics = {
        "uniformity": from_uniform(_ranks(all_, rng)),
        "dispersion": ((all_ - centre) ** 2).mean(axis=0),
        "outliers": _beyond(all_),
    }
    rows = {name: _tested(values, name == "uniformity") for name, values in statistics.items()}
    own, expected, p = rows["dispersion"]
    rows["dispersion"] = [own / expected, 1.0, p]
    columns = ["statistic", "expected", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    said = faults({name: p for name, (_, _, p) in rows.items()})
    return table, (said, "Probabilities are those among the simulations themselves.")


def _ranks(all_: Floats, rng: np.random.Generator) -> Floats:
    """Share of the other columns below each value, ties broken at random, ``(n, m)``."""
    m = all_.shape[1]
    order = np.argsort(np.argsort(all_, axis=1, kind="stable"), axis=1, kind="stable")
    ordered = np.sort(all_, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        jitter = rng.random(all_.shape)
        order = np.empty(all_.shape, dtype=np.intp)
        for i, row in enumerate(all_):
            order[i, np.lexsort((jitter[i], row))] = np.arange(m)
    return np.asarray((order + rng.random(all_.shape)) / m)


def from_uniform(u: Floats) -> Floats:
    """Kolmogorov and Smirnov's distance from uniform, by column."""
    n = len(u)
    ordered = np.sort(u, axis=0)
    steps = np.arange(n)[:, None] / n
    return np.asarray(np.maximum(ordered - steps, steps + 1.0 / n - ordered).max(axis=0))


def _beyond(all_: Floats) -> Floats:
    """Rows of every column that are below or above those of all other columns."""
    ordered = np.sort(all_, axis=1)
    low = (all_ == ordered[:, [0]]) & (ordered[:, [0]] < ordered[:, [1]])
    high = (all_ == ordered[:, [-1]]) & (ordered[:, [-1]] > ordered[:, [-2]])
    return np.asarray((low | high).sum(axis=0), dtype=np.float64)


def _tested(values: Floats, upper: bool) -> list[float]:
    """Statistic of the responses, its mean over simulations, and the share as far off."""
    own, others = values[0], values[1:]
    p = (1.0 + (others >= own).sum()) / len(values) if upper else two_sided(own, others)
    return [float(own), float(others.mean()), float(p)]


def two_sided(value: float, drawn: Floats) -> float:
    """Twice the smaller tail of a value among simulated ones, itself counted."""
    above = 1.0 + float((drawn >= value).sum())
    below = 1.0 + float((drawn <= value).sum())
    return min(1.0, 2.0 * min(above, below) / (len(drawn) + 1.0))


def faults(probabilities: Mapping[str, float]) -> str:
    """Which tests find fault, in words."""
    bad = [name for name, p in probabilities.items() if p < FAULT]
    return f"Look at: {', '.join(bad)}." if bad else "No fault was found."


def check_heteroscedasticity(result: FittedModel) -> pd.DataFrame:
    """Whether the spread of the residuals changes with the fitted values.

    Returns
    -------
    DataFrame
        One row ``fitted``: ``statistic``, ``df`` and ``p``.

    Notes
    -----
    Koenker's (1981, Journal of Econometrics 17, 107-112) form of Breusch and Pagan's test: ``n``
    times the R squared of the squared conditional residuals, times the root of their weights, on
    the fitted values.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> round(check_heteroscedasticity(result)["p"].item(), 2)
    0.04
    """
    design = design_of(result)
    squared = (result.resid * design.root_weights) ** 2
    fitted = result.fittedvalues
    if np.ptp(fitted) == 0.0:
        raise InterlaceError("all fitted values are equal: there is nothing to compare")
    statistic = len(squared) * float(np.corrcoef(squared, fitted)[0, 1]) ** 2
    row = {"statistic": statistic, "df": 1, "p": float(chdtrc(1, statistic))}
    return pd.DataFrame([row], index=pd.Index(["fitted"], name="along"))
