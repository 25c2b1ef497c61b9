"""The benchmarks of large fits run, at a small scale, and make the data that they claim."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.large import __main__ as large  # noqa: E402
from benchmarks.large import job as jobs  # noqa: E402
from benchmarks.large import parquet, shapes, table  # noqa: E402
from benchmarks.large.job import Job  # noqa: E402


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_shapes_are_what_they_say(name: str, tmp_path: Path) -> None:
    """As many rows and levels as named, every level present, ratings distinct."""
    shape = shapes.SHAPES[name].scaled(0.01)
    shapes.write(shape, tmp_path)
    data = shapes.read(tmp_path)
    assert {column: len(values) for column, values in data.items()} == dict.fromkeys("umy", shape.n)
    assert data["u"].dtype == data["m"].dtype == np.int32
    assert len(np.unique(data["u"])) == shape.users == data["u"].max() + 1
    assert len(np.unique(data["m"])) == shape.items == data["m"].max() + 1
    if shape.make is shapes.ratings:
        pairs = data["u"].astype(np.int64) * shape.items + data["m"]
        assert len(np.unique(pairs)) == shape.n


def test_the_records_have_their_published_sizes() -> None:
    shape = shapes.MOVIELENS_32M
    assert (shape.n, shape.users, shape.items) == (32_000_204, 200_948, 84_432)
    assert shape.scaled(1.0) == shape
    small = shapes.MOVIELENS_1M
    assert (small.n, small.users, small.items) == (1_000_209, 6_040, 3_706)


def test_ratings_follow_power_laws(tmp_path: Path) -> None:
    """A tenth of the movies has most of the ratings; the median movie has few."""
    shapes.write(shapes.MOVIELENS_32M.scaled(0.01), tmp_path)
    counts = np.sort(np.bincount(shapes.read(tmp_path)["m"]))[::-1]
    assert counts[: len(counts) // 10].sum() > 0.5 * counts.sum()
    assert np.median(counts) < 0.3 * counts.mean()


def test_few_workers_move(tmp_path: Path) -> None:
    shapes.write(shapes.CAREERS.scaled(0.01), tmp_path)
    data = shapes.read(tmp_path)
    pairs = np.unique(np.stack((data["u"], data["m"])), axis=1)
    movers = pairs.shape[1] / len(np.unique(data["u"])) - 1.0
    assert 0.03 < movers < 0.12


def test_ratings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="400 distinct ratings do not fit 20 users and 10 items"):
        shapes.write(replace(shapes.MOVIELENS_1M, n=400, users=20, items=10), tmp_path)


def test_files_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "CHUNK", 900)
    files = parquet.Files(n=2_000, levels=(50, 20))
    size = parquet.write(files, tmp_path)
    parts = sorted(tmp_path.glob("*.parquet"))
    assert [len(pq.read_table(part)) for part in parts] == [900, 900, 200]
    assert size == sum(part.stat().st_size for part in parts)
    assert pq.read_table(parts[0]).column_names == ["y", "g", "h", "x1", "x2", "x3", "x4", "x5"]


def small(stages: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """A run of some stages at a small scale."""
    monkeypatch.setattr(large, "RESULTS", tmp_path)
    large.main(["--scale", "0.002", "--only", stages, "--runs", "1", "--save", name])
    return json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))


def test_fits_and_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: the tests of files and of a failed job have processes of their own."""

    def here(job: Job) -> dict:
        return json.loads(json.dumps(asdict(jobs.KINDS[job.kind](job))))

    monkeypatch.setattr(large, "run", here)
    monkeypatch.setattr(jobs, "EVALUATING", 0.0)
    monkeypatch.setattr(large, "DECADES", (1e-3, 1.0))
    result = small("fits,growth", "run", tmp_path, monkeypatch)
    assert [row["name"] for row in result["fits"]] == [shape.name for shape in shapes.RECORDS]
    for row in result["fits"]:
        assert "reason" not in row
        assert row["converged"]
        assert len(row["theta"]) == len(row["truth"]) == 2
        assert np.allclose(row["theta"], row["truth"], rtol=0.25)
        assert 0 < row["data_gib"] <= row["peak_gib"]
    assert [row["n"] for row in result["growth"]] == [32_000, 64_000]
    for row in result["growth"]:
        assert row["solver"] == "iterative"
        assert row["evaluation_seconds"] > 0
    shown = capsys.readouterr().out
    assert "| MovieLens-32M shape: 32,000,204 ratings, 200,948 users x 84,432 movies |" in shown
    assert "One evaluation as the cells grow" in shown


def test_yes_no_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        large, "run", lambda job: json.loads(json.dumps(asdict(jobs.KINDS[job.kind](job))))
    )
    result = small("general", "general", tmp_path, monkeypatch)
    above, answers = result["general"]
    assert above["converged"] and answers["converged"]
    known = zip(answers["coefficients"], answers["errors"], (0.3, 0.5), strict=True)
    assert all(abs(value - true) < 5.0 * error for value, error, true in known)
    assert "## Yes-no answers" in capsys.readouterr().out


@pytest.mark.slow
def test_files_by_path_and_through_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files give the same answer either way."""
    monkeypatch.setattr(large, "RESULTS", tmp_path)
    large.main(["--scale", "0.0002", "--only", "files", "--dir", str(tmp_path / "scratch")])
    by_path, dask = json.loads((tmp_path / "latest.json").read_text(encoding="utf-8"))["files"]
    assert (by_path["name"], dask["name"]) == ("parquet", "dask")
    assert by_path["n"] == dask["n"] == 20_000
    assert by_path["levels"] == [50, 20]
    np.testing.assert_allclose(dask["theta"], by_path["theta"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(by_path["theta"], by_path["truth"], rtol=0.5)
    assert not list((tmp_path / "scratch").iterdir())  # nothing is left behind


def test_beside_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = small("peers", "run", tmp_path, monkeypatch)
    (own,) = (row for row in result["peers"] if row["peer"] == "interlace")
    assert own["status"] == "ok"
    assert own["median"] > 0


def test_a_failed_job_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = large.run(Job("fit", "movielens-1m", 0.01, str(tmp_path / "nowhere")))
    assert list(answer) == ["reason"]
    assert "FileNotFoundError" in answer["reason"]
    assert "FileNotFoundError" in capsys.readouterr().err
    assert table.fit_row({"title": "t", **answer})[:2] == ["t", answer["reason"]]


@pytest.mark.parametrize("text", ["0", "1.5", "-1"])
def test_scales_outside_the_range_are_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        large.main(["--scale", text])
    assert f"must be in (0, 1], not {text}" in capsys.readouterr().err


def test_unknown_stages_are_refused() -> None:
    with pytest.raises(
        SystemExit, match="unknown: fit; known: fits, general, growth, files, peers"
    ):
        large.main(["--only", "fit"])


def test_make_runs_them() -> None:
    command = ["make", "--dry-run", "bench-large", "SCALE=0.01"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m benchmarks.large --scale 0.01" in shown
