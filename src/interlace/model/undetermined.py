"""What the data do not determine, in words: columns, group, and the model to fit instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interlace.design.design import Encoding
from interlace.design.encode import SideTerm
from interlace.design.simpler import is_levels, of_effects, random_term
from interlace.estimation.identified import Undetermined
from interlace.sums.terms import Floats, ReTerm

# A direction that moves none of some effects by more than this leaves them alone.
_NIL = 1e-3


def in_words(found: Undetermined, terms: tuple[ReTerm, ...], encoding: Encoding) -> str:
    """The columns whose variances or covariances are open, and a model without them."""
    dropped = _to_drop(found, encoding)
    names = " and ".join(_columns(j, effects, terms[j], encoding) for j, effects in dropped)
    return f"the data do not determine {names}: fit {_without(dropped, encoding)} instead"


def _columns(j: int, effects: list[SideTerm], term: ReTerm, encoding: Encoding) -> str:
    """The variances of some effects of one term."""
    columns = ", ".join(repr(term.columns[c]) for e in effects for c in e.columns)
    variance = "variance" if sum(len(e.columns) for e in effects) == 1 else "variances"
    return f"the {variance} of {columns} by {term.group!r} in {random_term(encoding, j).label}"


def _to_drop(found: Undetermined, encoding: Encoding) -> list[tuple[int, list[SideTerm]]]:
    """Effects without which nothing is open: one if one is enough, else one after the other."""
    order = [
        (j, effect)
        for j in reversed(range(len(found.changes)))
        for effect in reversed(encoding.slopes[j].terms)
    ]
    alone = {j: len(encoding.slopes[j].terms) == 1 for j, _ in order}
    order.sort(key=lambda one: _rank(one[1], alone[one[0]]))
    left = np.eye(len(found.changes[0]))
    for j, effect in order:
        if not len(_null_space(_rows(left, found.changes[j], effect))):
            return [(j, [effect])]
    dropped: dict[int, list[SideTerm]] = {}
    for j, effect in order:
        moved = _rows(left, found.changes[j], effect)
        if np.abs(moved).max(initial=0.0) > _NIL:
            dropped.setdefault(j, []).append(effect)
            left = _null_space(moved) @ left
    return list(dropped.items())


def _rank(effect: SideTerm, alone: bool) -> tuple[int, int]:
    """Slopes come first, those of more factors before others; then terms of one effect."""
    return (0 if effect.factors else 1 if alone else 2, -len(effect.factors))


def _rows(left: Floats, changes: Floats, effect: SideTerm) -> Floats:
    """How the directions that are left move the effects of one summand, ``(m, ...)``."""
    rows = changes[:, list(effect.columns)]
    return np.asarray(left @ rows.reshape(len(changes), -1))


def _null_space(moved: Floats) -> Floats:
    """Combinations of the rows that are zero, as rows."""
    U, s, _ = np.linalg.svd(moved)
    rank = int((s > _NIL).sum())
    return np.asarray(U[:, rank:].T)


def _without(dropped: list[tuple[int, list[SideTerm]]], encoding: Encoding) -> str:
    """The formula without some effects."""
    random = list(encoding.formula.random)
    for j, effects in dropped:
        source = random_term(encoding, j)
        rest = [e for e in encoding.slopes[j].terms if e not in effects]
        if not rest and all(is_levels(encoding.slopes[j], e) for e in effects):
            random[random.index(source)] = replace(source, expr="1", correlated=True)
            continue  # dummies of all levels hold an intercept
        at = random.index(source)
        if rest:
            random[at] = of_effects(source, rest)
        else:
            del random[at]
    return str(replace(encoding.formula, random=tuple(random)))
