"""Likelihoods without a maximum: random terms that reproduce any response with the fixed effects.

The rows have the covariance ``sigma^2 I + Z G Z'``.  Where some ``G`` leaves ``Z G Z'`` a rank
``r`` below ``n``, but its columns and ``X`` span all ``n`` dimensions, ``y - X beta`` can be kept
among these columns while ``sigma`` goes to zero: minus twice the log-likelihood falls like
``(n - r) log sigma^2``, whatever the response.  ML then has no estimate, though there may be a
local one.  REML looks at ``n - p`` contrasts without ``X``, of which ``Z G Z'`` leaves none out: it
has a limit where ``sigma`` is zero, and no estimate where that limit is below all else.

Ranks are those of the cross-products, with a margin, and are looked at only where a model has as
many columns as rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
from scipy.linalg.lapack import dpstrf

from interlace.covariance.templates import Entries
from interlace.errors import InterlaceError
from interlace.estimation.basins import Searched, searched_again
from interlace.estimation.criterion import Criterion, Evaluation
from interlace.estimation.optimize import minimize
from interlace.estimation.search import SAME
from interlace.solver.plan import flat_cross, remainder
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats, ReTerm

# Columns up to which ranks are looked at: more would take longer than the fit.
_MOST = 3000
# Squared share of a column, beside others, from which on it is surely something of its own, and
# below which it is surely nothing.
_SOMETHING, _NOTHING = 1e-11, 1e-13
# Sets of columns that are looked at.
_SETS = 64
# Templates that leave hardly any residual variance; those that may be on their way there, and the
# factor at which they are compared.
_FAR, _LARGE, _FURTHER = 1e4, 10.0, 10.0

Watch = Callable[[int, Evaluation, float], None]


def minimised(
    criterion: Criterion,
    start: Floats,
    *,
    gain_tolerance: float = 1e-12,
    watch: Watch | None = None,
) -> Searched:
    """The best minimum of a criterion, first searched from a packed ``start``: the rule of a fit.

    Raises
    ------
    InterlaceError
        The criterion has none.
    numpy.linalg.LinAlgError
        No residual variance is left.
    """
    require_maximum(criterion)
    first = minimize(
        criterion, start, gain_tolerance=gain_tolerance, watch=watch, doubt=Evaluation.doubt
    )
    best = searched_again(criterion, first, gain_tolerance=gain_tolerance, watch=watch)
    require_residual(best.found.point)
    return best


def require_maximum(criterion: Criterion) -> None:
    """Refuse a model whose likelihood grows without bound, whatever the response.

    Raises
    ------
    InterlaceError
        It does.
    """
    if not criterion.reml and (terms := without_maximum(criterion.A)):
        raise InterlaceError(_in_words(criterion.A, terms, "ML"))


def require_residual(point: Evaluation) -> None:
    """Refuse a minimum by REML where less residual variance is as likely, or none is more so.

    Raises
    ------
    InterlaceError
        It is.
    """
    criterion = point.criterion
    if criterion.reml and is_saturated(criterion.A) and _runs_off(point):
        raise no_residual(criterion.A)


def no_residual(A: CrossProducts) -> InterlaceError:
    """What is said of a saturated model that REML leaves no residual variance."""
    return InterlaceError(_in_words(A, _needed(A), "REML"))


def is_saturated(A: CrossProducts) -> bool:
    """Whether fixed and random effects together reproduce any response."""
    return _may_be(A) and _Columns(A).reproduce_all(range(sum(t.q for t in A.terms)))


def without_maximum(A: CrossProducts) -> tuple[ReTerm, ...]:
    """Terms by whose effects the likelihood is unbounded; none where it is bounded."""
    if not _may_be(A):
        return ()
    columns = _Columns(A)
    waiting, seen = [tuple(columns.units)], set[tuple[_Unit, ...]]()
    while waiting and len(seen) < _SETS:
        units = waiting.pop()
        seen.add(units)
        which = columns.of(units)
        if not columns.reproduce_all(which):
            continue
        if columns.rank(which, _NOTHING) < A.n:
            return columns.least(units)
        fewer = [tuple(one for one in units if one != left) for left in units]
        waiting += [one for one in fewer if one not in seen]
    return ()


def _needed(A: CrossProducts) -> tuple[ReTerm, ...]:
    """Terms of a saturated model without which it is none."""
    columns = _Columns(A)
    return columns.least(tuple(columns.units))


def _may_be(A: CrossProducts) -> bool:
    """Whether there are as many columns as rows."""
    columns = sum(t.q for t in A.terms) + A.p
    return A.n <= columns <= _MOST


def _runs_off(point: Evaluation) -> bool:
    """Whether the criterion is no higher with larger effects, or far from here."""
    criterion, templates = point.criterion, point.factor.templates
    places = [[_FAR * np.eye(len(T)) for T in templates]]
    if any((np.abs(T) > _LARGE).any() for T in templates):
        places.append([_FURTHER * T for T in templates])
    return any(_value(criterion, there) < point.value + SAME for there in places)


def _value(criterion: Criterion, templates: Sequence[Floats]) -> float:
    """The criterion; minus infinity where it leaves no residual variance."""
    try:
        return criterion.at(templates).value
    except np.linalg.LinAlgError:
        return -np.inf


# A term, and columns whose variances can be zero while those of the others are not.
_Unit = tuple[int, tuple[int, ...]]


class _Columns:
    """Cross-products of the columns ``[Z X]``, each of length 1, and ranks of some of them."""

    def __init__(self, A: CrossProducts) -> None:
        self.A = A
        self.offsets = list(accumulate((t.q for t in A.terms), initial=0))
        terms = tuple(range(len(A.terms)))
        S = remainder(A, terms, dict(enumerate(self.offsets)), flat_cross(A))[:-1, :-1]
        squares = np.diag(S)
        self.present = squares > _SOMETHING * squares.max(initial=0.0)  # others lost all rows
        size = np.sqrt(np.where(self.present, squares, 1.0))
        self.S = S / size / size[:, None]

    @property
    def units(self) -> list[_Unit]:
        """Terms and their columns, those of few levels last."""
        found = [(j, part) for j, t in enumerate(self.A.terms) for part in _parts(t)]
        return sorted(found, key=lambda one: -self.A.terms[one[0]].l)

    def of(self, units: Sequence[_Unit]) -> list[int]:
        """Positions of the columns of some units."""
        terms = self.A.terms
        return [
            i
            for j, part in units
            for c in part
            for i in range(self.offsets[j] + c, self.offsets[j + 1], terms[j].k)
        ]

    def reproduce_all(self, random: Sequence[int]) -> bool:
        """Whether some random columns and the fixed ones span the rows."""
        fixed = range(self.offsets[-1], len(self.S))
        return self.rank([*random, *fixed], _SOMETHING) >= self.A.n

    def rank(self, which: Sequence[int], limit: float) -> int:
        """Rank of some columns."""
        at = np.array([i for i in which if self.present[i]], dtype=np.intp)
        if not len(at):
            return 0
        return int(dpstrf(self.S[np.ix_(at, at)], tol=limit)[2])

    def least(self, units: tuple[_Unit, ...]) -> tuple[ReTerm, ...]:
        """Terms of as few of some units as span the rows with the fixed effects."""
        for left in reversed(units):
            fewer = tuple(one for one in units if one != left)
            if self.reproduce_all(self.of(fewer)):
                units = fewer
        return tuple(self.A.terms[j] for j in sorted({j for j, _ in units}))


def _parts(term: ReTerm) -> list[tuple[int, ...]]:
    """Columns of a term that can be left out, together where their variances are tied."""
    columns = range(term.k)
    return [(c,) for c in columns] if isinstance(term.template, Entries) else [tuple(columns)]


def _in_words(A: CrossProducts, terms: Sequence[ReTerm], method: str) -> str:
    """Which terms reproduce any response, what follows, and the way out."""
    names = " and ".join(_named(t) for t in terms)
    columns = " + ".join(str(size) for size in (A.p, *(t.q for t in terms)))
    what = (
        f"{method} has no estimate: the fixed effects and the random effects of {names} reproduce "
        f"any response ({columns} columns for {A.n} rows), and the likelihood "
    )
    if method == "ML":
        return what + (
            "grows without bound as the residual variance goes to zero: use method='REML', which "
            f"looks at contrasts without fixed effects, or leave out a random term ({names}) or "
            "fixed effects"
        )
    return what + (
        "is highest where no residual variance is left: leave out a random term "
        f"({names}) or fixed effects"
    )


def _named(term: ReTerm) -> str:
    """A term by its group, and by its columns where these are not the intercept alone."""
    columns = "" if term.k == 1 else f" ({', '.join(term.columns)})"
    return f"{term.group!r}{columns}"
