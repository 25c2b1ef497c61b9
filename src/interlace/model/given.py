"""Predictions of a model with a residual structure: what else is known of a subject counts.

With ``Sigma`` the covariance of the rows of a subject that are known, ``r`` their residuals of the
fixed part, and ``k`` the covariance of a new row with them, the new row is expected at ``x'beta +
t'r`` with ``t = Sigma^-1 k``.  The error of that is ``(x - X't)'(beta_hat - beta)``, and what is
left of the variance ``v`` of the row, ``v - k't``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interlace.covariance.grouped import Grouped
from interlace.covariance.stacks import Joined, Separate
from interlace.covariance.structures import OF_TIMES, Scaled
from interlace.design import frame
from interlace.design.complete import complete_rows, spread
from interlace.design.groups import recode_rows
from interlace.design.newdata import NewRows, refuse_values, replay
from interlace.design.recipe import require_rows
from interlace.design.variances import new_logs
from interlace.design.visits import points_of
from interlace.errors import InterlaceError, choose
from interlace.model.beside import (
    Found,
    Known,
    Shared,
    fixed_part,
    found_beside,
    of_subject,
    parts,
)
from interlace.model.confidence import check_level
from interlace.model.predict import center_of, expected, included, rows_used, table_of
from interlace.model.reference import Reference
from interlace.model.structured import FittedStructuredModel
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats

INTERVALS = (None, "confidence", "prediction")


def predict_structured(
    model: FittedStructuredModel,
    newdata: object = None,
    include_re: bool | str | Iterable[str] = True,
    *,
    conditional: bool = False,
    offset: ArrayLike | None = None,
    se: bool = False,
    interval: str | None = None,
    level: float = 0.95,
    reference: Reference,
) -> Floats | pd.DataFrame:
    """Expected response, and how well it is known; see the method ``predict``."""
    interval, level = choose("interval", interval, INTERVALS), check_level(level)
    terms = model.estimate.A.terms
    include = [True] * len(terms) if conditional else included(terms, include_re)
    subject = [include[j] for j in of_subject(model.estimate)]
    plain = not conditional and not any(include)
    wanted = se or interval is not None
    if (plain and interval != "prediction") or not (conditional or wanted):
        return expected(
            model.design,
            model.encoding,
            model.estimate,
            newdata,
            include,
            offset=offset,
            se=se,
            interval=interval,
            level=level,
            reference=reference,
        )
    new = interval == "prediction"
    if new and any(subject) and not conditional and _structure(model) != "id":
        raise InterlaceError(
            f"a new observation of a subject is correlated with its others by {model.residual}: "
            "ask for conditional=True, which counts that and the random effects, or leave these "
            "out (include_re=False)"
        )
    knows = "total" if conditional else "effects" if any(subject) else "none"
    shared = Shared(model.estimate, include)
    rows = (
        _used(model)
        if newdata is None
        else _new(model, newdata, offset, knows, weighted=new, levels=shared.levels)
    )
    found = found_beside(model, rows, knows, shared) if shared else _found(model, rows, knows)
    names = model.encoding.fixed.names
    fixed = rows.rows.with_levels([False] * len(terms))
    center = center_of(fixed, names, model.estimate) + found.shift
    if not wanted:
        return center
    own = found.fixed + found.left if new or not conditional else found.fixed
    if new and not conditional:
        noise = rows.noise if any(subject) else rows.own
        own = own + (noise + shared.variance(rows, new=True)) * model.estimate.unit**2
    error = np.sqrt(np.maximum(own, 0.0)) / rows.roots
    return table_of(center, error, rows.rows.index, None, level if interval else None)


# ------------------------------------------------------------------ rows, and what is known of them


def _found(model: FittedStructuredModel, rows: Known, knows: str) -> Found:
    """Weights of the known rows, a chunk of rows at a time.

    ``knows`` is ``"total"``: all but the row itself; ``"effects"``: for the random effects; or
    ``"none"``.
    """
    at, P, unit = model.estimate.evaluation, model.estimate.criterion.patterns, model.estimate.unit
    A, design = model.estimate.A, require_rows(model.design, "predictions given other rows")
    X = design.weighted(design.fixed(A.names)) @ A.basis.fixed[:-1, :-1]
    x = fixed_part(model, rows)
    row_at = np.full((P.n_subjects, P.V), -1)
    row_at[model.places.subjects, model.places.visits] = np.arange(len(X))
    k = rows.total if knows == "total" else rows.effects
    own = rows.own if knows == "total" else rows.own - rows.noise
    r, m = model.deviations, len(x)
    shift, fixed, left = np.zeros(m), np.empty(m), np.zeros(m)
    for part in parts(m, P.V * (P.V + A.p)):
        s, a = rows.subjects[part], x[part]
        if knows != "none":
            seen = (row_at[s] >= 0) & (s >= 0)[:, None]
            if knows == "total":
                seen[np.arange(len(s)), rows.at[part]] &= rows.at[part] < 0
            Sigma = _known(at.covariances[P.groups[P.of_subject[s]]], seen)
            t = np.linalg.solve(Sigma, (k[part] * seen)[:, :, None])[:, :, 0]
            a = a - np.einsum("mv,mvp->mp", t, X[row_at[s]])
            shift[part] = unit * (t * r[s]).sum(axis=1)
            left[part] = unit**2 * (own[part] - (k[part] * t).sum(axis=1))
        fixed[part] = unit**2 * ((a @ at.B) ** 2).sum(axis=1)
    return Found(shift / rows.roots, fixed, left)


def _known(Sigma: Floats, seen: np.ndarray) -> Floats:
    """Covariances of the rows seen, the identity at others."""
    pairs = seen[:, :, None] & seen[:, None, :]
    return np.where(pairs, Sigma, np.eye(Sigma.shape[1]) * ~seen[:, :, None])


def _used(model: FittedStructuredModel) -> Known:
    """The rows of the fit."""
    design, at = require_rows(model.design, "predict without newdata"), model.places
    P, evaluation = model.estimate.criterion.patterns, model.estimate.evaluation
    noise = model.estimate.criterion.stack.noise(model.estimate.x)
    g, v = P.groups[P.of_subject[at.subjects]], at.visits
    total, apart = evaluation.covariances[g, v], noise[g, v]
    i = np.arange(len(v))
    return Known(
        rows=rows_used(design, [True] * len(design.terms)),
        subjects=at.subjects,
        roots=np.array(design.root_weights),
        own=total[i, v],
        noise=apart[i, v],
        total=total,
        effects=total - apart,
        at=v,
    )


# ------------------------------------------------------------------ new rows


def _new(
    model: FittedStructuredModel,
    newdata: object,
    offset: ArrayLike | None,
    knows: str,
    *,
    weighted: bool,
    levels: Sequence[bool],
) -> Known:
    """New rows with their covariances; ``levels`` of the terms that subjects share are read."""
    every = [True] * len(model.estimate.A.terms)
    rows = replay(
        model.encoding,
        newdata,
        offset=offset,
        levels=levels,
        slopes=every,
        weighted=weighted or knows == "total",
    )
    return _New(model, rows, frame.open_table(newdata, title="the new data"), knows).rows()


def _structure(model: FittedStructuredModel) -> str:
    """Name of the structure over visits."""
    return "id" if model.residual is None else model.residual.structure


@dataclass(frozen=True, eq=False)
class _New:
    """New rows beside those of the fit."""

    model: FittedStructuredModel
    new: NewRows
    table: frame.Table
    knows: str

    def rows(self) -> Known:
        """The rows with their covariances."""
        m, P = len(self.new.X), self.model.estimate.criterion.patterns
        subjects = self._subjects()
        known = P.groups[P.of_subject[subjects]]
        groups = np.where(subjects >= 0, known, 0)
        kinds = np.where(subjects >= 0, self._kinds()[known], self._group())
        own, total, at = self._residuals(subjects, kinds)
        noise, effects = own.copy(), np.zeros((m, P.V))
        stack, x = self._within
        weights = self.new.weights
        roots = np.ones(m) if weights is None else np.sqrt(weights)
        if isinstance(stack, Joined):
            d = np.exp(self._logs(stack.parts(x)[1]))
            there = np.exp(stack.scales @ stack.parts(x)[1])[groups]
            own, total = own * d**2, total * d[:, None] * there
            noise = own.copy()
            order = of_subject(self.model.estimate)
            for j, T, Zs in zip(order, stack.parts(x)[2], stack.Z, strict=True):
                half = roots[:, None] * self.new.Z[j] @ self.model.estimate.A.basis.random[j] @ T
                own = own + (half**2).sum(axis=1)
                effects += np.einsum("mk,mvk->mv", half, (Zs @ T)[groups])
        return Known(self.new, subjects, roots, own, noise, total + effects, effects, at)

    def _picked(self, names: Sequence[str]) -> dict[str, frame.Column]:
        """Columns of the new data."""
        return frame.pick(self.table, names)

    @property
    def _within(self) -> tuple[Separate | Joined, Floats]:
        """Covariances within subjects, and their numbers."""
        within = self.model.estimate.criterion.stack.within
        return within, self.model.estimate.x[: within.size]

    def _kinds(self) -> Codes:
        """Of every group of subjects, which of the covariances is theirs."""
        stack = self._within[0]
        if isinstance(stack, Joined):
            joined = stack.structure
            own = joined.which if isinstance(joined, Grouped) else np.zeros(stack.groups, np.intp)
            return own
        return np.arange(stack.groups)

    @property
    def _visit(self) -> str | None:
        """Column of the visits."""
        return None if self.model.residual is None else self.model.residual.visit

    def _subjects(self) -> Codes:
        """Subjects of the fit, -1 for others."""
        grid = self.model.grid
        if grid is None or grid.subjects is None or self.knows == "none":
            return np.full(self.table.n, -1)
        return recode_rows(grid.subjects, self._picked(grid.subjects.columns))

    def _group(self) -> Codes:
        """The group of ``by=`` of new subjects."""
        term, grid = self.model.residual, self.model.grid
        if term is None or term.by is None or grid is None or grid.groups is None:
            return np.zeros(self.table.n, dtype=np.intp)
        found = frame.recode(self._picked([term.by])[term.by], grid.groups)
        self._refuse(found < 0, term.by, "which has no covariance in the fit")
        return found

    def _logs(self, eta: Floats) -> Floats:
        """Logs of standard deviations by the variance function, ``(m,)``."""
        term = self.model.residual
        if term is None or term.variance is None:
            return np.zeros(self.table.n)
        stack, grid = self._within[0], self.model.grid
        assert isinstance(stack, Joined) and grid is not None
        return new_logs(term.variance, self.table, grid.strata, stack.units, eta)

    def _residuals(self, subjects: Codes, kinds: Codes) -> tuple[Floats, Floats, Codes]:
        """Variances (m,) and covariances (m, V) of residuals at scale 1, and the rows' visits."""
        structure, visit = _structure(self.model), self._visit
        stack, x = self._within
        m, V = self.table.n, self.model.estimate.criterion.patterns.V
        S = stack.residual(x)
        if visit is None:
            return np.full(m, S[0, 0, 0]), np.zeros((m, V)), np.full(m, -1)
        if structure in OF_TIMES:
            return self._timed(subjects, float(S[0, 0, 0]))
        grid = self.model.grid
        assert grid is not None
        at = frame.recode(self._picked([visit])[visit], grid.labels)
        known = ", ".join(map(str, grid.labels.tolist()[:8]))
        self._refuse(at < 0, visit, f"which is no visit of the fit ({known})")
        return S[kinds, at, at], S[kinds, at], at

    def _timed(self, subjects: Codes, variance: float) -> tuple[Floats, Floats, Codes]:
        """The same at any times."""
        term, grid, structure = self.model.residual, self.model.grid, self._within[0].structure
        assert grid is not None and term is not None and term.visit is not None
        assert isinstance(structure, Scaled)
        places, times = self.model.places, grid.times
        if times is None:
            times = grid.labels.astype(np.float64)[places.visits][:, None]
        known = np.full((places.n_subjects, places.n_visits, times.shape[1]), np.inf)
        known[places.subjects, places.visits] = times
        names = (term.visit, *term.beside)
        rows = complete_rows(self._picked(names), self.table)
        new = spread(points_of(names, term.structure, rows), rows)
        apart = np.sqrt(((known[subjects] - new[:, None, :]) ** 2).sum(axis=2))
        at = np.where((apart == 0.0).any(axis=1), apart.argmin(axis=1), -1)
        seen = np.isfinite(apart) & (subjects >= 0)[:, None]
        xi = self.model.estimate.x[: structure.size]
        between = structure.apart(np.where(seen, apart, 0.0), xi)
        return np.full(len(new), variance), np.where(seen, between, 0.0), at

    def _refuse(self, wrong: np.ndarray, column: str, why: str) -> None:
        """Refuse rows whose value says nothing."""
        refuse_values(self.table, wrong, [column], why)
