"""Rows of a model as plain values in a file, and back: each held to what rows can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.design.frame import Codes, Column
from interlace.errors import InterlaceError
from interlace.sources.archive import encoding_in, encoding_out, term_in, term_out
from interlace.sources.consistent import of_encoding
from interlace.sources.container import Array, Header
from interlace.sources.labels import Packed, unpacked
from interlace.sources.specs import value_in, value_out
from interlace.sums.rows import is_ones
from interlace.sums.terms import Floats

# Columns left of a bar that are held elsewhere, or without memory.
_ONES, _FIXED = "ones", "fixed"


def design_out(design: Design, packed: Packed) -> Header:
    """Rows as plain values.

    Raises
    ------
    InterlaceError
        Labels of a type that cannot be kept, or a formula that says more than a file may.
    """
    by_group = {t.group: c for t, c in zip(design.terms, design.codes, strict=True)}
    return {
        "encoding": encoding_out(design.encoding, packed),
        "y": packed.add(design.y),
        "X": packed.add(design.X),
        "names": list(design.names),
        "terms": [term_out(term, packed) for term in design.terms],
        "codes": [[group, codes_out(codes, packed)] for group, codes in by_group.items()],
        "Z": [_slopes_out(design, Z, packed) for Z in design.Z],
        "weights": None if design.weights is None else packed.add(design.weights),
        "offset": None if design.offset is None else packed.add(design.offset),
        "kept": packed.add(design.kept),
        "factors": [[name, column_out(own, name, packed)] for name, own in design.factors.items()],
        "index": None if design.index is None else index_out(design.index, packed),
    }


def design_in(stored: Header, arrays: Mapping[str, Array]) -> Design:
    """What :func:`design_out` has written; what no rows can be raises ``ValueError``."""
    X = floats(arrays[stored["X"]], 2)
    terms = tuple(term_in(term, arrays) for term in stored["terms"])
    codes = {group: codes_in(arrays[name]) for group, name in stored["codes"]}
    design = Design(
        y=floats(arrays[stored["y"]], 1),
        X=X,
        names=tuple(stored["names"]),
        terms=terms,
        codes=tuple(codes[term.group] for term in terms),
        Z=tuple(_slopes_in(one, X, arrays) for one in stored["Z"]),
        weights=None if stored["weights"] is None else floats(arrays[stored["weights"]], 1),
        offset=None if stored["offset"] is None else floats(arrays[stored["offset"]], 1),
        kept=arrays[stored["kept"]],  # type: ignore[arg-type]
        encoding=encoding_in(stored["encoding"], arrays),
        factors={name: column_in(own, arrays) for name, own in stored["factors"]},
        index=None if stored["index"] is None else index_in(stored["index"], arrays),
    )
    if not all(_checks(design)):
        raise ValueError("rows")
    return design


def _checks(d: Design) -> Iterator[bool]:
    """What must hold of rows; what comes later relies on what comes before."""
    n = len(d.y)
    yield n > 0 and d.X.shape == (n, len(d.names)) and d.encoding.fixed.names == d.names
    yield all(type(name) is str for name in d.names)
    yield from of_encoding(d.names, d.terms, d.encoding)
    yield len(d.Z) == len(d.codes) == len(d.terms) == len(d.encoding.slopes)
    for term, codes, Z in zip(d.terms, d.codes, d.Z, strict=True):
        yield term.template.k == term.k and Z.shape == (n, term.k)
        yield type(term.backwards) is bool
        yield codes.shape == (n,) and codes.min() >= 0
        yield len(np.unique(codes)) == term.l == int(codes.max()) + 1
    for values in (d.weights, d.offset):
        yield values is None or values.shape == (n,)
    yield d.weights is None or bool((d.weights > 0).all())
    yield d.kept.dtype == np.bool_ and d.kept.ndim == 1 and int(d.kept.sum()) == n
    yield d.index is None or len(d.index) == len(d.kept)
    yield all(type(name) is str and len(own) == n for name, own in d.factors.items())


def floats(array: Array, dimensions: int) -> Floats:
    """An array of finite numbers; anything else raises ``ValueError``."""
    if array.dtype != np.float64 or array.ndim != dimensions or not np.isfinite(array).all():
        raise ValueError("numbers")
    return array  # type: ignore[return-value]


# Positions, columns and labels --------------------------------------------------------------------


def codes_out(codes: Codes, packed: Packed) -> str:
    """Positions in the least room."""
    kinds = (np.uint8, np.uint16, np.int32, np.int64)
    kind = next(k for k in kinds if int(codes.max(initial=0)) <= np.iinfo(k).max)
    return packed.add(codes.astype(kind))


def codes_in(array: Array) -> Codes:
    """What :func:`codes_out` has written."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ValueError("codes")
    codes: Codes = array.astype(np.intp)
    return codes


def _slopes_out(design: Design, Z: Floats, packed: Packed) -> str:
    if is_ones(Z):
        return _ONES
    return _FIXED if Z is design.X else packed.add(Z)


def _slopes_in(stored: str, X: Floats, arrays: Mapping[str, Array]) -> Floats:
    if stored == _ONES:
        return np.broadcast_to(1.0, (len(X), 1))
    return X if stored == _FIXED else floats(arrays[stored], 2)


def column_out(values: Column, name: str, packed: Packed) -> Sequence[object]:
    """Values of a factor by row: numbers, or categories."""
    if isinstance(values, pd.Categorical):
        levels = np.array([*values.categories, None], dtype=object)[:-1]
        codes = packed.add(np.asarray(values.codes))
        return ["categories", packed.labels(levels, name), codes, bool(values.ordered)]
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        return ["numbers", packed.add(values)]
    raise InterlaceError(
        f"values of '{name}' cannot be saved by row: make it a column of numbers or categories"
    )


def column_in(stored: Sequence[Any], arrays: Mapping[str, Array]) -> Column:
    """What :func:`column_out` has written."""
    match stored:
        case ["numbers", str(name)]:
            return arrays[name]
        case ["categories", dict(levels), str(name), bool(ordered)]:
            known = unpacked(levels, arrays)
            return pd.Categorical.from_codes(
                codes_in(arrays[name]), known.tolist(), ordered=ordered
            )
    raise ValueError("column")


def index_out(index: pd.Index, packed: Packed) -> Header:
    """Labels of rows as plain values.

    Raises
    ------
    InterlaceError
        They are of a type that cannot be kept.
    """
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "name": _name_out(index, packed)}
    if isinstance(index, pd.MultiIndex):
        return {"several": [index_out(one, packed) for one in _levels(index)]}
    return {"values": _labels_out(index, packed), "name": _name_out(index, packed)}


def _levels(index: pd.MultiIndex) -> Iterator[pd.Index]:
    return (index.get_level_values(i) for i in range(index.nlevels))


def _labels_out(index: pd.Index, packed: Packed) -> Header:
    values = index.to_numpy()
    if values.dtype.kind not in "iufbmM":
        values = np.array([*index, None], dtype=object)[:-1]
    try:
        return packed.labels(values, "the index")
    except InterlaceError as error:
        raise InterlaceError(
            "the labels of the rows are of several types, or of one that cannot be saved: fit "
            "data.reset_index(drop=True), or save with rows=False"
        ) from error


def _name_out(index: pd.Index, packed: Packed) -> Sequence[object]:
    return value_out(index.name, packed, "the name of the index")


def index_in(stored: Header, arrays: Mapping[str, Array]) -> pd.Index:
    """What :func:`index_out` has written."""
    if "several" in stored:
        return pd.MultiIndex.from_arrays([index_in(one, arrays) for one in stored["several"]])
    name: Any = value_in(stored["name"], arrays)
    if isinstance(name, list | dict | np.ndarray):
        raise ValueError("name")
    if "range" in stored:
        start, stop, step = stored["range"]
        if not all(type(v) is int and abs(v) < 1 << 60 for v in (start, stop, step)) or step == 0:
            raise ValueError("range")
        return pd.RangeIndex(start, stop, step, name=name)
    values = unpacked(stored["values"], arrays)
    if values.ndim != 1:
        raise ValueError("index")
    return pd.Index(values.tolist() if values.dtype == object else values, name=name)
