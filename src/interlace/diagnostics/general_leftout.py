"""Generalised models without each group, and predictions of rows that were left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from interlace.design.recipe import require_rows
from interlace.diagnostics.leftout import CrossValidation, folds
from interlace.diagnostics.units import is_rows, unit_index, unit_rows
from interlace.errors import InterlaceError
from interlace.glmm.averages import averaged, nodes
from interlace.glmm.estimate import GeneralEstimate, estimate_general
from interlace.glmm.problem import Problem
from interlace.inference.bootstrap.general import GeneralParameters
from interlace.machine.progress import counter
from interlace.model.generalised import FittedGeneralModel, refuse_empty, refuse_pure
from interlace.model.simulate import Seed
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats


def estimate_without(model: FittedGeneralModel, rows: Codes) -> GeneralEstimate:
    """The model fitted without some rows, from the optimum of the fit.

    Raises
    ------
    InterlaceError
        It has no fit.
    """
    problem = model.estimate.problem
    less = problem.some(np.setdiff1d(np.arange(problem.rows.n), rows))
    less = less.responding(less.y)
    if np.linalg.matrix_rank(less.rows.X) < less.rows.p:
        raise InterlaceError("the fixed effects are rank deficient without it")
    refuse_empty(less.family, less.y)
    refuse_pure(less)
    found = estimate_general(less, model.estimate.approximation, near=model.estimate)
    if not found.convergence.converged:
        raise InterlaceError(f"the search did not converge: {found.convergence.message}")
    return found


def deletions_general(
    model: FittedGeneralModel, group: int | str, *, progress: bool | None = None
) -> pd.DataFrame:
    """Estimates without each level of a group, or each row; see the method ``deletions``."""
    design = require_rows(model.design, "deletions")
    index, sets = unit_index(design, group), unit_rows(design, group)
    reader = GeneralParameters(model)
    values, notes = np.full((len(sets), len(reader.names)), np.nan), [""] * len(sets)
    what = "rows" if is_rows(group) else str(group)
    for i, found in _each(model, sets, what, progress):
        if isinstance(found, str):
            notes[i] = found
        else:
            values[i] = reader.read(design, found)
    return pd.DataFrame(values, index=index, columns=reader.names).assign(note=notes)


def _each(
    model: FittedGeneralModel, sets: Sequence[Codes], what: str, progress: bool | None
) -> Iterator[tuple[int, GeneralEstimate | str]]:
    """The fit without each of some sets of rows, or why there is none."""
    with counter(len(sets), progress, what=f"without {what}", unit="refits") as advance:
        for i, rows in enumerate(sets):
            try:
                yield i, estimate_without(model, rows)
            except InterlaceError as error:
                yield i, str(error)
            advance(1)


# ------------------------------------------------------------------ cross-validation


@dataclass(frozen=True, eq=False, repr=False)
class GeneralCrossValidation(CrossValidation):
    """Predictions of rows by fits without them; ``table`` also has the logarithm of the probability
    (or density) of every response at its predicted mean, ``log_density``.
    """

    @property
    def scores(self) -> pd.DataFrame:
        """``rmse, mae, r2`` of the predicted means, and the mean ``log_density``."""
        table = self.table.dropna(subset=["predicted"])
        logs = table[["log_density", "fitted_log_density"]].mean()
        return super().scores.assign(log_density=logs.to_numpy())


def cross_validate_general(
    model: FittedGeneralModel,
    by: int | str,
    *,
    k: int | None = None,
    seed: Seed = None,
    progress: bool | None = None,
) -> GeneralCrossValidation:
    """Predict rows by fits without them; see the method ``cross_validate``."""
    design = require_rows(model.design, "cross_validate")
    sets, labels, what = folds(design, by, k, seed)
    mean = np.full(model.nobs, np.nan)
    log = np.full(model.nobs, np.nan)
    fold = np.empty(model.nobs, dtype=object)
    notes: dict[object, str] = {}
    for i, found in _each(model, sets, what, progress):
        rows = sets[i]
        fold[rows] = labels[i]
        if isinstance(found, str):
            notes[labels[i]] = found
        else:
            mean[rows], log[rows] = _predicted(model, found, rows)
    table = pd.DataFrame(
        {
            "fold": fold,
            "observed": design.y,
            "predicted": mean,
            "fitted": model.fittedvalues,
            "log_density": log,
            "fitted_log_density": _log_densities(
                model.estimate.problem, model.estimate, model.estimate.eta
            ),
        },
        index=design.labels,
    ).infer_objects()
    return GeneralCrossValidation(table, what, notes)


def _predicted(
    model: FittedGeneralModel, found: GeneralEstimate, rows: Codes
) -> tuple[Floats, Floats]:
    """Means of some rows by a fit without them, and log densities of their responses.

    Random effects of levels that only these rows have are integrated out.
    """
    part, at = model.estimate.problem.some(rows), found.at
    b = [u @ T.T for u, T in zip(found.u, at.templates, strict=True)]
    eta = part.fixed_part(at.beta) + part.rows.image(b)
    variance = np.zeros(len(rows))
    blocks = zip(part.rows.codes, part.rows.Z, found.A.codes, at.templates, strict=True)
    for codes, Z, others, T in blocks:
        new = ~np.isin(codes, others)
        z = np.ones((len(rows), 1)) if Z is None else Z
        variance += np.where(new, ((z @ T) ** 2).sum(axis=1), 0.0)
    sd = np.sqrt(variance)
    mean = averaged(model.link, eta, sd).value
    return mean, _log_densities(part, found, eta, sd)


def _log_densities(
    problem: Problem, found: GeneralEstimate, eta: Floats, sd: Floats | None = None
) -> Floats:
    """Logarithm of the probability or density of every response, averaged over ``eta + sd Z``."""
    omega, family = problem.omega(found.gamma), problem.family
    constant = family.constant(problem.y, problem.trials)
    if sd is None or not sd.any():
        return np.asarray(family.curve(problem.y, problem.trials, eta, omega).l + constant)
    parts = []
    for z, w in nodes():
        log = family.curve(problem.y, problem.trials, eta + sd * z, omega).l
        parts.append(log + np.log(w))
    return np.asarray(logsumexp(np.stack(parts), axis=0) + constant)
