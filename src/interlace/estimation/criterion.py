"""ML and REML criterion of a linear mixed model, with its gradient and Newton matrix.

The criterion is minus twice the (restricted) log-likelihood with the residual variance and the
fixed effects profiled out, all constants included, as lme4 prints it.  It is a function of the
templates, evaluated here in the working basis of the cross-products.

What of a template is free is the template's affair, see :mod:`interlace.covariance.templates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from interlace.estimation.likelihood import criterion_value, degrees, residual_variance
from interlace.solver.blocks import inner, solved
from interlace.solver.equations import Equations, Exact, Solved
from interlace.solver.exact import Factor
from interlace.solver.probes import covariance_of_mean
from interlace.solver.reverse import TermDerivatives
from interlace.solver.sharp import SharpFactor
from interlace.sums.crossprod import Basis, CrossProducts
from interlace.sums.terms import (
    Floats,
    ReTerm,
    join_theta,
    pack,
    places,
    pull,
    pull_theta,
    split_theta,
    unpack,
)

# Entries of a template, per root mean square of their column, that count as zero.  The criterion is
# even in them: where one of them is t it differs from that at zero by some t^2 times the rows of a
# level, and a search ends where less than 1e-9 is to be gained, with what it has left of a zero.
# Data can tell such a variance, 4e-10 of the residual one, from zero where levels have 1e9 rows.
ZERO_SIZE = 2e-5
# Share of ``y'y`` below which too few digits of ``r2`` are known from sums.
LOST = 1e-7
# Share below which the sixth digit of a standard deviation is not known from sums.
DOUBTFUL = 1e-10


@dataclass(frozen=True, eq=False)
class Criterion:
    """The function to be minimised: cross-products, the choice of ML or REML, and the solver.

    ``solver`` need not be laid out for these cross-products: :attr:`equations` is.
    """

    A: CrossProducts
    reml: bool
    solver: Equations = field(default_factory=Exact)

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is laid out is laid out again when asked for."""
        return {"A": self.A, "reml": self.reml, "solver": self.solver}

    @cached_property
    def equations(self) -> Equations:
        """The solver laid out for the cross-products."""
        return self.solver.on(self.A)

    @property
    def rows_at_once(self) -> int:
        """Rows of the largest matrix worked on: what several threads can share."""
        return self.equations.rows_at_once(self.A)

    def on(self, A: CrossProducts, *, reml: bool | None = None) -> Criterion:
        """The criterion of other cross-products, or the other of REML and ML, by the same solver.

        Terms that are all nested are eliminated exactly, so that nothing is left to iterate.
        """
        return Criterion(A, self.reml if reml is None else reml, self.equations)

    def responded(self, A: CrossProducts) -> Criterion:
        """The criterion of cross-products that differ in the response alone."""
        return replace(self, A=A, solver=self.equations.responded(A))

    @property
    def nu(self) -> int:
        """Degrees of freedom of the residual variance: ``n - p`` for REML, ``n`` for ML."""
        return degrees(self.A, reml=self.reml)

    def at(self, templates: Sequence[Floats]) -> Evaluation:
        """Evaluate at working templates, one ``(k, k)`` per term."""
        return Evaluation(self, self.equations.at(self.A, templates))

    def at_theta(self, theta: Floats) -> Evaluation:
        """Evaluate at ``theta`` in lme4's order and the user's units."""
        return self.at(self.working(split_theta(self.A.terms, theta)))

    def working(self, templates: Sequence[Floats]) -> list[Floats]:
        """Templates in the user's units to working ones: ``Z T = (Z B) (B^-1 T)``."""
        bases = self.A.basis.random
        return [solved(B, T) for B, T in zip(bases, templates, strict=True)]

    def theta(self, templates: Sequence[Floats]) -> Floats:
        """The canonical ``theta``, in the user's units, of working templates.

        Diagonal entries that are zero to the accuracy of the optimum are reported as 0.
        """
        return reported_theta(self.A.terms, self.A.basis, templates)

    # -------------------------------------------------------------- packing, for the optimiser

    @cached_property
    def places(self) -> list[slice]:
        """Where the free entries of every term stand in a packed vector."""
        return places(self.A.terms)

    def pack(self, templates: Sequence[Floats]) -> Floats:
        """Free entries of square working templates as one vector."""
        return pack(self.A.terms, templates)

    def unpack(self, x: Floats) -> list[Floats]:
        """Inverse of :meth:`pack`."""
        return unpack(self.A.terms, x)

    def __call__(self, x: Floats) -> Evaluation:
        """Evaluate at a packed vector."""
        return self.at(self.unpack(x))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The criterion at one point; derivatives are computed when asked for."""

    criterion: Criterion
    factor: Solved

    def dense(self, what: str, instead: str = "") -> Factor:
        """The factor of the exact solver, for things that read entries of the inverse.

        Raises
        ------
        InterlaceError
            The equations were solved iteratively; ``what`` begins the message, and ``instead`` ends
            it with another way out.
        """
        return self.factor.exact(what, instead)

    @property
    def weighted(self) -> Evaluation:
        """Itself: of the templates alone."""
        return self

    @property
    def work(self) -> str:
        """What the iterative solver did, in words; empty for the exact one."""
        if not self.factor.n_probes:
            return ""
        return f"{self.factor.n_iterations} CG iterations, {self.factor.n_probes} probes"

    @cached_property
    def gradient_covariance(self) -> Floats:
        """Covariance of the Monte-Carlo error of :attr:`gradient`; zero for the exact solver."""
        return covariance_of_mean(self.gradient_shares)

    @property
    def gradient_shares(self) -> Floats:
        """Share of every random probe in :attr:`gradient`, ``(m, c)``; the mean is meant."""
        chance = self.factor.chance
        if not chance.m:
            return np.zeros((0, len(self.gradient)))
        pairs = zip(chance.traces, self.factor.templates, strict=True)
        parts = [2.0 * traces @ T for traces, T in pairs]
        return np.stack([self.pulled([part[i] for part in parts]) for i in range(chance.m)])

    def doubt(self, step: Floats) -> float:
        """How far the values at the ends of a step may be from what the gradient says.

        Value and gradient are estimated from the same probes by two different formulas.  The
        gradient's error is known; that of the value is taken to change by as much of itself as the
        templates do.  Without probes they are off by rounding alone, see :attr:`rounding`.
        """
        if not self.factor.chance.m:
            return self.rounding
        return self.doubt_along(step, self.gradient_covariance)

    def doubt_along(self, step: Floats, covariance: Floats) -> float:
        """:meth:`doubt` of random probes, from the covariance of the error of a gradient."""
        sizes = [
            float(np.linalg.norm(step)),
            *(float(np.abs(T).max()) for T in self.factor.templates),
        ]
        change = self.value_error * min(1.0, sizes[0] / max(min(sizes[1:]), 1e-3))
        along = float(step @ covariance @ step)
        return 3.0 * (float(np.sqrt(max(along, 0.0))) + change)

    @property
    def share_left(self) -> float:
        """The residual sum of squares as a share of that of the response."""
        return self.factor.r2 / float(self.criterion.A.vv[-1, -1])

    @property
    def rounding(self) -> float:
        """How far the value is off because ``r2`` is a difference of sums of the size of ``y'y``.

        Zero where most digits are known.
        """
        share = self.share_left
        if share > LOST:
            return 0.0
        lost = np.sqrt(share) if isinstance(self.factor, SharpFactor) else share
        return float(4.0 * self.criterion.nu * np.finfo(np.float64).eps / lost)

    @property
    def value_error(self) -> float:
        """Monte-Carlo standard error of the value; zero for the exact solver."""
        return self.factor.chance.error

    @cached_property
    def value(self) -> float:
        """Minus twice the profiled (restricted) log-likelihood."""
        return criterion_value(
            self.criterion.A,
            self.factor.r2,
            reml=self.criterion.reml,
            logdet_u=self.factor.logdet_u,
            logdet_x=self.factor.logdet_x,
        )

    @property
    def sigma2(self) -> float:
        """Residual variance in working units."""
        return residual_variance(self.factor.r2, self.criterion.nu)

    @cached_property
    def derivatives(self) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives, per term."""
        return self.factor.derivatives(reml=self.criterion.reml)

    @cached_property
    def gradients(self) -> tuple[Floats, ...]:
        """Gradient with respect to every entry of every working template, ``(k, k)`` each."""
        rate = self.criterion.nu / self.factor.r2
        return tuple(
            2.0 * (d.W - rate * (f.e.T @ f.u))
            for d, f in zip(self.derivatives, self.factor.effects, strict=True)
        )

    @cached_property
    def variance_gradients(self) -> tuple[Floats, ...]:
        """Derivative ``Gamma`` with respect to ``T T'``, symmetric ``(k, k)`` each."""
        rate = self.criterion.nu / self.factor.r2
        return tuple(
            d.PZZ - rate * (f.e.T @ f.e)
            for d, f in zip(self.derivatives, self.factor.effects, strict=True)
        )

    @cached_property
    def gradient(self) -> Floats:
        """Gradient with respect to the packed vector."""
        return self.pulled(self.gradients)

    def pulled(self, gradients: Sequence[Floats]) -> Floats:
        """Gradients by the entries of every working template as one by the packed vector."""
        return pull(self.criterion.A.terms, self.factor.templates, gradients)

    @cached_property
    def theta_gradient(self) -> Floats:
        """Gradient with respect to ``theta`` in lme4's order and the user's units."""
        bases = self.criterion.A.basis.random
        users = [solved(B.T, G) for B, G in zip(bases, self.gradients, strict=True)]
        templates = [B @ T for B, T in zip(bases, self.factor.templates, strict=True)]
        return pull_theta(self.criterion.A.terms, templates, users)

    @cached_property
    def newton_matrix(self) -> Floats:
        """Average information plus the second-order part of the parametrisation.

        Average of the observed and the expected second derivatives, in which the traces of products
        of two derivatives cancel [1]_, for the packed vector.

        .. [1] Gilmour, Thompson and Cullis (1995), Biometrics 51, 1440-1450.
        """
        nu, r2 = self.criterion.nu, self.factor.r2
        terms = self.criterion.A.terms
        effects = self.factor.effects
        parts = zip(terms, self.factor.templates, effects, strict=True)
        H = [t.template.shifts(T, f.e) for t, T, f in parts]
        parts_of_a = [inner(f.e[..., None], h)[0] for f, h in zip(effects, H, strict=True)]
        a = np.concatenate(parts_of_a)
        J = self._rates
        moved = nu * (self.factor.projected(H) / r2 - a[:, None] * a / r2**2)
        information: Floats = J.T @ moved @ J
        for t, T, gamma, own in zip(
            terms,
            self.factor.templates,
            self.variance_gradients,
            self.criterion.places,
            strict=True,
        ):
            information[own, own] += t.template.second_order(T, gamma)
        return information

    @property
    def _rates(self) -> Floats:
        """Derivatives of all ``T T'`` by the packed vector, ``(r, c)``."""
        terms, places = self.criterion.A.terms, self.criterion.places
        parts = [t.template.rates(T) for t, T in zip(terms, self.factor.templates, strict=True)]
        if len(parts) == 1:
            return parts[0]
        J = np.zeros((sum(map(len, parts)), places[-1].stop))
        row = 0
        for part, own in zip(parts, places, strict=True):
            J[row : row + len(part), own] = part
            row += len(part)
        return J


def reported_theta(terms: Sequence[ReTerm], basis: Basis, templates: Sequence[Floats]) -> Floats:
    """The canonical ``theta``, in the user's units, of working templates."""
    users = []
    parts = zip(terms, basis.random, templates, basis.root_mean_squares, strict=True)
    for t, B, T, sizes in parts:
        size = t.template.even(sizes)[:, None]
        users.append(t.template.canonical(size * (B @ T), floor=ZERO_SIZE) / size)
    return join_theta(terms, users)
