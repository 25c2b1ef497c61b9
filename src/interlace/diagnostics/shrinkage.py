"""Random effects before shrinkage: what each level says on its own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interlace.design.recipe import require_rows
from interlace.diagnostics.leastsquares import group_fits
from interlace.errors import InterlaceError
from interlace.model.fitted import FittedModel
from interlace.model.kinds import require_linear


def raw_effects(result: FittedModel, key: str) -> pd.Series | pd.DataFrame:
    """Least-squares counterparts of the random effects of a grouping factor, by level.

    Parameters
    ----------
    result
        A fitted model.
    key
        Name of the grouping factor.

    Returns
    -------
    Series or DataFrame
        Shaped like ``result.random_effects[key]``, in the same units.  For an intercept alone it
        is the (weighted) mean, in the level, of the response less everything else in the model:
        fixed effects, offset, random effects of other grouping factors.  With slopes it is the
        least-squares regression of that on the columns of the random terms.  NaN where the rows of
        a level do not determine all of its columns.

    Raises
    ------
    InterlaceError
        An unknown grouping factor, or a result without rows.

    Notes
    -----
    A BLUP is this estimate drawn towards zero, the more the less a level tells.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
    >>> raw = raw_effects(result, "Subject")
    >>> (result.random_effects["Subject"] / raw).round(4).unique().tolist()
    [0.9349]
    """
    effects = result.random_effects
    if key not in effects:
        raise InterlaceError(f"no grouping factor {key!r}; the model has {', '.join(effects)}")
    require_linear(result, "raw_effects")
    design = require_rows(result.design, "raw_effects")
    members = [j for j, term in enumerate(design.terms) if term.group == key]
    Z = np.concatenate([design.Z[j] for j in members], axis=1)
    b = np.concatenate([result.estimate.b[j] for j in members], axis=1)
    codes, w = design.codes[members[0]], design.weights
    rest = result.resid + np.einsum("ik,ik->i", Z, b[codes])
    root = np.ones(len(rest)) if w is None else np.sqrt(w)
    raw = group_fits(codes, len(b), root[:, None] * Z, root * rest).coef
    raw[np.isnan(raw).any(axis=1)] = np.nan
    found = effects[key]
    if isinstance(found, pd.Series):
        return pd.Series(raw[:, 0], index=found.index, name=found.name)
    return pd.DataFrame(raw, index=found.index, columns=found.columns)
