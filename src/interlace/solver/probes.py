"""Random probes for traces of inverses, and what their spread says of the error.

For ``z`` with independent entries +1 or -1, ``E[z z'] = I``, so that ``E[z'Bz] = tr B``
(Hutchinson, 1990, Communications in Statistics B 19, 433-450).  The same probes at every evaluation
(common random numbers) make the search a smooth, deterministic one.  As many probes as there are
effects are taken to be multiples of the unit vectors instead: the mean over them is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from interlace.sums.terms import Floats

# Confidence with which a standard error is not understated.
_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Probes:
    """``count`` probes from the generator with this ``seed``."""

    count: int
    seed: int

    def complete(self, q: int) -> bool:
        """Whether there are enough for an exact mean over ``q`` effects."""
        return self.count >= q

    def draw(self, q: int, stream: int = 0) -> Floats:
        """Probes ``(q, count)``; each is the same whatever their number."""
        if self.complete(q):
            return np.asarray(np.sqrt(q) * np.eye(q), dtype=np.float64)
        z = np.empty((q, self.count))
        for i in range(self.count):
            bits = np.random.default_rng([self.seed, stream, i]).bytes((q + 7) // 8)
            signs = np.unpackbits(np.frombuffer(bits, dtype=np.uint8))[:q]
            z[:, i] = 2.0 * signs - 1.0
        return z


@dataclass(frozen=True, eq=False)
class Chance:
    """What the means over random probes leave open.

    ``logs`` (m,) are the shares of every probe in the log determinant, ``traces`` (m, k, k) a term
    those in ``sum of Z'PZ``; none where nothing is left to chance.
    """

    probes: Probes | None
    logs: Floats
    traces: tuple[Floats, ...]

    @property
    def m(self) -> int:
        """Number of probes that differ by chance."""
        return len(self.logs)

    @property
    def error(self) -> float:
        """Standard error of the log determinant."""
        return float(error_of_mean(self.logs, complete=self.m == 0))

    def paired(self, other: Chance) -> float | None:
        """Standard error of the difference of two log determinants of the same probes."""
        if not self.m or not other.m or self.probes != other.probes:
            return None
        return float(error_of_mean(self.logs - other.logs, complete=False))


CERTAIN = Chance(None, np.zeros(0), ())


class WithoutChance:
    """What a factor tells that needs no random probes."""

    @property
    def n_iterations(self) -> int:
        """Iterations of conjugate gradients: none."""
        return 0

    @property
    def n_probes(self) -> int:
        """Random probes: none."""
        return 0

    @property
    def chance(self) -> Chance:
        """What random probes leave open: nothing."""
        return CERTAIN


def error_of_mean(values: Floats, complete: bool) -> Floats:
    """Standard error of the mean over the first axis, from the spread of the values.

    An upper limit (99 %), since few values say little of their spread, the less if it is skewed.
    Zero if the mean is ``complete``.
    """
    m = len(values)
    if complete:
        return np.zeros(values.shape[1:])
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(m) * inflation(m), dtype=np.float64)


def covariance_of_mean(each: Floats) -> Floats:
    """Covariance ``(c, c)`` of the error of a mean over ``m`` probes of ``each`` (m, c).

    Enlarged as their standard errors are; zero where nothing is left to chance.
    """
    m, c = each.shape
    if m < 2:
        return np.zeros((c, c))
    around = each - each.mean(axis=0)
    return np.asarray(around.T @ around * (inflation(m) ** 2 / (m * (m - 1))))


def inflation(m: int) -> float:
    """Ratio of the upper confidence limit of a standard deviation to that of ``m`` values."""
    low = 2.0 * gammaincinv(0.5 * (m - 1), 1.0 - _CONFIDENCE)  # quantile of chi squared
    return float(np.sqrt((m - 1) / low))
