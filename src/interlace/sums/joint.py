"""What two sets of rows have in common, each on levels of its own, so that their sums add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from interlace.sums.cells import Codes
from interlace.sums.terms import ReTerm


@dataclass(frozen=True, eq=False)
class Joint:
    """What two sets of rows, each on levels of its own, have in common.

    Parameters
    ----------
    recipe
        How the rows of both were encoded.
    terms
        Random-effects terms with the levels of both.
    left, right
        Per term, its position in each, and the ``(l,)`` positions of its levels there in those of
        both.
    """

    recipe: object
    terms: tuple[ReTerm, ...]
    left: tuple[tuple[int, Codes], ...]
    right: tuple[tuple[int, Codes], ...]


@runtime_checkable
class Joins(Protocol):
    """A recipe that can be joined with another."""

    def joined(
        self, other: object, left: Sequence[ReTerm], right: Sequence[ReTerm]
    ) -> Joint | None:
        """What both have in common; ``None`` if ``other`` is no recipe."""
        ...
