"""Profile likelihood of fixed effects, standard deviations, correlations and sigma.

Always on the ML deviance, as lme4's: a REML fit is first fitted by ML to the same cross-products,
from its theta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.estimation.parameters import (
    powers_of_parameters,
    selected,
    variance_parameter_names,
    variance_parameters,
)
from interlace.inference.profiles.constrained import CoefficientPath, Path
from interlace.inference.profiles.curves import Profile, ProfileCurve, Scale, limits_table
from interlace.inference.profiles.held import correlation_path, deviation_path, sigma_path
from interlace.inference.profiles.numbers import LinearNumbers
from interlace.inference.profiles.surface import crossings
from interlace.inference.profiles.tracing import LowerDeviance, Tracer, trace
from interlace.machine.progress import counter
from interlace.machine.threads import threads_for
from interlace.model.confidence import check_level, normal_reach
from interlace.sums.sizes import in_units
from interlace.sums.terms import Floats

# The usual level: its limits are always found exactly.
_USUAL = 0.95
# Estimates that turn out to be local minima before we give up.
_RESTARTS = 3
_PROFILES = "profile, or conf_int(method='profile'), needs"
_INSTEAD = ", or use conf_int(method='bootstrap')"


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
    return limits_table({curve.name: curve.limits[level] for curve in curves}, level)


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
        return  # whose standard deviations and correlations have no linear paths
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


def _on_surfaces(
    estimate: Estimate, wanted: Sequence[str], level: float, watch: Callable[[int], None]
) -> Iterator[ProfileCurve]:
    """Standard deviations and correlations where maps of structures are not linear."""
    if not any(t.template.indivisible for t in estimate.A.terms):
        return
    numbers, z = LinearNumbers(estimate), normal_reach(level)
    for i, name in enumerate(variance_parameter_names(estimate.A.terms)):
        if name in wanted:
            curve = crossings(numbers, i, name).curve(z, level)
            watch(len(curve.psi))
            yield curve


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
    best = _by_maximum_likelihood(estimate)
    shown = counter(None, progress, what="profile", unit="points")
    with shown as watch, threads_for(best.criterion.rows_at_once):
        for _ in range(_RESTARTS):
            try:
                chosen = [p for p in _parameters(best) if p.name in wanted]
                found = [_curve(p, best.value, targets, levels, watch) for p in chosen]
                found += _on_surfaces(best, list(wanted), max(levels), watch)
                return found, best.value
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
