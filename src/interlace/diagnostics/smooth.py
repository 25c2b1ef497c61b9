"""A local straight line through a cloud of points."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interlace.sums.terms import Floats

# A local slope is only fitted where x varies by more than this share of its range.
_FLAT = 1e-6


def local_line(x: ArrayLike, y: ArrayLike, *, span: float = 0.6, points: int = 60) -> pd.DataFrame:
    """Local linear regression of ``y`` (n,) on ``x`` (n,).

    Parameters
    ----------
    x, y
        Coordinates; pairs that are not finite are left out.
    span
        Share of the points that have weight in each regression.
    points
        At most so many values of ``x`` at which the curve is given.

    Returns
    -------
    DataFrame
        ``x, y``: the curve, at quantiles of ``x``; empty if ``x`` does not vary.

    Notes
    -----
    Cleveland (1979, Journal of the American Statistical Association 74, 829-836) without the
    robustness steps: tricube weights, up to the distance of the ``span * n``-th nearest point.

    Examples
    --------
    >>> local_line([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0], span=1.0)["y"].round(6).tolist()
    [1.0, 3.0, 5.0, 7.0]
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    finite = np.isfinite(xs) & np.isfinite(ys)
    xs, ys = xs[finite], ys[finite]
    units = [2.0 ** int(np.frexp(np.abs(v).max(initial=0.0))[1]) for v in (xs, ys)]
    xs, ys = xs / units[0], ys / units[1]  # squares stay in range
    width = float(np.ptp(xs)) if len(xs) else 0.0
    at = _places(xs, points) if width > 0.0 else np.empty(0)
    near = max(int(np.ceil(span * len(xs))), 2)
    curve = [_at(a, xs, ys, near=near, flat=_FLAT * width) for a in at]
    y_at = np.array(curve, dtype=np.float64)
    return pd.DataFrame({"x": at * units[0], "y": y_at * units[1]})


def _places(x: Floats, points: int) -> Floats:
    """Values of ``x`` at evenly spaced quantiles, each once."""
    return np.unique(np.quantile(x, np.linspace(0.0, 1.0, points), method="nearest"))


def _at(a: float, x: Floats, y: Floats, *, near: int, flat: float) -> float:
    """Height of the local line at ``a``, or the local mean where ``x`` hardly varies."""
    distance = np.abs(x - a)
    reach = 1.0001 * max(float(np.partition(distance, near - 1)[near - 1]), flat)
    w = np.clip(1.0 - (distance / reach) ** 3, 0.0, None) ** 3
    total = w.sum()
    mean_x, mean_y = (w @ x) / total, (w @ y) / total
    spread = w @ (x - mean_x) ** 2
    if spread <= total * flat**2:
        return float(mean_y)
    return float(mean_y + (w @ ((x - mean_x) * (y - mean_y))) / spread * (a - mean_x))
