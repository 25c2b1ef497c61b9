"""Many small mixed models of one shape at once: criterion, gradient and Newton matrix of each.

The mathematics is that of :mod:`interlace.solver.exact` and :mod:`interlace.estimation.criterion`,
which are its oracle: the term with most columns is eliminated level by level, the dense remainder
factored.  Templates are never divided by.  For the layout of arrays see
:mod:`interlace.batch.stack`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from interlace.batch.stack import Batch, Shape, Which
from interlace.estimation.likelihood import residual_variance
from interlace.solver.left import left_or_nan
from interlace.sums.terms import Floats, ReTerm

# ------------------------------------------------------------------ one evaluation


@dataclass(frozen=True, eq=False)
class Factor:
    """All replicates factored at their templates.

    By level: ``N, T, TD = T D^-1, K = T D^-1 T'``.  Of the remainder, after elimination: ``S``, its
    products ``sy`` with ``y``, and the inverse ``half`` of its scaled Cholesky factor.  ``coef``
    are the random effects of the remainder and the fixed effects, ``(B, m)``.
    """

    batch: Batch
    templates: Mapping[int, Floats]
    T: Floats
    TD: Floats
    K: Floats
    S: Floats
    sy: Floats
    half: Floats
    coef: Floats
    logdet: Floats
    r2: Floats

    @property
    def sigma2(self) -> Floats:
        """Residual variances in working units."""
        return residual_variance(self.r2, self.batch.nu)

    @property
    def value(self) -> Floats:
        """The criterion, infinite where the equations are not positive definite."""
        value = self.logdet + self.batch.nu * np.log(self.r2) + self.batch.constant
        return np.where(np.isfinite(value), value, np.inf)

    def take(self, which: Which) -> Factor:
        """Those of some replicates."""
        return Factor(
            self.batch.take(which),
            {j: T[which] for j, T in self.templates.items()},
            self.T[..., which],
            self.TD[..., which],
            self.K[..., which],
            self.S[which],
            self.sy[which],
            self.half[which],
            self.coef[which],
            self.logdet[which],
            self.r2[which],
        )


def factorize(batch: Batch, templates: Mapping[int, Floats]) -> Factor:
    """Eliminate and factor at working templates, ``(B, k, k)`` by term."""
    T = templates[batch.shape.first].transpose(1, 2, 0)[:, :, None, :]
    D = _product(_transposed(T), _product(batch.N, T))
    for i in range(len(D)):
        D[i, i] += 1.0
    inverse, logdet = _inverse(D)
    TD = _product(T, inverse)
    K = _product(TD, _transposed(T))
    Kr = _times(K, batch.zy)
    S = batch.S - batch.rows.gram(K)
    sy = batch.sy - batch.rows.adjoint(Kr)
    yy = batch.yy - (batch.zy * Kr).sum(axis=(0, 1))
    half, logs = _inverse_factor(_scaled(batch.shape, templates, S))
    u = (half @ _scale_rows(batch.shape, templates, sy[:, :, None], transpose=True))[:, :, 0]
    r2 = left_or_nan(yy - (u**2).sum(axis=1), batch.yy)
    coef = _scale_rows(
        batch.shape, templates, half.transpose(0, 2, 1) @ u[:, :, None], transpose=False
    )[:, :, 0]
    counted = logs if batch.shape.reml else logs[:, : batch.shape.q]
    logdet = logdet + 2.0 * counted.sum(axis=1)
    return Factor(batch, templates, T, TD, K, S, sy, half, coef, logdet, r2)


@dataclass(frozen=True, eq=False)
class Effects:
    """Random effects ``b``, ``e = Z'(y - X beta - Z b)`` and ``u = T'e`` of every term.

    Of the eliminated term ``(k, l, B)``, of others ``(B, l, k)``; ``eu`` and ``ee`` are the sums
    over levels of ``e u'`` and ``e e'``, ``(B, k, k)``.
    """

    b: Mapping[int, Floats]
    e: Mapping[int, Floats]
    u: Mapping[int, Floats]
    eu: Mapping[int, Floats]
    ee: Mapping[int, Floats]


def effects(f: Factor) -> Effects:
    """Random effects and residual cross-products."""
    batch, shape = f.batch, f.batch.shape
    g = batch.zy - batch.rows.apply(f.coef)
    b0 = _times(f.K, g)
    e0 = g - _times(batch.N, b0)
    b, e, u = {shape.first: b0}, {shape.first: e0}, {shape.first: _times(_transposed(f.T), e0)}
    e_rest = f.sy - (f.S @ f.coef[:, :, None])[:, :, 0]
    for j in shape.rest:
        by_level = (len(batch), shape.terms[j].l, shape.terms[j].k)
        b[j] = f.coef[:, shape.rows(j)].reshape(by_level)
        e[j] = e_rest[:, shape.rows(j)].reshape(by_level)
        u[j] = e[j] @ f.templates[j]
    eu = {shape.first: _outer(e0, u[shape.first])}
    ee = {shape.first: _outer(e0, e0)}
    for j in shape.rest:
        eu[j] = e[j].transpose(0, 2, 1) @ u[j]
        ee[j] = e[j].transpose(0, 2, 1) @ e[j]
    return Effects(b, e, u, eu, ee)


def derivatives(f: Factor) -> tuple[Floats, Floats]:
    """Gradient ``(B, c)`` and Newton matrix ``(B, c, c)`` of the criterion, packed."""
    shape = f.batch.shape
    found = effects(f)
    W, PZZ, E = traces(f)
    rate = (f.batch.nu / f.r2)[:, None, None]
    gradient = shape.pulled(
        f.templates, {j: 2.0 * (W[j] - rate * found.eu[j]) for j in shape.order}
    )
    newton = _information(f, found, E)
    for j, term in enumerate(shape.terms):
        own = shape.places[j]
        newton[:, own, own] += term.template.second_order(
            f.templates[j], PZZ[j] - rate * found.ee[j]
        )
    return gradient, newton


def traces(f: Factor) -> tuple[dict[int, Floats], dict[int, Floats], Floats]:
    """``W`` and ``sum of Z'PZ`` per term, ``(B, k, k)``; ``E = I - N K`` (k, k, l, B)."""
    batch, shape = f.batch, f.batch.shape
    size = f.half.shape[1] if shape.reml else shape.q
    C = np.zeros_like(f.half)
    corner = f.half[:, :size, :size]
    C[:, :size, :size] = corner.transpose(0, 2, 1) @ corner
    right = _scale_rows(shape, f.templates, C, transpose=False).transpose(0, 2, 1)
    both = _scale_rows(shape, f.templates, right, transpose=False)
    W, PZZ = {}, {}
    for j in shape.rest:
        term, part = shape.terms[j], shape.rows(j)
        rows = f.S[:, part]
        S_rows = rows.reshape(len(batch), term.l, term.k, -1)
        W[j] = _paired(S_rows, right[:, part].reshape(S_rows.shape))
        among = _diagonal_sum(rows[:, :, part], term)
        PZZ[j] = among - _paired((rows @ both).reshape(S_rows.shape), S_rows)
    E = -_product(batch.N, f.K)
    for i in range(len(E)):
        E[i, i] += 1.0
    EY = _product(E, batch.rows.quadratic(both))
    W[shape.first] = _level_sum(_product(batch.N - EY, f.TD))
    PZZ[shape.first] = _level_sum(_product(E, batch.N) - _product(EY, _transposed(E)))
    return W, PZZ, E


def _information(f: Factor, found: Effects, E: Floats) -> Floats:
    """Average information, ``(B, c, c)``, packed."""
    batch, shape = f.batch, f.batch.shape
    B = len(f.sy)
    first = shape.terms[shape.first]
    h = first.template.directions_by_column(f.T, found.u[shape.first], found.e[shape.first])
    Eh = _product(_transposed(E), h)
    columns = [batch.rows.adjoint(Eh[:, c]) for c in range(h.shape[1])]
    H = np.zeros((B, shape.q, sum(shape.terms[j].template.size for j in shape.rest)))
    start = 0
    for j in shape.rest:
        term, width = shape.terms[j], shape.terms[j].template.size
        block = term.template.directions(f.templates[j], found.u[j], found.e[j])
        H[:, shape.rows(j), start : start + width] = block.reshape(B, term.q, width)
        start += width
    c0 = np.stack(columns, axis=2)
    c = np.concatenate((c0, f.S[:, :, : shape.q] @ H), axis=2)
    k0 = h.shape[1]
    quadratic = np.empty((B, c.shape[2], c.shape[2]))
    quadratic[:, :k0, :k0] = _gram(_product(batch.N, Eh), h)
    quadratic[:, :k0, k0:] = c0[:, : shape.q].transpose(0, 2, 1) @ H
    quadratic[:, k0:, :k0] = quadratic[:, :k0, k0:].transpose(0, 2, 1)
    quadratic[:, k0:, k0:] = H.transpose(0, 2, 1) @ c[:, : shape.q, k0:]
    explained = f.half @ _scale_rows(shape, f.templates, c, transpose=True)
    quadratic -= explained.transpose(0, 2, 1) @ explained
    order = shape.permutation
    a = shape.pulled(f.templates, {j: 2.0 * found.eu[j] for j in shape.order})
    quadratic = quadratic[:, order[:, None], order]
    r2 = f.r2[:, None, None]
    nu = batch.nu[:, None, None]
    return nu * (quadratic / r2 - a[:, :, None] * a[:, None, :] / r2**2)


# ------------------------------------------------------------------ right-hand sides of any kind


def solved(f: Factor, first: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """``C~ r`` for right-hand sides ``first`` (k, c, l, B) and ``rest`` (B, m, c)."""
    rows, shape = f.batch.rows, f.batch.shape
    columns = range(first.shape[1])
    Kr = _product(f.K, first)
    if not rest.shape[1]:
        return Kr, rest
    left = rest - np.stack([rows.adjoint(Kr[:, c]) for c in columns], axis=2)
    u = f.half @ _scale_rows(shape, f.templates, left, transpose=True)
    x = _scale_rows(shape, f.templates, f.half.transpose(0, 2, 1) @ u, transpose=False)
    back = np.stack([rows.apply(x[:, :, c]) for c in columns], axis=1)
    return Kr - _product(f.K, back), x


def inverse_blocks(f: Factor) -> tuple[Floats, Floats, Floats]:
    """``C~`` of the eliminated term by level, of it with the remainder, and of the latter.

    ``(k, k, l, B)``, ``(B, k l, m)`` and ``(B, m, m)``; rows of every replicate are its own.
    """
    rows, shape = f.batch.rows, f.batch.shape
    scaled = _scale_rows(shape, f.templates, f.half.transpose(0, 2, 1), transpose=False)
    C = scaled @ scaled.transpose(0, 2, 1)
    around = _product(f.K, _product(rows.quadratic(C), f.K))
    return f.K + around, -rows.crossed(f.K, C), C


# ------------------------------------------------------------------ the remainder, (B, m, m)


def _scaled(shape: Shape, templates: Mapping[int, Floats], S: Floats) -> Floats:
    """``Lambda' S Lambda + diag(I, 0)``."""
    half = _scale_rows(shape, templates, S, transpose=True).transpose(0, 2, 1)
    M = _scale_rows(shape, templates, half, transpose=True)
    diagonal = np.arange(shape.q)
    M[:, diagonal, diagonal] += 1.0
    return M


def _scale_rows(
    shape: Shape, templates: Mapping[int, Floats], M: Floats, *, transpose: bool
) -> Floats:
    """``Lambda M``, or ``Lambda' M``, on the rows of the remainder."""
    M = np.array(M)
    for j in shape.rest:
        term, part, T = shape.terms[j], shape.rows(j), templates[j]
        if term.k == 1:
            M[:, part] *= T
        else:
            blocks = M[:, part].reshape(len(M), term.l, term.k, -1)
            factor = T.transpose(0, 2, 1) if transpose else T
            M[:, part] = (factor[:, None] @ blocks).reshape(len(M), term.q, -1)
    return M


def _inverse_factor(M: Floats) -> tuple[Floats, Floats]:
    """Inverses of the lower Cholesky factors, and the logs of their diagonals.

    Both are NaN where a matrix is not positive definite.
    """
    L = _cholesky(M)
    diagonal = np.diagonal(L, axis1=1, axis2=2)
    inverse = np.zeros_like(L)
    for i, row in enumerate(_forward_rows(L, inverse)):
        inverse[:, i, :i] = row
        inverse[:, i, i] = 1.0 / diagonal[:, i]
    return inverse, np.log(diagonal)


def _forward_rows(L: Floats, inverse: Floats) -> Iterator[Floats]:
    """Rows left of the diagonal of the inverse of ``L``, each from those above it."""
    for i in range(L.shape[1]):
        product = (L[:, i : i + 1, :i] @ inverse[:, :i, :i])[:, 0]
        yield -product / L[:, i, i, None]


def _cholesky(M: Floats) -> Floats:
    """Lower Cholesky factors, NaN where a matrix is not positive definite."""
    try:
        return np.asarray(np.linalg.cholesky(M), dtype=np.float64)
    except np.linalg.LinAlgError:
        L = np.full_like(M, np.nan)
        for i, one in enumerate(M):
            try:
                L[i] = np.linalg.cholesky(one)
            except np.linalg.LinAlgError:
                continue  # stays NaN, and the criterion there is infinite
        return L


def _paired(A: Floats, B: Floats) -> Floats:
    """``sum over l and m of A[l, a, m] B[l, b, m]``, ``(B, k, k)``."""
    if A.shape[2] == 1:
        return np.asarray(np.einsum("xlam,xlam->xa", A, B)[:, :, None])
    return np.asarray(np.einsum("xlam,xlbm->xab", A, B))


def _diagonal_sum(block: Floats, term: ReTerm) -> Floats:
    """Sum of the diagonal ``k x k`` blocks of ``(B, q, q)``."""
    levels = np.arange(term.l)
    blocks = block.reshape(len(block), term.l, term.k, term.l, term.k)
    return np.asarray(blocks[:, levels, :, levels].sum(axis=0))


# ------------------------------------------------------------------ blocks by level, (k, k, l, B)


def _product(A: Floats, B: Floats) -> Floats:
    """``A B`` for every level and replicate, ``(i, j, ...) x (j, c, ...)``."""
    total = A[:, 0, None] * B[None, 0]
    for j in range(1, A.shape[1]):
        total += A[:, j, None] * B[None, j]
    return np.asarray(total)


def _times(A: Floats, v: Floats) -> Floats:
    """``A v`` for every level and replicate."""
    return _product(A, v[:, None])[:, 0]


def _transposed(A: Floats) -> Floats:
    return A.swapaxes(0, 1)


def _inverse(D: Floats) -> tuple[Floats, Floats]:
    """Inverses of symmetric positive definite blocks (Gauss-Jordan), and log determinants (B,).

    The log determinants are summed over levels.
    """
    if len(D) == 1:
        return 1.0 / D, np.log(D[0, 0]).sum(axis=0)
    A = D.copy()
    logdet = np.zeros(D.shape[-1])
    for j in range(len(D)):
        pivot = A[j, j].copy()
        logdet += np.log(pivot).sum(axis=0)
        row = A[j] / pivot
        column = A[:, j].copy()
        column[j] = 0.0
        A -= column[:, None] * row[None]
        A[j] = row
        A[:, j] = -column / pivot
        A[j, j] = 1.0 / pivot
    return A, logdet


def _level_sum(A: Floats) -> Floats:
    """Sum over levels, ``(B, k, k)``."""
    total: Floats = A.sum(axis=2).transpose(2, 0, 1)
    return total


def _outer(a: Floats, b: Floats) -> Floats:
    """``sum over l of a b'`` of ``(k, l, B)`` vectors, ``(B, k, k)``."""
    return np.asarray(np.einsum("ilx,jlx->xij", a, b))


def _gram(A: Floats, B: Floats) -> Floats:
    """``sum over l of A' B`` of ``(k, c, l, B)`` columns, ``(B, c, c)``."""
    left = np.ascontiguousarray(A.transpose(3, 1, 0, 2)).reshape(A.shape[3], A.shape[1], -1)
    right = np.ascontiguousarray(B.transpose(3, 1, 0, 2)).reshape(left.shape)
    return np.asarray(left @ right.transpose(0, 2, 1))
