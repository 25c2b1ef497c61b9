"""What two sets of rows have in common, each on levels of its own, so that their sums add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from interlace.sums.cells import Codes
from interlace.sums.terms import Floats, ReTerm


@dataclass(frozen=True, eq=False)
class Share:
    """What one of two sets of rows is in both together.

    Parameters
    ----------
    names
        Names of the columns of ``X`` of these rows, as they were encoded.
    fixed
        ``(p, P)``: those columns times this are those of both.
    random
        Per term of both, its position here, and the ``(l,)`` positions of the levels here in those
        of both.
    slopes
        Per term of both, as ``fixed``, of the columns left of the bar.
    """

    names: tuple[str, ...]
    fixed: Floats
    random: tuple[tuple[int, Codes], ...]
    slopes: tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class Joint:
    """What two sets of rows, each on levels of its own, have in common.

    Parameters
    ----------
    recipe
        How the rows of both were encoded.
    names
        Names of all ``P`` columns of ``X``.
    terms
        Random-effects terms with the levels of both.
    left, right
        The share of each.
    """

    recipe: object
    names: tuple[str, ...]
    terms: tuple[ReTerm, ...]
    left: Share
    right: Share


@runtime_checkable
class Joins(Protocol):
    """A recipe that can be joined with another."""

    def joined(
        self, other: object, left: Sequence[ReTerm], right: Sequence[ReTerm], *, within: bool
    ) -> Joint | None:
        """What both have in common; ``None`` if ``other`` is no recipe.

        ``within`` refuses rows on the right with levels that those on the left do not have.
        """
        ...
