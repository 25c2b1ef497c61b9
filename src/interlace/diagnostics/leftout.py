"""Estimates without each group, and predictions of rows that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.diagnostics.deletion import Deletable
from interlace.diagnostics.refitting import Deleter, Refitted
from interlace.diagnostics.units import design_of, is_rows, unit_index, unit_rows
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate
from interlace.estimation.parameters import variance_parameter_names, variance_parameters
from interlace.machine.progress import counter
from interlace.machine.threads import threads_for
from interlace.model.fitted import FittedModel
from interlace.model.simulate import Seed, seed_sequence
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats


def deletions(
    result: FittedModel, group: int | str, *, progress: bool | None = None
) -> pd.DataFrame:
    """Estimates without each level of a group, or each row; see the method ``deletions``."""
    design = design_of(result)
    index = unit_index(design, group)
    sets = unit_rows(design, group)
    what = "rows" if is_rows(group) else str(group)
    refitted = _without(design, result.estimate, sets, progress, what)
    A = result.estimate.A
    beta = _in_units(result.estimate, refitted.beta)
    templates = [B @ T for B, T in zip(A.basis.random, refitted.templates, strict=True)]
    sigma = np.sqrt(refitted.sigma2) / A.basis.response_scale
    known = np.flatnonzero(np.isfinite(sigma))
    variances = np.full((len(sets), sum(t.n_theta for t in A.terms) + 1), np.nan)
    variances[known] = variance_parameters(A.terms, [T[known] for T in templates], sigma[known])
    names = [*A.names, *variance_parameter_names(A.terms)]
    table = pd.DataFrame(np.hstack((beta, variances)), index=index, columns=names)
    return table.assign(note=[refitted.notes.get(i, "") for i in range(len(sets))])


def _without(
    design: Design,
    estimate: Estimate,
    sets: Sequence[Codes],
    progress: bool | None,
    what: str,
) -> Refitted:
    """Exact refits without each of some sets of rows."""
    deleter = Deleter(Deletable.of(design, estimate), estimate)
    with (
        counter(len(sets), progress, what=f"without {what}", unit="refits") as advance,
        threads_for(estimate.criterion.rows_at_once),
    ):
        return deleter.refit(sets, advance)


def _in_units(estimate: Estimate, beta: Floats) -> Floats:
    """Fixed effects ``(B, p)`` of the working basis in the user's."""
    F = estimate.A.basis.fixed
    return np.asarray((beta @ F[:-1, :-1].T - F[:-1, -1]) / F[-1, -1])


# ------------------------------------------------------------------ cross-validation


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Predictions of rows by fits without them.

    Attributes
    ----------
    table
        By row used: ``fold``, ``observed``, ``predicted``, and ``fitted``, the value of the fit to
        all rows.  Predictions are nan where the model has no fit without the fold.
    by
        What was left out.
    notes
        Why folds could not be predicted, by fold.
    """

    table: pd.DataFrame
    by: str
    notes: dict[object, str]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """``rmse, mae, r2`` of the predictions, and of the fit to all rows beside them.

        ``r2`` is one minus the sum of squared errors over that around the mean.
        """
        table = self.table.dropna(subset=["predicted"])
        observed = table["observed"].to_numpy()
        around = observed - observed.mean()
        power = int(np.frexp(np.abs(around).max())[1])  # squares stay in range
        total = float((np.ldexp(around, -power) ** 2).sum())
        rows = {}
        for label, column in (("left out", "predicted"), ("in sample", "fitted")):
            error = np.ldexp(observed - table[column].to_numpy(), -power)
            squares = float((error**2).sum())
            rows[label] = {
                "rmse": float(np.ldexp(np.sqrt(squares / len(error)), power)),
                "mae": float(np.ldexp(np.abs(error).mean(), power)),
                "r2": 1.0 - squares / total,
            }
        return pd.DataFrame(rows).T

    @property
    def rmse(self) -> float:
        """Root mean squared error of the predictions."""
        return float(self.scores["rmse"].to_numpy()[0])

    @property
    def by_fold(self) -> pd.DataFrame:
        """``n`` and ``rmse`` of every fold."""
        error = self.table["observed"] - self.table["predicted"]
        power = int(np.frexp(error.abs().max())[1])  # squares stay in range
        near = pd.Series(np.ldexp(error.to_numpy(), -power), index=error.index)
        grouped = (near**2).groupby(self.table["fold"], sort=False)
        rmse = np.ldexp(np.sqrt(grouped.mean().to_numpy()), power)
        found = pd.DataFrame({"n": grouped.size(), "rmse": rmse})
        return found

    def __repr__(self) -> str:
        folds = self.table["fold"].nunique()
        head = f"Cross-validation by {self.by}: {folds} folds, {len(self.table)} rows"
        tail = [f"fold {fold}: {why}" for fold, why in list(self.notes.items())[:5]]
        return "\n".join([head, "", self.scores.round(4).to_string(), *tail])

    def _repr_html_(self) -> str:
        return f"<h4>Cross-validation by {self.by}</h4>{self.scores.round(4).to_html()}"


def cross_validate(
    result: FittedModel,
    by: int | str,
    *,
    k: int | None = None,
    seed: Seed = None,
    progress: bool | None = None,
) -> CrossValidation:
    """Predict rows by fits without them; see the method ``cross_validate``."""
    design = design_of(result)
    sets, labels, what = folds(design, by, k, seed)
    estimate = result.estimate
    refitted = _without(design, estimate, sets, progress, what)
    predicted = np.full(len(design.y), np.nan)
    fold = np.empty(len(design.y), dtype=object)
    deletable = Deletable.of(design, estimate)
    beta = _in_units(estimate, refitted.beta)
    for i, members in enumerate(sets):
        fold[members] = labels[i]
        if i in refitted.notes:
            continue
        criterion = Criterion(deletable.without(members), estimate.criterion.reml)
        point = criterion.at([T[i] for T in refitted.templates])
        values = design.fixed(estimate.A.names)[members] @ beta[i]
        if design.offset is not None:
            values = values + design.offset[members]
        pairs = zip(point.factor.effects, estimate.A.basis.random, strict=True)
        scale = estimate.A.basis.response_scale
        for (codes, Z), (effects, B) in zip(
            zip(design.codes, design.Z, strict=True), pairs, strict=True
        ):
            b = effects.b @ B.T / scale
            values = values + (Z[members] * b[codes[members]]).sum(axis=1)
        predicted[members] = values
    table = pd.DataFrame(
        {
            "fold": fold,
            "observed": design.y,
            "predicted": predicted,
            "fitted": result.fittedvalues,
        },
        index=design.labels,
    ).infer_objects()
    return CrossValidation(table, what, {labels[i]: why for i, why in refitted.notes.items()})


def folds(
    design: Design, by: int | str, k: int | None, seed: Seed
) -> tuple[list[Codes], list[object], str]:
    """Rows of every fold, their labels, and what is left out, in words.

    Raises
    ------
    InterlaceError
        No such factor, or a number of parts that is not between 2 and that of the units.
    """
    if isinstance(by, str) and by != "rows":
        sets = unit_rows(design, by)
        labels = unit_index(design, by).tolist()
        if k is None:
            return sets, labels, by
        dealt = _dealt(len(sets), k, seed, f"levels of '{by}'")
        joined = [np.concatenate([sets[i] for i in part]) for part in dealt]
        return joined, list(range(1, k + 1)), f"{by}, {k} parts"
    n = len(design.y)
    if by == "rows" and k is None:
        return list(np.arange(n)[:, None]), design.labels.tolist(), "rows"
    size = k if by == "rows" else by
    if not isinstance(by, str) and k is not None:
        raise InterlaceError(f"give by={by!r} or k={k!r}, not both: by= a group with k=")
    parts = _dealt(n, size, seed, "rows")
    return parts, list(range(1, len(parts) + 1)), f"rows, {len(parts)} parts"


def _dealt(n: int, k: object, seed: Seed, what: str) -> list[Codes]:
    """``n`` units dealt into ``k`` parts at random."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or not 2 <= k <= n:
        raise InterlaceError(
            f"the parts of {n} {what} must be a whole number from 2 to {n}, not {k!r}"
        )
    order = np.random.default_rng(seed_sequence(seed)).permutation(n)
    return [np.sort(part) for part in np.array_split(order, k)]
