"""Generalised models from files, relations, frames in parts and clusters: those of the frame."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import dask
import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from dask import dataframe as dd

import interlace
from interlace import InterlaceError
from sources.general import frame_of, parquet_of, same

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of()


Made = Callable[[pd.DataFrame, Path], object]


def _csv(frame: pd.DataFrame, folder: Path) -> object:
    frame.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def _dask(frame: pd.DataFrame, folder: Path) -> object:
    return dd.from_pandas(frame, npartitions=5, sort=False)


MADE: dict[str, Made] = {
    "parquet": parquet_of,
    "csv": _csv,
    "dask": _dask,
    "duckdb": lambda frame, _: duckdb.from_df(frame),
    "polars": lambda frame, _: pl.from_pandas(frame).lazy(),
    "arrow": lambda frame, folder: ds.dataset(parquet_of(frame, folder).rsplit("/", 1)[0]),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("source", MADE)
def test_every_source_gives_the_fit_of_the_frame(
    frame: pd.DataFrame, tmp_path: Path, source: str
) -> None:
    arguments = {"family": "binomial", "trials": "size", "weights": "w"}
    formula = "hits ~ x + site + (1 | g) + (1 | h)"
    with dask.config.set(scheduler="synchronous"):
        found = interlace.fit(formula, MADE[source](frame, tmp_path), **arguments)
    wanted = interlace.fit(formula, frame, **arguments)
    same(found, wanted)
    assert wanted.n_dropped == 2
    assert list(found.fe_params.index)[2] == "site[T.north]"
    assert found.predict(frame[4:9]) == pytest.approx(wanted.predict(frame[4:9]), rel=1e-7)
    assert found.fittedvalues == pytest.approx(wanted.fittedvalues, rel=1e-7)


@pytest.mark.parametrize(
    ("formula", "arguments"),
    [
        ("count ~ x + offset(0.1 * w) + (1 | g)", {"family": "poisson", "exposure": "hours"}),
        ("count ~ x + (1 | g)", {"family": "negative-binomial", "dispersion": "~ site"}),
        ("count ~ x + (1 | g)", {"family": "poisson", "zero_inflation": "~ 1", "offset": "w"}),
        ("answer ~ x + (x | h)", {"family": "binomial", "link": "probit"}),
        ("w ~ x + (1 | g)", {"family": "ordinal"}),
    ],
)
def test_families_and_arguments_that_are_columns(
    frame: pd.DataFrame, tmp_path: Path, formula: str, arguments: dict[str, str]
) -> None:
    same(
        interlace.fit(formula, parquet_of(frame, tmp_path), **arguments),
        interlace.fit(formula, frame, **arguments),
    )


def test_categories_keep_their_declared_order(frame: pd.DataFrame) -> None:
    order = ["west", "north", "south", "east"]
    declared = frame.assign(site=pd.Categorical(frame["site"], order))
    source = dd.from_pandas(declared, npartitions=4, sort=False)
    with dask.config.set(scheduler="synchronous"):
        found = interlace.fit("hits ~ site + (1 | g)", source, family="binomial", trials="size")
    wanted = interlace.fit("hits ~ site + (1 | g)", declared, family="binomial", trials="size")
    assert list(found.fe_params.index)[1] == "site[T.north]"
    same(found, wanted)


def test_what_cannot_be_read_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = parquet_of(frame, tmp_path)
    with pytest.raises(InterlaceError, match="trials must be the name of a column: the 3 files"):
        interlace.fit("hits ~ x + (1 | g)", path, family="binomial", trials=frame["size"])
    with pytest.raises(InterlaceError, match=r"no column 'sizes'; did you mean 'size'\?"):
        interlace.fit("hits ~ x + (1 | g)", path, family="binomial", trials="sizes")
    with pytest.raises(InterlaceError, match="no column 'z'"):
        interlace.fit("count ~ x + (1 | g)", path, family="poisson", zero_inflation="~ z")
    with pytest.raises(InterlaceError, match="trials= belongs to family='binomial'"):
        interlace.fit("count ~ x + (1 | g)", path, family="poisson", trials="size")
    with pytest.raises(
        InterlaceError, match=r"the response 'hours' holds .* in row 0 of the data .*: a Poisson"
    ):
        interlace.fit("hours ~ x + (1 | g)", path, family="poisson")
    with pytest.raises(InterlaceError, match="values are missing in the column 'x'"):
        interlace.fit("count ~ x + (1 | g)", path, family="poisson", missing="raise")
    sums = interlace.cross_products("count ~ x + (1 | g)", frame)
    with pytest.raises(InterlaceError, match="cross-products do not keep: pass the data"):
        interlace.fit("count ~ x + (1 | g)", sums, family="poisson")


@pytest.mark.slow
def test_a_worker_killed_half_way_changes_nothing(frame: pd.DataFrame, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    source, flag = dd.from_pandas(frame, npartitions=6, sort=False), tmp_path / "killed"

    def kill_once(part: pd.DataFrame) -> pd.DataFrame:
        if 100 in part.index and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=2, **options) as cluster, distributed.Client(cluster):
        lost = source.map_partitions(kill_once, meta=frame[:0])
        found = interlace.fit("count ~ x + (1 | g) + (1 | h)", lost, family="poisson")
    assert flag.exists()
    same(found, interlace.fit("count ~ x + (1 | g) + (1 | h)", frame, family="poisson"))
