"""Rows against the inverse of the mixed-model equations: leverages, variances of predictions.

With ``C~ = Lambda_ext M^-1 Lambda_ext'``, ``M`` the mixed-model equations of all random and fixed
effects, ``sigma^2 [z x] C~ [z x]'`` is the variance of ``z'(b_hat - b) + x'(beta_hat - beta)``
(Henderson, 1975, Biometrics 31, 423-447).  ``C~`` is ``q x q`` and never formed.  A row is sent
through the chain like the equations: at an eliminated level with ``K`` and rows ``R`` against what
is left,

``[z w] C~ [z w]' = z'K z + (w - R'K z)' C~_rest (w - R'K z)``,

so that per combination of eliminated levels a ``k x m`` matrix ``E`` and a ``k x k`` one remain
(``k`` columns in the chain, ``m`` in the dense remainder), and ``C~`` is needed on the remainder
alone.  Levels that were never seen together are no exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix

from interlace.solver.blocks import multiply
from interlace.solver.exact import Factor
from interlace.solver.plan import Plan
from interlace.solver.tails import DenseTail, SparseTail
from interlace.sums.crossprod import Codes
from interlace.sums.rows import WorkingRows
from interlace.sums.terms import Floats

# Numbers held at a time by one array per combination of levels, and by one per row.
_LEVEL_NUMBERS, _ROW_NUMBERS = 1 << 21, 1 << 20
# Rows at a time that are gathered from levels.
_OWN_ROWS = 1 << 15


def quadratic_forms(factor: Factor, rows: WorkingRows, *, fixed: bool = True) -> Floats:
    """``[z x] C~ [z x]'`` of every row, ``(m,)``.

    Parameters
    ----------
    factor
        The mixed-model equations, factored.
    rows
        Rows in the working basis, levels in any combination.
    fixed
        Whether ``beta`` is estimated; if not, ``C~`` is that of the random effects given ``beta``,
        and ``X`` counts for nothing.

    Notes
    -----
    Work is that of the remainder's inverse, one product of its columns with the rows of every
    combination of eliminated levels, and a few gathers a row; memory that of the remainder plus
    pieces of fixed size.
    """
    if not len(rows.X):
        return np.zeros(0)
    C = factor.remainder_covariance(fixed=fixed)
    levels, which = _combinations(factor, rows)
    order = np.argsort(which, kind="stable")
    total = np.zeros(len(rows.X))
    width = sum(rows.Z[s].shape[1] for s in factor.plan.chain)
    for part in _pieces(which[order], max(1, _LEVEL_NUMBERS // (width * len(C))), rows):
        members = order[part]
        first, last = which[members[0]], which[members[-1]] + 1
        met = {s: codes[first:last] for s, codes in levels.items()}
        Q, B = _eliminated(factor, met, C)
        total[members] = _forms(factor.plan, rows, members, which[members] - first, (C, Q, B))
    return np.maximum(total, 0.0)  # rounding can leave a zero slightly negative


def own_forms(factor: Factor, rows: WorkingRows, *, fixed: bool = True) -> Floats:
    """:func:`quadratic_forms` of the rows that the equations were made of, ``(m,)``.

    Every row then meets a level of every term, and the levels of one another in the chain are those
    that the factor knows, so that with a chain of one term no combinations have to be found.

    Notes
    -----
    With no other term, ``[z x] C~ [z x]' = z'K z + |L_X^-1 (x - R'K z)|^2``: a gather of one block
    a level, and one product with the fixed effects.
    """
    if len(factor.plan.chain) > 1 or factor.plan.dense:
        return quadratic_forms(factor, rows, fixed=fixed)
    (s,) = factor.plan.chain
    step, total = factor.steps[s], np.empty(len(rows.X))
    root = solve_triangular(factor.L[:-1, :-1], np.eye(factor.A.p), lower=True, check_finite=False)
    KR = multiply(step.K, _tail_rows(step.tail, np.arange(factor.A.terms[s].l)))[..., :-1] @ root.T
    X = rows.X @ root.T if fixed else rows.X
    for start in range(0, len(total), _OWN_ROWS):
        part = slice(start, start + _OWN_ROWS)
        codes, z = rows.codes[s][part], rows.Z[s][part]
        total[part] = _squared(z, step.K, codes)
        if fixed:
            left = X[part] - multiply(z[:, None, :], KR[codes])[:, 0]
            total[part] += np.einsum("rp,rp->r", left, left)
    return total


def _squared(z: Floats, K: Floats, codes: Codes) -> Floats:
    """``z' K z`` of every row: ``(r, k)``, and ``(l, k, k)`` at its level."""
    if z.shape[1] == 1:
        return np.asarray(K[:, 0, 0][codes] * z[:, 0] ** 2, dtype=np.float64)
    return np.asarray(np.einsum("rk,rkl,rl->r", z, K[codes], z), dtype=np.float64)


def set_forms(factor: Factor, rows: WorkingRows, C: Floats) -> Floats:
    """``[z x] C~ [z x]'`` between all pairs of ``m`` rows, ``(m, m)``, for a chain of one term.

    ``C`` is ``factor.remainder_covariance(fixed=True)``.  With ``G`` the rows that elimination
    leaves on the remainder it is ``G C G'``, plus ``z K z'`` where two rows share a level.
    """
    plan = factor.plan
    (s,) = plan.chain
    step, codes, Z = factor.steps[s], rows.codes[s], rows.Z[s]
    zK = multiply(Z[:, None, :], step.K[codes])
    G = np.zeros((len(Z), len(C)))
    G[:, plan.q_dense : -1] = rows.X
    index, values = dense_entries(plan, rows, np.arange(len(Z)))
    G[np.arange(len(Z))[:, None], index] = values
    levels, which = np.unique(codes, return_inverse=True)
    G -= multiply(zK, _tail_rows(step.tail, levels)[which])[:, 0]
    same = codes[:, None] == codes
    among = np.where(same, zK[:, 0] @ Z.T, 0.0)
    if isinstance(step.tail, SparseTail):
        sparse = csr_matrix(G)
        return np.asarray(among + sparse @ (sparse @ C).T)
    return np.asarray(among + G @ C @ G.T)


def _tail_rows(tail: DenseTail | SparseTail, levels: Codes) -> Floats:
    """Rows ``R`` of some levels, ``(c, k, m)``."""
    if isinstance(tail, DenseTail):
        return tail.R[levels]
    _, k, width = tail.fixed.shape
    sparse = tail.R[(levels[:, None] * k + np.arange(k)).ravel()].toarray()
    full = np.concatenate((sparse, tail.fixed[levels].reshape(-1, width)), axis=1)
    return full.reshape(len(levels), k, -1)


def fixed_on_random(factor: Factor) -> tuple[Floats, ...]:
    """``C~_u Z'X`` per term, ``(l, k, p)``: the random effects that each column of ``X`` would get.

    ``C~_u`` is ``C~`` of the random effects given ``beta``; row ``i`` of ``V^-1 X`` is
    ``w_i (x_i - z_i' b)`` with ``b`` these effects.
    """
    plan, terms, p = factor.plan, factor.A.terms, factor.A.p
    q = plan.q_dense
    v = np.zeros((len(factor.L), p))
    v[q:-1] = np.eye(p)
    u = solve_triangular(
        factor.L[:q, :q], factor.L[q:-1, :q].T, lower=True, trans=1, check_finite=False
    )
    found: dict[int, Floats] = {}
    for j in plan.dense:
        a, term = plan.offsets[j], terms[j]
        found[j] = np.matmul(factor.templates[j], u[a : a + term.q].reshape(term.l, term.k, p))
        v[a : a + term.q] = -found[j].reshape(term.q, p)
    for s in reversed(plan.chain):
        step = factor.steps[s]
        g = step.tail.apply(v)
        for t, link in step.links.items():
            g = g - multiply(link.R, found[t][link.parents])
        found[s] = multiply(step.K, g)
    return tuple(found[j] for j in range(len(terms)))


# ------------------------------------------------------------------ in pieces


def _combinations(factor: Factor, rows: WorkingRows) -> tuple[dict[int, Codes], Codes]:
    """Combinations of eliminated levels that occur: those levels by term, and that of every row."""
    which: Codes = np.zeros(len(rows.X), dtype=np.intp)
    first = which
    for s in factor.plan.chain:
        l = factor.A.terms[s].l + 1
        first, which = _numbered(which * l + rows.codes[s] + 1, l * (int(which.max()) + 1))
    return {s: rows.codes[s][first] for s in factor.plan.chain}, which


def _numbered(keys: Codes, size: int) -> tuple[Codes, Codes]:
    """A row with each key below ``size`` that occurs, in order, and every row's number among them.

    Told from a table where that is no larger than the rows.
    """
    if size > 4 * len(keys):
        _, first, which = np.unique(keys, return_index=True, return_inverse=True)
        return first, which
    row = np.full(size, -1)
    row[keys] = np.arange(len(keys))
    occurs = row >= 0
    return row[occurs], (np.cumsum(occurs) - 1)[keys]


def _pieces(which: Codes, size: int, rows: WorkingRows) -> Iterator[slice]:
    """Slices of rows, sorted by combination, with few combinations and not too many rows each."""
    columns = rows.X.shape[1] + sum(Z.shape[1] for Z in rows.Z)
    step = max(1, _ROW_NUMBERS // columns**2)
    edges = np.searchsorted(which, np.arange(0, which[-1] + 1, size))
    for low, high in pairwise([*edges.tolist(), len(which)]):
        for start in range(low, high, step):
            yield slice(start, min(start + step, high))


def _eliminated(factor: Factor, levels: dict[int, Codes], C: Floats) -> tuple[Floats, Floats]:
    """What is left of ``c`` combinations of eliminated levels.

    Returns ``Q = E C~`` (c, k, m) with ``-E'z`` the share of the remainder, and ``C~`` among the
    levels themselves (c, k, k); ``k`` counts the columns of the whole chain.
    """
    plan = factor.plan
    only = factor.steps[plan.chain[0]]
    if isinstance(only.tail, SparseTail):
        at = np.maximum(levels[plan.chain[0]], 0)
        K = only.K[at]
        R, RC = _some_rows(only.tail, at, C)
        Q = multiply(K, RC)
        return Q, K + Q @ multiply(K, R).transpose(0, 2, 1)
    paths = [_path(factor, s, levels[s]) for s in plan.chain]
    E = np.concatenate([path.E for path in paths], axis=1)
    c, k, m = E.shape
    Q = (E.reshape(c * k, m) @ C).reshape(c, k, m)
    return Q, _shared(factor, paths) + Q @ E.transpose(0, 2, 1)


def _some_rows(tail: SparseTail, at: Codes, C: Floats) -> tuple[Floats, Floats]:
    """Rows ``R`` of some levels of a sparse tail, and ``R C``: ``(c, k, m)`` each."""
    _, k, width = tail.fixed.shape
    q = tail.R.shape[1]
    sparse = tail.R[(at[:, None] * k + np.arange(k)).ravel()]
    fixed = tail.fixed[at].reshape(-1, width)
    R = np.concatenate((sparse.toarray(), fixed), axis=1)
    RC = sparse @ C[:q] + fixed @ C[q:]
    return R.reshape(len(at), k, -1), RC.reshape(len(at), k, -1)


@dataclass(frozen=True, eq=False)
class _Path:
    """Elimination of one term's level, for ``c`` levels, through the rest of the chain.

    At chain term ``s`` the row ``z`` has become ``phi[s]' z`` at level ``at[s]``; ``-E'z`` is its
    share of the remainder.
    """

    at: dict[int, Codes]
    phi: dict[int, Floats]
    E: Floats


def _path(factor: Factor, start: int, levels: Codes) -> _Path:
    """Follow levels of chain term ``start``; -1 may follow any, its ``z`` is 0."""
    chain, terms = factor.plan.chain, factor.A.terms
    on = chain[chain.index(start) :]
    k = terms[start].k
    at = {start: np.maximum(levels, 0)}
    phi = {s: np.zeros((len(levels), k, terms[s].k)) for s in on}
    phi[start] += np.eye(k)
    E = np.zeros((len(levels), k, len(factor.L)))
    for s in on:
        step = factor.steps[s]
        assert isinstance(step.tail, DenseTail)
        t = multiply(phi[s], step.K[at[s]])
        E += multiply(t, step.tail.R[at[s]])
        for later, link in step.links.items():
            at[later] = link.parents[at[s]]
            phi[later] -= multiply(t, link.R[at[s]])
    return _Path(at, phi, E)


def _shared(factor: Factor, paths: Sequence[_Path]) -> Floats:
    """``sum of phi_i K phi_j'`` over the levels that two paths share, for all pairs of paths."""
    rows = []
    for first in paths:
        blocks = []
        for second in paths:
            size = (len(first.E), first.E.shape[1], second.E.shape[1])
            block = np.zeros(size)
            for s in first.at.keys() & second.at.keys():
                K = factor.steps[s].K[first.at[s]]
                form = multiply(multiply(first.phi[s], K), second.phi[s].transpose(0, 2, 1))
                block += np.where((first.at[s] == second.at[s])[:, None, None], form, 0.0)
            blocks.append(block)
        rows.append(np.concatenate(blocks, axis=2))
    return np.concatenate(rows, axis=1)


# ------------------------------------------------------------------ one piece


def _forms(
    plan: Plan,
    rows: WorkingRows,
    members: Codes,
    local: Codes,
    parts: tuple[Floats, Floats, Floats],
) -> Floats:
    """Quadratic forms of some rows; ``local`` is their place in ``Q`` and ``B``."""
    C, Q, B = parts
    fixed = slice(plan.q_dense, -1)
    X = rows.X[members]
    z = np.concatenate([rows.Z[s][members] for s in plan.chain], axis=1)
    index, values = dense_entries(plan, rows, members)
    zB = np.einsum("rk,rkl->rl", z, B[local])
    total = np.einsum("rl,rl->r", zB, z) + np.einsum("rp,rp->r", X @ C[fixed, fixed], X)
    among = C[index[:, :, None], index[:, None, :]]
    total += np.einsum("rs,rst,rt->r", values, among, values)
    half = np.einsum("rs,rsp->rp", values, C[:, fixed][index])
    half -= np.einsum("rk,rkp->rp", z, Q[:, :, fixed][local])
    total += 2.0 * np.einsum("rp,rp->r", half, X)
    met = Q[local[:, None, None], np.arange(z.shape[1])[:, None], index[:, None, :]]
    total -= 2.0 * np.einsum("rk,rks,rs->r", z, met, values)
    return np.asarray(total, dtype=np.float64)


def dense_entries(plan: Plan, rows: WorkingRows, members: Codes) -> tuple[Codes, Floats]:
    """Places in the remainder, and values, of the entries of the dense terms: ``(r, s)`` each."""
    index = [np.zeros((len(members), 0), dtype=np.intp)]
    values = [np.zeros((len(members), 0))]
    for j in plan.dense:
        Z, codes = rows.Z[j][members], np.maximum(rows.codes[j][members], 0)
        index.append(plan.offsets[j] + codes[:, None] * Z.shape[1] + np.arange(Z.shape[1]))
        values.append(Z)
    return np.concatenate(index, axis=1), np.concatenate(values, axis=1)
