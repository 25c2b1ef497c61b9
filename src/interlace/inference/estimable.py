"""Type III hypotheses: those on an effect that do not depend on the contrasts of the fit.

The fitted columns are a basis of the overparametrised ones (an indicator for every level of every
factor, and their products with the numeric columns), in which an effect and the effects that
contain it can be told apart.  Only the row space of these columns matters, so the rows of a cell,
a combination of levels, are replaced by the triangular factor of their numeric columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from interlace.design.frame import Codes, factorize, recode
from interlace.errors import InterlaceError
from interlace.inference.effects import Effect, FixedPart
from interlace.sums.terms import Floats

# A column is dependent if less than this share of its norm is left after those before it.
_DEPENDENT = 1e-8
# Share of a column's norm that rounding may leave although the basis spans it.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class _Compressed:
    """Rows with the row space of the data's: cell ``cell[i]`` has the numeric columns ``M[i]``."""

    cell: Codes
    M: Floats
    X: Floats


@dataclass(frozen=True, eq=False)
class _Overparametrised:
    """Columns for all levels ``(r, P)``, the effect of each, and the order to choose them in.

    Every effect's columns of its contrasts to the first level come before its others.  ``columns``
    are the data's over ``scale``.
    """

    columns: Floats
    scale: Floats
    owner: Codes
    order: Codes


def marginal(part: FixedPart, effects: Sequence[Effect], kept: NDArray[np.bool_]) -> list[Floats]:
    """Type III hypotheses ``L`` (q, p) of every effect, for the columns ``kept`` (P,).

    Raises
    ------
    InterlaceError
        The contrasts of a factor do not span the differences of its levels; of rows that are not
        held, a factor whose number of columns the formula does not say.
    """
    p = int(kept.sum())
    if not any(effect.categorical for effect in effects):
        return [np.eye(p)[effect.kept] for effect in effects]
    if not len(part.X):
        raise InterlaceError(
            "type 3 hypotheses of these fixed effects need rows, as several columns are multiplied "
            "with several; fit to a frame in memory, or use type 1 or 2"
        )
    rows, full = _overparametrised(part, effects)
    rows, full = _of_the_data(rows, full, part.absent)
    rows = replace(rows, X=rows.X[:, kept])
    owner, on_levels, on_fitted = _treatment_coefficients(rows, full)
    found = []
    for i, effect in enumerate(effects):
        above = [j for j, other in enumerate(effects) if effect.within(other)]
        own, containing = np.eye(p)[owner == i], np.eye(p)[np.isin(owner, above)]
        if above and len(own):
            share = np.linalg.lstsq((containing @ on_levels).T, (own @ on_levels).T, rcond=None)[0]
            own = own - share.T @ containing
        found.append(own @ on_fitted)
    return found


def _of_the_data(
    rows: _Compressed, full: _Overparametrised, absent: Floats | None
) -> tuple[_Compressed, _Overparametrised]:
    """Combinations of rows for which the columns ``absent`` (P, d) are zero, as in the data."""
    if absent is None or not absent.shape[1]:
        return rows, full
    there = rows.X @ (absent / np.linalg.norm(absent, axis=0))
    U, s, _ = np.linalg.svd(there)
    C = U[:, int((s > _ROUNDING * np.linalg.norm(rows.X)).sum()) :]
    columns = C.T @ full.columns
    size = np.linalg.norm(columns, axis=0)
    columns[:, size < _ROUNDING * np.linalg.norm(full.columns, axis=0)] = 0.0  # no row has them
    return replace(rows, X=C.T @ rows.X), replace(full, columns=columns)


def _treatment_coefficients(
    rows: _Compressed, full: _Overparametrised
) -> tuple[Codes, Floats, Floats]:
    """Coefficients of treatment contrasts as functions of others.

    Returns
    -------
    owner
        ``(p,)`` effect of each.
    on_levels, on_fitted
        Weights ``(p, P)`` of the coefficients of all levels, and ``(p, p)`` of the fitted ones.
    """
    p = rows.X.shape[1]
    basis = _treatment_basis(full, p)
    if len(basis) < p:
        raise InterlaceError(
            f"type III hypotheses cannot tell the {p} fixed effects apart: leave out a nearly "
            "redundant one, or centre numeric columns"
        )
    joint = np.concatenate((full.columns, rows.X), axis=1)
    solved = np.linalg.lstsq(full.columns[:, basis], joint, rcond=None)[0]
    rest = np.linalg.norm(joint - full.columns[:, basis] @ solved, axis=0)
    if (rest > _ROUNDING * np.linalg.norm(joint, axis=0)).any():
        raise InterlaceError(
            "type III hypotheses need contrasts that span all differences of levels, but a factor "
            "has fewer columns than that: use type 2, or other contrasts"
        )
    functions = np.asarray(solved / full.scale[basis, None], dtype=np.float64)
    P = len(full.owner)
    return full.owner[basis], functions[:, :P] * full.scale, functions[:, P:]


def _treatment_basis(full: _Overparametrised, p: int) -> Codes:
    """``p`` independent columns of all effects, taken in order."""
    Q = np.zeros((len(full.columns), p))
    found: list[int] = []
    for j in full.order:
        if len(found) == p:
            break
        column = full.columns[:, j]
        rest = column - Q @ (Q.T @ column)
        rest -= Q @ (Q.T @ rest)  # once more, against rounding
        norm = np.linalg.norm(rest)
        if norm > _DEPENDENT * np.linalg.norm(column):
            Q[:, len(found)] = rest / norm
            found.append(int(j))
    return np.array(found, dtype=np.intp)


# Columns for all levels ---------------------------------------------------------------------------


def _overparametrised(
    part: FixedPart, effects: Sequence[Effect]
) -> tuple[_Compressed, _Overparametrised]:
    X = part.X
    codes = _codes(part, effects)
    numbers = _numbers(part, effects)
    products = {_numeric_part(effect): _product(numbers, effect, X) for effect in effects}
    cell, first = _combinations(list(codes.values()), len(X))
    numeric = np.column_stack(list(products.values()))
    size = np.sqrt(np.einsum("nm,nm->m", numeric, numeric) / len(X))
    size[size == 0.0] = 1.0
    rows = _compressed(cell, first, numeric / size, X)
    at_cell = {expr: values[first] for expr, values in codes.items()}
    ends = np.cumsum([product.shape[1] for product in products.values()])
    places = dict(zip(products, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    blocks: list[Floats] = []
    order: list[Codes] = []
    scale: list[Floats] = []
    for effect, contrasted in zip(effects, _contrasted(effects), strict=True):
        # Levels of the first factor run fastest.
        used = [f for f in reversed(effect.factors) if f in effect.categorical]
        level, one = _combinations([at_cell[f] for f in used], len(first))
        usual = np.all([at_cell[f][one] > 0 for f in contrasted] or [one >= 0], axis=0)
        indicator = (level[rows.cell, None] == np.arange(len(one))).astype(np.float64)
        at = places[_numeric_part(effect)]
        start = sum(block.shape[1] for block in blocks)
        blocks.append((indicator[:, :, None] * rows.M[:, None, at]).reshape(len(indicator), -1))
        order.append(start + np.argsort(np.repeat(~usual, len(at)), kind="stable"))
        scale.append(np.tile(size[at], len(one)))
    owner = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
    return rows, _Overparametrised(
        np.column_stack(blocks), np.concatenate(scale), owner, np.concatenate(order)
    )


def _contrasted(effects: Sequence[Effect]) -> list[frozenset[str]]:
    """Factors of every effect whose first level is the reference, as R chooses them."""
    found = [effect.categorical - effect.full for effect in effects]
    if all(effect.factors for effect in effects):  # the first factor stands for the intercept too
        for i, effect in enumerate(effects):
            if len(effect.factors) == 1 and effect.categorical:
                found[i] = frozenset()
                break
    return found


def _codes(part: FixedPart, effects: Sequence[Effect]) -> dict[str, Codes]:
    """Positions of the rows, ``(n,)``, in the levels of every factor that is categories."""
    categories = part.side.categories
    found: dict[str, Codes] = {}
    for expr in dict.fromkeys(f for e in effects for f in e.factors if f in e.categorical):
        levels, values = categories[expr], part.factors[expr]
        if part.absent is not None:  # these are codes already
            found[expr] = np.asarray(values, dtype=np.intp)
        else:
            found[expr] = factorize(values)[0] if levels is None else recode(values, levels)
    return found


def _numeric_part(effect: Effect) -> tuple[frozenset[str], bool]:
    """What tells the numeric columns of effects apart; without categories they are those of X."""
    return frozenset(effect.factors) - effect.categorical, bool(effect.categorical)


def _numbers(part: FixedPart, effects: Sequence[Effect]) -> dict[str, Floats]:
    """Values ``(n, m)`` of every numeric factor that a category is multiplied with."""
    n = len(part.X)
    alone = {effect.factors[0]: effect for effect in effects if len(effect.factors) == 1}
    crossed = {f for e in effects if e.categorical for f in set(e.factors) - e.categorical}
    return {
        expr: np.asarray(part.factors[expr], dtype=np.float64).reshape(n, -1)
        if expr in part.factors
        else part.X[:, list(alone[expr].columns)]
        for expr in crossed
    }


def _product(numbers: Mapping[str, Floats], effect: Effect, X: Floats) -> Floats:
    """Products of the numeric columns of an effect, ``(n, m)``."""
    numeric, crossed = _numeric_part(effect)
    if numeric and not crossed:
        product = X[:, list(effect.columns)]
    else:
        product = np.ones((len(X), 1))
        for expr in sorted(numeric):
            product = (product[:, :, None] * numbers[expr][:, None, :]).reshape(len(X), -1)
    return np.asarray(product, dtype=np.float64)


def _combinations(codes: Sequence[Codes], n: int) -> tuple[Codes, Codes]:
    """Number of the combination of codes in each of ``n`` rows, and the first row of each."""
    number: Codes = np.zeros(n, dtype=np.intp)
    for values in codes:
        number, _ = factorize(number * (int(values.max()) + 1) + values)
    first = np.full(int(number.max()) + 1, n, dtype=np.intp)
    np.minimum.at(first, number, np.arange(n))
    return number, first


def _compressed(cell: Codes, first: Codes, M: Floats, X: Floats) -> _Compressed:
    """Per cell, the triangular factor of ``M`` (n, m), and ``X`` (n, p) rotated alike."""
    if np.ptp(M, axis=0).max() == 0.0:  # no numeric columns
        return _Compressed(np.arange(len(first)), M[first], X[first])
    members = np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell))[:-1])
    parts = [np.linalg.qr(M[rows] / np.sqrt(len(rows))) for rows in members]
    rotated = [
        Q.T @ X[rows] / np.sqrt(len(rows)) for (Q, _), rows in zip(parts, members, strict=True)
    ]
    sizes = [len(R) for _, R in parts]
    return _Compressed(
        np.repeat(np.arange(len(members)), sizes),
        np.concatenate([R for _, R in parts]),
        np.concatenate(rotated),
    )
