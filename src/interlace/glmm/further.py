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
    """``W''`` in ``eta`` (n,); ``W'_o`` (K, n), ``g_oo`` and ``W_oo`` (K, K, n) of ``omega``."""

    W2: Floats
    W1o: Floats
    goo: Floats
    Woo: Floats


def further(problem: Problem, eta: Floats, omega: Floats) -> Further:
    """At linear predictors (n,) and auxiliary ones (K, n) of all rows.

    Differences are central, or to one side where the other leaves the link's domain.
    """
    inside = problem.family.link.inside
    h = _STEP * (np.abs(eta) + unit_of(problem.family, problem.y, problem.trials))
    up, down = eta + h, eta - h
    up, down = np.where(inside(up), up, eta), np.where(inside(down), down, eta)
    width = up - down
    W2 = (problem.curve(up, omega).dW - problem.curve(down, omega).dW) / width
    if not len(omega):
        none = np.zeros((0, len(eta)))
        return Further(W2, none, none[None], none[None])
    W1o = (problem.slope(up, omega).W - problem.slope(down, omega).W) / width
    goo, Woo = [], []
    for step in _STEP * np.eye(len(omega))[:, :, None]:
        more, less = problem.slope(eta, omega + step), problem.slope(eta, omega - step)
        goo.append((more.g - less.g) / (2.0 * _STEP))
        Woo.append((more.W - less.W) / (2.0 * _STEP))
    return Further(W2, W1o, np.array(goo), np.array(Woo))
