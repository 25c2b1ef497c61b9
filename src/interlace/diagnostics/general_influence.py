"""Leverage and influence in generalised models: one step at the mode, and exact by warm refits.

With the variance parameters held, fixed and random effects solve the equations of a linear model of
the working response.  Taking rows out of those at the mode is one Newton step; its change of the
fixed effects is ``d = V D_a' (I - W_a H_aa)^-1 g_a``, with ``D = X - Z C~ Z'WX``, ``V = (X'PX)^-1``
and ``H_aa = Z_a C~ Z_a' + D_a V D_a'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interlace.design.recipe import require_rows
from interlace.diagnostics.chance import KEPT, Chances, chances, law_chances, limits_of
from interlace.diagnostics.changes import Influence, measures
from interlace.diagnostics.general_leftout import estimate_without
from interlace.diagnostics.general_leverage import by_unit
from interlace.diagnostics.units import is_rows, unit_index, unit_rows
from interlace.errors import InterlaceError
from interlace.estimation.parameters import entry_names
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.leverage import Leverage
from interlace.machine.progress import counter
from interlace.model.drawn import law_at
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats

_MEASURES = ("cooksd", "mdffits", "covtrace", "covratio")
# Smallest singular value of what a deletion leaves, below which it leaves nothing.
_ALONE = 1e-10


def general_influence(
    model: FittedGeneralModel, level: int | str, approx: bool, progress: bool | None
) -> pd.DataFrame:
    """Influence of rows or groups; see :func:`interlace.hlm_influence`."""
    design = require_rows(model.design, "hlm_influence")
    index, units = unit_index(design, level), unit_rows(design, level)
    lever = Leverage(model.estimate.evaluation)
    hat = by_unit(lever.overall, model, level)
    changes, growth = _one_step(lever, units)
    if approx:
        found = _columns(measures(changes, growth))
        table = pd.DataFrame(found | {"leverage.overall": hat}, index=index)
    else:
        columns, notes = _refits(model, units, progress)
        measured = {name: columns.pop(name) for name in _MEASURES}
        table = pd.DataFrame(measured | {"leverage.overall": hat} | columns, index=index)
        table["note"] = notes
    table.attrs[KEPT] = limits_of(_chances(model, growth, level))
    return table


def general_chances(model: FittedGeneralModel, level: int | str) -> tuple[Floats, Chances]:
    """Cook's distances of rows or groups, and how large they get by chance."""
    design = require_rows(model.design, "hlm_influence")
    lever = Leverage(model.estimate.evaluation)
    changes, growth = _one_step(lever, unit_rows(design, level))
    return measures(changes, growth).cooksd, _chances(model, growth, level)


def _chances(model: FittedGeneralModel, growth: Floats, level: int | str) -> Chances:
    """How large measures get in healthy data."""
    p = growth.shape[1]
    if is_rows(level):
        known = np.nan_to_num(np.einsum("ijj->i", growth))
        return law_chances(law_at(model, model.estimate.eta), known, p)
    inside = growth[np.isfinite(growth).all(axis=(1, 2))]
    return chances(np.asarray(np.linalg.eigvalsh(inside), dtype=np.float64), np.inf, p)


def _columns(found: Influence) -> dict[str, Floats]:
    return {name: getattr(found, name) for name in _MEASURES}


# ------------------------------------------------------------------ one step


def _one_step(lever: Leverage, units: list[Codes]) -> tuple[Floats, Floats]:
    """Changes (m, p) and growths (m, p, p) of all deletions, variance parameters held.

    NaN where nothing but the unit tells of a coefficient.
    """
    root = np.linalg.cholesky(lever.vcov)
    W, g = lever.evaluation.mode.curve.W, lever.evaluation.mode.curve.g
    p, D = len(root), lever.directions @ root
    changes, spread = np.empty((len(units), p)), np.empty((len(units), p, p))
    for i, rows in enumerate(units):
        d, w = D[rows], W[rows]
        H = _among(lever, rows) + d @ d.T
        left = np.eye(len(rows)) - w[:, None] * H
        if np.linalg.svd(left, compute_uv=False)[-1] < _ALONE:
            changes[i], spread[i] = np.nan, np.nan
            continue
        K = np.linalg.solve(left, np.column_stack((g[rows], w[:, None] * d)))
        changes[i] = d.T @ K[:, 0]
        spread[i] = d.T @ K[:, 1:]
    return changes, spread


def _among(lever: Leverage, rows: Codes) -> Floats:
    """``Z_a C~ Z_a'`` of some rows."""
    found, problem = lever.evaluation, lever.evaluation.problem
    if len(rows) == 1:
        return np.asarray(found.leverages[rows])[:, None]
    sides, blocks = [], []
    for term, codes, Z in zip(problem.rows.terms, problem.rows.codes, problem.rows.Z, strict=True):
        z = np.ones((len(rows), 1)) if Z is None else Z[rows]
        side = np.zeros((term.l, term.k, len(rows)))
        side[codes[rows], :, np.arange(len(rows))] = z
        sides.append(side)
        blocks.append((codes[rows], z))
    images = found.equations.solve(sides)
    total = np.zeros((len(rows), len(rows)))
    for (codes, z), image in zip(blocks, images, strict=True):
        total += np.einsum("ik,ikc->ic", z, image[codes])
    return 0.5 * (total + total.T)


# ------------------------------------------------------------------ refits


@dataclass(frozen=True, eq=False)
class _Values:
    """What is compared between fits."""

    beta: Floats
    vcov: Floats
    components: Mapping[str, float]


def _refits(
    model: FittedGeneralModel, units: list[Codes], progress: bool | None
) -> tuple[dict[str, Floats], list[str]]:
    """Measures and changes of refits from the optimum of the fit, and why some are missing."""
    before = _values(model, model.estimate)
    root = np.asarray(np.linalg.cholesky(before.vcov), dtype=np.float64)
    names = [f"rvc.{name}" for name in before.components]
    names += [f"dfbetas.{name}" for name in model.estimate.A.names]
    found = {name: np.full(len(units), np.nan) for name in (*_MEASURES, *names)}
    notes = [""] * len(units)
    with counter(len(units), progress, what="refits", unit="deletions") as advance:
        for i, rows in enumerate(units):
            try:
                after = _values(model, estimate_without(model, rows))
            except InterlaceError as error:
                notes[i] = str(error)
            else:
                for name, value in _changed(before, after, root, model).items():
                    found[name][i] = value
            advance(1)
    return found, notes


def _values(model: FittedGeneralModel, estimate: GeneralEstimate) -> _Values:
    components = {}
    for term, S in zip(estimate.A.terms, estimate.covariances, strict=True):
        names = entry_names(term, "var_{}", "cov_{}.{}")
        for name, b, a in zip(names, *term.template.entries, strict=True):
            components[f"{name}|{term.group}"] = float(S[b, a])
    if model.family.auxiliary and estimate.auxiliary is not None:
        components[model.family.auxiliary] = estimate.auxiliary
    return _Values(estimate.beta, estimate.vcov, components)


def _changed(
    before: _Values, after: _Values, root: Floats, model: FittedGeneralModel
) -> dict[str, float]:
    """Measures of one refit, by the covariances in which all parameters are estimated."""
    d = before.beta - after.beta
    inner = np.asarray(np.linalg.solve(root, d), dtype=np.float64)
    relative = np.linalg.solve(root, np.linalg.solve(root, after.vcov).T)
    one = measures(inner[None], (0.5 * (relative + relative.T) - np.eye(len(d)))[None])
    values = {name: float(getattr(one, name)[0]) for name in _MEASURES}
    for name, old in before.components.items():
        values[f"rvc.{name}"] = after.components[name] / old - 1.0 if old else np.nan
    t = (after.beta - before.beta) / np.sqrt(np.diag(after.vcov))
    return values | {
        f"dfbetas.{name}": float(v) for name, v in zip(model.estimate.A.names, -t, strict=True)
    }
