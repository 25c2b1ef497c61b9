"""What random probes leave open in an estimate: standard errors of theta and of the criterion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from interlace.estimation.changeover import MOST_PROBES
from interlace.estimation.search import FLAT
from interlace.solver.equations import Equations, Iterative, Solved
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

# Accuracy of a search in standard errors, whatever the probes: tolerances of conjugate gradients,
# rounding of a criterion of some millions.  It is part of every stated error.
SEARCH = 1e-4
# Gain at which a search ends: 1e-5 standard errors; what is left counts as error.
GAIN = 1e-10
_ROUNDING = 1e-11
# Step of the differences that bring errors to theta.
_STEP = 1e-5
# Probes for the conditional standard error of every level, at least; the error that may be left;
# and products up to which a complete set of probes is no effort.
_LEVEL_PROBES, _LEVEL_ERROR, _MUCH_WORK = 64, 0.01, 3e8


class Parametrised(Protocol):
    """How reported parameters follow from packed ones."""

    def unpack(self, x: Floats) -> list[Floats]:
        """Templates, or all parameters."""
        ...

    def theta(self, templates: Sequence[Floats]) -> Floats:
        """The reported ones."""
        ...


class Estimated(Protocol):
    """A criterion at a point, some of it estimated from random probes."""

    @property
    def value(self) -> float:
        """Of the criterion."""
        ...

    @property
    def newton_matrix(self) -> Floats:
        """Near its second derivatives."""
        ...

    @property
    def value_error(self) -> float:
        """Standard error of the value."""
        ...

    @property
    def gradient_covariance(self) -> Floats:
        """Covariance of the error of the gradient."""
        ...


def monte_carlo_errors(
    criterion: Parametrised, x: Floats, point: Estimated
) -> tuple[Floats, Floats]:
    """Monte-Carlo and statistical standard errors of ``theta`` at an optimum, or near it.

    With ``H`` the Newton matrix, an error of the gradient moves the optimum by ``-H^-1`` times it;
    the statistical covariance is ``2 H^-1``.  Both are brought to ``theta`` by differences.
    """
    values, vectors = np.linalg.eigh(point.newton_matrix)
    live = values > FLAT * np.abs(values).max(initial=0.0)
    half = vectors[:, live] / values[live]
    J = _theta_jacobian(criterion, x)
    chance = J @ half @ vectors[:, live].T
    covariance = chance @ point.gradient_covariance @ chance.T
    statistical = 2.0 * J @ half @ vectors[:, live].T @ J.T
    return tuple(  # type: ignore[return-value]
        np.sqrt(np.maximum(np.diag(C), 0.0)) for C in (covariance, statistical)
    )


def _theta_jacobian(criterion: Parametrised, x: Floats) -> Floats:
    """Derivatives of ``theta`` in the packed templates, by differences.

    The larger of those to both sides, since a diagonal entry has a kink where it is zero.
    """
    at = criterion.theta(criterion.unpack(x))

    def slope(h: Floats, sign: float) -> Floats:
        moved = criterion.theta(criterion.unpack(x + sign * h))
        return sign * (moved - at) / _STEP

    sides = [(slope(h, 1.0), slope(h, -1.0)) for h in _STEP * np.eye(len(x))]
    columns = [np.where(np.abs(a) > np.abs(b), a, b) for a, b in sides]
    return np.stack(columns, axis=1)


def criterion_error_at(point: Estimated) -> float:
    """Standard error of the criterion: of its estimate, and from that of ``theta``.

    An error of the gradient with covariance ``S`` raises the criterion where the search ends by
    ``tr(H^-1 S) / 2`` on average, ``H`` the Newton matrix.
    """
    values, vectors = np.linalg.eigh(point.newton_matrix)
    live = values > FLAT * np.abs(values).max(initial=0.0)
    along = np.diag(vectors.T @ point.gradient_covariance @ vectors)
    chance = np.hypot(point.value_error, 0.5 * (along[live] / values[live]).sum())
    return float(np.hypot(chance, SEARCH**2 * len(values) + _ROUNDING * abs(point.value)))


def level_covariances(equations: Equations, factor: Solved) -> tuple[Floats, ...]:
    """Conditional covariances in the working basis, over ``sigma^2``.

    With random probes their number is raised until the standard errors change little, which tells
    the error that is left, or until it is complete.
    """
    A, found = factor.A, factor.conditional_covariances()
    fewer: Equations | None = equations
    while isinstance(fewer, Iterative) and (more := _more_for_levels(fewer, A)) is not None:
        before, found = found, more.at(A, factor.templates).conditional_covariances()
        changes = [_largest_change(a, b) for a, b in zip(before, found, strict=True)]
        counts = fewer.probes.count, more.probes.count
        fewer = more
        if max(changes) * np.sqrt(counts[0] / (counts[1] - counts[0])) < _LEVEL_ERROR:
            break
    return found


def _more_for_levels(equations: Iterative, A: CrossProducts) -> Iterative | None:
    """With the next number of probes: all that there are where that is not much work."""
    count, q = equations.probes.count, equations.rows_at_once(A)
    if count >= min(q, MOST_PROBES):
        return None
    work = q * sum(cells.values.size for cells in A.cells.values())
    if q <= MOST_PROBES and (work <= _MUCH_WORK or 4 * count >= q):
        return equations.with_probes(q)
    return equations.with_probes(min(max(_LEVEL_PROBES, 4 * count), MOST_PROBES))


def _largest_change(before: Floats, after: Floats) -> float:
    """Largest relative change of a standard error."""
    a, b = (np.sqrt(np.diagonal(C, axis1=1, axis2=2)) for C in (before, after))
    return float(np.abs(a / np.where(b > 0.0, b, np.inf) - (b > 0.0)).max(initial=0.0))
