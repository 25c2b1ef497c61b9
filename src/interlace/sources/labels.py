"""Values of levels and categories as arrays of numbers and bytes, their types kept, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

import numpy as np
import pandas as pd

from interlace.errors import InterlaceError
from interlace.sources.container import Array, Header

# Types of values that are kept as text: how they are written, and how they are read.
_Spelling: TypeAlias = tuple[type, Callable[..., str], Callable[[str], object]]
_SPELLED: dict[str, _Spelling] = {
    "text": (str, str, str),
    "bytes": (bytes, lambda value: value.decode("latin-1"), lambda text: text.encode("latin-1")),
    "bool": (bool, str, {"False": False, "True": True}.__getitem__),
    "int": (int, str, int),
    "float": (float, float.hex, float.fromhex),
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "date": (date, date.isoformat, date.fromisoformat),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
}
_STORED = ("<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f4", "<f8", "|b1")
_UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")


@dataclass
class Packed:
    """Arrays under names of their own, filled as they are met."""

    arrays: dict[str, Array] = field(default_factory=dict)

    def add(self, array: Array) -> str:
        """Name under which an array is kept."""
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def labels(self, values: Array, what: str) -> Header:
        """Values of levels, each as what it is.

        Raises
        ------
        InterlaceError
            Values of several types, or of one that cannot be kept.
        """
        if values.dtype in _STORED:
            return {"numbers": self.add(values)}
        if values.dtype.kind in "mM":
            kind = "instants" if values.dtype.kind == "M" else "durations"
            unit = values.dtype.str.partition("[")[2][:-1]
            if unit in _UNITS:
                return {kind: self.add(values.view(np.int64)), "unit": unit}
        held = [v.item() if isinstance(v, np.generic) else v for v in values.tolist()]
        if held and all(type(value) is pd.Timestamp for value in held):
            return self._timestamps(held, what)
        kinds = [kind for kind, (type_, _, _) in _SPELLED.items() if type(held[0]) is type_]
        if not kinds or any(type(value) is not type(held[0]) for value in held):
            types = " and ".join(sorted({type(value).__name__ for value in held}))
            raise InterlaceError(
                f"the levels of '{what}' are of the type {types} and cannot be saved: make that "
                "column text before the cross-products"
            )
        encoded = [_SPELLED[kinds[0]][1](value).encode() for value in held]
        text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        lengths = np.array([len(t) for t in encoded], dtype=np.int64)
        return {kinds[0]: self.add(text), "lengths": self.add(lengths)}

    def _timestamps(self, held: list[pd.Timestamp], what: str) -> Header:
        """Instants of pandas, which may have a time zone."""
        zones = {str(value.tz) for value in held}
        if len(zones) > 1 or any(value.tz_convert("UTC") != value for value in held if value.tz):
            raise InterlaceError(f"the levels of '{what}' are in several time zones: convert them")
        naive = [value.tz_convert("UTC").tz_localize(None) if value.tz else value for value in held]
        index = pd.DatetimeIndex(naive).as_unit("ns")
        return {"timestamps": self.add(index.to_numpy().view(np.int64)), "zone": zones.pop()}


def unpacked(stored: Header, arrays: Mapping[str, Array]) -> Array:
    """Values of levels as they were; what is not as :meth:`Packed.labels` writes raises."""
    (kind, name), *_ = stored.items()
    array = arrays[name]
    if kind == "numbers":
        return array
    if kind in ("instants", "durations") and array.dtype == np.int64:
        if stored["unit"] not in _UNITS:
            raise ValueError(stored["unit"])
        return array.view(f"{'M' if kind == 'instants' else 'm'}8[{stored['unit']}]")
    if kind == "timestamps":
        index = pd.DatetimeIndex(array.view("M8[ns]"))
        zoned = index if stored["zone"] == "None" else index.tz_localize("UTC")
        zoned = zoned if stored["zone"] == "None" else zoned.tz_convert(stored["zone"])
        return _objects(list(zoned))
    read = _SPELLED[kind][2]
    return _objects([read(text) for text in _texts(array, arrays[stored["lengths"]])])


def _texts(array: Array, lengths: Array) -> Iterator[str]:
    if array.dtype != np.uint8 or lengths.dtype != np.int64 or min(lengths.tolist()) < 0:
        raise ValueError("text")
    whole = array.tobytes()
    ends = np.cumsum(lengths).tolist()
    if (ends[-1] if ends else 0) != len(whole):
        raise ValueError("text")
    for start, end in zip([0, *ends], ends, strict=False):
        yield whole[start:end].decode()


def _objects(values: list[object]) -> Array:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
