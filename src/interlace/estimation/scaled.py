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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix, diags

from interlace.estimation.criterion import Criterion, Evaluation
from interlace.solver.exact import Factor
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
    work = ""

    @property
    def value(self) -> float:
        """Minus twice the profiled (restricted) log-likelihood, constants included."""
        return self.point.value

    @cached_property
    def factor(self) -> Factor:
        """The equations, factored."""
        return self.point.dense("residual= with these random effects needs")

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
        """``1 - h - q W r^2`` of every row, ``(n,)``: the derivative by its log variance."""
        forms = own_forms(self.factor, self.criterion.working, fixed=self.criterion.reml)
        return np.asarray(1.0 - self.W * (forms + self.rate * self.residuals**2))

    def doubt(self, step: Floats) -> float:
        """How far values may be off by rounding: of sums in which some weights are far larger."""
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
        b, beta = self.factor.solve(random, fixed)
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
