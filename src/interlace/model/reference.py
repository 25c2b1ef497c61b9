"""What coefficients are compared with: covariances, also where these are out of range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from interlace.estimation.estimate import in_squared_units
from interlace.sums.sizes import Powers, in_units
from interlace.sums.terms import Floats


class Reference(Protocol):
    """What the fixed part is compared with: a covariance (p, p), and degrees of freedom."""

    @property
    def vcov(self) -> Floats:
        """Covariance of the fixed effects, ``(p, p)``."""
        ...

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p): ``(c,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A reference for coefficients that are ``2^powers`` (p,) times those of another one."""

    of: Reference
    powers: Powers

    @property
    def vcov(self) -> Floats:
        """Covariance of the fixed effects, ``(p, p)``, if its entries are in range."""
        return in_squared_units(self.of.vcov, self.powers, "of a coefficient")

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p), which have no units: ``(c,)``."""
        return self.of.df(self.rows(L)[0])

    def errors(self, L: Floats) -> Floats:
        """Standard errors of the rows of ``L`` (c, p), ``(c,)``."""
        rows, power = self.rows(L)
        return in_units(_errors(rows, self.of.vcov), power, "a standard error")

    def rows(self, L: Floats) -> tuple[Floats, Powers]:
        """Rows for the other coefficients, near 1, and the powers of 2 that they are less."""
        power = (np.frexp(L)[1] + self.powers).astype(np.int64)
        least = np.where(L != 0.0, power, np.iinfo(np.int32).min).max(axis=1, initial=-(1 << 20))
        least = np.where((L != 0.0).any(axis=1), least, 0)
        return np.ldexp(L, self.powers - least[:, None]), least


def standard_errors(reference: Reference, L: Floats) -> Floats:
    """Standard errors of the rows of ``L`` (c, p) by a reference, ``(c,)``."""
    if isinstance(reference, Rescaled):
        return reference.errors(L)
    return _errors(L, reference.vcov)


def _errors(L: Floats, vcov: Floats) -> Floats:
    variances = np.einsum("ij,jk,ik->i", L, vcov, L)
    return np.asarray(np.sqrt(np.maximum(variances, 0.0)), dtype=np.float64)
