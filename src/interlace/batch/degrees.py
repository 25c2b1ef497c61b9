"""Tests of the fixed effects of many small fits at once, by Satterthwaite or Kenward and Roger.

The formulas are those of :mod:`interlace.inference.satterthwaite` and
:mod:`interlace.inference.kenward_roger`, which are its oracle.  All random effects are held in one
dense matrix per replicate: with ``M = Z'Z``, which all replicates share, and the covariance
``Gamma`` of all random effects, ``Z' Omega^-1 = (I + M Gamma)^-1 Z'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from interlace.batch.fits import Refits
from interlace.batch.refits import Responses, SharedDesign
from interlace.estimation.criterion import ZERO_SIZE
from interlace.solver.blocks import solved
from interlace.sums.terms import Floats, ReTerm

# As for single fits.
_FLAT, _FLAT_KR, _ROUNDING = 1e-8, 1e-12, 1e-20
# Random effects, of all terms together, with which dense matrices pay.
MOST_EFFECTS = 160


@dataclass(frozen=True, eq=False)
class DenseRows:
    """What replicates share, in the working basis: ``Z'Z`` (q, q), ``Z'X`` (q, p), ``X'X``."""

    core: SharedDesign
    M: Floats
    ZX: Floats
    XX: Floats


def dense_rows(core: SharedDesign) -> DenseRows:
    """Products of all columns of a shared design."""
    Z = [block.toarray() for block in core.rows.Z]
    stacked, Q = np.concatenate(Z), core.rows.Q
    return DenseRows(core, stacked @ stacked.T, stacked @ Q, Q.T @ Q)


@dataclass(frozen=True, eq=False)
class ManyTests:
    """``B`` fits, ready for tests of linear functions of their fixed effects.

    ``templates`` are lower triangular in the user's units, ``(B, k, k)`` per term.
    """

    rows: DenseRows
    fits: Refits
    responses: Responses
    templates: tuple[Floats, ...]

    # -------------------------------------------------------------- the models

    @property
    def terms(self) -> tuple[ReTerm, ...]:
        """The random terms."""
        return self.rows.core.A.terms

    @property
    def reml(self) -> bool:
        """REML or ML."""
        return self.rows.core.criterion.reml

    @cached_property
    def slices(self) -> list[slice]:
        """Where every term stands among the random effects."""
        ends = np.cumsum([0, *(t.q for t in self.terms)]).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]

    @cached_property
    def working(self) -> list[Floats]:
        """Working templates."""
        pairs = zip(self.rows.core.A.basis.random, self.templates, strict=True)
        return [solved(B, T) for B, T in pairs]

    @cached_property
    def solved(self) -> tuple[Floats, Floats, Floats]:
        """``Z' Omega^-1`` times ``Z`` (B, q, q), ``X`` (B, q, p) and ``y`` (B, q)."""
        M, ZX = self.rows.M, self.rows.ZX
        B, q = len(self.fits.sigma), len(M)
        system = np.empty((B, q, q))
        for own, T, term in zip(self.slices, self.working, self.terms, strict=True):
            gamma = T @ T.swapaxes(1, 2)
            blocks = M[:, own].reshape(q * term.l, term.k)
            system[:, :, own] = (blocks @ gamma).reshape(B, q, term.q)
        system[:, np.arange(q), np.arange(q)] += 1.0
        zy = np.concatenate(self.responses.zy).T
        right = np.concatenate(
            (np.broadcast_to(np.hstack((M, ZX)), (B, q, q + ZX.shape[1])), zy[..., None]), axis=2
        )
        found = solved(system, right)
        return found[:, :, :q], found[:, :, q:-1], found[:, :, -1]

    @cached_property
    def C(self) -> Floats:
        """``(X' Omega^-1 X)^-1`` in the working basis, ``(B, p, p)``."""
        image = self.solved[1]
        shrunk = np.einsum("qa,bqc->bac", self.rows.ZX, self._spread(image))
        return np.linalg.inv(self.rows.XX - 0.5 * (shrunk + shrunk.swapaxes(1, 2)))

    def _spread(self, h: Floats) -> Floats:
        """``Gamma h`` for ``h`` (B, q, c)."""
        out = np.empty_like(h)
        for own, T, term in zip(self.slices, self.working, self.terms, strict=True):
            part = h[:, own].reshape(len(h), term.l, term.k, -1)
            gamma = T @ T.swapaxes(1, 2)
            out[:, own] = np.einsum("bij,bljc->blic", gamma, part).reshape(h[:, own].shape)
        return out

    @cached_property
    def P(self) -> Floats:
        """``Z' P Z``, with the fixed effects projected out, ``(B, q, q)``."""
        G, image, _ = self.solved
        return G - image @ self.C @ image.swapaxes(1, 2)

    def blocks(self, matrix: Floats, i: int, j: int) -> Floats:
        """The part of two terms, ``(B, l_i, k_i, l_j, k_j)``."""
        a, b = self.terms[i], self.terms[j]
        part = matrix[:, self.slices[i], self.slices[j]]
        return part.reshape(len(matrix), a.l, a.k, b.l, b.k)

    def traces(self, matrix: Floats, E: Sequence[Floats]) -> Floats:
        """``tr(F G_r F G_s)`` for symmetric ``E_r``, ``(B, c_j, k, k)`` per term."""
        rows = []
        for i, Ei in enumerate(E):
            row = []
            for j, Ej in enumerate(E):
                F = self.blocks(matrix, i, j)
                flat = F.transpose(0, 2, 4, 1, 3).reshape(len(F), F.shape[2] * F.shape[4], -1)
                pairs = (flat @ flat.swapaxes(1, 2)).reshape(
                    len(F), F.shape[2], F.shape[4], F.shape[2], F.shape[4]
                )
                row.append(np.einsum("xrab,xacbd,xscd->xrs", Ei, pairs, Ej, optimize=True))
            rows.append(np.concatenate(row, axis=2))
        return np.concatenate(rows, axis=1)

    def level_sums(self, matrix: Floats) -> list[Floats]:
        """Sums over levels of the diagonal blocks, ``(B, k, k)`` per term."""
        return [np.einsum("xlalb->xab", self.blocks(matrix, j, j)) for j in range(len(self.terms))]

    def moved(self, E: Sequence[Floats], h: Floats) -> Floats:
        """``E_r h`` at the levels of the term of ``r``, 0 elsewhere: ``(B, c, q, m)``."""
        size = sum(e.shape[1] for e in E)
        out = np.zeros((len(h), size, *h.shape[1:]))
        start = 0
        for own, e, term in zip(self.slices, E, self.terms, strict=True):
            part = h[:, own].reshape(len(h), term.l, term.k, -1)
            found = np.einsum("xrab,xlbm->xrlam", e, part)
            out[:, start : start + e.shape[1], own] = found.reshape(len(h), e.shape[1], term.q, -1)
            start += e.shape[1]
        return out

    def contrasts(self, L: Floats) -> Floats:
        """Rows of ``L`` for the working fixed effects."""
        return L @ self.rows.core.A.basis.fixed[:-1, :-1]

    def _spreads(self, E: Sequence[Floats], L: Floats) -> tuple[Floats, Floats]:
        """``l' C l`` (B, c) and its derivatives along ``E_r``, ``(B, c, r)``; ``L`` (B, c, p)."""
        v = self.C @ L.swapaxes(1, 2)
        image = self.solved[1] @ v
        slopes = np.einsum("xqc,xrqc->xcr", image, self.moved(E, image))
        return np.einsum("xcp,xpc->xc", L, v), slopes

    # -------------------------------------------------------------- Satterthwaite

    @cached_property
    def theta_moves(self) -> tuple[list[Floats], list[Floats]]:
        """Derivatives of working templates and of ``T T'`` by theta, ``(B, c, k, k)`` each."""
        D, E = [], []
        bases = self.rows.core.A.basis.random
        for term, basis, T in zip(self.terms, bases, self.working, strict=True):
            D.append(solved(basis, term.slopes(basis @ T)))
            half = D[-1] @ T[:, None].swapaxes(2, 3)
            E.append(half + half.swapaxes(2, 3))
        return D, E

    @cached_property
    def information(self) -> Floats:
        """Observed information of ``(theta, sigma)``, ``(B, c + 1, c + 1)``."""
        (D, E), nu = self.theta_moves, self.rows.core.criterion.nu
        G, image, gy = self.solved
        xy = self.responses.xy.T
        scored = xy - np.einsum("qa,xq->xa", self.rows.ZX, self._spread(gy[..., None])[..., 0])
        beta = (self.C @ scored[..., None])[..., 0]
        e = gy - (image @ beta[..., None])[..., 0]
        rate = 1.0 / (self.fits.sigma * self.responses.scale) ** 2
        inner = self.P if self.reml else G
        h = self.moved(E, e[..., None])[..., 0]
        q = np.einsum("xrq,xq->xr", h, e)
        size = h.shape[1]
        H = np.empty((len(e), size + 1, size + 1))
        within = 2.0 * rate[:, None, None] * (h @ self.P @ h.swapaxes(1, 2))
        within -= self.traces(inner, E)
        within -= (rate**2 / nu)[:, None, None] * q[:, :, None] * q[:, None, :]
        start = 0
        bases = self.rows.core.A.basis.random
        parts = zip(
            self.slices, D, self.level_sums(inner), self.terms, bases, self.working, strict=True
        )
        for own, d, total, term, B, T in parts:
            part = e[:, own].reshape(len(e), term.l, term.k)
            gamma = total - rate[:, None, None] * (part.swapaxes(1, 2) @ part)
            rows = slice(start, start + d.shape[1])
            within[:, rows, rows] += 2.0 * np.einsum("xrab,xac,xscb->xrs", d, gamma, d)
            within[:, rows, rows] += term.bends(B @ T, solved(B.T, 2.0 * gamma @ T))
            start += d.shape[1]
        sigma = self.fits.sigma
        H[:, size, size] = 4.0 * nu / sigma**2
        crossed = 2.0 * rate[:, None] * q / sigma[:, None]
        H[:, :size, size] = H[:, size, :size] = crossed
        outer = crossed[:, :, None] * crossed[:, None, :]
        H[:, :size, :size] = within + outer / H[:, size, size, None, None]
        return H

    @cached_property
    def vcov_theta(self) -> Floats:
        """Covariance of ``(theta, sigma)``, ``(B, c + 1, c + 1)``."""
        sizes = self.rows.core.A.basis.root_mean_squares
        n = self.rows.core.A.n
        bending = [
            term.distances(T, term.l / n / size**2)
            for term, T, size in zip(self.terms, self.templates, sizes, strict=True)
        ]
        distances = np.concatenate([*bending, self.fits.sigma[:, None]], axis=1)
        return 2.0 * unit_inverses(self.information, _FLAT / distances**2, _FLAT)

    def satterthwaite(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (B, c, p), ``(B, c)``."""
        variances, slopes = self._spreads(self.theta_moves[1], L)
        sigma = self.fits.sigma[:, None]
        variances, slopes = sigma**2 * variances, sigma[..., None] ** 2 * slopes
        gradients = np.concatenate((slopes, (2.0 * variances / sigma)[..., None]), axis=2)
        spread = np.einsum("xcr,xrs,xcs->xc", gradients, self.vcov_theta, gradients)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(2.0 * variances**2 / spread)

    @property
    def vcov(self) -> Floats:
        """Covariance of the working fixed effects in the user's scale, ``(B, p, p)``."""
        return self.fits.sigma[:, None, None] ** 2 * self.C

    # -------------------------------------------------------------- Kenward and Roger

    @cached_property
    def directions(self) -> list[Floats]:
        """``E_r`` that span how every covariance moves, ``(B, c, k, k)`` per term."""
        bases = self.rows.core.A.basis.random
        parts = zip(self.terms, bases, self.templates, strict=True)
        return [t.template.tangents(B, T) for t, B, T in parts]

    @cached_property
    def W(self) -> Floats:
        """Covariance of the variance parameters over ``sigma^4``; ``Omega`` comes last."""
        A, E = self.rows.core.A, self.directions
        sums = self.level_sums(self.P)
        first = np.concatenate(
            [np.einsum("xrab,xab->xr", e, s) for e, s in zip(E, sums, strict=True)], axis=1
        )
        size = first.shape[1]
        H = np.empty((len(first), size + 1, size + 1))
        H[:, :size, :size] = self.traces(self.P, E)
        H[:, size, :size] = H[:, :size, size] = first
        H[:, size, size] = A.n - A.p
        floor = [np.full(t.n_theta, (N**2).sum()) for t, N in zip(self.terms, A.zz, strict=True)]
        floors = _ROUNDING * np.append(np.concatenate(floor), 0.0)
        return 2.0 * unit_inverses(
            H, np.broadcast_to(floors, first.shape[:1] + floors.shape), _FLAT_KR
        )

    @cached_property
    def adjusted(self) -> Floats:
        """Kenward and Roger's covariance of the working fixed effects, ``(B, p, p)``."""
        K = self.moved(self.directions, self.solved[1])
        PK = self.P[:, None] @ K
        W = self.W[:, :-1, :-1]
        bias = np.einsum("xrs,xrqa,xsqb->xab", W, K, PK, optimize=True)
        C = self.C
        return np.asarray(self.fits.sigma[:, None, None] ** 2 * (C + 2.0 * C @ bias @ C))

    def kenward_roger(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (B, c, p), ``(B, c)``."""
        variances, slopes = self._spreads(self.directions, L)
        relative = np.concatenate((slopes, variances[..., None]), axis=2) / variances[..., None]
        return np.asarray(2.0 / np.einsum("xcr,xrs,xcs->xc", relative, self.W, relative))

    def amounts(self, L: Floats) -> tuple[Floats, Floats]:
        """``A1`` and ``A2`` of joint tests of ``L`` (c, p) in the working basis, ``(B,)``."""
        root = np.linalg.cholesky(L @ self.C @ L.T)
        v = np.linalg.solve(root, L @ self.C).swapaxes(1, 2)
        image = self.solved[1] @ v
        H = np.einsum("xqc,xrqd->xrcd", image, self.moved(self.directions, image))
        unit = np.broadcast_to(np.eye(len(L)), (len(H), 1, len(L), len(L)))
        H = np.concatenate((H, unit), axis=1)
        traces = np.einsum("xrcc->xr", H)
        A1 = np.einsum("xr,xrs,xs->x", traces, self.W, traces)
        return np.asarray(A1), np.einsum("xrs,xrcd,xscd->x", self.W, H, H, optimize=True)


def many_tests(rows: DenseRows, fits: Refits, responses: Responses) -> ManyTests:
    """Fits of a shared design, their templates brought to the form in which theta is reported."""
    sizes = rows.core.A.basis.root_mean_squares
    templates = []
    for term, T, own in zip(rows.core.A.terms, fits.templates, sizes, strict=True):
        size = term.template.even(own)[:, None]
        made = [term.template.canonical(size * one, floor=ZERO_SIZE) for one in T]
        templates.append(np.stack(made) / size)
    return ManyTests(rows, fits, responses, tuple(templates))


def unit_inverses(H: Floats, floor: Floats, flat: float) -> Floats:
    """Generalised inverses as if diagonals were 1; see the one of single fits."""
    diagonal = np.einsum("xrr->xr", H)
    steep = diagonal > floor
    unit = np.where(steep, 1.0 / np.sqrt(np.where(steep, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(H * unit[:, :, None] * unit[:, None, :])
    inverse = np.where(values > flat, 1.0 / np.where(values > flat, values, 1.0), 0.0)
    vectors = unit[:, :, None] * vectors
    return np.asarray((vectors * inverse[:, None, :]) @ vectors.swapaxes(1, 2))
