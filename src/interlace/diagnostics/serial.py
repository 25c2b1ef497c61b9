"""Correlation of residuals within subjects, by lag and by distance in time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError, choose
from interlace.model.confidence import check_level, normal_reach
from interlace.model.structured import FittedStructuredModel
from interlace.sums.terms import Floats

KINDS = ("normalized", "pearson")
# Distances that are shown one by one; more are put into classes with as many pairs each.
_DISTANCES = 20


def autocorrelation(
    result: FittedStructuredModel,
    *,
    residuals: str = "normalized",
    max_lag: int | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Autocorrelation of the residuals of a subject, by lag.

    Parameters
    ----------
    result
        A model fitted with ``residual=``.
    residuals
        ``"normalized"``: without correlation if the structure is right.  ``"pearson"``: residuals
        (random effects taken off) over their standard deviations, which show what a structure must
        describe.
    max_lag
        The largest lag; by default all that occur.
    level
        Of the band in which autocorrelations lie if there is none.

    Returns
    -------
    DataFrame
        By ``lag``: ``acf``, ``pairs`` (how many), and ``band`` (``z / sqrt(pairs)``).

    Raises
    ------
    InterlaceError
        A model without ``residual=``, an unknown kind, or no subject with two rows.

    Notes
    -----
    The mean of products of residuals that are ``lag`` visits apart, over the mean of their squares
    (Pinheiro and Bates 2000, Mixed-Effects Models in S and S-PLUS, section 5.3).  Where subjects
    have times of their own, lags count their rows.

    Examples
    --------
    >>> import interlace
    >>> orthodont = interlace.datasets.load("orthodont")
    >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
    >>> interlace.autocorrelation(result, max_lag=2).round(2)
          acf  pairs  band
    lag
    1   -0.24     81  0.22
    2    0.47     54  0.27
    """
    check_level(level)
    values, seen = _by_visit(result, residuals)
    most = values.shape[1] - 1 if max_lag is None else min(int(max_lag), values.shape[1] - 1)
    square = float((values**2).sum() / seen.sum())
    rows = []
    for lag in range(1, most + 1):
        pairs = seen[:, lag:] & seen[:, :-lag]
        number = int(pairs.sum())
        if number:
            product = float((values[:, lag:] * values[:, :-lag]).sum()) / number
            rows.append((lag, product / square, number, normal_reach(level) / np.sqrt(number)))
    if not rows:
        raise InterlaceError("no subject has two rows: there is no autocorrelation")
    return pd.DataFrame(rows, columns=["lag", "acf", "pairs", "band"]).set_index("lag")


def semivariogram(result: FittedStructuredModel, *, residuals: str = "normalized") -> pd.DataFrame:
    """Half the mean squared difference of two residuals of a subject, by their distance in time.

    Parameters
    ----------
    result
        A model fitted with ``residual=``.
    residuals
        As in :func:`autocorrelation`.

    Returns
    -------
    DataFrame
        ``distance``, ``semivariance`` and ``pairs``.  Of more than 20 different distances classes
        are made, with about as many pairs each, and ``distance`` is their mean.

    Raises
    ------
    InterlaceError
        As :func:`autocorrelation`.

    Notes
    -----
    It is level, at 1, if residuals are not correlated; where it rises with the distance, near rows
    resemble each other more.  Distances are those of the times; of visits that are no numbers, how
    many visits lie between.

    Examples
    --------
    >>> import interlace
    >>> orthodont = interlace.datasets.load("orthodont")
    >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
    >>> interlace.semivariogram(result, residuals="pearson").round(2)
       distance  semivariance  pairs
    0       2.0          0.30     81
    1       4.0          0.27     54
    2       6.0          0.40     27
    """
    values, seen = _by_visit(result, residuals)
    times = _times(result, values.shape)
    i, j = np.triu_indices(values.shape[1], 1)
    both = seen[:, i] & seen[:, j]
    distance = _apart(times[:, j], times[:, i])[both]
    half = 0.5 * ((values[:, j] - values[:, i]) ** 2)[both]
    if not len(half):
        raise InterlaceError("no subject has two rows: there is no semivariogram")
    classes, known = pd.factorize(distance, sort=True)
    if len(known) > _DISTANCES:
        classes = pd.qcut(distance, _DISTANCES, labels=False, duplicates="drop")
    frame = pd.DataFrame({"distance": distance, "semivariance": half}).groupby(classes)
    table = frame.mean().assign(pairs=frame.size())
    return table.reset_index(drop=True)


def _by_visit(result: FittedStructuredModel, kind: str) -> tuple[Floats, np.ndarray]:
    """Residuals by subject and visit, 0 where a visit was missed; and where it was not."""
    if not isinstance(result, FittedStructuredModel):
        raise InterlaceError(
            "autocorrelations are of models fitted with residual=, which says what a subject and a "
            f"visit are: this is a {type(result).__name__}"
        )
    kind = choose("residuals", kind, KINDS)
    require_rows(result.design, "an autocorrelation")
    at = result.places
    values = np.zeros((at.n_subjects, at.n_visits))
    seen = np.zeros(values.shape, dtype=bool)
    rows = result.normalized_resid if kind == "normalized" else result.pearson_resid
    values[at.subjects, at.visits], seen[at.subjects, at.visits] = rows, True
    return values, seen


def _times(result: FittedStructuredModel, shape: tuple[int, ...]) -> Floats:
    """When the visits of every subject were, ``(subjects, V, d)``."""
    grid, at = result.grid, result.places
    assert grid is not None
    if grid.times is not None:
        own = grid.times.reshape(len(at.subjects), -1)
        found = np.zeros((*shape, own.shape[1]))
        found[at.subjects, at.visits] = own
        return found
    numbers = np.arange(len(grid.labels), dtype=np.float64)
    if grid.labels.dtype.kind in "iuf":
        numbers = grid.labels.astype(np.float64)
    return np.broadcast_to(numbers[:, None], (*shape, 1))


def _apart(one: Floats, other: Floats) -> Floats:
    """Distances of points."""
    return np.asarray(np.sqrt(((one - other) ** 2).sum(axis=-1)))
