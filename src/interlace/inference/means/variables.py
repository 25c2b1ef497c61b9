"""The columns that the fixed effects read: which are factors, which numbers, and their values."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from formulaic.parser.types import Factor
from formulaic.transforms import TRANSFORMS

from interlace.design.complete import complete_rows
from interlace.design.design import Encoding
from interlace.design.encode import replay_side
from interlace.design.frame import Column, Levels, open_table
from interlace.design.sides import model_terms, names_in
from interlace.sums.terms import Floats

# A call that turns one column into categories and nothing else: C(a), C(a, contr.sum), C(`a b`).
_CATEGORIES = re.compile(r"C\(\s*(?:`([^`]+)`|Q\(\s*['\"](.+?)['\"]\s*\)|([\w.]+))\s*(?:,.*)?\)")


@dataclass(frozen=True, eq=False)
class Variables:
    """Columns behind the fixed effects, in the order of the formula.

    Parameters
    ----------
    encoding
        How rows are encoded.
    names
        The columns read.
    factors
        Levels of those that are categories.
    terms
        Per fixed term, the columns it reads; empty for the intercept.
    """

    encoding: Encoding
    names: tuple[str, ...]
    factors: Mapping[str, Levels]
    terms: tuple[frozenset[str], ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns that are numbers."""
        return tuple(name for name in self.names if name not in self.factors)

    def encode(self, columns: Mapping[str, Column]) -> Floats:
        """All columns of ``X``, redundant ones too, for values of the columns read: ``(m, p)``."""
        sizes = [len(column) for column in columns.values()] or [1]
        table = open_table(dict(columns) or {"": np.zeros(1)}, title="the grid")
        rows = complete_rows({name: table.read(name) for name in columns}, table)
        return replay_side(self.encoding.fixed, rows.columns, sizes[0], self.encoding.context)


def variables_of(encoding: Encoding) -> Variables:
    """The columns that the fixed effects of an encoding read."""
    side = encoding.fixed
    categories = side.categories
    factors: dict[str, Levels] = {}
    names: dict[str, None] = {}
    terms: list[frozenset[str]] = []
    for term in model_terms(side.text):
        reads: dict[str, None] = {}
        for factor in term.factors:
            reads |= dict.fromkeys(_columns(factor, encoding))
            column, levels = level_column(factor.expr), categories.get(factor.expr)
            if levels is not None and column is not None:
                factors.setdefault(column, levels)
        names |= reads
        terms.append(frozenset(reads))
    return Variables(encoding, tuple(names), factors, tuple(terms))


def _columns(factor: Factor, encoding: Encoding) -> Iterator[str]:
    """Columns that one factor of a term reads, in its order."""
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        yield factor.expr
    elif factor.eval_method is Factor.EvalMethod.PYTHON:
        known = {*TRANSFORMS, *dir(builtins), *(encoding.context or {})}
        read = names_in(f"{{{factor.expr}}} - 1")[0] - known
        yield from sorted(read, key=lambda name: (factor.expr.find(name), name))


def level_column(expr: str) -> str | None:
    """The column whose values are the categories of an expression: ``a``, ``C(a, ...)``."""
    if "(" not in expr:
        return expr
    match = _CATEGORIES.fullmatch(expr.strip())
    return None if match is None else next(group for group in match.groups() if group)


def combinations(values: Mapping[str, Sequence[object] | Levels]) -> dict[str, Column]:
    """All combinations of values, those of the first name running fastest."""
    sizes = [len(v) for v in values.values()]
    if not sizes:
        return {}
    at = np.indices(sizes[::-1]).reshape(len(sizes), -1)[::-1]
    return {name: np.asarray(v)[i] for (name, v), i in zip(values.items(), at, strict=True)}
