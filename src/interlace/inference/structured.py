"""Tests of the fixed effects where residuals are correlated: their degrees of freedom.

All follow from sums by pattern at the optimum; nothing is differenced.  With ``C = (X' V^-1 X)^-1``
and ``Pi_a = X' V^-1 V_a V^-1 X`` for the derivative ``V_a`` of ``V`` by a parameter, ``C`` changes
by ``C Pi_a C``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from interlace.covariance.structures import Natural
from interlace.errors import choose
from interlace.estimation.residual import StructuredEstimate
from interlace.inference.kenward_roger import require_reml, scaled_f
from interlace.inference.satterthwaite import joint_df
from interlace.inference.sensitivity import working_contrasts
from interlace.inference.wald import FTest, Normal, Reference, wald_f
from interlace.model.fitted import STRUCTURED_DDF
from interlace.sums.terms import Floats

# A contrast does not use a coefficient whose weight is below this share of its largest.
_ZERO = 1e-10


@dataclass(frozen=True, eq=False)
class StructuredSatterthwaite:
    """Satterthwaite's degrees of freedom: ``2 v^2`` over the variance of ``v = l' C l``."""

    estimate: StructuredEstimate

    @property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1``, ``(p, p)``."""
        return self.estimate.vcov

    @cached_property
    def _changes(self) -> Floats:
        """``C Pi_a C``, ``(c, p, p)``."""
        at = self.estimate.evaluation
        return np.asarray(at.C @ at.projections(at.jacobians) @ at.C)

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p), ``(c,)``."""
        rows, C = working_contrasts(self.estimate, L), self.estimate.evaluation.C
        v = np.einsum("cp,pq,cq->c", rows, C, rows)
        g = np.einsum("cp,apq,cq->ca", rows, self._changes, rows, optimize=True)
        spread = np.einsum("ca,ab,cb->c", g, self.estimate.x_covariance, g)
        with np.errstate(divide="ignore"):
            return np.asarray(2.0 * v**2 / spread, dtype=np.float64)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Joint test of ``L beta = value``, after Fai and Cornelius."""
        V = self.vcov
        _, directions = np.linalg.eigh(L @ V @ L.T)
        ddf = joint_df(self.df(directions.T @ L))
        return FTest(wald_f(self.estimate.beta, V, L, value), len(L), ddf)


@dataclass(frozen=True, eq=False)
class StructuredKenwardRoger:
    """Kenward and Roger's adjusted covariance and scaled tests, for fits by REML.

    With ``linear`` the second derivatives of ``V`` are left out: SAS's ``kr(linear)``.  Otherwise
    they are those by the parameters that SAS prints (variances with correlations), on which the
    adjustment depends [1]_; of structures that are linear in these there are none.

    .. [1] Kenward and Roger (2009), Computational Statistics and Data Analysis 53, 2583-2595.
    """

    estimate: StructuredEstimate
    linear: bool = False

    def __post_init__(self) -> None:
        require_reml(self.estimate.criterion.reml)

    @cached_property
    def vcov(self) -> Floats:
        """Adjusted covariance of the fixed effects, ``(p, p)``."""
        C = self.estimate.evaluation.C
        return self.estimate.in_users(C + 2.0 * (C @ self._bias @ C))

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p), ``(c,)``: those of Satterthwaite."""
        return StructuredSatterthwaite(self.estimate).df(L)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Scaled F test of ``L beta = value`` for ``L`` (q, p) of full row rank."""
        ddf, scaling = scaled_f(*self._amounts(L), len(L))
        wald = wald_f(self.estimate.beta, self.vcov, L, value)
        return FTest(scaling * wald, len(L), ddf, scaling)

    # -------------------------------------------------------------- parts

    @cached_property
    def _naturals(self) -> list[Natural] | None:
        """Derivatives by the parameters that SAS prints, where second ones are wanted."""
        stack = self.estimate.criterion.stack
        if self.linear or stack.linear:
            return None
        return stack.naturals(self.estimate.x)

    @cached_property
    def _directions(self) -> list[Floats]:
        """Derivatives of every group's ``Sigma`` by its parameters."""
        if self._naturals is None:
            return self.estimate.evaluation.jacobians
        return [n.first for n in self._naturals]

    @cached_property
    def _W(self) -> Floats:
        """Covariance of the parameters."""
        if self._naturals is None:
            return self.estimate.x_covariance
        turn = np.eye(len(self.estimate.x))
        for own, n in zip(self.estimate.evaluation.own, self._naturals, strict=True):
            turn[np.ix_(own, own)] = n.turn
        return np.asarray(turn @ self.estimate.x_covariance @ turn.T)

    @cached_property
    def _Pi(self) -> Floats:
        return self.estimate.evaluation.projections(self._directions)

    @cached_property
    def _bias(self) -> Floats:
        """``sum W_ab (X' V^-1 V_a P V_b V^-1 X - X' V^-1 V_ab V^-1 X / 4)``, ``(p, p)``."""
        at, W = self.estimate.evaluation, self._W
        turned = np.tensordot(W, self._Pi, axes=1)
        total = np.asarray(
            at.doubled(self._directions, W) - np.einsum("apq,qr,ars->ps", self._Pi, at.C, turned)
        )
        for n, own, squares in zip(self._naturals or (), at.own, at.squares, strict=False):
            second = np.einsum("stab,ab->st", n.second, W[np.ix_(own, own)])
            total -= 0.25 * np.einsum("st,stpq->pq", second, squares)
        return total

    def _amounts(self, L: Floats) -> tuple[float, float]:
        """``A1`` and ``A2`` of a test: sums of traces of the relative changes of ``L C L'``."""
        C = self.estimate.evaluation.C
        rows = working_contrasts(self.estimate, L)
        v = np.linalg.solve(np.linalg.cholesky(rows @ C @ rows.T), rows @ C)
        H = v @ self._Pi @ v.T
        traces = np.einsum("acc->a", H)
        A2 = np.einsum("ab,acd,bdc->", self._W, H, H, optimize=True)
        return float(traces @ self._W @ traces), float(A2)


# ------------------------------------------------------------------ degrees of freedom by counting


@dataclass(frozen=True, eq=False)
class Counted:
    """Tests with degrees of freedom that are counted: one number for every coefficient.

    A function of several coefficients has the smallest of theirs.
    """

    estimate: StructuredEstimate
    counts: Floats

    @property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1``, ``(p, p)``."""
        return self.estimate.vcov

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p), ``(c,)``."""
        size = np.abs(L)
        used = size > _ZERO * size.max(axis=1, initial=0.0, keepdims=True)
        return np.asarray(np.where(used, self.counts, np.inf).min(axis=1))

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """F test of ``L beta = value``."""
        wald = wald_f(self.estimate.beta, self.vcov, L, value)
        return FTest(wald, len(L), float(self.df(L).min()))


def between_within(estimate: StructuredEstimate, between: NDArray[np.bool_]) -> Counted:
    """Degrees of freedom between and within subjects.

    ``between`` (p,) are coefficients of columns that are constant within every subject.  They have
    as many as there are subjects, less themselves; the others the rows less subjects and less
    themselves.  An intercept counts as between, and is tested as within if anything else is.
    """
    A, subjects = estimate.A, estimate.criterion.patterns.n_subjects
    within = int((~between).sum())
    counts = np.where(between, subjects - int(between.sum()), A.n - subjects - within)
    if within:
        counts = np.where(np.array(A.names) == "Intercept", A.n - subjects - within, counts)
    return Counted(estimate, counts.astype(np.float64))


def residual_df(estimate: StructuredEstimate) -> Counted:
    """Rows less coefficients, for every test."""
    return Counted(estimate, np.full(estimate.A.p, float(estimate.A.n - estimate.A.p)))


_REFERENCES: Mapping[str, Callable[[StructuredEstimate], Reference]] = {
    "normal": Normal,
    "satterthwaite": StructuredSatterthwaite,
    "kenward-roger": StructuredKenwardRoger,
    "kenward-roger-linear": partial(StructuredKenwardRoger, linear=True),
    "residual": residual_df,
}


def reference(
    estimate: StructuredEstimate, ddf: str, between: Callable[[], NDArray[np.bool_]]
) -> Reference:
    """What estimates are compared with, by the name of the method.

    ``between`` says which coefficients are of columns that are constant within subjects.

    Raises
    ------
    InterlaceError
        An unknown name, or Kenward-Roger for a fit by ML.
    """
    name = choose("ddf", ddf, STRUCTURED_DDF, one_of=True)
    if name == "between-within":
        return between_within(estimate, between())
    return _REFERENCES[name](estimate)
