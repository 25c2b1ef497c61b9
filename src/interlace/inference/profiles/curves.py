"""Profile likelihoods as values: ``zeta`` along one parameter, and the curves of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy
from scipy.special import expit

from interlace.errors import InterlaceError
from interlace.estimation.parameters import selected
from interlace.model.confidence import check_level, normal_reach, tails
from interlace.sums.terms import Floats

if TYPE_CHECKING:
    from scipy.interpolate import CubicHermiteSpline

_TITLE = "Profile likelihood: estimates (ML) and limits"


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
    """Profile likelihood of some parameters; see :meth:`interlace.CrossedLMEResult.profile`.

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
            Parameters wanted, as when it was made; ``None`` for all of the profile.

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
        return limits_table(
            {c.name: c.conf_int(level) for c in self.curves if c.name in wanted}, level
        )


def _short(number: float) -> str:
    """A number as it is shown."""
    return f"{number:.5g}"


def limits_table(limits: Mapping[str, tuple[float, float]], level: float) -> pd.DataFrame:
    """Limits by parameter; columns are the tail probabilities."""
    return pd.DataFrame.from_dict(dict(limits), orient="index", columns=tails(level), dtype=float)
