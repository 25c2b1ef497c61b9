"""Standard deviations, correlations and ``sigma`` as functions of what a search moves.

The residual standard deviation ``sigma``, which the criterion has profiled out, is free here, and
its logarithm comes last.  With ``s`` the variance that the criterion puts in,

    D(x, sigma) = criterion(x) + nu (log(sigma^2 / s) + s / sigma^2 - 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.covariance.structures import entries_of
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate
from interlace.estimation.optimize import Point
from interlace.estimation.parameters import variance_parameter_names
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.inference.information import unit_inverse
from interlace.model.scaled import FittedScaledModel
from interlace.model.structured import FittedStructuredModel
from interlace.sums.terms import Floats, ReTerm, places, unpack


def covariance_names(model: FittedStructuredModel | FittedScaledModel) -> list[str]:
    """Standard deviations and correlations of random effects, then parameters of the residuals."""
    return [*variance_parameter_names(model.estimate.A.terms)[:-1], *model.parameter_names]


@dataclass(frozen=True, eq=False)
class FreeScale:
    """The criterion with the residual standard deviation free: ``x`` ends with its logarithm.

    Parameters
    ----------
    profiled
        The criterion at the other numbers.
    nu
        Degrees of freedom of the residual variance.
    found
        The variance that the criterion has put in.
    slope
        Derivative of ``nu`` times it by the other numbers.
    """

    profiled: Point
    nu: int
    found: float
    slope: Floats
    x: Floats

    @property
    def _variance(self) -> float:
        return float(np.exp(2.0 * self.x[-1]))

    @property
    def value(self) -> float:
        share = self.found / self._variance
        return self.profiled.value + self.nu * (share - float(np.log(share)) - 1.0)

    @cached_property
    def gradient(self) -> Floats:
        share = self.found / self._variance
        shift = (1.0 / self._variance - 1.0 / self.found) * self.slope
        return np.append(self.profiled.gradient + shift, 2.0 * self.nu * (1.0 - share))

    @cached_property
    def newton_matrix(self) -> Floats:
        """That of the criterion with what the variance adds, but for its own second derivatives."""
        g, M = self.slope, np.empty((len(self.x),) * 2)
        M[:-1, :-1] = self.profiled.newton_matrix + np.outer(g, g) / (self.nu * self.found**2)
        M[:-1, -1] = M[-1, :-1] = -2.0 * g / self._variance
        M[-1, -1] = 4.0 * self.nu * self.found / self._variance
        return M


def random_numbers(base: Criterion, x: Floats, sigma: float) -> Iterator[tuple[Floats, Floats]]:
    """Standard deviations and correlations of every term, and their derivatives.

    ``x`` begins with packed templates, relative to ``sigma`` in the user's units, whose logarithm
    it ends with.
    """
    yield from term_numbers(base.A.terms, base.A.basis.random, x, sigma, log_size=True)


def term_numbers(
    terms: Sequence[ReTerm],
    bases: Sequence[Floats],
    x: Floats,
    size: float = 1.0,
    *,
    log_size: bool = False,
) -> Iterator[tuple[Floats, Floats]]:
    """The same for templates in any units; the last of ``x`` may be the logarithm of ``size``."""
    own_places = places(terms)
    templates = unpack(terms, x[: own_places[-1].stop])
    for term, B, T, own in zip(terms, bases, templates, own_places, strict=True):
        U = size * (B @ T)
        half = size * np.einsum("ab,bcs,dc->ads", B, term.template.jacobian(x[own]), U)
        J = np.zeros((*U.shape, len(x)))
        J[..., own] = half + np.swapaxes(half, 0, 1)
        if log_size:
            J[..., -1] = 2.0 * (U @ U.T)
        later, earlier = (np.asarray(i) for i in term.template.entries)
        yield entries_of(U @ U.T, J, later, earlier)


@dataclass(frozen=True, eq=False)
class ScaleNumbers(ABC):
    """Numbers of a model with a residual standard deviation, whose logarithm comes last."""

    estimate: Estimate | ScaledEstimate

    @property
    @abstractmethod
    def start(self) -> Floats:
        """The free numbers at the estimate."""

    @abstractmethod
    def at(self, x: Floats) -> FreeScale:
        """The criterion at a point."""

    @property
    def least(self) -> float:
        """The criterion at the estimate."""
        return self.estimate.value

    @cached_property
    def covariance(self) -> Floats:
        """Covariance of the free numbers, by the average information."""
        H = self.at(self.start).newton_matrix
        return 2.0 * unit_inverse(H, floor=np.zeros(len(H)))

    @property
    def size(self) -> float:
        """The residual standard deviation."""
        return self.estimate.sigma


@dataclass(frozen=True, eq=False)
class LinearNumbers(ScaleNumbers):
    """Those of a linear model: standard deviations and correlations, then ``sigma``."""

    estimate: Estimate

    @cached_property
    def start(self) -> Floats:
        """The free numbers at the estimate."""
        packed = self.estimate.criterion.pack(self.estimate.templates)
        return np.append(packed, 0.5 * np.log(self.estimate.evaluation.sigma2))

    def at(self, x: Floats) -> FreeScale:
        """The criterion at a point."""
        at = self.estimate.criterion(x[:-1])
        slope = at.pulled([-2.0 * (f.e.T @ f.u) for f in at.factor.effects])
        return FreeScale(at, at.criterion.nu, at.sigma2, slope, x)

    def all(self, x: Floats) -> tuple[Floats, Floats]:
        """Values ``(m,)`` and Jacobian ``(m, size)``."""
        base = self.estimate.criterion
        sigma = float(np.exp(x[-1])) / base.A.basis.response_scale
        last = np.zeros((1, len(x)))
        last[0, -1] = sigma
        with np.errstate(divide="ignore", invalid="ignore"):
            random = list(random_numbers(base, x, sigma))
        values = np.concatenate([*(v for v, _ in random), [sigma]])
        return values, np.concatenate([*(J for _, J in random), last])
