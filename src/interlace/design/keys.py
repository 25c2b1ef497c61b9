"""Grouping values of any type -> keys that are equal where the values mean the same level.

A level may be fitted as one type and asked for as another: ``3`` and ``3.0``, ``Decimal("0.50")``
and ``0.5``, a date and the midnight it begins with.  Every comparison of levels goes through here.

- Numbers are equal if their values are: whole ones exactly (never through a float), others as
  float64, a shorter float by its shortest decimal, so that float32 ``0.1``, float64 ``0.1`` and
  ``Decimal("0.10")`` are one level.  ``False`` and ``True`` are 0 and 1.
- Instants of any unit are equal if they are the same moment; a date is its midnight.  Of an instant
  with a time zone beside one without, the clock time there is compared.
- Text, bytes and numbers differ: ``"3"``, ``b"3"`` and ``3`` are three levels.  A UUID beside text
  is compared by what the text spells.
- Where one side is all text and the other holds none, values are compared by their text.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TypeAlias, cast
from uuid import UUID

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.integer]
Levels: TypeAlias = NDArray[np.generic]
Form: TypeAlias = Callable[[Levels], Levels | None]

# Whole numbers up to here are floats exactly.
_EXACT = 2**53
# So many values are found sooner one by one than by an index of them.
_FEW = 32
_EPOCH = datetime.datetime(1970, 1, 1)
# Attoseconds, the finest unit of numpy's instants.
_ATTOS = {"W": 604800 * 10**18, "D": 86400 * 10**18, "h": 3600 * 10**18, "m": 60 * 10**18}
_ATTOS |= {"s": 10**18, "ms": 10**15, "us": 10**12, "ns": 10**9, "ps": 10**6, "fs": 10**3, "as": 1}


def positions(values: Levels, levels: Levels) -> Codes:
    """Positions of values among distinct levels, ``-1`` for a value that is none of them.

    Parameters
    ----------
    values
        ``(m,)`` values without a missing one.
    levels
        ``(l,)`` known levels, of one type or another.
    """
    return Known(levels).positions(values)


@dataclass(frozen=True, eq=False)
class Known:
    """Distinct levels, and indexes of them, made once for all values that are looked up."""

    levels: Levels

    def __reduce__(self) -> tuple[type[Known], tuple[Levels]]:
        return Known, (self.levels,)  # indexes are made again

    @cached_property
    def forms(self) -> tuple[Indexed, ...]:
        """The levels in every form of numpy's that holds them."""
        found = [(form, form(self.levels)) for form in (_whole, _floats, _strings, _naive)]
        return tuple(Indexed(form, _of_numpy(held)) for form, held in found if held is not None)

    def positions(self, values: Levels) -> Codes:
        """See :func:`positions`."""
        if not len(self.levels) or not len(values):
            return np.full(len(values), -1, dtype=np.intp)
        for own in self.forms:
            wanted = own.form(values)
            if wanted is not None and (own.index.dtype == wanted.dtype or own.form is _naive):
                return own.positions(wanted)
        return _indexed(*_keys(self.levels, values))


@dataclass(frozen=True, eq=False)
class Indexed:
    """Levels in a form of numpy's."""

    form: Form
    index: pd.Index

    @cached_property
    def places(self) -> dict[Hashable, int]:
        """The position of each level that is there once."""
        once = ~self.index.duplicated(keep=False)
        return dict(zip(self.index[once].tolist(), np.flatnonzero(once).tolist(), strict=True))

    def positions(self, values: Levels) -> Codes:
        """Positions of values in the same form: few are looked up in a dictionary."""
        if len(values) > _FEW or self.form is _naive:
            return _indexed(self.index, _of_numpy(values))
        return np.array([self.places.get(value, -1) for value in values.tolist()], dtype=np.intp)


def repeated(values: Levels) -> tuple[object, object] | None:
    """Two of some distinct values that mean the same level, if there are two."""
    if values.dtype.kind != "O" or _strings(values) is not None:
        return None  # those of numpy's types are distinct by value
    seen: dict[Hashable, object] = {}
    for value in values.tolist():
        if seen.setdefault(_key(value), value) is not value:
            return seen[_key(value)], value
    return None


def joined(parts: Sequence[Levels]) -> Levels:
    """Values of several arrays as one array, none of them rounded to another's type."""
    if len({part.dtype for part in parts}) == 1:
        return np.concatenate(parts)
    for form in (_whole, _floats):
        found = [form(part) for part in parts]
        arrays = [array for array in found if array is not None]
        if len(arrays) == len(parts) and len({array.dtype for array in arrays}) == 1:
            return np.concatenate(arrays)
    if all(_kind(value) == "naive" for part in parts for value in _objects(part[:1])):
        first, *rest = [pd.DatetimeIndex(part) for part in parts]
        return np.asarray(first.append(rest))
    return np.concatenate([_objects(part) for part in parts])


def numbers_of(column: Levels) -> Levels:
    """Integers, decimals and floats in objects: as floats, unless these would round integers."""
    floats = column.astype(np.float64)
    integers = all(isinstance(value, int | np.integer) for value in column)
    if not integers and ((np.abs(floats) <= 2**53).all() or (floats != np.floor(floats)).any()):
        return floats
    whole = [int(value) for value in column]
    if not integers and any(a != b for a, b in zip(whole, column.tolist(), strict=True)):
        return floats
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(whole, dtype=dtype)
        except OverflowError:
            continue
    return np.array(whole, dtype=object)


def has_text(values: Levels) -> bool:
    """Whether any value is text."""
    return values.dtype.kind in "UT" or (
        values.dtype.kind == "O" and any(isinstance(value, str) for value in values)
    )


def texts(values: Levels) -> list[str]:
    """Distinct values as distinct texts; whole floats lose their ``.0``, dates their midnight."""
    if (index := pd.Index(values)).dtype.kind == "M":
        return [str(text) for text in index.astype(str)]
    if values.dtype.kind == "f":
        return [str(int(v)) if float(v).is_integer() else str(v) for v in values]
    held = values.tolist()
    found = [str(_number(v) if isinstance(v, Decimal) else v) for v in held]
    return found if len(set(found)) == len(found) else [repr(value) for value in held]


# Forms that numpy holds ---------------------------------------------------------------------------


def _of_numpy(values: Levels) -> pd.Index:
    return pd.Index(values, dtype=values.dtype)


def _whole(values: Levels) -> Levels | None:
    """Whole numbers as int64, or as uint64 if one of them needs it."""
    if values.dtype.kind == "b" or values.dtype.kind == "i":
        return values.astype(np.int64)
    if values.dtype.kind == "u":
        return values.astype(np.int64 if int(values.max(initial=0)) < 2**63 else np.uint64)
    if values.dtype.kind != "f":
        return None
    floats = cast("NDArray[np.float64]", values)
    if not (np.abs(floats) < 2.0**63).all() or (np.floor(floats) != floats).any():
        return None
    return floats.astype(np.int64)


def _floats(values: Levels) -> Levels | None:
    """Numbers as float64 without loss; shorter floats by their shortest decimal."""
    if values.dtype.kind == "f":
        if values.dtype.itemsize >= 8:
            return values.astype(np.float64)
        # the text of a whole number may be rounded, and its value is exact as it is
        part = np.floor(cast("NDArray[np.float64]", values)) != values
        exact = values.astype(np.float64)
        exact[part] = values[part].astype(str).astype(np.float64)
        return exact
    whole = _whole(values)
    if whole is None or whole.dtype.kind == "u" or np.abs(whole).max() > _EXACT:
        return None
    return whole.astype(np.float64)


def _strings(values: Levels) -> Levels | None:
    """Text."""
    if values.dtype.kind in "UT":
        return values.astype(object)
    text = values.dtype.kind == "O" and pd.api.types.infer_dtype(values, skipna=False) == "string"
    return values if text else None


def _naive(values: Levels) -> Levels | None:
    """Instants without a time zone, in units that pandas compares with each other."""
    return values if values.dtype.kind == "M" and _unit(values) in ("s", "ms", "us", "ns") else None


def _unit(values: Levels | np.generic) -> str:
    return str(np.datetime_data(values.dtype)[0])  # type: ignore[arg-type]


# All else -----------------------------------------------------------------------------------------


def _keys(levels: Levels, values: Levels) -> tuple[pd.Index, pd.Index]:
    """Keys of both, in a form in which they can be compared."""
    sides = [_objects(side) for side in (levels, values)]
    kinds = [{_kind(value) for value in side.tolist()} for side in sides]
    spelled = {"text", "bytes", "uuid"}
    if any(own == {"text"} and not other & spelled for own, other in (kinds, kinds[::-1])):
        return _index(texts(levels)), _index(texts(values))
    makers = [_maker(own, other) for own, other in (kinds, kinds[::-1])]
    known, wanted = (
        _index([make(value) for value in side.tolist()])
        for make, side in zip(makers, sides, strict=True)
    )
    return known, wanted


def _maker(own: set[str], other: set[str]) -> Callable[[object], Hashable]:
    """How to make keys of one side beside another."""
    if "aware" in own and "naive" in other and "aware" not in other:
        return lambda value: _key(_clock(value))
    if "text" in own and "uuid" in other and "text" not in other:
        return lambda value: _key(_spelled(value))
    return _key


def _objects(values: Levels) -> Levels:
    """An array of Python objects; instants stay numpy's, whatever their unit."""
    found = np.empty(len(values), dtype=object)
    found[:] = list(values) if values.dtype.kind in "mMf" else values.tolist()
    return found


def _index(keys: Sequence[Hashable]) -> pd.Index:
    held = np.empty(len(keys), dtype=object)
    held[:] = keys
    return pd.Index(held, dtype=object, tupleize_cols=False)


def _indexed(levels: pd.Index, values: pd.Index) -> Codes:
    """Positions of keys; those that two levels share are nobody's."""
    if levels.is_unique:
        return np.asarray(levels.get_indexer(values), dtype=np.intp)
    once = ~levels.duplicated(keep=False)
    found = levels[once].get_indexer(values)
    return np.where(found < 0, -1, np.append(np.flatnonzero(once), -1)[found])


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, UUID):
        return "uuid"
    if isinstance(value, datetime.date | np.datetime64):
        return "aware" if getattr(value, "tzinfo", None) is not None else "naive"
    return "other"


def _key(value: Hashable) -> Hashable:
    """A value that is equal to that of every other spelling of the same level."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, datetime.date | np.datetime64):
        return ("utc" if _kind(value) == "aware" else "instant", _moment(value))
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return "duration", _attoseconds(pd.Timedelta(value).to_timedelta64())
    return _number(value)


def _number(value: Hashable) -> Hashable:
    """A whole number as an int; others as the float nearest to their shortest decimal."""
    if isinstance(value, np.floating) and not value.is_integer():
        return float(str(value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not value.is_integer():
        return value
    return int(value) if isinstance(value, int | float) else value


def _moment(value: datetime.date | np.datetime64) -> int:
    """Attoseconds since 1970; of an instant with a time zone, in UTC."""
    if isinstance(value, pd.Timestamp):
        value = value.to_datetime64()
    if isinstance(value, np.datetime64):
        return _attoseconds(value.astype("M8[D]") if _unit(value) in ("Y", "M") else value)
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return ((value - _EPOCH) // datetime.timedelta(microseconds=1)) * _ATTOS["us"]


def _attoseconds(value: np.datetime64 | np.timedelta64) -> int:
    unit, count = np.datetime_data(value.dtype)
    return int(value.astype(np.int64)) * count * _ATTOS[unit]


def _clock(value: object) -> object:
    """What the clock shows at an instant, where it has a time zone."""
    if isinstance(value, pd.Timestamp):
        return value.tz_localize(None)
    return value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value


def _spelled(value: object) -> object:
    """The UUID that a text spells, or the text."""
    try:
        return UUID(value) if isinstance(value, str) else value
    except ValueError:
        return value
