"""How the rows behind cross-products were encoded; a fit from them holds no other design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from interlace.design import keys
from interlace.design.design import Design, Encoding
from interlace.design.encode import Side
from interlace.design.formula import listed_by_lme4
from interlace.design.frame import Codes, Levels
from interlace.design.groups import Grouping, crossed
from interlace.errors import InterlaceError
from interlace.sums.crossprod import CrossProducts
from interlace.sums.joint import Joint
from interlace.sums.terms import ReTerm


@dataclass(frozen=True, eq=False)
class Recipe:
    """How rows were encoded, and how many were left out for missing values."""

    encoding: Encoding
    n_dropped: int

    def joined(
        self, other: object, left: Sequence[ReTerm], right: Sequence[ReTerm]
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
        a, b = self.encoding, other.encoding
        random = a.formula.random
        at = [[_position(e, term.expr, term.group) for term in random] for e in (a, b)]
        groups = {
            term.group: _union(a.groups[i], b.groups[j])
            for term, i, j in zip(random, *at, strict=True)
        }
        sizes = [len(groups[term.group][0].cells) for term in random]
        widths = [left[i].k for i in at[0]]
        order, backwards = listed_by_lme4(random, sizes, widths)
        found = [groups[random[i].group] for i in order]
        terms = [
            replace(left[at[0][i]], levels=group.labels, backwards=backwards)
            for i, (group, _, _) in zip(order, found, strict=True)
        ]
        encoding = replace(
            a,
            slopes=tuple(a.slopes[at[0][i]] for i in order),
            groups=tuple(group for group, _, _ in found),
        )
        return Joint(
            recipe=Recipe(encoding, self.n_dropped + other.n_dropped),
            terms=tuple(terms),
            left=tuple((at[0][i], places) for i, (_, places, _) in zip(order, found, strict=True)),
            right=tuple((at[1][i], places) for i, (_, _, places) in zip(order, found, strict=True)),
        )


def recipe_of(design: Design | None, A: CrossProducts) -> Recipe:
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
    categories = two.categories
    for expr, levels in one.categories.items():
        others = categories.get(expr, levels)
        if levels is not None and others is not None and not np.array_equal(levels, others):
            yield (
                f"'{expr}' has the categories {_listed(levels)} in one and {_listed(others)} in "
                "the other; make them of all rows at once"
            )
            return
    states = [{} if s.spec is None else s.spec.transform_state for s in (one, two)]
    for text, state in states[0].items():
        if not _same_state(state, states[1].get(text)):
            yield (
                f"'{text}' was computed from the rows of each alone; make them of all rows at "
                "once, or leave the transform out"
            )
            return
    if one.names != two.names:
        yield f"columns are {', '.join(one.names)} in one and {', '.join(two.names)} in the other"


def _same_state(one: object, two: object) -> bool:
    """Whether two states of a transform are equal, arrays in them included."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(_same_state(v, two[k]) for k, v in one.items())
    return np.array_equal(np.asarray(one), np.asarray(two))


def _listed(levels: Levels) -> str:
    texts = [repr(level) for level in levels.tolist()]
    return ", ".join(texts) if len(texts) <= 10 else f"{', '.join(texts[:10])}, ..."


# Levels of both -----------------------------------------------------------------------------------


def _position(encoding: Encoding, expr: str, group: tuple[str, ...]) -> int:
    """Position of a random term of the formula among the terms of the design."""
    parts = zip(encoding.slopes, encoding.groups, strict=True)
    return [(slope.text, g.columns) for slope, g in parts].index((expr, group))


def _union(a: Grouping, b: Grouping) -> tuple[Grouping, Codes, Codes]:
    """Grouping with the levels of two, and the positions of theirs in it."""
    pairs = zip(a.columns, a.levels, b.levels, strict=True)
    levels = [_union_of_levels(name, one, two) for name, one, two in pairs]
    parts = [
        np.concatenate([keys.positions(g.levels[j], own)[g.cells[:, j]] for g in (a, b)])
        for j, own in enumerate(levels)
    ]
    whole, codes = crossed(a.columns, levels, parts)
    first, second = np.split(codes, [len(a.cells)])
    return whole, first, second


def _union_of_levels(name: str, one: Levels, two: Levels) -> Levels:
    """Levels of both, each once; sorted if those of both are."""
    if keys.has_text(one) != keys.has_text(two):
        raise InterlaceError(
            f"cross-products cannot be added: '{name}' holds text in only one of them"
        )
    new = two[keys.positions(two, one) < 0]
    if not len(new) and len(one) == len(two):
        return one
    whole = keys.joined((one, new)) if len(new) else one
    if not (pd.Index(one).is_monotonic_increasing and pd.Index(two).is_monotonic_increasing):
        return whole
    try:
        return np.sort(whole)
    except TypeError as error:
        raise InterlaceError(
            f"cross-products cannot be added: '{name}' holds {one.tolist()[0]!r} in one and "
            f"{two.tolist()[0]!r} in the other, which cannot be compared"
        ) from error
