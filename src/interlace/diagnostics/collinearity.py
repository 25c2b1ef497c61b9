"""Variance inflation: how much the terms of the fixed effects share with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.errors import InterlaceError
from interlace.model.fitted import E, FittedModel, Labelled
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats


def check_collinearity(result: Labelled[E]) -> pd.DataFrame:
    """Variance inflation factors of the fixed terms, generalised where a term has several columns.

    Parameters
    ----------
    result
        A fitted model.

    Returns
    -------
    DataFrame
        By term: ``df`` (its columns), ``vif``, ``gvif`` (``vif ** (1 / (2 df))``, comparable across
        terms), ``se_factor`` (by how much standard errors are larger, the root of ``vif``) and
        ``tolerance``.

    Raises
    ------
    InterlaceError
        Fewer than two terms beside the intercept.

    Notes
    -----
    With ``R`` the correlation matrix of the estimates without the intercept
    ``vif = det(R_jj) det(R_-j) / det(R)`` (Fox and Monette 1992, Journal of the American
    Statistical Association 87, 178-183).  Main effects beside their interactions are large for that
    reason alone.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> sleep["late"] = (sleep["Days"] > 4).astype(float)
    >>> result = interlace.fit("Reaction ~ Days + late + (1 | Subject)", sleep)
    >>> check_collinearity(result)[["df", "vif"]].round(2)
          df   vif
    term
    Days   1  4.12
    late   1  4.12
    """
    names = list(result.estimate.A.names)
    terms = _terms(result, names)
    if len(terms) < 2:
        raise InterlaceError(
            "collinearity is between terms: the model has fewer than two beside the intercept"
        )
    used = np.concatenate([columns for _, columns in terms])
    V = result.estimate.vcov[np.ix_(used, used)]
    sd = np.sqrt(np.diag(V))
    R = V / np.outer(sd, sd)
    rows, start = [], 0
    for label, columns in terms:
        own = np.arange(start, start + len(columns))
        rows.append((label, len(columns), _inflation(R, own)))
        start += len(columns)
    table = pd.DataFrame(rows, columns=["term", "df", "vif"]).set_index("term")
    table["gvif"] = table["vif"] ** (0.5 / table["df"])
    table["se_factor"] = np.sqrt(table["vif"])
    table["tolerance"] = 1.0 / table["vif"]
    return table


def _terms(result: Labelled[E], names: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Labels of the terms and the positions of their coefficients, the intercept left out."""
    if result.design is None and not isinstance(result, FittedModel):
        raise InterlaceError("check_collinearity needs the rows, and this result holds none")
    side = result.encoding.fixed
    kept = np.arange(len(side.names))[columns_kept(side.names, names)].tolist()
    found = []
    for term in side.terms:
        columns = [kept.index(c) for c in term.columns if c in kept]
        if term.factors and columns:
            found.append((term.label, columns))
    return found


def _inflation(R: Floats, own: NDArray[np.intp]) -> float:
    """``det(R_jj) det(R_-j) / det(R)``, by logarithms."""
    rest = np.setdiff1d(np.arange(len(R)), own)
    parts = [np.linalg.slogdet(R[np.ix_(i, i)])[1] for i in (own, rest)]
    return float(np.exp(sum(parts) - np.linalg.slogdet(R)[1]))
