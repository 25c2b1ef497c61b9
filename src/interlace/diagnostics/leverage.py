"""Leverages: how much each response determines its own fitted value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.diagnostics.general_leverage import general_leverage
from interlace.diagnostics.units import (
    design_of,
    grouping,
    is_rows,
    unit_index,
)
from interlace.estimation.estimate import Estimate
from interlace.model.fitted import Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.solver.blocks import multiply
from interlace.solver.rows import fixed_on_random, quadratic_forms
from interlace.sums.crossprod import group_sums
from interlace.sums.rows import WorkingRows
from interlace.sums.terms import Floats

# Begins the message for fits of the iterative solver.
_LEVERAGE = "leverages (leverage, augment, standardized residuals in plots) need"


def hat_values(design: Design, estimate: Estimate) -> Floats:
    """Diagonal of the matrix that maps ``y`` to the conditional fitted values, ``(n,)``.

    Parameters
    ----------
    design, estimate
        Rows used, and numbers of the fit.

    Returns
    -------
    ndarray
        Between 0 and 1; the sum is the effective number of parameters (lme4's ``hatvalues``).

    Notes
    -----
    ``h_i = w_i [z_i x_i] C~ [z_i x_i]'`` with ``sigma^2 C~`` the covariance of
    ``[b_hat - b; beta_hat]`` [1]_; ``theta`` is taken as known.

    References
    ----------
    .. [1] Hodges and Sargent (2001), Biometrika 88, 367-379.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> h = hat_values(result.design, result.estimate)
    >>> h[:3].round(4).tolist(), round(float(h.sum()), 2)
    ([0.2293, 0.1697, 0.1268], 29.02)
    """
    return _overall(design, estimate, design.in_basis(estimate.A.basis, estimate.A.names))


def hat_cooks(h: Floats, pearson: Floats, *, sigma: float, p: int) -> Floats:
    """Cook's distance from hat values ``h`` (n,), as lme4's ``cooks.distance`` has it, ``(n,)``.

    ``(r / (1 - h))^2 h / (sigma^2 p)``, ``r = sqrt(w) (y - fitted)`` the conditional ``pearson``
    residuals (n,), in units of the response like ``sigma``, and ``p`` fixed effects.  This is not
    the change of the fixed effects when a row is deleted.  NaN or infinite where ``h`` is 1.

    Examples
    --------
    >>> hat_cooks(np.array([0.5, 0.2]), np.array([1.0, -2.0]), sigma=1.0, p=1).round(4).tolist()
    [2.0, 1.25]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((pearson / sigma / (1.0 - h)) ** 2 * h / p)


def hat_rstudent(h: Floats, pearson: Floats, *, sigma: float) -> Floats:
    """Standardised conditional residuals, ``r / (sigma sqrt(1 - h))``, ``(n,)``.

    Arguments as in :func:`hat_cooks`; lme4's ``rstudent``.  NaN or infinite where ``h`` is 1.

    Examples
    --------
    >>> hat_rstudent(np.array([0.75]), np.array([1.0]), sigma=2.0).tolist()
    [1.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(pearson / (sigma * np.sqrt(1.0 - h)))


def leverage(result: Labelled[Any], level: int | str = 1) -> pd.DataFrame:
    """Leverage of every row, or its mean in every group, and the parts it consists of.

    Parameters
    ----------
    result
        A fitted model.
    level
        1 for rows, or the name of a grouping factor.

    Returns
    -------
    DataFrame
        One row for each of the ``nobs`` rows used, in their order, or for each level of the factor,
        labelled by it.  Columns: ``overall``, the hat values, ``fixef + ranef``; ``fixef``, the
        part of the fixed effects; ``ranef``, that of the random effects; ``ranef.uc``, their prior
        variance over ``scale``, which does not depend on the other rows.

    Raises
    ------
    InterlaceError
        ``level`` is neither 1 nor a grouping factor, the result has no rows, or it was fitted by
        the iterative solver.

    Notes
    -----
    Those of a generalised model are of the linear model of its working response.

    With ``V`` the covariance of the response, ``D`` that of the random effects, and
    ``H = X (X' V^-1 X)^-1 X' V^-1``, these are the diagonals of ``H``, ``Z D Z' V^-1 (I - H)``
    [1]_, and ``Z D Z' / sigma^2`` [2]_.  Nothing ``n x n`` is formed: row ``i`` of ``V^-1 X`` is
    ``w_i (x_i - z_i' b_X) / sigma^2``, with ``b_X`` the random effects that the columns of ``X``
    get in place of the response.

    References
    ----------
    .. [1] Demidenko and Stukel (2005), Statistics in Medicine 24, 893-909.
    .. [2] Nobre and Singer (2011), Journal of Applied Statistics 38, 1063-1072.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> leverage(result).round(4).head(2)
       overall   fixef   ranef  ranef.uc
    0   0.2293  0.0192  0.2101    0.9346
    1   0.1697  0.0138  0.1559    1.0175
    >>> leverage(result, level="Subject").round(4).head(2)
             overall   fixef   ranef  ranef.uc
    Subject
    308       0.1612  0.0111  0.1501    2.5927
    309       0.1612  0.0111  0.1501    2.5927
    """
    if isinstance(result, FittedGeneralModel):
        return general_leverage(result, level)
    design, estimate = design_of(result), result.estimate
    rows = design.in_basis(estimate.A.basis, estimate.A.names)
    overall, fixed = _overall(design, estimate, rows), _fixed_part(design, estimate, rows)
    columns = {
        "overall": overall,
        "fixef": fixed,
        "ranef": overall - fixed,
        "ranef.uc": _prior(design, estimate),
    }
    table = pd.DataFrame(columns, index=design.labels)
    return table if is_rows(level) else _means(table, design, level)


def _overall(design: Design, estimate: Estimate, rows: WorkingRows) -> Floats:
    """``w [z x] C~ [z x]'``."""
    forms = quadratic_forms(estimate.evaluation.dense(_LEVERAGE), rows)
    return forms if design.weights is None else design.weights * forms


def _fixed_part(design: Design, estimate: Estimate, rows: WorkingRows) -> Floats:
    """Diagonal of ``X C X' V^-1``."""
    factor = estimate.evaluation.dense(_LEVERAGE)
    left = rows.X.copy()
    for codes, Z, b in zip(rows.codes, rows.Z, fixed_on_random(factor), strict=True):
        left -= multiply(Z[:, None, :], b[codes])[:, 0]
    total = np.einsum("ip,ip->i", rows.X @ factor.vcov, left)
    return np.asarray(total if design.weights is None else design.weights * total)


def _prior(design: Design, estimate: Estimate) -> Floats:
    """Diagonal of ``Z D Z'`` over ``sigma^2``."""
    total = np.zeros(len(design.y))
    for Z, T in zip(design.Z, estimate.user_templates, strict=True):
        total += ((Z @ T) ** 2).sum(axis=1)
    return total


def _means(table: pd.DataFrame, design: Design, level: int | str) -> pd.DataFrame:
    """Means within the levels of a grouping factor."""
    term, codes = grouping(design, level)
    sums = group_sums(codes, term.l, table.to_numpy())
    means = sums / np.bincount(codes, minlength=term.l)[:, None]
    return pd.DataFrame(means, index=unit_index(design, level), columns=table.columns)
