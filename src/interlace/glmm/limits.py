"""Families that run into a simpler one: negative binomial responses without overdispersion.

Where counts vary no more than Poisson ones, the criterion falls for ever as the variance comes down
to the mean.  It does so as its limit plus a multiple of ``1 / k`` (of ``phi`` for ``kind=1``), so
that Newton's method takes steps of 1 in the logarithm for ever.  Such a search is left, the
parameter is set where nothing remains to be gained, and the others are found there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlace.glmm.families import NegativeBinomial
from interlace.glmm.problem import Problem
from interlace.sums.terms import Floats

# Excess of the variance over the mean, as a share of the latter, below which the law is trusted;
# how much faster the slope may fade than by it; and what remains to be gained at the limit, and
# where the sign of the slope there is asked.
_NEAR, _FADES, _REST, _ASKED = 0.05, 0.9, 1e-10, 1e-6


@dataclass(eq=False)
class RunOff:
    """Whether a search runs into the Poisson limit, from one accepted point to the next.

    ``sign`` is the direction in which the logarithm goes there; 0 for other families.
    """

    problem: Problem
    last: tuple[float, float] | None = None

    @property
    def sign(self) -> int:
        """Of the family, with one parameter for all rows."""
        family = self.problem.family
        if not isinstance(family, NegativeBinomial) or self.problem.G.shape[1] != 1:
            return 0
        return 1 if family.kind == 2 else -1

    def seen(self, omega: float, slope: float) -> bool:
        """Whether the slope at this logarithm, and at the last, is that of the limit."""
        last, self.last = self.last, (omega, slope)
        if not self.sign or last is None or slope * self.sign >= 0.0 or not self._near(omega):
            return False
        ahead = (omega - last[0]) * self.sign
        faded = slope / last[1] * np.exp(ahead) if last[1] * self.sign < 0.0 else 0.0
        return bool(ahead > 0.1 and faded > _FADES)

    def _near(self, omega: float) -> bool:
        """Whether variances are nearly the means."""
        if self.sign < 0:
            return bool(np.exp(omega) < _NEAR)
        return bool(
            np.average(self.problem.y, weights=self.problem.weights) < _NEAR * np.exp(omega)
        )

    def limit(self, omega: float, slope: float) -> float:
        """The logarithm beyond which nothing is left to gain."""
        return omega + self.sign * max(float(np.log(abs(slope) / _REST)), 0.0)

    def asked(self, limit: float) -> float:
        """The logarithm at which the slope towards the limit still has digits."""
        return limit - self.sign * float(np.log(_ASKED / _REST))


def without_overdispersion(problem: Problem, gamma: Floats) -> bool:
    """Whether a negative binomial fit has come to the Poisson one."""
    run = RunOff(problem)
    if not run.sign:
        return False
    excess = -run.sign * float(gamma[0])
    if run.sign > 0:
        excess += float(np.log(np.average(problem.y, weights=problem.weights)))
    return bool(excess < np.log(1e-4))
