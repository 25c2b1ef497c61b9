"""Predictions for the rows of a fit and for new rows, with their standard errors and intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interlace.design.design import Design, Encoding
from interlace.design.newdata import NewRows, replay
from interlace.design.recipe import recipe_of, require_rows
from interlace.errors import InterlaceError, choose
from interlace.estimation.estimate import Estimate
from interlace.model.confidence import check_level, normal_reach, reach
from interlace.model.optimum import AnyEstimate
from interlace.model.reference import Reference, standard_errors
from interlace.solver.rows import quadratic_forms
from interlace.sums.crossprod import Codes
from interlace.sums.rows import columns_kept, in_basis, is_ones
from interlace.sums.sizes import Units, in_units
from interlace.sums.terms import Floats, ReTerm

# Begins the message for fits of the iterative solver.
_ERRORS = "predict with se or interval, random effects included, needs"
_INSTEAD = ", or leave the random effects out (include_re=False)"


def predict(
    design: Design | None,
    estimate: Estimate,
    newdata: object = None,
    include_re: bool | str | Iterable[str] = True,
    *,
    offset: ArrayLike | None = None,
    new_levels: str = "zero",
    se: bool = False,
    interval: str | None = None,
    level: float = 0.95,
    reference: Reference | None = None,
    precisions: Callable[[object], Floats] | None = None,
) -> Floats | pd.DataFrame:
    """Expected response, with or without the random effects, and how well it is known.

    Parameters
    ----------
    design, estimate
        The rows of the fit, and its numbers (those of a :class:`~interlace.CrossedLMEResult`).
    newdata
        A frame of ``m`` rows; ``None`` for the rows used in the fit.  Stored encodings are
        replayed: the same factor levels, the same centring.  Grouping columns are only needed
        for the random effects asked for.
    include_re
        ``True`` adds all random effects, ``False`` none, a name or names those of some
        grouping factors.  A level that is new, or missing, contributes 0.
    offset
        ``(m,)`` values, if the model was fitted with an array as offset.
    new_levels
        ``"zero"``, or ``"raise"`` to refuse rows of which an included level is new or missing.
    se
        Whether to give standard errors.
    interval
        ``"confidence"`` for the expected response, ``"prediction"`` for a new observation, or
        ``None``.
    level
        Probability of the interval.
    reference
        Covariance of the fixed effects, and degrees of freedom, used where no random effect is
        included (Satterthwaite, Kenward-Roger); ``None`` for ``estimate.vcov`` and the normal
        distribution.
    precisions
        Where residual variances are a function of columns: what the weights of new rows are
        multiplied by, ``(m,)``.

    Returns
    -------
    ndarray or DataFrame
        ``(m,)`` predictions; with ``se`` or ``interval`` a frame with the columns ``prediction``,
        ``se`` and, for an interval, ``lower`` and ``upper``, in units of the response.  Its index
        is that of ``newdata``, or of the data fitted; positions of rows for data without one.
        ``se`` belongs to the interval asked for, and to ``"confidence"`` without one.  NaN where a
        column of the fixed side or left of a bar is missing.

    Raises
    ------
    InterlaceError
        A column is absent from ``newdata``, or a category was not seen in fitting; a level is new
        (``new_levels="raise"``); an unknown ``interval``; a ``level`` outside (0, 1); weights in
        ``newdata`` that are not positive.

    Notes
    -----
    ``theta`` and ``sigma`` are taken as known.  Per row, with ``z_j`` the columns of term ``j``,
    ``Sigma_j`` the covariance of its effects and ``b_j`` the effects of the row's level,

    ``prediction = offset + x'beta_hat + sum over included terms of z_j'b_hat_j``.

    The variance for ``"confidence"`` is that of ``prediction`` less ``offset + x'beta + sum of
    z_j'b_j``, where ``b_j`` of a level that is new (or missing) is a fresh draw:

    ``Var(x'(beta_hat - beta) + sum over known levels of z_j'(b_hat_j - b_j))
    + sum over new levels of z_j'Sigma_j z_j``.

    The first part is ``sigma^2 [z x] C~ [z x]'``, ``C~`` from the inverse of the mixed-model
    equations [1]_, so that the errors of ``beta_hat`` and ``b_hat``, which are correlated, are
    counted together; without random effects it is ``x' Cov(beta_hat) x``.  Terms are independent:
    if two of them share a key and its level is new, both variances are added.  Terms left out by
    ``include_re`` are no part of the expected response, and add nothing.

    The variance for ``"prediction"`` adds what a new observation adds:

    ``sigma^2 / w + sum over terms not included of z_j'Sigma_j z_j``,

    as the effects of those terms are unknown draws.  ``w`` is 1 for new rows, unless the weights of
    the fit were a column that ``newdata`` has too; it is the prior weight for the rows of the fit.

    ``lower, upper = prediction -+ c se``, ``c`` the normal quantile; for ``"confidence"`` without
    random effects the t quantile with the degrees of freedom of the ``reference`` of the fit.

    References
    ----------
    .. [1] Henderson (1975), Biometrics 31, 423-447.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
    >>> new = {"Days": [0, 9], "Subject": ["308", "new"]}
    >>> predict(result.design, result.estimate, new).round(1).tolist()
    [292.2, 345.6]
    >>> predict(result.design, result.estimate, new, interval="prediction").round(1)
       prediction    se  lower  upper
    0       292.2  32.6  228.3  356.1
    1       345.6  49.3  248.9  442.3
    """
    _check(interval, level)
    if new_levels not in ("zero", "raise"):
        raise InterlaceError(f"new_levels must be 'zero' or 'raise', not {new_levels!r}")
    include = included(estimate.A.terms, include_re)
    if (se or interval is not None) and any(include):
        estimate.evaluation.dense(_ERRORS, _INSTEAD)
    encoding = recipe_of(design, estimate.A).encoding
    new_observation = interval == "prediction"
    if newdata is None:
        rows = rows_used(require_rows(design, "predict without newdata"), include)
    else:
        rows = replay(
            encoding,
            newdata,
            offset=offset,
            levels=include,
            slopes=[True] * len(include) if new_observation else include,
            refuse=new_levels == "raise",
            weighted=new_observation,
        )
        if new_observation and precisions is not None:
            own, prior = precisions(newdata), rows.weights
            rows = replace(rows, weights=own if prior is None else own * prior)
    center = center_of(rows, encoding.fixed.names, estimate)
    if not se and interval is None:
        return center
    X = rows.X[:, columns_kept(encoding.fixed.names, estimate.A.names)]
    fixed_only = None if any(include) else reference
    error = _errors(rows, X, estimate, include, fixed_only, new=new_observation)
    df = None if fixed_only is None or new_observation else _df(fixed_only, X)
    return table_of(center, error, rows.index, df, level if interval else None)


def fitted(design: Design, estimate: AnyEstimate, include: Sequence[bool]) -> Floats:
    """Predictions for the rows used, ``(n,)``, with the random terms marked in ``include``."""
    return center_of(rows_used(design, include), design.names, estimate)


def expected(
    design: Design | None,
    encoding: Encoding,
    estimate: AnyEstimate,
    newdata: object = None,
    include: Sequence[bool] = (),
    *,
    offset: ArrayLike | None = None,
    se: bool = False,
    interval: str | None = None,
    level: float = 0.95,
    reference: Reference,
) -> Floats | pd.DataFrame:
    """:func:`predict` with errors of the fixed part alone."""
    interval = choose("interval", interval, (None, "confidence"))
    check_level(level)
    if newdata is None:
        rows = rows_used(require_rows(design, "predict without newdata"), include)
    else:
        rows = replay(encoding, newdata, offset=offset, levels=include)
    center = center_of(rows, encoding.fixed.names, estimate)
    if not se and interval is None:
        return center
    X = rows.X[:, columns_kept(encoding.fixed.names, estimate.A.names)]
    error, df = standard_errors(reference, X), _df(reference, X)
    return table_of(center, error, rows.index, df, level if interval else None)


def predicted(
    encoding: Encoding,
    estimate: AnyEstimate,
    newdata: object,
    include: Sequence[bool],
    *,
    offset: ArrayLike | None = None,
) -> Floats:
    """Predictions for new rows, ``(m,)``; levels not seen in fitting contribute 0."""
    rows = replay(encoding, newdata, offset=offset, levels=include)
    return center_of(rows, encoding.fixed.names, estimate)


def included(terms: Sequence[ReTerm], include_re: bool | str | Iterable[str]) -> list[bool]:
    """Which terms enter a prediction: all, none, or those of the grouping factors named.

    Raises
    ------
    InterlaceError
        A name is not a grouping factor of the model, or something else was given.
    """
    keys = list(dict.fromkeys(t.group for t in terms))
    if isinstance(include_re, bool | np.bool_):
        return [bool(include_re)] * len(terms)
    if not isinstance(include_re, str | Iterable):
        raise InterlaceError(
            f"include_re must be True, False, or grouping factors of the model "
            f"({', '.join(keys)}), not {include_re!r}"
        )
    wanted = {include_re} if isinstance(include_re, str) else set(include_re)
    for name in wanted - set(keys):
        raise InterlaceError(
            f"include_re names {name!r}, which is not a grouping factor of the model: "
            f"{', '.join(keys)}"
        )
    return [t.group in wanted for t in terms]


def _check(interval: str | None, level: float) -> None:
    interval = choose("interval", interval, (None, "confidence", "prediction"))
    check_level(level)


# ------------------------------------------------------------------ rows


def rows_used(design: Design, include: Sequence[bool]) -> NewRows:
    """The rows of the fit."""
    codes = [
        own if wanted else np.full(len(own), -1)
        for own, wanted in zip(design.codes, include, strict=True)
    ]
    return NewRows(
        design.X, design.offset, codes, design.Z, weights=design.weights, index=design.labels
    )


# ------------------------------------------------------------------ numbers


def center_of(rows: NewRows, names: tuple[str, ...], estimate: AnyEstimate) -> Floats:
    """``offset + X beta + Z b``; columns dropped for rank, and unknown levels, contribute 0."""
    beta = np.zeros(len(names))
    beta[columns_kept(names, estimate.A.names)] = estimate.beta
    total: Floats = rows.X @ beta
    if rows.offset is not None:
        total += rows.offset
    for codes, Z, b in zip(rows.codes, rows.Z, estimate.b, strict=True):
        known = codes >= 0
        part = _random_part(np.where(known, codes, 0), Z, b)
        total += np.where(known | np.isnan(part), part, 0.0)
    return total


def _random_part(codes: Codes, Z: Floats, b: Floats) -> Floats:
    """``Z b`` by row."""
    if is_ones(Z):
        return np.asarray(b[codes, 0], dtype=np.float64)
    total: Floats = np.einsum("ij,ij->i", Z, b[codes])
    return total


def _errors(
    rows: NewRows,
    X: Floats,
    estimate: Estimate,
    include: Sequence[bool],
    reference: Reference | None,
    *,
    new: bool,
) -> Floats:
    """Standard errors of the expected response, or of a new one, ``(m,)``."""
    units, power = estimate.units, 0
    fixed = None if any(include) or reference is None else standard_errors(reference, X)
    if units is not None:  # as if in other units
        rows, X = _in_units(rows, units), np.ldexp(X, -units.fixed)
        estimate, power = estimate.tame, units.response
        fixed = None if fixed is None else np.ldexp(fixed, -power)
    variance = _variance(rows, X, estimate, include) if fixed is None else fixed**2
    if new:
        w = 1.0 if rows.weights is None else rows.weights
        variance += estimate.sigma**2 / w + draws(rows, estimate, [not one for one in include])
    return in_units(np.sqrt(variance), power, "a standard error")


def _in_units(rows: NewRows, units: Units) -> NewRows:
    """Rows measured in units."""
    return replace(
        rows,
        Z=tuple(np.ldexp(Z, -one) for Z, one in zip(rows.Z, units.random, strict=True)),
        weights=None if rows.weights is None else np.ldexp(rows.weights, -units.weights),
    )


def _variance(rows: NewRows, X: Floats, estimate: Estimate, include: Sequence[bool]) -> Floats:
    """Variance of the expected response, ``(m,)``; new levels of included terms are draws."""
    if not any(include):
        return _forms(X, estimate.vcov)
    made = in_basis(estimate.A.basis, rows.codes, rows.Z, X)
    known = quadratic_forms(estimate.evaluation.dense(_ERRORS, _INSTEAD), made)
    return estimate.sigma**2 * known + draws(rows, estimate, include)


def draws(rows: NewRows, estimate: AnyEstimate, wanted: Sequence[bool]) -> Floats:
    """``sum of z'Sigma z`` over the wanted terms of which a row has no known level."""
    total = np.zeros(len(rows.X))
    parts = zip(rows.codes, rows.Z, estimate.covariances, wanted, strict=True)
    for codes, Z, Sigma, want in parts:
        if want:
            form = _forms(Z, Sigma)
            total += np.where((codes < 0) | np.isnan(form), form, 0.0)
    return total


def _forms(rows: Floats, V: Floats) -> Floats:
    """``r'V r`` for every row."""
    return np.asarray(np.einsum("ij,ij->i", rows @ V, rows), dtype=np.float64)


def _df(reference: Reference, X: Floats) -> Floats:
    """Degrees of freedom of every row, each distinct one asked for once; NaN where missing."""
    df = np.full(len(X), np.nan)
    complete = ~np.isnan(X).any(axis=1)
    distinct, which = np.unique(X[complete], axis=0, return_inverse=True)
    df[complete] = reference.df(distinct)[which.ravel()]
    return df


def table_of(
    center: Floats,
    error: Floats,
    index: pd.Index,
    df: Floats | None,
    level: float | None,
) -> pd.DataFrame:
    """The frame that :func:`predict` returns, with limits if there is a ``level``."""
    se = np.where(np.isnan(center), np.nan, error)
    center = np.where(np.isnan(se), np.nan, center)
    columns = {"prediction": center, "se": se}
    if level is not None:
        half = (normal_reach(level) if df is None else reach(level, df)) * se
        columns |= {"lower": center - half, "upper": center + half}
    return pd.DataFrame(columns, index=index)
