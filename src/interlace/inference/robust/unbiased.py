"""CR2: clusters' residuals adjusted so that the sandwich is unbiased if the model is right.

``A_i Omega_i^-1/2``-wise there are many such adjustments; this is the symmetric one in the scale of
the response, clubSandwich's,

``A_i = W [W (Omega_i - X_i C X_i') W]^-1/2 W`` with ``W = Omega_i^1/2``.

Without prior weights ``Omega_i`` is the identity off the columns of the random effects, so that all
happens within the columns of ``[Z_i T X_i]``, of which the sums of products are enough.
"""

from __future__ import annotations

import numpy as np

from interlace.errors import InterlaceError
from interlace.inference.robust.clusters import Clusters, product_sums
from interlace.inference.robust.sandwich import ALONE, Pieces, Scores
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats

# Directions of a cluster's columns that count as none, of columns of length 1.
_FLAT = 1e-11
# Rows or directions of a cluster that are worked with in full.
_LARGEST = 3000


def unbiased_pieces(scores: Scores, clusters: Clusters) -> Pieces:
    """Pieces of CR2.

    Raises
    ------
    InterlaceError
        A cluster is too large, where its size counts: with weights, or many levels in it.
    """
    design, estimate = scores.design, scores.estimate
    ZT = [Z @ T for Z, T in zip(design.Z, estimate.user_templates, strict=True)]
    alone = all(
        _one_level(codes, clusters) or not np.any(T)
        for codes, T in zip(design.codes, estimate.user_templates, strict=True)
    )
    if design.weights is None and alone:
        return _from_products(scores, clusters, np.concatenate([*ZT, scores.X], axis=1))
    return _from_rows(scores, clusters, ZT)


def _one_level(codes: Codes, clusters: Clusters) -> bool:
    """Whether all rows of a cluster have the same level of a factor."""
    first = np.zeros(clusters.count, dtype=np.intp)
    first[clusters.codes] = codes
    return bool((first[clusters.codes] == codes).all())


def _from_products(scores: Scores, clusters: Clusters, U: Floats) -> Pieces:
    """Pieces from the sums of products of the columns ``U = [Z T X]`` in every cluster."""
    c, p = U.shape[1], scores.X.shape[1]
    sums = product_sums(clusters, U, np.column_stack((U, scores.e)))
    G, Ue = sums[:, :, :-1], sums[:, :, -1]
    size = np.sqrt(np.einsum("mcc->mc", G))
    size[size == 0.0] = 1.0
    values, vectors = np.linalg.eigh(G / (size[:, :, None] * size[:, None, :]))
    live = values > _FLAT * values[:, -1:]
    root = np.sqrt(np.where(live, values, 1.0))
    Q = np.where(live, root, 0.0)[:, :, None] * vectors.transpose(0, 2, 1) * size[:, None, :]
    back = np.where(live, 1.0 / root, 0.0)[:, :, None] * vectors.transpose(0, 2, 1)
    e = (back @ (Ue / size)[:, :, None])[:, :, 0]
    Z, X = Q[:, :, : c - p], Q[:, :, c - p :]
    omega = np.eye(c) + Z @ Z.transpose(0, 2, 1)
    return _adjusted(omega, X @ scores.root, e)


def _from_rows(scores: Scores, clusters: Clusters, ZT: list[Floats]) -> Pieces:
    """Pieces from the rows of one cluster after the other."""
    order = np.argsort(clusters.codes, kind="stable")
    ends = np.cumsum(np.bincount(clusters.codes))[:-1]
    found = [_cluster(scores, rows, ZT, clusters.name) for rows in np.split(order, ends)]
    r, N, D = ([getattr(piece, name) for piece in found] for name in ("r", "N", "D"))
    return Pieces(np.concatenate(r), np.concatenate(N), np.concatenate(D))


def _cluster(scores: Scores, rows: Codes, ZT: list[Floats], name: str) -> Pieces:
    """Pieces of one cluster; without weights, within the columns of its effects."""
    design = scores.design
    Z = np.concatenate(
        [_spread(codes[rows], block[rows]) for codes, block in zip(design.codes, ZT, strict=True)],
        axis=1,
    )
    X, e = scores.X[rows], scores.e[rows]
    noise = np.ones(len(rows)) if design.weights is None else 1.0 / design.weights[rows]
    if design.weights is None and Z.shape[1] + X.shape[1] < len(rows):
        Q = np.linalg.qr(np.concatenate((Z, X), axis=1))[0]
        Z, X, e, noise = Q.T @ Z, Q.T @ X, Q.T @ e, np.ones(Q.shape[1])
    if len(e) > _LARGEST:
        raise InterlaceError(
            f"robust='CR2' needs matrices of {len(e):,} rows for a cluster of '{name}': use "
            "'CR3', which does not"
        )
    omega = np.diag(noise) + Z @ Z.T
    return _adjusted(omega[None], (X @ scores.root)[None], e[None])


def _spread(codes: Codes, block: Floats) -> Floats:
    """Columns of a random term for the levels that occur in some rows, ``(n, levels * k)``."""
    levels, at = np.unique(codes, return_inverse=True)
    out = np.zeros((len(codes), len(levels), block.shape[1]))
    out[np.arange(len(codes)), at] = block
    return out.reshape(len(codes), -1)


def _adjusted(omega: Floats, X: Floats, e: Floats) -> Pieces:
    """Pieces of clusters with ``Omega_i`` (m, c, c), ``X_i B`` (m, c, p) and ``e_i`` (m, c)."""
    values, vectors = np.linalg.eigh(omega)
    turned = vectors.transpose(0, 2, 1)
    W = (vectors * np.sqrt(values)[:, None, :]) @ turned
    X_t = X.transpose(0, 2, 1)
    inner, axes = np.linalg.eigh(W @ (omega - X @ X_t) @ W)
    live = inner > ALONE * inner[:, -1:]
    half = np.where(live, 1.0 / np.sqrt(np.where(live, inner, 1.0)), 0.0)
    A = W @ ((axes * half[:, None, :]) @ axes.transpose(0, 2, 1)) @ W
    K = A @ ((vectors / values[:, None, :]) @ turned) @ X
    K_t = K.transpose(0, 2, 1)
    return Pieces((K_t @ e[:, :, None])[:, :, 0], X_t @ K, K_t @ omega @ K)
