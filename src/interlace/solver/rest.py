"""``sum of Z'PZ`` of the terms of the rest, without the share of the fixed effects.

Before the fixed effects it is ``sum over levels of S - S C~ S`` with ``C~ = Lambda M^-1 Lambda'``,
so that in directions in which the template ``T`` may be divided by it follows from the diagonal
blocks of ``M^-1``: ``T^-T (I - M^-1) T^-1``.  In the others, where variances are (nearly) zero,
probes of the term itself are sent through ``S - S C~ S``; between the two kinds
``S Lambda M^-1 T^-1`` is divided on one side alone.  Each way has the least spread there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from interlace.solver.blocks import multiply, outer_by_column, sum_product
from interlace.solver.deflate import (
    Deflated,
    Low,
    known_coupling,
    known_inverse,
    single_terms,
)
from interlace.solver.probes import Probes
from interlace.solver.sparse import Reduced, transposed
from interlace.sums.terms import Floats

# Singular values of a template from which on it is divided by.  Residuals of the probes count over
# their square: below SAFE they are made smaller.
SMALL, SAFE = 1e-3, 0.1


@dataclass(frozen=True, eq=False)
class Probed:
    """What random probes ``z`` on the complement of ``Q`` found, with ``x = S^+ z``.

    ``z, first, d`` (q, m) are ``H z``, ``H (x - z)`` and ``H (x - z - c (S - I) z)``; the multiple
    ``c`` leaves the least spread among the *other* probes, so that it makes no bias, and ``slope``
    is its mean.  ``logs`` (m,) is ``z' log(S) z``, with its own such control variate.
    """

    z: Floats
    first: Floats
    d: Floats
    slope: float
    logs: Floats


@dataclass(frozen=True, eq=False)
class Share:
    """A sum over levels: what is ``known`` (k, k), plus the mean of ``each`` probe (m, k, k)."""

    known: Floats
    each: Floats


@dataclass(frozen=True, eq=False)
class RestTraces:
    """Traces of the terms of the rest; ``tolerance`` is that of solutions for further probes."""

    deflated: Deflated
    probes: Probes
    probed: Probed
    tolerance: float

    @property
    def reduced(self) -> Reduced:
        """The equations of the rest."""
        return self.deflated.reduced

    def share(self, j: int) -> Share:
        """``sum of S - S C~ S`` of term ``j``."""
        m, T = self.probed.z.shape[1], self.reduced.templates[j]
        if j in single_terms(self.reduced.layout):
            own = self._own(j, np.eye(self.reduced.layout.sizes[j]), 1e-3 * self.tolerance)
            return Share(own.known + own.each.sum(axis=0), np.zeros((m, *T.shape)))
        U, s, Vt = np.linalg.svd(T)
        large = s >= SMALL
        if large.all():
            return self._divided(j, np.asarray(np.linalg.inv(T), dtype=np.float64))
        probes = self.probes.draw(self.reduced.layout.q)[self.reduced.slice(j)]
        own = self._own(j, probes, self.tolerance)
        if not large.any():
            return own
        inverse = (Vt[large].T / s[large]) @ U[:, large].T
        return _assembled(U, large, own, self._half(j, inverse), self._divided(j, inverse))

    @cached_property
    def low(self) -> Low:
        """Known part of the diagonal blocks of ``M~^-1 - I``, and the control variate's mean."""
        inverse, coupling = known_inverse(self.deflated), known_coupling(self.deflated)
        return Low(
            np.concatenate((inverse.U, coupling.U), axis=1),
            block_diag(inverse.core, self.probed.slope * coupling.core),
        )

    def _spherical(self, j: int, v: Floats) -> Floats:
        """``L^-T v`` of one term, ``(l, k, c)``."""
        return self.reduced.blocks(j, self.reduced.to_spherical(v)[self.reduced.slice(j)])

    def _divided(self, j: int, inverse: Floats) -> Share:
        """By ``T^-T (I - M^-1) T^-1``, with ``inverse`` in the place of ``T^-1``.

        The part without coupling between levels is ``S - S G G' S``, divided by nothing.
        """
        scaling = self.reduced.scaling[j]
        SG = multiply(scaling.S, scaling.G)
        U = self._spherical(j, self.low.U)
        low = np.einsum("lis,st,ljt->ij", U, self.low.core, U, optimize=True)
        outer = outer_by_column(
            self._spherical(j, self.probed.d), self._spherical(j, self.probed.z)
        )
        alone = scaling.S.sum(axis=0) - sum_product(SG, transposed(SG))
        return Share(alone - inverse.T @ low @ inverse, -inverse.T @ outer @ inverse)

    def _half(self, j: int, inverse: Floats) -> Share:
        """By ``S Lambda M^-1 T^-1``: the columns of the directions that are divided by."""
        scaling, part = self.reduced.scaling[j], self.reduced.slice(j)
        base = known_inverse(self.deflated)

        def image(v: Floats) -> Floats:
            return self.reduced.blocks(j, self.reduced.schur(self.reduced.to_effects(v))[part])

        U, W = image(base.U), self._spherical(j, base.U)
        low = np.einsum("lis,st,ljt->ij", U, base.core, W, optimize=True)
        SG = multiply(scaling.S, scaling.G)
        alone = sum_product(SG, transposed(scaling.inverse))
        first, z = image(self.probed.first), self._spherical(j, self.probed.z)
        each = np.einsum("lim,ljm->mij", first, z, optimize=True)
        return Share((alone + low) @ inverse, each @ inverse)

    def _own(self, j: int, own: Floats, tolerance: float) -> Share:
        """By vectors ``own`` (q_j, c) of the term alone, ``z'(S - S C~ S) z`` less its blocks."""
        reduced, part = self.reduced, self.reduced.slice(j)
        S = reduced.scaling[j].S
        z = np.zeros((reduced.layout.q, own.shape[1]))
        z[part] = own
        Sz = reduced.schur(z)
        x = self.deflated.solve(reduced.to_scaled(Sz), tolerance)
        e = (Sz - reduced.schur(reduced.to_effects(x)))[part]
        levels = reduced.blocks(j, own)
        each = outer_by_column(reduced.blocks(j, e) - multiply(S, levels), levels)
        return Share(np.asarray(S.sum(axis=0), dtype=np.float64), each)


def smallest(templates: Sequence[Floats]) -> float:
    """Smallest singular value that is divided by, of several templates; 1 if there is none."""
    sizes = [np.linalg.svd(T, compute_uv=False) for T in templates]
    return min((float(s[s >= SMALL].min(initial=1.0)) for s in sizes), default=1.0)


def _assembled(
    U: Floats, large: NDArray[np.bool_], own: Share, half: Share, divided: Share
) -> Share:
    """Every entry from the share that fits it, in the basis ``U`` of the template's rows."""
    both = np.outer(large, large)
    one = np.broadcast_to(large, both.shape)

    def chosen(a: Floats, b: Floats, c: Floats) -> Floats:
        a, b, c = (U.T @ block @ U for block in (a, b, c))
        mixed = np.where(one, b, np.swapaxes(b, -1, -2))
        return np.asarray(U @ np.where(both, c, np.where(both | one | one.T, mixed, a)) @ U.T)

    return Share(
        chosen(own.known, half.known, divided.known), chosen(own.each, half.each, divided.each)
    )
