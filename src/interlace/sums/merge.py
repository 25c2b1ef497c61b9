"""Cross-products of several sets of rows as one: a basis for all, and which columns are kept in it.

Within one set of rows the working columns are orthonormal, so a column is its coordinates in them.
The coordinates of all sets, stacked, have the Gram matrix of all rows; orthogonalised in turn, they
say which columns depend on earlier ones, and nothing is squared.  What is constant or missing in
one set need not be in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlace.errors import InterlaceError
from interlace.sums.cells import Cells, Codes, add_cells, narrow
from interlace.sums.columns import dependence, gram_schmidt
from interlace.sums.joint import Joint, Share
from interlace.sums.moments import Moments
from interlace.sums.rows import Basis
from interlace.sums.terms import Floats, ReTerm

if TYPE_CHECKING:
    from interlace.sums.crossprod import CrossProducts

Mask: TypeAlias = NDArray[np.bool_]

# Below this share of its norm a column, less its mean, is a constant; and the response is
# reproduced by the fixed effects.
_CONSTANT = 1e-13
# Where sums are taken away, below this share of what was there nothing is left.
_NOTHING = 1e-11


@dataclass(frozen=True, eq=False)
class _Side:
    """One set of rows: its sums on the levels of all, and the columns of all in its own.

    ``fixed`` ``(p + 1, P + 1)`` and ``random`` are coordinates in the working columns here.
    """

    A: CrossProducts
    fixed: Floats
    random: tuple[Floats, ...]


def added(left: CrossProducts, right: CrossProducts, joint: Joint) -> CrossProducts:
    """Sums over the rows of both."""
    sides = (_side(left, joint, joint.left), _side(right, joint, joint.right))
    fixed = [_root(side.A.vv) @ side.fixed for side in sides]
    random = [
        np.vstack([_root(side.A.zz[j].sum(axis=0)) @ side.random[j] for side in sides])
        for j in range(len(joint.terms))
    ]
    return _merged(sides, (1, 1), joint, np.vstack(fixed), random)


def removed(whole: CrossProducts, part: CrossProducts, joint: Joint) -> CrossProducts:
    """Sums over the rows of ``whole`` that are not those of ``part``.

    Raises
    ------
    InterlaceError
        There are no such rows.
    """
    if part.n >= whole.n:
        raise InterlaceError(
            f"cross-products of {part.n} rows cannot be taken away from those of {whole.n}: no row "
            "is left"
        )
    sides = (_side(whole, joint, joint.left), _side(part, joint, joint.right))
    fixed = _what_is_left([s.A.vv for s in sides], [s.fixed for s in sides])
    random = [
        _what_is_left([s.A.zz[j].sum(axis=0) for s in sides], [s.random[j] for s in sides])
        for j in range(len(joint.terms))
    ]
    return _merged(sides, (1, -1), joint, fixed, random)


def coordinates(A: CrossProducts, names: Sequence[str]) -> Floats:
    """Columns of ``X``, kept or not, and ``y``, in working columns: ``(p + 1, len(names) + 1)``.

    Raises
    ------
    InterlaceError
        The cross-products do not say how a column depends on others.
    """
    if A.dropped and A.dependence is None:
        raise InterlaceError(
            "these cross-products do not say how the columns left out depend on the others: make "
            "them with interlace.cross_products()"
        )
    back = np.linalg.inv(A.basis.fixed)
    dropped = None if A.dependence is None else back[:, :-1] @ A.dependence
    known = {name: back[:, i] for i, name in enumerate(A.names)}
    known |= {} if dropped is None else {n: dropped[:, i] for i, n in enumerate(A.dropped)}
    return np.column_stack([*(known[name] for name in names), back[:, -1]])


def _side(A: CrossProducts, joint: Joint, share: Share) -> _Side:
    own = coordinates(A, share.names)
    fixed = np.column_stack((own[:, :-1] @ share.fixed, own[:, -1]))
    random = tuple(
        np.linalg.inv(A.basis.random[j]) @ turn
        for (j, _), turn in zip(share.random, share.slopes, strict=True)
    )
    return _Side(on_levels(A, joint.terms, share.random), fixed, random)


def _root(G: Floats) -> Floats:
    """``R`` with ``R' R`` = a Gram matrix, which may be singular."""
    values, vectors = np.linalg.eigh(G)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))).T, dtype=np.float64)


def _what_is_left(grams: Sequence[Floats], columns: Sequence[Floats]) -> Floats:
    """Coordinates of columns in what is left of the rows of one set without those of another.

    The first set's working columns are orthonormal; what is left of them is judged by eigenvalues,
    of which rounding leaves those of nothing far below those of any row.
    """
    first, second = grams
    kept = np.diag(first) > 0
    scale = np.where(kept, np.sqrt(np.where(kept, np.diag(first), 1.0)), 1.0)
    turn = np.linalg.lstsq(columns[0].T, columns[1].T, rcond=1e-12)[0].T / scale
    left = first / np.outer(scale, scale) - turn.T @ second @ turn
    values, vectors = np.linalg.eigh(left)
    roots = np.sqrt(np.where(values > _NOTHING, values, 0.0))
    S = np.asarray((vectors * roots).T @ (scale[:, None] * columns[0]), dtype=np.float64)
    before = np.linalg.norm(_root(first) @ columns[0], axis=0)
    S[:, np.linalg.norm(S, axis=0) <= np.sqrt(_NOTHING) * before] = 0.0
    return S


def _merged(
    sides: Sequence[_Side],
    signs: Sequence[int],
    joint: Joint,
    fixed: Floats,
    random: Sequence[Floats],
) -> CrossProducts:
    """The sums in a basis chosen by the stacked coordinates of ``[X y]`` and of every ``Z_j``."""
    n = sum(sign * side.A.n for side, sign in zip(sides, signs, strict=True))
    kept, F = _fixed_basis(fixed, joint.names, n)
    both = np.append(kept, True)
    B = [_random_basis(S, t, n) for S, t in zip(random, joint.terms, strict=True)]
    parts = [_turned(side, side.fixed[:, both] @ F, B) for side in sides]
    vv = sum(sign * part.vv for part, sign in zip(parts, signs, strict=True))
    names = np.array(joint.names, dtype=object)
    first, second = parts
    sign = signs[1]
    return replace(
        first,
        n=n,
        names=tuple(names[kept]),
        dropped=tuple(names[~kept]),
        terms=joint.terms,
        basis=Basis(F, tuple(B)),
        vv=np.asarray(vv, dtype=np.float64),
        zv=tuple(a + sign * b for a, b in zip(first.zv, second.zv, strict=True)),
        zz=tuple(a + sign * b for a, b in zip(first.zz, second.zz, strict=True)),
        cells={
            pair: add_cells(
                [cells, replace(second.cells[pair], values=sign * second.cells[pair].values)]
            )
            for pair, cells in first.cells.items()
        },
        sum_log_w=first.sum_log_w + sign * second.sum_log_w,
        recipe=joint.recipe,
        dependence=_dependence(sides, signs, F, both, kept) if not kept.all() else None,
        moments=_moments(first, second, sign),
    )


def _turned(side: _Side, T: Floats, B: Sequence[Floats]) -> CrossProducts:
    """One set of rows in the working columns of all."""
    A = side.A
    U = [own @ basis for own, basis in zip(side.random, B, strict=True)]
    return replace(
        A,
        vv=T.T @ A.vv @ T,
        zv=tuple(u.T @ block @ T for u, block in zip(U, A.zv, strict=True)),
        zz=tuple(u.T @ block @ u for u, block in zip(U, A.zz, strict=True)),
        cells={(i, j): c.turned(U[i], U[j]) for (i, j), c in A.cells.items()},
        moments=None if A.moments is None else A.moments.turned(T, U),
    )


def _fixed_basis(S: Floats, names: Sequence[str], n: int) -> tuple[Mask, Floats]:
    """Mask of the columns of ``X`` kept, and the map from them and ``y`` to working columns.

    The last working column is what is left of the response; in units of it if nothing is.
    """
    constant = names.index("Intercept") if "Intercept" in names else None
    kept, Q, B = _independent(S[:, :-1], constant, n)
    p = int(kept.sum())
    y = S[:, -1]
    rest = y - Q @ (first := Q.T @ y)
    rest = rest - Q @ (again := Q.T @ rest)
    size = float(np.linalg.norm(rest))
    around = float(np.linalg.norm(y))
    unit = size if size > _CONSTANT * around and size > 0 else around or 1.0
    F = np.zeros((p + 1, p + 1))
    F[:p, :p] = B
    F[:p, p] = -B @ (first + again) / unit
    F[p, p] = np.sqrt(n) / unit
    return kept, F


def _random_basis(S: Floats, term: ReTerm, n: int) -> Floats:
    """Orthonormal columns where they may be mixed and are independent, else of mean square 1."""
    if term.correlated:
        constant = term.columns.index("Intercept") if "Intercept" in term.columns else None
        kept, _, B = _independent(S, constant, n)
        if kept.all():
            return B
    sizes = np.linalg.norm(S, axis=0) / np.sqrt(n)
    return np.diag(1.0 / term.template.even(np.where(sizes > 0, sizes, 1.0)))


def _independent(S: Floats, constant: int | None, n: int) -> tuple[Mask, Floats, Floats]:
    """Columns that do not depend on earlier ones, an orthonormal basis, and the map to it.

    ``S[:, kept] @ map`` is the basis times ``sqrt(n)``.
    """
    m = S.shape[1]
    C, largest = np.eye(m), np.linalg.norm(S, axis=0)
    if constant is not None and largest[constant] > 0:
        means = S[:, constant] @ S / largest[constant] ** 2
        means[constant] = 0.0
        C[constant] -= means
        S = S - np.outer(S[:, constant], means)
    norms = np.linalg.norm(S, axis=0)
    kept = norms > _CONSTANT * largest
    Q, R, independent = gram_schmidt(S[:, kept] / norms[kept])
    kept[kept] = independent
    B = C[np.ix_(kept, kept)] @ (np.linalg.inv(R) * (np.sqrt(n) / norms[kept][:, None]))
    return kept, Q, B


def _dependence(
    sides: Sequence[_Side], signs: Sequence[int], F: Floats, both: Mask, kept: Mask
) -> Floats:
    """The columns that were not kept, as combinations of those that were."""
    gram = np.zeros((len(F) - 1, len(F) - 1))
    products = np.zeros((len(F) - 1, int((~kept).sum())))
    for side, sign in zip(sides, signs, strict=True):
        T = (side.fixed[:, both] @ F)[:, :-1]
        gram += sign * T.T @ side.A.vv @ T
        products += sign * T.T @ side.A.vv @ side.fixed[:, :-1][:, ~kept]
    return dependence(F[:-1, :-1], gram, products)


def _moments(left: CrossProducts, right: CrossProducts, sign: float) -> Moments | None:
    """Unweighted moments of both, or of one without the other's."""
    if left.moments is None or right.moments is None:
        return None
    return left.moments.plus(right.moments, sign)


# ------------------------------------------------------------------ on the same levels


def on_levels(
    A: CrossProducts, terms: Sequence[ReTerm], places: Sequence[tuple[int, Codes]]
) -> CrossProducts:
    """The same cross-products for terms in another order and on more levels.

    ``places`` holds, per new term, its position in ``A`` and the positions ``(l,)`` of its levels.
    """
    if all(i == j and _in_place(index, terms[i].l) for i, (j, index) in enumerate(places)):
        return replace(A, terms=tuple(terms))
    old = [j for j, _ in places]
    moved = [index for _, index in places]
    new = {j: i for i, j in enumerate(old)}

    def spread(block: Floats, i: int) -> Floats:
        whole = np.zeros((terms[i].l, *block.shape[1:]))
        whole[moved[i]] = block
        return whole

    cells = {}
    for (i, j), block in A.cells.items():
        a, b = new[i], new[j]
        rows, cols = narrow(moved[a][block.rows]), narrow(moved[b][block.cols])
        values = block.values if a < b else block.values.transpose(0, 2, 1)
        pair, rows, cols = ((a, b), rows, cols) if a < b else ((b, a), cols, rows)
        order = np.lexsort((cols, rows))
        cells[pair] = Cells(rows[order], cols[order], values[order])
    return replace(
        A,
        terms=tuple(terms),
        basis=Basis(A.basis.fixed, tuple(A.basis.random[j] for j in old)),
        zv=tuple(spread(A.zv[j], i) for i, j in enumerate(old)),
        zz=tuple(spread(A.zz[j], i) for i, j in enumerate(old)),
        cells=dict(sorted(cells.items())),
        moments=None if A.moments is None else A.moments.of_terms(old),
    )


def _in_place(index: Codes, l: int) -> bool:
    """Whether every level stays where it is."""
    return len(index) == l and bool((index == np.arange(l)).all())


def combined(left: CrossProducts, right: CrossProducts, sign: float) -> CrossProducts:
    """``left + sign * right`` in the basis of ``left``."""
    _check_alike(left, right)
    other = right.rebase(left.basis)
    return replace(
        left,
        n=left.n + int(sign) * right.n,
        sum_log_w=left.sum_log_w + sign * right.sum_log_w,
        vv=left.vv + sign * other.vv,
        zv=tuple(a + sign * b for a, b in zip(left.zv, other.zv, strict=True)),
        zz=tuple(a + sign * b for a, b in zip(left.zz, other.zz, strict=True)),
        cells={key: _merge(cells, other.cells[key], sign) for key, cells in left.cells.items()},
        moments=_moments(left, other, sign),
    )


def _check_alike(left: CrossProducts, right: CrossProducts) -> None:
    """Refuse to combine cross-products of different models."""
    if left.names != right.names:
        raise InterlaceError(
            f"cross-products of different fixed effects cannot be combined: "
            f"{', '.join(left.names)} and {', '.join(right.names)}"
        )
    if len(left.terms) != len(right.terms):
        raise InterlaceError(
            f"cross-products of different random effects cannot be combined: "
            f"{len(left.terms)} and {len(right.terms)} terms"
        )
    for a, b in zip(left.terms, right.terms, strict=True):
        if a.group != b.group or a.columns != b.columns or not np.array_equal(a.levels, b.levels):
            raise InterlaceError(
                f"cross-products of different random effects cannot be combined: term "
                f"{a.group!r} has other columns or levels in the two"
            )


def _merge(left: Cells, right: Cells, sign: float) -> Cells:
    """Blocks of both, those at the same pair of levels added; blocks that cancel to 0 are kept."""
    return add_cells([left, right if sign == 1.0 else replace(right, values=sign * right.values)])
