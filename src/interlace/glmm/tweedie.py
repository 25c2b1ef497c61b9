"""Amounts that are often exactly zero: Tweedie's compound Poisson-gamma law.

With power ``p`` between 1 and 2 the variance is ``phi mu^p``.  A positive amount is the sum of a
Poisson number ``j`` of gamma parts, so that its density is a series over ``j``, each term of which
is free of the mean (Dunn and Smyth, 2005, Statistics and Computing 15, 267-280).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import digamma, expit, gammaln, polygamma

from interlace.errors import InterlaceError
from interlace.glmm.families import Curve, Slope, signed
from interlace.glmm.jets import Jet, chained
from interlace.glmm.links import LOG, PositiveLink
from interlace.sums.terms import Floats

# Standard deviations of ``j`` around its mode that the series takes, terms beside them, and terms
# that are held at a time.
_WIDTH, _BESIDE, _HELD = 10.0, 10, 1 << 20
# The power with which a search begins.
_FIRST_POWER = 1.5


class _Series(NamedTuple):
    """Logarithm of the series of a row, and its derivatives in ``omega = log phi`` and ``p``."""

    value: Floats
    o: Floats
    p: Floats
    oo: Floats
    op: Floats
    pp: Floats


@dataclass(frozen=True)
class Tweedie:
    """Amounts, zeros among them, with variance ``phi mu^power``; ``None`` estimates the power.

    ``omega`` is the log of the dispersion ``phi``, and the logit of ``power - 1`` if that is
    estimated.
    """

    power: float | None = None
    link: PositiveLink = LOG
    name: ClassVar[str] = "tweedie"
    auxiliary: ClassVar[str] = "dispersion"

    def __post_init__(self) -> None:
        if self.power is not None and not 1.0 < self.power < 2.0:
            raise InterlaceError(
                f"power of Tweedie's law lies between 1 (Poisson) and 2 (gamma), not {self.power!r}"
            )

    @property
    def predictors(self) -> tuple[str, ...]:
        return ("dispersion",) if self.power is not None else ("dispersion", "power")

    def powers(self, omega: Floats) -> Floats:
        """The power of every row, from the auxiliary predictors."""
        known = self.power
        if known is not None:
            return np.full_like(omega[0], known)
        return np.asarray(1.0 + expit(omega[1]))

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        t, p, shape = self.link.log_mean(eta), self.powers(omega), np.exp(-omega[0])
        up, down = y * np.exp((1.0 - p) * t.value), np.exp((2.0 - p) * t.value)
        a, b = 1.0 - p, 2.0 - p
        l = shape * (up / a - down / b) + _series(y, omega[0], p).value
        jet = Jet(
            l, shape * (up - down), shape * (a * up - b * down), shape * (a**2 * up - b**2 * down)
        )
        jet = chained(jet, t)
        return Curve(jet.value, *signed(jet, eta), shape * down * np.asarray(t.d1) ** 2)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        link, p, shape = self.link.log_mean(eta), self.powers(omega), np.exp(-omega[0])
        t, a, b = link.value, 1.0 - p, 2.0 - p
        up, down = y * np.exp(a * t), np.exp(b * t)
        S, K = _series(y, omega[0], p), up / a - down / b
        first, second = [S.o - shape * K], [[S.oo + shape * K]]
        cross1 = [-shape * (up - down)]
        cross2 = [-shape * (a * up - b * down)]
        if self.power is None:
            K1 = -(up * (t / a - 1.0 / a**2) - down * (t / b - 1.0 / b**2))
            K2 = up * (t**2 / a - 2.0 * t / a**2 + 2.0 / a**3)
            K2 = K2 - down * (t**2 / b - 2.0 * t / b**2 + 2.0 / b**3)
            p1 = -a * b
            p2 = p1 * (1.0 + 2.0 * a)
            in_p = shape * K1 + S.p
            first.append(in_p * p1)
            cross1.append(-shape * t * (up - down) * p1)
            cross2.append(shape * (down - up + t * (b * down - a * up)) * p1)
            mixed = (S.op - shape * K1) * p1
            second[0].append(mixed)
            second.append([mixed, (shape * K2 + S.pp) * p1**2 + in_p * p2])
        d1, d2 = np.asarray(link.d1), np.asarray(link.d2)
        c1, c2 = np.array(cross1), np.array(cross2)
        return Slope(np.array(first), c1 * d1, -(c2 * d1**2 + c1 * d2), np.array(second))

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return -np.log(np.where(y > 0.0, y, 1.0))

    def start(self, y: Floats, trials: Floats) -> Floats:
        return np.asarray(y + 0.1 * y.mean())

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        power = _FIRST_POWER if self.power is None else self.power
        first = [np.log(max(float(((y - mean) ** 2 / mean**power).sum()) / df, 1e-8))]
        return np.array(first if self.power is not None else [*first, 0.0])


def _series(y: Floats, omega: Floats, p: Floats) -> _Series:
    """The series of every row; nothing for zeros."""
    found = np.zeros((6, len(y)))
    some = np.flatnonzero(y > 0.0)
    y, omega, p = y[some], omega[some], p[some]
    mode = np.exp((2.0 - p) * np.log(y) - omega) / (2.0 - p)
    half = np.ceil(_WIDTH * np.sqrt(mode * (p - 1.0)) + _BESIDE)
    first = np.maximum(np.floor(mode - half), 1.0)
    terms = mode + half - first + 1.0
    order = np.argsort(terms)  # rows with as many terms are summed together
    start = 0
    while start < len(order):
        widest = int(terms[order[min(start + _HELD // 64, len(order) - 1)]])
        part = order[start : start + max(_HELD // max(widest, 64), 1)]
        count = int(np.ceil(terms[part].max()))
        j = first[part, None] + np.arange(float(count))
        found[:, some[part]] = _summed(y[part, None], omega[part, None], p[part, None], j)
        start += len(part)
    return _Series(*found)


def _summed(y: Floats, omega: Floats, p: Floats, j: Floats) -> Floats:
    """Value and derivatives of ``log sum over j of W_j``, ``(6, m)``, for ``j`` (m, terms).

    ``log W_j = j A - log j! - log Gamma(j a)``, ``a = (2 - p) / (p - 1)``.
    """
    s, b = p - 1.0, 2.0 - p
    a, a1, a2 = b / s, -1.0 / s**2, 2.0 / s**3
    log_part = np.log(y / s) - omega
    A = a * log_part - omega - np.log(b)
    A1 = a1 * log_part - a / s + 1.0 / b
    A2 = a2 * log_part - 2.0 * a1 / s + a / s**2 + 1.0 / b**2
    ja = j * a
    log_terms = j * A - gammaln(j + 1.0) - gammaln(ja)
    top = log_terms.max(axis=1, keepdims=True)
    share = np.exp(log_terms - top)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    psi = digamma(ja)
    in_o, in_p = -(1.0 + a) * j, j * (A1 - psi * a1)
    in_op, in_pp = -a1 * j, j * (A2 - psi * a2) - polygamma(1, ja) * (j * a1) ** 2

    def mean(v: Floats) -> Floats:
        return np.asarray((share * v).sum(axis=1))

    o, q = mean(in_o), mean(in_p)
    do, dq = in_o - o[:, None], in_p - q[:, None]
    value = (top + np.log(total))[:, 0]
    return np.array([value, o, q, mean(do**2), mean(in_op + do * dq), mean(in_pp + dq**2)])
