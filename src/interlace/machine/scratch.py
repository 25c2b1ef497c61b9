"""Columns of many rows in a temporary file that has no name: it goes when its holder goes."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from interlace.errors import InterlaceError
from interlace.machine.memory import in_gb

Column: TypeAlias = NDArray[np.generic]
# Types that a column of numbers may be held in, the smallest first.
_TYPES = ("u1", "u2", "i4", "f4")


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows that were written together: where every column begins, and those that are constant."""

    n: int
    places: Mapping[str, tuple[int, np.dtype[np.generic]]]
    constants: Mapping[str, float]


@dataclass(eq=False)
class Scratch:
    """A file of segments; :meth:`close` gives its place back, as the end of the process does."""

    file: BinaryIO = field(default_factory=lambda: _opened())
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Close the file when its holder goes."""
        weakref.finalize(self, self.file.close)

    def append(self, columns: Mapping[str, Column]) -> Segment:
        """Write columns, each in the smallest type that loses nothing."""
        n = len(next(iter(columns.values())))
        places: dict[str, tuple[int, np.dtype[np.generic]]] = {}
        constants: dict[str, float] = {}
        for name, column in columns.items():
            if n and (column == column[0]).all():
                constants[name] = float(column[0])
                continue
            held = compact(column)
            places[name] = (self.size, held.dtype)
            self._write(np.ascontiguousarray(held))
        return Segment(n, places, constants)

    def _write(self, column: Column) -> None:
        try:
            with self.lock:
                self.file.seek(self.size)
                self.file.write(column.data.cast("B"))
                self.size += column.nbytes
        except OSError as error:
            raise InterlaceError(
                f"the rows of the model do not fit in memory, and not in {tempfile.gettempdir()} "
                f"either ({in_gb(self.size)} were written): {error.strerror}; make room there, or "
                "name another folder in the environment variable TMPDIR"
            ) from error

    def read(self, segment: Segment, name: str, rows: slice) -> Column:
        """A column of some rows of a segment, in the type in which it is held."""
        if name in segment.constants:
            return np.broadcast_to(segment.constants[name], rows.stop - rows.start)
        place, kind = segment.places[name]
        found = np.empty(rows.stop - rows.start, kind)
        with self.lock:
            self.file.seek(place + rows.start * kind.itemsize)
            self.file.readinto(found.data.cast("B"))  # type: ignore[attr-defined]
        return found

    def close(self) -> None:
        """Give the place back."""
        self.file.close()


def compact(column: Column) -> Column:
    """The column in the smallest type in which every value is what it was."""
    if column.dtype.kind not in "fiu":
        return column
    sample = column[:: max(1, len(column) // 64)]
    for kind in _TYPES:
        with np.errstate(invalid="ignore", over="ignore"):
            if (sample.astype(kind) == sample).all():
                smaller = column.astype(kind)
                if (smaller == column).all():
                    return smaller
    return column


def _opened() -> BinaryIO:
    """A file without a name, which closes with its holder."""
    return cast("BinaryIO", tempfile.TemporaryFile(prefix="interlace-"))
