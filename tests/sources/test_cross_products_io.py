"""Cross-products saved, loaded and added: whole files or none, and the numbers of all rows."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import interlace
from alike import assert_same, in_memory
from dense import FORMULAS, frame
from interlace.errors import InterlaceError
from interlace.sources import container
from interlace.sources.frames import of_frames
from interlace.sums.crossprod import CrossProducts
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

FORMULA = "y ~ x + f + (x | g/h) + (1 | c)"


def made(formula: str = FORMULA, data: pd.DataFrame | None = None, **more: str) -> CrossProducts:
    return interlace.cross_products(formula, frame() if data is None else data, **more)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("name", cases.case_names())
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    case = cases.load_case(name)
    A = interlace.cross_products(case.formula, case.data, **case.arguments)
    A.save(tmp_path / "sums")
    B = CrossProducts.load(str(tmp_path / "sums"))
    assert (A.n, A.names, A.dropped, A.sum_log_w) == (B.n, B.names, B.dropped, B.sum_log_w)
    for one, two in zip((A.vv, *A.zv, *A.zz), (B.vv, *B.zv, *B.zz), strict=True):
        assert_array_equal(one, two)
    for pair, cells in A.cells.items():
        for field in ("rows", "cols", "values"):
            assert_array_equal(getattr(cells, field), getattr(B.cells[pair], field))
            assert getattr(cells, field).dtype == getattr(B.cells[pair], field).dtype
    for term, other in zip(A.terms, B.terms, strict=True):
        assert (term.group, term.columns, term.backwards) == (
            other.group,
            other.columns,
            other.backwards,
        )
        assert term.levels.tolist() == other.levels.tolist()
        assert_array_equal(term.free, other.free)
    assert [path.name for path in tmp_path.iterdir()] == ["sums"]


@pytest.mark.parametrize(
    "formula",
    [
        FORMULA,
        "y ~ scale(x) + C(f, contr.sum) + poly(z, 2) + np.exp(center(z)) + (1 | g)",
        "y ~ bs(x, df=4) + (0 + f || g)",
        "np.log(y + 20) ~ x + offset(z) + (1 | day)",
        "y ~ 0 + (1 | number)",
    ],
)
def test_a_fit_from_a_file_predicts(formula: str, tmp_path: Path) -> None:
    data = frame().assign(
        number=lambda d: np.arange(len(d)) % 7 * 1.5,
        day=lambda d: np.datetime64("2020-01-01") + np.arange(len(d)) % 6,
    )
    made(formula, data, weights="w", offset="o").save(tmp_path / "sums")
    result = interlace.fit(formula, CrossProducts.load(tmp_path / "sums"))
    expected = interlace.fit(formula, data, weights="w", offset="o")
    assert_array_equal(result.theta, expected.theta)
    assert_array_equal(result.predict(data[:9]), expected.predict(data[:9]))
    assert result.ngroups == expected.ngroups
    assert str(result.summary()) == str(expected.summary())


def test_saved_over_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "sums"
    made("y ~ x + (1 | g)").save(path)
    made().save(path)
    assert CrossProducts.load(path).names == ("Intercept", "x", "f[T.f1]", "f[T.f2]")


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "sums"
    with pytest.raises(InterlaceError) as caught:
        CrossProducts.load(path)
    assert str(caught.value) == f"'{path}' cannot be read: No such file or directory"


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "sums"
    for content in (b"", b"y,x\n1,2\n" * 9, b"interlace cross-products 2\n" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(InterlaceError) as caught:
            CrossProducts.load(path)
        assert (
            str(caught.value) == f"'{path}' is not a file of cross-products, or of another version"
        )


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_never_read(
    at: float, flip: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "sums"
    made("y ~ x + f + (1 | g)").save(path)
    whole = bytearray(path.read_bytes())
    place = int(at * len(whole))
    if cut:
        whole = whole[:place]
    else:
        whole[place] ^= flip
    path.write_bytes(whole)
    with pytest.raises(InterlaceError) as caught:
        CrossProducts.load(path)
    assert str(caught.value) in (
        f"'{path}' is corrupt or incomplete: save the cross-products again",
        f"'{path}' is not a file of cross-products, or of another version",
    )


def failing(after: int, error: BaseException):
    """A write that fails after some pieces."""
    pieces: list[int] = []
    write_all = container.write_all

    def write(file, piece) -> None:
        pieces.append(len(piece))
        if len(pieces) > after:
            raise error
        write_all(file, piece)

    return write


@pytest.mark.parametrize("after", [0, 3])
def test_a_full_disk(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sums"
    made("y ~ x + (1 | g)").save(path)
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(container, "write_all", failing(after, full))
    for target in (path, tmp_path / "new"):
        with pytest.raises(InterlaceError) as caught:
            made().save(target)
        assert str(caught.value) == (
            f"'{target}' cannot be saved (No space left on device); nothing is left of it on the "
            "disk"
        )
    assert [p.name for p in tmp_path.iterdir()] == ["sums"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("column", ["w", "y", "x"])
@pytest.mark.parametrize("size", [1e-150, 1e-100, 1e-9, 1e9, 1e100, 1e150])
def test_sums_of_columns_of_any_size(column: str, size: float, tmp_path: Path) -> None:
    data = frame().assign(**{column: lambda d: d[column] * (size**2 if column == "w" else size)})
    A = interlace.cross_products("y ~ x + f + (x | g) + (1 | h)", data, weights="w")
    A.save(tmp_path / "sums")
    B = CrossProducts.load(tmp_path / "sums")
    assert_same(B, A)
    for one, two in zip((A.vv, *A.zv, *A.zz), (B.vv, *B.zv, *B.zz), strict=True):
        assert_array_equal(one, two)


def test_an_interrupt_while_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "write_all", failing(2, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        made().save(tmp_path / "sums")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits on files are a matter of Unix")
def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    code = """
        import resource, sys
        import interlace
        data = interlace.datasets.load("sleepstudy")
        A = interlace.cross_products("Reaction ~ Days + (Days | Subject)", data)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            A.save(sys.argv[1])
        except interlace.InterlaceError as error:
            sys.exit(0 if "cannot be saved (File too large)" in str(error) else str(error))
        sys.exit("it was saved")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "sums")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "sums"
    with pytest.raises(InterlaceError) as caught:
        made().save(path)
    assert str(caught.value) == (
        f"'{path}' cannot be saved (No such file or directory); nothing is left of it on the disk"
    )


def test_sums_of_the_core_do_not_say_how_rows_were_encoded(tmp_path: Path) -> None:
    A = in_memory("y ~ x + (1 | g)", frame())
    for action in (lambda: A.save(tmp_path / "sums"), lambda: interlace.fit("y ~ x + (1 | g)", A)):
        with pytest.raises(InterlaceError) as caught:
            action()
        assert str(caught.value) == (
            "these cross-products do not say how their rows were encoded: make them with "
            "interlace.cross_products()"
        )


# ------------------------------------------------------------------ sums


@pytest.mark.parametrize("name", FORMULAS)
def test_sums_of_rows_on_different_levels(name: str) -> None:
    """Levels, their order and the order of the terms are those of all rows."""
    data, formula = frame(), FORMULAS[name]
    first = np.random.default_rng(0).random(len(data)) < 0.3
    first[np.isin(data["g"], ["g0", "g5"])] = False  # levels that only the second part has
    a, b = made(formula, data[first], weights="w"), made(formula, data[~first], weights="w")
    whole = in_memory(formula, data, weights="w")
    assert_same(a + b, whole)
    assert_same(b + a, whole)
    result, expected = interlace.fit(formula, a + b), interlace.fit(formula, data, weights="w")
    assert result.criterion == pytest.approx(expected.criterion, abs=1e-6)
    assert_allclose(result.predict(data), expected.predict(data), rtol=0, atol=1e-4)


def test_sums_of_three_parts_in_any_order(tmp_path: Path) -> None:
    data = frame()
    data.loc[[3, 50], "x"] = np.nan
    parts = [made(data=data[i::3]) for i in range(3)]
    for order in ([0, 1, 2], [2, 0, 1]):
        a, b, c = (parts[i] for i in order)
        assert_same((a + b) + c, in_memory(FORMULA, data))
        assert_same(a + (b + c), in_memory(FORMULA, data))
    total = parts[0] + parts[1] + parts[2]
    total.save(tmp_path / "sums")
    assert interlace.fit(FORMULA, CrossProducts.load(tmp_path / "sums")).n_dropped == 2


def test_sums_from_memory_and_from_parts() -> None:
    data = frame()
    halves = of_frames([data[:30], data[30:60]])
    found = interlace.cross_products(FORMULA, halves) + made(data=data[60:])
    assert_same(found, in_memory(FORMULA, data))


def refusal(a: CrossProducts, b: CrossProducts) -> str:
    with pytest.raises(InterlaceError) as caught:
        a + b
    return str(caught.value)


def test_rows_that_were_encoded_in_other_ways_do_not_add() -> None:
    data = frame()
    simple, other = made("y ~ x + (1 | g)"), made("y ~ x + (1 | h)")
    assert refusal(simple, other) == (
        "cross-products cannot be added: one is of 'y ~ x + (1 | g)', the other of "
        "'y ~ x + (1 | h)'"
    )
    weighted = made("y ~ x + (1 | g)", weights="w")
    assert refusal(simple, weighted) == (
        "cross-products cannot be added: weights is None in one and 'w' in the other"
    )
    halves = [made("y ~ scale(x) + (1 | g)", part) for part in (data[:40], data[40:])]
    assert refusal(*halves) == (
        "cross-products cannot be added: 'scale(x)' was computed from the rows of each alone; "
        "make them of all rows at once, or leave the transform out"
    )
    numbers = made("y ~ x + (1 | g)", data.assign(g=data["g"].str[1:].astype(int)))
    assert refusal(simple, numbers) == (
        "cross-products cannot be added: 'g' holds text in only one of them"
    )


def test_the_same_transform_adds() -> None:
    data = frame()
    formula = "y ~ scale(x, center=1, scale=2) + (1 | g)"
    assert_same(made(formula, data[:40]) + made(formula, data[40:]), in_memory(formula, data))


def test_columns_that_are_redundant_in_one_part_alone() -> None:
    data = frame().assign(late=lambda d: np.where(np.arange(len(d)) < 40, d["x"], d["z"]))
    parts = [made("y ~ x + late + (1 | g)", part) for part in (data[:40], data[40:])]
    assert parts[0].dropped == ("late",)
    assert_same(parts[0] + parts[1], in_memory("y ~ x + late + (1 | g)", data))
    assert_same(parts[1] + parts[0], in_memory("y ~ x + late + (1 | g)", data))


# ------------------------------------------------------------------ fits


def test_fit_takes_the_formula_of_the_sums_alone() -> None:
    A = made("y ~ x + (1 | g)", weights="w")
    assert interlace.fit("y ~ x", A, groups="g", weights="w").nobs == len(frame())
    with pytest.raises(InterlaceError) as caught:
        interlace.fit("y ~ z + (1 | g)", A)
    assert str(caught.value) == (
        "the cross-products are those of 'y ~ x + (1 | g)', not of 'y ~ z + (1 | g)': fit that "
        "formula, or make cross-products of this one"
    )
    for argument, value in {"weights": "z", "offset": "z"}.items():
        with pytest.raises(InterlaceError) as caught:
            interlace.fit("y ~ x + (1 | g)", A, **{argument: value})
        assert str(caught.value).startswith(
            f"{argument} cannot be changed any more: the cross-products were made with {argument}="
        )


def test_sums_without_their_rows_subtract() -> None:
    data = frame()
    A, part = made("y ~ x + (1 | f)"), made("y ~ x + (1 | f)", data[30:])
    left = replace(A - part, recipe=None)
    assert_same(left, in_memory("y ~ x + (1 | f)", data[:30]))
