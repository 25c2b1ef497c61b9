"""Files of cross-products that are damaged, or made up with a right digest, and what reads them."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

import interlace
from dense import frame
from interlace import CrossProducts, InterlaceError

MAGIC = b"interlace 2 cross-products\n"
RESULT = b"interlace 1 result\n"


def sealed(header: object, body: bytes, magic: bytes = MAGIC) -> bytes:
    """A file with a digest that is right, whatever it holds."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    start = magic + struct.pack("<Q", len(text)) + text + body
    return start + hashlib.blake2b(start, digest_size=32).digest()


def taken_apart(content: bytes) -> tuple[dict, bytes]:
    magic = content[: content.index(b"\n") + 1]
    start = len(magic) + 8
    (length,) = struct.unpack("<Q", content[len(magic) : start])
    return json.loads(content[start : start + length]), content[start + length : -32]


def damages(whole: bytes, seed: int, n: int) -> list[bytes]:
    """Copies with one byte changed, cut short, or longer."""
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        copy, at = bytearray(whole), rng.randrange(len(whole))
        match rng.randrange(4):
            case 0 | 1:
                copy[at] ^= rng.randrange(1, 256)
            case 2:
                copy = copy[:at]
            case _:
                copy[at:at] = rng.randbytes(rng.randrange(1, 40))
        found.append(bytes(copy))
    return found


# ------------------------------------------------------------------ made up


HOSTILE = [
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**70, -0.0, 0.5, 1e308, "", "x", "a0", "\ud800"),
    *([], {}, [[]], {"": 1}, [None], "|O", "<U9", "__import__('os').system('false')"),
    *("../../etc/passwd", "a\0b", ["a0", "a0"], {"text": "a0"}, [1] * 50),
]


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Paths to every value of nested lists and dicts."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        found += (
            [(*path, key)] if not isinstance(inner, dict | list) else places(inner, (*path, key))
        )
    return found


def mutated(header: dict, rng: random.Random) -> dict:
    """The header with one value replaced, taken out, given twice, or moved."""
    copy = json.loads(json.dumps(header))
    *way, last = rng.choice(places(copy))
    holder = copy
    for key in way:
        holder = holder[key]
    match rng.randrange(5):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, list):
            holder.insert(last, holder[last])
        case 2 if isinstance(holder, list):
            rng.shuffle(holder)
        case 3 if type(holder[last]) is int:
            holder[last] += rng.choice([-1, 1, 1000])
        case _:
            holder[last] = rng.choice(HOSTILE)
    return copy


def altered(header: dict, body: bytes, rng: random.Random) -> bytes:
    """The arrays with one number replaced by another, or by none."""
    copy, at = bytearray(body), 0
    bounds = []
    for _, dtype, shape in header["arrays"]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        bounds.append((at, at + size, np.dtype(dtype)))
        at += size
    start, stop, dtype = rng.choice([b for b in bounds if b[1] > b[0]])
    place = start + dtype.itemsize * rng.randrange((stop - start) // dtype.itemsize)
    values = [np.nan, np.inf, -1.0, 1e300] if dtype.kind == "f" else [-1, 255, 2**31 - 1]
    with np.errstate(all="ignore"):
        value = np.array(rng.choice(values)).astype(dtype)
    copy[place : place + dtype.itemsize] = value.tobytes()
    return bytes(copy)


def crafted(whole: bytes, seed: int, n: int) -> list[bytes]:
    """Files with right digests, of which one thing is made up."""
    rng = random.Random(seed)
    magic = whole[: whole.index(b"\n") + 1]
    header, body = taken_apart(whole)
    found = []
    for _ in range(n):
        match rng.randrange(3):
            case 0:
                found.append(sealed(header, altered(header, body, rng), magic))
            case _:
                text = json.dumps(mutated(header, rng)).encode()
                found.append(sealed(text, body, magic))
    return found


def survives(
    content: bytes, path: Path, load: Callable[[Path], CrossProducts] = CrossProducts.load
) -> bool:
    """Whether a file is read: then saving it gives the same, and its fit predicts or refuses."""
    path.write_bytes(content)
    try:
        A = load(path)
    except InterlaceError:
        return False
    A.save(path)
    assert path.read_bytes() == content
    with suppress(InterlaceError):
        interlace.fit(str(A.recipe.encoding.formula), A).predict(frame()[:3])
    return True
