"""Residuals of rows, conditional and marginal, and the random effects with what they shrink."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.diagnostics.innovations import cholesky_residuals
from interlace.diagnostics.leastsquares import GroupFits, group_fits
from interlace.diagnostics.leverage import hat_rstudent, hat_values
from interlace.diagnostics.units import (
    design_of,
    grouping,
    is_rows,
    unit_index,
)
from interlace.errors import choose
from interlace.estimation.estimate import Estimate
from interlace.model.fitted import FittedModel
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats

# ------------------------------------------------------------------ arrays


def marginal_residuals(design: Design, estimate: Estimate) -> Floats:
    """``y - offset - X beta``, ``(n,)``, in the units of the response."""
    return design.response - design.fixed(estimate.A.names) @ estimate.beta


def marginal_pearson(design: Design, estimate: Estimate) -> Floats:
    """Marginal residuals over their standard deviations in the model, ``r / sqrt(V_ii)``."""
    relative = marginal_residuals(design, estimate) / estimate.sigma
    return np.asarray(relative / np.sqrt(_marginal_variances(design, estimate)))


def marginal_studentized(design: Design, estimate: Estimate) -> Floats:
    """Marginal residuals over their standard errors, ``r / sqrt((V - X vcov X')_ii)``.

    NaN or infinite where the row determines its own fitted value.
    """
    X = design.fixed(estimate.A.names) @ estimate.A.basis.fixed[:-1, :-1]
    fitted = np.einsum("ip,pq,iq->i", X, estimate.evaluation.factor.vcov, X, optimize=True)
    variances = _marginal_variances(design, estimate) - fitted
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = marginal_residuals(design, estimate) / estimate.sigma
        return np.asarray(relative / np.sqrt(variances))


def marginal_cholesky(design: Design, estimate: Estimate) -> Floats:
    """``L^-1 r`` of the marginal residuals, ``V = L L'`` in the order of the rows, ``(n,)``.

    See :func:`interlace.diagnostics.innovations.innovations` for the cost, and when it is refused.
    """
    return cholesky_residuals(design, estimate, marginal_residuals(design, estimate))


def _marginal_variances(design: Design, estimate: Estimate) -> Floats:
    """Diagonal of ``V`` over ``sigma^2``, ``(n,)``."""
    total = np.ones(len(design.y)) if design.weights is None else 1.0 / design.weights
    for Z, T in zip(design.Z, estimate.user_templates, strict=True):
        total = total + ((Z @ T) ** 2).sum(axis=1)
    return np.asarray(total)


def conditional_pearson(design: Design, estimate: Estimate, resid: Floats) -> Floats:
    """``sqrt(w) resid / sigma``, with the conditional residuals ``resid`` (n,)."""
    return design.root_weights * resid / estimate.sigma


def conditional_studentized(design: Design, estimate: Estimate, resid: Floats) -> Floats:
    """``resid / sqrt((R P R)_ii)``, ``R`` the covariance of the errors; lme4's ``rstudent``."""
    pearson = design.root_weights * resid
    return hat_rstudent(hat_values(design, estimate), pearson, sigma=estimate.sigma)


# ------------------------------------------------------------------ tables


def hlm_resid(
    result: FittedModel,
    level: int | str = 1,
    type: Literal["conditional", "marginal"] = "conditional",
    standardized: bool | str = False,
) -> pd.DataFrame:
    """Residuals of the rows, or the random effects of a grouping factor, with their LS versions.

    Parameters
    ----------
    result
        A fitted model.
    level
        1 for rows, or the name of a grouping factor.
    type
        Of rows: ``"conditional"``, the response less fitted values that include the random effects,
        beside residuals of separate least-squares fits in every group; or ``"marginal"``, the
        response less the fixed part.
    standardized
        ``False`` for units of the response.  ``True`` divides conditional residuals by ``sigma``
        (``sqrt(w)`` times, with weights), least-squares residuals by their standard errors in their
        group, and random effects by their conditional standard deviations; marginal residuals are
        multiplied by the inverse Cholesky factor of their covariance.  By name: ``"pearson"``
        (divided by standard deviations in the model), ``"studentized"`` (by standard errors) or, if
        marginal, ``"cholesky"``.

    Returns
    -------
    DataFrame
        For rows, numbered from 0 in the order used: ``.resid, .fitted, .ls.resid, .ls.fitted``, or
        ``.mar.resid, .mar.fitted``.  Standardised residuals change their names to ``.std.resid,
        .std.ls.resid, .chol.mar.resid``, or ``.pearson.resid, .student.resid, .pearson.mar.resid,
        .student.mar.resid``.

        For a factor, by level: ``.ranef.<column>`` and ``.ls.<column>``, or ``.std.ranef.<column>``
        and ``.std.ls.<column>``; columns in lower case, as HLMdiag writes them.

    Raises
    ------
    InterlaceError
        An unknown level, type or standardisation, or a result without rows.

    Notes
    -----
    Least-squares fits regress the response on the columns of the fixed effects within each level
    of the grouping factor with most levels; columns that are redundant there are left out.  They
    need no model of the groups, so they show what shrinkage and a wrong random part would hide
    [1]_.  A residual whose group is fitted exactly has no standardised version (NaN).

    The least-squares counterpart of a random effect is the coefficient, in the level alone, of the
    same column for the response less the fixed part; if the factor is nested in another of the
    model, less that of the enclosing level.  NaN if the level cannot tell.  The standardised
    version is divided by the standard deviation between levels.

    References
    ----------
    .. [1] Loy and Hofmann (2014), Journal of Statistical Software 56(5); the names are those of
       HLMdiag.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> hlm_resid(result).head(2).round(2)
       .resid  .fitted  .ls.resid  .ls.fitted
    0   -4.10   253.66       5.37      244.19
    1  -14.63   273.33      -7.25      265.96
    >>> hlm_resid(result, type="marginal", standardized=True).head(2).round(4)
       .chol.mar.resid  .mar.fitted
    0          -0.0518     251.4051
    1          -0.0710     261.8724
    >>> hlm_resid(result, level="Subject").head(2).round(2)
             .ranef.intercept  .ranef.days  .ls.intercept  .ls.days
    Subject
    308                  2.26         9.20          -7.21     11.30
    309                -40.40        -8.62         -46.35     -8.21
    """
    design = design_of(result)
    if not is_rows(level):
        return _effects(result, design, level, standardized)
    hint = "; for random effects name a grouping factor as level"
    kinds = _TYPES[choose("type", type, list(_TYPES), one_of=True, otherwise=hint)]
    wanted = choose(
        "standardized", standardized, list(kinds), one_of=True, where=f" for {type} residuals"
    )
    return pd.DataFrame(kinds[wanted](result, design), index=design.labels)


Columns = dict[str, Floats]


def _conditional(name: str, values: Callable[[Design, Estimate, Floats], Floats]) -> _Kind:
    """Conditional residuals of some kind, with the fitted values."""

    def columns(result: FittedModel, design: Design) -> Columns:
        r = values(design, result.estimate, np.asarray(result.resid))
        return {name: r, ".fitted": np.asarray(result.fittedvalues)}

    return columns


def _marginal(name: str, values: Callable[[Design, Estimate], Floats]) -> _Kind:
    """Marginal residuals of some kind, with the fixed part."""

    def columns(result: FittedModel, design: Design) -> Columns:
        fixed = design.y - marginal_residuals(design, result.estimate)
        return {name: values(design, result.estimate), ".mar.fitted": fixed}

    return columns


def _with_ls(conditional: _Kind, *, standardized: bool) -> _Kind:
    """Conditional residuals and those of separate least-squares fits."""

    def columns(result: FittedModel, design: Design) -> Columns:
        fits, root = _ls_fits(design, result.estimate), design.root_weights
        raw = fits.residuals / root
        name, shown = ".ls.resid", raw
        if standardized:
            with np.errstate(divide="ignore", invalid="ignore"):
                name, shown = ".std.ls.resid", fits.residuals / (fits.sigma * _spread(fits))
        return conditional(result, design) | {name: shown, ".ls.fitted": design.y - raw}

    return columns


def _spread(fits: GroupFits) -> Floats:
    """``sqrt(1 - h)`` within groups, NaN where a row determines its fitted value."""
    left = 1.0 - fits.hat
    return np.sqrt(np.where(left > 1e-10, left, np.nan))


def _ls_fits(design: Design, estimate: Estimate) -> GroupFits:
    """Separate fits in the levels of the factor with most levels."""
    root = design.root_weights
    X = design.fixed(estimate.A.names)
    most = max(range(len(design.terms)), key=lambda j: design.terms[j].l)
    codes, l = design.codes[most], design.terms[most].l
    return group_fits(codes, l, root[:, None] * X, root * design.response)


def _raw(design: Design, estimate: Estimate, resid: Floats) -> Floats:
    return resid


_Kind = Callable[[FittedModel, Design], Columns]

_TYPES: dict[str, dict[bool | str, _Kind]] = {
    "conditional": {
        False: _with_ls(_conditional(".resid", _raw), standardized=False),
        True: _with_ls(_conditional(".std.resid", conditional_pearson), standardized=True),
        "pearson": _conditional(".pearson.resid", conditional_pearson),
        "studentized": _conditional(".student.resid", conditional_studentized),
    },
    "marginal": {
        False: _marginal(".mar.resid", marginal_residuals),
        True: _marginal(".chol.mar.resid", marginal_cholesky),
        "pearson": _marginal(".pearson.mar.resid", marginal_pearson),
        "studentized": _marginal(".student.mar.resid", marginal_studentized),
        "cholesky": _marginal(".chol.mar.resid", marginal_cholesky),
    },
}

# ------------------------------------------------------------------ random effects


def _effects(
    result: FittedModel, design: Design, level: int | str, standardized: bool | str
) -> pd.DataFrame:
    """Random effects of a factor beside their least-squares counterparts."""
    grouping(design, level)
    standardized = choose(
        "standardized", standardized, (False, True), one_of=True, where=" for random effects"
    )
    estimate = result.estimate
    members = [j for j, term in enumerate(design.terms) if term.group == level]
    names = [_lower(name) for j in members for name in design.terms[j].columns]
    b = np.concatenate([estimate.b[j] for j in members], axis=1)
    ls = _ls_effects(design, estimate, members)
    prefix = "."
    if standardized:
        prefix = ".std."
        covariances = [estimate.b_cov[j] for j in members]
        sd = [np.sqrt(np.diagonal(c, axis1=1, axis2=2)) for c in covariances]
        with np.errstate(divide="ignore", invalid="ignore"):
            b = b / np.concatenate(sd, axis=1)
            ls = ls / np.array([np.nanstd(c, ddof=1) if _two(c) else np.nan for c in ls.T])
    columns = [f"{prefix}{kind}.{name}" for kind in ("ranef", "ls") for name in names]
    index = unit_index(design, level)
    return pd.DataFrame(np.concatenate((b, ls), axis=1), index=index, columns=columns)


def _two(column: Floats) -> bool:
    """Whether a standard deviation can be taken."""
    return int(np.isfinite(column).sum()) > 1


def _ls_effects(design: Design, estimate: Estimate, members: Sequence[int]) -> Floats:
    """Coefficients in each level of the columns of some terms of one factor, ``(l, k)``."""
    own = _level_coefficients(design, estimate, members)
    outer = _enclosing(design, members[0])
    if outer is None:
        return own
    around = [j for j, term in enumerate(design.terms) if term.group == design.terms[outer].group]
    names = [name for j in members for name in design.terms[j].columns]
    outer_names = [name for j in around for name in design.terms[j].columns]
    parents = _parents(design.codes[members[0]], design.codes[outer], design.terms[members[0]].l)
    coefficients = _level_coefficients(design, estimate, around)
    for i, name in enumerate(names):
        if name in outer_names:
            own[:, i] -= coefficients[parents, outer_names.index(name)]
    return own


def _level_coefficients(design: Design, estimate: Estimate, members: Sequence[int]) -> Floats:
    """Coefficients within levels for the marginal residuals, other columns of ``X`` after them."""
    root = design.root_weights
    Z = np.concatenate([design.Z[j] for j in members], axis=1)
    columns = np.concatenate((Z, design.fixed(estimate.A.names)), axis=1)
    r = marginal_residuals(design, estimate)
    first = members[0]
    fits = group_fits(design.codes[first], design.terms[first].l, root[:, None] * columns, root * r)
    return fits.coef[:, : Z.shape[1]]


def _enclosing(design: Design, j: int) -> int | None:
    """The term of the smallest factor in which that of term ``j`` is nested, if there is one."""
    own = design.terms[j]
    outer = [
        i
        for i, term in enumerate(design.terms)
        if term.group != own.group
        and term.l < own.l
        and len(np.unique(design.codes[j].astype(np.int64) * term.l + design.codes[i])) == own.l
    ]
    return max(outer, key=lambda i: design.terms[i].l, default=None)


def _parents(codes: Codes, outer: Codes, l: int) -> Codes:
    """Enclosing level of every level."""
    parents = np.zeros(l, dtype=np.intp)
    parents[codes] = outer
    return parents


def _lower(name: str) -> str:
    """A column's name in lower case: ``Machine[T.B]`` is ``machine_b``."""
    plain = re.sub(r"\[(?:T\.)?(.*?)\]", r"_\1", name)
    return re.sub(r"\W+", "_", plain).strip("_").lower()
