"""A file of a header and arrays: written whole or not at all, and checked when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlace.errors import InterlaceError

Header: TypeAlias = dict[str, Any]
Array: TypeAlias = NDArray[np.generic]

_MAGIC = b"interlace cross-products 1\n"
_DIGEST = 32
_CHUNK = 1 << 24


def write(path: str | Path, header: Header, arrays: Mapping[str, Array]) -> None:
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
                for piece in _pieces(header, arrays):
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


def _pieces(header: Header, arrays: Mapping[str, Array]) -> Iterator[memoryview]:
    """The bytes of a file: magic, header with the shapes, arrays, and a digest of all."""
    shapes = [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()]
    text = json.dumps(header | {"arrays": shapes}).encode()
    digest = hashlib.blake2b(digest_size=_DIGEST)
    start = memoryview(_MAGIC + struct.pack("<Q", len(text)) + text)
    digest.update(start)
    yield start
    for array in arrays.values():
        for piece in _bytes(np.ascontiguousarray(array)):
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


def read(path: str | Path) -> tuple[Header, dict[str, Array]]:
    """Header and arrays of a file.

    Raises
    ------
    InterlaceError
        There is no such file, it is not one of these, or it is damaged.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return _read(file, str(path))
    except OSError as error:
        raise InterlaceError(f"'{path}' cannot be read: {error.strerror}") from error


def _read(file: BinaryIO, path: str) -> tuple[Header, dict[str, Array]]:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    size = os.fstat(file.fileno()).st_size
    start = file.read(len(_MAGIC) + 8)
    if len(start) < len(_MAGIC) + 8 or not start.startswith(_MAGIC):
        raise InterlaceError(f"'{path}' is not a file of cross-products, or of another version")
    (length,) = struct.unpack("<Q", start[len(_MAGIC) :])
    text = bytes(_filled(file, (min(length, size),), np.dtype(np.uint8), path))
    try:
        header: Header = json.loads(text)
    except ValueError as error:
        raise damaged(path) from error
    digest.update(start + text)
    arrays = {}
    for name, kind, shape in header.pop("arrays"):
        dtype = np.dtype(kind)
        if int(np.prod(shape)) * dtype.itemsize > size:
            raise damaged(path)
        arrays[name] = _filled(file, tuple(shape), dtype, path)
        for piece in _bytes(arrays[name]):
            digest.update(piece)
    if file.read() != digest.digest():
        raise damaged(path)
    return header, arrays


def _filled(
    file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[np.generic], path: str
) -> Array:
    array = np.empty(shape, dtype)
    for piece in _bytes(array):
        while len(piece):
            done = file.readinto(piece)  # type: ignore[attr-defined]
            if not done:
                raise damaged(path)
            piece = piece[done:]
    return array


def damaged(path: str | Path) -> InterlaceError:
    """The error for a file that is not as it was written."""
    return InterlaceError(f"'{path}' is corrupt or incomplete: save the cross-products again")
