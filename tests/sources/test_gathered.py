"""Models with ``residual=`` from files, relations and frames in parts: those of the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError
from interlace.sources import gathered


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    weeks = ["w4", "w8", "w12", "w16"]
    frame = pd.DataFrame(
        {
            "id": np.repeat([f"p{i}" for i in range(60)], 4),
            "week": pd.Categorical(np.tile(weeks, 60), weeks),
            "arm": np.repeat(["a", "b"], 120),
            "x": rng.normal(size=240),
            "unused": "text",
        }
    )
    frame["y"] = rng.normal(size=240) + np.repeat(rng.normal(size=60), 4) + frame["x"]
    frame.loc[3, "y"] = np.nan
    # Rows of a subject are not together.
    return frame.sample(frac=1.0, random_state=2).reset_index(drop=True)


def same(data: object, frame: pd.DataFrame, residual: str = "ar1h(week | id)") -> None:
    found = interlace.fit("y ~ x * arm", data, residual=residual, ddf="satterthwaite")
    wanted = interlace.fit("y ~ x * arm", frame, residual=residual, ddf="satterthwaite")
    assert found.criterion == pytest.approx(wanted.criterion, abs=1e-9)
    np.testing.assert_allclose(found.coef_table(), wanted.coef_table(), rtol=1e-7)
    assert found.n_dropped == wanted.n_dropped == 1
    assert list(found.residual_covariance.index) == list(wanted.residual_covariance.index)  # type: ignore[union-attr]
    assert found.predict(conditional=True).shape == (239,)
    assert found.update(method="ML").criterion != found.criterion


def test_parquet_in_several_files(frame: pd.DataFrame, tmp_path: Path) -> None:
    numbers = frame.assign(week=frame["week"].cat.codes.astype(int))
    for i, start in enumerate(range(0, 240, 100)):
        numbers.iloc[start : start + 100].to_parquet(tmp_path / f"{i}.parquet")
    same(str(tmp_path / "*.parquet"), numbers)


def test_csv_has_no_categories(frame: pd.DataFrame, tmp_path: Path) -> None:
    numbers = frame.assign(week=frame["week"].cat.codes.astype(int))
    numbers.to_csv(tmp_path / "trial.csv", index=False)
    same(str(tmp_path / "trial.csv"), numbers)


def test_dask(frame: pd.DataFrame) -> None:
    dask = pytest.importorskip("dask.dataframe")
    same(dask.from_pandas(frame, npartitions=5, sort=False), frame)


def test_duckdb_and_polars(frame: pd.DataFrame) -> None:
    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    numbers = frame.assign(week=frame["week"].cat.codes.astype(int))
    same(duckdb.from_df(numbers), numbers)
    same(polars.from_pandas(numbers).lazy(), numbers)


def test_what_is_read_and_what_is_refused(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "trial.parquet")
    frame.to_parquet(path)
    found = interlace.fit("y ~ x", path, residual="cs(week | id)", weights=None)
    assert isinstance(found.data, pd.DataFrame)
    assert sorted(found.data.columns) == ["id", "week", "x", "y"]
    with pytest.raises(InterlaceError, match="no column 'patient'"):
        interlace.fit("y ~ x", path, residual="cs(week | patient)")
    sums = interlace.cross_products("y ~ x + (1 | id)", frame)
    with pytest.raises(InterlaceError, match="cross-products do not keep: pass the data"):
        interlace.fit("y ~ x", sums, residual="cs(week | id)")
    monkeypatch.setattr(gathered, "memory_limit", lambda: 1000.0)
    with pytest.raises(InterlaceError, match="the 4 columns that the model reads of 240 rows"):
        interlace.fit("y ~ x", path, residual="cs(week | id)")
