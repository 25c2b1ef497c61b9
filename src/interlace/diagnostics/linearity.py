"""Whether numbers among the fixed effects should bend: score tests of their squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import chdtrc, fdtrc

from interlace.design.design import Design
from interlace.design.recipe import require_rows
from interlace.diagnostics.changes import OneStep, one_step
from interlace.diagnostics.units import design_of
from interlace.glmm.laplace import Evaluation
from interlace.glmm.leverage import Leverage
from interlace.model.fitted import Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.solver.solve import solve
from interlace.sums.crossprod import group_sums
from interlace.sums.terms import Floats

# Share of a square that must be left beside the model for a test of it.
_LEFT = 1e-8


def check_linearity(result: Labelled[Any]) -> pd.DataFrame:
    """Whether the squares of the numeric columns would improve the fixed effects.

    Parameters
    ----------
    result
        A fitted model that holds its rows.

    Returns
    -------
    DataFrame
        By numeric term that has one column and is no interaction: ``statistic``, ``df`` (of a
        column that is constant in the levels of a grouping factor the levels less the columns that
        are) and ``p``.  Columns whose square the model holds already are left out.

    Raises
    ------
    InterlaceError
        The result has no rows.

    Notes
    -----
    Score tests with the variance parameters held: with ``z`` the square of the column about its
    mean, ``(z'Py)^2 / (sigma^2 z'Pz)``, an F variable with 1 and ``df``.  Of generalised models
    ``Py`` is the score of the linear predictors at the mode and ``P`` the working weights with all
    effects projected out, and the statistic a chi-squared variable.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> check_linearity(result)["p"].round(2).to_dict()
    {'Days': 0.2}
    """
    general = isinstance(result, FittedGeneralModel)
    design = require_rows(result.design, "check_linearity") if general else design_of(result)
    names, columns = _numeric(result, design)
    if not names:
        return _table([], [], [])
    z = np.stack([(x - x.mean()) ** 2 for x in columns], axis=1)
    z /= np.abs(z).max(axis=0)
    score, information, whole = (_general if general else _linear)(result, design, z)
    kept = np.flatnonzero(information > _LEFT * whole)
    statistic = score[kept] ** 2 / information[kept]
    df = np.array([np.inf if general else _df(result, design, columns[i]) for i in kept])
    return _table([names[i] for i in kept], statistic, df)


def _table(
    names: list[str], statistic: Floats | list[float], df: Floats | list[float]
) -> pd.DataFrame:
    """One row a term."""
    x, f = np.asarray(statistic, dtype=np.float64), np.asarray(df, dtype=np.float64)
    finite = np.where(np.isinf(f), 1.0, f)
    p = np.where(np.isinf(f), chdtrc(1, x), fdtrc(1, finite, x))
    index = pd.Index(names, name="term", dtype=object)
    return pd.DataFrame({"statistic": x, "df": f, "p": p}, index=index)


def _numeric(result: Labelled[Any], design: Design) -> tuple[list[str], list[Floats]]:
    """Terms of one numeric column with more than two values, and the columns."""
    names, columns, side = [], [], result.encoding.fixed
    for term in side.terms:
        if len(term.factors) != 1 or len(term.columns) != 1:
            continue
        name = side.names[term.columns[0]]
        if name not in result.estimate.A.names or name not in design.names:
            continue
        x = np.asarray(design.X[:, list(design.names).index(name)], dtype=np.float64)
        if len(np.unique(x)) > 2:
            names.append(str(term.label))
            columns.append(x)
    return names, columns


def _df(result: Labelled[Any], design: Design, x: Floats) -> float:
    """Degrees of freedom of the variance that a column is compared with."""
    X = design.fixed(result.estimate.A.names)
    least = float(len(x) - X.shape[1])
    for term, codes in zip(design.terms, design.codes, strict=True):
        if _is_constant(codes, term.l, x):
            between = sum(_is_constant(codes, term.l, column) for column in X.T)
            least = min(least, float(term.l - between - 1))
    return max(least, 1.0)


def _is_constant(codes: np.ndarray[Any, Any], l: int, x: Floats) -> bool:
    """Whether a column has one value in every level."""
    count = np.maximum(np.bincount(codes, minlength=l), 1)
    mean = group_sums(codes, l, x[:, None])[:, 0] / count
    return bool(np.abs(x - mean[codes]).max() <= 1e-9 * np.abs(x).max())


# ------------------------------------------------------------------ scores, (c,) each


def _linear(result: Labelled[Any], design: Design, z: Floats) -> tuple[Floats, Floats, Floats]:
    """``z'Py``, ``z'Pz`` and ``z'z``, over ``sigma``."""
    step = one_step(design, result.estimate)
    z = z * design.root_weights[:, None]
    return z.T @ step.e, (z * _projected(step, z)).sum(axis=0), (z**2).sum(axis=0)


def _projected(step: OneStep, z: Floats) -> Floats:
    """``P z``."""
    rows = step.deletable.rows
    sides = []
    for term, codes, Z in zip(step.factor.A.terms, rows.codes, rows.Z, strict=True):
        products = (Z[:, :, None] * z[:, None, :]).reshape(len(z), -1)
        sides.append(group_sums(codes, term.l, products).reshape(term.l, term.k, -1))
    b, beta = solve(step.factor, sides, rows.X.T @ z)
    left = z - rows.X @ beta
    for codes, Z, image in zip(rows.codes, rows.Z, b, strict=True):
        left -= np.einsum("ik,ikc->ic", Z, image[codes])
    return left


def _general(result: Labelled[Any], design: Design, z: Floats) -> tuple[Floats, Floats, Floats]:
    """Scores at the mode, their information, and that without any effect."""
    found: Evaluation = result.estimate.evaluation
    lever, curve, rows = Leverage(found), found.mode.curve, found.problem.rows
    Wz = curve.W[:, None] * z
    images = found.equations.solve(rows.sums(Wz))
    left = z - np.stack(
        [rows.image([b[:, :, i] for b in images]) for i in range(z.shape[1])], axis=1
    )
    crossed = rows.X.T @ (curve.W[:, None] * left)
    information = (Wz * left).sum(axis=0)
    information -= np.einsum("pc,pq,qc->c", crossed, lever.vcov, crossed)
    return z.T @ curve.g, information, (Wz * z).sum(axis=0)
