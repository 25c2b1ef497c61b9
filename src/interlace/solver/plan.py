"""Which terms to eliminate one level at a time, and which to factor as one dense matrix.

The term with the most columns goes first: its block is block diagonal.  A term in which every
level of the last eliminated one is nested stays block diagonal and can follow (the *chain*).  What
is left, with ``X`` and ``y``, is the *dense* remainder.  All of this depends on the pattern of the
cross-products alone and is done once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from scipy.sparse import csr_matrix, hstack

from interlace.errors import InterlaceError
from interlace.machine.memory import in_gb, memory_limit
from interlace.solver.places import (
    Dense,
    Index,
    Sparse,
    check_pairs,
    located,
    numbers,
    positions_of,
    sparse_places,
)
from interlace.solver.tails import DenseTail, SparseTail, TailPattern, count_pairs, tail_pattern
from interlace.sums.crossprod import Cells, Codes, CrossProducts
from interlace.sums.terms import Floats

# Predicted seconds per unit of work on one core: a flop of a matrix product, a listed pair.
_FLOP, _PAIR = 4e-11, 4e-9
# Seconds that a sparse tail takes at the least, however few pairs there are.
_SPARSE = 5e-5


@dataclass(frozen=True, eq=False)
class Link:
    """Chain term nested in a later one: parent and ``(l, k, k_parent)`` block of every level."""

    parents: Codes
    R: Floats


@dataclass(frozen=True, eq=False)
class Pattern:
    """Order of elimination, and where the numbers of the cross-products go.

    ``links[s, t]`` has the parents and the positions of every level's block, ``cross`` the places
    of ``Z_i' Z_j``: for ``i > j`` of sparse ones alone, others are the transposes.  ``tails`` has
    those of sparse tails.
    """

    chain: tuple[int, ...]
    dense: tuple[int, ...]
    offsets: Mapping[int, int]
    q_dense: int
    links: Mapping[tuple[int, int], tuple[Codes, Index]]
    cross: Mapping[tuple[int, int], Dense | Sparse]
    tails: Mapping[int, TailPattern]


@dataclass(frozen=True, eq=False)
class Plan:
    """Static structure and theta-free numbers of the exact solver.

    Attributes
    ----------
    A
        The cross-products.
    pattern
        What of the plan depends on their codes alone.
    links
        ``links[s, t]`` couples chain term ``s`` with the later chain term ``t``.
    tails
        Per chain term, its rows against the remainder.
    S
        Cross-products of the remainder ``[dense terms, X, y]``, ``(m, m)``.
    cross
        ``Z_i' Z_j`` flattened to ``(q_i, q_j)``, for all ``i != j``; dense where well filled.
    """

    A: CrossProducts
    pattern: Pattern
    links: Mapping[tuple[int, int], Link]
    tails: Mapping[int, DenseTail | SparseTail]
    S: Floats
    cross: Mapping[tuple[int, int], Floats | csr_matrix]

    @property
    def chain(self) -> tuple[int, ...]:
        """Terms eliminated by level, in order."""
        return self.pattern.chain

    @property
    def dense(self) -> tuple[int, ...]:
        """Terms factored together."""
        return self.pattern.dense

    @property
    def offsets(self) -> Mapping[int, int]:
        """First row in the remainder of each dense term."""
        return self.pattern.offsets

    @property
    def q_dense(self) -> int:
        """Effects of the dense terms: the first row of ``X`` in the remainder."""
        return self.pattern.q_dense


def make_plan(A: CrossProducts) -> Plan:
    """Choose the order of elimination by predicted work, and lay out its numbers."""
    return _lay_out(A, *_choose(A))


def single_plan(A: CrossProducts) -> Plan:
    """A plan that eliminates the largest term alone; every other one stays in the remainder."""
    first = _longest_chain(A)[0]
    sparse, dense = _sparse_cost(A, first), _dense_cost(A, (first,))
    return _lay_out(A, (first,), sparse.seconds < dense.seconds)


def _lay_out(A: CrossProducts, chain: tuple[int, ...], sparse: bool) -> Plan:
    """The plan that eliminates ``chain``, its (single) tail sparse or dense."""
    return _filled(_pattern(A, chain, sparse), A)


def refill(plan: Plan, A: CrossProducts) -> Plan:
    """The plan for other numbers at the same pairs of levels: nothing is laid out again.

    ``A`` may be of other rows, weights or response, and of other weights' sign, but not of other
    terms, fixed effects or pairs of levels.

    Raises
    ------
    ValueError
        The pairs of levels that occur are others.
    """
    check_pairs(plan.A, A)
    return _filled(plan.pattern, A)


def _pattern(A: CrossProducts, chain: tuple[int, ...], sparse: bool) -> Pattern:
    """Places of all numbers, for a chain with its (single) tail sparse or dense."""
    dense = tuple(sorted(set(range(len(A.terms))) - set(chain), key=lambda j: -A.terms[j].q))
    starts = list(accumulate((A.terms[j].q for j in dense), initial=0))
    at = replace(A, cells=located(A.cells))
    links = {
        (s, t): (cells.cols, positions_of(cells.values))
        for i, s in enumerate(chain)
        for t in chain[i + 1 :]
        for cells in [between(at, s, t)]
    }
    return Pattern(
        chain=chain,
        dense=dense,
        offsets=dict(zip(dense, starts, strict=False)),
        q_dense=starts[-1],
        links=links,
        cross=_cross_places(at),
        tails={s: _tail_pattern(at, s, dense) for s in chain} if sparse else {},
    )


def _filled(pattern: Pattern, A: CrossProducts) -> Plan:
    """The plan with the numbers of some cross-products."""
    values = numbers(A)
    cross = _filled_cross(pattern.cross, values)

    def tail(s: int) -> DenseTail | SparseTail:
        if s in pattern.tails:
            return pattern.tails[s].filled(values, A.zv[s])
        return _dense_tail(A, s, [cross[s, j] for j in pattern.dense])

    return Plan(
        A=A,
        pattern=pattern,
        links={
            pair: Link(parents, values[places]) for pair, (parents, places) in pattern.links.items()
        },
        tails={s: tail(s) for s in pattern.chain},
        S=remainder(A, pattern.dense, pattern.offsets, cross),
        cross=cross,
    )


def respond(plan: Plan, A: CrossProducts) -> Plan:
    """The plan for cross-products that differ from the planned ones in the response alone."""
    S = plan.S.copy()
    S[:, -1] = np.concatenate([*(A.zv[j][..., -1].ravel() for j in plan.dense), A.vv[:, -1]])
    S[-1] = S[:, -1]
    tails = {s: tail.with_last(A.zv[s][..., -1]) for s, tail in plan.tails.items()}
    return replace(plan, A=A, S=S, tails=tails)


def between(A: CrossProducts, i: int, j: int) -> Cells:
    """Nonzero blocks of ``Z_i' Z_j`` for any ``i != j``."""
    return A.cells[i, j] if i < j else A.cells[j, i].transpose()


def nested(A: CrossProducts, i: int, j: int) -> bool:
    """Whether every level of term ``i`` meets exactly one level of term ``j``."""
    l = A.terms[i].l
    if len(A.cells[min(i, j), max(i, j)].rows) != l:
        return False
    return bool((between(A, i, j).rows == np.arange(l)).all())


@dataclass(frozen=True)
class Cost:
    """Predicted seconds per evaluation on one core, and bytes."""

    seconds: float
    bytes: float


def cost_at_most(A: CrossProducts) -> Cost:
    """Cost of the exact solver whatever is nested or sparse: of eliminating the largest term."""
    sizes = [term.q for term in A.terms]
    return _dense_cost(A, (sizes.index(max(sizes)),))


def exact_costs(A: CrossProducts) -> tuple[Cost, ...]:
    """Costs of the exact solver with dense tails, and of one with a sparse tail if that may pay."""
    return _costs(A, _longest_chain(A))


def _costs(A: CrossProducts, chain: tuple[int, ...]) -> tuple[Cost, ...]:
    """The same for a chain."""
    dense = _dense_cost(A, chain)
    return (dense,) if dense.seconds < _SPARSE else (dense, _sparse_cost(A, chain[0]))


def sizes_in_words(A: CrossProducts) -> str:
    """Sizes of all terms, for messages."""
    return ", ".join(f"{t.group}: {t.l} levels x {t.k}" for t in A.terms)


def _choose(A: CrossProducts) -> tuple[tuple[int, ...], bool]:
    """The chain, and whether its (single) tail is sparse."""
    chain = _longest_chain(A)
    limit = memory_limit()
    costs = _costs(A, chain)
    choices = (chain, False), (chain[:1], True)
    fits = [
        (cost.seconds, choice)
        for cost, choice in zip(costs, choices, strict=False)
        if cost.bytes <= limit
    ]
    if not fits:
        least = min(cost.bytes for cost in costs)
        raise InterlaceError(
            f"the exact solver would need {in_gb(least)} for these terms "
            f"({sizes_in_words(A)}), but {in_gb(limit)} can be used; it is meant for models "
            f"whose second-largest factor has up to a few thousand levels. Leave out or coarsen a "
            f"factor"
        )
    return min(fits, key=lambda fit: fit[0])[1]


def chain_with_most(A: CrossProducts) -> tuple[int, ...]:
    """The chain of nested terms, from any first term, with the most effects."""
    chains = [_longest_chain(A, first) for first in range(len(A.terms))]
    return max(chains, key=lambda chain: sum(A.terms[j].q for j in chain))


def _longest_chain(A: CrossProducts, first: int | None = None) -> tuple[int, ...]:
    """``first``, or the largest term; then each time the largest that the last is nested in."""
    rest = sorted(range(len(A.terms)), key=lambda j: -A.terms[j].q)
    chain = [rest.pop(0 if first is None else rest.index(first))]
    while True:
        parents = [j for j in rest if nested(A, chain[-1], j)]
        if not parents:
            return tuple(chain)
        chain.append(parents[0])
        rest.remove(parents[0])


def _dense_cost(A: CrossProducts, chain: tuple[int, ...]) -> Cost:
    """With dense tails."""
    eliminated = sum(A.terms[j].q for j in chain)
    m = sum(t.q for t in A.terms) - eliminated + A.p + 1
    flops = 4.0 * eliminated * m**2 + 2.0 * m**3
    return Cost(flops * _FLOP, 16.0 * eliminated * m + 40.0 * m**2)


def _sparse_cost(A: CrossProducts, first: int) -> Cost:
    """With a sparse tail of the one eliminated term."""
    term = A.terms[first]
    m = sum(t.q for t in A.terms) - term.q + A.p + 1
    lengths = np.zeros(term.l)
    for j in set(range(len(A.terms))) - {first}:
        lengths += np.bincount(between(A, first, j).rows, minlength=term.l) * A.terms[j].k
    pairs = count_pairs(lengths, term.k)
    seconds = pairs * 2 * _PAIR + 2.0 * m**3 * _FLOP + _SPARSE
    return Cost(seconds, 50.0 * pairs + 40.0 * m**2)


def _flat(cells: Cells, shape: tuple[int, int]) -> csr_matrix:
    """One ``Z_i' Z_j`` as a sparse ``(q_i, q_j)`` matrix."""
    _, ki, kj = cells.values.shape
    rows = np.broadcast_to(
        (cells.rows[:, None] * ki + np.arange(ki))[:, :, None], cells.values.shape
    )
    cols = np.broadcast_to(
        (cells.cols[:, None] * kj + np.arange(kj))[:, None, :], cells.values.shape
    )
    return csr_matrix((cells.values.ravel(), (rows.ravel(), cols.ravel())), shape=shape)


def flat_cross(A: CrossProducts) -> dict[tuple[int, int], Floats | csr_matrix]:
    """``Z_i' Z_j`` for all ``i != j``."""
    return _filled_cross(_cross_places(replace(A, cells=located(A.cells))), numbers(A))


def _cross_places(at: CrossProducts) -> dict[tuple[int, int], Dense | Sparse]:
    """Places of ``Z_i' Z_j``, well filled ones in full, from cells of positions."""
    places: dict[tuple[int, int], Dense | Sparse] = {}
    for (i, j), cells in at.cells.items():
        shape = (at.terms[i].q, at.terms[j].q)
        if cells.values.size > 0.1 * shape[0] * shape[1]:
            places[i, j] = Dense(positions_of(cells.values), cells.rows, cells.cols, shape)
        else:
            flat = _flat(cells, shape)
            places[i, j], places[j, i] = sparse_places(flat), sparse_places(flat.T.tocsr())
    return places


def _filled_cross(
    places: Mapping[tuple[int, int], Dense | Sparse], values: Floats
) -> dict[tuple[int, int], Floats | csr_matrix]:
    """``Z_i' Z_j`` for all ``i != j`` of some numbers."""
    cross: dict[tuple[int, int], Floats | csr_matrix] = {}
    for (i, j), place in places.items():
        cross[i, j] = block = place.filled(values)
        if isinstance(block, np.ndarray):
            cross[j, i] = block.T
    return cross


def as_array(block: Floats | csr_matrix) -> Floats:
    """A block of ``cross`` as an array."""
    return block if isinstance(block, np.ndarray) else np.asarray(block.toarray())


def _tail_pattern(at: CrossProducts, s: int, dense: tuple[int, ...]) -> TailPattern:
    """Places of the rows of chain term ``s`` against the dense terms, from cells of positions."""
    term = at.terms[s]
    parts = [_flat(between(at, s, j), (term.q, at.terms[j].q)) for j in dense]
    R = hstack(parts, format="csr") if parts else csr_matrix((term.q, 0))
    R.sort_indices()
    return tail_pattern(R, term.k, at.p + 1)


def _dense_tail(A: CrossProducts, s: int, blocks: Sequence[Floats | csr_matrix]) -> DenseTail:
    """Rows of chain term ``s`` against ``[dense terms, X, y]``; ``blocks`` for the former."""
    term = A.terms[s]
    full = [as_array(block) for block in blocks] + [A.zv[s].reshape(term.q, -1)]
    return DenseTail(np.concatenate(full, axis=1).reshape(term.l, term.k, -1))


def remainder(
    A: CrossProducts,
    dense: tuple[int, ...],
    offsets: Mapping[int, int],
    cross: Mapping[tuple[int, int], Floats | csr_matrix],
) -> Floats:
    """Cross-products of ``[dense terms, X, y]``."""
    q = sum(A.terms[j].q for j in dense)
    S = np.zeros((q + A.p + 1, q + A.p + 1))
    S[q:, q:] = A.vv
    for j in dense:
        term, a = A.terms[j], offsets[j]
        rows = a + np.arange(term.q).reshape(term.l, term.k)
        S[rows[:, :, None], rows[:, None, :]] = A.zz[j]
        S[a : a + term.q, q:] = A.zv[j].reshape(term.q, -1)
        S[q:, a : a + term.q] = S[a : a + term.q, q:].T
        for i in dense:
            if i < j:
                b = offsets[i]
                block = as_array(cross[j, i])
                S[a : a + term.q, b : b + A.terms[i].q] = block
                S[b : b + A.terms[i].q, a : a + term.q] = block.T
    return S
