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
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from interlace.criterion import Criterion
from interlace.crossprod import Basis, Codes, CrossProducts
from interlace.design import Design
from interlace.estimate import SINGULAR_TOLERANCE, Estimate, estimate_theta
from interlace.many import CONVERGED, MESSAGES, Index, Mask, Points, minimize_many
from interlace.solver.batch import derivatives, factorize
from interlace.solver.plan import as_array, flat_cross, remainder, respond
from interlace.solver.stack import Batch, OwnRows, Rows, Shape, order_of, shared_rows
from interlace.terms import Floats, ReTerm

# Batches pay while the work on one replicate is less than what Python spends on one fit: the
# remainder's rows, and the bytes of the products of pairs of them.
_MOST_ROWS, _MOST_BYTES = 100, 3e7
# Singular values of the templates to start from, at least: a zero column is a stationary point.
_START_FLOOR = 0.1
# Standard deviations, relative to sigma and per root mean square of their column, that are zero.
_ZERO = 1e-7


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


@dataclass(frozen=True, eq=False)
class WorkingRows:
    """Rows of a design in the working basis, weighted: ``Q`` (n, p) and ``Z_j'`` (q_j, n)."""

    root_w: Floats | None
    Q: Floats
    Z: tuple[csr_matrix, ...]

    def responses(self, deviations: Floats) -> Responses:
        """Products of ``deviations`` (n, B) from the fitted model with the working columns."""
        n = len(self.Q)
        r = deviations if self.root_w is None else deviations * self.root_w[:, None]
        before = np.sqrt((r**2).mean(axis=0))
        coef = self.Q.T @ r / n
        r = r - self.Q @ coef
        again = self.Q.T @ r / n
        r -= self.Q @ again
        left = np.sqrt((r**2).mean(axis=0))
        good = left > 1e-13 * before
        scale = np.where(good, 1.0 / np.where(good, left, 1.0), np.nan)
        r *= scale
        return Responses(coef + again, scale, self.Q.T @ r, tuple(Z @ r for Z in self.Z))


def working_rows(design: Design, A: CrossProducts) -> WorkingRows:
    """Rows of the design whose cross-products are ``A``."""
    root = None if design.weights is None else np.sqrt(design.weights)
    X = design.X[:, np.isin(design.names, A.names)] @ A.basis.fixed[:-1, :-1]
    Q = X if root is None else X * root[:, None]
    blocks = [
        _indicators(codes, Z @ B if root is None else (Z @ B) * root[:, None], term)
        for codes, Z, B, term in zip(design.codes, design.Z, A.basis.random, A.terms, strict=True)
    ]
    return WorkingRows(root, Q, tuple(blocks))


def _indicators(codes: Codes, Z: Floats, term: ReTerm) -> csr_matrix:
    """``Z_j'`` of one term, ``(q, n)``."""
    n, k = Z.shape
    index = (codes[:, None] * k + np.arange(k)).ravel()
    starts = np.arange(n + 1) * k
    return csc_matrix((Z.ravel(), index, starts), shape=(term.q, n)).tocsr()


@dataclass(frozen=True, eq=False)
class Refits:
    """Estimates from ``B`` responses, in the user's units.

    ``templates`` are ``(B, k, k)`` per term (``sigma^2 T T'`` is the covariance; not triangular),
    ``beta`` is (B, p), the rest ``(B,)``.  ``errors`` names why a fit failed, by replicate; such
    rows hold NaN.
    """

    beta: Floats
    templates: tuple[Floats, ...]
    sigma: Floats
    value: Floats
    singular: Mask
    errors: dict[int, str]


@dataclass(frozen=True, eq=False)
class Refitter:
    """A fitted model, ready for other responses to the same rows."""

    estimate: Estimate
    rows: WorkingRows

    @property
    def A(self) -> CrossProducts:
        """Cross-products of the fit."""
        return self.estimate.A

    @cached_property
    def batched(self) -> bool:
        """Whether replicates are fitted as a batch."""
        terms = self.A.terms
        first = terms[order_of(terms)[0]]
        m = sum(t.q for t in terms) - first.q + self.A.p
        return m <= _MOST_ROWS and 8.0 * first.q * first.k * m**2 <= _MOST_BYTES

    @cached_property
    def _shared(self) -> tuple[Shape, Rows, Floats, Floats]:
        """Shape, rows, ``N`` and ``S`` of the batch."""
        shape = shape_of(self.A, reml=self.estimate.criterion.reml)
        R, S = _parts(self.A, shape)
        return shape, shared_rows(R), _levels_last(self.A.zz[shape.first]), S[None]

    @cached_property
    def start(self) -> tuple[Floats, ...]:
        """Working templates to start from: the fitted ones, off the boundary."""
        return tuple(off_boundary(T) for T in self.estimate.templates)

    def refit(self, deviations: Floats) -> Refits:
        """Fit to the responses whose deviations from the fitted model are ``(n, B)``."""
        responses = self.rows.responses(deviations)
        return self._together(responses)

    # -------------------------------------------------------------- as a batch

    def batch(self, responses: Responses) -> Batch:
        """Cross-products of all replicates."""
        shape, rows, N, S = self._shared
        criterion, n, nu = self.estimate.criterion, self.A.n, self.estimate.criterion.nu
        first = self.A.terms[shape.first]
        zy = responses.zy[shape.first].reshape(first.l, first.k, -1).transpose(1, 0, 2)
        constant = _constant(criterion) - 2.0 * nu * np.log(responses.scale)
        return Batch(
            shape=shape,
            rows=rows,
            N=N,
            S=S,
            zy=np.ascontiguousarray(zy),
            sy=np.concatenate([*(responses.zy[j] for j in shape.rest), responses.xy]).T.copy(),
            yy=np.full(len(responses.scale), float(n)),
            nu=np.array([float(nu)]),
            constant=constant,
        )

    def _together(self, responses: Responses) -> Refits:
        """All replicates at once."""
        batch = self.batch(responses)
        shape, B = batch.shape, len(batch)
        start = {j: np.broadcast_to(T, (B, *T.shape)) for j, T in enumerate(self.start)}
        found = minimize_many(BatchProblem(batch), shape.packed(start))
        templates = shape.unpacked(found.x)
        factor = factorize(batch, templates)
        errors = {
            int(i): f"the fit did not converge: {MESSAGES[found.message[i]]}"
            if np.isfinite(responses.scale[i])
            else "the fixed effects reproduce the response exactly"
            for i in np.flatnonzero(found.message != CONVERGED)
        }
        beta = factor.coef[:, shape.q :]
        return self._in_units(
            responses, list(templates.values()), beta, factor.r2, found.value, errors
        )

    def _in_units(
        self,
        responses: Responses,
        templates: Sequence[Floats],
        beta: Floats,
        r2: Floats,
        value: Floats,
        errors: dict[int, str],
    ) -> Refits:
        """From the working basis to the user's units."""
        basis = self.A.basis
        F = basis.fixed[:-1, :-1]
        users, singular = [], np.zeros(len(r2), dtype=bool)
        for B, T, size in zip(basis.random, templates, basis.root_mean_squares, strict=True):
            scaled = size[:, None] * (B @ T)
            singular |= is_singular(scaled)
            zero = np.sqrt((scaled**2).sum(axis=2)) <= _ZERO
            users.append(np.where(zero[:, :, None], 0.0, B @ T))
        working = responses.coef.T + beta / responses.scale[:, None]
        sigma = np.sqrt(r2 / self.estimate.criterion.nu) / responses.scale
        fits = Refits(
            self.estimate.beta + working @ F.T, tuple(users), sigma, value, singular, errors
        )
        return _blank_failures(fits)

    # -------------------------------------------------------------- one by one

    def single(self, responses: Responses, i: int) -> Estimate:
        """The estimate from one of the responses, with all that an estimate can tell.

        Raises
        ------
        numpy.linalg.LinAlgError
            The model leaves no residual variance.
        """
        A = self.responded(responses, i)
        criterion = Criterion(A, self.estimate.criterion.reml)
        criterion.__dict__["plan"] = respond(self.estimate.criterion.plan, A)  # known already
        theta0 = self.estimate.criterion.theta(self.start)
        return estimate_theta(criterion, theta0=theta0)

    def responded(self, responses: Responses, i: int) -> CrossProducts:
        """Cross-products with one of the responses."""
        A, scale = self.A, float(responses.scale[i])
        F = A.basis.fixed.copy()
        F[:-1, -1] = -scale * (self.estimate.beta + F[:-1, :-1] @ responses.coef[:, i])
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
class BatchProblem:
    """A batch as the batched optimiser wants it: functions of packed working templates."""

    batch: Batch

    def evaluate(self, x: Floats) -> Points:
        """Values, gradients and Newton matrices at ``x`` (B, c)."""
        factor = factorize(self.batch, self.batch.shape.unpacked(x))
        return Points(factor.value, *derivatives(factor))

    def take(self, which: Index | Mask) -> BatchProblem:
        """Some of the replicates."""
        return BatchProblem(self.batch.take(which))


def stacked(criteria: Sequence[Criterion]) -> Batch:
    """A batch of criteria of one shape, each with cross-products of its own.

    Every term must have as many levels in all of them; levels without rows are allowed.
    """
    shape = shape_of(criteria[0].A, reml=criteria[0].reml)
    parts = [_parts(c.A, shape) for c in criteria]
    first, rest = shape.first, shape.rest
    levels = [_levels_last(c.A.zz[first])[..., 0] for c in criteria]
    y = [[c.A.zv[j][..., -1].ravel() for j in rest] + [c.A.vv[:-1, -1]] for c in criteria]
    return Batch(
        shape=shape,
        rows=OwnRows(np.stack([R for R, _ in parts])),
        N=np.stack(levels, axis=-1),
        S=np.stack([S for _, S in parts]),
        zy=np.stack([c.A.zv[first][..., -1].T for c in criteria], axis=-1),
        sy=np.stack([np.concatenate(one) for one in y]),
        yy=np.array([c.A.vv[-1, -1] for c in criteria]),
        nu=np.array([float(c.nu) for c in criteria]),
        constant=np.array(
            [_constant(c) - 2.0 * c.nu * np.log(c.A.basis.response_scale) for c in criteria]
        ),
    )


def shape_of(A: CrossProducts, *, reml: bool) -> Shape:
    """Order of the terms of a batch."""
    order = order_of(A.terms)
    sizes = [A.terms[j].q for j in order[1:]]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(int).tolist()
    return Shape(A.terms, order, dict(zip(order[1:], starts, strict=False)), starts[-1], reml)


def off_boundary(T: Floats, floor: float = _START_FLOOR) -> Floats:
    """A template with singular values of at least ``floor`` (diagonal ones stay diagonal)."""
    U, s, Vt = np.linalg.svd(T)
    return np.asarray((U * np.maximum(s, floor)) @ Vt) if (s < floor).any() else T


def is_singular(scaled: Floats) -> Mask:
    """Whether a triangular form of ``(B, k, k)`` has a (nearly) zero on its diagonal."""
    R = np.linalg.qr(scaled.swapaxes(1, 2), mode="r")
    diagonal = np.abs(np.diagonal(R, axis1=1, axis2=2))
    found: Mask = (diagonal < SINGULAR_TOLERANCE).any(axis=1)
    return found


def _blank_failures(fits: Refits) -> Refits:
    """NaN in the rows of fits that failed."""
    failed: NDArray[np.intp] = np.array(sorted(fits.errors), dtype=np.intp)
    for array in (fits.beta, fits.sigma, fits.value, *fits.templates):
        array[failed] = np.nan
    fits.singular[failed] = False
    return fits


def _constant(criterion: Criterion) -> float:
    """Terms of the criterion that do not depend on the response."""
    A, nu = criterion.A, criterion.nu
    constant = nu * (1.0 + np.log(2.0 * np.pi / nu)) - A.sum_log_w
    return float(constant - (2.0 * A.basis.log_det_fixed if criterion.reml else 0.0))


def _parts(A: CrossProducts, shape: Shape) -> tuple[Floats, Floats]:
    """Rows ``R`` (k, l, m) of the eliminated term, and ``S`` (m, m), both without ``y``."""
    cross = flat_cross(A)
    term = A.terms[shape.first]
    blocks = [as_array(cross[shape.first, j]) for j in shape.rest]
    full = np.concatenate([*blocks, A.zv[shape.first][..., :-1].reshape(term.q, -1)], axis=1)
    R = full.reshape(term.l, term.k, -1).transpose(1, 0, 2)
    S = remainder(A, shape.rest, shape.offsets, cross)
    return np.ascontiguousarray(R), S[:-1, :-1]


def _levels_last(zz: Floats) -> Floats:
    """``(l, k, k)`` as ``(k, k, l, 1)``."""
    return np.ascontiguousarray(zz.transpose(1, 2, 0))[..., None]
