"""The last digits of an optimum.

A fit stops when nothing is left to gain in the criterion, which is flat there: ``theta`` is then
known to about 1e-7.  Differences between two fits, and residuals near zero, show that; a few more
Newton steps, without looking at the value, are cheap.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interlace.estimation.criterion import Evaluation
from interlace.estimation.estimate import Estimate
from interlace.estimation.search import FLAT

# A Newton step that promises less than this is short, whatever the criterion.
_SMALL = 1e-9


def polished(estimate: Estimate, *, roughly: bool = False) -> Estimate:
    """The estimate after two more Newton steps, if the first one shortens the gradient.

    ``roughly`` takes one, without looking at the gradient, unless the fit stopped too early.
    """
    if roughly and estimate.convergence.predicted_gain < _SMALL:
        point = _stepped(estimate.evaluation)
    else:
        point = polished_point(estimate.evaluation)
    if point is estimate.evaluation:
        return estimate
    return replace(estimate, templates=point.factor.templates, point=point)


def polished_point(point: Evaluation) -> Evaluation:
    """The same for a point of a criterion; the second step is not checked again."""
    moved = _stepped(point)
    if np.linalg.norm(moved.gradient) < np.linalg.norm(point.gradient):
        return _stepped(moved)
    return point


def _stepped(point: Evaluation) -> Evaluation:
    """One Newton step further, flat directions left out."""
    criterion = point.criterion
    values, vectors = np.linalg.eigh(point.newton_matrix)
    size = np.abs(values)
    curved = size > FLAT * size.max(initial=0.0)
    along = np.where(curved, vectors.T @ point.gradient, 0.0) / np.where(curved, size, 1.0)
    return criterion(criterion.pack(point.factor.templates) - vectors @ along)
