"""Several minima: from where a criterion is searched again, and the best that is found.

A criterion is even in every variance's square root, so that a zero is stationary, and where a
template is singular a better minimum may lie apart.  There, and where a standard deviation is near
zero, searches start again from templates that are far from singular, and from one without what
might as well be zero; one that runs into a minimum known already is left.  Small models are
searched again where a standard deviation might as well be zero, too, and where the way from the
moments was long: near the truth of much data they are close and the criterion is a parabola, so
that a few steps lead from the one to the minimum, and no other is in sight.  So are small models
of which a random column is none of the fixed ones: the mean of its effects is a matter of its
variance or of other columns, and both can be minima.  Where a correlation is a parameter of its own
the other side of it is searched too.  Other regular minima are not searched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from interlace.covariance.templates import Floats
from interlace.estimation.criterion import Criterion, Evaluation
from interlace.estimation.optimize import Minimum, minimize
from interlace.estimation.search import LOWER, SAME, Mask, Outcome
from interlace.solver.blocks import solved
from interlace.sums.crossprod import CrossProducts
from interlace.sums.sizes import COMMON
from interlace.sums.terms import ReTerm, pack, places

# Standard deviations over sigma and per root mean square below which a template counts as near a
# singular one: of terms whose effects vary together or are one, and of others.
_NEAR, _NEAR_ALONE = 1e-3, 0.03
# A direction without which the criterion rises by less than this might as well be zero; few random
# effects, of which another minimum is not unlikely and costs little to look for.
_WEAK, _FEW = 2.0, 40
# Evaluations after which a search of these was long: half of the regular ones take 8 or fewer.
_LONG = 10
# Share of a column's squares that may be left beside the fixed columns among which it is.
_BESIDE = 1e-6
# What zeros are raised to, what is left of the least value, a multiple of the identity to start
# from, and its diagonal where columns or terms differ: large in some and small in others.  Those
# take the most steps where there are many entries, and are left out there; where all terms are
# single variances they have found nothing that the others did not.
_RAISED, _LOWERED, _FAR, _LARGE, _SMALL, _MANY = 1.0, 0.1, 10.0, 10.0, 0.1, 16
# How often a better minimum is searched around in turn.
ROUNDS = 4
# A search has run into a known minimum where its value is what the quadratic model there says, to
# this share, and little is left to gain.
_LIKE, _LITTLE = 0.5, 5.0
# However much is left, it has where both ends of the straight way tell of one bowl: the rise along
# the way, from slopes and curvatures at its ends, is the one seen to the first share, what the
# search promises to the second, and the quadratic model of the minimum within the last factor.
_ALONG, _PROMISED, _BETWEEN = 0.1, 0.35, 2.0
# Or where one step fell to less than a share of the excess, to what the quadratic model says there
# to the other share: no derivative is needed to see that.
_FELL, _MEETS = 0.2, 0.2


def suspect(terms: Sequence[ReTerm], templates: Sequence[Floats]) -> Mask:
    """Whether working templates ``(..., k, k)`` are singular or near it, ``(...)``."""
    near = [
        _least(T) < (_NEAR if t.correlated or t.k == 1 else _NEAR_ALONE)
        for t, T in zip(terms, templates, strict=True)
    ]
    return np.asarray(np.logical_or.reduce(near))


def _least(T: Floats) -> Floats:
    """Least singular value of templates ``(..., k, k)``, ``(...)``."""
    if T.shape[-1] == 1:
        return np.abs(T[..., 0, 0])
    return np.asarray(np.linalg.svd(T, compute_uv=False)[..., -1], dtype=np.float64)


def doubted(
    terms: Sequence[ReTerm],
    templates: Sequence[Floats],
    newton: Floats,
    n_evaluations: NDArray[np.intp],
    *,
    loose: bool,
) -> Mask:
    """Whether minima are searched again, ``(...)``.

    ``newton`` (..., c, c) is that at ``templates``, ``n_evaluations`` (...) led there; ``loose``
    from :func:`is_loose`.
    """
    found = suspect(terms, templates) | loose
    size = sum(t.template.size for t in terms)
    if len(terms) < size <= _MANY and are_few(terms):
        found = found | (n_evaluations > _LONG) | _weak(terms, templates, newton)
    return found


def are_few(terms: Sequence[ReTerm]) -> bool:
    """Whether the random effects of a model are few."""
    return sum(t.q for t in terms) <= _FEW


def is_loose(A: CrossProducts) -> bool:
    """Whether a small model has a random column that is no combination of the fixed ones."""
    if not are_few(A.terms):
        return False
    for zv, zz in zip(A.zv, A.zz, strict=True):
        products = zv[..., :-1].sum(axis=0)
        among = products @ np.linalg.solve(A.vv[:-1, :-1], products.T)
        squares = np.diagonal(zz.sum(axis=0))
        if (np.diagonal(among) < (1.0 - _BESIDE) * squares).any():
            return True
    return False


def _weak(terms: Sequence[ReTerm], templates: Sequence[Floats], newton: Floats) -> Mask:
    """Whether the quadratic model says that a singular value of a template might be zero."""
    found = np.zeros(newton.shape[:-2], dtype=bool)
    for one in _rises(terms, templates, newton):
        found |= (one < _WEAK).any(axis=-1)
    return found


def _rises(
    terms: Sequence[ReTerm], templates: Sequence[Floats], newton: Floats
) -> Iterator[Floats]:
    """Per term ``(..., k)``: rise of the quadratic model where a singular value becomes zero."""
    for t, own, T in zip(terms, places(terms), templates, strict=True):
        away = t.template.removals(T)
        yield 0.5 * ((away @ newton[..., own, own]) * away).sum(axis=-1)


def elsewhere(
    terms: Sequence[ReTerm],
    templates: Sequence[Floats],
    newton: Floats,
    units: Sequence[Floats],
    *,
    loose: bool,
) -> Iterator[list[Floats]]:
    """Templates to start from: a minimum's with zeros raised or the least lowered, and far from it.

    ``templates`` (..., k, k) are those of the minimum, with ``newton`` (..., c, c), and ``units``
    (k, k) the identity in the user's units (lme4's start), all in the working basis; multiples are
    those of the identity there, so that no unit matters.
    """
    starts = list(_around(terms, templates, newton))
    starts.insert(1, [np.broadcast_to(U, T.shape) for U, T in zip(units, templates, strict=True)])
    if len(terms) < sum(t.template.size for t in terms) <= _MANY:
        starts += [
            [
                np.broadcast_to(np.diag(d), T.shape)
                for d, T in zip(diagonals, templates, strict=True)
            ]
            for diagonals in _contrasts([t.k for t in terms])
        ]
    elif loose:
        starts.append([np.broadcast_to(_FAR * np.eye(T.shape[-1]), T.shape) for T in templates])
    yield from _different(starts, templates)


def identity(B: Floats) -> Floats:
    """The identity in the user's units, in the working basis ``B`` (..., k, k).

    Of columns far from 1 in units in which they are near it.
    """
    U = solved(B, np.eye(B.shape[-1]))
    sizes = np.abs(U).max(axis=-2, keepdims=True)
    far = np.frexp(sizes)[1]
    return np.asarray(np.ldexp(U, -np.where(np.abs(far) > COMMON, far, 0)), dtype=np.float64)


def around(
    terms: Sequence[ReTerm], templates: Sequence[Floats], newton: Floats
) -> Iterator[list[Floats]]:
    """Of the templates of :func:`elsewhere` those that depend on the minimum.

    A lower minimum that others led to is searched around in turn, and so on.
    """
    yield from _different(list(_around(terms, templates, newton)), templates)


def _around(
    terms: Sequence[ReTerm], templates: Sequence[Floats], newton: Floats
) -> Iterator[list[Floats]]:
    """A minimum's templates with zeros raised, weak entries taken out, and the least lowered."""
    yield [raised(T, _RAISED) for T in templates]
    if are_few(terms):
        yield _without_weak(terms, templates, newton)
    if len(terms) < sum(t.template.size for t in terms) <= _MANY:
        yield [_lowered(T) for T in templates]


def _different(
    starts: Sequence[list[Floats]], templates: Sequence[Floats]
) -> Iterator[list[Floats]]:
    """Those that are neither the minimum nor the same as one before."""
    for i, start in enumerate(starts):
        if not any(_equal(start, earlier) for earlier in (templates, *starts[:i])):
            yield start


def across(terms: Sequence[ReTerm], templates: Sequence[Floats]) -> Iterator[list[Floats]]:
    """Templates with correlations on their other side, where they are parameters of their own."""
    turned = [t.template.elsewhere(T) for t, T in zip(terms, templates, strict=True)]
    if any(other is not None for other in turned):
        pairs = zip(turned, templates, strict=True)
        yield [T if other is None else other for other, T in pairs]


def _contrasts(sizes: Sequence[int]) -> Iterator[list[Floats]]:
    """Diagonals: all far from zero, unlike within the terms, and one term unlike the others."""
    yield [np.full(k, _FAR) for k in sizes]
    yield [np.geomspace(_SMALL, _LARGE, k) for k in sizes]
    yield [np.geomspace(_LARGE, _SMALL, k) for k in sizes]
    if len(sizes) > 1:
        for j in range(len(sizes)):
            yield [np.full(k, _LARGE if i == j else _SMALL) for i, k in enumerate(sizes)]


def _equal(start: Sequence[Floats], other: Sequence[Floats]) -> bool:
    """Whether two starts are one: raised from zero a single variance is the identity."""
    return all(np.allclose(T, O) for T, O in zip(start, other, strict=True))


def raised(T: Floats, floor: float) -> Floats:
    """Templates ``(..., k, k)`` with singular values of at least ``floor``.

    Diagonal ones stay diagonal.
    """
    U, s, Vt = np.linalg.svd(T)
    if not (s < floor).any():
        return T
    return np.asarray((U * np.maximum(s, floor)[..., None, :]) @ Vt)


def _without_weak(
    terms: Sequence[ReTerm], templates: Sequence[Floats], newton: Floats
) -> list[Floats]:
    """Templates with zeros where the quadratic model says that these might as well be."""
    found = []
    for T, rise in zip(templates, _rises(terms, templates, newton), strict=True):
        U, s, Vt = np.linalg.svd(T)
        kept = np.where(rise < _WEAK, 0.0, s)
        found.append(np.asarray((U * kept[..., None, :]) @ Vt))
    return found


def _lowered(T: Floats) -> Floats:
    """Templates ``(..., k, k)`` with a least singular value of a tenth."""
    U, s, Vt = np.linalg.svd(T)
    share = np.where(np.arange(s.shape[-1]) == s.shape[-1] - 1, _LOWERED, 1.0)
    return np.asarray((U * (s * share)[..., None, :]) @ Vt)


@dataclass(frozen=True, eq=False)
class Searched:
    """The best minimum, with the evaluations of all searches.

    ``n_basins`` different minima were seen from ``n_starts`` starts; ``confirmed`` where all of
    these led to the one that is returned.
    """

    found: Minimum[Evaluation]
    n_basins: int
    n_starts: int
    confirmed: bool


def searched_again(
    criterion: Criterion,
    first: Minimum[Evaluation],
    *,
    gain_tolerance: float = 1e-12,
    watch: Callable[[int, Evaluation, float], None] | None = None,
) -> Searched:
    """The best minimum of a criterion: ``first``, or one that starts elsewhere find."""
    terms = criterion.A.terms
    templates = criterion.unpack(first.x)
    newton = first.point.newton_matrix
    count, loose = np.asarray(first.n_evaluations), is_loose(criterion.A)
    begin = list(across(terms, templates))
    if not first.converged or doubted(terms, templates, newton, count, loose=loose):
        units = [identity(B) for B in criterion.A.basis.random]
        begin += elsewhere(terms, templates, newton, units, loose=loose)
    if not begin:
        return Searched(first, 1, 1, True)
    seen, n, starts, best = [first], first.n_evaluations, 1, first
    higher = pack(terms, [raised(T, _RAISED) for T in templates])
    radius = max(1.0, float(np.linalg.norm(higher - first.x)))  # of a search back to the zeros
    waiting = begin
    for _ in range(ROUNDS):
        for start in waiting:
            try:
                found = minimize(
                    criterion,
                    pack(terms, start),
                    gain_tolerance=gain_tolerance,
                    radius=radius,
                    watch=_later(watch, n),
                    doubt=Evaluation.doubt,
                    glance=lambda x, point, before: _fell_into(terms, seen, x, point, before),
                    leave=lambda x, point, gain: _known(terms, seen, x, point, gain),
                )
            except np.linalg.LinAlgError:
                continue  # nothing can be evaluated there, so that nothing is found
            n, starts = n + found.n_evaluations, starts + 1
            if found.outcome is Outcome.KNOWN:
                continue
            if all(abs(found.point.value - other.point.value) > SAME for other in seen):
                seen.append(found)
        before, best = best, _best_of(seen)
        if best is before or not best.converged:
            break
        waiting = list(around(terms, criterion.unpack(best.x), best.point.newton_matrix))
    minima = sum(found.converged for found in seen)
    best = replace(best, n_evaluations=n)
    return Searched(best, max(minima, 1), starts, len(seen) == 1 and first.converged)


def _best_of(seen: Sequence[Minimum[Evaluation]]) -> Minimum[Evaluation]:
    """The minimum to be taken, the first one unless another is better."""
    best = seen[0]
    for found in seen:
        best = found if _better(found, best) else best
    return best


def _better(found: Minimum[Evaluation], best: Minimum[Evaluation]) -> bool:
    """Whether a minimum is to be taken: the lower one; of two as low, the one that converged."""
    if found.converged == best.converged:
        return below(found.point.value, best.point.value)
    if found.converged:
        return not found.point.value > best.point.value + SAME
    return bool(found.point.value < best.point.value - SAME)


def below(value: float, other: float) -> bool:
    """Whether a minimum is lower than another by more than chance of the last digits."""
    return bool(value < other - LOWER)


def _later(
    watch: Callable[[int, Evaluation, float], None] | None, before: int
) -> Callable[[int, Evaluation, float], None] | None:
    """The same watch, for a search that follows ``before`` evaluations."""
    if watch is None:
        return None
    return lambda n, point, gain: watch(before + n, point, gain)


def _fell_into(
    terms: Sequence[ReTerm],
    seen: Sequence[Minimum[Evaluation]],
    x: Floats,
    point: Evaluation,
    before: float,
) -> bool:
    """Whether a step led from afar to where the quadratic model around a known minimum holds."""
    for known in seen:
        excess = point.value - known.point.value
        far = before - known.point.value
        if known.converged and LOWER < excess < _FELL * far < np.inf:
            there, _ = _differences(terms, x, known.x)
            model = 0.5 * float(there @ known.point.newton_matrix @ there)
            if abs(model - excess) <= _MEETS * excess:
                return True
    return False


def _known(
    terms: Sequence[ReTerm],
    seen: Sequence[Minimum[Evaluation]],
    x: Floats,
    point: Evaluation,
    gain: float,
) -> bool:
    """Whether a search is in the bowl of a known minimum."""
    for known in seen:
        excess = point.value - known.point.value
        little = gain <= _LITTLE and excess < _LITTLE
        promised = abs(gain - excess) <= _PROMISED * excess
        if not (known.converged and excess > -LOWER and (little or promised)):
            continue
        there, here = _differences(terms, x, known.x)
        model = 0.5 * float(there @ known.point.newton_matrix @ there)
        if little and abs(model - excess) <= _LIKE * excess + LOWER:
            return True
        if promised and excess <= _BETWEEN * model <= _BETWEEN**2 * excess:
            own = 0.5 * float(here @ point.newton_matrix @ here)
            along = 0.5 * float(point.gradient @ here) + (model - own) / 6.0
            if abs(along - excess) <= _ALONG * excess:
                return True
    return False


def _differences(terms: Sequence[ReTerm], x: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Difference of packed templates, the first rotated or with signs so that it is least.

    The second is the same seen from ``x`` as it is: there the known templates are the rotated ones.
    """
    parts = [
        t.template.away(x[own], known[own]) for t, own in zip(terms, places(terms), strict=True)
    ]
    there, here = zip(*parts, strict=True)
    return np.concatenate(there), np.concatenate(here)
