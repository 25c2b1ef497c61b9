"""Confidence intervals by three methods, and the covariance of the variance parameters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from interlace.choices import IntervalMethod
from interlace.errors import choose
from interlace.estimation.parameters import (
    SIGMA,
    selected,
    theta_names,
    variance_parameter_names,
)
from interlace.inference.bootstrap.resample import bootstrap
from interlace.inference.information import vcov_theta
from interlace.inference.profiles.profile import profile_limits
from interlace.inference.tables import coefficient_table
from interlace.model.confidence import check_level, tails
from interlace.model.fitted import tame
from interlace.sums.sizes import in_units

if TYPE_CHECKING:
    from interlace.estimation.estimate import Estimate
    from interlace.inference.tested import TestedModel
    from interlace.inference.wald import Reference
    from interlace.model.optimum import AnyEstimate

METHODS: tuple[IntervalMethod, ...] = get_args(IntervalMethod)


def conf_int(
    result: TestedModel,
    level: float,
    method: str,
    parm: str | Sequence[str] | None,
    *,
    reference: Callable[[], Reference],
    n_bootstrap: int,
    seed: int | None,
) -> pd.DataFrame:
    """Intervals by parameter; see :meth:`interlace.CrossedLMEResult.conf_int`."""
    check_level(level)
    method = choose("method", method, METHODS)
    if result.estimate.units is not None and method != "wald":
        found = conf_int(
            tame(result),
            level,
            method,
            parm,
            reference=reference,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )
        return _in_units(found, result.estimate)
    if method == "profile":
        return profile_limits(result.estimate, parm=parm, level=level)
    if method == "bootstrap":
        found = bootstrap(result, n_bootstrap, seed=seed).conf_int(level)
        return found.loc[list(selected(list(found.index), parm, result.estimate.A.p))]
    return wald_intervals(result.estimate, reference(), level, parm)


def _in_units(limits: pd.DataFrame, estimate: Estimate) -> pd.DataFrame:
    """Limits of parameters that were found in other units."""
    powers = parameter_powers(estimate)
    rows = [in_units(row, powers[name], f"a limit of {name!r}") for name, row in limits.iterrows()]
    return pd.DataFrame(np.array(rows), index=limits.index, columns=limits.columns)


def parameter_powers(estimate: Estimate) -> dict[Hashable, int]:
    """Powers of 2 of the units of every parameter, by its name in :func:`conf_int`."""
    units, terms = estimate.units, estimate.A.terms
    assert units is not None
    powers = units.coefficients.tolist()
    for term, effects in zip(terms, units.effects, strict=True):
        entries = zip(*term.template.entries, strict=True)
        powers += [int(effects[a]) if a == b else 0 for b, a in entries]
    names = [*estimate.A.names, *variance_parameter_names(terms)]
    return dict(zip(names, [*powers, units.sigma], strict=True))


def wald_intervals(
    estimate: AnyEstimate,
    reference: Reference,
    level: float,
    parm: str | Sequence[str] | None,
) -> pd.DataFrame:
    """Estimates less and plus a quantile times the standard error."""
    table = coefficient_table(estimate, reference, level=level)
    wanted = selected(list(table.index), parm, len(table))
    return table.loc[list(wanted), ["lower", "upper"]].set_axis(tails(level), axis=1)


def theta_covariance(estimate: Estimate) -> pd.DataFrame:
    """:func:`interlace.inference.information.vcov_theta` with names."""
    estimate.require_near("vcov_theta()")
    names = [*theta_names(estimate.A.terms), SIGMA]
    return pd.DataFrame(vcov_theta(estimate), index=names, columns=names)
