"""Some 68,000 damaged files of cross-products, and 20,000 made up: refused, and nothing is run."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import interlace
from damage import crafted, survives
from dense import frame
from interlace import CrossProducts, InterlaceError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::interlace.errors.ConvergenceWarning"),
]

FORMULAS = {
    "contrasts": "y ~ scale(x) + C(f, contr.sum) + poly(z, 2) + (x | g/h) + (1 | c)",
    "small": "y ~ x + (1 | g)",
    "splines": "y ~ bs(x, df=4) + f*z + (0 + f || g)",
    "offsets": "np.log(y + 20) ~ x + offset(z) + (1 | a) + (x | h)",
}
MODELS = [(name, weights) for name in FORMULAS for weights in (None, "w")]
CRAFTED, PIECES = 2_500, 5

# What would happen if a file ran something: programs, sockets, pickles, files written or removed.
RUN = {
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen"),
    *("pickle.find_class", "socket.connect", "ctypes.dlopen", "os.remove", "os.rename", "import"),
}
_watched: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _watched is not None and (
        event in RUN or (event == "open" and arguments[1] not in ("r", "rb"))
    ):
        _watched.append(f"{event} {arguments}")


@functools.cache
def _watching() -> None:
    sys.addaudithook(_watch)  # for ever: a hook cannot be taken off again


@contextmanager
def nothing_runs() -> Iterator[None]:
    global _watched
    _watching()
    _watched = []
    try:
        yield
    finally:
        found, _watched = _watched, None
    assert found == []


@functools.cache
def whole(name: str, weights: str | None) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sums"
        interlace.cross_products(FORMULAS[name], frame(), weights=weights).save(path)
        return path.read_bytes()


def load(path: Path) -> CrossProducts:
    with nothing_runs():
        return CrossProducts.load(path)


def refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(InterlaceError):
        load(path)


@pytest.mark.parametrize("name", FORMULAS)
def test_any_byte_changed(name: str, tmp_path: Path) -> None:
    """Every byte of a file, each by one of the 255 changes."""
    content, rng = whole(name, None), random.Random(1)
    for at in range(len(content)):
        copy = bytearray(content)
        copy[at] ^= rng.randrange(1, 256)
        refused(bytes(copy), tmp_path / "sums")


@pytest.mark.parametrize("name", FORMULAS)
def test_any_length(name: str, tmp_path: Path) -> None:
    content, rng = whole(name, "w"), random.Random(2)
    for at in range(len(content)):
        refused(content[:at], tmp_path / "sums")
        if at % 10 == 0:
            refused(content[:at] + rng.randbytes(1 + at % 40) + content[at:], tmp_path / "sums")


@pytest.mark.parametrize("piece", range(PIECES))
@pytest.mark.parametrize(("name", "weights"), MODELS)
def test_made_up(name: str, weights: str | None, piece: int, tmp_path: Path) -> None:
    """2,500 files a model with right digests: refused, or files whose fits predict or refuse."""
    number = CRAFTED // PIECES
    files = crafted(whole(name, weights), 100 + piece, number)
    assert sum(survives(content, tmp_path / "sums", load) for content in files) < number // 3
