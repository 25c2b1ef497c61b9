"""Predictions beside random effects that subjects share: all rows tell of these.

With ``g`` the covariances of a new row with all rows, ``z'G Z'`` of the effects that subjects share
and ``k`` of its own subject's rows, the new row is expected at ``x'beta + g' V^-1 r``.  Without the
row of the subject at the same visit, of place ``i``, ``V^-1`` loses ``V^-1 e_i e_i' V^-1 /
(V^-1)_ii``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from interlace.design.newdata import NewRows
from interlace.estimation.crossed import CrossedEvaluation
from interlace.estimation.residual import StructuredEstimate
from interlace.model.structured import FittedStructuredModel
from interlace.sums.crossprod import Codes
from interlace.sums.rows import by_level, columns_kept
from interlace.sums.terms import Floats

# Numbers of the rows of subjects that are gathered at a time.
_CHUNK = 4_000_000


@dataclass(frozen=True, eq=False)
class Known:
    """Rows to predict, ``m`` of them.

    ``subjects`` are -1 where the fit does not know them; ``roots`` of weights; ``own`` and
    ``noise`` variances, all and of the residual alone, in working units at weight 1; ``seen`` (m,
    V) the visits of the subject in the fit; ``total`` and ``effects`` (m, V) covariances with them,
    all and of the random effects; ``at`` (m,) the row's own visit, -1 for none.
    """

    rows: NewRows
    subjects: Codes
    roots: Floats
    own: Floats
    noise: Floats
    total: Floats
    effects: Floats
    at: Codes


@dataclass(frozen=True, eq=False)
class Found:
    """What the other rows of the subjects add to predictions, ``(m,)`` each.

    ``shift`` in the user's units; ``fixed`` the variance by the coefficients and ``left`` that of
    what is included, at weight 1.
    """

    shift: Floats
    fixed: Floats
    left: Floats


def parts(m: int, each: int) -> Iterator[slice]:
    """Slices of ``m`` rows, of so many that no more numbers than fit are gathered."""
    step = max(_CHUNK // each, 1)
    for start in range(0, m, step):
        yield slice(start, min(start + step, m))


def of_subject(estimate: StructuredEstimate) -> tuple[int, ...]:
    """Positions of the random terms of the subject."""
    return estimate.criterion.order[: len(estimate.criterion.stack.designs)]


def fixed_part(model: FittedStructuredModel, rows: Known) -> Floats:
    """Working columns of the fixed effects, weighted, ``(m, p)``."""
    A = model.estimate.A
    kept = columns_kept(model.encoding.fixed.names, A.names)
    return np.asarray(rows.rows.X[:, kept] @ A.basis.fixed[:-1, :-1] * rows.roots[:, None])


@dataclass(frozen=True, eq=False)
class Shared:
    """Random terms that subjects share, and which of all terms predictions include."""

    estimate: StructuredEstimate
    include: Sequence[bool]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.members)

    @property
    def members(self) -> tuple[int, ...]:
        """Positions among the random terms."""
        return self.estimate.criterion.order[len(of_subject(self.estimate)) :]

    @property
    def levels(self) -> list[bool]:
        """Of which terms the levels of new rows count."""
        return [want and j in self.members for j, want in enumerate(self.include)]

    def columns(self, rows: Known, j: int) -> Floats:
        """Working columns of a term, weighted, ``(m, k)``."""
        return np.asarray(rows.roots[:, None] * rows.rows.Z[j] @ self.estimate.A.basis.random[j])

    def variance(self, rows: Known, *, new: bool) -> Floats:
        """Variance of the effects that are included, or of the others, ``(m,)``."""
        total = np.zeros(len(rows.roots))
        for j in self.members:
            if self.include[j] != new:
                half = self.columns(rows, j) @ self.estimate.templates[j]
                total += (half**2).sum(axis=1)
        return total

    def covariances(self, rows: Known, part: slice) -> Floats:
        """``G z`` of some rows for the effects that are included, ``(q, r)``."""
        at = self.estimate.evaluation
        assert isinstance(at, CrossedEvaluation)
        blocks = []
        for j in self.members:
            term, codes = self.estimate.A.terms[j], rows.rows.codes[j][part]
            known = (codes >= 0) & self.include[j]
            Z = np.where(known[:, None], self.columns(rows, j)[part], 0.0)
            blocks.append(by_level(np.where(known, codes, 0), Z, term.q).toarray().T)
        turned = [T.T for T in at.templates]
        return at.crossing.times(at.templates, at.crossing.times(turned, np.concatenate(blocks)))


def found_beside(model: FittedStructuredModel, rows: Known, knows: str, shared: Shared) -> Found:
    """What all rows of the fit add to predictions; ``knows`` as where subjects share nothing."""
    at, P, unit = model.estimate.evaluation, model.estimate.criterion.patterns, model.estimate.unit
    assert isinstance(at, CrossedEvaluation)
    m, p, x = len(rows.roots), len(at.beta), fixed_part(model, rows)
    shift, fixed, explained = np.empty(m), np.empty(m), np.empty(m)
    for part in parts(m, P.V * (P.V + p + at.OZ.shape[2]) + 3 * at.crossing.q):
        one = _Given.of(at, rows, part, knows, shared.covariances(rows, part))
        shift[part] = unit * one.scores[:, -1]
        fixed[part] = unit**2 * (((x[part] - one.scores[:, :-1]) @ at.B) ** 2).sum(axis=1)
        explained[part] = one.explained
    own = np.zeros(m)
    if knows != "none":
        own = rows.own if knows == "total" else rows.own - rows.noise
    left = unit**2 * (own + shared.variance(rows, new=False) - explained)
    return Found(shift / rows.roots, fixed, left)


@dataclass(frozen=True, eq=False)
class _Given:
    """``[X r]' V^-1 g`` of some rows, ``(r, p + 1)``, and ``g' V^-1 g``, ``(r,)``."""

    scores: Floats
    explained: Floats

    @classmethod
    def of(cls, at: CrossedEvaluation, rows: Known, part: slice, knows: str, U: Floats) -> _Given:
        """For covariances ``U = G z`` (q, r) with the effects that subjects share."""
        kept, s = at.patterns.kept, rows.subjects[part]
        place = np.argsort(kept.subjects)[s]
        pattern = kept.pattern[place]
        k = np.zeros((len(s), at.patterns.V))
        if knows != "none":
            own = rows.total if knows == "total" else rows.effects
            k = np.where(at.patterns.observed[pattern] & (s >= 0)[:, None], own[part], 0.0)
        inverse, images = at.inverses[pattern] - at.pairs[place], at.images[place]
        met = (U - at.M @ (at.A @ U)).T[np.arange(len(s))[:, None], at.crossing.index[place]]
        through = np.einsum("rvl,rl->rv", at.OZ[place], met)
        inside = np.einsum("rvw,rw->rv", inverse, k)
        scores = U.T @ at.left + np.einsum("rv,rvp->rp", k, images)
        explained = (U * (at.whole @ U)).sum(axis=0) + (k * (inside + 2.0 * through)).sum(axis=1)
        v, r = rows.at[part], np.arange(len(s))
        out = (s >= 0) & (v >= 0) & at.patterns.observed[pattern, v] & (knows == "total")
        away = np.where(out, (inside + through)[r, v], 0.0)
        scale = np.where(out, inverse[r, v, v], 1.0)
        scores = scores - (away / scale)[:, None] * images[r, v]
        return cls(scores, explained - away**2 / scale)
