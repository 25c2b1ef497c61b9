"""Numeric columns as the expressions of a formula see them: numbers, whatever they are stored as.

Powers and sums of small integers wrap, logarithms of them are float16, and the sum of two booleans
is their "or": so every numeric column is float64 before an expression is evaluated.  Where the
values of a column label categories, as in ``C(year)``, they keep their type, and so their names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.materializers import PandasMaterializer
from formulaic.parser.types import Factor
from formulaic.utils.code import sanitize_variable_names
from formulaic.utils.layered_mapping import LayeredMapping
from formulaic.utils.stateful_transforms import stateful_eval
from formulaic.utils.variables import Variable
from interface_meta import override

from interlace.design.frame import Column, is_numeric
from interlace.errors import InterlaceError

# Calls whose arguments are labels of categories.
_OF_LABELS = ("C", "hashed")
# Levels of a factor, and products of the levels of several, that may have a column each.
MOST_LEVELS, _MOST_PRODUCTS = 5_000, 20_000
_LOGIC = (ast.BitAnd, ast.BitOr, ast.BitXor)


class Use(IntEnum):
    """What an expression makes of a column; the larger one counts where there are several."""

    LABELS = 0  # its values name categories
    LOGIC = 1  # it is combined by "and", "or", "not"
    LABELS_COMPUTED = 2  # categories are computed from it
    NUMBERS = 3


def as_number(column: Column) -> Column:
    """A plain column as float64, if it holds numbers or booleans."""
    return np.asarray(column, dtype=np.float64) if is_numeric(column) else column


def as_used(column: Column, use: Use) -> Column:
    """A plain column of numbers or booleans in the type that an expression needs."""
    kind = column.dtype.kind
    if use is Use.LABELS or (use is Use.LOGIC and kind == "b"):
        return column
    if use is not Use.NUMBERS and kind in "iub":
        return np.asarray(column, dtype=np.uint64 if kind == "u" else np.int64)
    return as_number(column)


class Materializer(PandasMaterializer):  # type: ignore[misc]
    """Evaluates expressions on a frame whose numeric columns are float64.

    ``stored`` are the numeric columns as they are stored, for expressions that make categories.
    """

    def __init__(
        self, data: Any, stored: Mapping[str, Column], context: Mapping[str, object] | None
    ) -> None:
        super().__init__(data, context=context)
        self.stored = stored

    @override
    def _evaluate(self, expr: str, metadata: Any, spec: ModelSpec) -> tuple[Any, set[Variable]]:
        variables: set[Variable] = set()
        typed = {
            name: pd.Series(as_used(self.stored[name], use), self.data.index, copy=False)
            for name, use in uses(expr).items()
            if use is not Use.NUMBERS and name in self.stored
        }
        known = self.layered_context
        if typed:
            known = known.with_layers(LayeredMapping(typed, self.data_context, name="data"))
        value = stateful_eval(
            expr, known, {expr: metadata}, spec.transform_state, spec, variables=variables
        )
        _refuse_many(expr, value)
        return value, variables

    @override
    def _get_columns_for_term(
        self, factors: list[dict[str, Any]], spec: ModelSpec, scale: float = 1
    ) -> dict[str, Any]:
        count = prod(len(factor) for factor in factors)
        if count > _MOST_PRODUCTS and sum(len(factor) > 1 for factor in factors) > 1:
            firsts = ":".join(next(iter(factor)) for factor in factors if factor)
            raise InterlaceError(
                f"the product of factors that begins with '{firsts}' has {count:,} columns: let "
                "the combinations of its levels group a random effect, (1 | a:b)"
            )
        columns: dict[str, Any] = super()._get_columns_for_term(factors, spec, scale)
        return columns


def _refuse_many(expr: str, value: Any) -> None:
    """Refuse categories so many that a column for each would fill the memory."""
    values = getattr(value, "__wrapped__", value)
    if isinstance(values, Mapping) or np.ndim(values) != 1 or len(values) <= MOST_LEVELS:
        return
    metadata = getattr(value, "__formulaic_metadata__", None)
    made = metadata is not None and metadata.kind is Factor.Kind.CATEGORICAL
    array = np.asarray(values) if not isinstance(values, pd.Series) else values.array
    if not made and (isinstance(array, pd.Categorical) or array.dtype.kind in "biufcmM"):
        return  # numbers; columns of text are counted where they are read
    count = pd.Series(array).nunique()
    if count > MOST_LEVELS:
        raise InterlaceError(
            f"'{expr}' has {count:,} different values, too many for a column each: let them group "
            "a random effect, as in (1 | g) for a column g of them, or use them as numbers"
        )


@lru_cache(maxsize=512)
def uses(expr: str) -> Mapping[str, Use]:
    """What an expression makes of every name it reads."""
    aliases: dict[str, str] = {}
    tree = ast.parse(sanitize_variable_names(expr, {}, aliases), mode="eval")
    found: dict[str, Use] = {}
    for alias, use in _uses(tree.body, Use.NUMBERS):
        name = aliases.get(alias, alias)
        found[name] = max(use, found.get(name, use))
    return found


def _uses(node: ast.AST, above: Use) -> Iterator[tuple[str, Use]]:
    """Names in a part of an expression; ``above`` is what is made of its value."""
    if isinstance(node, ast.Name):
        yield node.id, above
    elif isinstance(node, ast.Call):
        yield from _in_call(node, above)
    else:
        logic = isinstance(node, ast.BinOp) and isinstance(node.op, _LOGIC)
        logic |= isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert)
        below = Use.LOGIC if logic else _computed(above)
        for part in ast.iter_child_nodes(node):
            yield from _uses(part, below)


def _in_call(node: ast.Call, above: Use) -> Iterator[tuple[str, Use]]:
    """Names in a call: a column's (``Q("a b")``), of labels, or of values that are passed on."""
    called = ast.unparse(node.func)
    if called == "Q" and node.args and isinstance(node.args[0], ast.Constant):
        yield str(node.args[0].value), above
        return
    inner = Use.LABELS if called in _OF_LABELS else above if called == "I" else _computed(above)
    if isinstance(node.func, ast.Attribute):  # a conversion is of the values as they are stored
        yield from _uses(node.func.value, Use.LABELS if node.func.attr == "astype" else inner)
    for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
        yield from _uses(part, inner)


def _computed(above: Use) -> Use:
    """What is made of a value that goes into a computation."""
    return Use.LABELS_COMPUTED if above in (Use.LABELS, Use.LABELS_COMPUTED) else Use.NUMBERS
