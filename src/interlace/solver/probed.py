"""What generalised models ask of equations solved iteratively, the fixed effects given.

Modes are solutions ``u`` in spherical effects, near known ones.  The form ``h = z'C~z`` of a row is
needed of every row the equations were made of: with eliminated terms, of blocks ``K`` and rows
``R`` against what is left, and ``w = z_rest - R'K z`` (for each eliminated term in its turn),

``h = z'K z + w'G M~^-1 G'w``,   ``M~^-1 = I + U core U' + mean over probes of H (x - z) (H z)'``

in the notation of :mod:`interlace.solver.iterative`.  The identity's part needs ``R`` where the row
has entries and products ``R G G' R'`` of nested levels alone; the others are products of linear
predictors of the row.  Only what is of second order in the coupling between levels is left to
chance, and the mean over all probes is unbiased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from interlace.solver.blocks import multiply
from interlace.solver.chain import level_products
from interlace.solver.iterative import IterativeFactor
from interlace.solver.layout import Layout
from interlace.solver.own import dot, row_pieces, rows_times
from interlace.solver.pieces import some_rows
from interlace.solver.sparse import transposed
from interlace.sums.cells import Codes
from interlace.sums.terms import Floats

# Residuals, relative to the right-hand side, of what enters the Newton matrix.
_EXPLAINED = 3e-6


def spherical(
    factor: IterativeFactor, random: Sequence[Floats], near: Sequence[Floats], tolerance: float
) -> list[Floats]:
    """Effects ``u`` with ``Lambda u = C~ r``, ``(l, k)`` a term, for one right-hand side ``r``.

    Parameters
    ----------
    random
        ``r``, ``(l, k)`` a term.
    near
        Where the iteration starts, ``(l, k)`` a term.
    tolerance
        Norm of the residuals to reach, relative to that at the start.
    """
    reduced = factor.reduced
    sides = reduced.reduced_sides([r[:, :, None] for r in random], np.zeros((factor.A.p, 1)))
    known: dict[int, Floats] = {
        j: np.asarray(
            np.linalg.solve(reduced.scaling[j].inverse, near[j][:, :, None]).reshape(-1, 1)
        )
        for j in reduced.layout.rest
    }
    x = reduced.layout.join(known, 1)
    x = x + factor.deflated.solve(reduced.to_scaled(sides.rest) - reduced.scaled(x), tolerance)
    none = np.zeros((factor.A.p + 1, 1))
    images = reduced.chain_images(-reduced.to_effects(x), none, sides.chain)
    found = {s: e[:, :, 0] @ reduced.templates[s] for s, (_, e) in images.items()}
    parts = reduced.layout.split(reduced.to_spherical(x))
    found |= {j: reduced.blocks(j, part)[:, :, 0] for j, part in parts.items()}
    return [found[j] for j in range(len(factor.A.terms))]


def products(factor: IterativeFactor, H: Sequence[Floats]) -> list[Floats]:
    """``Z'Z H`` of every term, ``(l, k, c)``, for ``H`` (l, k, c_j) that is zero outside term j."""
    ends = np.cumsum([0, *(h.shape[2] for h in H)])
    full = [np.zeros((*h.shape[:2], ends[-1])) for h in H]
    for block, h, (a, b) in zip(full, H, pairwise(ends), strict=True):
        block[:, :, a:b] = h
    return factor.reduced.layout.gram(factor.A, full)


def explained(factor: IterativeFactor, random: Sequence[Floats]) -> Floats:
    """``r' C~ r`` for right-hand sides ``r`` (l, k, c) a term, the fixed effects given."""
    sides = factor.reduced.reduced_sides(random, np.zeros((factor.A.p, random[0].shape[2])))
    f = factor.reduced.to_scaled(sides.rest)
    half = f.T @ factor.deflated.solve(f, _EXPLAINED)
    return np.asarray(sides.within + 0.5 * (half + half.T))


def fixed_on_random(factor: IterativeFactor) -> list[Floats]:
    """``C~ Z'X`` per term, ``(l, k, p)``: the random effects that every column of ``X`` would get.

    As :func:`interlace.solver.rows.fixed_on_random` of the exact solver.
    """
    reduced, p = factor.reduced, factor.A.p
    columns = np.vstack((np.eye(p), np.zeros((1, p))))
    b = factor.fixed_images
    found = {s: own for s, (own, _) in reduced.chain_images(-b, columns).items()}
    found |= {j: reduced.blocks(j, part) for j, part in reduced.layout.split(b).items()}
    return [found[j] for j in range(len(factor.A.terms))]


@dataclass(frozen=True, eq=False)
class ProbedRows:
    """Rows of a model, and where they meet in its equations.

    Attributes
    ----------
    layout
        That of the equations at any weights.
    codes, Z
        ``(n,)`` and ``(n, k)`` a term, as the equations have them.
    some
        ``Z`` of all terms side by side, ``(r, q)``, of rows from one to another.
    places
        Position of every row's pair of levels among the cells of two terms ``i < j``, ``(n,)``.
    backs
        :attr:`turned`, where it is known.
    """

    layout: Layout
    codes: tuple[Codes, ...]
    Z: tuple[Floats, ...]
    some: Callable[[int, int], csr_matrix]
    places: Mapping[tuple[int, int], Codes]
    backs: Mapping[tuple[int, int], Codes] | None = None

    def on(
        self,
        codes: tuple[Codes, ...],
        Z: tuple[Floats, ...],
        matrix: csr_matrix,
        places: Mapping[tuple[int, int], Codes],
    ) -> ProbedRows:
        """Other rows of the same model."""
        return ProbedRows(self.layout, codes, Z, partial(some_rows, matrix), places, self.turned)

    @cached_property
    def turned(self) -> Mapping[tuple[int, int], Codes]:
        """Of a chain term after one of the rest: where cells of the latter are in its order."""
        if self.backs is not None:
            return self.backs
        found = {}
        for s, j in ((s, j) for s in self.layout.chain for j in self.layout.rest if s > j):
            order = self.layout.turned[s, j]
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            found[s, j] = back
        return found

    @cached_property
    def _cells(self) -> dict[tuple[int, int], Codes]:
        """Cell of every row, of a chain term with a later one or one of the rest."""
        chain, rest = self.layout.chain, self.layout.rest
        return {
            (s, j): self.places[s, j] if s < j else self.turned[s, j][self.places[j, s]]
            for s in chain
            for j in rest
        }

    def forms(self, factor: IterativeFactor, known: Known | None = None) -> Floats:
        """``z'C~z`` of every row, the fixed effects given: known parts and means, ``(n,)``.

        ``known`` is what depends on the equations alone.
        """
        total = np.empty(len(self.codes[0]))
        known = known or Known(factor)
        effects, m = known.effects, factor.n_probes
        core = factor.known_inverse.core
        for part in row_pieces(len(total)):
            images = self.some(part.start, part.stop) @ effects
            low = images[:, 2 * m :]
            total[part] = self._alone(known, part) + dot(low @ core, low)
            total[part] += dot(images[:, :m], images[:, m : 2 * m]) / max(1, m)
        return total

    def shares(
        self, factor: IterativeFactor, known: Known | None = None
    ) -> Iterator[tuple[slice, Floats]]:
        """Share of every probe in :meth:`forms`, ``(r, m)`` for rows after rows; means count."""
        known = known or Known(factor)
        effects, m = known.of_probes, factor.n_probes
        for part in row_pieces(len(self.codes[0])):
            images = self.some(part.start, part.stop) @ effects
            yield part, images[:, :m] * images[:, m:]

    def _alone(self, known: Known, part: slice) -> Floats:
        """The share of ``K`` and of the identity."""
        chain, rest = self.layout.chain, self.layout.rest
        codes = [own[part] for own in self.codes]
        z = {j: self.Z[j][part] for j in rest}
        total = np.zeros(part.stop - part.start)
        for j in rest:
            total += dot(rows_times(z[j], known.squares[j], codes[j]), z[j])
        sides, q = {s: self.Z[s][part] for s in chain}, dict[int, Floats]()
        for i, s in enumerate(chain):
            step = known.factor.reduced.steps[s]
            q[s] = rows_times(sides[s], step.K, codes[s])
            total += dot(sides[s], q[s])
            for t, link in step.links.items():
                sides[t] = sides[t] - rows_times(q[s], link.R, codes[s])
            for j in rest:
                R = step.cells[j].values
                Rq = rows_times(q[s], R, self._cells[s, j][part])
                total -= 2.0 * dot(rows_times(Rq, known.squares[j], codes[j]), z[j])
            for earlier in chain[: i + 1]:
                twice = 1.0 if earlier == s else 2.0
                inner = rows_times(q[earlier], known.products[earlier, s], codes[earlier])
                total += twice * dot(inner, q[s])
        return total


@dataclass(frozen=True, eq=False)
class Known:
    """What equations say of any row.

    ``G G'`` of every level of the rest, products ``R G G' R'`` of nested levels, and the effects of
    probes.
    """

    factor: IterativeFactor

    @cached_property
    def squares(self) -> dict[int, Floats]:
        """``(l, k, k)`` per term of the rest."""
        scaling = self.factor.reduced.scaling
        return {j: multiply(s.G, transposed(s.G)) for j, s in scaling.items()}

    @cached_property
    def products(self) -> dict[tuple[int, int], Floats]:
        """See :func:`interlace.solver.chain.level_products`."""
        return level_products(self.factor.reduced, self.squares)

    @cached_property
    def effects(self) -> Floats:
        """See :func:`_effects`."""
        return _effects(self.factor)

    @cached_property
    def of_probes(self) -> Floats:
        """Those of the probes alone, ``(q, 2 m)``."""
        return np.ascontiguousarray(self.effects[:, : 2 * self.factor.n_probes])


def _effects(factor: IterativeFactor) -> Floats:
    """Effects of all terms for ``H (x - z)``, ``H z`` and ``U``, ``(q, 2 m + s)``."""
    parts = [np.concatenate(columns, axis=2) for columns in zip(*factor.probe_effects, strict=True)]
    return np.concatenate([p.reshape(p.shape[0] * p.shape[1], p.shape[2]) for p in parts])
