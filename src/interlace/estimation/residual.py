"""The estimate of a model with a residual structure: what follows from its optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from interlace.errors import InterlaceError
from interlace.estimation.estimate import Convergence, certificate
from interlace.estimation.optimize import minimize
from interlace.estimation.structured import (
    StructuredCriterion,
    StructuredEvaluation,
    block_diagonal,
)
from interlace.machine.threads import threads_for
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

Watch = Callable[[int, StructuredEvaluation, float], None]
# Eigenvalues of the information, scaled to a unit diagonal, that leave a direction open.
_OPEN = 1e-9
# Steps from the start, in the free numbers, of further searches where one did not end.
_ELSEWHERE = (0.5, -0.5)


@dataclass(frozen=True, eq=False)
class StructuredEstimate:
    """An optimum of a criterion with a residual structure, in the user's units.

    ``x`` are the free numbers of all groups; everything else is derived from them.
    """

    criterion: StructuredCriterion
    x: Floats
    convergence: Convergence

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again when asked for."""
        return {name: getattr(self, name) for name in ("criterion", "x", "convergence")}

    @cached_property
    def evaluation(self) -> StructuredEvaluation:
        """The criterion at the optimum."""
        return self.criterion(self.x)

    @property
    def A(self) -> CrossProducts:
        """Labels, and cross-products without regard to subjects."""
        return self.criterion.A

    @property
    def unit(self) -> float:
        """One working unit of the response in the user's units."""
        return 1.0 / self.A.basis.response_scale

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects, ``(p,)``."""
        F = self.A.basis.fixed
        working: Floats = F[:-1, :-1] @ self.evaluation.beta
        return np.asarray((working - F[:-1, -1]) / float(F[-1, -1]))

    @cached_property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1``, ``(p, p)``."""
        return self.in_users(self.evaluation.C)

    def in_users(self, C: Floats) -> Floats:
        """A covariance of the working fixed effects as one of the fixed effects."""
        F = self.unit * self.A.basis.fixed[:-1, :-1]
        return np.asarray(F @ C @ F.T, dtype=np.float64)

    @cached_property
    def residual_covariances(self) -> Floats:
        """``Sigma`` of every group, ``(G, V, V)``."""
        return self.unit**2 * self.evaluation.covariances

    @property
    def b(self) -> tuple[Floats, ...]:
        """Random effects: there are none."""
        return ()

    @property
    def b_cov(self) -> tuple[Floats, ...]:
        """Their conditional covariances: there are none."""
        return ()

    @property
    def b_se(self) -> tuple[Floats, ...]:
        """Their conditional standard deviations: there are none."""
        return ()

    @property
    def covariances(self) -> list[Floats]:
        """Their covariances: there are none."""
        return []

    @property
    def theta(self) -> Floats:
        """Entries of templates: there are none."""
        return np.zeros(0)

    @property
    def n_family(self) -> int:
        """Parameters beside fixed effects and templates: those of the residual structure."""
        return len(self.x)

    @property
    def value(self) -> float:
        """Criterion at the optimum."""
        return self.evaluation.value

    @property
    def is_singular(self) -> bool:
        """A covariance of residuals is regular wherever the criterion is finite."""
        return False

    # -------------------------------------------------------------- parameters of the structure

    @cached_property
    def expected(self) -> Floats:
        """``tr(P V_a P V_b)`` for the free numbers; without projection for ML."""
        return expected_along(self.evaluation, self.evaluation.jacobians)

    @cached_property
    def information(self) -> Floats:
        """Second derivatives of the criterion: twice their average with the expected, less that."""
        at = self.evaluation
        return 2.0 * at.average(at.jacobians) - self.expected + at.bends

    @cached_property
    def x_covariance(self) -> Floats:
        """Covariance of the free numbers: twice the inverse of :attr:`information`.

        Raises
        ------
        InterlaceError
            The data leave a parameter of the structure open.
        """
        H = 0.5 * (self.information + self.information.T)
        values = np.linalg.eigvalsh(H / np.sqrt(np.outer(np.diag(H), np.diag(H))))
        if not np.isfinite(values).all() or values.min() <= _OPEN:
            raise InterlaceError(
                "the data do not determine all parameters of the residual structure, so that "
                "degrees of freedom and standard errors that depend on them are not known: take "
                "a structure with fewer parameters, or ddf='normal', 'residual' or 'between-within'"
            )
        return np.asarray(2.0 * np.linalg.inv(H))

    def parameters(self) -> tuple[list[Floats], Floats]:
        """Reported parameters of every group, and the covariance of all of them."""
        parts = [self.criterion.structure.reported(p, self.unit) for p in self._split]
        J = block_diagonal([J for _, J in parts])
        return [values for values, _ in parts], J @ self.x_covariance @ J.T

    @property
    def _split(self) -> list[Floats]:
        return self.criterion.split(self.x)


def expected_along(at: StructuredEvaluation, D: Sequence[Floats]) -> Floats:
    """``tr(P V_a P V_b)`` along directions ``D`` (V, V, c) of every group's ``Sigma``."""
    P = at.patterns
    each = P.counts[:, None, None] * at.inverses
    if not at.criterion.reml:
        return at.along(D, each)
    Pi = projections(at, D) @ at.C
    projected = np.einsum("apq,bqp->ab", Pi, Pi, optimize=True)
    return np.asarray(at.along(D, each - 2.0 * at.Q) + projected)


def projections(at: StructuredEvaluation, D: Sequence[Floats]) -> Floats:
    """``X' V^-1 V_a V^-1 X`` along directions of every group's ``Sigma``, ``(c, p, p)``."""
    parts = zip(D, at.squares, strict=True)
    return np.concatenate([np.einsum("stc,stpq->cpq", d, M, optimize=True) for d, M in parts])


def estimate_structured(
    criterion: StructuredCriterion, *, watch: Watch | None = None
) -> StructuredEstimate:
    """Minimise a criterion from the moments of the residuals of least squares.

    A search that does not end is tried again from elsewhere; the lowest is taken.
    """
    start = criterion.start()
    with threads_for(criterion.patterns.V):
        found = minimize(criterion, start, watch=watch)
        n, starts = found.n_evaluations, 1
        for step in _ELSEWHERE:
            if found.converged:
                break
            other = minimize(criterion, start + step, watch=watch)
            n, starts = n + other.n_evaluations, starts + 1
            if (other.converged, -other.point.value) > (found.converged, -found.point.value):
                found = other
    convergence = replace(certificate(found), n_evaluations=n, n_starts=starts)
    return StructuredEstimate(criterion, found.x, convergence)
