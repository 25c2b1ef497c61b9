"""Profile likelihood of fixed effects, standard deviations, correlations and sigma.

Always on the ML deviance, as lme4's: a REML fit is first fitted by ML to the same cross-products,
from its theta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy
from scipy.special import expit

from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.estimation.parameters import (
    powers_of_parameters,
    selected,
    variance_parameter_names,
    variance_parameters,
)
from interlace.inference.profiles.constrained import CoefficientPath, Path
from interlace.inference.profiles.held import correlation_path, deviation_path, sigma_path
from interlace.inference.profiles.tracing import LowerDeviance, Tracer, trace
from interlace.machine.progress import counter
from interlace.machine.threads import threads_for
from interlace.model.confidence import check_level, normal_reach, tails
from interlace.sums.sizes import in_units
from interlace.sums.terms import Floats

if TYPE_CHECKING:
    from scipy.interpolate import CubicHermiteSpline

# The usual level: its limits are always found exactly.
_USUAL = 0.95
# Estimates that turn out to be local minima before we give up.
_RESTARTS = 3
_TITLE = "Profile likelihood: estimates (ML) and limits"
_PROFILES = "profile, or conf_int(method='profile'), needs"
_INSTEAD = ", or use conf_int(method='bootstrap')"


@dataclass(frozen=True)
class Scale:
    """From the coordinate ``psi`` of a path to the parameter: ``factor * f(psi)``."""

    kind: str
    factor: float = 1.0

    def __call__(self, psi: Floats | float) -> Floats:
        return self.factor * _SCALES[self.kind](np.asarray(psi, dtype=np.float64))


_SCALES: Mapping[str, Callable[[Floats], Floats]] = {
    "linear": lambda psi: psi,
    "exp": np.exp,
    "sinh": np.sinh,
    "sine": np.sin,
    "tanh": np.tanh,
    "power": lambda psi: 1.0 + expit(psi),
}


@dataclass(frozen=True, eq=False)
class ProfileCurve:
    """``zeta`` along one parameter.

    Attributes
    ----------
    name, estimate
        The parameter, and its ML estimate.
    psi, zeta, rates
        Per node its coordinate, ``zeta``, and ``d zeta / d psi``, in the order of ``psi``.
    scale
        ``scale(psi)`` is the parameter's value.
    limits
        Exact limits by level, in the parameter's units.
    """

    name: str
    estimate: float
    psi: Floats
    zeta: Floats
    rates: Floats
    scale: Scale
    limits: Mapping[float, tuple[float, float]]

    @property
    def values(self) -> Floats:
        """The parameter at the nodes."""
        return self.scale(self.psi)

    def conf_int(self, level: float) -> tuple[float, float]:
        """Where ``zeta`` is minus and plus the normal quantile; the end of the range if nowhere."""
        if level in self.limits:
            return self.limits[level]
        z = normal_reach(level)
        return self._crossing(-z), self._crossing(z)

    def line(self, size: int) -> tuple[Floats, Floats]:
        """Values and ``zeta`` at ``size`` even steps of ``psi``, by the same cubics."""
        psi = np.linspace(self.psi[0], self.psi[-1], size)
        return self.scale(psi), scipy.interpolate.CubicHermiteSpline(
            self.psi, self.zeta, self.rates
        )(psi)

    @cached_property
    def _cubics(self) -> CubicHermiteSpline:
        """``zeta`` by ``psi``; scipy opens its chapters on first use."""
        return scipy.interpolate.CubicHermiteSpline(self.psi, self.zeta, self.rates)

    def _crossing(self, z: float) -> float:
        """Value at ``zeta = z``, by the cubic through the nodes and their slopes."""
        end = 0 if z < 0.0 else -1
        if abs(self.zeta[end]) <= abs(z):
            return float(self.values[end])
        roots = scipy.interpolate.CubicHermiteSpline(self.psi, self.zeta, self.rates).solve(
            z, extrapolate=False
        )
        middle = self.psi[np.argmin(np.abs(self.zeta))]
        nearest = min(roots, key=lambda root: abs(root - middle))
        return float(self.scale(nearest))


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """Profile likelihood of some parameters; see :func:`profile`.

    Attributes
    ----------
    curves
        One a parameter, in the order of the parameters.
    min_deviance
        Minus twice the maximised log-likelihood.
    level
        The largest level that the curves reach.
    """

    curves: tuple[ProfileCurve, ...]
    min_deviance: float
    level: float

    def __repr__(self) -> str:
        return f"{_TITLE}\n\n{self._limits().to_string(float_format=_short)}"

    def _repr_html_(self) -> str:
        table = self._limits().to_html(float_format=_short)
        return f"<div><h4>{_TITLE}</h4>{table}</div>"

    def _limits(self) -> pd.DataFrame:
        """Estimates and limits of the parameters."""
        limits = self.conf_int(min(0.95, self.level))
        limits.insert(0, "estimate", self.estimates)
        return limits

    @property
    def names(self) -> list[str]:
        """The parameters."""
        return [curve.name for curve in self.curves]

    @property
    def estimates(self) -> pd.Series:
        """ML estimates by parameter; NaN for a correlation with a standard deviation of 0."""
        values = [curve.estimate for curve in self.curves]
        return pd.Series(values, index=self.names, name="estimate", dtype=float)

    @property
    def table(self) -> pd.DataFrame:
        """All points computed.

        Columns ``parameter, value, zeta, deviance, at_estimate``: the value held, the signed root
        of the rise of the deviance, the deviance, and whether the value is the estimate.
        """
        return pd.concat([self._rows(curve) for curve in self.curves], ignore_index=True)

    def lines(self, size: int = 80) -> pd.DataFrame:
        """The curves at ``size`` points each, for drawing: ``parameter, value, zeta``."""
        parts = []
        for curve in self.curves:
            value, zeta = curve.line(size)
            part = {"parameter": curve.name, "value": value, "zeta": zeta}
            parts.append(pd.DataFrame(part))
        return pd.concat(parts, ignore_index=True)

    def _rows(self, curve: ProfileCurve) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "parameter": curve.name,
                "value": curve.values,
                "zeta": curve.zeta,
                "deviance": self.min_deviance + curve.zeta**2,
                "at_estimate": (curve.zeta == 0.0) & np.isfinite(curve.estimate),
            }
        )

    def conf_int(
        self, level: float = 0.95, *, parm: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Profile-likelihood limits.

        Exact for 0.95 and for the level of the profile; for others interpolated between its
        points, to within 1e-4 of the width of the interval.

        Parameters
        ----------
        level
            Coverage; not above the level of the profile.
        parm
            Parameters wanted, as for :func:`profile`; ``None`` for all of the profile.

        Returns
        -------
        DataFrame
            One row a parameter; columns are the two tail probabilities.

        Raises
        ------
        InterlaceError
            ``level`` is not strictly between 0 and 1, or beyond the profile; an unknown name.
        """
        check_level(level)
        if level > self.level:
            raise InterlaceError(
                f"the profile was computed out to level {self.level}, not to {level}: "
                f"profile again with level={level}"
            )
        wanted = selected(self.names, parm, len(self.names))
        return _frame({c.name: c.conf_int(level) for c in self.curves if c.name in wanted}, level)


def _short(number: float) -> str:
    """A number as it is shown."""
    return f"{number:.5g}"


def profile(
    estimate: Estimate,
    *,
    parm: str | Sequence[str] | None = None,
    level: float = 0.99,
    progress: bool | None = None,
) -> Profile:
    """Profile the ML deviance of a fit.

    Each parameter in turn is held at a series of values on both sides of its estimate, and all
    others are optimised anew; ``zeta``, the signed root of the rise of the deviance, would be a
    straight line if the parameter's estimate were exactly normal.

    Parameters
    ----------
    estimate
        The fit.  After REML the model is first fitted by ML to the same cross-products.
    parm
        A name, several, ``"beta_"`` for all fixed effects, ``"theta_"`` for all variance
        parameters; ``None`` for all.  Names are those of the coefficients,
        ``sd_<column>|<group>``, ``cor_<later>.<earlier>|<group>``, and ``sigma``.
    level
        How far out: to where ``zeta`` is the normal quantile of a two-sided interval.
    progress
        Whether to show a counter; ``None``: where it takes long and a terminal is watched.

    Returns
    -------
    Profile

    Raises
    ------
    InterlaceError
        An unknown name in ``parm``; ``level`` not strictly between 0 and 1.

    Notes
    -----
    Bates, Maechler, Bolker and Walker (2015), Journal of Statistical Software 67(1), section 5.1.
    Standard deviations and correlations are held at what the user's columns define; 0, -1 and 1
    are reached where the deviance stays low.

    Examples
    --------
    >>> import interlace
    >>> from interlace.inference.profiles.profile import profile
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> profile(result.estimate, parm="Days").conf_int().round(2)
          0.025  0.975
    Days   7.36  13.58
    """
    check_level(level)
    if estimate.units is not None:
        near = profile(estimate.tame, parm=parm, level=level, progress=progress)
        return _in_units(near, estimate)
    zmax = normal_reach(level)
    exact = {_USUAL, level} if level > _USUAL else {level}
    steps = [zmax * i / 4.0 for i in range(1, 4)]
    found, minimum = _traced(estimate, parm, steps, sorted(exact), progress)
    return Profile(tuple(found), minimum, level)


def _in_units(found: Profile, estimate: Estimate) -> Profile:
    """A profile that was found in other units."""
    powers, curves = powers_of_parameters(estimate), []
    for curve in found.curves:
        power, what = powers[curve.name], f"a value of {curve.name!r}"
        in_units(curve.values[np.isfinite(curve.values)], power, what)
        value, factor = np.ldexp([curve.estimate, curve.scale.factor], power).tolist()
        limits = {
            level: (float(np.ldexp(low, power)), float(np.ldexp(high, power)))
            for level, (low, high) in curve.limits.items()
        }
        scale = replace(curve.scale, factor=factor)
        curves.append(replace(curve, estimate=value, scale=scale, limits=limits))
    return replace(found, curves=tuple(curves))


def profile_limits(
    estimate: Estimate,
    *,
    parm: str | Sequence[str] | None = None,
    level: float = 0.95,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Profile-likelihood limits alone, by root finding; arguments as for :func:`profile`.

    Returns
    -------
    DataFrame
        One row a parameter; columns are the two tail probabilities.

    Raises
    ------
    InterlaceError
        An unknown name in ``parm``; ``level`` not strictly between 0 and 1.

    Examples
    --------
    >>> import interlace
    >>> from interlace.inference.profiles.profile import profile_limits
    >>> fitted = interlace.fit("Yield ~ 1 + (1 | Batch)", interlace.datasets.load("dyestuff"))
    >>> profile_limits(fitted.estimate, parm="theta_").round(2)
                        0.025  0.975
    sd_Intercept|Batch  12.20  84.06
    sigma               38.23  67.66
    """
    check_level(level)
    z = normal_reach(level)
    curves, _ = _traced(estimate, parm, [0.5 * z], [level], progress)
    return _frame({curve.name: curve.limits[level] for curve in curves}, level)


def _frame(limits: Mapping[str, tuple[float, float]], level: float) -> pd.DataFrame:
    """Limits by parameter; columns are the tail probabilities."""
    return pd.DataFrame.from_dict(dict(limits), orient="index", columns=tails(level), dtype=float)


# ------------------------------------------------------------------ which parameters


def parameter_names(estimate: Estimate) -> list[str]:
    """Names of everything that can be profiled: fixed effects, then variance parameters."""
    return [*estimate.A.names, *variance_parameter_names(estimate.A.terms)]


@dataclass(frozen=True, eq=False)
class _Parameter:
    """A parameter and how to hold it; no path where every value fits alike."""

    name: str
    estimate: float
    path: Path | None
    scale: Scale


def _parameters(estimate: Estimate) -> Iterator[_Parameter]:
    """All parameters of an ML fit, in the order of :func:`parameter_names`."""
    terms = estimate.A.terms
    for j, name in enumerate(estimate.A.names):
        path = CoefficientPath(estimate, j)
        yield _Parameter(name, float(estimate.beta[j]), path, Scale("linear"))
    if any(t.template.indivisible for t in terms):
        return  # whose standard deviations and correlations have no paths
    sigma = np.asarray(estimate.sigma)
    values = variance_parameters(terms, estimate.user_templates, sigma).tolist()
    found = zip(variance_parameter_names(terms), values, _variance_paths(estimate), strict=True)
    for name, value, (held, to_value) in found:
        yield _Parameter(name, value, held, to_value)


def _variance_paths(estimate: Estimate) -> Iterator[tuple[Path | None, Scale]]:
    """Path and scale of every variance parameter."""
    working = estimate.A.basis.response_scale
    for t, term in enumerate(estimate.A.terms):
        for b, a in zip(*term.template.entries, strict=True):
            if a == b:
                path = deviation_path(estimate, t, a)
                yield path, Scale("sinh", path.map.length / working)
            else:
                yield correlation_path(estimate, t, a, b), Scale("sine")
    yield sigma_path(estimate), Scale("exp", 1.0 / working)


def _refuse_structures(estimate: Estimate, wanted: Sequence[str]) -> None:
    """Refuse standard deviations and correlations beside structures whose maps are not linear."""
    own = [t for t in estimate.A.terms if t.template.indivisible]
    if own and not set(wanted) <= set(estimate.A.names):
        raise InterlaceError(
            f"profiles of standard deviations and correlations are not built for models with "
            f"cs(), ar1() or hom=True, as of '{own[0].group}': ask for fixed effects alone "
            "(parm='beta_'), or for method='bootstrap'"
        )


# ------------------------------------------------------------------ tracing them


def _traced(
    estimate: Estimate,
    parm: str | Sequence[str] | None,
    targets: Sequence[float],
    levels: Sequence[float],
    progress: bool | None,
) -> tuple[list[ProfileCurve], float]:
    """Curves of the parameters asked for, and the deviance at the ML estimate."""
    wanted = selected(parameter_names(estimate), parm, estimate.A.p)
    _refuse_structures(estimate, list(wanted))
    best = _by_maximum_likelihood(estimate)
    shown = counter(None, progress, what="profile", unit="points")
    with shown as watch, threads_for(best.criterion.rows_at_once):
        for _ in range(_RESTARTS):
            try:
                chosen = [p for p in _parameters(best) if p.name in wanted]
                return [_curve(p, best.value, targets, levels, watch) for p in chosen], best.value
            except LowerDeviance as lower:
                best = _restarted(best, lower.templates)
    raise InterlaceError(
        "the likelihood has several maxima, and profiling keeps finding higher ones: simplify the "
        "random effects"
    )


def _by_maximum_likelihood(estimate: Estimate) -> Estimate:
    """The fit by ML, its templates triangular and with exact zeros."""
    estimate.require_sums(_PROFILES)
    estimate.evaluation.dense(_PROFILES, _INSTEAD)
    if estimate.criterion.reml:
        criterion = estimate.criterion.on(estimate.A, reml=False)
        estimate = estimate_theta(criterion, theta0=estimate.theta)
    clean = estimate.criterion.working(estimate.user_templates)
    return replace(estimate, templates=tuple(clean))


def _restarted(estimate: Estimate, templates: Sequence[Floats]) -> Estimate:
    """The ML fit anew, from templates where the deviance is lower."""
    criterion = estimate.criterion
    return _by_maximum_likelihood(estimate_theta(criterion, theta0=criterion.theta(templates)))


def _curve(
    parameter: _Parameter,
    minimum: float,
    targets: Sequence[float],
    levels: Sequence[float],
    watch: Callable[[int], None],
) -> ProfileCurve:
    """One parameter's curve."""
    if parameter.path is None:
        return _level_curve(parameter, levels)
    exact = [normal_reach(level) for level in levels]
    curve = trace(Tracer(parameter.path, minimum, watch), targets, exact, refine=len(targets) > 1)
    limits = {
        level: (float(parameter.scale(low)), float(parameter.scale(high)))
        for level, (low, high) in zip(levels, curve.limits.values(), strict=True)
    }
    psi, zeta, rates = np.array([(n.psi, n.zeta, n.zeta_rate) for n in curve.nodes]).T
    return ProfileCurve(
        parameter.name, parameter.estimate, psi, zeta, rates, parameter.scale, limits
    )


def _level_curve(parameter: _Parameter, levels: Sequence[float]) -> ProfileCurve:
    """A correlation that nothing depends on, since a standard deviation is zero."""
    ends, flat = np.array([-0.5, 0.5]) * np.pi, np.zeros(2)
    limits = dict.fromkeys(levels, (-1.0, 1.0))
    return ProfileCurve(parameter.name, np.nan, ends, flat, flat, parameter.scale, limits)
