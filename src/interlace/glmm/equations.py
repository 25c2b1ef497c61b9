"""The equations of the random effects at working weights, solved by either solver.

``M = Lambda'Z'WZ Lambda + I`` with the fixed effects given, and ``C~ = Lambda M^-1 Lambda'``.  The
exact solver factors them; the iterative one solves them by conjugate gradients, and estimates what
needs their inverse from random probes, see :mod:`interlace.solver.probed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_matrix

from interlace.estimation.chance import level_covariances
from interlace.solver.equations import Iterative
from interlace.solver.exact import Factor, Inverse
from interlace.solver.iterative import IterativeFactor
from interlace.solver.own import OwnRows
from interlace.solver.probed import Known, ProbedRows, explained, products, spherical
from interlace.solver.probes import Chance, WithoutChance
from interlace.solver.reverse import Reverse, TermDerivatives
from interlace.sums.cells import Codes
from interlace.sums.rows import WorkingRows
from interlace.sums.terms import Floats

# Residuals of conjugate gradients, relative to the right-hand side; those of a step to the modes
# relative to the step.
_SOLVED, _STEP = 1e-7, 1e-3


class SomeRows(NamedTuple):
    """Rows of the random effects, as :class:`interlace.solver.probed.ProbedRows` have them."""

    codes: tuple[Codes, ...]
    Z: tuple[Floats, ...]
    matrix: csr_matrix
    places: Mapping[tuple[int, int], Codes]


class Equations(Protocol):
    """What a generalised model needs of its equations."""

    @property
    def templates(self) -> tuple[Floats, ...]:
        """Working templates."""
        ...

    @property
    def logdet(self) -> float:
        """``log|M|``."""
        ...

    @property
    def n_iterations(self) -> int:
        """Iterations of conjugate gradients; 0 for the exact solver."""
        ...

    @property
    def n_probes(self) -> int:
        """Random probes; 0 for the exact solver."""
        ...

    @property
    def chance(self) -> Chance:
        """What random probes leave open."""
        ...

    def solve(self, random: Sequence[Floats]) -> tuple[Floats, ...]:
        """``C~ r`` for right-hand sides ``(l, k, c)`` a term."""
        ...

    def products(self, H: Sequence[Floats]) -> list[Floats]:
        """``Z'WZ H`` per term, ``(l, k, c)``, for ``H`` (l, k, c_j) zero outside its term."""
        ...

    def explained(self, random: Sequence[Floats]) -> Floats:
        """``r' C~ r``, ``(c, c)``."""
        ...

    @property
    def derivatives(self) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives, per term."""
        ...

    @property
    def leverages(self) -> Floats:
        """``z'C~z`` of every row, ``(n,)``."""
        ...

    def lever(self) -> Callable[[SomeRows], Floats]:
        """:attr:`leverages` of other rows of the model, as a function of them."""
        ...

    def moved(self, b: Sequence[Floats]) -> list[Floats]:
        """``Z'WZ b`` per term for ``b`` (l, k, c) per term."""
        ...

    def level_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~``, ``(l, k, k)`` per term."""
        ...

    def exact(self, what: str) -> Factor:
        """The factor of the exact solver, for what reads entries of the inverse, or a refusal."""
        ...


@dataclass(frozen=True, eq=False)
class Factored(WithoutChance):
    """Equations factored by the exact solver; ``own`` are the rows that they were made of."""

    factor: Factor
    own: OwnRows

    @property
    def templates(self) -> tuple[Floats, ...]:
        """Working templates."""
        return self.factor.templates

    @property
    def logdet(self) -> float:
        """``log|M|``."""
        return self.factor.logdet_u

    def solve(self, random: Sequence[Floats]) -> tuple[Floats, ...]:
        """``C~ r``."""
        return self.factor.solve(random)[0]

    def products(self, H: Sequence[Floats]) -> list[Floats]:
        """``Z'WZ H`` per term."""
        ends = np.cumsum([0, *(h.shape[2] for h in H)])
        columns = [slice(a, b) for a, b in pairwise(ends)]
        return [self.factor.gathered(j, H, columns) for j in range(len(H))]

    def explained(self, random: Sequence[Floats]) -> Floats:
        """``r' C~ r``."""
        return self.factor.explained(random, np.zeros((0, random[0].shape[2])))

    @cached_property
    def inverse(self) -> Inverse:
        """``C~`` on what the equations leave after elimination."""
        return self.factor.inverse(fixed=False)

    @cached_property
    def reverse(self) -> Reverse:
        """``C~`` where rows and derivatives need it."""
        return self.factor.reverse(self.inverse)

    @property
    def derivatives(self) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives."""
        return self.reverse.terms

    @cached_property
    def leverages(self) -> Floats:
        """``z'C~z`` of every row."""
        return self.own.forms(self.factor, self.inverse[0], self.reverse)

    def lever(self) -> Callable[[SomeRows], Floats]:
        """``z'C~z`` of other rows of the model."""
        own, tails = self.own, self.own.on_tails(self.factor, self.inverse[0])
        reverse = self.reverse

        def of(rows: SomeRows) -> Floats:
            random = WorkingRows(rows.codes, rows.Z, np.zeros((len(rows.codes[0]), 0)))
            return own.on(random).forms(self.factor, self.inverse[0], reverse, tails)

        return of

    def moved(self, b: Sequence[Floats]) -> list[Floats]:
        """``Z'WZ b`` per term."""
        width = b[0].shape[2]
        parts = [part.reshape(*part.shape[:2], len(b), width) for part in self.products(b)]
        return [part.sum(axis=2) for part in parts]

    def level_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~``."""
        return tuple(part.C for part in self.derivatives)

    def exact(self, what: str) -> Factor:
        """The factor."""
        return self.factor


@dataclass(frozen=True, eq=False)
class Iterated:
    """Equations solved by the iterative solver; ``own`` are the rows that they were made of."""

    factor: IterativeFactor
    own: ProbedRows

    @property
    def templates(self) -> tuple[Floats, ...]:
        """Working templates."""
        return self.factor.templates

    @property
    def logdet(self) -> float:
        """``log|M|``, estimated."""
        return self.factor.logdet_u

    @property
    def n_iterations(self) -> int:
        """Iterations of conjugate gradients for the probes."""
        return self.factor.n_iterations

    @property
    def n_probes(self) -> int:
        """Random probes."""
        return self.factor.n_probes

    @property
    def chance(self) -> Chance:
        """What random probes leave open."""
        return self.factor.chance

    def solve(self, random: Sequence[Floats]) -> tuple[Floats, ...]:
        """``C~ r``."""
        return self.factor.solve(random, tolerance=_SOLVED)[0]

    def step(self, random: Sequence[Floats], near: Sequence[Floats]) -> list[Floats]:
        """Spherical effects ``u`` with ``Lambda u = C~ r``, sought from ``near``."""
        return spherical(self.factor, random, near, _STEP)

    def products(self, H: Sequence[Floats]) -> list[Floats]:
        """``Z'WZ H`` per term."""
        return products(self.factor, H)

    def explained(self, random: Sequence[Floats]) -> Floats:
        """``r' C~ r``."""
        return explained(self.factor, random)

    @cached_property
    def derivatives(self) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives, estimated."""
        return self.factor.derivatives(reml=False)

    @property
    def leverages(self) -> Floats:
        """``z'C~z`` of every row, estimated; rows are without bias, and not without noise."""
        return self.own.forms(self.factor)

    def lever(self) -> Callable[[SomeRows], Floats]:
        """``z'C~z`` of other rows of the model, estimated."""
        known = Known(self.factor)
        return lambda rows: self._on(rows).forms(self.factor, known)

    def lever_shares(self) -> Callable[[SomeRows], Floats]:
        """Share of every probe in them, ``(n, m)``."""
        known = Known(self.factor)

        def of(rows: SomeRows) -> Floats:
            return np.concatenate([own for _, own in self._on(rows).shares(self.factor, known)])

        return of

    def _on(self, rows: SomeRows) -> ProbedRows:
        return self.own.on(rows.codes, rows.Z, rows.matrix, rows.places)

    def leverage_shares(self) -> Iterator[tuple[slice, Floats]]:
        """Share of every probe in :attr:`leverages`, ``(r, m)`` for rows after rows."""
        return self.own.shares(self.factor)

    def moved(self, b: Sequence[Floats]) -> list[Floats]:
        """``Z'WZ b`` per term for ``b`` (l, k, c) per term."""
        return self.factor.reduced.layout.gram(self.factor.A, b)

    def level_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~``, estimated by more probes if need be."""
        layout, probes = self.factor.reduced.layout, self.factor.probes
        return level_covariances(Iterative(probes, layout), self.factor)

    def exact(self, what: str) -> Factor:
        """Refuse."""
        return self.factor.exact(what)
