"""Exact refits without a row or a group: theta, sigma and the fixed effects, all estimated again.

Small models are refitted together as a batch, each with cross-products of its own; large ones one
by one with the ordinary solver.  All start at the fitted templates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from interlace.batch.factor import factorize
from interlace.batch.fits import LOST_RESIDUALS, NO_RESIDUAL, lost, off_boundary, optima, stacked
from interlace.batch.stack import Batch, OwnRows, order_of
from interlace.diagnostics.deletion import Deletable
from interlace.diagnostics.polish import polished_point
from interlace.errors import InterlaceError
from interlace.estimation.criterion import DOUBTFUL, Criterion
from interlace.estimation.estimate import Estimate
from interlace.estimation.likelihood import gaussian
from interlace.estimation.sharpen import can_sharpen, sharpened
from interlace.estimation.unbounded import minimised
from interlace.solver.blocks import solved
from interlace.solver.sharp import Sharp
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats

# A batch pays while Python's overhead for one fit is more than its arithmetic: rows of the
# remainder, numbers of one replicate, and of all that are taken together.
_MOST_ROWS, _MOST_NUMBERS, _TOGETHER = 100, 1 << 20, 1 << 20
# Gain at which the search stops; a Newton step more, or two, follows.
_GAIN = 1e-12


@dataclass(frozen=True, eq=False)
class Refitted:
    """Estimates of ``B`` deletions in the working basis of the full fit; NaN where there is none.

    ``beta`` (B, p), ``C`` (B, p, p) their covariance over ``sigma^2``, ``sigma2`` (B,) and a
    template (B, k, k) per term.  ``notes`` says by deletion why there is no fit.
    """

    beta: Floats
    C: Floats
    sigma2: Floats
    templates: tuple[Floats, ...]
    notes: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Deleter:
    """A fit, ready to be repeated without some of its rows."""

    deletable: Deletable
    estimate: Estimate

    @property
    def reml(self) -> bool:
        return self.estimate.criterion.reml

    @cached_property
    def start(self) -> tuple[Floats, ...]:
        """The fitted templates, off the boundary, where every derivative would be zero."""
        return tuple(off_boundary(T) for T in self.estimate.templates)

    @cached_property
    def numbers(self) -> int:
        """Numbers in the cross-products of one replicate of a batch."""
        terms = self.estimate.A.terms
        first = terms[order_of(terms)[0]]
        m = self.remainder
        return first.q * (m + first.k) + m**2

    @property
    def remainder(self) -> int:
        """Rows of the equations of a batch after elimination."""
        terms = self.estimate.A.terms
        return sum(t.q for t in terms) - terms[order_of(terms)[0]].q + self.estimate.A.p

    @property
    def sharp(self) -> bool:
        """Whether the fit is from the rows, because sums have lost the residuals."""
        return isinstance(self.estimate.criterion.equations, Sharp)

    @property
    def batched(self) -> bool:
        """Whether refits are done as a batch."""
        return not self.sharp and self.remainder <= _MOST_ROWS and self.numbers <= _MOST_NUMBERS

    def refit(self, sets: Sequence[Codes], advance: Callable[[int], None]) -> Refitted:
        """Fit without each of some sets of rows; ``advance`` hears how many are newly done."""
        found, notes = self._nothing(len(sets)), self.deletable.obstacles(sets)
        possible = [i for i in range(len(sets)) if i not in notes]
        advance(len(notes))
        size = max(1, _TOGETHER // self.numbers) if self.batched else 1
        for low in range(0, len(possible), size):
            which = possible[low : low + size]
            if self.batched:
                notes |= self._together(which, sets, found)
            else:
                notes |= self._alone(which[0], sets, found)
            advance(len(which))
        for array in (found.beta, found.C, found.sigma2, *found.templates):
            array[sorted(notes)] = np.nan
        return replace(found, notes=notes)

    def _nothing(self, B: int) -> Refitted:
        p, terms = self.estimate.A.p, self.estimate.A.terms
        return Refitted(
            np.full((B, p), np.nan),
            np.full((B, p, p), np.nan),
            np.full(B, np.nan),
            tuple(np.full((B, t.k, t.k), np.nan) for t in terms),
            {},
        )

    # -------------------------------------------------------------- one by one

    def _alone(self, i: int, sets: Sequence[Codes], found: Refitted) -> dict[int, str]:
        """One fit with the ordinary solver; a note if it fails."""
        if self.sharp:
            return self._from_rows(i, sets[i], found)
        criterion = Criterion(self.deletable.without(sets[i]), self.reml)
        try:
            start = criterion.pack(self.start)
            best = minimised(criterion, start, gain_tolerance=_GAIN).found
            if best.point.share_left < DOUBTFUL:
                return self._from_rows(i, sets[i], found)
            point = polished_point(best.point)
        except InterlaceError as error:
            return {i: str(error)}
        except np.linalg.LinAlgError:
            return {i: NO_RESIDUAL}
        factor = point.factor
        found.beta[i], found.C[i] = factor.beta, factor.vcov
        found.sigma2[i] = point.sigma2
        for all_, T in zip(found.templates, factor.templates, strict=True):
            all_[i] = T
        return {} if best.converged else {i: f"no convergence: {best.message}"}

    def _from_rows(self, i: int, members: Codes, found: Refitted) -> dict[int, str]:
        """One fit of which sums have lost the residuals, from the rows; a note if it fails."""
        A = replace(self.deletable.without(members), basis=self.estimate.A.basis)
        if not can_sharpen(A):
            return {i: LOST_RESIDUALS}
        rows = self.deletable.design.part(np.delete(np.arange(self.deletable.A.n), members))
        try:
            estimate = sharpened(rows, A, reml=self.reml)
        except InterlaceError as error:
            return {i: str(error)}
        except np.linalg.LinAlgError:
            return {i: NO_RESIDUAL}
        factor, ended = estimate.evaluation.factor, estimate.convergence
        found.beta[i], found.C[i] = factor.beta, factor.vcov
        found.sigma2[i] = estimate.evaluation.sigma2
        bases = zip(A.basis.random, estimate.A.basis.random, strict=True)
        pairs = zip(found.templates, bases, factor.templates, strict=True)
        for all_, (B, other), T in pairs:
            all_[i] = solved(B, other @ T)
        return {} if ended.converged else {i: f"no convergence: {ended.message}"}

    # -------------------------------------------------------------- as a batch

    def _together(
        self, which: Sequence[int], sets: Sequence[Codes], found: Refitted
    ) -> dict[int, str]:
        """Many fits at once; notes on those that fail."""
        batch = self.batch([sets[i] for i in which])
        shape, at = batch.shape, np.array(which)
        start = {j: np.broadcast_to(T, (len(at), *T.shape)) for j, T in enumerate(self.start)}
        best = optima(
            batch,
            list(start.values()),
            self.deletable.A.basis.random,
            lambda i: Criterion(self.deletable.without(sets[which[i]]), self.reml),
            gain_tolerance=_GAIN,
        )
        templates = shape.unpacked(best.x + best.further)
        factor = factorize(batch, templates)
        half = factor.half[:, shape.q :, shape.q :]
        found.beta[at], found.C[at] = factor.coef[:, shape.q :], half.transpose(0, 2, 1) @ half
        found.sigma2[at] = factor.sigma2
        for j, T in templates.items():
            found.templates[j][at] = T
        notes = {which[i]: why for i, why in best.failures.items()}
        for i in lost(batch, factor).keys() - best.failures.keys():
            notes |= self._from_rows(which[i], sets[which[i]], found)
        return notes

    @cached_property
    def _full(self) -> Batch:
        """The cross-products of all rows as a batch of one."""
        return stacked([self.estimate.criterion])

    def batch(self, sets: Sequence[Codes]) -> Batch:
        """Cross-products without each set: those of all rows, less those of the set."""
        full, rows, B = self._full, self.deletable.rows, len(sets)
        members = np.concatenate(sets)
        owner = np.repeat(np.arange(B), [len(one) for one in sets])
        at = owner, rows.codes[full.shape.first][members]
        Z, y = rows.Z[full.shape.first][members], self.deletable.y[members]
        D = self._remainder_rows(members)
        assert isinstance(full.rows, OwnRows)
        N = _repeated(full.N.transpose(3, 2, 0, 1), B)
        R = _repeated(full.rows.R.transpose(0, 2, 1, 3), B)
        zy = _repeated(full.zy.transpose(2, 1, 0), B)
        S, sy, yy = _repeated(full.S, B), _repeated(full.sy, B), _repeated(full.yy, B)
        np.subtract.at(N, at, Z[:, :, None] * Z[:, None, :])
        np.subtract.at(R, at, Z[:, :, None] * D[:, None, :])
        np.subtract.at(zy, at, Z * y[:, None])
        np.subtract.at(sy, owner, D * y[:, None])
        np.subtract.at(yy, owner, y**2)
        for i, own in enumerate(np.split(D, np.cumsum([len(one) for one in sets])[:-1])):
            S[i] -= own.T @ own
        nu, constant = self._constants(sets)
        return replace(
            full,
            rows=OwnRows(np.ascontiguousarray(R.transpose(0, 2, 1, 3))),
            N=np.ascontiguousarray(N.transpose(2, 3, 1, 0)),
            S=S,
            zy=np.ascontiguousarray(zy.transpose(2, 1, 0)),
            sy=sy,
            yy=yy,
            nu=nu,
            constant=constant,
        )

    def _constants(self, sets: Sequence[Codes]) -> tuple[Floats, Floats]:
        """Degrees of freedom, and the constants of the criterion, up to those that all share."""
        removed = np.array([len(one) for one in sets])
        nu = self.estimate.criterion.nu - removed.astype(float)
        log_w = np.array([self.deletable.log_weight(one) for one in sets])
        constant = gaussian(nu) + log_w - self.estimate.A.sum_log_w
        return nu, constant

    def _remainder_rows(self, members: Codes) -> Floats:
        """Rows of the remainder ``[other terms, X]``, written out: ``(rows, m)``."""
        shape, rows = self._full.shape, self.deletable.rows
        D = np.zeros((len(members), self.remainder))
        D[:, shape.q :] = rows.X[members]
        for j in shape.rest:
            Z = rows.Z[j][members]
            first = shape.offsets[j] + rows.codes[j][members] * Z.shape[1]
            D[np.arange(len(members))[:, None], first[:, None] + np.arange(Z.shape[1])] = Z
        return D


def _repeated(values: Floats, B: int) -> Floats:
    """``B`` copies of an array whose first axis has length 1."""
    return np.repeat(values, B, axis=0)
