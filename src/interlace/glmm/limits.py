"""Families that run into a simpler one, such as negative binomial ones without overdispersion.

Where counts vary no more than Poisson ones, the criterion falls for ever as the variance comes down
to the mean.  It does so as its limit plus a multiple of ``1 / k`` (of ``phi`` for ``kind=1``), so
that Newton's method takes steps of 1 in the logarithm for ever.  The same holds for the precision
of a beta-binomial, the degrees of freedom of Student's t, and the odds of a zero in excess.  Such a
search is left, the parameter is set where nothing remains to be gained, and the others are found
there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlace.glmm.counted import BetaBinomial
from interlace.glmm.families import NegativeBinomial
from interlace.glmm.heavy import StudentT
from interlace.glmm.problem import Problem
from interlace.glmm.zeros import Inflated
from interlace.sums.terms import Floats

# Excess of the variance over the mean, as a share of the latter, below which the law is trusted;
# how much faster the slope may fade than by it; and what remains to be gained at the limit, and
# where the sign of the slope there is asked.
_NEAR, _FADES, _REST, _ASKED = 0.05, 0.9, 1e-10, 1e-6


@dataclass(eq=False)
class RunOff:
    """Whether a search runs into such a limit, from one accepted point to the next.

    ``sign`` is the direction in which the logarithm goes there; 0 for other families.
    """

    problem: Problem
    last: tuple[float, float] | None = None

    @property
    def sign(self) -> int:
        """Of the family, whose last auxiliary predictor has one number for all rows."""
        family, parts = self.problem.family, self.problem.parts
        if not parts.term or parts.term[-1] != "Intercept":
            return 0
        if isinstance(family, Inflated):
            return -1
        if isinstance(family, NegativeBinomial):
            return 1 if family.kind == 2 else -1
        heavy = isinstance(family, StudentT) and family.df is None
        return int(heavy or isinstance(family, BetaBinomial))

    def seen(self, omega: float, slope: float) -> bool:
        """Whether the slope at this logarithm, and at the last, is that of the limit."""
        last, self.last = self.last, (omega, slope)
        if not self.sign or last is None or slope * self.sign >= 0.0 or not self.near(omega):
            return False
        ahead = (omega - last[0]) * self.sign
        faded = slope / last[1] * np.exp(ahead) if last[1] * self.sign < 0.0 else 0.0
        return bool(ahead > 0.1 and faded > _FADES)

    def near(self, omega: float) -> bool:
        """Whether the law is nearly the simpler one."""
        return bool(np.exp(-self.sign * omega) * self.size < _NEAR)

    @property
    def size(self) -> float:
        """What the parameter is large or small beside."""
        problem = self.problem.shown
        if isinstance(problem.family, NegativeBinomial) and self.sign > 0:
            return float(np.average(problem.y, weights=problem.weights))
        if isinstance(problem.family, BetaBinomial):
            return float(np.average(problem.trials, weights=problem.weights))
        return 1.0

    def limit(self, omega: float, slope: float) -> float:
        """The logarithm beyond which nothing is left to gain."""
        return omega + self.sign * max(float(np.log(abs(slope) / _REST)), 0.0)

    def asked(self, limit: float) -> float:
        """The logarithm at which the slope towards the limit still has digits."""
        return limit - self.sign * float(np.log(_ASKED / _REST))


def at_limit(problem: Problem, gamma: Floats) -> bool:
    """Whether a fit has come to the simpler law that its family has as a limit."""
    run = RunOff(problem)
    return bool(run.sign) and bool(np.exp(-run.sign * float(gamma[-1])) * run.size < 1e-4)
