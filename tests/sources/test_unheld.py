"""Generalised models of rows that do not fit in memory: the fit of the frame, by passes."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dask import dataframe as dd

import interlace
from interlace import InterlaceError
from interlace.errors import SeparationWarning
from interlace.glmm import stored, streamed
from interlace.machine import scratch
from interlace.model import sourced
from sources.general import frame_of, parquet_of, same

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


@pytest.fixture(autouse=True)
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for rows, and blocks of a few."""
    monkeypatch.setattr(sourced, "memory_limit", lambda: 1000.0)
    monkeypatch.setattr(stored, "ROWS", 37)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of()


@pytest.mark.parametrize(
    ("formula", "arguments"),
    [
        ("hits ~ x + site + (1 | g) + (1 | h)", {"family": "binomial", "trials": "size"}),
        ("hits ~ x * site + (x | g)", {"family": "binomial", "trials": "size", "weights": "w"}),
        ("count ~ x + offset(0.1 * w) + (1 | g)", {"family": "poisson", "exposure": "hours"}),
        ("count ~ scale(x) + (1 | g) + (1 | h) + (1 | site)", {"family": "poisson"}),
        ("count ~ x + (1 | g)", {"family": "negative-binomial", "offset": "hours"}),
        ("count ~ x + (1 | g)", {"family": "poisson", "zero_inflation": "~ 1"}),
        ("answer ~ x + (x || h)", {"family": "binomial", "link": "probit"}),
        ("hours ~ year + (1 | g)", {"family": "gamma", "link": "log"}),
        ("hours ~ x + (1 | g)", {"family": "gamma", "link": "inverse"}),
        ("count ~ site + (1 | g)", {"family": "poisson", "link": "sqrt"}),
        ("hours ~ site + (1 | g)", {"family": "inverse-gaussian"}),
        ("hours ~ site + (1 | g)", {"family": "tweedie", "weights": "w"}),
        ("hours ~ site + (1 | g / h)", {"family": "gaussian", "link": "log"}),
        ("hits ~ x + (1 | g)", {"family": "binomial", "trials": "size", "fixed_prior": 2.0}),
    ],
)
def test_fits_are_those_of_the_frame(
    frame: pd.DataFrame, tmp_path: Path, formula: str, arguments: dict[str, object]
) -> None:
    found = interlace.fit(formula, parquet_of(frame, tmp_path), **arguments)
    wanted = interlace.fit(formula, frame, **arguments)
    assert found.design is None
    same(found, wanted, llf=1e-10, rest=1e-4)


def test_pairs_of_levels_are_found_without_a_table(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_TABLE", 0)
    formula = "count ~ x + (x | g) + (1 | h) + (1 | site)"
    found = interlace.fit(formula, parquet_of(frame, tmp_path), family="poisson")
    same(found, interlace.fit(formula, frame, family="poisson"), 1e-10, 1e-4)


def test_rows_that_share_levels_and_covariates_are_added_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 6000
    frame = pd.DataFrame({"g": rng.integers(0, 30, n), "h": rng.integers(0, 10, n)})
    frame["x"] = rng.integers(0, 3, n)
    frame["y"] = rng.random(n) < 1 / (
        1 + np.exp(-rng.normal(size=30)[frame["g"]] - 0.3 * frame["x"])
    )
    found = interlace.fit(
        "y ~ x + (1 | g) + (1 | h)", parquet_of(frame, tmp_path), family="binomial"
    )
    assert found.estimate.problem.stored.n < 1000
    assert found.nobs == n
    same(found, interlace.fit("y ~ x + (1 | g) + (1 | h)", frame, family="binomial"), 1e-10, 1e-4)


def test_separated_rows_are_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    answers = np.where(frame["site"] == "south", "yes", frame["answer"])
    apart = frame.assign(answer=answers)
    message = r"every row with site\[T.south\] has answer = 1"
    with pytest.warns(SeparationWarning, match=message):
        found = interlace.fit(
            "answer ~ x + site + (1 | h)", parquet_of(apart, tmp_path), family="binomial"
        )
    assert [one.name for one in found.separated] == ["site[T.south]"]


def test_what_needs_rows_says_so_and_the_rest_works(frame: pd.DataFrame, tmp_path: Path) -> None:
    formula = "hits ~ x + site + (1 | g) + (1 | h)"
    arguments = {"family": "binomial", "trials": "size"}
    found = interlace.fit(formula, parquet_of(frame, tmp_path), **arguments)
    wanted = interlace.fit(formula, frame, **arguments)
    new = frame[4:9]
    assert found.predict(new) == pytest.approx(wanted.predict(new), rel=1e-4)
    one, other = (m.predict(new, interval="confidence") for m in (found, wanted))
    np.testing.assert_allclose(one, other, rtol=1e-3)
    np.testing.assert_allclose(found.anova(), wanted.anova(), rtol=1e-3)
    means, others = found.emmeans("site").table, wanted.emmeans("site").table
    np.testing.assert_allclose(means["emmean"], others["emmean"], rtol=1e-4)
    assert found.r2().marginal == pytest.approx(wanted.r2().marginal, rel=1e-4)
    assert found.glance()["deviance"].isna().all()
    assert found.icc().adjusted == pytest.approx(wanted.icc().adjusted, rel=1e-4)
    assert found.update("hits ~ x + (1 | g)").n_dropped == 1
    np.testing.assert_allclose(found.conf_int(), wanted.conf_int(), rtol=1e-3, atol=1e-3)
    assert "hits ~ x + site" in str(found.summary())
    assert found.n_dropped == 2
    for verb in (
        lambda: found.resid,
        lambda: found.fittedvalues,
        lambda: found.residuals("pearson"),
        lambda: found.simulate(3),
        lambda: found.refit(frame["hits"]),
        lambda: found.bootstrap(3),
        lambda: interlace.hlm_influence(found),
        lambda: found.profile(),
        lambda: found.ranova(),
        lambda: found.predict(),
        lambda: interlace.check_separation(found),
        lambda: found.augment(),
    ):
        with pytest.raises(InterlaceError, match="fitted without holding them: fit it to a frame"):
            verb()


@pytest.mark.parametrize("solver", ["exact", "iterative"])
def test_a_copy_by_pickle_answers_the_same(
    frame: pd.DataFrame, tmp_path: Path, solver: str
) -> None:
    formula, path = "count ~ x + (1 | g) + (1 | h)", parquet_of(frame, tmp_path)
    found = interlace.fit(formula, path, family="poisson", solver=solver)
    again = pickle.loads(pickle.dumps(found))
    assert again.llf == found.llf
    pd.testing.assert_series_equal(again.random_effects_se["g"], found.random_effects_se["g"])
    with pytest.raises(InterlaceError, match="fitted without holding them"):
        _ = again.fittedvalues


def test_messages_name_file_and_row(frame: pd.DataFrame, tmp_path: Path) -> None:
    bad = frame.assign(size=np.where(frame.index == 150, 0, frame["size"]))
    message = r"trials must be positive whole numbers, but row 50 of '.*1.parquet' \(counted"
    with pytest.raises(InterlaceError, match=message):
        interlace.fit(
            "hits ~ x + (1 | g)", parquet_of(bad, tmp_path), family="binomial", trials="size"
        )
    over = frame.assign(hits=np.where(frame.index == 220, 99, frame["hits"]))
    message = r"'hits' \(99\) exceeds trials 'size' \(\d\) in row 20 of '.*2.parquet'"
    with pytest.raises(InterlaceError, match=message):
        interlace.fit(
            "hits ~ x + (1 | g)", parquet_of(over, tmp_path), family="binomial", trials="size"
        )
    with pytest.raises(InterlaceError, match=r"the response 'hours' holds .* in row 0 of"):
        interlace.fit("hours ~ x + (1 | g)", parquet_of(frame, tmp_path), family="poisson")


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ("quadrature=5", {"family": "poisson", "quadrature": 5}),
        ("dispersion='~ site'", {"family": "negative-binomial", "dispersion": "~ site"}),
        ("method='REML'", {"family": "poisson", "method": "REML"}),
        ("family='ordinal'", {"family": "ordinal"}),
    ],
)
def test_what_needs_rows_in_memory_is_refused(
    frame: pd.DataFrame, tmp_path: Path, asked: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(InterlaceError, match="needs the rows in memory: they would take"):
        interlace.fit("count ~ x + (1 | g)", parquet_of(frame, tmp_path), **arguments)


def test_dask_and_unknown_sizes(frame: pd.DataFrame, tmp_path: Path) -> None:
    wanted = interlace.fit("count ~ x + site + (1 | g)", frame, family="poisson")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for data in (
        dd.from_pandas(frame, npartitions=4, sort=False),
        tmp_path / "rows.csv",
    ):
        same(
            interlace.fit("count ~ x + site + (1 | g)", data, family="poisson"), wanted, 1e-10, 1e-4
        )


def test_an_interrupted_fit_gives_its_place_back(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[scratch.Scratch] = []
    made, weighed = scratch.Scratch.__post_init__, streamed.weighed_part
    calls: list[int] = []

    def noted(self: scratch.Scratch) -> None:
        files.append(self)
        made(self)

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return weighed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scratch.Scratch, "__post_init__", noted)
    monkeypatch.setattr(streamed, "weighed_part", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        interlace.fit("count ~ x + (1 | g)", parquet_of(frame, tmp_path), family="poisson")
    assert files
    assert all(one.file.closed for one in files)
    assert threading.active_count() == before


def test_a_full_disk_is_an_error_that_names_the_folder(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        closed = False

        def seek(self, place: int) -> None: ...

        def close(self) -> None: ...

        def write(self, data: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "_opened", Full)
    with pytest.raises(InterlaceError, match="No space left on device; make room there, or name"):
        interlace.fit("count ~ x + (1 | g)", parquet_of(frame, tmp_path), family="poisson")


def test_progress_shows_every_stage(
    frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = parquet_of(frame, tmp_path)
    interlace.fit("count ~ x + (1 | g)", path, family="poisson", progress=True)
    shown = capsys.readouterr().err
    for stage in ("levels: 100%", "rows: 100%", "sorting: 100%", "evaluation 2: criterion"):
        assert stage in shown


@pytest.mark.slow
def test_a_worker_killed_while_rows_are_stored_changes_nothing(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    source, flag = dd.from_pandas(frame, npartitions=6, sort=False), tmp_path / "killed"
    wanted = interlace.fit("count ~ x + (1 | g) + (1 | h)", frame, family="poisson")
    visits = tmp_path / "visits"

    def kill_once(part: pd.DataFrame) -> pd.DataFrame:
        with visits.open("a") as file:
            file.write("x")
        # The first pass visits every partition once; this is the second.
        if 100 in part.index and visits.stat().st_size > 7 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=2, **options) as cluster, distributed.Client(cluster):
        lost = source.map_partitions(kill_once, meta=frame[:0])
        found = interlace.fit("count ~ x + (1 | g) + (1 | h)", lost, family="poisson")
    assert flag.exists()
    same(found, wanted, 1e-10, 1e-4)
