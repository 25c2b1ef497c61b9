"""One structure with numbers of its own for every kind of subjects, as one map.

Subjects of a kind may still differ in what is added to the structure, so that they are in several
groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interlace.covariance.structures import Natural, Structure
from interlace.covariance.templates import Floats, Places


@dataclass(frozen=True, eq=False)
class Grouped:
    """``structure`` for ``kinds`` kinds; ``which`` (G,) says of which every group is."""

    structure: Structure
    which: Places
    kinds: int
    homogeneous = False

    @property
    def k(self) -> int:
        return self.structure.k

    @property
    def size(self) -> int:
        return self.kinds * self.structure.size

    @property
    def linear(self) -> bool:
        return self.structure.linear

    def _parts(self, xi: Floats) -> Floats:
        return xi.reshape(self.kinds, self.structure.size)

    def each(self, xi: Floats) -> Floats:
        """Of every kind, ``(kinds, V, V)``."""
        return np.stack([self.structure(part) for part in self._parts(xi)])

    def __call__(self, xi: Floats) -> Floats:
        return self.each(xi)[self.which]

    def _placed(self, own: Sequence[Floats], axes: int) -> Floats:
        """Derivatives of every kind, of ``axes`` derivatives each, at its own numbers."""
        V, m = self.k, self.structure.size
        found = np.zeros((self.kinds, V, V, *(self.size,) * axes))
        for kind, block in enumerate(own):
            place = slice(kind * m, (kind + 1) * m)
            if axes == 1:
                found[kind, :, :, place] = block
            else:
                found[kind, :, :, place, place] = block
        return found[self.which]

    def jacobian(self, xi: Floats) -> Floats:
        return self._placed([self.structure.jacobian(part) for part in self._parts(xi)], 1)

    def second(self, xi: Floats, gradient: Floats) -> Floats:
        found, m = np.zeros((self.size, self.size)), self.structure.size
        for kind, part in enumerate(self._parts(xi)):
            own = slice(kind * m, (kind + 1) * m)
            total = gradient[self.which == kind].sum(axis=0)
            found[own, own] = self.structure.second(part, total)
        return found

    def start(self, S: Floats) -> Floats:
        return np.tile(self.structure.start(S), self.kinds)

    def reported(self, xi: Floats, unit: float = 1.0) -> tuple[Floats, Floats]:
        found = [self.structure.reported(part, unit) for part in self._parts(xi)]
        return np.concatenate([values for values, _ in found]), _diagonal([J for _, J in found])

    def names(self, labels: Sequence[str]) -> list[str]:
        return self.structure.names(labels)

    def natural(self, xi: Floats) -> Natural:
        own = [self.structure.natural(part) for part in self._parts(xi)]
        first = self._placed([n.first for n in own], 1)
        second = self._placed([n.second for n in own], 2)
        return Natural(first, second, _diagonal([n.turn for n in own]))


def _diagonal(blocks: Sequence[Floats]) -> Floats:
    """Square or equal blocks one after the other on the diagonal."""
    rows, columns = blocks[0].shape
    found = np.zeros((len(blocks) * rows, len(blocks) * columns))
    for i, block in enumerate(blocks):
        found[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] = block
    return found
