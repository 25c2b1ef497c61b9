"""Sums over blocks of rows at parameters and effects: those of a step to the modes, and those of
derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from interlace.glmm.equations import SomeRows
from interlace.glmm.families import Curve
from interlace.glmm.links import all_inside
from interlace.glmm.mode import floored
from interlace.glmm.problem import Parameters, Problem
from interlace.glmm.stored import Block, Stored
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

Pair = tuple[int, int]
# Sums by level, of columns, second derivatives, and of auxiliary predictors; see `Levered`.
LeveredPart: TypeAlias = tuple[list[tuple[int, Floats]], Floats, Floats, Floats]
# What the rows' weights are in a step: the observed curvature; made positive; the expected one.
KINDS: tuple[Callable[[Curve], Floats], ...] = (
    lambda curve: curve.W,
    floored,
    lambda curve: curve.expected,
)


# ------------------------------------------------------------------ sums at weights


class Part(NamedTuple):
    """Sums over a block: the log-likelihood, ``[Z'g, Z'WZ]`` by level, ``Z'WZ`` by pair."""

    l: float
    levels: list[tuple[int, Floats]]
    cells: dict[Pair, tuple[int, Floats]]


@dataclass(eq=False)
class Weighed:
    """Sums over all rows at some effects: log-likelihood, ``Z'g``, ``Z'WZ``.

    ``levels`` (l, k + k (k + 1) / 2) a term are those of ``Z_a g`` and the upper triangle of ``W
    Z_a Z_b``, ``cells`` (c, k_i k_j) those of ``W Z_a Z_b`` by pair of levels.
    """

    stored: Stored
    levels: list[Floats]
    cells: dict[Pair, Floats]
    l: float = 0.0
    inside: bool = True

    @classmethod
    def nothing(cls, stored: Stored) -> Weighed:
        """Of no rows."""
        terms = stored.head.rows.terms
        return cls(
            stored,
            [np.zeros((t.l, t.k + t.k * (t.k + 1) // 2)) for t in terms],
            {
                (i, j): np.zeros((len(own[0]), terms[i].k * terms[j].k))
                for (i, j), own in stored.pairs.items()
            },
        )

    def add(self, part: Part | None) -> None:
        """Add those of a block; ``None`` is one outside the link's domain."""
        if part is None:
            self.inside = False
            return
        self.l += part.l
        add_levels(self.levels, part.levels)
        for pair, (first, own) in part.cells.items():
            self.cells[pair][first : first + len(own)] += own

    @property
    def g(self) -> list[Floats]:
        """``Z'g``, ``(l, k)`` a term."""
        terms = self.stored.head.rows.terms
        return [own[:, : t.k] for t, own in zip(terms, self.levels, strict=True)]

    @cached_property
    def A(self) -> CrossProducts:
        """``Z'WZ``."""
        terms = self.stored.head.rows.terms
        zz = []
        for term, own in zip(terms, self.levels, strict=True):
            first, second = np.triu_indices(term.k)
            block = np.empty((term.l, term.k, term.k))
            block[:, first, second] = block[:, second, first] = own[:, term.k :]
            zz.append(block)
        cells = {
            (i, j): own.reshape(-1, terms[i].k, terms[j].k) for (i, j), own in self.cells.items()
        }
        return self.stored.cross_products(zz, cells)


def _looked(block: Block, at: Parameters, b: Sequence[Floats]) -> tuple[Floats, Curve] | None:
    """Linear predictors of a block, and the curves there; ``None`` outside the link's domain."""
    problem = block.problem
    eta = problem.fixed_part(at.beta)
    for codes, Z, own in zip(problem.rows.codes, problem.rows.Z, b, strict=True):
        for a in range(own.shape[1]):
            effect = own[:, a].take(codes)
            eta += effect if Z is None else effect * Z[:, a]
    if not all_inside(problem.family.link, eta):
        return None
    return eta, problem.curve(eta, problem.omega(at.gamma))


def weighed_part(
    block: Block, at: Parameters, b: Sequence[Floats], weights: Callable[[Curve], Floats]
) -> Part | None:
    """The sums of a step over a block; ``None`` outside the link's domain."""
    found = _looked(block, at, b)
    if found is None:
        return None
    curve, Z = found[1], block.problem.rows.Z
    W = weights(curve)
    levels = []
    for j, z in enumerate(Z):
        if z is None:
            V = np.stack((curve.g, W), axis=1)
        else:
            first, second = np.triu_indices(z.shape[1])
            V = np.concatenate(
                (z * curve.g[:, None], z[:, first] * z[:, second] * W[:, None]), axis=1
            )
        levels.append(block.sums(j, V))
    cells = {(i, j): block.cell_sums((i, j), _products(Z[i], Z[j], W)) for i, j in block.cells}
    return Part(float(curve.l.sum()), levels, cells)


def _products(left: Floats | None, right: Floats | None, W: Floats) -> Floats:
    """``W z_a z_b`` for all columns of two terms, ``(n, k_i k_j)``."""
    own = W[:, None] if left is None else W[:, None] * left
    if right is None:
        return own
    return np.asarray((own[:, :, None] * right[:, None, :]).reshape(len(W), -1))


# ------------------------------------------------------------------ sums for derivatives


@dataclass(eq=False)
class Levered:
    """Sums over rows with their leverages.

    Attributes
    ----------
    levels
        ``Z'[c, WX, K]`` with ``K = -g_o G``, ``(l, k, 1 + p + r)`` a term.
    fixed
        ``X'[c, g]``, ``(p, 2)``.
    among
        Second derivatives of ``-l`` in (beta, gamma).
    gamma
        ``G'(lev W_o - 2 l_o)``.
    """

    levels: list[Floats]
    fixed: Floats
    among: Floats
    gamma: Floats

    @classmethod
    def nothing(cls, problem: Problem) -> Levered:
        """Of no rows."""
        _, p, r = problem.sizes
        levels = [np.zeros((t.l, t.k, 1 + p + r)) for t in problem.rows.terms]
        return cls(levels, np.zeros((p, 2)), np.zeros((p + r, p + r)), np.zeros(r))

    def add(self, part: LeveredPart) -> None:
        """Add those of a block."""
        levels, fixed, among, gamma = part
        add_levels(self.levels, levels)
        self.fixed += fixed
        self.among += among
        self.gamma += gamma


def levered_part(
    block: Block, at: Parameters, b: Sequence[Floats], lever: Callable[[SomeRows], Floats]
) -> LeveredPart:
    """The sums of :class:`Levered` over a block, of which ``lever`` gives the leverages."""
    problem, rows = block.problem, block.problem.rows
    found = _looked(block, at, b)
    assert found is not None  # the same pass as before
    eta, curve = found
    lev = lever(block.random)
    c = lev * curve.dW
    columns, among, gamma = [c[:, None], curve.W[:, None] * rows.X], None, np.zeros(0)
    if problem.sizes[2]:
        slope = problem.slope(eta, problem.omega(at.gamma))
        columns.append(-np.einsum("kn,knr->nr", slope.g, problem.G))
        gamma = problem.to_gamma(lev * slope.W - 2.0 * slope.l)
        second = np.einsum("jkn,jnr,kns->rs", slope.second, problem.G, problem.G)
        cross = rows.X.T @ columns[2]
        among = np.block([[rows.X.T @ columns[1], cross], [cross.T, -second]])
    V = np.concatenate(columns, axis=1)
    levels = [block.sums(j, by_column(Z, V)) for j, Z in enumerate(rows.Z)]
    fixed = rows.X.T @ np.stack((c, curve.g), axis=1)
    return levels, fixed, rows.X.T @ columns[1] if among is None else among, gamma


@dataclass(eq=False)
class ProbeSums:
    """Sums of every random probe's share ``lev`` in the leverages.

    ``levels`` are ``Z'(lev W')``, ``(l, k, m)`` a term, ``fixed`` ``X'(lev W')`` and ``sum of
    G_k'(lev W_k)``, ``(p + r, m)``.
    """

    levels: list[Floats]
    fixed: Floats

    @classmethod
    def nothing(cls, problem: Problem, m: int) -> ProbeSums:
        """Of no rows and ``m`` probes."""
        _, p, r = problem.sizes
        return cls([np.zeros((t.l, t.k, m)) for t in problem.rows.terms], np.zeros((p + r, m)))

    def add(self, part: tuple[list[tuple[int, Floats]], Floats]) -> None:
        """Add those of a block."""
        add_levels(self.levels, part[0])
        self.fixed += part[1]


def probed_part(
    block: Block, at: Parameters, b: Sequence[Floats], lever: Callable[[SomeRows], Floats]
) -> tuple[list[tuple[int, Floats]], Floats]:
    """The sums of :class:`ProbeSums` over a block."""
    problem, rows = block.problem, block.problem.rows
    found = _looked(block, at, b)
    assert found is not None  # the same pass as before
    eta, curve = found
    lev = lever(block.random)
    c = curve.dW[:, None] * lev
    fixed = rows.X.T @ c
    if problem.sizes[2]:
        slope = problem.slope(eta, problem.omega(at.gamma))
        weighted = np.einsum("kn,knr->nr", slope.W, problem.G)
        fixed = np.concatenate((fixed, weighted.T @ lev))
    return [block.sums(j, by_column(Z, c)) for j, Z in enumerate(rows.Z)], fixed


def by_column(Z: Floats | None, V: Floats) -> Floats:
    """``z_a v`` for every column of a term and of ``V`` (n, c), ``(n, k c)``."""
    return V if Z is None else np.asarray((Z[:, :, None] * V[:, None, :]).reshape(len(V), -1))


def add_levels(total: Sequence[Floats], part: Sequence[tuple[int, Floats]]) -> None:
    """Add sums by level, which start at some level of each term."""
    for whole, (first, own) in zip(total, part, strict=True):
        whole[first : first + len(own)] += own.reshape(-1, *whole.shape[1:])
