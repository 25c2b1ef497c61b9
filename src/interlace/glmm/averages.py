"""Means over random effects: one-dimensional integrals, whatever the number of terms.

Given a row, ``z'b`` is one normal number, so that ``E g^-1(eta + s Z)`` is a single integral.  The
trapezoidal rule on the line is exact to rounding for the links here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from interlace.errors import InterlaceError
from interlace.glmm.links import Link
from interlace.sums.terms import Floats

# Nodes of standard normal numbers: spacing, that of linear predictors, and how far out.  Means of
# probabilities have poles at a distance of about pi, which a spacing of .75 does not see.
_SPACING, _STEP, _REACH = 0.125, 0.75, 9.0
# Standard deviations inside which a bounded link must give means.
_BOUND = 5.0


class Averages(NamedTuple):
    """Means of ``mu``, ``mu'`` and ``mu''`` over normal linear predictors, ``(m,)`` each."""

    value: Floats
    d1: Floats
    d2: Floats


def nodes(spacing: float = _SPACING, reach: float = _REACH) -> Iterator[tuple[float, float]]:
    """Standard normal numbers and their weights, which sum to one."""
    z = np.arange(-reach, reach + 0.5 * spacing, spacing)
    w = np.exp(-0.5 * z**2)
    return zip(z.tolist(), (w / w.sum()).tolist(), strict=True)


def averaged(link: Link, eta: Floats, sd: Floats) -> Averages:
    """Means over ``eta + sd Z``; NaN where ``eta`` or ``sd`` is.

    Raises
    ------
    InterlaceError
        The link has bounds that the random effects exceed.

    Notes
    -----
    The derivative of the mean in ``sd^2`` is half the third of the numbers (Stein's identity).
    """
    refuse_outside(link, eta, sd)
    total = [np.zeros(eta.shape) for _ in range(3)]
    widest = float(np.nanmax(sd, initial=0.0))
    for z, w in nodes(_STEP / max(widest, _STEP / _SPACING)):
        at = eta + sd * z
        jet = link.mean(np.where(link.inside(at), at, eta))
        for part, value in zip(total, (jet.value, jet.d1, jet.d2), strict=True):
            part += w * np.asarray(value)
    known = np.isfinite(eta + sd)
    return Averages(*(np.where(known, part, np.nan) for part in total))


def refuse_outside(link: Link, eta: Floats, sd: Floats) -> None:
    """Refuse means over random effects that drive a bounded link out of its range.

    Raises
    ------
    InterlaceError
        The message names the first row.
    """
    for side in (-_BOUND, _BOUND):
        at = eta + side * sd
        crosses = (link.name == "inverse") & (np.sign(at) != np.sign(eta))
        bad = np.isfinite(eta + sd) & (~link.inside(at) | crosses)
        if bad.any():
            raise InterlaceError(
                f"link={link.name!r} gives no mean for some random effects of row "
                f"{int(np.argmax(bad))}: their means over all groups do not exist; use a link "
                f"without bounds, or include_re=False"
            )


def bounded(link: Link, eta: Floats) -> Floats:
    """Linear predictors moved to the edge of the link's range where they are outside."""
    if bool(link.inside(np.array([-100.0, 100.0])).all()):
        return eta
    tiny = np.finfo(np.float64).tiny
    edge = tiny if link.inside(np.array([tiny]))[0] else -tiny
    return np.where(np.isnan(eta) | link.inside(eta), eta, edge)
