"""One table of all diagnostics of the rows, or of the levels of a grouping factor."""

from __future__ import annotations

import pandas as pd

from interlace.design.design import Design
from interlace.diagnostics.influence import hlm_influence
from interlace.diagnostics.leverage import leverage
from interlace.diagnostics.residuals import hlm_resid
from interlace.diagnostics.units import design_of, is_rows
from interlace.model.fitted import FittedModel


def hlm_augment(result: FittedModel, level: int | str = 1, approx: bool = True) -> pd.DataFrame:
    """Residuals, influence and leverage side by side.

    Parameters
    ----------
    result
        A fitted model.
    level
        1 for rows, or the name of a grouping factor.
    approx
        As in :func:`interlace.diagnostics.influence.hlm_influence`.

    Returns
    -------
    DataFrame
        By row: the response and the grouping factors, ``.resid, .fitted, .ls.resid, .ls.fitted,
        .mar.resid, .mar.fitted``, the columns of ``hlm_influence``, and ``leverage.fixef,
        leverage.ranef, leverage.ranef.uc``.  By level: the random effects of ``hlm_resid`` in
        place of the residuals.

    Raises
    ------
    InterlaceError
        ``level`` is neither 1 nor a grouping factor, or the result has no rows.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> hlm_augment(result)[["Reaction", "Subject", ".resid", "cooksd"]].head(2).round(4)
       Reaction Subject   .resid  cooksd
    0  249.5600     308  -4.1037  0.0001
    1  258.7047     308 -14.6252  0.0011
    """
    design = design_of(result)
    influence = hlm_influence(result, level, approx)
    parts = [influence]
    lever = leverage(result, level).drop(columns="overall").add_prefix("leverage.")
    if is_rows(level):
        residuals = [hlm_resid(result), hlm_resid(result, type="marginal")]
        parts = [_rows(result, design), *residuals, *parts]
    else:
        parts = [hlm_resid(result, level), *parts]
    found = pd.concat([*parts, lever], axis=1)
    found.attrs.update(influence.attrs)
    return found


def _rows(result: FittedModel, design: Design) -> pd.DataFrame:
    """Response and grouping factors."""
    factors = {
        term.group: term.levels[codes]
        for term, codes in zip(design.terms, design.codes, strict=True)
    }
    return pd.DataFrame({str(result.formula.response): design.y, **factors}, index=design.labels)
