"""Means of a generalised model on the scale of the response.

Means over the grid are averages of linear predictors.  On the scale of the response they are mapped
by the link, which gives those of a typical group; or averaged over the random effects, each with
the mean variance ``z'Sigma z`` of its part of the grid, which gives those of the population.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from interlace.design.encode import replay_side
from interlace.design.frame import open_table
from interlace.design.reads import columns_read
from interlace.errors import InterlaceError
from interlace.glmm.averages import averaged
from interlace.inference.latent import Given
from interlace.inference.means.averages import Functions, means
from interlace.inference.means.grid import Grid
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.terms import Floats

# Links with which a difference of linear predictors is the logarithm of a ratio, and of what.
RATIOS = {"log": "Ratios", "logit": "Odds ratios"}


def population(
    model: FittedGeneralModel, grid: Grid, functions: Functions, weights: str
) -> tuple[Functions, Given]:
    """Means over the random effects, and functions of them that are these means themselves.

    Raises
    ------
    InterlaceError
        The random effects read a column that is not in the grid, or exceed a bounded link.
    """
    estimate, known = model.estimate, functions.estimable
    problem = estimate.problem
    t, p, r = problem.sizes
    spread = _spread(model, grid, functions, weights)[known]
    L = functions.L[known]
    sd = np.sqrt(np.maximum(spread[:, 0], 0.0))
    found = averaged(model.link, L @ estimate.beta, sd)
    J = np.concatenate(
        (
            found.d2[:, None] * spread[:, 1:],
            found.d1[:, None] * (L @ problem.rows.fixed),
            np.zeros((len(L), r)),
        ),
        axis=1,
    )
    assert J.shape[1] == t + p + r
    return as_parameters(functions, found.value, J @ estimate.covariance @ J.T)


def as_parameters(functions: Functions, value: Floats, vcov: Floats) -> tuple[Functions, Given]:
    """Functions that are parameters of their own, of estimates of those that are estimable."""
    k, known = len(functions.L), functions.estimable
    own = np.where(known[:, None], np.eye(k), np.nan)
    values, covariance = np.zeros(k), np.zeros((k, k))
    values[known] = value
    covariance[np.ix_(known, known)] = vcov
    return replace(functions, L=own, excess=np.zeros((k, 0))), Given(values, covariance)


def _spread(model: FittedGeneralModel, grid: Grid, functions: Functions, weights: str) -> Floats:
    """``z'Sigma z`` of the means, and half its derivatives in the templates, ``(k, 1 + t)``."""
    problem, at = model.estimate.problem, model.estimate.at
    size = problem.sizes[0]
    total = np.zeros((grid.size, 1 + size))
    steps = [problem.unpack(unit).templates for unit in np.eye(size, sum(problem.sizes))]
    for j, (side, B) in enumerate(zip(model.encoding.slopes, problem.rows.random, strict=True)):
        z = _columns(model, side.text, j, grid) @ B
        zT = z @ at.templates[j]
        total[:, 0] += (zT**2).sum(axis=1)
        for i, step in enumerate(steps):
            total[:, 1 + i] += np.einsum("mk,mk->m", z @ step[j], zT)
    over = replace(grid, X=total, excess=np.zeros((grid.size, 0)))
    return means(over, functions.inner, functions.by, weights).L


def _columns(model: FittedGeneralModel, text: str, j: int, grid: Grid) -> Floats:
    """Columns left of a bar in the rows of the grid."""
    side, context = model.encoding.slopes[j], model.encoding.context
    if side.text == "1":
        return np.ones((grid.size, 1))
    table = open_table(model.data) if model.data is not None else None
    read = [] if table is None else columns_read([text], table, context)
    for name in read:
        if name not in grid.columns:
            raise InterlaceError(
                f"the random effects read '{name}', which the fixed effects and so the grid do not "
                f"have: their variance there is not known; use type='response'"
            )
    return replay_side(side, grid.columns, grid.size, context)


def ratio_names(labels: Iterable[object]) -> list[str]:
    """Names of differences as names of ratios: ``"a - b"`` to ``"a / b"``."""
    return [str(label).replace(" - ", " / ") for label in labels]
