"""The last digits of an optimum.

A fit stops when nothing is left to gain in the criterion, which is flat there: ``theta`` is then
known to about 1e-7.  Differences between two fits, and residuals near zero, show that; a few more
Newton steps, without looking at the value, are cheap.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interlace.criterion import Evaluation
from interlace.estimate import Estimate
from interlace.many import Problem
from interlace.optimize import FLAT
from interlace.terms import Floats


def polished(estimate: Estimate) -> Estimate:
    """The estimate after two more Newton steps, if the first one shortens the gradient."""
    point = polished_point(estimate.evaluation)
    if point is estimate.evaluation:
        return estimate
    better = replace(estimate, templates=point.factor.templates)
    better.__dict__["evaluation"] = point  # known already: fill the cache
    return better


def polished_point(point: Evaluation) -> Evaluation:
    """The same for a point of a criterion; the second step is not checked again."""
    moved = _stepped(point)
    if _length(moved.gradient[None])[0] < _length(point.gradient[None])[0]:
        return _stepped(moved)
    return point


def _stepped(point: Evaluation) -> Evaluation:
    """One Newton step further."""
    criterion = point.criterion
    step = newton_steps(point.gradient[None], point.newton_matrix[None])[0]
    return criterion(criterion.pack(point.factor.templates) - step)


def polish_many(problem: Problem, x: Floats) -> Floats:
    """Packed templates (B, c) of many criteria after the same steps.

    The second step is taken where the first one shortened the gradient; it is not checked again.
    """
    before = problem.evaluate(x)
    moved = x - newton_steps(before.gradient, before.newton)
    after = problem.evaluate(moved)
    better = _length(after.gradient) < _length(before.gradient)
    further = moved - newton_steps(after.gradient, after.newton)
    return np.where(better[:, None], further, x)


def newton_steps(gradient: Floats, newton: Floats) -> Floats:
    """Newton steps (B, c) to take off, flat directions left out."""
    usable = np.isfinite(gradient).all(axis=1) & np.isfinite(newton).all(axis=(1, 2))
    step = np.zeros(gradient.shape)
    values, vectors = np.linalg.eigh(newton[usable])
    size = np.abs(values)
    live = size > FLAT * size.max(axis=1, initial=0.0)[:, None]
    slope = (gradient[usable][:, None, :] @ vectors)[:, 0]
    along = np.where(live, slope, 0.0) / np.where(live, size, 1.0)
    step[usable] = (vectors @ along[:, :, None])[:, :, 0]
    return step


def _length(gradient: Floats) -> Floats:
    return np.asarray(np.linalg.norm(gradient, axis=1))
