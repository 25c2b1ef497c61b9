"""A function of every row with its first three derivatives, and the chain rule for them."""

from __future__ import annotations

from typing import NamedTuple

from interlace.sums.terms import Floats


class Jet(NamedTuple):
    """Value and first three derivatives, ``(n,)`` each; constant derivatives may be floats."""

    value: Floats
    d1: Floats | float
    d2: Floats | float
    d3: Floats | float


def straight(eta: Floats) -> Jet:
    """The identity."""
    return Jet(eta, 1.0, 0.0, 0.0)


def chained(f: Jet, t: Jet) -> Jet:
    """``f(t(eta))``, of ``f`` as a function of ``t`` and ``t`` as one of ``eta``."""
    if _is_straight(t):
        return f
    return Jet(
        f.value,
        f.d1 * t.d1,
        f.d2 * t.d1**2 + f.d1 * t.d2,
        f.d3 * t.d1**3 + 3.0 * f.d2 * t.d1 * t.d2 + f.d1 * t.d3,
    )


def _is_straight(t: Jet) -> bool:
    return isinstance(t.d1, float) and t.d1 == 1.0
