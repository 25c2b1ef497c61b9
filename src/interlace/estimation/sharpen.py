"""Fits whose residuals are lost in sums of squares, again from the rows.

``r2`` is a difference of sums of the size of ``y'y``: where it is below ``LOST`` of them, too
few of its digits are known, and the model is fitted by :mod:`interlace.solver.sharp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from interlace.estimation.basins import raised
from interlace.estimation.certificate import certificate_of
from interlace.estimation.criterion import DOUBTFUL, LOST, Criterion, Evaluation
from interlace.estimation.estimate import Estimate, Watch
from interlace.estimation.unbounded import minimised
from interlace.machine.threads import threads_for
from interlace.solver.blocks import solved
from interlace.solver.sharp import Sharp, is_quick, rescaled, sizes, triangle
from interlace.sums.crossprod import Basis, CrossProducts
from interlace.sums.rows import Rows
from interlace.sums.terms import Floats

# Sizes of effects in their units are near 1 within this factor; searches, until they are.
_NEAR, _ROUNDS = 30.0, 8


class LostError(Exception):
    """Sums have lost the residuals: the search goes on from the rows."""


def until_lost(watch: Watch | None) -> Watch:
    """A watch that ends a search at the first point where sums have lost the residuals.

    Raises
    ------
    LostError
        There.
    """

    def watched(n: int, point: Evaluation, gain: float) -> None:
        if point.share_left < LOST:
            raise LostError
        if watch is not None:
            watch(n, point, gain)

    return watched


def is_doubtful(estimate: Estimate) -> bool:
    """Whether the sums that an estimate is from leave its residual variance in doubt.

    Beside other variances a large one also hides how much is to be gained by it.
    """
    if isinstance(estimate.criterion.equations, Sharp):
        return False
    several = sum(t.n_theta for t in estimate.A.terms) > 1
    return estimate.evaluation.share_left < (LOST if several else DOUBTFUL)


def can_sharpen(A: CrossProducts) -> bool:
    """Whether a fit from the rows is quick enough."""
    return is_quick(A)


def sharpened(rows: Rows, A: CrossProducts, *, reml: bool, watch: Watch | None = None) -> Estimate:
    """The optimum of the criterion, computed from a triangle of the rows.

    Random effects are measured in units of their own size, so that templates are near 1.

    Raises
    ------
    numpy.linalg.LinAlgError
        The model reproduces the response as far as doubles can tell.
    """
    R = triangle(rows, A)
    factors = [np.maximum(size, 1.0) for size in sizes(R, A)]
    templates = [np.eye(t.k) for t in A.terms]
    n = 0
    for _ in range(_ROUNDS):
        estimate = _searched(R, A, factors, templates, reml=reml, watch=watch)
        n += estimate.convergence.n_evaluations
        found = [np.linalg.norm(T, axis=1) for T in estimate.templates]
        units = [np.maximum(f * size, 1.0) for f, size in zip(factors, found, strict=True)]
        ratios = [f / unit for f, unit in zip(factors, units, strict=True)]
        if all((r > 1.0 / _NEAR).all() and (r < _NEAR).all() for r in ratios):
            break
        turned = zip(ratios, estimate.templates, strict=True)
        templates = [raised(r[:, None] * T, 1.0 / _NEAR) for r, T in turned]
        factors = units
    return replace(estimate, convergence=replace(estimate.convergence, n_evaluations=n))


def from_rows(rows: Rows, A: CrossProducts, units: Sequence[Floats], *, reml: bool) -> Criterion:
    """The criterion computed from a triangle of the rows, with random columns times ``units``."""
    return _in_units_of(triangle(rows, A), A, units, reml=reml)


def units_from(A: CrossProducts, found: CrossProducts) -> list[Floats]:
    """What random columns were multiplied with for a criterion of the cross-products ``found``."""
    pairs = zip(found.basis.random, A.basis.random, strict=True)
    return [np.diag(solved(B, other)).copy() for other, B in pairs]


def _in_units_of(
    R: Floats, A: CrossProducts, factors: Sequence[Floats], *, reml: bool
) -> Criterion:
    A_there = _in_units(A, factors)
    return Criterion(A_there, reml, Sharp(A_there, rescaled(R, A_there, factors)))


def _searched(
    R: Floats,
    A: CrossProducts,
    factors: Sequence[Floats],
    start: Sequence[Floats],
    *,
    reml: bool,
    watch: Watch | None,
) -> Estimate:
    """The optimum with random columns times ``factors`` (k,) per term, from templates there."""
    criterion = _in_units_of(R, A, factors, reml=reml)
    with threads_for(criterion.rows_at_once):
        best = minimised(criterion, criterion.pack(start), watch=watch)
    convergence = certificate_of(best)
    templates = tuple(criterion.unpack(best.found.x))
    return Estimate(criterion, templates, convergence, best.found.point)


def _in_units(A: CrossProducts, factors: Sequence[Floats]) -> CrossProducts:
    """The cross-products with the random columns times factors ``(k,)``."""
    random = tuple(B * f for B, f in zip(A.basis.random, factors, strict=True))
    return A.rebase(Basis(A.basis.fixed, random))
