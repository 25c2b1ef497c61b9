"""How the rows behind cross-products were encoded; a fit from them holds no other design."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pandas as pd
from formulaic.transforms import TRANSFORMS

from interlace.covariance.patterned import TEMPLATES
from interlace.design import keys
from interlace.design.design import Design, Encoding
from interlace.design.encode import Side
from interlace.design.frame import Codes, Levels
from interlace.design.groups import Grouping, crossed
from interlace.design.levels import Widened, union, widened
from interlace.design.order import listed_by_lme4
from interlace.design.sides import names_in
from interlace.errors import InterlaceError
from interlace.sums.joint import Joint, Share
from interlace.sums.terms import ReTerm


@dataclass(frozen=True, eq=False)
class Recipe:
    """How rows were encoded, and how many were left out for missing values.

    ``orders`` are declared orders of the levels of columns, those that do not occur included.
    """

    encoding: Encoding
    n_dropped: int
    orders: Mapping[str, Levels] = field(default_factory=dict)

    def joined(
        self,
        other: object,
        left: Sequence[ReTerm],
        right: Sequence[ReTerm],
        *,
        within: bool = False,
    ) -> Joint | None:
        """What two sets of rows, encoded alike on levels of their own, have in common.

        Raises
        ------
        InterlaceError
            They were not encoded alike; the message says in what.
        """
        if not isinstance(other, Recipe):
            return None
        for difference in _differences(self.encoding, other.encoding):
            raise InterlaceError(f"cross-products cannot be added: {difference}")
        pair = _matched(self, other)
        if within:
            _refuse_more(pair.groups, [(self.encoding.fixed, pair.fixed.side)])
        n_dropped = self.n_dropped + (-1 if within else 1) * other.n_dropped
        recipe = Recipe(pair.encoding, max(n_dropped, 0), pair.orders)
        names = [recipe.encoding.fixed.names for recipe in (self, other)]
        shares = [pair.share(k, own) for k, own in enumerate(names)]
        return Joint(recipe, pair.fixed.side.names, pair.terms(left), *shares)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two encodings brought together: sides, groups and slopes on the levels of both.

    ``at[k]`` has the positions of the random terms in encoding ``k``, in the order in which they
    are listed in the joint one; ``groups`` the codes of its levels in either.
    """

    encoding: Encoding
    orders: dict[str, Levels]
    fixed: Widened
    at: tuple[list[int], list[int]]
    groups: list[tuple[Grouping, Codes, Codes]]
    slopes: list[Widened]
    backwards: bool

    def terms(self, left: Sequence[ReTerm]) -> tuple[ReTerm, ...]:
        """The random terms, with the structures of those of the first."""
        return tuple(
            replace(
                left[i],
                columns=slope.side.names,
                template=TEMPLATES[left[i].template.name](len(slope.side.names)),
                levels=group.labels,
                backwards=self.backwards,
            )
            for i, slope, (group, _, _) in zip(self.at[0], self.slopes, self.groups, strict=True)
        )

    def share(self, k: int, names: tuple[str, ...]) -> Share:
        """Where the columns ``names`` and the levels of encoding ``k`` are in the joint one."""
        return Share(
            names=names,
            fixed=(self.fixed.left, self.fixed.right)[k],
            random=tuple(
                (i, codes[k]) for i, (_, *codes) in zip(self.at[k], self.groups, strict=True)
            ),
            slopes=tuple((slope.left, slope.right)[k] for slope in self.slopes),
        )


def _matched(one: Recipe, two: Recipe) -> _Pair:
    """Two encodings of one formula on the levels of both."""
    a, b = one.encoding, two.encoding
    orders, random = _orders(one.orders, two.orders), a.formula.random
    at = [[_position(e, term.expr, term.group) for term in random] for e in (a, b)]
    groups = {
        term.group: _union(a.groups[i], b.groups[j], orders)
        for term, i, j in zip(random, *at, strict=True)
    }
    slopes = [_joined_sides(a.slopes[i], b.slopes[j], orders) for i, j in zip(*at, strict=True)]
    sizes = [len(groups[term.group][0].cells) for term in random]
    order, backwards = listed_by_lme4(random, sizes, [len(one.side.names) for one in slopes])
    listed = [groups[random[i].group] for i in order]
    fixed = _joined_sides(a.fixed, b.fixed, orders)
    encoding = replace(
        a,
        fixed=fixed.side,
        slopes=tuple(slopes[i].side for i in order),
        groups=tuple(group for group, _, _ in listed),
    )
    places = [at[0][i] for i in order], [at[1][i] for i in order]
    return _Pair(encoding, orders, fixed, places, listed, [slopes[i] for i in order], backwards)


class Described(Protocol):
    """Sums, or rows that are not held, that say how they were encoded."""

    @property
    def recipe(self) -> object: ...


def recipe_of(design: Design | None, A: Described) -> Recipe:
    """The recipe of rows that are held, or of those behind cross-products.

    Raises
    ------
    InterlaceError
        There are no rows, and the cross-products do not say.
    """
    if design is not None:
        return Recipe(design.encoding, design.n_dropped)
    if isinstance(A.recipe, Recipe):
        return A.recipe
    raise InterlaceError(
        "these cross-products do not say how their rows were encoded: make them with "
        "interlace.cross_products()"
    )


def require_rows(design: Design | None, verb: str) -> Design:
    """The design of a fit that holds its rows.

    Raises
    ------
    InterlaceError
        It holds none.
    """
    if design is None:
        raise InterlaceError(
            f"{verb} needs the rows of the model, and this one was fitted without holding them: "
            "fit it to a frame in memory (data=)"
        )
    return design


# What differs -------------------------------------------------------------------------------------


def _differences(a: Encoding, b: Encoding) -> Iterator[str]:
    """Why rows were not encoded alike, in words."""
    if a.formula != b.formula:
        yield f"one is of '{a.formula}', the other of '{b.formula}'"
        return
    for argument in ("weights", "offset"):
        one, two = (getattr(e, f"{argument}_column") for e in (a, b))
        if one != two:
            yield f"{argument} is {one!r} in one and {two!r} in the other"
    if a.offset_array != b.offset_array:
        yield "only one has an array as offset"
    slopes = [
        (side, b.slopes[_position(b, side.text, group.columns)])
        for side, group in zip(a.slopes, a.groups, strict=True)
    ]
    sides = [(a.response, b.response), (a.fixed, b.fixed), *slopes]
    for one, two in [*sides, *zip(a.offset, b.offset, strict=True)]:
        yield from _side_differences(one, two)


def _side_differences(one: Side, two: Side) -> Iterator[str]:
    states = [{} if s.spec is None else s.spec.transform_state for s in (one, two)]
    for text, state in states[0].items():
        if not _same_state(state, states[1].get(text)):
            yield (
                f"'{text}' was computed from the rows of each alone; make them of all rows at "
                "once, or leave the transform out"
            )
            return
    if (one.spec is None) != (two.spec is None) or one.categories.keys() != two.categories.keys():
        yield f"columns are {', '.join(one.names)} in one and {', '.join(two.names)} in the other"


def _same_state(one: object, two: object) -> bool:
    """Whether two states of a transform are equal, arrays in them included."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(_same_state(v, two[k]) for k, v in one.items())
    return np.array_equal(np.asarray(one), np.asarray(two))


def _listed(levels: Levels) -> str:
    texts = [repr(level) for level in levels.tolist()]
    return ", ".join(texts) if len(texts) <= 10 else f"{', '.join(texts[:10])}, ..."


def _refuse_more(
    groups: Iterable[tuple[Grouping, Codes, Codes]], sides: Iterable[tuple[Side, Side]]
) -> None:
    """Refuse to take away rows with levels that the others do not have."""
    for group, own, _ in groups:
        new = np.setdiff1d(np.arange(len(group.cells)), own)
        if len(new):
            raise InterlaceError(
                f"cross-products cannot be taken away: '{':'.join(group.columns)}' has the level "
                f"{group.labels[new[:1]].tolist()[0]!r} in these rows alone"
            )
    for one, both in sides:
        for expr, levels in both.categories.items():
            known = one.categories[expr]
            if levels is not None and known is not None and len(levels) > len(known):
                raise InterlaceError(
                    f"cross-products cannot be taken away: '{expr}' has levels in these rows alone"
                )


# Levels of both -----------------------------------------------------------------------------------


def _position(encoding: Encoding, expr: str, group: tuple[str, ...]) -> int:
    """Position of a random term of the formula among the terms of the design."""
    parts = zip(encoding.slopes, encoding.groups, strict=True)
    return [(slope.text, g.columns) for slope, g in parts].index((expr, group))


def _joined_sides(one: Side, two: Side, orders: Mapping[str, Levels]) -> Widened:
    """Two sides on the categories of both."""
    if one.names == two.names and all(
        own is other or (own is not None and other is not None and np.array_equal(own, other))
        for own, other in zip(one.categories.values(), two.categories.values(), strict=True)
    ):
        return Widened(one, np.eye(len(one.names)), np.eye(len(one.names)))
    found = widened(one, two, {expr: orders[name] for expr, name in _plain(one) if name in orders})
    if found is not None:
        return found
    for expr, levels in one.categories.items():
        others = two.categories[expr]
        if levels is not None and others is not None and not np.array_equal(levels, others):
            raise InterlaceError(
                f"cross-products cannot be added: '{expr}' has the categories {_listed(levels)} in "
                f"one and {_listed(others)} in the other; make them of all rows at once"
            )
    raise InterlaceError(
        f"cross-products cannot be added: columns are {', '.join(one.names)} in one and "
        f"{', '.join(two.names)} in the other"
    )


def _plain(side: Side) -> Iterator[tuple[str, str]]:
    """Factors that are a column, or one in C(), and its name."""
    for expr in side.categories:
        read = sorted(frozenset.union(*names_in(f"{{{expr}}}" if "(" in expr else f"`{expr}`")))
        columns = [name for name in read if name not in TRANSFORMS]
        if len(columns) == 1:
            yield expr, columns[0]


def _orders(one: Mapping[str, Levels], two: Mapping[str, Levels]) -> dict[str, Levels]:
    """Declared orders of levels in either set of rows."""
    found = dict(one)
    for name, own in two.items():
        found[name] = own if name not in one else _array(union(name, list(one[name]), own, None))
    return found


def _array(values: Sequence[object]) -> Levels:
    return np.array([*values, None], dtype=object)[:-1]


def _union(a: Grouping, b: Grouping, orders: Mapping[str, Levels]) -> tuple[Grouping, Codes, Codes]:
    """Grouping with the levels of two, and the positions of theirs in it."""
    pairs = zip(a.columns, a.levels, b.levels, strict=True)
    levels = [_union_of_levels(name, one, two, orders.get(name)) for name, one, two in pairs]
    parts = [
        np.concatenate([keys.positions(g.levels[j], own)[g.cells[:, j]] for g in (a, b)])
        for j, own in enumerate(levels)
    ]
    whole, codes = crossed(a.columns, levels, parts)
    first, second = np.split(codes, [len(a.cells)])
    return whole, first, second


def _union_of_levels(name: str, one: Levels, two: Levels, order: Levels | None) -> Levels:
    """Levels of both, each once: in their declared order, or sorted if those of both are."""
    if keys.has_text(one) != keys.has_text(two):
        raise InterlaceError(
            f"cross-products cannot be added: '{name}' holds text in only one of them"
        )
    new = two[keys.positions(two, one) < 0]
    if not len(new) and len(one) == len(two):
        return one
    whole = keys.joined((one, new)) if len(new) else one
    if order is not None and (at := keys.positions(whole, order)).min(initial=0) >= 0:
        return whole[np.argsort(at)]
    if not (pd.Index(one).is_monotonic_increasing and pd.Index(two).is_monotonic_increasing):
        return whole
    try:
        return np.sort(whole)
    except TypeError as error:
        raise InterlaceError(
            f"cross-products cannot be added: '{name}' holds {one.tolist()[0]!r} in one and "
            f"{two.tolist()[0]!r} in the other, which cannot be compared"
        ) from error
