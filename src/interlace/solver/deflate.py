"""The scaled equations with a few directions eliminated exactly before the iteration begins.

Some directions are told little of by the data: all levels of a term moving together (the intercept
moves with them), or the levels of a term together with a level of a small one in which they are
nearly nested.  They are the small eigenvalues of ``M~``: they slow conjugate gradients down and
carry most of the spread of random probes.  Let ``Q`` (q, r) be an orthonormal basis of them,
``E = Q'M~Q`` and ``F = M~ Q E^-1``.  Then

``M~^-1 = Q E^-1 Q' + H S^+ H'``, ``|M~| = |E| |S|``, ``H = I - Q F'``, ``S = M~ - F E F'``,

with ``S`` the Schur complement, which lives on the complement of ``Q``; conjugate gradients run on
it alone (deflation; Frank and Vuik, 2001, SIAM Journal on Scientific Computing 23, 442-462).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.solver.conjugate import norms, solve
from interlace.solver.layout import Layout
from interlace.solver.sparse import Reduced
from interlace.sums.terms import Floats

# Effects of small terms that are eliminated one by one, and how independent directions must be.
_SINGLE, _INDEPENDENT = 32, 1e-6


@dataclass(frozen=True, eq=False)
class Deflated:
    """Scaled equations, the basis ``Q`` (q, r), ``E`` and ``F = M~ Q E^-1`` (q, r)."""

    reduced: Reduced
    Q: Floats
    E: Floats
    F: Floats

    @property
    def logdet(self) -> float:
        """``log|E|``."""
        return float(np.linalg.slogdet(self.E)[1])

    @cached_property
    def E_inverse(self) -> Floats:
        """``E^-1``, (r, r)."""
        return np.asarray(np.linalg.inv(self.E), dtype=np.float64)

    @cached_property
    def J(self) -> Floats:
        """``S F`` (q, r)."""
        return self.schur(self.F)

    def schur(self, v: Floats) -> Floats:
        """``S v``."""
        return self.reduced.scaled(v) - self.F @ (self.E @ (self.F.T @ v))

    def lifted(self, v: Floats) -> Floats:
        """``H v = v - Q F'v``: from the complement to all of the equations."""
        return v - self.Q @ (self.F.T @ v)

    def complement(self, f: Floats) -> Floats:
        """``H' f``: right-hand sides of ``S``."""
        return f - self.F @ (self.Q.T @ f)

    def solve(self, f: Floats, tolerance: float) -> Floats:
        """``M~^-1 f``, with residuals relative to ``f``: what ``H'`` leaves may be rounding."""
        found = solve(self.schur, self.complement(f), tolerance * norms(f))
        return self.completed(found.x, f)

    def completed(self, x: Floats, f: Floats) -> Floats:
        """``M~^-1 f`` from ``x = S^+ H' f``."""
        return self.lifted(x) + self.Q @ (self.E_inverse @ (self.Q.T @ f))


@dataclass(frozen=True, eq=False)
class Low:
    """A matrix of low rank, ``U core U'``: ``U`` (q, s), ``core`` (s, s)."""

    U: Floats
    core: Floats


def known_inverse(deflated: Deflated) -> Low:
    """``Q E^-1 Q' + H H' - I``: what is known of ``M~^-1``, less the identity."""
    Q, F = deflated.Q, deflated.F
    one, r = np.eye(Q.shape[1]), Q.shape[1]
    core = np.block([[deflated.E_inverse + F.T @ F, -one], [-one, np.zeros((r, r))]])
    return Low(np.concatenate((Q, F), axis=1), core)


def known_coupling(deflated: Deflated) -> Low:
    """``H (S - I) H'`` less a matrix with diagonal blocks 0: what its probes give on average.

    ``H S H' = M~ - F E F' - Q J' - J Q' + Q F'J Q'`` and ``H H' = I - Q F' - F Q' + Q F'F Q'``.
    """
    Q, F, J = deflated.Q, deflated.F, deflated.J
    r = Q.shape[1]
    one, none = np.eye(r), np.zeros((r, r))
    core = np.block([[F.T @ J - F.T @ F, one, -one], [one, -deflated.E, none], [-one, none, none]])
    return Low(np.concatenate((Q, F, J), axis=1), core)


def deflate(reduced: Reduced, *, none: bool = False) -> Deflated:
    """Eliminate the directions that the data tell least of, or ``none``."""
    q = reduced.layout.q
    Q = np.zeros((q, 0)) if none or not q else _orthonormal(_directions(reduced))
    MQ = reduced.scaled(Q) if Q.shape[1] else Q
    E: Floats = Q.T @ MQ
    E = 0.5 * (E + E.T)
    F = np.asarray(np.linalg.solve(E, MQ.T).T, dtype=np.float64)
    return Deflated(reduced, Q, E, F)


def _directions(reduced: Reduced) -> Floats:
    """Scaled vectors of moves that the data tell little of.

    All levels of a term together, ``L' 1``, for each of its columns; every effect of the small
    terms, and what it is confounded with in the others.
    """
    terms = reduced.A.terms
    widths = [terms[j].k for j in reduced.layout.rest]
    found = np.zeros((reduced.layout.q, sum(widths)))
    start = 0
    for j, k in zip(reduced.layout.rest, widths, strict=True):
        upper = np.linalg.inv(reduced.scaling[j].inverse)
        found[reduced.slice(j), start : start + k] = upper.reshape(-1, k)
        start += k
    parts = [reduced.slice(j) for j in single_terms(reduced.layout)]
    if not parts:
        return found
    small = np.concatenate([np.arange(part.start, part.stop) for part in parts])
    alone = np.zeros((reduced.layout.q, len(small)))
    alone[small, np.arange(len(small))] = 1.0
    return np.concatenate((found, alone, reduced.scaled(alone) - alone), axis=1)


def single_terms(layout: Layout) -> list[int]:
    """The smallest of several terms of the rest, whose effects are cheap to treat one by one."""
    found: list[int] = []
    left = _SINGLE
    for j, size in sorted(layout.sizes.items(), key=lambda item: item[1])[:-1]:
        left -= size
        if left >= 0:
            found.append(j)
    return found


def _orthonormal(columns: Floats) -> Floats:
    """Orthonormal basis of the columns, of unit length first, without those nearly dependent."""
    norms = np.sqrt((columns**2).sum(axis=0))
    U, s, _ = np.linalg.svd(columns[:, norms > 0.0] / norms[norms > 0.0], full_matrices=False)
    return np.asarray(U[:, s > _INDEPENDENT], dtype=np.float64)
