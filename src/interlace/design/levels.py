"""How columns of a side read on the levels of more rows than those it was encoded on.

The columns of a term with categories span those of all its combinations of levels: ``F``, one
column for each, times the numeric columns of the term.  What was encoded is ``X = F M``, and since
formulaic keeps columns that span the same, ``F = X N``, whatever the rows.  With more levels ``F``
has more columns, which are zero in the rows at hand, and ``M`` is another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pandas as pd
from formulaic.materializers.types import ScopedTerm
from formulaic.model_spec import EncodedTermStructure, ModelSpec
from formulaic.parser.types import Factor
from formulaic.transforms.contrasts import Contrasts, ContrastsState

from interlace.design import frame, keys
from interlace.design.encode import Floats, Side
from interlace.design.frame import Levels
from interlace.errors import InterlaceError


@dataclass(frozen=True, eq=False)
class Widened:
    """Two sides on the levels of both, and their columns in terms of those of each.

    With ``X`` the columns of the rows of one side as they were encoded, ``X @ left`` (or
    ``right``) are those of ``side``.
    """

    side: Side
    left: Floats
    right: Floats


@dataclass(frozen=True, eq=False)
class _Axis:
    """A factor of a side: the columns that its values can take, and names of what they become.

    ``full`` and ``reduced`` map the ``size`` columns of all values to those encoded.
    """

    size: int
    full: Floats
    full_names: tuple[str, ...]
    reduced: Floats
    reduced_names: tuple[str, ...]
    category: bool

    def coded(self, reduced: bool) -> Floats:
        """The map of the encoding with one column less, or with all."""
        return self.reduced if reduced else self.full


def widened(one: Side, two: Side, orders: Mapping[str, Levels]) -> Widened | None:
    """Two sides of the same text on the levels of both; ``None`` where their columns do not say.

    Parameters
    ----------
    one, two
        The sides, each encoded on rows of its own.
    orders
        Declared orders of levels, by the expression of the factor.
    """
    if one.spec is None or two.spec is None:
        return None
    levels = {
        expr: union(expr, own, _categories(two.spec, expr), orders.get(expr))
        for expr, own in ((expr, _categories(one.spec, expr)) for expr in _expressions(one.spec))
        if own is not None
    }
    axes = [_axes(one, {}), _axes(two, {}), _axes(one, levels)]
    if any(found is None for found in axes):
        return None
    first, second, whole = (found for found in axes if found is not None)
    side = _on_levels(one, levels, whole)
    names = [(one, first, one.names), (two, second, two.names), (two, whole, side.names)]
    if any(own.spec is None or _names(own.spec, at) != expected for own, at, expected in names):
        return None
    places = [
        {
            expr: keys.positions(_array(_categories(spec, expr)), _array(levels[expr]))
            for expr in levels
        }
        for spec in (one.spec, two.spec)
    ]
    maps = [
        _map(spec, own, whole, at)
        for spec, own, at in zip((one.spec, two.spec), (first, second), places, strict=True)
    ]
    return Widened(side, *maps)


def union(what: str, one: Sequence[object], two: object, order: Levels | None) -> list[object]:
    """Levels of both, each once: in their declared order, or sorted if those of both are.

    Raises
    ------
    InterlaceError
        They cannot be compared.
    """
    a, b = _array(one), _array(two)
    if not len(a) or not len(b):
        return list(a if len(a) else b)
    if keys.has_text(a) != keys.has_text(b):
        raise InterlaceError(f"cross-products cannot be added: '{what}' holds text in only one")
    new = b[keys.positions(b, a) < 0]
    whole = [*a, *new]
    if order is not None:
        at = keys.positions(_array(whole), order)
        if (at >= 0).all():
            return [whole[i] for i in np.argsort(at)]
    if not len(new) and len(a) == len(b):
        return list(a)
    try:
        rising = all(list(side) == sorted(side) for side in (a, b))
        return sorted(whole) if rising else whole
    except TypeError as error:
        raise InterlaceError(
            f"cross-products cannot be added: '{what}' holds {one[0]!r} in one and {b[0]!r} in the "
            "other, which cannot be compared"
        ) from error


def declared_orders(data: object, names: Iterable[str]) -> dict[str, Levels]:
    """Levels of the columns that declare them, those that do not occur included, in their order."""
    columns = frame.pick(frame.open_table(data), names)
    return {
        name: np.asarray(column.categories)
        for name, column in columns.items()
        if isinstance(column, pd.Categorical)
    }


def _array(values: object) -> Levels:
    held = list(values)  # type: ignore[call-overload]
    return np.array([*held, None], dtype=object)[:-1]


# Factors ------------------------------------------------------------------------------------------


def _expressions(spec: ModelSpec) -> list[str]:
    return list(dict.fromkeys(f.expr for term in spec.formula for f in term.factors))


def _categories(spec: ModelSpec, expr: str) -> list[object] | None:
    """Levels of a factor; ``None`` if it is none."""
    found: list[object] | None = spec.encoder_state.get(expr, (None, {}))[1].get("categories")
    return found


def _axes(side: Side, levels: Mapping[str, list[object]]) -> dict[str, _Axis] | None:
    """Every factor of a side, on other levels if there are some; ``None`` if one is not known."""
    assert side.spec is not None
    axes: dict[str, _Axis] = {}
    for expr in _expressions(side.spec):
        kind, state = side.spec.encoder_state.get(expr, (None, {}))
        if "categories" in state:
            held = state["contrasts"].contrasts
            axis = _category(expr, held, list(levels.get(expr, state["categories"])))
        elif kind is Factor.Kind.CATEGORICAL or (kind is not None and expr not in side.fields):
            return None
        elif kind is None:
            continue  # a number, or a factor of which no column was encoded
        else:
            names = side.fields[expr]
            same = np.eye(len(names))
            axis = _Axis(len(names), same, names, same, names, category=False)
        if axis is None:
            return None
        axes[expr] = axis
    return axes


def _category(expr: str, held: Contrasts, levels: list[object]) -> _Axis | None:
    """A category; ``None`` if its contrasts do not span the differences of its levels."""
    l = len(levels)
    maps, names = [], []
    for reduced in (False, True):
        if reduced and l == 1:
            coding, fields = np.empty((1, 0)), []
        else:
            coding = np.asarray(held.get_coding_matrix(levels, reduced_rank=reduced), dtype=float)
            fields = list(held.get_coding_column_names(levels, reduced_rank=reduced))
        form = held.get_factor_format(levels, reduced_rank=reduced)
        maps.append(coding)
        names.append(tuple(form.format(name=expr, field=field) for field in fields))
    full, reduced_map = maps
    whole = np.column_stack((np.ones(l), reduced_map))
    if full.shape != (l, l) or whole.shape != (l, l):
        return None
    if min(np.linalg.svd(m, compute_uv=False)[-1] for m in (full, whole)) < 1e-8:
        return None
    return _Axis(l, full, names[0], reduced_map, names[1], category=True)


# Columns ------------------------------------------------------------------------------------------


def _scoped(spec: ModelSpec) -> Iterator[tuple[EncodedTermStructure, ScopedTerm]]:
    for row in spec.structure or ():
        for scoped in row.scoped_terms:
            yield row, scoped


def _names(spec: ModelSpec, axes: Mapping[str, _Axis]) -> tuple[str, ...]:
    return tuple(name for _, scoped in _scoped(spec) for name in _names_of(scoped, axes))


def _names_of(scoped: ScopedTerm, axes: Mapping[str, _Axis]) -> list[str]:
    """Names of the columns of a term, the first factor running fastest."""
    parts = [
        axes[one.factor.expr].reduced_names if one.reduced else axes[one.factor.expr].full_names
        for one in scoped.factors
    ]
    if not parts:
        return ["Intercept"]
    return reduce(lambda done, own: [f"{a}:{b}" for b in own for a in done], parts[1:], [*parts[0]])


def _on_levels(side: Side, levels: Mapping[str, list[object]], axes: Mapping[str, _Axis]) -> Side:
    """The side as it would have been encoded on rows with these levels."""
    assert side.spec is not None
    structure = [
        EncodedTermStructure(
            row.term,
            list(row.scoped_terms),
            [name for scoped in row.scoped_terms for name in _names_of(scoped, axes)],
        )
        for row in side.spec.structure or ()
    ]
    states = dict(side.spec.encoder_state)
    for expr, own in levels.items():
        kind, state = states[expr]
        coding = ContrastsState(state["contrasts"].contrasts, own)
        states[expr] = (kind, {**state, "categories": own, "contrasts": coding})
    spec = side.spec.update(structure=structure, encoder_state=states)
    return replace(side, names=tuple(spec.column_names), spec=spec)


def _map(
    spec: ModelSpec,
    own: Mapping[str, _Axis],
    whole: Mapping[str, _Axis],
    places: Mapping[str, np.ndarray],
) -> Floats:
    """Encoded columns on all levels in terms of those that were encoded on their own."""
    spanned = dict(_spanned(spec, own))
    p = sum(len(_names_of(scoped, own)) for _, scoped in _scoped(spec))
    blocks = [np.empty((p, 0))]
    for row, scoped in _scoped(spec):
        exprs = [f.expr for f in row.term.factors if f.expr in own]
        flags = {one.factor.expr: one.reduced for one in scoped.factors}
        combinations = _combinations(exprs, own, spanned, p)
        coding = [
            _rows_at(
                whole[e].coded(flags[e]) if e in flags else np.ones((whole[e].size, 1)),
                places.get(e),
            )
            for e in exprs
        ]
        product: Floats = np.ones((1, 1))
        for new in coding:
            product = np.asarray(np.kron(new, product), dtype=np.float64)
        blocks.append(scoped.scale * combinations @ product)
    return np.column_stack(blocks)


def _rows_at(coding: Floats, places: np.ndarray | None) -> Floats:
    return coding if places is None else coding[places]


def _spanned(
    spec: ModelSpec, axes: Mapping[str, _Axis]
) -> Iterator[tuple[frozenset[str], tuple[list[str], Floats]]]:
    """By the factors with contrasts: their products in terms of the encoded columns.

    Yields the factors, their order, and an array ``(p, ...)`` with an axis for each.
    """
    p = sum(len(_names_of(scoped, axes)) for _, scoped in _scoped(spec))
    start = 0
    for _, scoped in _scoped(spec):
        factors = [one.factor.expr for one in scoped.factors]
        sizes = [axes[o.factor.expr].coded(o.reduced).shape[1] for o in scoped.factors]
        width = int(np.prod(sizes, dtype=int))
        block = np.zeros((p, width))
        block[start : start + width] = np.eye(width) / scoped.scale
        start += width
        block = block.reshape((p, *sizes), order="F")
        free = [
            one.factor.expr
            for one in scoped.factors
            if axes[one.factor.expr].category and not one.reduced
        ]
        for axis in (factors.index(expr) + 1 for expr in free):
            block = _along(block, axis, _inverse(axes[factors[axis - 1]].full))
        yield from _subsets(block, factors, free, axes)


def _subsets(
    block: Floats, factors: list[str], free: list[str], axes: Mapping[str, _Axis]
) -> Iterator[tuple[frozenset[str], tuple[list[str], Floats]]]:
    """Products of the factors with some of the free ones left out (summed over their levels)."""
    if not free:
        yield frozenset(factors), (factors, block)
        return
    expr, *rest = free
    axis = factors.index(expr) + 1
    kept = _along(block, axis, axes[expr].reduced)
    yield from _subsets(kept, factors, rest, axes)
    others = [factor for factor in factors if factor != expr]
    yield from _subsets(block.sum(axis=axis), others, rest, axes)


def _combinations(
    exprs: Sequence[str],
    axes: Mapping[str, _Axis],
    spanned: Mapping[frozenset[str], tuple[list[str], Floats]],
    p: int,
) -> Floats:
    """All combinations of levels of factors, ``(p, w)`` in terms of the encoded columns."""
    sizes = [axes[expr].size for expr in exprs]
    total = np.zeros((p, *sizes))
    categories = [expr for expr in exprs if axes[expr].category]
    numbers = [expr for expr in exprs if not axes[expr].category]
    for chosen in _choices(categories):
        order, block = spanned[frozenset([*chosen, *numbers])]
        for expr in categories:
            whole = np.column_stack((np.ones(axes[expr].size), axes[expr].reduced))
            back = _inverse(whole)
            if expr in chosen:
                block = _along(block, order.index(expr) + 1, back[1:])
            else:
                block = block[..., None] * back[0]
                order = [*order, expr]
        total += block.transpose(0, *(order.index(expr) + 1 for expr in exprs))
    return total.reshape((p, -1), order="F")


def _choices(items: Sequence[str]) -> Iterator[list[str]]:
    """All subsets, in the order of the items."""
    for number in range(2 ** len(items)):
        yield [item for i, item in enumerate(items) if number >> i & 1]


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _along(block: Floats, axis: int, matrix: Floats) -> Floats:
    """A linear map of one axis of an array."""
    return np.moveaxis(np.tensordot(block, matrix, axes=(axis, 0)), -1, axis)
