"""The solver of the mixed-model equations as one value: exact, iterative, or from a triangle.

Either is laid out for cross-products (:meth:`on`), which fills in numbers alone where only these
have changed, and then solves at any templates (:meth:`at`).  What comes out follows one protocol,
:class:`Solved`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from interlace.solver import layout as layouts
from interlace.solver import plan as plans
from interlace.solver.exact import Factor, TermEffects, factorize
from interlace.solver.iterative import IterativeFactor, iterate
from interlace.solver.layout import Layout
from interlace.solver.places import same_pairs
from interlace.solver.plan import Plan, chain_with_most
from interlace.solver.probes import Chance, Probes
from interlace.solver.reverse import TermDerivatives
from interlace.solver.sharp import Sharp
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats


class Solved(Protocol):
    """The mixed-model equations solved at given working templates."""

    @property
    def A(self) -> CrossProducts:
        """The cross-products."""
        ...

    @property
    def templates(self) -> tuple[Floats, ...]:
        """Working templates."""
        ...

    @property
    def logdet_u(self) -> float:
        """Log determinant of the equations of the random effects."""
        ...

    @property
    def logdet_x(self) -> float:
        """Log determinant of ``X' V^-1 X``."""
        ...

    @property
    def r2(self) -> float:
        """Penalised residual sum of squares."""
        ...

    @property
    def beta(self) -> Floats:
        """Fixed effects in the working basis, ``(p,)``."""
        ...

    @property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1`` in the working basis, ``(p, p)``."""
        ...

    @property
    def effects(self) -> tuple[TermEffects, ...]:
        """Random effects and residual cross-products of every term."""
        ...

    @property
    def chance(self) -> Chance:
        """What random probes leave open."""
        ...

    @property
    def n_iterations(self) -> int:
        """Iterations of conjugate gradients; 0 for the exact solver."""
        ...

    @property
    def n_probes(self) -> int:
        """Random probes; 0 for the exact solver."""
        ...

    def derivatives(self, *, reml: bool) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives with respect to every template."""
        ...

    def projected(self, H: Sequence[Floats]) -> Floats:
        """``H' Z' P Z H`` for columns of random-effects coefficients."""
        ...

    def conditional_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~`` given the fixed effects, ``(l, k, k)`` per term."""
        ...

    def solve(
        self, random: Sequence[Floats], fixed: Floats | None = None
    ) -> tuple[tuple[Floats, ...], Floats]:
        """``[b; beta] = C~ [random; fixed]``."""
        ...

    def exact(self, what: str, instead: str = "") -> Factor:
        """The factor of the exact solver, for what reads entries of the inverse, or a refusal."""
        ...


@dataclass(frozen=True, eq=False)
class Exact:
    """Elimination and a dense factor; the plan is made when it is laid out."""

    plan: Plan | None = None

    def __getstate__(self) -> dict[str, object]:
        """The choice alone: plans are made again when asked for."""
        return {"plan": None}

    def on(self, A: CrossProducts) -> Exact:
        """Laid out for cross-products; numbers alone are filled in if only these are new."""
        if self.plan is None:
            return Exact(plans.make_plan(A))
        if self.plan.A is A:
            return self
        again = same_pairs(self.plan.A, A)
        return Exact(plans.refill(self.plan, A) if again else plans.make_plan(A))

    def responded(self, A: CrossProducts) -> Exact:
        """Laid out for cross-products that differ in the response alone."""
        return Exact(plans.make_plan(A) if self.plan is None else plans.respond(self.plan, A))

    def at(self, A: CrossProducts, templates: Sequence[Floats]) -> Factor:
        """The equations factored at working templates."""
        return factorize(A, self.laid_out(A), templates)

    def laid_out(self, A: CrossProducts) -> Plan:
        """The plan for cross-products."""
        plan = self.on(A).plan
        assert plan is not None
        return plan

    def rows_at_once(self, A: CrossProducts) -> int:
        """Rows of the largest matrix worked on: what several threads can share."""
        return len(self.laid_out(A).S)


@dataclass(frozen=True, eq=False)
class Iterative:
    """Elimination and conjugate gradients with probes; the layout is made when it is laid out.

    ``exact_seconds`` is the work that an evaluation by the exact solver would be, if it may take
    over where that turns out to be less.
    """

    probes: Probes
    layout: Layout | None = None
    exact_seconds: float | None = None

    def __getstate__(self) -> dict[str, object]:
        """The choice alone: layouts are made again when asked for."""
        return {"probes": self.probes, "layout": None, "exact_seconds": self.exact_seconds}

    def on(self, A: CrossProducts) -> Exact | Iterative:
        """Laid out for cross-products; numbers alone are filled in if only these are new.

        Other cross-products whose terms are all nested are eliminated exactly: nothing is left to
        iterate.
        """
        if self.layout is None:
            return replace(self, layout=layouts.make_layout(A))
        if self.layout.A is A:
            return self
        if len(chain_with_most(A)) == len(A.terms):
            return Exact().on(A)
        again = same_pairs(self.layout.A, A)
        return replace(
            self, layout=layouts.relay(self.layout, A) if again else layouts.make_layout(A)
        )

    def responded(self, A: CrossProducts) -> Iterative:
        """Laid out for cross-products that differ in the response alone."""
        old = self.layout
        return replace(
            self, layout=layouts.make_layout(A) if old is None else layouts.respond(old, A)
        )

    def at(self, A: CrossProducts, templates: Sequence[Floats]) -> IterativeFactor:
        """The equations solved at working templates."""
        return iterate(A, self.laid_out(A), templates, self.probes)

    def laid_out(self, A: CrossProducts) -> Layout:
        """The layout for cross-products."""
        if self.layout is not None and self.layout.A is A:
            return self.layout
        return layouts.make_layout(A)

    def rows_at_once(self, A: CrossProducts) -> int:
        """Rows of the largest matrix worked on: what several threads can share."""
        return self.laid_out(A).q

    def with_probes(self, count: int) -> Iterative:
        """The same with another number of probes."""
        return replace(self, probes=replace(self.probes, count=count))


Equations = Exact | Iterative | Sharp
