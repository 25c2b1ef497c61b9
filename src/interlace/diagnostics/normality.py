"""Random effects over their standard deviations in the model, and whether these are normal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from interlace.errors import InterlaceError
from interlace.model.fitted import Labelled
from interlace.sums.terms import Floats

# Levels that a test needs at least, and for which its approximation was made at most.
_FEWEST, _MOST = 5, 5000


def standard_effects(result: Labelled[Any], key: str, name: str) -> Floats:
    """Random effects of a column of a grouping factor, ``(l,)``, each over its standard deviation.

    That is ``sqrt(variance component - conditional variance)``.

    Raises
    ------
    InterlaceError
        The variance is not determined, or zero.
    """
    effects, se = (pd.DataFrame(d[key]) for d in (result.random_effects, result.random_effects_se))
    components = result.variance_components[key]
    prior = np.diag(components) if isinstance(components, pd.DataFrame) else np.array([components])
    variance = float(prior[list(effects.columns).index(name)])
    if np.isnan(variance):
        raise InterlaceError(
            f"the data do not determine the variance of '{name}' by '{key}': there is nothing "
            "to standardise its random effects with"
        )
    sd = np.sqrt(np.clip(variance - se[name].to_numpy() ** 2, 0.0, None))
    if not (sd > 1e-6 * np.sqrt(variance)).all() or not effects[name].abs().max() > 0.0:
        raise InterlaceError(
            f"the random effects '{name}' of '{key}' are zero, as is their variance: "
            "there is nothing to compare with a normal distribution"
        )
    return np.asarray(effects[name].to_numpy() / sd, dtype=np.float64)


def check_random_effects(result: Labelled[Any]) -> pd.DataFrame:
    """Whether the random effects look normal.

    Parameters
    ----------
    result
        A fitted model.

    Returns
    -------
    DataFrame
        By grouping factor and column, of those with 5 levels or more and a variance: ``levels``,
        ``statistic`` (the squared correlation with normal quantiles) and ``p``.

    Notes
    -----
    The test of Shapiro and Francia with Royston's (1993, Journal of the Royal Statistical Society
    D 42, 237-243) approximation of its distribution, of effects over the standard deviations that
    they have in the model, taken as independent, which they nearly are.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> check_random_effects(result)["p"].round(2).to_dict()
    {('Subject', 'Intercept'): 0.49, ('Subject', 'Days'): 0.91}
    """
    rows: dict[tuple[str, str], tuple[int, float, float]] = {}
    for key, effects in result.random_effects.items():
        for name in pd.DataFrame(effects).columns:
            if len(effects) < _FEWEST:
                continue
            try:
                values = standard_effects(result, key, name)
            except InterlaceError:
                continue  # no variance: nothing that could be normal
            rows[key, str(name)] = (len(values), *shapiro_francia(values))
    index = pd.MultiIndex.from_tuples(list(rows), names=["group", "column"])
    columns = ["levels", "statistic", "p"]
    if not rows:
        index = pd.MultiIndex.from_arrays([[], []], names=["group", "column"])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def shapiro_francia(values: Floats) -> tuple[float, float]:
    """The squared correlation with normal quantiles, and how probable one as small is.

    Examples
    --------
    >>> w, p = shapiro_francia(np.array([-1.2, -0.5, 0.1, 0.4, 1.3]))
    >>> round(w, 3), bool(p > 0.9)
    (0.992, True)
    """
    x = np.sort(values)
    n = len(x)
    m = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    w = float(np.corrcoef(x, m)[0, 1]) ** 2
    u = float(np.log(min(n, _MOST)))
    v = float(np.log(u))
    middle = -1.2725 + 1.0521 * (v - u)
    spread = 1.0308 - 0.26758 * (v + 2.0 / u)
    return w, float(ndtr(-(np.log(max(1.0 - w, 1e-300)) - middle) / spread))
