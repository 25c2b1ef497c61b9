"""Joint tests of the factors of a grid: main effects and interactions of its means.

The contrasts of an effect are the functions of its cell means that vanish on all smaller effects;
factors that are not part of it are averaged over, their levels counting alike.  As in R's emmeans
the denominator has the smallest degrees of freedom of the rows of an effect, made orthogonal one
after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.linalg import qr

from interlace.design.frame import Codes, Levels
from interlace.inference.means.averages import Functions, collapsed
from interlace.inference.means.grid import Grid
from interlace.inference.wald import FTest, Reference, wald_of
from interlace.sums.terms import Floats

# Shares below which a direction counts as none: of contrasts, and of what is not estimable.
_FLAT, _LOST = 1e-9, 1e-7
# What is estimable of the differences between cells, and is part of no effect.
CONFOUNDED = "(confounded)"


@dataclass(frozen=True, eq=False)
class JointTest:
    """Test of one effect in one group.

    ``whole`` says that all of the effect is estimable; ``test`` is of what is.
    """

    effect: str
    group: int
    whole: bool
    test: FTest


def joint_tests(
    grid: Grid, cells: Functions, beta: Floats, reference: Reference
) -> list[JointTest]:
    """Tests of all effects of the columns of some means, within their groups.

    By effect, the smaller first, and then by group.
    """
    found: list[JointTest] = []
    spanned: dict[int, list[Floats]] = {}
    for effect in effects(grid, cells):
        functions = collapsed(cells, effect, grid.nesting)
        label = ":".join(n for n in grid.values if n in effect)
        for g, group in enumerate(functions.groups()):
            C = _contrasts(functions, effect, group, grid)
            L, whole = _estimable(*_applied(C, functions, group))
            if len(L := _orthonormal(L)):
                found.append(JointTest(label, g, whole, _test(L, beta, reference)))
                spanned.setdefault(g, []).append(L)
    for g, group in enumerate(cells.groups()):
        L, whole = _estimable(*_applied(np.diff(np.eye(len(group)), axis=0), cells, group))
        listed = _orthonormal(np.concatenate([*spanned.get(g, []), L[:0]]))
        if not whole and len(L := _orthonormal(L)) > len(listed):
            found.append(JointTest(CONFOUNDED, g, True, _beyond(L, listed, beta, reference)))
    return found


def effects(grid: Grid, cells: Functions) -> Iterator[tuple[str, ...]]:
    """Effects of the columns of some means that a term of the model has, the smaller first."""
    terms = [t | {o for n in t for o in grid.nesting.get(n, ())} for t in grid.seen.variables.terms]
    names, by = cells.inner, cells.by
    ordered = [n for n in grid.values if n in names]
    for size in range(1, len(ordered) + 1):
        for effect in combinations(ordered, size):
            outer = {o for n in effect for o in grid.nesting.get(n, ()) if o in names}
            if outer <= {*effect, *by} and any(set(effect) <= t for t in terms):
                yield effect


def _contrasts(functions: Functions, effect: Sequence[str], group: Codes, grid: Grid) -> Floats:
    """Contrasts of the cells of a group that belong to an effect and to no part of it.

    Products of differences between neighbouring levels, for nested factors within the levels that
    they are nested in; where combinations are missing, what is orthogonal to the sums over each
    factor that no other is nested in.
    """
    outer = {o for n in effect for o in grid.nesting.get(n, ())}
    labels = {n: functions.labels[n][group] for n in effect}
    crossed = [n for n in effect if n not in outer]
    blocks = [
        _differences({n: labels[n][cells] for n in crossed}, cells, len(group))
        for cells in _together([labels[n] for n in effect if n in outer], len(group))
    ]
    whole = [block for block in blocks if block is not None]
    if len(whole) == len(blocks):
        return np.concatenate(whole)
    margins = [np.ones((len(group), 1))]
    for name in effect:
        others = [n for n in effect if n != name]
        if name not in outer:
            margins.append(_indicators([labels[n] for n in others], len(group)))
    Q, R, _ = qr(np.concatenate(margins, axis=1), mode="full", pivoting=True)
    diagonal = np.abs(np.diag(R))
    rank = int((diagonal > _FLAT * diagonal[0]).sum())
    return np.asarray(Q[:, rank:].T)


def _applied(C: Floats, functions: Functions, group: Codes) -> tuple[Floats, Floats]:
    """Contrasts of the means of a group: their weights of the coefficients, and their excess."""
    return C @ np.nan_to_num(functions.L[group]), C @ functions.excess[group]


def _differences(labels: Mapping[str, Levels], cells: Codes, n: int) -> Floats | None:
    """Products of differences between neighbouring levels, ``(.., n)``; None if not all occur."""
    places = {name: _codes(values) for name, values in labels.items()}
    sizes = {name: int(codes.max()) + 1 for name, codes in places.items()}
    if len(cells) != np.prod(list(sizes.values()), dtype=int):
        return None
    C: Floats = np.ones((1, 1))
    at, step = np.zeros(len(cells), dtype=np.intp), 1
    for name, codes in places.items():
        C = np.asarray(np.kron(np.diff(np.eye(sizes[name]), axis=0), C), np.float64)
        at, step = at + step * codes, step * sizes[name]
    out = np.zeros((len(C), n))
    out[:, cells] = C[:, at]
    return out


def _codes(values: Levels) -> Codes:
    """Places of values among those that occur, in order of appearance."""
    place = {value: i for i, value in enumerate(dict.fromkeys(values.tolist()))}
    return np.array([place[value] for value in values.tolist()], dtype=np.intp)


def _together(columns: Sequence[Levels], n: int) -> list[Codes]:
    """Cells that share a combination of values, by combination."""
    found = _indicators(columns, n)
    return [np.flatnonzero(column) for column in found.T]


def _indicators(columns: Sequence[Levels], n: int) -> Floats:
    """Indicators of the combinations of values that occur, ``(n, cells)``."""
    keys = list(zip(*(c.tolist() for c in columns), strict=True)) or [()] * n
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    out = np.zeros((n, len(place)))
    out[np.arange(n), [place[key] for key in keys]] = 1.0
    return out


def _estimable(L: Floats, excess: Floats) -> tuple[Floats, bool]:
    """Combinations of functions that the data can tell, and whether those are all of them."""
    if not np.isfinite(excess).all():
        return L[:0], False
    if np.abs(excess).max(initial=0.0) <= _LOST:
        return L, True
    U, s, _ = np.linalg.svd(excess, full_matrices=True)
    rank = int((s > _LOST * max(1.0, s[0])).sum())
    return U[:, rank:].T @ L, False


def _orthonormal(L: Floats) -> Floats:
    """Orthonormal rows with the same span, row by row, without those that follow from others."""
    size = np.abs(L).max(initial=0.0)
    basis = np.zeros((0, L.shape[1]))
    for row in L:
        rest = row - (row @ basis.T) @ basis
        rest -= (rest @ basis.T) @ basis
        norm = np.linalg.norm(rest)
        if norm > _FLAT * size:
            basis = np.vstack((basis, rest / norm))
    return basis


def _test(L: Floats, beta: Floats, reference: Reference) -> FTest:
    """Wald's F with the smallest degrees of freedom of its rows."""
    df = float(np.min(reference.df(L)))
    return FTest(wald_of(reference, beta, L), len(L), df)


def _beyond(L: Floats, listed: Floats, beta: Floats, reference: Reference) -> FTest:
    """Test of what functions say beyond some of them."""
    whole = _test(L, beta, reference)
    part = wald_of(reference, beta, listed) * len(listed) if len(listed) else 0.0
    q = len(L) - len(listed)
    statistic = max(whole.statistic * len(L) - part, 0.0) / q
    return FTest(statistic, q, whole.denominator_df)
