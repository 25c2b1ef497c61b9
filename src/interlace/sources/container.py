"""A file of a header and arrays: written whole or not at all, and checked before it is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlace.errors import InterlaceError

Header: TypeAlias = dict[str, Any]
Array: TypeAlias = NDArray[np.generic]


@dataclass(frozen=True)
class Kind:
    """What a file holds: its first bytes, what messages call it, and who reads it."""

    magic: bytes
    name: str
    reader: str


SUMS = Kind(b"interlace 2 cross-products\n", "cross-products", "CrossProducts.load")
RESULT = Kind(b"interlace 1 result\n", "result", "interlace.load")
_KINDS = (SUMS, RESULT)
_LONGEST = max(len(kind.magic) for kind in _KINDS)
# Files of this kind held pickles, which may hold programs.
_PICKLED = b"interlace cross-products 1\n"
_LENGTH = 8
_DIGEST = 32
_CHUNK = 1 << 24
# Numbers as they lie in memory, lowest byte first; nothing that would be made by running code.
_DTYPES = re.compile(r"<[iu][248]|<f[48]|\|[iu]1|\|b1")
_DIMENSIONS = 3
_LARGEST = 1 << 48


def write(path: str | Path, header: Header, arrays: Mapping[str, Array], kind: Kind = SUMS) -> None:
    """Write a file beside its place, make sure it is on the disk, and move it there.

    Raises
    ------
    InterlaceError
        The disk is full, or the place cannot be written to; no file is left behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        try:
            with open(temporary, "xb", buffering=0) as file:
                for piece in _pieces(kind, header, arrays):
                    write_all(file, piece)
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:  # an interrupt, too, leaves nothing behind
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InterlaceError(
            f"'{path}' cannot be saved ({error.strerror}); nothing is left of it on the disk"
        ) from error
    except ValueError as error:
        raise InterlaceError(f"{str(path)!r} cannot be the name of a file: {error}") from error


def text_of(header: Header, arrays: Mapping[str, Array]) -> bytes:
    """The header as it stands in a file, with the types and shapes of the arrays."""
    shapes = [[name, _little(a.dtype).str, list(a.shape)] for name, a in arrays.items()]
    return json.dumps(header | {"arrays": shapes}, allow_nan=False).encode()


def _little(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype


def _pieces(kind: Kind, header: Header, arrays: Mapping[str, Array]) -> Iterator[memoryview]:
    """The bytes of a file: magic, header with the shapes, arrays, and a digest of all."""
    text = text_of(header, arrays)
    digest = hashlib.blake2b(digest_size=_DIGEST)
    start = memoryview(kind.magic + struct.pack("<Q", len(text)) + text)
    digest.update(start)
    yield start
    for array in arrays.values():
        for piece in _bytes(np.ascontiguousarray(array, dtype=_little(array.dtype))):
            digest.update(piece)
            yield piece
    yield memoryview(digest.digest())


def _bytes(array: Array) -> Iterator[memoryview]:
    flat = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK]


def write_all(file: BinaryIO, piece: memoryview) -> None:
    """Write all of a piece to an unbuffered file, which may take it in parts."""
    while len(piece):
        piece = piece[file.write(piece) :]


def read(path: str | Path, kind: Kind = SUMS) -> tuple[Header, dict[str, Array]]:
    """Header and arrays of a file, nothing of which is looked at before its digest is right.

    Raises
    ------
    InterlaceError
        There is no such file, it is not one of these, or it is damaged.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return _read(file, _Place(str(path), kind))
    except OSError as error:
        raise InterlaceError(f"'{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        if isinstance(error, InterlaceError):
            raise
        raise InterlaceError(f"{str(path)!r} cannot be the name of a file: {error}") from error


@dataclass(frozen=True)
class _Place:
    """A file that is read, and as what."""

    path: str
    kind: Kind

    @property
    def damaged(self) -> InterlaceError:
        """The error for it."""
        return damaged(self.path, self.kind)


def _read(file: BinaryIO, place: _Place) -> tuple[Header, dict[str, Array]]:
    size = os.fstat(file.fileno()).st_size
    magic = place.kind.magic
    _refuse_others(_filled(file, min(size, _LONGEST), place), place)
    file.seek(len(magic))
    body = size - len(magic) - _LENGTH - _DIGEST
    if body < 0 or not _is_whole(file, magic, size, place):
        raise place.damaged
    file.seek(len(magic))
    (length,) = struct.unpack("<Q", _filled(file, _LENGTH, place))
    if length > body:
        raise place.damaged
    text = _filled(file, length, place)
    header, table = _parsed(text, place)
    if sum(_size(dtype, shape) for _, dtype, shape in table) != body - length:
        raise place.damaged
    arrays = {name: _array(file, dtype, shape, place) for name, dtype, shape in table}
    if len(arrays) != len(table) or not _is_canonical(text, header, arrays):
        raise place.damaged
    return header, arrays


def _refuse_others(start: bytes, place: _Place) -> None:
    """Refuse a file of another kind, by its first bytes."""
    path, kind = place.path, place.kind
    if start.startswith(kind.magic):
        return
    if start.startswith(_PICKLED) and kind is SUMS:
        raise InterlaceError(
            f"'{path}' was saved by an older version, in a form that could hold programs and is no "
            "longer read: make the cross-products again and save them"
        )
    for other in _KINDS:
        if start.startswith(other.magic):
            raise InterlaceError(
                f"'{path}' is a file of {_a(other)}, not of {_a(kind)}: {other.reader}() reads it"
            )
    raise InterlaceError(f"'{path}' is not a file of {_a(kind)}, or of another version")


def _a(kind: Kind) -> str:
    return kind.name if kind.name.endswith("s") else f"a {kind.name}"


def _is_whole(file: BinaryIO, start: bytes, size: int, place: _Place) -> bool:
    """Whether the last bytes of a file are the digest of the others."""
    digest = hashlib.blake2b(start, digest_size=_DIGEST)
    left = size - len(start) - _DIGEST
    while left:
        piece = file.read(min(left, _CHUNK))
        if not piece:
            raise place.damaged
        digest.update(piece)
        left -= len(piece)
    return secrets.compare_digest(_filled(file, _DIGEST, place), digest.digest())


def _is_canonical(text: bytes, header: Header, arrays: Mapping[str, Array]) -> bool:
    """Whether a header is spelled as it would be saved: nothing twice, no NaN."""
    try:
        return text_of(header, arrays) == text
    except (ValueError, RecursionError):
        return False


def _parsed(
    text: bytes, place: _Place
) -> tuple[Header, list[tuple[str, np.dtype[np.generic], Any]]]:
    """The header, and names, types and shapes of the arrays."""
    try:
        header = json.loads(text)
        table = [(_name(a), _dtype(t), _shape(size)) for a, t, size in header.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise place.damaged from error
    return header, table


def _name(text: str) -> str:
    if not isinstance(text, str):
        raise ValueError(text)
    return text


def _dtype(text: str) -> np.dtype[np.generic]:
    if not _DTYPES.fullmatch(text):
        raise ValueError(text)
    return np.dtype(text)


def _shape(sizes: list[int]) -> tuple[int, ...]:
    whole = all(type(size) is int and 0 <= size < _LARGEST for size in sizes)
    if not whole or len(sizes) > _DIMENSIONS or prod(filter(None, sizes)) >= _LARGEST:
        raise ValueError(sizes)
    return tuple(sizes)


def _size(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> int:
    """Bytes of an array, in whole numbers that do not overflow."""
    return prod(shape) * dtype.itemsize


def _array(
    file: BinaryIO, dtype: np.dtype[np.generic], shape: tuple[int, ...], place: _Place
) -> Array:
    array = np.empty(shape, dtype)
    for piece in _bytes(array):
        while len(piece):
            done = file.readinto(piece)  # type: ignore[attr-defined]
            if not done:
                raise place.damaged
            piece = piece[done:]
    if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise place.damaged
    return array


def _filled(file: BinaryIO, length: int, place: _Place) -> bytes:
    found = b""
    while len(found) < length:
        piece = file.read(length - len(found))
        if not piece:
            raise place.damaged
        found += piece
    return found


def damaged(path: str | Path, kind: Kind = SUMS) -> InterlaceError:
    """The error for a file that is not as it was written."""
    return InterlaceError(f"'{path}' is corrupt or incomplete: save the {kind.name} again")
