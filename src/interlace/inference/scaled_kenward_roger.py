"""Kenward and Roger's tests where residual variances follow a few numbers.

Beside the covariances of the random effects, ``Omega`` moves by ``D_a = diag(2 b_ia / W_i)`` with
the logarithm of a residual standard deviation.  For strata the variances are linear in their
parameters, and the method is Kenward and Roger's; for powers and exponentials it is their method
without second derivatives of the covariance, which SAS calls linear.  With ``U = [Z X]``, ``C`` the
inverse of the mixed-model equations, ``A_a = U' diag(2 W b_a) U`` and ``K = I - C U'WU``,

    tr(P D_a P D_b) = 4 sum b_a b_b (1 - 2 h) + tr(C A_a C A_b),   Z' P D_a P Z = K' A_a K,

``h`` the leverages of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack

from interlace.errors import InterlaceError
from interlace.estimation.scaled import ScaledEvaluation
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.inference.information import unit_inverse
from interlace.inference.kenward_roger import FLAT, KenwardRoger
from interlace.solver.rows import fixed_on_random, own_forms
from interlace.solver.traces import projected_traces
from interlace.sums.terms import Floats

# Begins the message for fits of the iterative solver.
_NEEDED, _INSTEAD = "these degrees of freedom need", ", or use ddf='normal'"
# Bytes of the matrices between all random effects.
_MAX_BYTES = 8e9


def explained(at: ScaledEvaluation) -> Floats:
    """``W^-1 Omega^-1 X`` (n, p): ``X - Z b`` with ``b`` the random effects of every column."""
    left = at.criterion.working.X.copy()
    factor = at.point.dense(_NEEDED, _INSTEAD)
    for Z, b in zip(at.criterion.random, fixed_on_random(factor), strict=True):
        left -= Z.T @ b.reshape(-1, b.shape[2])
    return left


@dataclass(frozen=True, eq=False)
class ScaledKenwardRoger(KenwardRoger):
    """t and F tests of Kenward and Roger for REML fits with a variance function.

    ``estimate`` is the model with the weights found, ``scaled`` that which found them.

    Raises
    ------
    InterlaceError
        If the estimate is by ML, or if the work arrays would not fit in memory.
    """

    scaled: ScaledEstimate

    @property
    def _at(self) -> ScaledEvaluation:
        return self.scaled.evaluation

    @cached_property
    def _left(self) -> Floats:
        return explained(self._at)

    @cached_property
    def _doubled(self) -> csr_matrix:
        """``2 b``, ``(n, q)``."""
        return csr_matrix(2.0 * self._at.criterion.scales)

    def _changes(self, v: Floats) -> Floats:
        squares = self._at.W[:, None] * (self._left @ v) ** 2
        return np.concatenate([super()._changes(v), self._doubled.T @ squares])

    def _pairs(self, v: Floats) -> Floats:
        w, c = self._left @ v, v.shape[1]
        products = (self._at.W[:, None] * w)[:, :, None] * w[:, None, :]
        own = (self._doubled.T @ products.reshape(len(w), c * c)).reshape(-1, c, c)
        return np.concatenate([super()._pairs(v), own])

    @cached_property
    def _W(self) -> Floats:
        estimate, at = self.estimate, self._at
        factor = at.point.dense(_NEEDED, _INSTEAD)
        first, second = projected_traces(factor, self._directions)
        h = at.W * own_forms(factor, at.criterion.working, fixed=True)
        B = self._doubled
        by_eta = np.asarray(B.T @ (1.0 - h))
        own, crossed = self._traces
        own = own + (B.T @ diags(1.0 - 2.0 * h) @ B).toarray()
        size, c = len(first) + len(by_eta), len(first)
        information = np.empty((size + 1, size + 1))
        information[:c, :c], information[c:-1, c:-1] = second, own
        information[:c, c:-1], information[c:-1, :c] = crossed, crossed.T
        information[size, :size] = information[:size, size] = np.append(first, by_eta)
        information[size, size] = estimate.A.n - estimate.A.p
        floor = np.concatenate((self._floor[:-1], np.zeros(len(by_eta) + 1)))
        return 2.0 * unit_inverse(information, floor=floor, flat=FLAT)

    @cached_property
    def _columns(self) -> csr_matrix:
        """``[Z X]``, ``(n, m)``."""
        criterion = self._at.criterion
        parts = [Z.T for Z in criterion.random]
        return csr_matrix(hstack([*parts, csr_matrix(criterion.working.X)]))

    @cached_property
    def _traces(self) -> tuple[Floats, Floats]:
        """``tr(C A_a C A_b)`` (q, q), and ``tr(P G_r P D_a)`` (c, q)."""
        at, U, A = self._at, self._columns, self.estimate.A
        m, q = U.shape[1], self._doubled.shape[1]
        if (size := 8.0 * m**2 * (q + 6)) > _MAX_BYTES:
            raise InterlaceError(
                f"Kenward-Roger tests would need {size / 1e9:.0f} GB for {m} effects and {q} "
                "residual parameters: take ddf='satterthwaite' or 'normal'"
            )
        unit = np.eye(m)
        ends = np.cumsum([t.q for t in A.terms]).tolist()
        sides = [
            unit[end - t.q : end].reshape(t.l, t.k, m) for t, end in zip(A.terms, ends, strict=True)
        ]
        b, beta = at.factor.solve(sides, unit[ends[-1] :])
        C = np.concatenate([*(one.reshape(-1, m) for one in b), beta])
        K = unit - C @ (U.T @ diags(at.W) @ U).toarray()
        products, crossed = [], []
        for a in range(q):
            w = at.W * self._doubled[:, [a]].toarray()[:, 0]
            A_a = (U.T @ diags(w) @ U).tocsr()
            products.append(np.asarray(A_a.T @ C).T)
            crossed.append(self._by_term(np.asarray(K.T @ (A_a @ K)), ends))
        pairs = np.array([[np.vdot(x, y.T) for y in products] for x in products])
        return pairs, np.stack(crossed, axis=1)

    def _by_term(self, M: Floats, ends: list[int]) -> Floats:
        """``tr((I x E_r) M)`` of every direction ``E_r`` of every term, ``(c,)``."""
        found = []
        for t, end, E in zip(self.estimate.A.terms, ends, self._directions, strict=True):
            own = M[end - t.q : end, end - t.q : end].reshape(t.l, t.k, t.l, t.k)
            found.append(np.einsum("rab,lalb->r", E, own))
        return np.concatenate(found)

    @cached_property
    def _bias(self) -> Floats:
        at, A = self._at, self.estimate.A
        values, vectors = np.linalg.eigh(self._W[:-1, :-1])
        splits = np.cumsum([t.n_theta for t in A.terms])
        total = np.zeros((A.p, A.p))
        for value, vector in zip(values, vectors.T, strict=True):
            *parts, eta = np.split(vector, splits)
            Y = (self._doubled @ eta)[:, None] * self._left
            for part, E, B, Z in zip(
                parts, self._directions, self._images, at.criterion.random, strict=True
            ):
                moved = np.einsum("r,rab->ab", part, E) @ B
                Y += Z.T @ moved.reshape(-1, A.p)
            total += value * self._projected(Y)
        return total

    def _projected(self, Y: Floats) -> Floats:
        """``Y' P Y`` for columns of rows, ``(p, p)``."""
        at = self._at
        WY = at.W[:, None] * Y
        pairs = zip(at.criterion.random, self.estimate.A.terms, strict=True)
        random = [np.asarray(Z @ WY).reshape(t.l, t.k, -1) for Z, t in pairs]
        fixed = at.criterion.working.X.T @ WY
        return np.asarray(Y.T @ WY - at.point.dense(_NEEDED, _INSTEAD).explained(random, fixed))
