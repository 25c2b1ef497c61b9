"""The responses of ``fit_many``: names, values, and which are missing in the same rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from keyword import iskeyword
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace import results
from interlace.choices import FitMethod, is_linear
from interlace.design import frame
from interlace.design.complete import Missing
from interlace.design.components import columns_beside
from interlace.design.formula import MixedFormula, parse
from interlace.design.frame import Column, Table
from interlace.design.labels import aligned
from interlace.design.reads import PARTS, columns_of
from interlace.errors import InterlaceError
from interlace.glmm.families import Family
from interlace.model.fitted import Options, as_kind
from interlace.model.fitting import fit_model
from interlace.results import CrossedLMEResult
from interlace.sums.terms import Floats

Mask: TypeAlias = NDArray[np.bool_]

# How many names a message lists.
LISTED = 5


@dataclass(frozen=True, eq=False)
class Arguments:
    """Arguments of the model, as given."""

    groups: str | Sequence[str] | None
    random: str | Sequence[str] | None
    method: FitMethod
    weights: str | ArrayLike | None
    offset: str | ArrayLike | None
    family: str | Family = "gaussian"
    link: str | None = None
    trials: str | ArrayLike | None = None
    exposure: str | ArrayLike | None = None
    zero_inflation: str | None = None
    dispersion: str | None = None
    quadrature: int = 1

    @property
    def linear(self) -> bool:
        """Whether responses are Gaussian, with means that are their linear predictors."""
        return is_linear(self.family, self.link)

    @property
    def family_name(self) -> str:
        """Name of the family."""
        return str(getattr(self.family, "name", self.family))

    @property
    def beside(self) -> dict[str, str | ArrayLike | None]:
        """Arguments by row."""
        return {
            "weights": self.weights,
            "offset": self.offset,
            "trials": self.trials,
            "exposure": self.exposure,
        }

    @property
    def columns(self) -> list[str]:
        """Columns named as arguments by row."""
        return [name for name in self.beside.values() if isinstance(name, str)]

    def options(self, formula: str, missing: Missing) -> Options:
        """Those of the fit of one response."""
        return Options(
            formula=formula,
            groups=self.groups,
            random=self.random,
            method=self.method,
            missing=missing,
            family="gaussian" if self.linear else self.family,
            link=None if self.linear else self.link,
            zero_inflation=self.zero_inflation,
            dispersion=self.dispersion,
            quadrature=self.quadrature,
            weights=self.weights,
            offset=self.offset,
            trials=self.trials,
            exposure=self.exposure,
        )


@dataclass(frozen=True, eq=False)
class Model:
    """A model without its response: the columns it reads, and the responses.

    ``data`` is the caller's if the responses are columns of it; ``index`` labels its rows.
    """

    right: str
    spec: MixedFormula
    arguments: Arguments
    columns: Mapping[str, Column]
    responses: Table
    n: int
    data: object | None
    index: pd.Index | None

    def formula(self, name: str) -> str:
        """The formula of one response."""
        return _text(name, self.right)

    def fit(
        self, name: str, *, missing: Missing = "drop"
    ) -> CrossedLMEResult | results.CrossedGLMMResult:
        """``fit`` of one response."""
        data = self.data
        if data is None:
            columns = {**self.columns, **frame.pick(self.responses, [name])}
            data = columns if self.index is None else pd.DataFrame(columns, index=self.index)
        options = self.arguments.options(self.formula(name), missing)
        if not self.arguments.linear:
            return results.general.fit_result(options, data)
        return as_kind(CrossedLMEResult, fit_model(options, data))


def named_responses(responses: object, table: Table) -> Table:
    """The responses as a table of their own."""
    if isinstance(responses, str):
        raise InterlaceError(f"responses must be a list of names: [{responses!r}]")
    if isinstance(responses, np.ndarray) and responses.ndim == 2:
        named = _columns_of(responses)
    elif isinstance(responses, Mapping) or hasattr(responses, "columns"):
        named = _in_order_of(table, frame.open_table(responses, title="the frame of responses"))
    else:
        names = _names(responses)
        _refuse_unknown(names, table)
        named = Table(tuple(names), table.n, table.read, table.title)
    if named.n != table.n:
        raise InterlaceError(f"the responses have {named.n} rows, but the data {table.n}")
    _refuse_names(named.names)
    return named


def _in_order_of(table: Table, named: Table) -> Table:
    """Responses with an index, in the order of the rows of the data."""
    if named.index is None:
        return named
    places = pd.Series(np.arange(named.n), index=named.index)
    order = aligned(places, "responses", table.index, table.title).to_numpy()
    if np.array_equal(order, np.arange(named.n)):
        return named
    return replace(named, n=len(order), read=lambda name: named.read(name)[order])


def _columns_of(values: NDArray[np.generic]) -> Table:
    """Columns of an array under the names y0, y1, .."""
    names = tuple(f"y{i}" for i in range(values.shape[1]))
    return Table(names, len(values), lambda name: values[:, int(name[1:])], "the responses")


def _names(responses: object) -> list[str]:
    """Names given as any flat collection of texts."""
    if not isinstance(responses, Iterable):
        raise InterlaceError(
            f"responses must be names of columns, a frame or an array (n, R), not "
            f"{type(responses).__name__}"
        )
    names = list(responses)
    _refuse_names(names)
    return names


def _refuse_unknown(names: Sequence[str], table: Table) -> None:
    """Refuse a response that is no column, or the name of several."""
    frame.pick(Table(table.names, table.n, lambda _: np.empty(0), table.title), names)


def _refuse_names(names: Sequence[object]) -> None:
    """Refuse no responses, repeated ones, and names that a formula cannot hold."""
    if not names:
        raise InterlaceError("responses is empty: name at least one")
    seen: set[object] = set()
    for name in names:
        if not isinstance(name, str):
            raise InterlaceError(f"the names of responses must be text, not {name!r}")
        if name in seen:
            raise InterlaceError(f"the response '{name}' is named twice")
        seen.add(name)
        if "`" in name or not name.strip() or re.fullmatch(r"\s*[\d.]+\s*", name):
            raise InterlaceError(f"a response named '{name}' cannot stand in a formula: rename it")


def model_of(
    formula: str, data: object, table: Table, responses: Table, arguments: Arguments
) -> Model:
    """Parse the model and pick its columns."""
    if not isinstance(formula, str):
        raise InterlaceError(f"the formula must be text, not {type(formula).__name__}")
    left, tilde, _ = formula.partition("~")
    if not tilde or not (left.strip().isidentifier() or not left.strip()):
        raise InterlaceError(
            f"the formula '{formula.strip()}' must begin with '~', or with a name in the place of "
            f"the responses: they are those of responses=, as they are"
        )
    right = formula[len(left) :].strip()
    held = Model(
        right,
        spec=_parsed(right, responses.names[0], arguments),
        arguments=arguments,
        columns={},
        responses=responses,
        n=table.n,
        data=data if responses.read is table.read else None,
        index=table.index,
    )
    parts = [part for part in PARTS if part != "response"]
    texts = [one for one in (arguments.zero_inflation, arguments.dispersion) if one is not None]
    own = columns_beside([text.partition("~")[2] for text in texts], data).values()
    wanted = columns_of(held.spec, table, parts=parts, beside=[*arguments.columns, *own])
    for name in set(wanted) & set(responses.names):
        _parsed(right, name, arguments)  # refuses a response that is a predictor
    return replace(held, columns=frame.pick(table, wanted))


def _parsed(right: str, name: str, arguments: Arguments) -> MixedFormula:
    """The formula of one response, parsed."""
    return parse(_text(name, right), groups=arguments.groups, random=arguments.random)


def _text(name: str, right: str) -> str:
    """A whole formula; names that Python could not hold are quoted."""
    plain = name.isidentifier() and not iskeyword(name)
    return f"{name if plain else f'`{name}`'} {right}"


# ------------------------------------------------------------------ responses by missing rows


@dataclass(frozen=True, eq=False)
class SameRows:
    """Responses, by number, that are missing in the same rows: ``gaps`` (n,), ``None`` for none."""

    which: tuple[int, ...]
    gaps: Mask | None


def by_rows(model: Model, kept: Mask, missing: str) -> list[SameRows]:
    """Responses grouped by where they are missing among the rows ``kept`` (n,) by the model."""
    if missing == "raise":
        _refuse_missing(model, kept)
    found: dict[bytes, list[int]] = {}
    for i, name in enumerate(model.responses.names):
        gaps = frame.missing(model.responses.read(name))
        mask = b"" if gaps is None or not (gaps & kept).any() else np.packbits(gaps & kept)
        found.setdefault(bytes(mask), []).append(i)
    return [
        SameRows(tuple(which), _unpacked(key, model.n) if key else None)
        for key, which in found.items()
    ]


def _unpacked(key: bytes, n: int) -> Mask:
    bits = np.unpackbits(np.frombuffer(key, dtype=np.uint8), count=n)
    return bits.astype(bool)


def _refuse_missing(model: Model, kept: Mask) -> None:
    """Refuse missing values in columns of the model and in responses."""
    counts = {
        name: int(gaps.sum())
        for table in (dict(model.columns), model.responses)
        for name, gaps in _gaps(table)
    }
    if counts:
        listed = [f"the column '{name}' ({count} rows)" for name, count in counts.items()]
        more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        raise InterlaceError(
            f"values are missing in {', '.join(listed[:LISTED])}{more}; missing='drop' leaves "
            "these rows out"
        )


def _gaps(table: Mapping[str, Column] | Table) -> Iterator[tuple[str, Mask]]:
    """Names of columns with missing values, and where."""
    names = table.names if isinstance(table, Table) else tuple(table)
    for name in names:
        column = table.read(name) if isinstance(table, Table) else table[name]
        if (gaps := frame.missing(column)) is not None:
            yield name, gaps


def values_of(column: Column, name: str, kept: Mask) -> Floats | None:
    """A response in the rows kept; ``None`` if ``fit`` has something to say about it."""
    try:
        plain = frame.plain(column[kept], name)
    except InterlaceError:
        return None  # `fit` refuses the column in the same words
    if not frame.is_numeric(plain):
        return None
    values = frame.numeric(plain, name)
    return values if np.isfinite(values).all() else None
