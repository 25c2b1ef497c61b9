"""What the reverse pass through the equations finds: traces, and the inverse where it is needed."""

from __future__ import annotations

from dataclasses import dataclass

from interlace.solver.blocks import identity, solved
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class TermDerivatives:
    """Derivatives with respect to one template.

    ``W`` is the trace part of half the gradient, ``PZZ`` the sum over levels of ``Z' P Z``, that
    part of the derivative with respect to ``T T'``; ``C`` the diagonal blocks of ``C~`` (l, k, k).
    """

    W: Floats
    PZZ: Floats
    C: Floats


@dataclass(frozen=True, eq=False)
class Reverse:
    """What the reverse pass finds.

    ``blocks[s, t]`` is ``C~`` between each level of chain term ``s`` and its parent in ``t``
    (itself for ``t = s``), ``met[s]`` the rows of ``s`` against what is left times ``C~``, on the
    remainder: ``(l, k, m)``, but for sparse tails.
    """

    terms: tuple[TermDerivatives, ...]
    blocks: dict[tuple[int, int], Floats]
    met: dict[int, Floats]


def divided(T: Floats, l: int, C: Floats) -> tuple[Floats, Floats]:
    """``W`` and ``PZZ`` of a term with a template that may be divided by.

    ``T' PZZ T`` is ``l I`` less the sum over its levels ``C`` (k, k) of the blocks of the inverse.
    """
    W = solved(T.T, l * identity(len(T)) - C)
    return W, solved(T.T, W.T).T
