"""Files of cross-products that were changed, cut short, or made up: refused, and nothing is run."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import interlace
from damage import MAGIC, crafted, damages, sealed, survives, taken_apart
from dense import frame
from interlace import CrossProducts, InterlaceError
from interlace.sources import container
from interlace.sources.allowed import refuse_code

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

FORMULA = "y ~ scale(x) + C(f, contr.sum) + poly(z, 2) + (x | g/h) + (1 | c)"
DAMAGED = "is corrupt or incomplete: save the cross-products again"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "sums"
    interlace.cross_products(FORMULA, frame()).save(path)
    return path.read_bytes()


def refusal(content: bytes, path: Path) -> str:
    path.write_bytes(content)
    with pytest.raises(InterlaceError) as caught:
        CrossProducts.load(path)
    return str(caught.value)


# ------------------------------------------------------------------ changed


def test_what_is_damaged_is_never_read(whole: bytes, tmp_path: Path) -> None:
    for content in damages(whole, 0, 200):
        message = refusal(content, tmp_path / "sums")
        assert DAMAGED in message or "is not a file of cross-products" in message


@pytest.mark.parametrize("part", [range(27), range(27, 60), range(-40, 0)])
def test_every_byte_of_the_ends_counts(part: range, whole: bytes, tmp_path: Path) -> None:
    for at in part:
        copy = bytearray(whole)
        copy[at] ^= 1
        refusal(bytes(copy), tmp_path / "sums")
        refusal(whole[:at], tmp_path / "sums")


def test_the_digest_comes_first(whole: bytes, tmp_path: Path, monkeypatch) -> None:
    def parsed(*_: object) -> None:
        raise AssertionError("the header was parsed before the digest was right")

    monkeypatch.setattr(container.json, "loads", parsed)
    copy = bytearray(whole)
    copy[100] ^= 1
    assert DAMAGED in refusal(bytes(copy), tmp_path / "sums")


# ------------------------------------------------------------------ made up


@pytest.mark.filterwarnings("ignore::interlace.errors.ConvergenceWarning")
def test_what_is_made_up_is_refused_or_is_a_file(whole: bytes, tmp_path: Path) -> None:
    read = sum(survives(content, tmp_path / "sums") for content in crafted(whole, 1, 100))
    assert read < 20  # names, states and counts that could be so


def with_header(change: Callable[[dict], object], whole: bytes) -> bytes:
    header, body = taken_apart(whole)
    change(header)
    return sealed(header, body)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["arrays"][0].__setitem__(1, "|O"),
        lambda h: h["arrays"][0].__setitem__(1, "<U4"),
        lambda h: h["arrays"][0].__setitem__(1, "O"),
        lambda h: h["arrays"][0].__setitem__(1, "V8"),
        lambda h: h["arrays"][0].__setitem__(1, [["a", "<f8"]]),
        lambda h: h["arrays"][0].__setitem__(2, [2**62, 2**62]),
        lambda h: h["arrays"][0].__setitem__(2, [0, 2**62, 2**62]),
        lambda h: h["arrays"][0].__setitem__(2, [-1]),
        lambda h: h["arrays"][0].__setitem__(2, [True]),
        lambda h: h["arrays"][0].__setitem__(2, [1] * 40),
        lambda h: h["arrays"].append(["a0", "<f8", [0]]),
        lambda h: h["arrays"].clear(),
        lambda h: h.__setitem__("arrays", None),
        lambda h: h.__setitem__("n", h["n"] + 1),
        lambda h: h.__setitem__("n", -5),
        lambda h: h.__setitem__("n", float(h["n"])),
        lambda h: h["names"].__setitem__(1, h["names"][0]),
        lambda h: h["names"].reverse(),
        lambda h: h["terms"].reverse(),
        lambda h: h["cells"].reverse(),
        lambda h: h["terms"][0].__setitem__("levels", h["terms"][1]["levels"]),
        lambda h: h["terms"][0].__setitem__("levels", {}),
        lambda h: h["recipe"]["groups"][0]["levels"].__setitem__(0, {}),
        lambda h: h["recipe"].__setitem__("orders", [["f", {}]]),
        lambda h: h.__setitem__("more", 1),
        lambda h: h.__setitem__("vv", h["zz"][0]),
        lambda h: h.__setitem__("recipe", "../../recipe"),
        lambda h: h["recipe"]["groups"].pop(),
        lambda h: h["recipe"]["sides"].reverse(),
        lambda h: h["recipe"]["sides"].pop(),
        lambda h: h["recipe"]["formula"].__setitem__("fixed", "x"),
    ],
)
def test_headers_that_do_not_fit(change, whole: bytes, tmp_path: Path) -> None:
    refusal(with_header(change, whole), tmp_path / "sums")


def with_array(change: Callable[[np.ndarray], object], name: str, content: bytes) -> bytes:
    """The file with one of its arrays changed in place."""
    header, body = taken_apart(content)
    at, copy = 0, bytearray(body)
    for stored, dtype, shape in header["arrays"]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if stored == name:
            change(np.frombuffer(copy, dtype, size // np.dtype(dtype).itemsize, at).reshape(shape))
        at += size
    return sealed(header, bytes(copy))


@pytest.mark.parametrize("size", [1e71, 1e154, 1e300])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g) + (1 | h)"])
def test_sums_that_no_rows_have(formula: str, size: float, tmp_path: Path) -> None:
    """Also with weights, whose sums need not be the number of rows; and a response turned over."""
    interlace.cross_products(formula, frame(), weights="w").save(tmp_path / "sums")
    content = (tmp_path / "sums").read_bytes()
    header, _ = taken_apart(content)

    def larger(array: np.ndarray) -> None:
        array[...] *= size

    def turned(basis: np.ndarray) -> None:
        basis[:, -1] *= -1.0

    blocks = [header["vv"], *header["zv"], *header["zz"], *(cell[-1] for cell in header["cells"])]
    for name in blocks:
        refusal(with_array(larger, name, content), tmp_path / "sums")
    refusal(with_array(turned, header["basis"][0], content), tmp_path / "sums")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"arrays": []}',
        b'{"n": NaN, "arrays": []}',
        b'{"n": 1e999, "arrays": []}',
        b'{"n": ' + b"9" * 6000 + b', "arrays": []}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"arrays": [["a0", "<f8", [1]], ["a0", "<f8", [1]]]}',
    ],
)
def test_headers_that_are_none(text: bytes, tmp_path: Path) -> None:
    assert DAMAGED in refusal(sealed(text, bytes(16)), tmp_path / "sums")


def test_lengths_that_lie(whole: bytes, tmp_path: Path) -> None:
    for length in (0, 1, len(whole), 2**40, 2**63, 2**64 - 1):
        start = MAGIC + struct.pack("<Q", length) + whole[len(MAGIC) + 8 : -32]
        content = start + hashlib.blake2b(start, digest_size=32).digest()
        assert DAMAGED in refusal(content, tmp_path / "sums")


def test_an_older_file_is_refused_clearly(tmp_path: Path) -> None:
    old = b"interlace cross-products 1\n" + bytes(200)
    assert refusal(old, tmp_path / "sums") == (
        f"'{tmp_path / 'sums'}' was saved by an older version, in a form that could hold programs "
        "and is no longer read: make the cross-products again and save them"
    )


def test_names_that_are_no_files(tmp_path: Path) -> None:
    for name in ("a\0b", str(tmp_path)):
        with pytest.raises(InterlaceError):
            CrossProducts.load(name)


# ------------------------------------------------------------------ formulas


@pytest.mark.parametrize(
    "text",
    [
        *("I(x**2)", "{x**2 + 1}", "`a b` + x", "np.log(y + 20)", "C(f, contr.treatment('u'))"),
        *("C(f, levels=['a', 'b'])", "C(f, contr.custom({'a': [1, -1]}))", "np.where(x > 3, 1, 0)"),
        *("bs(x, knots=[2000, 20100])", "Q('a b')", "x*z - x:z", "{-x}", "I(2**x)", "0 + x", "1"),
        *("cr(x, df=4, lower_bound=-1e6)", "scale(x, center=100000)", "(a + b + c)**2", "a/b/c"),
    ],
)
def test_arithmetic_may_stand_in_a_file(text: str) -> None:
    refuse_code(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "np.os.system('false')",
            "np.save('a', x)",
            "np.load('a')",
            "np.fromfile('a')",
            "x.mean()",
        ),
        *("np.lib.format(x)", "open('x')", "getattr(x, 'y')", "eval('1')", "exec(x)", "I(x[0])"),
        *("I(x if z else y)", "I(x, **{'a': 1})", "contr.mro()", "I(__builtins__)", "I(x := 3)"),
        *("C(f, contr.treatment.__init__)", "I([a for a in x])", "I((lambda: 1)())", "I(f'{x}')"),
        *("I(9**9**9)", "I(x**(9**9))", "I('a' * 10**9)", "I([0] * 10**9)", "poly(x, 10**8)"),
        *("poly(x, 100000000)", "hashed(x, levels=10**9)", "bs(x, df=1000000000)", "I(1 << 9999)"),
        *("(a+b+c+d)**9", "((a+b+c)**5)**5", "a*b*c*d*e*f*g*h*i*j*k*l*m*n*o*p*q*r*s*t*u*v*w"),
        *(f"I({'-' * 300}x)", "x + " * 60_000 + "x"),
    ],
)
def test_code_may_not(text: str) -> None:
    with pytest.raises(InterlaceError):
        refuse_code(text)


def test_code_in_a_formula_is_neither_saved_nor_loaded(whole: bytes, tmp_path: Path) -> None:
    data = frame()
    A = interlace.cross_products("y ~ I(x - x.mean()) + (1 | g)", data)
    with pytest.raises(InterlaceError, match=r"'x\.mean\(\)' is not on the list"):
        A.save(tmp_path / "sums")
    assert list(tmp_path.iterdir()) == []
    interlace.cross_products("y ~ I(x) + (1 | g)", data).save(tmp_path / "sums")
    content = (tmp_path / "sums").read_bytes()
    header, body = taken_apart(content)
    text = json.dumps(header).replace("I(x)", "np.os.system('false')")
    message = refusal(sealed(text.encode(), body), tmp_path / "sums")
    assert "cannot stand in a file" in message


def test_a_loaded_formula_sees_no_names_of_the_caller(tmp_path: Path) -> None:
    interlace.cross_products("y ~ I(x * 2) + (1 | g)", frame()).save(tmp_path / "sums")
    A = CrossProducts.load(tmp_path / "sums")
    assert A.recipe.encoding.context is None
    x = 5.0  # the caller's, which is not a column
    with pytest.raises(InterlaceError, match="has no column 'x'"):
        interlace.fit("y ~ I(x * 2) + (1 | g)", A).predict({"g": ["g0"], "z": [x]})


# ------------------------------------------------------------------ types of levels


DAYS = pd.date_range("2020-01-01", periods=6)
LEVELS = {
    "int": list(range(6)),
    "negative": list(range(-3, 3)),
    "uint64": list(np.arange(6, dtype=np.uint64) + np.uint64(2**62)),
    "beyond 64 bits": [2**70 + i for i in range(6)],
    "int8": list(np.arange(6, dtype=np.int8)),
    "float": [i / 7 for i in range(6)],
    "float32": list(np.arange(6, dtype=np.float32) / 7),
    "bool": [False, True] * 3,
    "text": ["", "a", "\u00e4:b", "'\"\\`", "a\0b", "\U0001f600"],
    "bytes": [b"", b"a", b"\xff\x00", b"b", b"c", b"d"],
    "decimal": [Decimal("0.10") + i for i in range(6)],
    "date": [dt.date(2020, 1, 1 + i) for i in range(6)],
    "datetime": list(DAYS),
    "zone": list(DAYS.tz_localize("Europe/Berlin")),
    "utc": list(DAYS.tz_localize("UTC")),
    "uuid": [uuid.UUID(int=i) for i in range(6)],
    "time": [dt.time(i) for i in range(6)],
}


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("formula", ["y ~ x + (1 | k)", "y ~ x + (1 | g/k)"])
def test_levels_keep_their_types(kind: str, formula: str, tmp_path: Path) -> None:
    data = frame()
    at = np.random.default_rng(3).integers(0, 6, len(data))
    data["k"] = pd.Series([LEVELS[kind][i] for i in at])
    A = interlace.cross_products(formula, data)
    A.save(tmp_path / "sums")
    B = CrossProducts.load(tmp_path / "sums")
    groups = zip(A.recipe.encoding.groups, B.recipe.encoding.groups, strict=True)
    for one, two in groups:
        for left, right in zip(one.levels, two.levels, strict=True):
            assert left.dtype == right.dtype
            assert [type(v) for v in left.tolist()] == [type(v) for v in right.tolist()]
            assert left.tolist() == right.tolist()
    for one, two in zip(A.terms, B.terms, strict=True):
        assert one.levels.tolist() == two.levels.tolist()
    fitted, again = interlace.fit(formula, A), interlace.fit(formula, B)
    assert_array_equal(fitted.predict(data[:9]), again.predict(data[:9]))
    assert again.predict(data[:9]).std() > 0


@pytest.mark.parametrize("kind", ["int", "float", "bool", "text"])
def test_categories_keep_their_types(kind: str, tmp_path: Path) -> None:
    data = frame()
    data["k"] = pd.Categorical([LEVELS[kind][i % 6] for i in range(len(data))])
    for formula in ("y ~ k + (1 | g)", "y ~ C(k, contr.helmert) + (k | g)"):
        A = interlace.cross_products(formula, data)
        A.save(tmp_path / "sums")
        found = interlace.fit(formula, CrossProducts.load(tmp_path / "sums"))
        assert_array_equal(found.predict(data[:9]), interlace.fit(formula, A).predict(data[:9]))
