"""Profile likelihood of models with a variance function and random effects, always by ML.

The free numbers are packed templates, ``eta`` and the logarithm of the residual standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from interlace.estimation.optimize import minimize
from interlace.estimation.scaled import ScaledCriterion, ScaledEvaluation
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.inference.profiles.constrained import CoefficientPoint
from interlace.inference.profiles.crossing import Crossings
from interlace.inference.profiles.curves import Profile
from interlace.inference.profiles.numbers import (
    FreeScale,
    ScaleNumbers,
    covariance_names,
    random_numbers,
)
from interlace.inference.profiles.surface import GAIN, profiled, wanted_crossings
from interlace.machine.threads import threads_for
from interlace.model.confidence import check_level, normal_reach, tails
from interlace.model.scaled import FittedScaledModel
from interlace.model.scaled_rows import scaled_ml
from interlace.sums.terms import Floats

# Begins and ends the message for fits of the iterative solver.
_PROFILES, _INSTEAD = "profiles need", ", or use conf_int(method='bootstrap')"


def profile_scaled(
    model: FittedScaledModel,
    *,
    parm: str | Sequence[str] | None = None,
    level: float = 0.99,
    progress: bool | None = None,
) -> Profile:
    """Profile of the deviance along parameters; see the method ``profile``."""
    check_level(level)
    best = _by_maximum_likelihood(model)
    wanted = list(_wanted(best, model, parm))
    with threads_for(best.criterion.base.rows_at_once):
        return profiled(wanted, best.value, level, progress)


def profile_limits_scaled(
    model: FittedScaledModel, *, parm: str | Sequence[str] | None, level: float
) -> pd.DataFrame:
    """Profile-likelihood limits alone."""
    z = normal_reach(check_level(level))
    best = _by_maximum_likelihood(model)
    with threads_for(best.criterion.base.rows_at_once):
        found = {one.name: one.limits(z) for one in _wanted(best, model, parm)}
    return pd.DataFrame.from_dict(found, orient="index", columns=tails(level))


def _by_maximum_likelihood(model: FittedScaledModel) -> ScaledEstimate:
    """The fit by ML, by the exact solver."""
    model.estimate.evaluation.point.dense(_PROFILES, _INSTEAD)
    return scaled_ml(model)


def _wanted(
    estimate: ScaledEstimate, model: FittedScaledModel, parm: str | Sequence[str] | None
) -> Iterator[Crossings]:
    """The parameters asked for, each with what holds it."""
    ratios = tuple(is_ratio for _, is_ratio in model.ratios)
    numbers = ScaledNumbers(estimate, ratios, np.array(model.units))
    names = (estimate.A.names, covariance_names(model))
    return wanted_crossings(names, parm, partial(_of_coefficient, estimate), numbers)


# ------------------------------------------------------------------ fixed effects


@dataclass(frozen=True, eq=False)
class HeldCoefficient(ScaledEvaluation):
    """The criterion with ``c' beta = target`` in the working basis: ``held`` has the templates."""

    held: CoefficientPoint

    @property
    def value(self) -> float:
        return self.held.value

    @property
    def rate(self) -> float:
        return self.criterion.base.nu / self.held.r2

    @cached_property
    def residuals(self) -> Floats:
        rows, held = self.criterion.rows, self.held
        assert rows.response is not None
        b = [effects.b for effects in held.effects]
        return np.asarray(rows.response - rows.predictor(b, held.beta))

    @property
    def gradient(self) -> Floats:
        return np.append(self.held.gradient, self.eta_gradient)


def _of_coefficient(estimate: ScaledEstimate, j: int) -> Crossings:
    """A coefficient held."""
    F, criterion, t = estimate.A.basis.fixed, estimate.criterion, estimate.criterion.n_templates
    c, scale = F[j, :-1], float(F[-1, -1])

    def at(psi: float, x: Floats) -> HeldCoefficient:
        found = criterion(x)
        held = CoefficientPoint(found.point, c, psi * scale + float(F[j, -1]))
        return HeldCoefficient(criterion, x[t:], found.point, held)

    def solve(psi: float, near: Floats) -> tuple[float, float, Floats]:
        found = minimize(partial(at, psi), near, gain_tolerance=GAIN)
        return float(found.point.value), found.point.held.slope, found.x

    se = float(np.sqrt(estimate.vcov[j, j]))
    start = np.append(criterion.base.pack(estimate.templates), estimate.eta)
    name, value = estimate.A.names[j], float(estimate.beta[j])
    return Crossings(name, value, se, solve, estimate.value, start)


# ------------------------------------------------------------------ numbers of the covariance


@dataclass(frozen=True, eq=False)
class ScaledNumbers(ScaleNumbers):
    """Standard deviations, correlations, ratios and powers as functions of the free numbers."""

    estimate: ScaledEstimate
    ratios: tuple[bool, ...]
    units: Floats

    @property
    def _criterion(self) -> ScaledCriterion:
        return self.estimate.criterion

    @cached_property
    def start(self) -> Floats:
        """The free numbers at the estimate."""
        packed = self._criterion.base.pack(self.estimate.templates)
        log_sigma = -0.5 * np.log(self.estimate.evaluation.rate)
        return np.concatenate((packed, self.estimate.eta, [log_sigma]))

    def at(self, x: Floats) -> FreeScale:
        """The criterion at a point."""
        at = self._criterion(x[:-1])
        pulls = at.point.pulled([-2.0 * (f.e.T @ f.u) for f in at.factor.effects])
        by_eta = -2.0 * (at.criterion.scales.T @ (at.W * at.residuals**2))
        return FreeScale(at, at.criterion.base.nu, 1.0 / at.rate, np.append(pulls, by_eta), x)

    def all(self, x: Floats) -> tuple[Floats, Floats]:
        """Values ``(m,)`` and Jacobian ``(m, size)``, those of random effects first."""
        t, sigma = self._criterion.n_templates, float(np.exp(x[-1])) / self._scale
        eta, q = x[t:-1], len(self.units)
        with np.errstate(divide="ignore", invalid="ignore"):
            random = list(random_numbers(self._criterion.base, x, sigma))
        exps = np.where(self.ratios, np.exp(np.where(self.ratios, eta, 0.0)), eta / self.units)
        J = np.zeros((1 + q, len(x)))
        J[0, -1] = sigma
        J[1:, t:-1] = np.diag(np.where(self.ratios, exps, 1.0 / self.units))
        values = np.concatenate([*(v for v, _ in random), [sigma], exps])
        return values, np.concatenate([*(d for _, d in random), J])

    @property
    def _scale(self) -> float:
        """Working units of the response in one of the user's."""
        return float(self._criterion.A.basis.response_scale)
