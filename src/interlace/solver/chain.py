"""Blocks of the chain terms that follow from the diagonal blocks of the rest alone.

With ``v`` effects of the rest, elimination leaves at a level of chain term ``s`` the image
``g_s = R_s v - sum over later t of L_st K_t g_t``, ``t`` at the level in which it is nested; so
``g_s = sum of Phi_sa R_a v`` over ``s`` and the levels ``a`` in which it is nested.  For effects
with independent levels of covariance ``C`` its covariance therefore needs products ``R_a C R_b'``
of rows of nested levels only, and the smaller of the two has all the cells they share.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from interlace.solver.blocks import multiply
from interlace.solver.sparse import Reduced, Step, chunks, summed, sums_by_row, transposed
from interlace.sums.cells import Codes
from interlace.sums.terms import Floats


def local_sandwiches(reduced: Reduced, C: Mapping[int, Floats]) -> dict[int, Floats]:
    """``R C~ R'`` of every chain term, ``(l, k, k)``, with levels of the rest independent.

    Parameters
    ----------
    reduced
        The equations after elimination.
    C
        Per term of the rest the blocks ``(l, k, k)`` of ``C~``.

    Returns
    -------
    dict
        The part of the later chain terms given the rest, and that of the rest.
    """
    given = _given_the_rest(reduced)
    phi = _weights(reduced)
    products = level_products(reduced, C)
    return {s: given[s] + _combined(reduced, s, phi[s], products) for s in reduced.layout.chain}


def _given_the_rest(reduced: Reduced) -> dict[int, Floats]:
    """``R C~ R'`` over the later chain terms, given the rest."""
    blocks: dict[tuple[int, int], Floats] = {}
    found: dict[int, Floats] = {}
    for s in reversed(reduced.layout.chain):
        step = reduced.steps[s]
        Y = np.zeros_like(step.N)
        for t, link in step.links.items():
            parts = [
                multiply(via.R, _at_parents(blocks, u, t, step)) for u, via in step.links.items()
            ]
            Q = np.asarray(sum(parts), dtype=np.float64)
            Y += multiply(Q, transposed(link.R))
            blocks[s, t] = -multiply(step.K, Q)
        blocks[s, s] = step.K + multiply(multiply(step.K, Y), step.K)
        found[s] = Y
    return found


def _at_parents(blocks: dict[tuple[int, int], Floats], i: int, j: int, step: Step) -> Floats:
    """``C~`` given the rest, between the parents in terms ``i`` and ``j`` of every level."""
    if (i, j) in blocks:
        return blocks[i, j][step.links[i].parents]
    return transposed(blocks[j, i][step.links[j].parents])


def _weights(reduced: Reduced) -> dict[int, dict[int, Floats]]:
    """``Phi_sa`` (l_s, k_s, k_a) for every chain term ``s`` and itself or a later one ``a``."""
    phi: dict[int, dict[int, Floats]] = {}
    for s in reversed(reduced.layout.chain):
        step = reduced.steps[s]
        l, k, _ = step.N.shape
        phi[s] = {s: np.broadcast_to(np.eye(k), (l, k, k))}
        for t, link in step.links.items():
            W = multiply(link.R, reduced.steps[t].K[link.parents])
            for a, further in phi[t].items():
                share = -multiply(W, further[link.parents])
                phi[s][a] = phi[s][a] + share if a in phi[s] else share
    return phi


def level_products(reduced: Reduced, C: Mapping[int, Floats]) -> dict[tuple[int, int], Floats]:
    """``R_a C R_b'`` (l_a, k_a, k_b) of every level of ``a`` and that of ``b`` it is nested in."""
    chain, layout = reduced.layout.chain, reduced.layout
    found: dict[tuple[int, int], Floats] = {}
    for i, a in enumerate(chain):
        own = reduced.steps[a]
        found[a, a] = np.zeros_like(own.N)
        for j, cells in own.cells.items():
            found[a, a] += sums_by_row(cells, C[j], len(own.N))
        for b in chain[i + 1 :]:
            later = reduced.steps[b]
            total = np.zeros((len(own.N), own.N.shape[1], later.N.shape[1]))
            for j in layout.rest:
                total += _shared(own, later, j, layout.places[a, b, j], C[j])
            found[a, b] = total
    return found


def _shared(own: Step, later: Step, j: int, places: Codes, C: Floats) -> Floats:
    """``R_a C R_b'`` over the levels of one term of the rest."""
    mine, theirs = own.cells[j], later.cells[j]
    total = np.zeros((len(own.N), own.N.shape[1], later.N.shape[1]))
    for part in chunks(len(places)):
        half = multiply(mine.values[part], C[mine.cols[part]])
        product = multiply(half, transposed(theirs.values[places[part]]))
        total += summed(mine.rows[part], product, len(total))
    return total


def _combined(
    reduced: Reduced, s: int, phi: Mapping[int, Floats], products: Mapping[tuple[int, int], Floats]
) -> Floats:
    """``sum of Phi_sa R_a C R_b' Phi_sb'``."""
    chain, step = reduced.layout.chain, reduced.steps[s]

    def at(term: int, blocks: Floats) -> Floats:
        return blocks if term == s else blocks[step.links[term].parents]

    total = np.zeros_like(step.N)
    for a, left in phi.items():
        for b, right in phi.items():
            first = chain.index(a) <= chain.index(b)
            block = at(a, products[a, b]) if first else transposed(at(b, products[b, a]))
            total += multiply(multiply(left, block), transposed(right))
    return total
