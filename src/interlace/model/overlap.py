"""Random effects that a residual structure has room for already: no data tell the two apart.

Effects of a subject, or of something within one, add to the covariance of its rows alone.  Where
the derivatives of these covariances, by the numbers of the structure and by those of each term,
span fewer directions together than each by themselves, a change of one is made good by others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from interlace.covariance.stacks import Joined, Separate
from interlace.design.repeated import ResidualTerm
from interlace.errors import InterlaceError
from interlace.estimation.crossed import Crossing
from interlace.sums.patterns import Patterns
from interlace.sums.terms import Floats, ReTerm

# How far from the start numbers are like any others; eigenvalues of products that count as zero.
_ANYWHERE, _NONE = 0.3, 1e-11


def refuse_overlap(
    term: ResidualTerm,
    within: Separate | Joined,
    at: Patterns,
    own: Sequence[ReTerm],
    crossing: Crossing | None,
) -> None:
    """Refuse random effects of the subject, or within it, that the structure has room for.

    ``own`` are the terms of the subject, which ``within`` has; ``crossing`` has all others.

    Raises
    ------
    InterlaceError
        The structure has room for them.
    """
    inside = (
        [] if crossing is None else [j for j in range(len(crossing.terms)) if _alone(crossing, j)]
    )
    if not own and not inside:
        return
    rng = np.random.default_rng(0)
    x = within.start(np.broadcast_to(np.eye(at.V), (at.n_groups, at.V, at.V)))
    x = x + rng.normal(scale=_ANYWHERE, size=within.size)
    end = within.size - sum(t.size for t in within.templates)
    terms = [*own]
    if crossing is None or not inside:
        gram = _by_group(within, at, x)
    else:
        terms += [crossing.terms[j] for j in inside]
        gram = _by_subject(within, at, x, crossing, inside)
    ends = [0, end, *(end + np.cumsum([t.template.size for t in terms])).tolist()]
    apart = sum(_rank(gram[a:b, a:b]) for a, b in pairwise(ends))
    if _rank(gram) < apart:
        names = ", ".join(dict.fromkeys(repr(t.group) for t in terms))
        raise InterlaceError(
            f"residual='{term}' has room for all or some of the random effects of {names} already, "
            "so that no data can tell the two apart: leave the random effects out, or take a "
            "structure with fewer parameters, such as 'ar1'"
        )


def _alone(crossing: Crossing, j: int) -> bool:
    """Whether no two subjects meet a level of a term."""
    met = np.any(crossing.Z != 0.0, axis=1)
    subjects = np.broadcast_to(np.arange(len(met))[:, None], met.shape)[met]
    effects = crossing.index[met]
    own = crossing.parts[j]
    mine = (effects >= own.start) & (effects < own.stop)
    levels = (effects[mine] - own.start) // crossing.terms[j].k
    pairs = np.unique(np.column_stack([levels, subjects[mine]]), axis=0)
    return len(np.unique(pairs[:, 0])) == len(pairs)


def _by_group(within: Separate | Joined, at: Patterns, x: Floats) -> Floats:
    """Products of the derivatives at all pairs of rows that were seen together."""
    seen = np.zeros((at.n_groups, at.V, at.V), dtype=bool)
    np.logical_or.at(seen, at.groups, at.pairs)
    found = np.zeros((within.size, within.size))
    for mask, own, J in zip(seen, within.own, within.jacobians(x), strict=True):
        found[np.ix_(own, own)] += J[mask].T @ J[mask]
    return found


def _by_subject(
    within: Separate | Joined, at: Patterns, x: Floats, crossing: Crossing, inside: Sequence[int]
) -> Floats:
    """The same with terms within subjects, whose columns every subject has of its own."""
    terms = [crossing.terms[j] for j in inside]
    turns = [_turns(t) for t in terms]
    size = within.size + sum(turn.shape[2] for turn in turns)
    found, jacobians = np.zeros((size, size)), within.jacobians(x)
    for pattern, index, Z in zip(at.kept.pattern, crossing.index, crossing.Z, strict=True):
        J = np.zeros((at.V, at.V, size))
        group = at.groups[pattern]
        J[:, :, within.own[group]] = jacobians[group]
        start = within.size
        for j, t, turn in zip(inside, terms, turns, strict=True):
            own = crossing.parts[j]
            mine = (index >= own.start) & (index < own.stop)
            level, column = np.divmod(index[mine] - own.start, t.k)
            among = turn[np.ix_(column, column)] * np.equal.outer(level, level)[..., None]
            part = slice(start, start := start + turn.shape[2])
            J[:, :, part] = np.einsum("va,abc,wb->vwc", Z[:, mine], among, Z[:, mine])
        flat = J[at.pairs[pattern]]
        found += flat.T @ flat
    return found


def _turns(term: ReTerm) -> Floats:
    """Derivatives of ``T T'`` at a template like any other, ``(k, k, c)``."""
    T = term.template.start(1.0)
    xi = term.template.pack(T) + _ANYWHERE * np.random.default_rng(1).normal(
        size=term.template.size
    )
    half = np.einsum("abc,db->adc", term.template.jacobian(xi), term.template(xi))
    return np.asarray(half + np.swapaxes(half, 0, 1))


def _rank(gram: Floats) -> int:
    """Directions that derivatives with these products span."""
    size = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
    values = np.linalg.eigvalsh(gram / np.outer(size, size))
    return int((values > _NONE).sum())
