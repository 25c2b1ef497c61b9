"""Shares of variance: R squared of Nakagawa and Schielzeth, and intraclass correlations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from interlace.errors import InterlaceError
from interlace.machine.markup import html_facts
from interlace.model.fitted import FittedModel, Labelled, tame
from interlace.sums.crossprod import CrossProducts
from interlace.sums.moments import Moments, covariance
from interlace.sums.sizes import Units, in_units_or_nan
from interlace.sums.terms import Floats


@dataclass(frozen=True)
class R2:
    """Variance explained by the fixed effects, and by fixed and random effects together.

    Attributes
    ----------
    marginal
        ``var_fixed`` over the total.
    conditional
        ``var_fixed + var_random`` over the total.
    var_fixed, var_random, var_residual
        The three variances, in squared units of the response, or of the linear predictor of a
        generalised model; their sum is the total.
    method
        How the residual variance of a generalised model was found.
    """

    marginal: float
    conditional: float
    var_fixed: float
    var_random: float
    var_residual: float
    method: str = ""

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return html_facts((name, f"{value:.4f}") for name, value in self.to_dict().items())

    def __getitem__(self, name: str) -> float:
        """A number by its name."""
        return _item(self.to_dict(), name)

    def to_dict(self) -> dict[str, float]:
        """All numbers by name."""
        names = [f.name for f in fields(self) if f.name != "method"]
        return {name: float(getattr(self, name)) for name in names}

    def to_frame(self) -> pd.DataFrame:
        """One row, one column a number."""
        return pd.DataFrame([self.to_dict()])

    def __repr__(self) -> str:
        return (
            f"R2: marginal {self.marginal:.4f}, conditional {self.conditional:.4f} (variances: "
            f"fixed {self.var_fixed:.5g}, random {self.var_random:.5g}, "
            f"residual {self.var_residual:.5g}{f' by {self.method}' if self.method else ''})"
        )


@dataclass(frozen=True)
class ICC:
    """Intraclass correlations.

    Attributes
    ----------
    adjusted
        Random variance over random and residual variance.
    unadjusted
        Random variance over fixed, random and residual variance.
    by_group
        Per grouping factor, its share of random and residual variance; they sum to ``adjusted``.
    method
        How the residual variance of a generalised model was found.
    """

    adjusted: float
    unadjusted: float
    by_group: Mapping[str, float] = field(default_factory=dict)
    method: str = ""

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        return html_facts((name, f"{value:.4f}") for name, value in self.to_dict().items())

    def __getitem__(self, name: str) -> float:
        """``"adjusted"``, ``"unadjusted"``, or a grouping factor."""
        return _item(self.to_dict(), name)

    def to_dict(self) -> dict[str, float]:
        """All numbers by name, grouping factors included."""
        return {**self.by_group, "adjusted": self.adjusted, "unadjusted": self.unadjusted}

    def to_frame(self) -> pd.DataFrame:
        """One row, one column a number."""
        return pd.DataFrame([self.to_dict()])

    def __repr__(self) -> str:
        groups = ", ".join(f"{key} {value:.4f}" for key, value in self.by_group.items())
        return f"ICC: adjusted {self.adjusted:.4f}, unadjusted {self.unadjusted:.4f} ({groups})"


def r2(result: FittedModel) -> R2:
    """R squared of a mixed model.

    Parameters
    ----------
    result
        A fitted model, singular or not.

    Returns
    -------
    R2

    Notes
    -----
    ``var_fixed`` is the sample variance of ``X beta`` over the rows (offset left out),
    ``var_random`` the mean over the rows of ``z' Sigma z``, summed over the terms [1]_ [2]_, and
    ``var_residual`` the residual variance (that of a row of weight 1).

    .. [1] Nakagawa and Schielzeth (2013), Methods in Ecology and Evolution 4, 133-142.
    .. [2] Johnson (2014), Methods in Ecology and Evolution 5, 944-946 (random slopes).

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> r2(interlace.fit("Reaction ~ Days + (Days | Subject)", sleep))
    R2: marginal 0.2787, conditional 0.7992 (variances: fixed 908.95, random 1698.1,
    residual 654.94)
    """
    units, near = result.estimate.units, tame(result)
    found = r2_of(near, _residual_variance(near, units))
    if units is None:
        return found
    variances = np.array([found.var_fixed, found.var_random, found.var_residual])
    scaled = in_units_or_nan(variances, 2 * units.response)
    return R2(found.marginal, found.conditional, *scaled.tolist())


def r2_of(result: Labelled[Any], residual: float, method: str = "") -> R2:
    """R squared with a residual variance."""
    fixed = fixed_variance(result)
    random = sum(random_variances(result).values())
    total = fixed + random + residual
    return R2(fixed / total, (fixed + random) / total, fixed, random, residual, method)


def icc(result: FittedModel) -> ICC:
    """Intraclass correlations: shares of variance that the grouping factors account for.

    Parameters
    ----------
    result
        A fitted model, singular or not.

    Returns
    -------
    ICC

    Notes
    -----
    With random slopes the variance of a grouping factor is the mean over the rows of
    ``z' Sigma z``, as in :func:`r2` (Johnson 2014).

    Examples
    --------
    >>> import interlace
    >>> icc(interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch"))
    ICC: adjusted 0.4185, unadjusted 0.4185 (Batch 0.4185)
    """
    near = tame(result)
    return icc_of(near, _residual_variance(near, result.estimate.units))


def icc_of(result: Labelled[Any], residual: float, method: str = "") -> ICC:
    """Intraclass correlations with a residual variance."""
    parts = random_variances(result)
    random = sum(parts.values())
    around = random + residual
    return ICC(
        adjusted=random / around,
        unadjusted=random / (around + fixed_variance(result)),
        by_group={key: value / around for key, value in parts.items()},
        method=method,
    )


def _residual_variance(near: FittedModel, units: Units | None) -> float:
    """That of a row of weight 1, in the units of the response near 1."""
    return near.scale if units is None else float(np.ldexp(near.scale, units.weights))


def _item(values: Mapping[str, float], name: str) -> float:
    if name not in values:
        raise KeyError(f"{name!r} is none of {', '.join(values)}")
    return values[name]


def fixed_variance(result: Labelled[Any]) -> float:
    """Sample variance of ``X beta`` over the rows used."""
    A, beta = result.estimate.A, result.estimate.beta
    if result.design is not None:
        return float(np.var(result.design.fixed(A.names) @ beta, ddof=1))
    working = np.linalg.solve(A.basis.fixed[:-1, :-1], beta)
    spread = covariance(_moments(A).fixed)[:-1, :-1]
    return max(float(working @ spread @ working), 0.0)


def random_variances(result: Labelled[Any]) -> dict[str, float]:
    """Mean over the rows of ``z' Sigma z``, by grouping factor in the order of the formula."""
    found = dict.fromkeys(result.ngroups, 0.0)
    terms = zip(result.estimate.A.terms, _mean_squares(result), strict=True)
    for (term, M), Sigma in zip(terms, result.estimate.covariances, strict=True):
        found[term.group] += float((M * Sigma).sum())
    return found


def _mean_squares(result: Labelled[Any]) -> list[Floats]:
    """``Z_j'Z_j / n`` of every term, no row weighted."""
    A, design = result.estimate.A, result.design
    if design is None:
        inverses = [np.linalg.inv(B) for B in A.basis.random]
        pairs = zip(inverses, _moments(A).random, strict=True)
        return [b.T @ M[1:, 1:] @ b / M[0, 0] for b, M in pairs]
    return [
        np.full((1, 1), Z[0, 0] ** 2) if design.is_ones(j) else Z.T @ Z / len(Z)
        for j, Z in enumerate(design.Z)
    ]


def _moments(A: CrossProducts) -> Moments:
    if A.moments is None:
        raise InterlaceError(
            "these cross-products hold no means over the rows, which the share of variance "
            "explained needs: make them again with interlace.cross_products()"
        )
    return A.moments
