"""Rows in the working basis, and the mixed-model equations of their random effects at any weights.

The fixed effects are no part of the equations: they are held while the modes are sought, and enter
derivatives as right-hand sides.  A row may have a negative weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations

import numpy as np

from interlace.glmm.equations import Equations, Factored, Iterated
from interlace.glmm.incidence import Incidence, Levels, Products, incidence, products
from interlace.glmm.patterns import Patterns, found_patterns
from interlace.solver.exact import factorize
from interlace.solver.iterative import iterate
from interlace.solver.layout import Layout, make_layout, relay
from interlace.solver.own import OwnRows
from interlace.solver.plan import Plan, make_plan, refill
from interlace.solver.probed import ProbedRows
from interlace.solver.probes import Probes
from interlace.sums.cells import Cells, Codes, indexed_pairs, narrow
from interlace.sums.columns import Pool, working_columns, working_random
from interlace.sums.crossprod import CrossProducts
from interlace.sums.moments import Moments
from interlace.sums.rows import Basis, Rows, WorkingRows
from interlace.sums.terms import Floats, ReTerm


@dataclass(frozen=True, eq=False)
class Working:
    """Columns of ``[X Z]`` in a basis of orthonormal ones.

    Attributes
    ----------
    names, dropped
        Columns of ``X`` kept, and those that depend on earlier ones.
    terms, codes
        Random-effects terms, and the ``(n,)`` position of every row in their levels.
    X, Z
        Working columns, ``(n, p)`` and per term ``(n, k)``, or ``None`` for a column of ones.
    fixed, random
        Maps ``(p, p)`` and ``(k, k)`` from the user's columns kept to the working ones.
    patterns
        Rows that share levels and columns, where many do.
    recipe
        How rows that are not held were encoded.
    """

    names: tuple[str, ...]
    dropped: tuple[str, ...]
    terms: tuple[ReTerm, ...]
    codes: tuple[Codes, ...]
    X: Floats
    Z: tuple[Floats | None, ...]
    fixed: Floats
    random: tuple[Floats, ...]
    patterns: Patterns | None = None
    recipe: object = None

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again when asked for."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def basis(self) -> Basis:
        """The maps of the random effects, as cross-products carry them."""
        return Basis(np.eye(1), self.random)

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.X)

    @property
    def p(self) -> int:
        """Fixed effects."""
        return len(self.fixed)

    def some(self, rows: Codes) -> Working:
        """Some of the rows, or some repeatedly."""
        return replace(
            self,
            codes=tuple(codes[rows] for codes in self.codes),
            X=self.X[rows],
            Z=tuple(None if Z is None else Z[rows] for Z in self.Z),
            patterns=None,
        )

    # -------------------------------------------------------------- products with Z

    @cached_property
    def incidence(self) -> Incidence | Levels:
        """``Z`` of all terms as one sparse matrix."""
        return incidence(self.terms, self.codes, self.Z)

    def sums(self, v: Floats) -> list[Floats]:
        """``Z_j' v`` of every term: ``(l, k)`` for ``v`` (n,), ``(l, k, c)`` for ``v`` (n, c)."""
        return self.incidence.sums(v)

    def image(self, b: Sequence[Floats]) -> Floats:
        """``Z b``, ``(n,)``."""
        return self.incidence.image(b)

    # -------------------------------------------------------------- equations

    @cached_property
    def pairs(self) -> dict[tuple[int, int], tuple[Codes, Codes, Codes]]:
        """Pairs of levels that occur in rows, and the position among them of every row's."""
        terms, codes = self.terms, self.codes
        found = {}
        for i, j in combinations(range(len(terms)), 2):
            rows, cols, index = indexed_pairs((codes[i], codes[j]), (terms[i].l, terms[j].l))
            found[i, j] = rows, cols, narrow(index)
        return found

    def cross_products(self, W: Floats) -> CrossProducts:
        """``Z'WZ``, without fixed effects and response."""
        return CrossProducts(
            n=self.n,
            names=(),
            dropped=(),
            terms=self.terms,
            basis=self.basis,
            vv=np.eye(1),
            zv=tuple(np.zeros((t.l, t.k, 1)) for t in self.terms),
            zz=tuple(self._products(j, j, W) for j in range(len(self.terms))),
            cells={
                (i, j): Cells(rows, cols, self._products(i, j, W))
                for (i, j), (rows, cols, _) in self.pairs.items()
            },
        )

    @cached_property
    def _stored(self) -> dict[tuple[int, int], Products | None]:
        """Products of the columns of every term, and of every pair of terms."""
        own = {(j, j): (self.codes[j], t.l) for j, t in enumerate(self.terms)}
        both = {pair: (index, len(rows)) for pair, (rows, _, index) in self.pairs.items()}
        return {
            (i, j): products(index, size, self.Z[i], self.Z[j], same=i == j)
            for (i, j), (index, size) in (own | both).items()
        }

    def _products(self, i: int, j: int, W: Floats) -> Floats:
        """Blocks of ``Z_i'WZ_j`` at the levels, or pairs of levels, of rows: ``(., k_i, k_j)``."""
        stored = self._stored[i, j]
        if stored is not None:
            return stored(W)
        index, size = self.codes[i], self.terms[i].l
        if i != j:
            rows, _, index = self.pairs[i, j]
            size = len(rows)
        total = np.empty((size, self.terms[i].k, self.terms[j].k))
        for a in range(total.shape[1]):
            left = _times(W, self.Z[i], a)
            for b in range(total.shape[2]):
                if i == j and b < a:
                    total[:, a, b] = total[:, b, a]
                else:
                    product = _times(left, self.Z[j], b)
                    total[:, a, b] = np.bincount(index, weights=product, minlength=size)
        return total

    @cached_property
    def plan(self) -> Plan:
        """Order of elimination, laid out once: it does not depend on weights."""
        return make_plan(self.cross_products(np.ones(self.n)))

    @cached_property
    def layout(self) -> Layout:
        """Order of elimination of the iterative solver, laid out once as well."""
        return make_layout(self.cross_products(np.ones(self.n)))

    def equations(
        self, W: Floats, templates: Sequence[Floats], probes: Probes | None = None
    ) -> Equations:
        """The equations ``Lambda'Z'WZ Lambda + I`` of the random effects.

        Factored, or with ``probes`` solved by the iterative solver.

        Raises
        ------
        numpy.linalg.LinAlgError
            They are not positive definite.
        """
        A = self.cross_products(W)
        with np.errstate(invalid="ignore", divide="ignore"):
            if probes is None:
                factor = factorize(A, refill(self.plan, A), templates)
                found: Equations = Factored(factor, self.own)
            else:
                found = Iterated(
                    iterate(A, relay(self.layout, A), templates, probes), self.own_probed
                )
            if not np.isfinite(found.logdet):
                raise np.linalg.LinAlgError("an eliminated level is not positive definite")
        return found

    @cached_property
    def own(self) -> OwnRows:
        """The random part of the rows against the inverse of the equations."""
        return OwnRows(WorkingRows(self.codes, self._columns, np.zeros((self.n, 0))), self.plan)

    @cached_property
    def own_probed(self) -> ProbedRows:
        """The same for the iterative solver."""
        return ProbedRows(
            self.layout,
            self.codes,
            self._columns,
            self.incidence.some,
            {pair: index for pair, (_, _, index) in self.pairs.items()},
        )

    @property
    def _columns(self) -> tuple[Floats, ...]:
        """Random columns, ``(n, k)`` a term."""
        one = np.broadcast_to(1.0, (self.n, 1))
        return tuple(one if z is None else z for z in self.Z)


def applied(equations: Equations, random: Sequence[Floats]) -> list[Floats]:
    """``C~ r`` for right-hand sides of one column, ``(l, k)`` a term."""
    found = equations.solve([r[:, :, None] for r in random])
    return [b[:, :, 0] for b in found]


@dataclass(frozen=True, eq=False)
class Unheld(Working):
    """Names, terms and maps of rows that are not held, and sums over them.

    ``summed`` are these in a working basis of its own for the fixed effects; no weights count.
    """

    summed: CrossProducts = field(kw_only=True)

    @property
    def n(self) -> int:
        """Rows."""
        return self.summed.n

    @cached_property
    def basis(self) -> Basis:
        """The maps that the sums are in, and those of the random effects."""
        return Basis(self.summed.basis.fixed, self.random)

    @property
    def vv(self) -> Floats:
        """Cross-products of ``[X y]``."""
        return self.summed.vv

    @property
    def moments(self) -> Moments | None:
        """Means over the rows."""
        return self.summed.moments

    @property
    def dependence(self) -> Floats | None:
        """Columns dropped as combinations of those kept."""
        return self.summed.dependence


def working_rows(design: Rows, unit: float = 1.0) -> Working:
    """Rows of a design in a working basis chosen without weights.

    Working columns have mean square ``unit^2``: so do parameters near 1 give linear predictors of
    that size, whatever the units of the response.
    """
    n, m = design.X.shape
    pool = Pool(n, None, m + sum(t.k for t in design.terms))
    kept, fixed = working_columns(pool, design.X)
    blocks = [working_random(pool, Z, term) for Z, term in zip(design.Z, design.terms, strict=True)]
    names = np.array(design.names, dtype=object)
    return Working(
        names=tuple(names[kept]),
        dropped=tuple(names[~kept]),
        terms=design.terms,
        codes=design.codes,
        X=np.ascontiguousarray(pool.rows(fixed.index) @ fixed.finish) * unit,
        Z=tuple(
            None
            if b.index == (pool.ones,) and unit == 1.0
            else pool.rows(b.index) @ b.finish * unit
            for b in blocks
        ),
        fixed=fixed.shift @ fixed.finish * unit,
        random=tuple(b.shift @ b.finish * unit for b in blocks),
        patterns=found_patterns(design.codes, chain(design.X.T, *(Z.T for Z in design.Z))),
    )


def _times(v: Floats, Z: Floats | None, column: int) -> Floats:
    return v if Z is None else v * Z[:, column]
