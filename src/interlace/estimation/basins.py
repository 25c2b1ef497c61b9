"""Several minima: from where a criterion is searched again, and the best that is found.

A criterion is even in every variance's square root, so that a zero is stationary, and where a
template is singular a better minimum may lie apart.  There, and where a standard deviation is near
zero, searches start again from templates that are far from singular; one that runs into a minimum
known already is left.  Regular minima are not searched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from interlace.covariance.templates import Floats, Template
from interlace.estimation.criterion import Criterion, Evaluation
from interlace.estimation.optimize import Minimum, minimize
from interlace.estimation.search import LOWER, Mask, Outcome
from interlace.sums.terms import ReTerm, pack, places

# Standard deviations over sigma and per root mean square below which a template counts as near a
# singular one: of terms whose effects vary together or are one, and of others.
_NEAR, _NEAR_ALONE = 1e-3, 0.03
# What zeros are raised to, and multiples of the identity to start from.  Those take the most steps
# where there are many entries, and are left out there; where all terms are single variances they
# have found nothing that the others did not.
_RAISED, _MULTIPLES, _MANY = 1.0, (10.0, 0.3), 16
# A search has run into a known minimum where its value is what the quadratic model there says, to
# this share, and little is left to gain.
_LIKE, _LITTLE = 0.5, 5.0
# Minima of values that differ by less are one.
_SAME = 1e-6


def suspect(terms: Sequence[ReTerm], templates: Sequence[Floats]) -> Mask:
    """Whether working templates ``(..., k, k)`` are singular or near it, ``(...)``."""
    near = [
        np.linalg.svd(T, compute_uv=False)[..., -1]
        < (_NEAR if t.correlated or t.k == 1 else _NEAR_ALONE)
        for t, T in zip(terms, templates, strict=True)
    ]
    return np.asarray(np.any(near, axis=0))


def elsewhere(
    terms: Sequence[ReTerm], templates: Sequence[Floats], units: Sequence[Floats]
) -> Iterator[list[Floats]]:
    """Templates to start from: where a minimum was found, its zeros raised, and far from it.

    ``templates`` (..., k, k) are those of the minimum and ``units`` (k, k) the identity in the
    user's units (lme4's start), both in the working basis; multiples are those of the identity
    there, so that no unit matters.
    """
    starts = [
        [raised(T, _RAISED) for T in templates],
        [np.broadcast_to(U, T.shape) for U, T in zip(units, templates, strict=True)],
    ]
    if len(terms) < sum(t.template.size for t in terms) <= _MANY:
        for size in _MULTIPLES:
            starts.append([np.broadcast_to(size * np.eye(T.shape[-1]), T.shape) for T in templates])
    for i, start in enumerate(starts):
        if not any(_equal(start, earlier) for earlier in starts[:i]):
            yield start


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


@dataclass(frozen=True, eq=False)
class Searched:
    """The best minimum, with the evaluations of all searches.

    ``n_basins`` different minima were seen from ``n_starts`` starts.
    """

    found: Minimum[Evaluation]
    n_basins: int
    n_starts: int


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
    if first.converged and not suspect(terms, templates):
        return Searched(first, 1, 1)
    seen, n, starts = [first], first.n_evaluations, 1
    units = criterion.working([np.eye(t.k) for t in terms])
    for start in elsewhere(terms, templates, units):
        try:
            found = minimize(
                criterion,
                pack(terms, start),
                gain_tolerance=gain_tolerance,
                watch=_later(watch, n),
                leave=lambda x, point, gain: _known(terms, seen, x, point, gain),
            )
        except np.linalg.LinAlgError:
            continue  # nothing can be evaluated there, so that nothing is found
        n, starts = n + found.n_evaluations, starts + 1
        if found.outcome is Outcome.KNOWN:
            continue
        if all(abs(found.point.value - other.point.value) > _SAME for other in seen):
            seen.append(found)
    best = first
    for found in seen:
        if found.converged and (not best.converged or below(found.point.value, best.point.value)):
            best = found
    minima = sum(found.converged for found in seen)
    return Searched(replace(best, n_evaluations=n), max(minima, 1), starts)


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


def _known(
    terms: Sequence[ReTerm],
    seen: Sequence[Minimum[Evaluation]],
    x: Floats,
    point: Evaluation,
    gain: float,
) -> bool:
    """Whether a search is where the quadratic model around a known minimum holds."""
    if gain > _LITTLE:
        return False
    for known in seen:
        excess = point.value - known.point.value
        if not (known.converged and -LOWER < excess < _LITTLE):
            continue
        away = _difference(terms, x, known.x)
        model = 0.5 * float(away @ known.point.newton_matrix @ away)
        if abs(model - excess) <= _LIKE * excess + LOWER:
            return True
    return False


def _difference(terms: Sequence[ReTerm], x: Floats, known: Floats) -> Floats:
    """Difference of packed templates, rotated or with signs so that it is least."""
    parts = [
        _aligned(t.template, x[own], known[own])
        for t, own in zip(terms, places(terms), strict=True)
    ]
    return np.concatenate(parts)


def _aligned(template: Template, x: Floats, known: Floats) -> Floats:
    """The difference within one term."""
    T, T0 = template(x), template(known)
    if template.joint == 1:
        return np.abs(x) - np.abs(known)
    U, _, Vt = np.linalg.svd(T.T @ T0)
    return template.pack(T @ (U @ Vt) - T0)
