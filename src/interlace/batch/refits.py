"""Fits of one model to many responses for the same rows.

All that involves no response is shared.  Small models are fitted as a batch, large ones one by one
with the ordinary solver; both start at the fitted templates.  Responses are handed over as
*deviations* ``y - offset - X beta`` from the fitted model: adding ``X beta`` to a response adds
``beta`` to the estimate and changes nothing else, so no digits are spent on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from interlace.batch.fits import (
    NOTHING_LEFT,
    Refits,
    at_once,
    in_units,
    joined,
    levels_last,
    minimized,
    off_boundary,
    parts,
    slices,
    with_digits,
    worth_a_batch,
)
from interlace.batch.stack import Batch, EliminatedRows, Shape, shape_of, shared_rows
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.estimation.likelihood import constant
from interlace.estimation.moments import moment_matrix, moment_ratios
from interlace.estimation.search import Mask
from interlace.sums.crossprod import Basis, CrossProducts
from interlace.sums.rows import Rows, by_level
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class Responses:
    """What ``B`` responses add to the cross-products, in the working basis.

    ``coef`` (p, B) is their projection on the working fixed-effects columns, taken off; ``scale``
    (B,) brings what is left to mean square 1 (NaN if nothing is left); ``xy`` (p, B) and ``zy``
    (q_j, B) are products of the result with the working columns.
    """

    coef: Floats
    scale: Floats
    xy: Floats
    zy: tuple[Floats, ...]

    @property
    def good(self) -> Mask:
        """Where something is left."""
        found: Mask = np.isfinite(self.scale)
        return found

    def __len__(self) -> int:
        return len(self.scale)

    def part(self, which: slice) -> Responses:
        """Some of the responses."""
        return Responses(
            self.coef[:, which],
            self.scale[which],
            self.xy[:, which],
            tuple(zy[:, which] for zy in self.zy),
        )


def side_by_side(parts: Sequence[Responses]) -> Responses:
    """Responses of several batches as one."""
    return Responses(
        np.concatenate([part.coef for part in parts], axis=1),
        np.concatenate([part.scale for part in parts]),
        np.concatenate([part.xy for part in parts], axis=1),
        tuple(np.concatenate(zy, axis=1) for zy in zip(*(p.zy for p in parts), strict=True)),
    )


@dataclass(frozen=True, eq=False)
class WeightedColumns:
    """Columns of rows in the working basis, weighted: ``Q`` (n, p) and ``Z_j'`` (q_j, n).

    ``root_w`` (n,) are the roots of the weights.
    """

    root_w: Floats
    Q: Floats
    Z: tuple[csr_matrix, ...]

    def responses(self, deviations: Floats) -> Responses:
        """Products of ``deviations`` (n, B) from the fitted model with the working columns."""
        n = len(self.Q)
        r = deviations * self.root_w[:, None]
        power = np.frexp(np.abs(r).max(axis=0, initial=0.0))[1]  # squares stay in range
        r = np.ldexp(r, -power)
        before = np.sqrt((r**2).mean(axis=0))
        coef = self.Q.T @ r / n
        r = r - self.Q @ coef
        again = self.Q.T @ r / n
        r -= self.Q @ again
        left = np.sqrt((r**2).mean(axis=0))
        good = left > 1e-13 * before
        scale = np.where(good, 1.0 / np.where(good, left, 1.0), np.nan)
        r *= scale
        coef = np.ldexp(coef + again, power)
        return Responses(coef, np.ldexp(scale, -power), self.Q.T @ r, tuple(Z @ r for Z in self.Z))


def weighted_columns(rows: Rows, A: CrossProducts) -> WeightedColumns:
    """Columns of the rows whose cross-products are ``A``."""
    root = rows.root_weights
    made = rows.in_basis(A.basis, A.names).times(root)
    parts = zip(made.codes, made.Z, A.terms, strict=True)
    blocks = [by_level(codes, Z, term.q).T.tocsr() for codes, Z, term in parts]
    return WeightedColumns(root, made.X, tuple(blocks))


@dataclass(frozen=True, eq=False)
class SharedDesign:
    """A model whose response changes: all cross-products that hold no ``y`` are shared.

    ``beta`` (p,) are the fixed effects from which responses are handed over as deviations.
    """

    criterion: Criterion
    rows: WeightedColumns
    beta: Floats

    @property
    def A(self) -> CrossProducts:
        """The cross-products; those with their own response are left alone."""
        return self.criterion.A

    @property
    def batched(self) -> bool:
        """Whether fits of this size are faster as a batch."""
        return worth_a_batch(self.A)

    @cached_property
    def _shared(self) -> tuple[Shape, EliminatedRows, Floats, Floats]:
        """Shape, rows, ``N`` and ``S`` of the batch."""
        shape = shape_of(self.A.terms, reml=self.criterion.reml)
        R, S = parts(self.A, shape)
        return shape, shared_rows(R), levels_last(self.A.zz[shape.first]), S[None]

    @cached_property
    def _moments(self) -> Floats:
        """Matrix of the moment equations."""
        return moment_matrix(self.criterion)

    def starts(self, responses: Responses) -> list[Floats]:
        """Working templates ``c I`` per term from a method of moments, ``(B, k, k)`` each."""
        squares = [(zy**2).sum(axis=0) for zy in responses.zy]
        rhs = np.stack([*squares, np.full(len(responses), float(self.A.n))])
        rhs[:, ~responses.good] = 1.0  # any start will do: these fail
        ratios = moment_ratios(self._moments, rhs)
        return [c[:, None, None] * np.eye(t.k) for c, t in zip(ratios, self.A.terms, strict=True)]

    def batch(self, responses: Responses) -> Batch:
        """Cross-products of all responses."""
        shape, rows, N, S = self._shared
        n, nu = self.A.n, self.criterion.nu
        first = self.A.terms[shape.first]
        zy = responses.zy[shape.first].reshape(first.l, first.k, -1).transpose(1, 0, 2)
        return Batch(
            shape=shape,
            rows=rows,
            N=N,
            S=S,
            zy=np.ascontiguousarray(zy),
            sy=np.concatenate([*(responses.zy[j] for j in shape.rest), responses.xy]).T.copy(),
            yy=np.full(len(responses), float(n)),
            nu=np.array([float(nu)]),
            constant=constant(self.criterion.A, responses.scale, reml=self.criterion.reml),
        )

    def together(
        self, responses: Responses, start: Sequence[Floats], *, gain_tolerance: float = 1e-9
    ) -> Refits:
        """Fit to all responses at once, from working templates ``(B, k, k)``."""
        A, F = self.A, self.A.basis.fixed[:-1, :-1]
        found = minimized(
            self.batch(responses),
            start,
            A.basis.random,
            lambda i: self.single(responses, i),
            gain_tolerance=gain_tolerance,
        )
        errors = found.errors | {int(i): NOTHING_LEFT for i in np.flatnonzero(~responses.good)}
        working = responses.coef.T + found.beta / responses.scale[:, None]
        return in_units(
            found,
            fixed=F,
            beta=self.beta + working @ F.T,
            scale=responses.scale,
            bases=A.basis.random,
            sizes=A.basis.root_mean_squares,
            errors=errors,
        )

    def single(self, responses: Responses, i: int) -> Criterion:
        """The criterion of one of the responses, in the plan of the shared one.

        Raises
        ------
        InterlaceError
            Nothing of the response is left after the fixed effects.
        """
        if not responses.good[i]:
            raise InterlaceError(NOTHING_LEFT)
        return self.criterion.responded(self.responded(responses, i))

    def responded(self, responses: Responses, i: int) -> CrossProducts:
        """Cross-products with one of the responses."""
        A, scale = self.A, float(responses.scale[i])
        F = A.basis.fixed.copy()
        F[:-1, -1] = -scale * (self.beta + F[:-1, :-1] @ responses.coef[:, i])
        F[-1, -1] = scale
        vv = A.vv.copy()
        vv[:-1, -1] = vv[-1, :-1] = responses.xy[:, i]
        vv[-1, -1] = A.n
        zv = tuple(
            np.concatenate((old[..., :-1], new[:, i].reshape(*old.shape[:2], 1)), axis=2)
            for old, new in zip(A.zv, responses.zy, strict=True)
        )
        return replace(A, basis=Basis(F, A.basis.random), vv=vv, zv=zv)


@dataclass(frozen=True, eq=False)
class Refitter:
    """A fitted model, ready for other responses to the same rows.

    Single fits are by the solver of the estimate, with its probes to begin with.
    """

    estimate: Estimate
    rows: WeightedColumns
    mc_tolerance: float = 0.05

    @cached_property
    def shared(self) -> SharedDesign:
        """What its fits to other responses share."""
        return SharedDesign(self.estimate.criterion, self.rows, self.estimate.beta)

    @property
    def batched(self) -> bool:
        """Whether replicates are fitted as a batch."""
        return self.shared.batched

    @cached_property
    def start(self) -> tuple[Floats, ...]:
        """Working templates to start from: the fitted ones, off the boundary."""
        return tuple(off_boundary(T) for T in self.estimate.templates)

    def refit(self, responses: Responses) -> Refits:
        """Fit to all responses."""
        A = self.estimate.A
        pieces = [responses.part(s) for s in slices(len(responses), at_once(A.terms, A.p))]
        return joined([self.shared.together(piece, self._starts(len(piece))) for piece in pieces])

    def _starts(self, size: int) -> list[Floats]:
        return [np.broadcast_to(T, (size, *T.shape)) for T in self.start]

    def batch(self, responses: Responses) -> Batch:
        """Cross-products of all replicates."""
        return self.shared.batch(responses)

    def single(self, responses: Responses, i: int) -> Estimate:
        """The estimate from one of the responses, with all that an estimate can tell.

        Raises
        ------
        InterlaceError
            Nothing of the response is left after the fixed effects, the likelihood has no maximum,
            or sums of squares have lost the residuals.
        numpy.linalg.LinAlgError
            The model leaves no residual variance.
        """
        theta0 = self.estimate.criterion.theta(self.start)
        criterion = self.single_criterion(responses, i)
        found = estimate_theta(criterion, theta0=theta0, mc_tolerance=self.mc_tolerance)
        with_digits(found.evaluation)
        return found

    def single_criterion(self, responses: Responses, i: int) -> Criterion:
        """The criterion of one of the responses, in the plan of the fitted model.

        Raises
        ------
        InterlaceError
            Nothing of the response is left after the fixed effects.
        """
        return self.shared.single(responses, i)

    def responded(self, responses: Responses, i: int) -> CrossProducts:
        """Cross-products with one of the responses."""
        return self.shared.responded(responses, i)
