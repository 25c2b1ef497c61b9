"""The derivatives of a row's likelihood after those that families know, by differences of these.

Second derivatives of the criterion need fourth derivatives of every row.  Rows are functions of
one or two numbers, so that two looks beside each give those of all rows at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from interlace.glmm.problem import Problem, unit_of
from interlace.sums.terms import Floats

# Step in a linear predictor, relative to its typical size, and in an auxiliary one.
_STEP = 1e-5


class Further(NamedTuple):
    """``W''`` in ``eta``; ``W'_o``, ``g_oo`` and ``W_oo`` of a family with an ``omega``."""

    W2: Floats
    W1o: Floats
    goo: Floats
    Woo: Floats


def further(problem: Problem, eta: Floats, omega: Floats) -> Further:
    """At linear and auxiliary predictors of all rows, ``(n,)`` each.

    Differences are central, or to one side where the other leaves the link's domain.
    """
    inside = problem.family.link.inside
    h = _STEP * (np.abs(eta) + unit_of(problem.family, problem.y, problem.trials))
    up, down = eta + h, eta - h
    up, down = np.where(inside(up), up, eta), np.where(inside(down), down, eta)
    width = up - down
    W2 = (problem.curve(up, omega).dW - problem.curve(down, omega).dW) / width
    if not problem.G.shape[1]:
        return Further(W2, W2, W2, W2)
    W1o = (problem.slope(up, omega).W - problem.slope(down, omega).W) / width
    more, less = problem.slope(eta, omega + _STEP), problem.slope(eta, omega - _STEP)
    goo, Woo = (more.g - less.g) / (2.0 * _STEP), (more.W - less.W) / (2.0 * _STEP)
    return Further(W2, W1o, goo, Woo)
