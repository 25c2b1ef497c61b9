"""Profile likelihood of models with a residual structure, always by ML.

Fixed effects are held by one linear constraint: ``beta`` becomes that of constrained least squares,
and ``C = (X' V^-1 X)^-1`` loses the direction.  A standard deviation, a correlation or another
number of the covariance is a function ``f(x)`` of the free numbers; the search goes on along the
surface ``f(x) = psi``, by Newton steps in its tangent with the curvature of the surface counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from interlace.covariance.structures import entries_of
from interlace.estimation.crossed import CrossedCriterion, CrossedEvaluation
from interlace.estimation.optimize import minimize
from interlace.estimation.parameters import variance_parameter_names
from interlace.estimation.residual import StructuredEstimate
from interlace.estimation.structured import StructuredEvaluation
from interlace.inference.profiles.crossing import Crossings
from interlace.inference.profiles.curves import Profile, Scale
from interlace.inference.profiles.numbers import covariance_names
from interlace.inference.profiles.surface import GAIN, SCALES, kind_of, profiled, wanted_crossings
from interlace.model.confidence import check_level, normal_reach, tails
from interlace.model.structured import FittedStructuredModel
from interlace.model.subjects import ml_estimate
from interlace.sums.terms import Floats


def profile_structured(
    model: FittedStructuredModel,
    names: Sequence[str],
    *,
    parm: str | Sequence[str] | None = None,
    level: float = 0.99,
    progress: bool | None = None,
) -> Profile:
    """Profile of the deviance along parameters; see the method ``profile``."""
    check_level(level)
    best = ml_estimate(model)
    return profiled(list(_wanted(best, names, parm)), best.value, level, progress)


def profile_limits_structured(
    model: FittedStructuredModel,
    names: Sequence[str],
    *,
    parm: str | Sequence[str] | None,
    level: float,
) -> pd.DataFrame:
    """Profile-likelihood limits alone."""
    z = normal_reach(check_level(level))
    found = {one.name: one.limits(z) for one in _wanted(ml_estimate(model), names, parm)}
    return pd.DataFrame.from_dict(found, orient="index", columns=tails(level))


def _wanted(
    estimate: StructuredEstimate, names: Sequence[str], parm: str | Sequence[str] | None
) -> Iterator[Crossings]:
    """The parameters asked for, each with what holds it; ``names`` are of the structure."""
    random = variance_parameter_names(estimate.A.terms)[:-1]
    every = (estimate.A.names, [*random, *names])
    return wanted_crossings(every, parm, partial(_of_coefficient, estimate), Numbers(estimate))


# ------------------------------------------------------------------ fixed effects


@dataclass(frozen=True, eq=False)
class Constrained(StructuredEvaluation):
    """The ML criterion with ``c' beta = target`` in the working basis."""

    c: Floats
    target: float

    @cached_property
    def free(self) -> StructuredEvaluation:
        """The same without the constraint."""
        return self.criterion(self.x)

    @cached_property
    def step(self) -> Floats:
        """``C c / c' C c``: how the coefficients move with the target."""
        Cc = self.free.C @ self.c
        return np.asarray(Cc / (self.c @ Cc))

    @property
    def excess(self) -> float:
        """How far the target is from the free solution."""
        return self.target - float(self.c @ self.free.beta)

    @cached_property
    def beta(self) -> Floats:
        return np.asarray(self.free.beta + self.excess * self.step)

    @cached_property
    def C(self) -> Floats:
        Cc = self.free.C @ self.c
        return np.asarray(self.free.C - np.outer(Cc, self.step))

    @cached_property
    def value(self) -> float:
        if not np.isfinite(self.free.value):
            return np.inf
        return self.free.value + self.rate * self.excess / 2.0

    @property
    def rate(self) -> float:
        """Derivative by the target."""
        return 2.0 * self.excess / float(self.c @ self.free.C @ self.c)


@dataclass(frozen=True, eq=False)
class ConstrainedBeside(Constrained, CrossedEvaluation):
    """The same with random effects that subjects share."""

    criterion: CrossedCriterion


def _of_coefficient(estimate: StructuredEstimate, j: int) -> Crossings:
    """A coefficient held."""
    F, criterion = estimate.A.basis.fixed, estimate.criterion
    scale = float(F[-1, -1])

    def at(psi: float, x: Floats) -> Constrained:
        c, target = F[j, :-1], psi * scale + float(F[j, -1])
        if isinstance(criterion, CrossedCriterion):
            return ConstrainedBeside(criterion, x, c, target)
        return Constrained(criterion, x, c, target)

    def solve(psi: float, near: Floats) -> tuple[float, float, Floats]:
        found = minimize(partial(at, psi), near, gain_tolerance=GAIN)
        return float(found.point.value), scale * found.point.rate, found.x

    se = float(np.sqrt(estimate.vcov[j, j]))
    name, value = estimate.A.names[j], float(estimate.beta[j])
    return Crossings(name, value, se, solve, estimate.value, estimate.x)


# ------------------------------------------------------------------ numbers of the covariance


def covariance_table(model: FittedStructuredModel, level: float) -> pd.DataFrame:
    """All these with standard errors and limits: ``estimate, se, lower, upper``.

    Limits are normal for logarithms of standard deviations, and inverse hyperbolic tangents of
    correlations.
    """
    estimate, z = model.estimate, normal_reach(level)
    values, J = Numbers(estimate).all(estimate.x)
    se = np.sqrt(np.einsum("ij,jk,ik->i", J, estimate.x_covariance, J))
    names = covariance_names(model)
    rows = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, value, error in zip(names, values.tolist(), se.tolist(), strict=True):
            kind = kind_of(name)
            to, rate = SCALES[kind]
            half = z * abs(rate(value)) * error
            ends = [float(Scale(kind)(to(value) + side * half)) for side in (-1.0, 1.0)]
            rows.append((value, error, *ends))
    return pd.DataFrame(rows, index=names, columns=["estimate", "se", "lower", "upper"])


@dataclass(frozen=True, eq=False)
class Numbers:
    """Standard deviations, correlations and the like as functions of the free numbers."""

    estimate: StructuredEstimate

    @property
    def start(self) -> Floats:
        """The free numbers at the estimate."""
        return self.estimate.x

    @property
    def least(self) -> float:
        """The criterion there."""
        return self.estimate.value

    @property
    def covariance(self) -> Floats:
        """Covariance of the free numbers."""
        return self.estimate.x_covariance

    @property
    def size(self) -> float:
        """The largest standard deviation of a row."""
        largest = float(self.estimate.evaluation.covariances.max())
        return self.estimate.unit * float(np.sqrt(largest))

    def at(self, x: Floats) -> StructuredEvaluation:
        """The criterion at a point."""
        return self.estimate.criterion(x)

    def all(self, x: Floats) -> tuple[Floats, Floats]:
        """Values (m,) and Jacobian (m, size), those of random effects first."""
        stack = self.estimate.criterion.stack
        values, J = stack.reported(x, self.estimate.unit)
        random = list(self._random(x))
        return (
            np.concatenate([*(v for v, _ in random), values]),
            np.concatenate([*(d for _, d in random), J]),
        )

    def _random(self, x: Floats) -> Iterator[tuple[Floats, Floats]]:
        """Of every random term."""
        estimate = self.estimate
        parts = zip(estimate.A.terms, estimate.effect_bases, estimate.template_places, strict=True)
        for term, B, own in parts:
            U = B @ term.template(x[own])
            half = np.einsum("ab,bcs,dc->ads", B, term.template.jacobian(x[own]), U)
            J = np.zeros((*U.shape, len(x)))
            J[..., own] = half + np.swapaxes(half, 0, 1)
            later, earlier = (np.asarray(i) for i in term.template.entries)
            yield entries_of(U @ U.T, J, later, earlier)
