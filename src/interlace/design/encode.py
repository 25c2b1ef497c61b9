"""Sides of a formula + plain columns -> matrices; the same again later.

Columns and products of numeric columns have no state, so numpy forms them; formulaic evaluates all
else and keeps factor levels and states of transforms in a ``ModelSpec``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.errors import DataMismatchWarning, FormulaicError
from formulaic.materializers.types import EvaluatedFactor, FactorValues
from formulaic.model_spec import ModelSpecs
from formulaic.parser.types import Factor
from formulaic.utils.cast import as_columns
from numpy.typing import NDArray

from interlace.design.frame import (
    Codes,
    Column,
    Levels,
    is_numeric,
    kind,
    recode,
)
from interlace.design.keys import Known
from interlace.design.numbers import Materializer, as_number
from interlace.design.sides import model_terms, names_in
from interlace.design.structure import Structure, structure_of
from interlace.errors import InterlaceError

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = Mapping[str, Column]
Context: TypeAlias = Mapping[str, object]

# How the column called 1 is spelled for formulaic, which takes `1` for the intercept.
_NUMERAL = re.compile(r"Q\(['\"]([^'\"]*)['\"]\)")
# Sides of plain columns with more columns are formulaic's: codings of levels are dense squares.
_MOST_PRODUCTS = 500
# What a transform may raise on data it was not made for; formulaic wraps only some of it.
_EVALUATION_ERRORS = (
    *(FormulaicError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(NameError, SyntaxError, NotImplementedError, RecursionError, AssertionError),
)


@dataclass(frozen=True)
class SideTerm:
    """A term of one side of a formula: its columns of the matrix, and the factors multiplied.

    Parameters
    ----------
    label
        The term as formulaic writes it, ``"a:x"``; ``"Intercept"``.
    columns
        Positions of its columns, redundant ones included.
    factors
        Expressions of its factors, ``("a", "x")``; none for the intercept.
    """

    label: str
    columns: tuple[int, ...]
    factors: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a formula, with the encoding of the data it was fitted to.

    Parameters
    ----------
    text
        Formulaic text of the side.
    names
        ``p`` column names.
    spec
        Factor levels and states of transforms; ``None`` for numeric columns and their products.
    fields
        Names of the columns of every numeric factor, of those that formulaic evaluated.
    """

    text: str
    names: tuple[str, ...]
    spec: ModelSpec | None
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def categorical(self) -> bool:
        """Whether the first factor of the side was encoded as categories."""
        if self.spec is None:
            return False
        expr = model_terms(self.text)[0].factors[0].expr
        return expr in self.categories

    @property
    def categories(self) -> dict[str, Levels | None]:
        """Levels of the factors that are encoded as categories; ``None`` if hashed."""
        states = {} if self.spec is None else self.spec.encoder_state
        return {
            expr: None if state.get("categories") is None else np.asarray(state["categories"])
            for expr, (kind, state) in states.items()
            if kind is Factor.Kind.CATEGORICAL
        }

    @cached_property
    def known(self) -> dict[str, Known]:
        """Levels of the columns that are encoded as categories by themselves."""
        states = {} if self.spec is None else self.spec.encoder_state
        held = {
            name: states[name][1].get("categories")
            for name in _looked_up(self.text) & states.keys()
        }
        return {n: Known(np.asarray(pd.Index(own))) for n, own in held.items() if own is not None}

    @cached_property
    def structure(self) -> Structure | None:
        """How the columns are products of those of the factors, where they say so."""
        return structure_of(self.spec, [term.factors for term in self.terms], len(self.names))

    def __reduce__(self) -> tuple[type[Side], tuple[object, ...]]:
        return Side, (self.text, self.names, self.spec, self.fields)  # the rest is made again

    @property
    def terms(self) -> tuple[SideTerm, ...]:
        """The terms, in the order of their columns."""
        if self.spec is None:
            products = enumerate(_products(self.text) or ())
            return tuple(SideTerm(self.names[j], (j,), product) for j, product in products)
        return tuple(
            SideTerm("Intercept", tuple(columns), ())
            if str(term) == "1"
            else SideTerm(str(term), tuple(columns), tuple(f.expr for f in term.factors))
            for term, columns in self.spec.term_indices.items()
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """A side, its ``(n, p)`` matrix, and the factors that cannot be read off its columns."""

    side: Side
    matrix: Floats
    factors: Columns = field(default_factory=dict)


def encode(
    texts: Sequence[str], columns: Columns, n: int, context: Context | None = None
) -> list[Encoded]:
    """Matrices of several sides, evaluated together, so that a shared factor is evaluated once.

    Parameters
    ----------
    texts
        Formulaic texts.
    columns
        Plain columns of ``n`` complete rows.
    n
        Number of rows.
    context
        Further names that the texts may use.

    Raises
    ------
    InterlaceError
        A side cannot be evaluated on these columns.
    """
    wanted = dict.fromkeys(texts)
    done = {text: _products_encoded(text, columns, n) for text in wanted}
    rest = [text for text in wanted if done[text] is None]
    if rest:
        done.update(zip(rest, _formulaic_encoded(rest, columns, n, context), strict=True))
    return [encoded for text in texts if (encoded := done[text]) is not None]


def replay_side(side: Side, columns: Columns, n: int, context: Context | None = None) -> Floats:
    """Matrix ``(n, p)`` of a side for other rows: same levels, same states of transforms.

    Raises
    ------
    InterlaceError
        A category that was not there in fitting, or a column of another kind.
    """
    if not n:
        return np.empty((0, len(side.names)))
    codes = _known_codes(side, columns)
    if side.spec is None:
        return _multiplied(_products(side.text) or (), columns, n)
    if _of_columns(side) and (structure := side.structure) is not None:
        return structure.matrix(codes, _numbers(structure, columns), n)
    levels = {name: pd.Index(known.levels) for name, known in side.known.items()}
    fitted = dict(columns) | {
        name: pd.Categorical.from_codes(own, categories=levels[name]) for name, own in codes.items()
    }
    materializer = _materializer([side.text], fitted, n, context)
    with _evaluating(materializer, side.spec):
        return _as_floats(materializer.get_model_matrix(side.spec).__wrapped__, n)


def first_nonfinite(encoded: Encoded) -> tuple[str, int, float] | None:
    """Column, row, and value of the first entry that is not finite, ``None`` without one."""
    if encoded.side.spec is None:
        return None  # products of columns that were checked
    finite = np.isfinite(encoded.matrix)
    if finite.all():
        return None
    row, column = (int(i) for i in np.argwhere(~finite)[0])
    return encoded.side.names[column], row, float(encoded.matrix[row, column])


# Columns and their products -----------------------------------------------------------------------


@lru_cache(maxsize=512)
def _products(text: str) -> tuple[tuple[str, ...], ...] | None:
    """Columns multiplied in each term, if all terms are products of columns (``()``: intercept)."""
    products: list[tuple[str, ...]] = []
    for factors in (term.factors for term in model_terms(text)):
        if all(_is_column(factor) for factor in factors):
            products.append(tuple(_NUMERAL.sub(r"\1", factor.expr) for factor in factors))
        elif [factor.expr for factor in factors] == ["1"]:
            products.append(())
        else:
            return None
    return tuple(products)


def _is_column(factor: Factor) -> bool:
    numeral = _NUMERAL.fullmatch(factor.expr) is not None
    return factor.eval_method is Factor.EvalMethod.LOOKUP or numeral


def _products_encoded(text: str, columns: Columns, n: int) -> Encoded | None:
    products = _products(text)
    if products is None or not all(
        name in columns and is_numeric(columns[name]) for names in products for name in names
    ):
        return None
    names = tuple(":".join(product) or "Intercept" for product in products)
    constant = products == ((),)
    matrix = np.broadcast_to(1.0, (n, 1)) if constant else _multiplied(products, columns, n)
    return Encoded(Side(text, names, None), matrix)


def _multiplied(products: Sequence[tuple[str, ...]], columns: Columns, n: int) -> Floats:
    matrix = np.empty((n, len(products)), order="F")
    for j, names in enumerate(products):
        matrix[:, j] = np.asarray(columns[names[0]], dtype=np.float64) if names else 1.0
        for name in names[1:]:
            matrix[:, j] *= np.asarray(columns[name], dtype=np.float64)
    return matrix


# All else, by formulaic ---------------------------------------------------------------------------


def _formulaic_encoded(
    texts: Sequence[str], columns: Columns, n: int, context: Context | None
) -> Iterator[Encoded]:
    # One state for all sides: formulaic records the levels of a factor where it meets it first.
    transform_state: dict[str, object] = {}
    encoder_state: dict[str, object] = {}
    specs = ModelSpecs(
        **{
            f"side{i}": ModelSpec(
                model_terms(text),
                output="numpy",
                na_action="ignore",
                transform_state=transform_state,
                encoder_state=encoder_state,
            )
            for i, text in enumerate(texts)
        }
    )
    materializer = _materializer(texts, columns, n, context)
    with _evaluating(materializer, specs.side0):
        matrices = materializer.get_model_matrix(specs)
        results = [getattr(matrices, f"side{i}") for i in range(len(texts))]
        floats = [_as_floats(result.__wrapped__, n) for result in results]
    for text, result, matrix in zip(texts, results, floats, strict=True):
        spec = result.model_spec
        fields = _fields(spec, materializer.factor_cache)
        side = Side(text, tuple(spec.column_names), spec, fields)
        yield Encoded(side, matrix, _factor_values(side, materializer.factor_cache))


def _fields(
    spec: ModelSpec, evaluated: Mapping[str, EvaluatedFactor]
) -> dict[str, tuple[str, ...]]:
    """Names of the columns of every numeric factor of a side."""
    found: dict[str, tuple[str, ...]] = {}
    for expr in dict.fromkeys(factor.expr for term in spec.formula for factor in term.factors):
        factor = evaluated[expr]
        if factor.metadata.kind is Factor.Kind.NUMERICAL:
            columns = as_columns(factor.values)
            form = factor.metadata.get_format()
            found[expr] = (
                tuple(form.format(name=expr, field=key) for key in columns)
                if isinstance(columns, dict)
                else (expr,)
            )
    return found


def _factor_values(side: Side, evaluated: Mapping[str, EvaluatedFactor]) -> Columns:
    """Values of the factors of terms that hold a category, unless they are columns of the matrix.

    They are copied, for the caller may change the data.
    """
    categories = set(side.categories)
    alone = {term.factors[0] for term in side.terms if len(term.factors) == 1}
    alone -= {e for e in alone if evaluated[e].metadata.spans_intercept}  # may lack a column there
    crossed = (term.factors for term in side.terms if categories & set(term.factors))
    wanted = dict.fromkeys(factor for factors in crossed for factor in factors)
    return {
        expr: _unwrapped(evaluated[expr].values).copy()
        for expr in wanted
        if expr in categories or expr not in alone
    }


def _unwrapped(values: object) -> Column:
    """Plain values behind what formulaic evaluates, ``(n,)`` or ``(n, c)``."""
    while isinstance(values, FactorValues):
        values = values.__wrapped__
    if isinstance(values, Mapping):
        return np.column_stack([np.asarray(value) for value in values.values()])
    array = values.array if isinstance(values, pd.Series) else values
    return array if isinstance(array, pd.Categorical) else np.asarray(array)


@contextmanager
def _evaluating(materializer: Materializer, spec: ModelSpec) -> Iterator[None]:
    """What goes wrong inside formulaic, as an ``InterlaceError``; results are checked later."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", DataMismatchWarning)
            yield
    except DataMismatchWarning as error:
        raise InterlaceError(_mismatch(spec, materializer)) from error
    except InterlaceError:
        raise
    except _EVALUATION_ERRORS as error:
        if isinstance(error.__cause__, InterlaceError):
            raise error.__cause__ from None
        reason = _unusable_values(materializer) or str(error).replace("`", "'")
        raise InterlaceError(f"the formula cannot be evaluated on this data: {reason}") from error


def _unusable_values(materializer: Materializer) -> str | None:
    """The expression whose values formulaic took for numbers, but that no column can hold."""
    for expr, factor in materializer.factor_cache.items():
        if factor.metadata.kind is Factor.Kind.NUMERICAL and not isinstance(factor.values, dict):
            values = np.asarray(factor.values)
            if values.dtype.kind not in "fiub":
                return f"'{expr}' does not give numbers"
            if values.shape[:1] != (materializer.nrows,):
                return f"'{expr}' does not give one value for each row"
    return None


def _materializer(
    texts: Iterable[str], columns: Columns, n: int, context: Context | None
) -> Materializer:
    """What evaluates sides on their columns; formulaic takes what is not text for numbers."""
    read: dict[str, Column] = {}
    for text in texts:
        looked_up = _looked_up(text)
        for name in sorted(frozenset.union(*names_in(text)) & set(columns)):
            column = columns[name]
            if name in looked_up and not (is_numeric(column) or isinstance(column, pd.Categorical)):
                raise InterlaceError(
                    f"the column '{name}' holds {kind(column)}: convert it to numbers or text"
                )
            read[name] = column
    numbers = {name: as_number(column) for name, column in read.items()}
    stored = {name: column for name, column in read.items() if is_numeric(column)}
    return Materializer(pd.DataFrame(numbers, index=pd.RangeIndex(n), copy=False), stored, context)


def _looked_up(text: str) -> set[str]:
    """Names that are factors of the side by themselves, outside any expression."""
    factors = [factor for term in model_terms(text) for factor in term.factors]
    return {f.expr for f in factors if f.eval_method is Factor.EvalMethod.LOOKUP}


def _of_columns(side: Side) -> bool:
    """Whether all factors are columns, their categories those of the columns as they are."""
    few = len(side.names) <= _MOST_PRODUCTS
    return few and _products(side.text) is not None and side.categories.keys() <= side.known.keys()


def _known_codes(side: Side, columns: Columns) -> dict[str, Codes]:
    """Positions in the known levels of columns that were categories; the others are numbers."""
    codes: dict[str, Codes] = {}
    for name in _looked_up(side.text) & set(columns):
        column = columns[name]
        if name in side.known:
            codes[name] = _on_levels(name, column, side.known[name])
        elif not is_numeric(column):
            raise InterlaceError(
                f"the column '{name}' was numeric when the model was fitted, "
                f"but now holds {kind(column)}"
            )
    return codes


def _on_levels(name: str, column: Column, known: Known) -> Codes:
    codes = recode(column, known)
    if codes.min(initial=0) < 0:
        levels = known.levels.tolist()
        raise InterlaceError(_unknown_level(f"the column '{name}'", column[codes < 0], levels))
    return codes


def _numbers(structure: Structure, columns: Columns) -> dict[str, Floats]:
    """Values of the numeric factors of a side of plain columns, ``(n, 1)``."""
    return {
        expr: np.asarray(columns[_NUMERAL.sub(r"\1", expr)], dtype=np.float64)[:, None]
        for expr in structure.widths
    }


def _unknown_level(what: str, values: Column, known: list[str]) -> str:
    value = values.tolist()[0]
    return (
        f"{what} has the value {value!r}, which was not there when the model was fitted; "
        f"known values: {', '.join(map(repr, known))}"
    )


def _as_floats(matrix: NDArray[np.generic], n: int) -> Floats:
    """What formulaic made of ``n`` rows, checked: it takes some values as they come."""
    if np.iscomplexobj(matrix):
        raise InterlaceError("the formula gives complex numbers: take their real part or size")
    floats = np.asarray(matrix, dtype=np.float64, order="F")
    if len(floats) != n:
        raise InterlaceError(
            f"an expression of the formula gives {len(floats)} values for {n} rows"
        )
    return floats


def _mismatch(spec: ModelSpec, materializer: Materializer) -> str:
    """What formulaic warns of: an expression (``C(x)``) has a value outside its levels."""
    for expr, (_, state) in spec.encoder_state.items():
        known = state.get("categories")
        if known is not None and expr in materializer.factor_cache:
            values = pd.unique(np.asarray(materializer.factor_cache[expr].values))
            unknown = values[~np.isin(values, known)]
            if len(unknown):
                return _unknown_level(f"'{expr}'", unknown, known)
    return "the levels given to C() do not include all values of the column"
