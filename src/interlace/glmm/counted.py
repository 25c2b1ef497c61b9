"""Successes out of trials whose probability varies from row to row: beta-binomial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from interlace.glmm.families import Binomial, Curve, Slope, chained_slope, signed
from interlace.glmm.jets import Jet, chained
from interlace.glmm.links import LOGIT, ProbabilityLink
from interlace.glmm.rising import log_rising
from interlace.sums.terms import Floats

_TINY = 1e-300


@dataclass(frozen=True)
class BetaBinomial:
    """Successes out of trials, the probability of a row drawn from a beta law around its mean.

    ``omega`` is the log of the precision ``phi``: the variance is ``n mu (1 - mu)`` times
    ``(phi + n) / (phi + 1)``.
    """

    link: ProbabilityLink = LOGIT
    name: ClassVar[str] = "beta-binomial"
    auxiliary: ClassVar[str] = "precision"
    predictors: ClassVar[tuple[str, ...]] = ("precision",)

    def _parts(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> tuple[Jet, Jet, Jet]:
        """Rising factorials of successes, failures and trials.

        ``log (a)_y - y log a`` for the shapes ``a = mu phi`` and ``(1 - mu) phi``, and ``phi``.
        """
        f = np.exp(omega)
        mu = np.maximum(self.link.mean(eta).value, _TINY)
        nu = np.maximum(np.exp(self.link.log_failure(eta).value), _TINY)
        return log_rising(y, mu * f), log_rising(trials - y, nu * f), log_rising(trials, f)

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        (omega,) = omega
        up, down, whole = self._parts(y, trials, eta, omega)
        fails = trials - y
        log_up, log_down = self.link.log_success(eta), self.link.log_failure(eta)
        # a binomial likelihood, and what is left of the rising factorials, in log a and log b
        first = chained(Jet(up.value, up.d1, up.d2, up.d3), log_up)
        last = chained(Jet(down.value, down.d1, down.d2, down.d3), log_down)
        plain = [y * a + fails * b for a, b in zip(log_up, log_down, strict=True)]
        l = plain[0] + first.value + last.value - whole.value
        jet = Jet(l, *(p + a + b for p, a, b in zip(plain[1:], first[1:], last[1:], strict=True)))
        f = np.exp(omega)
        shared = (1.0 + f) / (trials + f)
        expected = -trials * np.asarray(log_up.d1) * log_down.d1 * shared
        return Curve(l, *signed(jet, eta), expected)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        (omega,) = omega
        up, down, whole = self._parts(y, trials, eta, omega)
        log_up, log_down = self.link.log_success(eta), self.link.log_failure(eta)
        up1, up2, up3 = (np.asarray(d) for d in up[1:])
        down1, down2, down3 = (np.asarray(d) for d in down[1:])
        a = chained_slope(up1 - whole.d1, up2, up3, up2 - whole.d2, log_up)
        b = chained_slope(down1, down2, down3, down2, log_down)
        return Slope(*(x + z for x, z in zip(a, b, strict=True)))

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return Binomial().constant(y, trials)

    def start(self, y: Floats, trials: Floats) -> Floats:
        return (y + 0.5) / (trials + 1.0)

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        """From the Pearson statistic, half of whose excess is left to the random effects."""
        ratio = float(((y - trials * mean) ** 2 / (trials * mean * (1.0 - mean))).sum()) / df
        n = float(trials.mean())
        excess = np.clip(0.5 * (ratio - 1.0), 0.02 * max(n - 1.0, 0.1), 0.9 * max(n - 1.0, 0.2))
        return np.array([np.log(max((n - 1.0 - excess) / excess, 0.1))])
