"""Kenward and Roger's adjusted covariance, scaled F tests and degrees of freedom.

Formulas of Kenward and Roger [1]_ in the notation of Halekoh and Hojsgaard [2]_, for the free
entries ``gamma_r`` of the covariances ``Gamma_j = T_j T_j'`` and the residual variance.  Written
with ``P``, which is ``Omega^-1`` with the fixed effects projected out, and ``G_r = Z_j E_r Z_j'``:

* information ``tr(P G_r P G_s)`` (half of it, over ``sigma^4``, is the REML information);
* adjustment ``2 Phi [sum W_rs X' Omega^-1 G_r P G_s Omega^-1 X] Phi``.

Both are free of the coordinates chosen for the variances.  Beside the ``G_r`` we therefore take
``Omega`` itself in place of the residual's ``I``: ``P Omega P = P`` and ``P X = 0``, so that it
enters the information as ``tr(P G_r)`` and ``n - p``, and the adjustment not at all.

.. [1] Kenward and Roger (1997), Biometrics 53, 983-997.
.. [2] Halekoh and Hojsgaard (2014), Journal of Statistical Software 59(9).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.inference.information import unit_inverse
from interlace.inference.sensitivity import level_products, working_contrasts
from interlace.inference.wald import FTest, wald_f
from interlace.solver.solve import fixed_images, projected_square
from interlace.solver.traces import projected_traces
from interlace.sums.terms import Floats

# Denominator degrees of freedom this close to 2 make the scaling 0 / 0; it is taken as 1, as usual.
_NEAR_TWO = 1e-2
# Information on a variance, relative to that of data without any other effect, that counts as 0.
_ROUNDING = 1e-20
# Eigenvalues of the information, scaled to a unit diagonal, that count as zero.
FLAT = 1e-12

# Begins the message for fits of the iterative solver.
_DF, _INSTEAD = "ddf='kenward-roger' needs", ", or use ddf='normal'"


@dataclass(frozen=True, eq=False)
class KenwardRoger:
    """t and F tests of Kenward and Roger (1997), for fits by REML.

    Prior weights enter as they do in the model.  In very small designs the approximation may have
    no solution with positive degrees of freedom; it is returned as it is, with a p-value of nan.

    Raises
    ------
    InterlaceError
        If the estimate is by ML, or if the work arrays would not fit in memory.

    Examples
    --------
    >>> import interlace
    >>> machines = interlace.datasets.load("machines")
    >>> result = interlace.fit("score ~ Machine + (Machine | Worker)", machines)
    >>> test = KenwardRoger(result.estimate).f_test(np.eye(3)[1:])
    >>> round(test.denominator_df, 6), round(test.scaling, 6), round(test.statistic, 2)
    (4.0, 0.8, 32.8)
    """

    estimate: Estimate

    def __post_init__(self) -> None:
        require_reml(self.estimate.criterion.reml)

    @cached_property
    def vcov(self) -> Floats:
        """Adjusted covariance of the fixed effects, ``(p, p)``."""
        estimate = self.estimate
        F, C = estimate.A.basis.fixed[:-1, :-1], self._C
        adjusted = C + 2.0 * (C @ self._bias @ C)
        return estimate.sigma**2 * (F @ adjusted @ F.T)

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p), ``(c,)``.

        For one function ``m`` simplifies to ``2 / A1``, and the scaling to 1.
        """
        rows = working_contrasts(self.estimate, L)
        v = self._C @ rows.T
        variances = np.einsum("cp,pc->c", rows, v)
        relative = np.concatenate([self._changes(v), variances[None]]) / variances
        return np.asarray(2.0 / np.einsum("rc,rs,sc->c", relative, self._W, relative))

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Scaled F test of ``L beta = value`` for ``L`` (q, p) of full row rank."""
        ddf, scaling = scaled_f(*self._amounts(L), len(L))
        wald = wald_f(self.estimate.beta, self.vcov, L, value)
        return FTest(scaling * wald, len(L), ddf, scaling)

    # -------------------------------------------------------------- parts, over sigma^2

    @property
    def _C(self) -> Floats:
        """``(X' Omega^-1 X)^-1`` in the working basis."""
        return self.estimate.evaluation.factor.vcov

    @cached_property
    def _directions(self) -> list[Floats]:
        """Derivatives of the working ``T T'`` by parameters that span them, ``(c, k, k)`` each."""
        A = self.estimate.A
        parts = zip(A.terms, A.basis.random, self.estimate.user_templates, strict=True)
        return [t.template.tangents(B, T) for t, B, T in parts]

    @cached_property
    def _images(self) -> tuple[Floats, ...]:
        """``Z_j' Omega^-1 X`` in the working basis, ``(l, k, p)`` per term."""
        return fixed_images(self.estimate.evaluation.dense(_DF, _INSTEAD))

    def _changes(self, v: Floats) -> Floats:
        """``v_c' X' Omega^-1 G_r Omega^-1 X v_c`` for the columns of ``v`` (p, c), ``(r, c)``."""
        parts = zip(self._directions, level_products(self._images, v), strict=True)
        return np.concatenate([np.einsum("rab,cab->rc", E, products) for E, products in parts])

    def _pairs(self, v: Floats) -> Floats:
        """The same between all columns, ``(r, c, c)``."""
        changes = [
            np.einsum("lac,rab,lbd->rcd", B @ v, E, B @ v, optimize=True)
            for E, B in zip(self._directions, self._images, strict=True)
        ]
        return np.concatenate(changes)

    @cached_property
    def _W(self) -> Floats:
        """Covariance of the variance parameters over ``sigma^4``; ``Omega`` comes last."""
        estimate = self.estimate
        first, second = projected_traces(estimate.evaluation.dense(_DF, _INSTEAD), self._directions)
        size = len(first)
        information = np.empty((size + 1, size + 1))
        information[:size, :size] = second
        information[size, :size] = information[:size, size] = first
        information[size, size] = estimate.A.n - estimate.A.p
        return 2.0 * unit_inverse(information, floor=self._floor, flat=FLAT)

    @property
    def _floor(self) -> Floats:
        """Information that is rounding error: of terms that the fixed effects explain in full."""
        terms, zz = self.estimate.A.terms, self.estimate.A.zz
        sizes = [np.full(t.n_theta, (N**2).sum()) for t, N in zip(terms, zz, strict=True)]
        return _ROUNDING * np.append(np.concatenate(sizes), 0.0)

    @cached_property
    def _bias(self) -> Floats:
        """``sum W_rs X' Omega^-1 G_r P G_s Omega^-1 X``, ``(p, p)``, by one solve per direction."""
        factor, terms = self.estimate.evaluation.dense(_DF, _INSTEAD), self.estimate.A.terms
        values, vectors = np.linalg.eigh(self._W[:-1, :-1])
        splits = np.cumsum([t.n_theta for t in terms])[:-1]
        total = np.zeros((self.estimate.A.p, self.estimate.A.p))
        for value, vector in zip(values, vectors.T, strict=True):
            change = [
                np.einsum("r,rab->ab", part, E) @ B
                for part, E, B in zip(
                    np.split(vector, splits), self._directions, self._images, strict=True
                )
            ]
            total += value * projected_square(factor, change)
        return total

    def _amounts(self, L: Floats) -> tuple[float, float]:
        """``A1`` and ``A2`` of a test: sums of traces of the relative changes of ``L Phi L'``."""
        rows = working_contrasts(self.estimate, L)
        root = np.linalg.cholesky(rows @ self._C @ rows.T)
        v = np.linalg.solve(root, rows @ self._C).T
        H = np.concatenate([self._pairs(v), np.eye(len(L))[None]])
        traces = np.einsum("rcc->r", H)
        A1 = traces @ self._W @ traces
        A2 = np.einsum("rs,rcd,scd->", self._W, H, H)
        return float(A1), float(A2)


def require_reml(reml: bool) -> None:
    """Refuse fits by ML.

    Raises
    ------
    InterlaceError
        The fit is one.
    """
    if not reml:
        raise InterlaceError(
            "Kenward-Roger tests are defined for fits by REML, this one is by ML: refit with "
            'update(method="REML")'
        )


def scaled_f(A1: float, A2: float, q: int) -> tuple[float, float]:
    """Denominator degrees of freedom ``m`` and scaling ``lambda`` of a test of ``q`` functions.

    They match the approximate mean and variance of the Wald statistic with those of a scaled F,
    and are exact for Hotelling's T2 and for balanced analysis of variance.  In both of these the
    ratio ``(1 - A2/q) / V1`` is 1, the value given to it at 0 / 0.
    """
    if q == 1:
        return 2.0 / A1, 1.0
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    unit = B / (3 * q + 2 * (1 - g))
    V0, V1, V2 = 1.0 + g * unit, 1.0 - (q - g) * unit, 1.0 - (q + 2 - g) * unit
    shrink = 1.0 - A2 / q
    exact = max(abs(shrink), abs(V1)) < 1e-10
    near, far = (V0, V2) if exact else (V0 * shrink**2, V2 * V1**2)
    # q rho = near / far, which grows without bound as V1 or V2 -> 0.
    m = 4.0 + (q + 2) * far / (near - far)
    return m, 1.0 if abs(m - 2.0) < _NEAR_TWO else m * shrink / (m - 2.0)
