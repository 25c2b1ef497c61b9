"""Cross-products of many data sets of one shape, stacked along a replicate axis.

Arrays that all replicates share have length 1 there.  Two layouts: blocks by level have the
replicates last, ``(k, k, l, B)``, because ``k`` is small: Python loops over it and numpy over
contiguous levels and replicates.  The remainder ``[other terms, X]`` has them in front,
``(B, m, m)``, as stacked matrix products want it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from interlace.sums.terms import Floats, ReTerm, pack, places, pull, unpack

Which = NDArray[np.intp] | NDArray[np.bool_]


class EliminatedRows(Protocol):
    """Rows of the eliminated term against ``[other terms, X]``: ``R``, ``k l`` by ``m``."""

    def gram(self, K: Floats) -> Floats:
        """``sum over l of R' K R``: ``(k, k, l, B)`` to ``(B, m, m)``."""
        ...

    def quadratic(self, C: Floats) -> Floats:
        """``R C R'`` by level: ``(B, m, m)`` to ``(k, k, l, B)``."""
        ...

    def apply(self, x: Floats) -> Floats:
        """``R x``: ``(B, m)`` to ``(k, l, B)``."""
        ...

    def adjoint(self, v: Floats) -> Floats:
        """``sum over l of R' v``: ``(k, l, B)`` to ``(B, m)``."""
        ...

    def crossed(self, K: Floats, C: Floats) -> Floats:
        """``K R C``: ``(k, k, l, B)`` and ``(B, m, m)`` to ``(B, k l, m)``."""
        ...

    def take(self, which: Which) -> EliminatedRows:
        """Those of some replicates."""
        ...


@dataclass(frozen=True, eq=False)
class SharedRows:
    """Rows that all replicates share, ``R`` (k, l, m): everything is one matrix product.

    ``pairs`` (k k l, m m) holds the products of two rows of a level.
    """

    R: Floats
    pairs: Floats

    def gram(self, K: Floats) -> Floats:
        B, m = K.shape[-1], self.R.shape[2]
        return (K.reshape(-1, B).T @ self.pairs).reshape(B, m, m)

    def quadratic(self, C: Floats) -> Floats:
        k, l, _ = self.R.shape
        return (self.pairs @ C.reshape(len(C), -1).T).reshape(k, k, l, len(C))

    def apply(self, x: Floats) -> Floats:
        k, l, m = self.R.shape
        return (self.R.reshape(k * l, m) @ x.T).reshape(k, l, len(x))

    def adjoint(self, v: Floats) -> Floats:
        k, l, m = self.R.shape
        return np.asarray(v.reshape(k * l, -1).T @ self.R.reshape(k * l, m))

    def crossed(self, K: Floats, C: Floats) -> Floats:
        k, l, m = self.R.shape
        RC = (self.R.reshape(k * l, m) @ C).reshape(len(C), k, l, m)
        return _by_level(K, RC).reshape(len(C), k * l, m)

    def take(self, which: Which) -> SharedRows:
        return self


def shared_rows(R: Floats) -> SharedRows:
    """Rows ``R`` (k, l, m) shared by all replicates."""
    k, l, m = R.shape
    pairs = R[:, None, :, :, None] * R[None, :, :, None, :]
    return SharedRows(R, pairs.reshape(k * k * l, m * m))


@dataclass(frozen=True, eq=False)
class OwnRows:
    """Rows of every replicate, ``R`` (B, k, l, m)."""

    R: Floats

    @property
    def flat(self) -> Floats:
        B, k, l, m = self.R.shape
        return self.R.reshape(B, k * l, m)

    def gram(self, K: Floats) -> Floats:
        return self.flat.transpose(0, 2, 1) @ _by_level(K, self.R).reshape(self.flat.shape)

    def quadratic(self, C: Floats) -> Floats:
        RC = (self.flat @ C).reshape(self.R.shape)
        return np.ascontiguousarray(np.einsum("bilm,bjlm->ijlb", RC, self.R))

    def apply(self, x: Floats) -> Floats:
        product = (self.flat @ x[:, :, None]).reshape(self.R.shape[:3])
        return np.ascontiguousarray(product.transpose(1, 2, 0))

    def adjoint(self, v: Floats) -> Floats:
        stacked = v.transpose(2, 0, 1).reshape(v.shape[-1], 1, -1)
        return (stacked @ self.flat)[:, 0]

    def crossed(self, K: Floats, C: Floats) -> Floats:
        RC = (self.flat @ C).reshape(self.R.shape)
        return _by_level(K, RC).reshape(self.flat.shape)

    def take(self, which: Which) -> OwnRows:
        return OwnRows(self.R[which])


def _by_level(K: Floats, R: Floats) -> Floats:
    """``K R`` of every level: ``(k, k, l, B)`` and ``(B, k, l, m)`` to the latter."""
    blocks = K.transpose(3, 0, 1, 2)[..., None]
    KR = blocks[:, :, 0] * R[:, None, 0]
    for j in range(1, R.shape[1]):
        KR += blocks[:, :, j] * R[:, None, j]
    return np.asarray(KR)


@dataclass(frozen=True, eq=False)
class Shape:
    """What all replicates have in common.

    ``order`` lists the terms, the eliminated one first; ``offsets`` are the first rows of the
    others in the remainder, which has ``q`` random effects.
    """

    terms: tuple[ReTerm, ...]
    order: tuple[int, ...]
    offsets: Mapping[int, int]
    q: int
    reml: bool

    @property
    def first(self) -> int:
        """The eliminated term."""
        return self.order[0]

    @property
    def rest(self) -> tuple[int, ...]:
        """The terms of the remainder."""
        return self.order[1:]

    def rows(self, j: int) -> slice:
        """Rows of a term in the remainder."""
        return slice(self.offsets[j], self.offsets[j] + self.terms[j].q)

    @cached_property
    def places(self) -> list[slice]:
        """Where the free entries of every term stand in a packed vector."""
        return places(self.terms)

    def packed(self, blocks: Mapping[int, Floats]) -> Floats:
        """Free entries of ``(B, k, k)`` blocks of all terms, ``(B, c)``."""
        return pack(self.terms, [blocks[j] for j in range(len(self.terms))])

    def pulled(self, templates: Mapping[int, Floats], gradients: Mapping[int, Floats]) -> Floats:
        """Gradients by ``(B, k, k)`` templates as those by packed vectors, ``(B, c)``."""
        every = range(len(self.terms))
        return pull(self.terms, [templates[j] for j in every], [gradients[j] for j in every])

    def unpacked(self, x: Floats) -> dict[int, Floats]:
        """Inverse of :meth:`packed`."""
        return dict(enumerate(unpack(self.terms, x)))

    @property
    def permutation(self) -> NDArray[np.intp]:
        """Where each packed entry is found among the entries listed by ``order``."""
        listed = [np.arange(self.places[j].start, self.places[j].stop) for j in self.order]
        return np.argsort(np.concatenate(listed))


@dataclass(frozen=True, eq=False)
class Batch:
    """Cross-products of ``B`` data sets in a working basis.

    Attributes
    ----------
    shape, rows
        What is common, and the rows of the eliminated term.
    N
        ``Z'Z`` of the eliminated term, ``(k, k, l, 1 or B)``.
    S
        Cross-products of ``[other terms, X]``, ``(1 or B, m, m)``.
    zy, sy, yy
        The same with ``y``: ``(k, l, B)``, ``(B, m)``, ``(B,)``.
    nu, constant
        Degrees of freedom, and what the criterion adds to ``log|A| [+ log|R_X|^2] + nu log r2``;
        ``(1 or B,)``.
    """

    shape: Shape
    rows: EliminatedRows
    N: Floats
    S: Floats
    zy: Floats
    sy: Floats
    yy: Floats
    nu: Floats
    constant: Floats

    def take(self, which: Which) -> Batch:
        """Some of the replicates."""
        return replace(
            self,
            rows=self.rows.take(which),
            N=self.N if self.N.shape[-1] == 1 else self.N[..., which],
            S=_some(self.S, which),
            zy=self.zy[..., which],
            sy=self.sy[which],
            yy=self.yy[which],
            nu=_some(self.nu, which),
            constant=_some(self.constant, which),
        )

    def __len__(self) -> int:
        return len(self.yy)


def _some(values: Floats, which: Which) -> Floats:
    return values if len(values) == 1 else values[which]


def order_of(terms: Sequence[ReTerm]) -> tuple[int, ...]:
    """The term with most columns first, the others by decreasing number of columns."""
    return tuple(sorted(range(len(terms)), key=lambda j: -terms[j].q))


def shape_of(terms: Sequence[ReTerm], *, reml: bool) -> Shape:
    """Order of the terms of a batch."""
    order = order_of(terms)
    sizes = [terms[j].q for j in order[1:]]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(int).tolist()
    return Shape(tuple(terms), order, dict(zip(order[1:], starts, strict=False)), starts[-1], reml)
