"""Which terms to eliminate one level at a time, and which to factor as one dense matrix.

The term with the most columns goes first: its block is block diagonal.  A term in which every
level of the last eliminated one is nested stays block diagonal and can follow (the *chain*).  What
is left, with ``X`` and ``y``, is the *dense* remainder.  All of this depends on the pattern of the
cross-products alone and is done once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix, hstack

from interlace.errors import InterlaceError
from interlace.machine.memory import in_gb, memory_limit
from interlace.solver.tails import DenseTail, SparseTail, count_pairs, sparse_tail
from interlace.sums.crossprod import Cells, Codes, CrossProducts
from interlace.sums.terms import Floats

# Predicted seconds per unit of work on one core: a flop of a matrix product, a listed pair.
_FLOP, _PAIR = 4e-11, 4e-9


@dataclass(frozen=True, eq=False)
class Link:
    """Chain term nested in a later one: parent and ``(l, k, k_parent)`` block of every level."""

    parents: Codes
    R: Floats


@dataclass(frozen=True, eq=False)
class Plan:
    """Static structure and theta-free numbers of the exact solver.

    Attributes
    ----------
    chain, dense
        Indices of the terms eliminated by level, in order, and of the terms factored together.
    offsets
        First row in the remainder of each dense term, then of ``X``; ``y`` is the last row.
    links
        ``links[s, t]`` couples chain term ``s`` with the later chain term ``t``.
    tails
        Per chain term, its rows against the remainder.
    S
        Cross-products of the remainder ``[dense terms, X, y]``, ``(m, m)``.
    cross
        ``Z_i' Z_j`` flattened to ``(q_i, q_j)``, for all ``i != j``; dense where well filled.
    """

    chain: tuple[int, ...]
    dense: tuple[int, ...]
    offsets: Mapping[int, int]
    q_dense: int
    links: Mapping[tuple[int, int], Link]
    tails: Mapping[int, DenseTail | SparseTail]
    S: Floats
    cross: Mapping[tuple[int, int], Floats | csr_matrix]


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
    cross = flat_cross(A)
    dense = tuple(sorted(set(range(len(A.terms))) - set(chain), key=lambda j: -A.terms[j].q))
    sizes = [A.terms[j].q for j in dense]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(int)
    offsets = dict(zip(dense, starts[:-1].tolist(), strict=True))
    links = {
        (s, t): Link(cells.cols, cells.values)
        for i, s in enumerate(chain)
        for t in chain[i + 1 :]
        for cells in [between(A, s, t)]
    }
    return Plan(
        chain=chain,
        dense=dense,
        offsets=offsets,
        q_dense=int(starts[-1]),
        links=links,
        tails={s: _tail(A, s, [cross[s, j] for j in dense], sparse) for s in chain},
        S=remainder(A, dense, offsets, cross),
        cross=cross,
    )


def respond(plan: Plan, A: CrossProducts) -> Plan:
    """The plan for cross-products that differ from the planned ones in the response alone."""
    S = plan.S.copy()
    S[:, -1] = np.concatenate([*(A.zv[j][..., -1].ravel() for j in plan.dense), A.vv[:, -1]])
    S[-1] = S[:, -1]
    tails = {s: tail.with_last(A.zv[s][..., -1]) for s, tail in plan.tails.items()}
    return replace(plan, S=S, tails=tails)


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


def exact_costs(A: CrossProducts) -> tuple[Cost, Cost]:
    """Costs of the exact solver with dense tails, and of one with a sparse tail."""
    chain = _longest_chain(A)
    return _dense_cost(A, chain), _sparse_cost(A, chain[0])


def sizes_in_words(A: CrossProducts) -> str:
    """Sizes of all terms, for messages."""
    return ", ".join(f"{t.group}: {t.l} levels x {t.k}" for t in A.terms)


def _choose(A: CrossProducts) -> tuple[tuple[int, ...], bool]:
    """The chain, and whether its (single) tail is sparse."""
    chain = _longest_chain(A)
    limit = memory_limit()
    fits = [
        (cost.seconds, choice)
        for cost, choice in zip(exact_costs(A), ((chain, False), (chain[:1], True)), strict=True)
        if cost.bytes <= limit
    ]
    if not fits:
        least = min(cost.bytes for cost in exact_costs(A))
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
    seconds = pairs * 2 * _PAIR + 2.0 * m**3 * _FLOP + 5e-5
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
    cross: dict[tuple[int, int], Floats | csr_matrix] = {}
    for (i, j), cells in A.cells.items():
        flat = _flat(cells, (A.terms[i].q, A.terms[j].q))
        if flat.nnz > 0.1 * flat.shape[0] * flat.shape[1]:
            full = flat.toarray()
            cross[i, j], cross[j, i] = full, full.T
        else:
            cross[i, j], cross[j, i] = flat, flat.T.tocsr()
    return cross


def as_array(block: Floats | csr_matrix) -> Floats:
    """A block of ``cross`` as an array."""
    return block if isinstance(block, np.ndarray) else np.asarray(block.toarray())


def _tail(
    A: CrossProducts, s: int, blocks: Sequence[Floats | csr_matrix], sparse: bool
) -> DenseTail | SparseTail:
    """Rows of chain term ``s`` against ``[dense terms, X, y]``; ``blocks`` for the former."""
    term = A.terms[s]
    if sparse:
        parts = [csr_matrix(block) for block in blocks]
        R = hstack(parts, format="csr") if parts else csr_matrix((term.q, 0))
        R.sort_indices()
        return sparse_tail(R, A.zv[s])
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
