"""ML and REML criterion of a mixed model whose residual variances follow a few numbers ``eta``.

Row ``i`` has the residual variance ``sigma^2 exp(2 b_i' eta) / w_i``, so that the model is the one
of independent residuals with weights ``W_i = w_i exp(-2 b_i' eta)``: the same rows, basis and
pattern of the equations, with other numbers in them.  With ``h_i = W_i z_i' C~ z_i`` the leverage
of a row, ``r`` its residual and ``q = nu / r2``,

    d criterion / d eta_a = -2 sum b_ia (h_i + q W_i r_i^2 - 1),

and the average information of ``(theta, eta)`` needs one solution of the mixed-model equations for
each ``eta``: with ``s_a = -2 b_a W r`` and ``v_a = C~ [Z X]' s_a``,

    [eta_a, eta_b]   = q (sum s_a s_b / W - s_a' [Z X] v_b) - (q^2 / nu) (s_a' r) (s_b' r)
    [theta_k, eta_a] = -q h_k' Z' (s_a - W [Z X] v_a) + (q^2 / nu) (h_k' Z' W r) (s_a' r).

Where the equations are solved iteratively, sums of leverages are means over the probes of traces
(:mod:`interlace.solver.probed`); what the fixed effects add to leverages is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack

from interlace.estimation.criterion import Criterion, Evaluation
from interlace.solver.equations import Equations, Iterative
from interlace.solver.exact import Factor
from interlace.solver.iterative import IterativeFactor
from interlace.solver.own import row_pieces
from interlace.solver.pieces import some_rows
from interlace.solver.probed import Known, ProbedRows, fixed_on_random
from interlace.solver.probes import covariance_of_mean
from interlace.solver.rows import own_forms
from interlace.solver.solve import gram_times
from interlace.sums.crossprod import CrossProducts
from interlace.sums.rows import WorkingRows, by_level
from interlace.sums.terms import Floats
from interlace.sums.weighted import FixedRows

# Logarithms of a standard deviation beyond which nothing is looked for.
_WIDEST = 40.0
# Ratio of the largest weight to the smallest from which on digits of sums are lost.
_UNLIKE = 1e3
# Residuals of conjugate gradients, relative to the right-hand side, of the Newton matrix.
_NEWTON = 3e-6


@dataclass(frozen=True, eq=False)
class ScaledCriterion:
    """The function to be minimised, of packed templates and ``eta`` after them.

    Parameters
    ----------
    base
        The criterion of the rows at ``eta = 0``, laid out.
    rows
        The rows in its basis.
    scales
        ``b_i`` as rows ``(n, q)``.
    prior
        Weights ``w`` (n,).
    """

    base: Criterion
    rows: FixedRows
    scales: csr_matrix
    prior: Floats

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is laid out is laid out again when asked for."""
        kept = ("base", "rows", "scales", "prior")
        return {name: getattr(self, name) for name in kept}

    @property
    def A(self) -> CrossProducts:
        """Labels and the working basis; sums at ``eta = 0``."""
        return self.base.A

    @property
    def reml(self) -> bool:
        """Whether the criterion is that of REML."""
        return self.base.reml

    @property
    def n_templates(self) -> int:
        """Free entries of the templates."""
        return sum(t.template.size for t in self.A.terms)

    def weights(self, eta: Floats) -> Floats:
        """``W`` (n,)."""
        return np.asarray(self.prior * np.exp(-2.0 * (self.scales @ eta)))

    @cached_property
    def working(self) -> WorkingRows:
        """The rows, not weighted."""
        rows = self.rows
        Z = tuple(np.ascontiguousarray(rows.Z(j)) for j in range(len(rows.terms)))
        return WorkingRows(rows.codes, Z, np.ascontiguousarray(rows.X))

    @cached_property
    def random(self) -> tuple[csr_matrix, ...]:
        """``Z_j'`` of every term, ``(q_j, n)``."""
        parts = zip(self.rows.codes, self.working.Z, self.A.terms, strict=True)
        return tuple(by_level(codes, Z, t.q).T.tocsr() for codes, Z, t in parts)

    @cached_property
    def probed(self) -> ProbedRows:
        """The random part of the rows against equations that are solved iteratively."""
        equations, rows = self.base.equations, self.rows
        assert isinstance(equations, Iterative)
        return ProbedRows(
            equations.laid_out(self.A),
            rows.codes,
            self.working.Z,
            partial(some_rows, csr_matrix(hstack([Z.T for Z in self.random]))),
            {pair: found.index for pair, found in rows.pairs.items()},
        )

    def solved_by(self, solver: Equations) -> ScaledCriterion:
        """The same function, by another solver or with other probes."""
        return replace(self, base=replace(self.base, solver=solver))

    def of_eta(self, eta: Floats) -> Criterion:
        """The criterion of the templates at some variances of the rows."""
        return self.base.on(self.rows.at(self.weights(eta)))

    def __call__(self, x: Floats) -> ScaledEvaluation:
        """Evaluate at packed templates and ``eta``."""
        return self.at(self.base.unpack(x[: self.n_templates]), x[self.n_templates :])

    def at(self, templates: Sequence[Floats], eta: Floats) -> ScaledEvaluation:
        """Evaluate at working templates and ``eta``."""
        if np.abs(eta).max(initial=0.0) > _WIDEST:
            raise np.linalg.LinAlgError("a variance of rows is out of range")
        return ScaledEvaluation(self, eta, self.of_eta(eta).at(templates))

    def at_theta(self, theta: Floats, eta: Floats) -> ScaledEvaluation:
        """Evaluate at ``theta`` in the user's units and ``eta``."""
        return ScaledEvaluation(self, eta, self.of_eta(eta).at_theta(theta))


@dataclass(frozen=True, eq=False)
class ScaledEvaluation:
    """The criterion at one point; derivatives are computed when asked for.

    ``point`` is the criterion of the templates at these variances of the rows.
    """

    criterion: ScaledCriterion
    eta: Floats
    point: Evaluation

    @property
    def value(self) -> float:
        """Minus twice the profiled (restricted) log-likelihood, constants included."""
        return self.point.value

    @property
    def weighted(self) -> Evaluation:
        """The criterion of the templates at these variances."""
        return self.point

    @property
    def work(self) -> str:
        """What the iterative solver did, in words; empty for the exact one."""
        return self.point.work

    @property
    def value_error(self) -> float:
        """Monte-Carlo standard error of the value; zero for the exact solver."""
        return self.point.value_error

    @property
    def factor(self) -> Factor | IterativeFactor:
        """The equations, solved."""
        found = self.point.factor
        return found if isinstance(found, IterativeFactor) else found.exact("this needs")

    @cached_property
    def W(self) -> Floats:
        """Weights of the rows, ``(n,)``."""
        return self.criterion.weights(self.eta)

    @cached_property
    def residuals(self) -> Floats:
        """``y - X beta - Z b`` in working units, ``(n,)``."""
        rows = self.criterion.rows
        assert rows.response is not None
        b = [effects.b for effects in self.factor.effects]
        return np.asarray(rows.response - rows.predictor(b, self.factor.beta))

    @property
    def rate(self) -> float:
        """``nu / r2``: one over the residual variance."""
        return self.criterion.base.nu / self.factor.r2

    @cached_property
    def left(self) -> Floats:
        """``1 - h - q W r^2`` of every row, ``(n,)``: the derivative by its log variance.

        With random probes without bias, and means over many rows without much noise.
        """
        return np.asarray(1.0 - self.W * (self._forms + self.rate * self.residuals**2))

    @property
    def _forms(self) -> Floats:
        """``z' C~ z`` of every row, ``(n,)``."""
        factor, criterion = self.factor, self.criterion
        if not isinstance(factor, IterativeFactor):
            return own_forms(factor, criterion.working, fixed=criterion.reml)
        forms = criterion.probed.forms(factor, self._known)
        return forms + self._fixed_forms(factor) if criterion.reml else forms

    def _fixed_forms(self, factor: IterativeFactor) -> Floats:
        """What estimated fixed effects add to forms, ``(n,)``."""
        X, b, found = self.criterion.working.X, fixed_on_random(factor), np.empty(len(self.W))
        parts = list(zip(self.criterion.rows.codes, self.criterion.working.Z, b, strict=True))
        for part in row_pieces(len(found)):
            left = X[part].copy()
            for codes, Z, own in parts:
                for a in range(Z.shape[1]):
                    left -= Z[part, a, None] * own[codes[part], a]
            found[part] = np.einsum("rp,pq,rq->r", left, factor.vcov, left, optimize=True)
        return found

    @cached_property
    def _known(self) -> Known:
        """What equations solved iteratively say of any row."""
        assert isinstance(self.factor, IterativeFactor)
        return Known(self.factor)

    @property
    def _eta_shares(self) -> Floats:
        """Share of every random probe in :attr:`eta_gradient`, ``(m, q)``; the mean is meant."""
        criterion, total = self.criterion, np.zeros((len(self.eta), self.point.factor.chance.m))
        if not total.size or not isinstance(self.factor, IterativeFactor):
            return total.T
        for part, lev in criterion.probed.shares(self.factor, self._known):
            rows = some_rows(criterion.scales, part.start, part.stop)
            total -= 2.0 * (rows.T @ (self.W[part, None] * lev))
        return total.T

    @cached_property
    def gradient_covariance(self) -> Floats:
        """Covariance of the Monte-Carlo error of :attr:`gradient`; zero for the exact solver."""
        each = np.concatenate((self.point.gradient_shares, self._eta_shares), axis=1)
        return covariance_of_mean(each)

    def doubt(self, step: Floats) -> float:
        """How far values may be off: by random probes, as those of the templates alone may.

        Without these by rounding: of sums in which some weights are far larger.
        """
        if self.point.factor.chance.m:
            return self.point.doubt_along(step, self.gradient_covariance)
        spread = float(self.W.max() / self.W.min())
        nu, eps = self.criterion.base.nu, float(np.finfo(np.float64).eps)
        return self.point.rounding + (4.0 * nu * eps * spread if spread > _UNLIKE else 0.0)

    @cached_property
    def eta_gradient(self) -> Floats:
        """By ``eta``, ``(q,)``."""
        return np.asarray(2.0 * (self.criterion.scales.T @ self.left))

    @cached_property
    def gradient(self) -> Floats:
        """By packed templates and ``eta``."""
        return np.append(self.point.gradient, self.eta_gradient)

    @cached_property
    def newton_matrix(self) -> Floats:
        """Average information, and what second derivatives of the variances add."""
        B, r = self.criterion.scales, self.residuals
        q, nu, t = self.rate, self.criterion.base.nu, self.criterion.n_templates
        shifts = diags(-2.0 * self.W * r) @ B
        random = [
            np.asarray((Z @ shifts).todense()).reshape(term.l, term.k, -1)
            for Z, term in zip(self.criterion.random, self.criterion.A.terms, strict=True)
        ]
        fixed = np.asarray((shifts.T @ self.criterion.working.X).T)
        b, beta = self._solved(random, fixed)
        along = np.asarray(shifts.T @ r)
        squares = (B.T @ diags(4.0 * (q * self.W * r**2 + self.left)) @ B).toarray()
        explained = sum(
            np.tensordot(s, v, ((0, 1), (0, 1))) for s, v in zip(random, b, strict=True)
        )
        M = np.empty((len(self.gradient),) * 2)
        M[:t, :t] = self.point.newton_matrix
        M[t:, t:] = squares - q * (explained + fixed.T @ beta)
        M[t:, t:] -= q**2 / nu * along[:, None] * along
        M[:t, t:] = self._crossed(random, b, beta, along)
        M[t:, :t] = M[:t, t:].T
        return M

    def _solved(self, random: Sequence[Floats], fixed: Floats) -> tuple[tuple[Floats, ...], Floats]:
        """``[b; beta] = C~ [random; fixed]``, to what a Newton matrix needs."""
        if isinstance(self.factor, IterativeFactor):
            return self.factor.solve(random, fixed, tolerance=_NEWTON)
        return self.factor.solve(random, fixed)

    def _crossed(
        self, random: Sequence[Floats], b: Sequence[Floats], beta: Floats, along: Floats
    ) -> Floats:
        """Of templates and ``eta``, ``(t, q)``."""
        q, nu, A = self.rate, self.criterion.base.nu, self.factor.A
        parts = zip(A.terms, self.factor.templates, self.factor.effects, strict=True)
        H = [t.template.directions(T, f.u, f.e) for t, T, f in parts]
        found = []
        pulled = zip(H, random, gram_times(self.factor, b), A.zv, self.factor.effects, strict=True)
        for h, s, ZZb, zv, f in pulled:
            left = s - ZZb - zv[..., :-1] @ beta
            own = np.tensordot(h, f.e, ((0, 1), (0, 1)))
            rest = np.tensordot(h, left, ((0, 1), (0, 1)))
            found.append(-q * rest + q**2 / nu * own[:, None] * along)
        return np.concatenate(found)
