"""Influence of rows and groups: one-step measures at fixed theta, and exact refits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.design.design import Design
from interlace.diagnostics.chance import KEPT, Chances, group_chances, limits_of, row_chances
from interlace.diagnostics.changes import (
    MEASURES,
    Influence,
    OneStep,
    changes,
    measures,
    one_step,
    row_changes,
    set_changes,
)
from interlace.diagnostics.cutoffs import Cutoff, cutoff_limits
from interlace.diagnostics.general_influence import general_chances, general_influence
from interlace.diagnostics.refitting import Deleter, Refitted
from interlace.diagnostics.units import design_of, grouping, is_rows, unit_index, unit_rows
from interlace.errors import unknown
from interlace.estimation.estimate import Estimate
from interlace.estimation.parameters import entry_names
from interlace.machine.progress import counter
from interlace.machine.threads import threads_for
from interlace.model.fitted import Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.crossprod import group_sums
from interlace.sums.terms import Floats, ReTerm

# Relative variances that count as zero: nothing can be said relative to them.
_ZERO = 1e-14


def hlm_influence(
    result: Labelled[Any],
    level: int | str = 1,
    approx: bool = True,
    *,
    progress: bool | None = None,
) -> pd.DataFrame:
    """How much the estimates change when a row, or a group, is left out.

    Parameters
    ----------
    result
        A fitted model.
    level
        1 for rows, or the name of a grouping factor of the model.
    approx
        ``True`` keeps ``theta`` and ``sigma`` at their estimates, which has a closed form;
        ``False`` fits the model again without each row or group, and adds how the variances and
        coefficients change.
    progress
        Whether to show how many refits are done; by default on a terminal, if it takes long.

    Returns
    -------
    DataFrame
        By row, numbered from 0 in the order used, or by level of the factor: ``cooksd, mdffits,
        covtrace, covratio, leverage.overall`` (of a level, the mean of its rows).  With
        ``approx=False`` also ``rvc.<component>``, ``dfbetas.<coefficient>`` and ``note``.
        Components are ``var_<column>|<group>``, ``cov_<later>.<earlier>|<group>`` and ``sigma2``.

        Where the model has no fit without the row or group, the row holds NaN and ``note`` says
        why (it is empty elsewhere): one level of a factor is left, the fixed effects are rank
        deficient, no residual degrees of freedom.  With ``approx=True`` the column is there only if
        some row needs it.

        ``attrs["nominal_cutoffs"]`` holds the values of ``cooksd`` and ``mdffits`` that no row or
        group of healthy data exceeds, 19 times in 20; see :mod:`interlace.diagnostics.chance`.

    Raises
    ------
    InterlaceError
        ``level`` is neither 1 nor a grouping factor, the result has no rows, or it was fitted by
        the iterative solver.

    Notes
    -----
    With ``C = vcov(beta)``, ``(a)`` for estimates without the row or group and
    ``d = beta - beta(a)``: ``cooksd = d' C^-1 d / p``, ``mdffits = d' C(a)^-1 d / p``, ``covtrace =
    |tr(C^-1 C(a)) - p|``, ``covratio = det C(a) / det C``; ``rvc = component(a) / component - 1``
    [1]_, NaN for a component estimated as zero; ``dfbetas = (beta(a) - beta) / se(a)``.

    At fixed ``theta`` and ``sigma``, with ``P`` the inverse of the covariance ``V`` of the response
    with the fixed effects projected out, ``d = C X'V^-1[,a] P[a,a]^-1 (V^-1 e)[a]`` and ``C(a) = C
    + C X'V^-1[,a] P[a,a]^-1 V^-1[a,]X C`` [2]_.  Refits subtract the cross-products of the rows
    from those of the fit and start at its ``theta``.

    Of a generalised model the closed form is one Newton step at the mode, of the linear model of
    the working response, variance parameters held, and ``C`` its covariance; refits have the
    covariance in which all parameters are estimated, and ``rvc`` of the dispersion, size or
    precision too.

    References
    ----------
    .. [1] Dillane (2005), Deletion diagnostics for the linear mixed model, Trinity College Dublin.
    .. [2] Christensen, Pearson and Johnson (1992), Technometrics 34, 38-45; names are HLMdiag's.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> hlm_influence(result, level="Subject").head(2).round(4)
             cooksd  mdffits  covtrace  covratio  leverage.overall
    Subject
    308      0.0924   0.0873    0.1176    1.1211            0.1612
    309      0.1485   0.1403    0.1176    1.1211            0.1612
    >>> exact = hlm_influence(result, level="Subject", approx=False)
    >>> exact[["cooksd", "rvc.var_Days|Subject", "dfbetas.Days"]].head(2).round(4)
             cooksd  rvc.var_Days|Subject  dfbetas.Days
    Subject
    308      0.0924               -0.1311       -0.4489
    309      0.1485               -0.0621        0.3099
    """
    if isinstance(result, FittedGeneralModel):
        return general_influence(result, level, approx, progress)
    design = design_of(result)
    index = unit_index(design, level)
    with threads_for(result.estimate.criterion.rows_at_once):
        step = one_step(design, result.estimate, roughly=not approx)
        if approx:
            return _one_step_table(step, design, level, index)
        return _refit_table(step, design, level, index, progress)


def _refit_table(
    step: OneStep,
    design: Design,
    level: int | str,
    index: pd.Index,
    progress: bool | None,
) -> pd.DataFrame:
    """Measures and changes of exact refits, and why some are missing."""
    refitted = _refit(step, design, level, progress)
    found = _exact_measures(step, refitted)
    _, chances = _one_step_measures(step, design, level, refitted=True)
    columns = _columns(found) | {"leverage.overall": _leverage(step, design, level)}
    columns |= _component_columns(step.estimate, refitted)
    columns |= _coefficient_columns(step.estimate, refitted)
    table = _table(columns, index)
    table["note"] = _notes(refitted)
    table.attrs[KEPT] = limits_of(chances)
    return table


def _one_step_table(
    step: OneStep, design: Design, level: int | str, index: pd.Index
) -> pd.DataFrame:
    """The table at fixed theta and sigma."""
    found, chances = _one_step_measures(step, design, level)
    columns = _columns(found) | {"leverage.overall": _leverage(step, design, level)}
    table = _table(columns, index)
    table.attrs[KEPT] = limits_of(chances)
    missing = np.flatnonzero(np.isnan(columns["covratio"]))
    if not len(missing):
        return table
    sets, notes = unit_rows(design, level), [""] * len(table)
    for i in missing:
        notes[i] = step.deletable.undetermined(sets[i]) or "the rest does not determine the fit"
    return table.assign(note=notes)


def _one_step_measures(
    step: OneStep, design: Design, level: int | str, *, refitted: bool = False
) -> tuple[Influence, Chances]:
    """Measures of all units, and how large they get by chance."""
    if is_rows(level):
        found = row_changes(step)
        return found, row_chances(step, found.covtrace)
    g, G = set_changes(step, unit_rows(design, level))
    return measures(g, G), group_chances(step, G, refitted=refitted)


def _table(columns: dict[str, Floats], index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(np.column_stack(list(columns.values())), index=index, columns=[*columns])


def _columns(found: Influence) -> dict[str, Floats]:
    return {name: getattr(found, name) for name in MEASURES}


def _leverage(step: OneStep, design: Design, level: int | str) -> Floats:
    """Hat values of the rows, or their means by level."""
    if is_rows(level):
        return step.h
    term, codes = grouping(design, level)
    sums = group_sums(codes, term.l, step.h[:, None])[:, 0]
    return np.asarray(sums / np.bincount(codes, minlength=term.l))


# ------------------------------------------------------------------ exact refits


def _refit(step: OneStep, design: Design, level: int | str, progress: bool | None) -> Refitted:
    """Fits without each row or group."""
    sets = unit_rows(design, level)
    what = "rows" if is_rows(level) else str(level)
    with counter(len(sets), progress, what=f"without {what}", unit="refits") as advance:
        return Deleter(step.deletable, step.estimate).refit(sets, advance)


def _exact_measures(step: OneStep, refitted: Refitted) -> Influence:
    ratio = refitted.sigma2 / step.sigma**2
    return measures(*changes(step.factor, step.sigma, refitted.beta, refitted.C, ratio))


def _notes(refitted: Refitted) -> NDArray[np.object_]:
    notes = np.full(len(refitted.sigma2), "", dtype=object)
    for i, note in refitted.notes.items():
        notes[i] = note
    return notes


def _coefficient_columns(estimate: Estimate, refitted: Refitted) -> dict[str, Floats]:
    """``dfbetas``; the unit of the response drops out."""
    F = estimate.A.basis.fixed[:-1, :-1]
    change = (refitted.beta - estimate.evaluation.factor.beta) @ F.T
    variances = np.einsum("ap,bpq,aq->ba", F, refitted.C, F, optimize=True)
    values = change / np.sqrt(refitted.sigma2[:, None] * variances)
    return {f"dfbetas.{name}": values[:, i] for i, name in enumerate(estimate.A.names)}


def _component_columns(estimate: Estimate, refitted: Refitted) -> dict[str, Floats]:
    """Relative changes of variances and covariances."""
    factor, A = estimate.evaluation.factor, estimate.A
    sigma2 = estimate.evaluation.sigma2
    columns: dict[str, Floats] = {}
    parts = zip(A.terms, A.basis.random, factor.templates, refitted.templates, strict=True)
    sizes = A.basis.root_mean_squares
    for (term, B, T, others), size in zip(parts, sizes, strict=True):
        before = _relative_covariance(B @ T, size)
        after = _relative_covariance(B @ others, size)
        for name, a, b in _entries(term):
            rate = refitted.sigma2 / sigma2
            columns[f"rvc.{name}"] = _relative(after[:, a, b] * rate, float(before[a, b]))
    columns["rvc.sigma2"] = refitted.sigma2 / sigma2 - 1.0
    return columns


def _relative_covariance(T: Floats, size: Floats) -> Floats:
    """``T T'`` with rows per root mean square of their column; zero where it is rounding."""
    scaled = size[:, None] * T
    S = scaled @ np.swapaxes(scaled, -1, -2)
    variances = np.diagonal(S, axis1=-2, axis2=-1)
    zero = variances < _ZERO
    return np.where(zero[..., :, None] | zero[..., None, :], 0.0, S)


def _relative(after: Floats, before: float) -> Floats:
    """``after / before - 1``, NaN relative to zero."""
    return after / before - 1.0 if before else np.full(len(after), np.nan)


def _entries(term: ReTerm) -> list[tuple[str, int, int]]:
    """Names and places of the components of a term, in the order of ``estimation.parameters``."""
    names = entry_names(term, "var_{}", "cov_{}.{}")
    return [
        (f"{name}|{term.group}", b, a)
        for name, b, a in zip(names, *term.template.entries, strict=True)
    ]


def most_influential(result: Labelled[Any], level: int | str) -> tuple[object, float, float, int]:
    """The unit with the largest Cook's distance, that, how probable one as large is by chance in
    any unit, and how many are beyond the nominal cut-off.
    """
    if isinstance(result, FittedGeneralModel):
        distance, chances = general_chances(result, level)
    else:
        design = design_of(result)
        found, chances = _one_step_measures(one_step(design, result.estimate), design, level)
        distance = found.cooksd
    if "cooksd" not in chances or not np.isfinite(distance).any():
        return "", np.nan, np.nan, 0
    worst = int(np.nanargmax(distance))
    chance, largest = chances["cooksd"], float(distance[worst])
    unit = unit_index(result.design, level)[worst] if result.design is not None else worst
    return unit, largest, chance.beyond(largest), int((distance > chance.limit).sum())


# ------------------------------------------------------------------ one measure at a time


def cooks_distance(result: Labelled[Any], level: int | str = 1, approx: bool = True) -> pd.Series:
    """Cook's distance of rows or groups: the column ``cooksd`` of :func:`hlm_influence`.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> cooks_distance(result, level="Subject").nlargest(2).round(3).to_dict()
    {'309': 0.149, '335': 0.129}
    """
    return hlm_influence(result, level, approx)["cooksd"]


def mdffits(result: Labelled[Any], level: int | str = 1, approx: bool = True) -> pd.Series:
    """MDFFITS of rows or groups: the column of :func:`hlm_influence`."""
    return hlm_influence(result, level, approx)["mdffits"]


def covtrace(result: Labelled[Any], level: int | str = 1, approx: bool = True) -> pd.Series:
    """COVTRACE of rows or groups: the column of :func:`hlm_influence`."""
    return hlm_influence(result, level, approx)["covtrace"]


def covratio(result: Labelled[Any], level: int | str = 1, approx: bool = True) -> pd.Series:
    """COVRATIO of rows or groups: the column of :func:`hlm_influence`."""
    return hlm_influence(result, level, approx)["covratio"]


def rvc(
    result: Labelled[Any], level: int | str = 1, *, progress: bool | None = None
) -> pd.DataFrame:
    """Relative change of every variance and covariance without each row or group.

    By exact refits; the columns ``rvc.`` of :func:`hlm_influence`, without that prefix.

    Examples
    --------
    >>> import interlace
    >>> result = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch")
    >>> rvc(result, level="Batch").round(3).loc["A"].to_dict()
    {'var_Intercept|Batch': 0.268, 'sigma2': -0.124}
    """
    table = hlm_influence(result, level, False, progress=progress)
    chosen = [name for name in table.columns.astype(str) if name.startswith("rvc.")]
    return table[chosen].rename(columns=lambda name: str(name).removeprefix("rvc."))


def n_influential(
    result: Labelled[Any],
    level: int | str = 1,
    measure: str = "cooksd",
    *,
    cutoff: Cutoff = "nominal",
    approx: bool = True,
) -> int:
    """How many rows or groups have a measure beyond a cut-off.

    Parameters
    ----------
    result, level, approx
        As in :func:`hlm_influence`.
    measure
        A column of numbers of that table.
    cutoff
        As in :func:`~interlace.diagnostics.cutoffs.cutoff_limits`: ``"nominal"``, what no row or
        group of healthy data exceeds, 19 times in 20; ``"internal"``, three interquartile ranges
        beyond the quartiles, as HLMdiag has it, which flags one row in ten of healthy data;
        ``"4/n"``, with ``n`` rows or groups; or a number.  ``covratio, rvc`` and ``dfbetas`` also
        count where they are too small.

    Raises
    ------
    InterlaceError
        An unknown measure or cut-off.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> n_influential(result), n_influential(result, cutoff="internal")
    (1, 16)
    """
    return int(beyond(_measure(result, level, measure, approx), measure, cutoff).sum())


def check_influence(
    result: Labelled[Any],
    level: int | str = 1,
    measure: str = "cooksd",
    *,
    cutoff: Cutoff = "nominal",
    approx: bool = True,
) -> int:
    """How many rows or groups have a measure beyond a cut-off: :func:`n_influential`."""
    return n_influential(result, level, measure, cutoff=cutoff, approx=approx)


def beyond(values: pd.Series, measure: str, cutoff: Cutoff = "nominal") -> pd.Series:
    """Which values of a measure are beyond a cut-off, as :func:`n_influential` counts them."""
    low, high = cutoff_limits(values, measure, cutoff, values.attrs.get(KEPT))
    return (values < low) | (values > high)


def _measure(result: Labelled[Any], level: int | str, measure: str, approx: bool) -> pd.Series:
    """One column of the table."""
    table = hlm_influence(result, level, approx).drop(columns="note", errors="ignore")
    if measure not in table:
        more = "; rvc and dfbetas need approx=False" if approx else ""
        raise unknown("measure", measure, table.columns.astype(str), more)
    return table[measure]
