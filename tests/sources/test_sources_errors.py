"""Bad data and interruptions where rows are read part by part: a clear error, nothing left over."""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

import interlace
from dense import frame
from interlace.errors import InterlaceError
from interlace.sources import Partition, Source, files, passes
from interlace.sources.frames import of_frames

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

FORMULA = "y ~ x + (1 | g)"


def write(folder: Path, *parts: pd.DataFrame) -> str:
    for i, part in enumerate(parts):
        part.to_parquet(folder / f"part{i}.parquet", index=False)
    return str(folder / "*.parquet")


def halves(data: pd.DataFrame | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    data = frame() if data is None else data
    return data[:40], data[40:]


def message(data: object, formula: str = FORMULA, **arguments: object) -> str:
    with pytest.raises(InterlaceError) as caught:
        interlace.fit(formula, data, **arguments)
    return str(caught.value)


# ------------------------------------------------------------------ files


def test_no_file(tmp_path: Path) -> None:
    pattern = str(tmp_path / "*.parquet")
    assert message(pattern) == f"no file matches '{pattern}' (looked in {Path.cwd()})"


def test_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    path = tmp_path / "data.xlsx"
    path.write_bytes(b"x")
    assert message(path) == (
        f"'{path}' is of an unknown kind: files must end in .parquet, .pq, .csv, .csv.gz, .tsv, "
        ".tsv.gz"
    )


def test_a_file_elsewhere() -> None:
    assert message("s3://bucket/data.parquet") == (
        "'s3://bucket/data.parquet' is not a local file: open it with DuckDB and pass the "
        "relation, as in duckdb.read_parquet(...)"
    )


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    write(tmp_path, *halves())
    (tmp_path / "notes.md").write_text("not data")
    assert interlace.cross_products(FORMULA, tmp_path).n == len(frame())


@pytest.mark.parametrize("damage", ["empty", "truncated", "no Parquet", "page"])
def test_a_corrupt_parquet_file(tmp_path: Path, damage: str) -> None:
    big = pd.concat([frame()] * 50)
    pattern = write(tmp_path, *halves(big))
    bad = tmp_path / "part1.parquet"
    whole = bad.read_bytes()
    middle = len(whole) // 4
    bad.write_bytes(
        {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "no Parquet": b"just some text, long enough to hold a footer",
            "page": whole[:100] + bytes(255 - b for b in whole[100:middle]) + whole[middle:],
        }[damage]
    )
    text = message(pattern)
    assert text.startswith(f"the file '{bad}' cannot be read; it may be corrupt or incomplete: "), (
        text
    )


def test_a_column_that_changes_its_type(tmp_path: Path) -> None:
    first, second = halves()
    pattern = write(tmp_path, first, second.assign(x="many"))
    assert message(pattern) == (
        f"the column 'x' changes its type: it is DOUBLE in '{tmp_path / 'part0.parquet'}', but "
        f"VARCHAR in '{tmp_path / 'part1.parquet'}'; give it one type in all files"
    )


def test_a_column_that_is_not_used_may_change_its_type(tmp_path: Path) -> None:
    first, second = halves()
    pattern = write(tmp_path, first, second.assign(z="many"))
    assert interlace.cross_products(FORMULA, pattern).n == len(frame())


def test_numbers_may_be_whole_in_one_file(tmp_path: Path) -> None:
    first, second = halves(frame().assign(x=lambda d: d["x"].round()))
    pattern = write(tmp_path, first.astype({"x": int}), second)
    assert interlace.cross_products(FORMULA, pattern).n == len(frame())


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        *[(name, "numbers") for name in ("TINYINT", "UBIGINT", "INTEGER", "HUGEINT", "UINTEGER")],
        *[(name, "numbers") for name in ("DOUBLE", "FLOAT", "DECIMAL(18,3)")],
        *[(name, "text") for name in ("VARCHAR", "ENUM('a', 'b')")],
        *[(name, name) for name in ("BOOLEAN", "DATE", "INTERVAL", "INTEGER[]", "TIMESTAMP")],
    ],
)
def test_types_that_can_stand_for_each_other(dtype: str, kind: str) -> None:
    assert files._kind(dtype) == kind


def test_parts_of_frames_that_change_their_type() -> None:
    first, second = halves()
    assert message(of_frames([first, second.assign(x="many")])) == (
        "the column 'x' changes its type: it holds numbers in part 0 of the data, but text or "
        "categories in part 1 of the data; give it one type in all of them"
    )


def test_a_missing_column(tmp_path: Path) -> None:
    first, second = halves()
    pattern = write(tmp_path, first, second.rename(columns={"x": "xx"}))
    assert message(pattern) == (
        f"the file '{tmp_path / 'part1.parquet'}' has no column 'x'; did you mean 'xx'?"
    )
    one = tmp_path / "part0.parquet"
    assert message(one, "y ~ x + (1 | gg)") == f"'{one}' has no column 'gg'; did you mean 'g'?"
    assert message(one, "y ~ xs + (1 | g)") == f"'{one}' has no column 'xs'; did you mean 'x'?"


def test_files_without_rows(tmp_path: Path) -> None:
    first, second = halves()
    pattern = write(tmp_path, first, second[:0], second)
    assert interlace.cross_products(FORMULA, pattern).n == len(frame())
    empty = tmp_path / "empty.parquet"
    first[:0].to_parquet(empty)
    assert message(empty) == f"there are no rows in '{empty}'"


def test_csv_files_with_a_header_alone(tmp_path: Path) -> None:
    first, second = halves()
    for name, part in {"a": first[:0], "b": first, "c": second}.items():
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    assert interlace.cross_products(FORMULA, str(tmp_path / "*.csv")).n == len(frame())


def test_missing_values_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    data = frame().copy()
    data.loc[:3, "x"] = np.nan
    data.to_csv(path, index=False, na_rep="NA")
    result = interlace.fit(FORMULA, path)
    assert (result.nobs, result.n_dropped) == (len(data) - 4, 4)


def test_text_far_down_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    data = pd.concat([frame()] * 400, ignore_index=True).astype({"x": object})
    data.loc[len(data) - 1, "x"] = "many"
    data.to_csv(path, index=False)
    text = message(path)
    assert text == (
        f"the file '{path}' cannot be read; it may be corrupt or incomplete: Conversion Error: CSV "
        'Error on Line: 36001 Error when converting column "x". Could not convert string "many" to '
        "'DOUBLE'"
    )


def test_an_infinite_value_is_found(tmp_path: Path) -> None:
    first, second = halves()
    second = second.assign(x=np.where(np.arange(len(second)) == 7, np.inf, second["x"]))
    pattern = write(tmp_path, first, second)
    assert message(pattern) == (
        f"the column 'x' is infinite in row 7 of '{tmp_path / 'part1.parquet'}' (counted from 0): "
        "make it missing or correct it"
    )
    second = second.assign(x=np.where(np.arange(len(second)) == 7, 0.0, 1.0))
    pattern = write(tmp_path, first.assign(x=2.0), second)
    assert message(pattern, "y ~ np.log(x) + (1 | g)").startswith("'np.log(x)' is -inf in row ")


def test_weights_that_are_not_positive(tmp_path: Path) -> None:
    first, second = halves()
    pattern = write(tmp_path, first, second.assign(w=np.where(second.index == 45, 0.0, 1.0)))
    text = message(pattern, weights="w")
    assert text.startswith("weights must be positive, but row ")


# ------------------------------------------------------------------ other sources


@pytest.mark.parametrize("argument", ["weights", "offset"])
def test_arrays_cannot_be_cut(argument: str) -> None:
    assert message(frame_source(), **{argument: np.ones(len(frame()))}) == (
        f"{argument} must be the name of a column: the data is read part by part, and an array "
        "does not say which of its values belong to which part"
    )


def frame_source() -> Source:
    return of_frames(halves())


def test_a_reader_that_reads_once() -> None:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    assert message(table.to_reader()) == (
        "a RecordBatchReader can be read only once, and a fit reads its rows at least twice "
        "(levels first): pass the dataset or file behind it, or reader.read_all()"
    )


def test_a_dataset_with_a_corrupt_file(tmp_path: Path) -> None:
    write(tmp_path, *halves())
    data = pa.dataset.dataset(tmp_path, format="parquet")
    (tmp_path / "part1.parquet").write_bytes(b"PAR1" * 20)
    text = message(data)
    assert text.startswith("Arrow cannot read the dataset: "), text
    assert "part1.parquet" in text


def test_a_lazy_frame_that_fails(tmp_path: Path) -> None:
    write(tmp_path, *halves())
    data = pl.scan_parquet(tmp_path / "*.parquet")
    assert message(data.select("y", "x", "no such column", "g")).startswith("Polars cannot ")
    failing = pl.from_pandas(frame()).lazy().with_columns(pl.col("g").cast(pl.Int64))
    assert message(failing).startswith("Polars cannot collect the LazyFrame: ")


def test_a_relation_that_fails() -> None:
    connection = duckdb.connect()
    rows = frame()
    relation = connection.from_df(rows).project("y, x, CAST(g AS INTEGER) AS g")
    assert message(relation).startswith("DuckDB cannot read the relation: ")


def test_missing_must_be_known() -> None:
    assert (
        message(frame_source(), missing="skip") == "missing must be 'drop' or 'raise', not 'skip'"
    )


@pytest.mark.parametrize("module", ["duckdb", "pyarrow"])
def test_an_optional_package_that_is_not_there(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, frame())
    monkeypatch.setitem(sys.modules, module, None)
    assert message(path).endswith(f"needs {module}: pip install 'interlace[sources]'")


# ------------------------------------------------------------------ too many levels


def counting(n: int, read: list[int]) -> Source:
    """Parts of 1,000 rows, each row a level of its own; notes the parts that were read."""

    def reader(i: int, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        read.append(i)
        part = pd.concat([frame(1000, seed=1)])
        yield part.assign(person=np.arange(i * 1000, (i + 1) * 1000))

    from functools import partial

    made = tuple(Partition(f"part {i}", partial(reader, i)) for i in range(n))
    return Source(("y", "x", "g", "person"), made)


def test_too_many_levels_stop_the_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(passes, "memory_limit", lambda: 4e6)
    text = message(counting(1000, read), "y ~ x + (1 | person)")
    found = re.fullmatch(
        r"the grouping factor 'person' has too many levels for the memory at hand: ([\d,]+) in the "
        r"first ([\d,]+) rows, which take [\d.]+ GiB of 0\.0019 GiB; is it a column of identifiers "
        r"of single rows\? Group by a coarser column",
        text,
    )
    assert found is not None, text
    assert found[1] == found[2]
    assert len(read) < 100


# ------------------------------------------------------------------ data that changes


def test_rows_that_change_between_passes() -> None:
    passes_seen = []

    def reader(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        passes_seen.append(1)
        yield frame()[: len(frame()) - len(passes_seen)]

    source = Source(tuple(frame().columns), (Partition("the rows", reader),))
    assert message(source) == (
        "the data changed while it was read (88 complete rows after 89 in a later pass): every "
        "pass must give the same rows; if a query draws them at random, write its result to a file "
        "first"
    )


def test_levels_that_appear_in_the_second_pass() -> None:
    passes_seen = []

    def reader(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        passes_seen.append(1)
        yield frame() if len(passes_seen) == 1 else frame().assign(g="another")

    source = Source(tuple(frame().columns), (Partition("the rows", reader),))
    assert message(source).startswith(
        "the data changed while it was read (a level of 'g' is new in a later pass): "
    )


# ------------------------------------------------------------------ interruptions


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupt_ends_the_pass_at_once(at: int, tmp_path: Path, monkeypatch) -> None:
    """A real signal, while DuckDB streams a file; no thread of ours, and no file, is left."""
    pattern = write(tmp_path, *halves(pd.concat([frame()] * 300)))
    monkeypatch.setattr(files, "ROWS", 2048)
    seen: list[int] = []
    name = {1: "scan_batch", 2: "_part_batch"}[at]
    work = getattr(passes, name)

    def interrupted(*arguments: object) -> object:
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return work(*arguments)

    monkeypatch.setattr(passes, name, interrupted)
    before = set(threading.enumerate()), set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        interlace.cross_products(FORMULA, pattern)
    assert len(seen) == 3
    assert (set(threading.enumerate()), set(tmp_path.iterdir())) == before
    monkeypatch.setattr(passes, name, work)
    assert interlace.cross_products(FORMULA, pattern).n == 300 * len(frame())


# ------------------------------------------------------------------ progress


def test_a_bar_for_every_pass(capsys: pytest.CaptureFixture[str]) -> None:
    interlace.cross_products(FORMULA, frame_source(), progress=True)
    shown = capsys.readouterr().err
    assert "levels: 100%" in shown
    assert "cross-products: 100%" in shown
    assert f"{len(frame())}/{len(frame())}" in shown


@pytest.mark.parametrize("progress", [None, False])
def test_quiet_without_a_terminal(progress, capsys: pytest.CaptureFixture[str]) -> None:
    interlace.fit(FORMULA, frame_source(), progress=progress)
    assert capsys.readouterr() == ("", "")


# ------------------------------------------------------------------ results without rows


def test_what_a_result_without_rows_can_do(tmp_path: Path) -> None:
    formula = "y ~ x + f + (x | g) + (1 | h)"
    result = interlace.fit(formula, write(tmp_path, *halves()))
    held = interlace.fit(formula, frame())
    assert result.design is None
    assert result.encoding.fixed.names == held.encoding.fixed.names
    again = pickle.loads(pickle.dumps(result))
    for one in (result, again):
        for include in (True, False, "g"):
            new = one.predict(frame()[:9], include), held.predict(frame()[:9], include)
            np.testing.assert_allclose(*new, rtol=1e-6)
        limits = one.predict(frame()[:9], interval="prediction")
        np.testing.assert_allclose(limits, held.predict(frame()[:9], interval="prediction"), 1e-5)
        assert str(one.summary()).splitlines()[0] == str(held.summary()).splitlines()[0]
        pd.testing.assert_frame_equal(one.tidy("fixed"), held.tidy("fixed"), rtol=1e-5)
        for key, effects in one.random_effects.items():
            np.testing.assert_allclose(effects, held.random_effects[key], rtol=0, atol=1e-6)
    assert result.update(method="ML").method == "ML"
    assert str(result.singular_report()) == str(held.singular_report())


NEEDS = {
    "fittedvalues": lambda r: r.fittedvalues,
    "resid": lambda r: r.resid,
    "predict without newdata": lambda r: r.predict(),
    "simulate": lambda r: r.simulate(),
    "refit": lambda r: r.refit(np.ones(r.nobs)),
    "bootstrap": lambda r: r.bootstrap(2),
    "bootstrap_se": lambda r: r.bootstrap_se(),
    "fittedvalues ": lambda r: r.augment(),
}


@pytest.mark.parametrize("verb", NEEDS)
def test_what_needs_rows_says_so(verb: str) -> None:
    result = interlace.fit(FORMULA, frame_source())
    with pytest.raises(InterlaceError) as caught:
        NEEDS[verb](result)
    assert (
        "needs the rows of the model, and this one was fitted without holding them: fit it to "
        "a frame in memory (data=)" in str(caught.value)
    )
    assert str(caught.value).startswith(verb.strip()) or verb.endswith(" ")


def test_diagnostics_need_rows() -> None:
    result = interlace.fit(FORMULA, frame_source())
    with pytest.raises(InterlaceError, match=r"^diagnostics look at single rows"):
        interlace.hlm_resid(result)


def test_models_without_rows_are_compared() -> None:
    small, large = (interlace.fit(f, frame_source()) for f in (FORMULA, "y ~ x + z + (1 | g)"))
    table = interlace.anova(small, large).table
    expected = interlace.anova(
        *(interlace.fit(f, frame()) for f in (FORMULA, "y ~ x + z + (1 | g)"))
    ).table
    np.testing.assert_allclose(table["Chisq"].iloc[1], expected["Chisq"].iloc[1], rtol=1e-6)
    other = interlace.fit(FORMULA, of_frames(halves(frame(seed=3))))
    with pytest.raises(InterlaceError, match="have different values of the response 'y'"):
        interlace.anova(small, other)
