"""Confidence intervals by three methods, and the covariance of the variance parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from interlace.choices import IntervalMethod
from interlace.errors import InterlaceError, choose
from interlace.estimation.estimate import in_squared_units
from interlace.estimation.parameters import (
    SIGMA,
    powers_of_parameters,
    selected,
    theta_names,
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
    from interlace.inference.bootstrap.replicates import BootstrapResult
    from interlace.inference.tested import TestedModel
    from interlace.inference.wald import Reference
    from interlace.model.optimum import AnyEstimate

METHODS: tuple[IntervalMethod, ...] = get_args(IntervalMethod)


@dataclass(frozen=True)
class Wanted:
    """Which intervals are asked for: by what method, at what level, of which parameters.

    Raises
    ------
    InterlaceError
        An unknown method, a level outside (0, 1), or a robust covariance for other than Wald's.
    """

    method: str
    level: float
    parm: str | Sequence[str] | None
    robust: str | None = None

    def __post_init__(self) -> None:
        check_level(self.level)
        object.__setattr__(self, "method", choose("method", self.method, METHODS))
        if self.robust is not None and self.method != "wald":
            raise InterlaceError(f"robust is for Wald intervals, not method={self.method!r}")

    def by(
        self,
        *,
        wald: Callable[[], pd.DataFrame],
        profile: Callable[[], pd.DataFrame],
        bootstrap: Callable[[], BootstrapResult],
        p: int,
    ) -> pd.DataFrame:
        """Intervals by the method asked for, of a model with ``p`` coefficients."""
        if self.method == "profile":
            return profile()
        if self.method == "bootstrap":
            found = bootstrap().conf_int(self.level)
            return found.loc[list(selected(list(found.index), self.parm, p))]
        return wald()


def conf_int(
    result: TestedModel,
    wanted: Wanted,
    *,
    reference: Callable[[], Reference],
    n_bootstrap: int,
    seed: int | None,
) -> pd.DataFrame:
    """Intervals by parameter; see :meth:`interlace.CrossedLMEResult.conf_int`."""
    level, parm = wanted.level, wanted.parm
    near = result if result.estimate.units is None else tame(result)
    found = wanted.by(
        wald=lambda: wald_intervals(result.estimate, reference(), level, parm),
        profile=lambda: profile_limits(near.estimate, parm=parm, level=level),
        bootstrap=lambda: bootstrap(near, n_bootstrap, seed=seed),
        p=result.estimate.A.p,
    )
    if near is result or wanted.method == "wald":
        return found
    return _in_units(found, result.estimate)


def _in_units(limits: pd.DataFrame, estimate: Estimate) -> pd.DataFrame:
    """Limits of parameters that were found in other units."""
    powers = powers_of_parameters(estimate)
    rows = [in_units(row, powers[name], f"a limit of {name!r}") for name, row in limits.iterrows()]
    return pd.DataFrame(np.array(rows), index=limits.index, columns=limits.columns)


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
    names = [*theta_names(estimate.A.terms), SIGMA]
    found, units = vcov_theta(estimate.tame), estimate.units
    if units is not None:
        pairs = zip(estimate.A.terms, units.effects, strict=True)
        theta = [effects[t.free_index[0]] for t, effects in pairs]
        powers = np.concatenate([*(one - units.sigma for one in theta), [units.sigma]])
        found = in_squared_units(found, powers, "of theta or sigma")
    return pd.DataFrame(found, index=names, columns=names)
