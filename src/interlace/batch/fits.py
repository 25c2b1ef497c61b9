"""Fits of many data sets to one model as a batch.

Each data set has cross-products of its own here (bootstrap samples of cases, deletions, profiles);
for other responses on one design, where most is shared, see :mod:`interlace.batch.refits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from interlace.batch.factor import Factor, derivatives, factorize
from interlace.batch.optimize import Index, Minima, Points, minimize_many
from interlace.batch.stack import Batch, OwnRows, Shape, order_of, shape_of
from interlace.errors import InterlaceError
from interlace.estimation.basins import (
    ROUNDS,
    are_few,
    around,
    doubted,
    elsewhere,
    identity,
    is_loose,
    raised,
)
from interlace.estimation.criterion import DOUBTFUL, ZERO_SIZE, Criterion, Evaluation
from interlace.estimation.estimate import SINGULAR_TOLERANCE
from interlace.estimation.likelihood import constant
from interlace.estimation.search import LOWER, SAME, Mask
from interlace.estimation.unbounded import is_saturated, minimised
from interlace.solver.plan import as_array, flat_cross, remainder
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats, ReTerm, split_theta

# Batches pay while the work on one replicate is less than what Python spends on one fit: the
# remainder's rows, and the bytes of the products of pairs of them.
_MOST_ROWS, _MOST_BYTES = 100, 3e7
# Singular values of the templates to start from, at least: a zero column is a stationary point.
_START_FLOOR = 0.1
# Numbers in one array by level and replicate, or of the remainder and replicate.
_CACHED = 1 << 17
NOTHING_LEFT = "the fixed effects reproduce the response exactly"
NO_RESIDUAL = "the random effects leave no residual variance"
LOST_RESIDUALS = "sums of squares have lost the residuals beside the random effects"


@dataclass(frozen=True, eq=False)
class Refits:
    """Estimates from ``B`` responses, in the user's units.

    ``templates`` are ``(B, k, k)`` per term (``sigma^2 T T'`` is the covariance; not triangular),
    ``beta`` and its standard errors ``se`` are (B, p), the rest ``(B,)``, of which ``share_left``
    is that of the residuals in the sum of squares of the response.  ``errors`` names why a fit
    failed, by replicate; such rows hold NaN.
    """

    beta: Floats
    se: Floats
    templates: tuple[Floats, ...]
    sigma: Floats
    value: Floats
    share_left: Floats
    singular: Mask
    errors: dict[int, str]


def fit_stacked(criteria: Sequence[Criterion], theta0: Floats) -> Refits:
    """Minimise criteria of one model, each on data of its own, all from ``theta0``.

    Parameters
    ----------
    criteria
        Of equal fixed effects and terms; terms may have different numbers of levels.
    theta0
        Where to start, in lme4's order and the user's units; off the boundary.
    """
    widest = [max(c.A.terms[j].l for c in criteria) for j in range(len(criteria[0].A.terms))]
    padded = [replace(c, A=pad(c.A, widest)) for c in criteria]
    size = at_once(padded[0].A.terms, padded[0].A.p)
    return joined([_fit_stacked(padded[s], theta0) for s in slices(len(padded), size)])


def _fit_stacked(criteria: Sequence[Criterion], theta0: Floats) -> Refits:
    """One piece of :func:`fit_stacked`."""
    bases = [c.A.basis for c in criteria]
    users = split_theta(criteria[0].A.terms, theta0)
    start = [c.working(users) for c in criteria]
    random = [np.stack(B) for B in zip(*(basis.random for basis in bases), strict=True)]
    templates = [np.stack(T) for T in zip(*start, strict=True)]
    found = minimized(stacked(criteria), templates, random, lambda i: criteria[i])
    F = np.stack([basis.fixed for basis in bases])
    scale = F[:, -1, -1]
    working = (F[:, :-1, :-1] @ found.beta[:, :, None])[:, :, 0] - F[:, :-1, -1]
    return in_units(
        found,
        fixed=F[:, :-1, :-1],
        beta=working / scale[:, None],
        scale=scale,
        bases=random,
        sizes=[np.stack(s) for s in zip(*(b.root_mean_squares for b in bases), strict=True)],
        errors=found.errors,
    )


@dataclass(frozen=True, eq=False)
class Minimized:
    """Optima of a batch in the working basis, replicates in front; ``sigma`` times ``scale``.

    ``half' half`` (p, p) is the covariance of ``beta`` over ``sigma^2``.
    """

    templates: list[Floats]
    beta: Floats
    half: Floats
    sigma: Floats
    value: Floats
    share_left: Floats
    errors: dict[int, str]


def minimized(
    batch: Batch,
    start: Sequence[Floats],
    bases: Sequence[Floats],
    alone: Callable[[int], Criterion],
    *,
    gain_tolerance: float = 1e-9,
) -> Minimized:
    """Minimise all criteria of a batch from working templates ``(B, k, k)``; see :func:`optima`."""
    shape = batch.shape
    found = optima(batch, start, bases, alone, gain_tolerance=gain_tolerance)
    templates = shape.unpacked(found.x)
    factor = factorize(batch, templates)
    return Minimized(
        list(templates.values()),
        factor.coef[:, shape.q :],
        factor.half[:, shape.q :, shape.q :],
        np.sqrt(factor.sigma2),
        found.value,
        share_left(batch, factor),
        lost(batch, factor) | found.failures,
    )


def with_digits(point: Evaluation) -> Evaluation:
    """A point of which sums know the residuals.

    Raises
    ------
    InterlaceError
        They know too few digits.
    """
    if point.share_left < DOUBTFUL:
        raise InterlaceError(LOST_RESIDUALS)
    return point


def share_left(batch: Batch, factor: Factor) -> Floats:
    """Residual sums of squares as shares of those of the responses, ``(B,)``.

    Zero where the sums, added again at the end of a search, leave nothing.
    """
    share = factor.sigma2 * batch.nu / batch.yy
    return np.where(np.isnan(share), 0.0, share)


def lost(batch: Batch, factor: Factor) -> dict[int, str]:
    """Replicates of which sums know too few digits of the residuals, and so in words."""
    few = np.flatnonzero(share_left(batch, factor) < DOUBTFUL).tolist()
    return dict.fromkeys(few, LOST_RESIDUALS)


def optima(
    batch: Batch,
    start: Sequence[Floats],
    bases: Sequence[Floats],
    alone: Callable[[int], Criterion],
    *,
    gain_tolerance: float = 1e-9,
) -> Minima:
    """The best minimum of every criterion of a batch, by the rule of a single fit.

    Searches start from working templates ``(B, k, k)``, and again where they end at a singular
    template or near it (see :mod:`interlace.estimation.basins`).  ``bases`` (k, k) or (B, k, k) are
    those of the terms.  A search that fails is repeated by the single optimiser, on the criterion
    that ``alone`` makes, before it is called a failure.
    """
    shape, problem = batch.shape, BatchProblem(batch)
    packed = shape.packed(dict(enumerate(start)))
    found = minimize_many(problem, packed, gain_tolerance=gain_tolerance)
    templates = list(shape.unpacked(found.x).values())
    loose = _is_loose(shape.terms, alone)
    again = doubted(shape.terms, templates, found.newton, found.n_evaluations, loose=loose)
    rows = np.flatnonzero(found.converged & again)
    if len(rows):
        units = [identity(B) for B in bases]
        units = [U[rows] if U.ndim == 3 else U for U in units]
        minima = [T[rows] for T in templates]
        starts = elsewhere(shape.terms, minima, found.newton[rows], units, loose=loose)
        before, found = found, _from(found, problem, rows, starts, gain_tolerance)
        for _ in range(ROUNDS - 1):
            rows = np.flatnonzero(found.converged & (found.value < before.value - LOWER))
            if not len(rows):
                break
            minima = [T[rows] for T in shape.unpacked(found.x).values()]
            starts = around(shape.terms, minima, found.newton[rows])
            before, found = found, _from(found, problem, rows, starts, gain_tolerance)
    return _alone_where_needed(found, packed, batch, alone, gain_tolerance)


def _from(
    found: Minima,
    problem: BatchProblem,
    rows: NDArray[np.intp],
    starts: Iterator[list[Floats]],
    gain_tolerance: float,
) -> Minima:
    """Minima, some of them searched from other templates, too."""
    part = problem.take(rows)
    for templates in starts:
        there = problem.batch.shape.packed(dict(enumerate(templates)))
        other = minimize_many(part, there, gain_tolerance=gain_tolerance)
        found = found.or_lower(other, rows, LOWER).unsettled(other, rows, SAME)
    return found


def _is_loose(terms: Sequence[ReTerm], alone: Callable[[int], Criterion]) -> bool:
    """:func:`is_loose` of the model that all share, from its first data set."""
    if not are_few(terms):
        return False
    try:
        return is_loose(alone(0).A)
    except (InterlaceError, np.linalg.LinAlgError):
        return False  # nothing is left of the response: that fit fails


def _alone_where_needed(
    found: Minima,
    start: Floats,
    batch: Batch,
    alone: Callable[[int], Criterion],
    gain_tolerance: float,
) -> Minima:
    """Minima of a batch, those that it has not found, or cannot judge, by the rule of a single fit.

    That is so where a model has as many columns as rows: its likelihood may have no maximum.
    """
    terms, p = batch.shape.terms, batch.sy.shape[1] - batch.shape.q
    n = np.broadcast_to(batch.nu + (p if batch.shape.reml else 0), len(found.value))
    crowded = np.flatnonzero(sum(t.q for t in terms) + p >= n).tolist()
    for i in sorted({*found.failures, *crowded}):
        try:
            criterion = alone(i)
            if i not in found.failures and not is_saturated(criterion.A):
                continue
            best = minimised(criterion, start[i], gain_tolerance=gain_tolerance).found
        except InterlaceError as error:
            found = found.failing(i, str(error))
        except np.linalg.LinAlgError:
            found = found.failing(i, NO_RESIDUAL)
        else:
            why = f"no convergence: {best.message}"
            found = found.with_minimum(i, best) if best.converged else found.failing(i, why)
    return found


def in_units(
    found: Minimized,
    *,
    fixed: Floats,
    beta: Floats,
    scale: Floats,
    bases: Sequence[Floats],
    sizes: Sequence[Floats],
    errors: dict[int, str],
) -> Refits:
    """Optima in the user's units.

    ``beta`` (B, p) is in these already; ``scale`` (B,) are working units of the response in one of
    the user's, ``fixed``, ``bases`` and ``sizes`` those of the fixed effects and the terms (see
    :class:`interlace.sums.crossprod.Basis`).
    """
    users, singular = [], np.zeros(len(scale), dtype=bool)
    for B, T, size in zip(bases, found.templates, sizes, strict=True):
        scaled = size[..., None] * (B @ T)
        singular |= is_singular(scaled)
        zero = np.sqrt((scaled**2).sum(axis=2)) <= ZERO_SIZE
        users.append(np.where(zero[:, :, None], 0.0, B @ T))
    sigma = found.sigma / scale
    roots = found.half @ fixed.swapaxes(-1, -2)
    size = np.ldexp(1.0, np.frexp(np.abs(roots).max(axis=1, initial=0.0))[1])
    se = sigma[:, None] * size * np.sqrt(((roots / size[:, None]) ** 2).sum(axis=1))
    fits = Refits(
        beta, se, tuple(users), sigma, found.value.copy(), found.share_left, singular, errors
    )
    return _blank_failures(fits)


def worth_a_batch(A: CrossProducts, *, own_rows: bool = False) -> bool:
    """Whether fits of this size are faster as a batch than one by one."""
    first = A.terms[order_of(A.terms)[0]]
    m = _remaining(A.terms, A.p)
    size = 8.0 * first.q * (1 if own_rows else first.k) * m**2
    return m <= _MOST_ROWS and size <= _MOST_BYTES


def at_once(terms: Sequence[ReTerm], p: int) -> int:
    """Replicates whose blocks stay in the cache together."""
    first = terms[order_of(terms)[0]]
    return int(max(_CACHED // (first.q * first.k + _remaining(terms, p) ** 2), 8))


def _remaining(terms: Sequence[ReTerm], p: int) -> int:
    """Rows of the remainder."""
    q = [t.q for t in terms]
    return sum(q) - max(q) + p


def slices(total: int, size: int) -> list[slice]:
    """Consecutive pieces."""
    return [slice(i, min(i + size, total)) for i in range(0, total, size)]


def pad(A: CrossProducts, levels: Sequence[int]) -> CrossProducts:
    """The same cross-products with further levels that have no rows, up to ``levels`` per term."""
    if all(t.l == l for t, l in zip(A.terms, levels, strict=True)):
        return A
    more = [l - t.l for t, l in zip(A.terms, levels, strict=True)]
    return replace(
        A,
        terms=tuple(replace(t, levels=np.arange(l)) for t, l in zip(A.terms, levels, strict=True)),
        zv=tuple(_with_zeros(zv, extra) for zv, extra in zip(A.zv, more, strict=True)),
        zz=tuple(_with_zeros(zz, extra) for zz, extra in zip(A.zz, more, strict=True)),
    )


def _with_zeros(blocks: Floats, extra: int) -> Floats:
    """Blocks ``(l, ...)`` and some of zeros."""
    return np.concatenate((blocks, np.zeros((extra, *blocks.shape[1:]))))


@dataclass(frozen=True, eq=False)
class BatchProblem:
    """A batch as the batched optimiser wants it: functions of packed working templates."""

    batch: Batch

    def evaluate(self, x: Floats) -> Points:
        """Values, gradients and Newton matrices at ``x`` (B, c)."""
        factor = factorize(self.batch, self.batch.shape.unpacked(x))
        return Points(factor.value, *derivatives(factor))

    def take(self, which: Index | Mask) -> BatchProblem:
        """Some of the replicates."""
        return BatchProblem(self.batch.take(which))


def stacked(criteria: Sequence[Criterion]) -> Batch:
    """A batch of criteria of one shape, each with cross-products of its own.

    Every term must have as many levels in all of them; levels without rows are allowed.
    """
    shape = shape_of(criteria[0].A.terms, reml=criteria[0].reml)
    others = [parts(c.A, shape) for c in criteria]
    first, rest = shape.first, shape.rest
    levels = [levels_last(c.A.zz[first])[..., 0] for c in criteria]
    y = [[c.A.zv[j][..., -1].ravel() for j in rest] + [c.A.vv[:-1, -1]] for c in criteria]
    return Batch(
        shape=shape,
        rows=OwnRows(np.stack([R for R, _ in others])),
        N=np.stack(levels, axis=-1),
        S=np.stack([S for _, S in others]),
        zy=np.stack([c.A.zv[first][..., -1].T for c in criteria], axis=-1),
        sy=np.stack([np.concatenate(one) for one in y]),
        yy=np.array([c.A.vv[-1, -1] for c in criteria]),
        nu=np.array([float(c.nu) for c in criteria]),
        constant=np.array([constant(c.A, c.A.basis.response_scale, reml=c.reml) for c in criteria]),
    )


def off_boundary(T: Floats) -> Floats:
    """A template to start from: singular values are raised (diagonal ones stay diagonal)."""
    return raised(T, _START_FLOOR)


def is_singular(scaled: Floats) -> Mask:
    """Whether a triangular form of ``(B, k, k)`` has a (nearly) zero on its diagonal."""
    R = np.linalg.qr(scaled.swapaxes(1, 2), mode="r")
    diagonal = np.abs(np.diagonal(R, axis1=1, axis2=2))
    found: Mask = (diagonal < SINGULAR_TOLERANCE).any(axis=1)
    return found


def _blank_failures(fits: Refits) -> Refits:
    """NaN in the rows of fits that failed."""
    failed: NDArray[np.intp] = np.array(sorted(fits.errors), dtype=np.intp)
    for array in (fits.beta, fits.se, fits.sigma, fits.value, *fits.templates):
        array[failed] = np.nan
    fits.singular[failed] = False
    return fits


def joined(parts: Sequence[Refits]) -> Refits:
    """Consecutive fits as one."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.sigma) for part in parts)]).tolist()
    return Refits(
        np.concatenate([part.beta for part in parts]),
        np.concatenate([part.se for part in parts]),
        tuple(np.concatenate(T) for T in zip(*(part.templates for part in parts), strict=True)),
        np.concatenate([part.sigma for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.share_left for part in parts]),
        np.concatenate([part.singular for part in parts]),
        {
            start + i: why
            for start, part in zip(starts, parts, strict=False)
            for i, why in part.errors.items()
        },
    )


def parts(A: CrossProducts, shape: Shape) -> tuple[Floats, Floats]:
    """Rows ``R`` (k, l, m) of the eliminated term, and ``S`` (m, m), both without ``y``."""
    cross = flat_cross(A)
    term = A.terms[shape.first]
    blocks = [as_array(cross[shape.first, j]) for j in shape.rest]
    full = np.concatenate([*blocks, A.zv[shape.first][..., :-1].reshape(term.q, -1)], axis=1)
    R = full.reshape(term.l, term.k, -1).transpose(1, 0, 2)
    S = remainder(A, shape.rest, shape.offsets, cross)
    return np.ascontiguousarray(R), S[:-1, :-1]


def levels_last(zz: Floats) -> Floats:
    """``(l, k, k)`` as ``(k, k, l, 1)``."""
    return np.ascontiguousarray(zz.transpose(1, 2, 0))[..., None]
