"""Dask DataFrames: the same answers wherever the partitions are, and workers that are lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import dask
import numpy as np
import pandas as pd
import pytest
from dask import dataframe as dd
from distributed import Client, LocalCluster
from numpy.testing import assert_allclose

import interlace
from fits import of_case
from interlace import InterlaceError
from interlace.sources import dask as engine
from reference import cases

# Some reference fits are singular on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes of one thread each."""
    options = {"processes": True, "threads_per_worker": 1, "memory_limit": "1GiB"}
    with (
        dask.config.set({"distributed.worker.profile.enabled": False}),
        LocalCluster(n_workers=2, dashboard_address=":0", **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return interlace.datasets.load("sleepstudy")


@pytest.fixture
def patient(monkeypatch) -> None:
    """A cluster without workers is given up soon."""
    monkeypatch.setattr(engine, "_LOOK", 0.2)
    monkeypatch.setattr(engine, "PATIENCE", 0.6)


def check_equal(found, wanted) -> None:
    """The same fit up to the order in which sums are taken."""
    assert found.nobs == wanted.nobs and found.fe_params.index.equals(wanted.fe_params.index)
    assert_allclose(found.criterion, wanted.criterion, rtol=1e-9)
    assert_allclose(found.theta, wanted.theta, rtol=1e-6, atol=1e-6)
    assert_allclose(found.fe_params, wanted.fe_params, rtol=1e-7)
    assert_allclose(found.fe_bse, wanted.fe_bse, rtol=1e-6)


# ------------------------------------------------------------------ the answers of pandas


@pytest.mark.parametrize("name", cases.case_names())
def test_golden_cases_are_those_of_pandas(client, name: str):
    case = cases.load_case(name)
    frame = dd.from_pandas(case.data, npartitions=3)
    check_equal(
        interlace.fit(case.formula, frame, **case.arguments),
        of_case(name),
    )


def test_partitions_of_every_kind(client, sleep):
    """Empty ones, incomplete ones, text, and categories that are known to no one yet."""
    data = sleep.assign(Subject=sleep["Subject"].astype(str), f=list("abc") * 60)
    data.loc[20:39, "Days"] = np.nan
    pieces = [data[:20], data[:0], data[20:40], data[40:41], data[41:]]
    frame = dd.from_map(lambda i: pieces[i].copy(), range(5), meta=data[:0])
    wanted = interlace.fit("Reaction ~ Days + f + (Days | Subject)", data)
    found = interlace.fit("Reaction ~ Days + f + (Days | Subject)", frame)
    check_equal(found, wanted)
    assert found.n_dropped == wanted.n_dropped == 20
    unknown = frame.assign(f=frame["f"].astype("category"))
    assert not unknown["f"].cat.known
    check_equal(interlace.fit("Reaction ~ Days + f + (Days | Subject)", unknown), wanted)


def test_declared_categories_keep_their_order(client, sleep):
    f = pd.Categorical(["low", "mid", "high"] * 60, ["low", "mid", "high"], ordered=True)
    data = sleep.assign(f=f)
    found = interlace.fit("Reaction ~ f + (1 | Subject)", dd.from_pandas(data, npartitions=4))
    assert found.fe_params.index.tolist() == ["Intercept", "f[T.mid]", "f[T.high]"]
    check_equal(found, interlace.fit("Reaction ~ f + (1 | Subject)", data))


def test_every_scheduler_adds_in_the_same_order(client, sleep):
    frame = dd.from_pandas(sleep, npartitions=9)
    on_cluster = interlace.cross_products(FORMULA, frame)
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler):
            here = interlace.cross_products(FORMULA, frame)
        assert np.array_equal(here.vv, on_cluster.vv)
        assert all(map(np.array_equal, here.zv, on_cluster.zv))


def test_sums_do_not_depend_on_who_is_first(client, sleep):
    def late(part: pd.DataFrame) -> pd.DataFrame:
        time.sleep(float(np.random.default_rng().uniform(0.0, 0.05)))
        return part

    frame = dd.from_pandas(sleep, npartitions=12).map_partitions(late, meta=sleep[:0])
    first, second = (interlace.cross_products(FORMULA, frame) for _ in range(2))
    assert np.array_equal(first.vv, second.vv)
    assert all(map(np.array_equal, first.zz, second.zz))


def test_large_partitions_are_cut_up(sleep, monkeypatch):
    monkeypatch.setattr(engine, "ROWS", 50)
    with dask.config.set(scheduler="synchronous"):
        found = interlace.fit(FORMULA, dd.from_pandas(sleep, npartitions=2))
    check_equal(found, interlace.fit(FORMULA, sleep))


@pytest.mark.parametrize("here", [True, False])
def test_progress_counts_rows(client, sleep, capsys, here):
    frame = dd.from_pandas(sleep, npartitions=3)
    with dask.config.set(scheduler="synchronous" if here else None):
        interlace.cross_products(FORMULA, frame, progress=True)
    assert "cross-products: 100%" in (shown := capsys.readouterr().err) and "180/180" in shown


# ------------------------------------------------------------------ workers that are lost


def test_a_worker_killed_half_way_changes_nothing(client, sleep, tmp_path):
    frame = dd.from_pandas(sleep, npartitions=8)
    undisturbed = interlace.fit(FORMULA, frame)
    flag, visits = tmp_path / "killed", tmp_path / "visits"

    def kill_once(part: pd.DataFrame) -> pd.DataFrame:
        with visits.open("a") as file:
            file.write("x\n")
        if 100 in part.index and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    before = set(client.scheduler_info()["workers"])
    disturbed = interlace.fit(FORMULA, frame.map_partitions(kill_once, meta=sleep[:0]))
    assert flag.exists() and before - set(client.scheduler_info()["workers"])
    assert len(visits.read_text().split()) > 2 * 8  # parts were done again
    assert_allclose(disturbed.theta, undisturbed.theta, rtol=1e-12)
    assert_allclose(disturbed.criterion, undisturbed.criterion, rtol=1e-12)
    assert np.array_equal(disturbed.estimate.A.vv, undisturbed.estimate.A.vv)


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_given_up(client, sleep, monkeypatch):
    def kill(part: pd.DataFrame) -> pd.DataFrame:
        if 100 in part.index:
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    frame = dd.from_pandas(sleep, npartitions=4).map_partitions(kill, meta=sleep[:0])
    message = (
        r"^Dask gave up the Dask DataFrame: 1 workers were lost on the same task, most often for "
        r"want of memory; give the workers more memory, or the frame smaller partitions "
        r"\(frame.repartition\)$"
    )
    with pytest.raises(InterlaceError, match=message):
        interlace.fit(FORMULA, frame)
    client.wait_for_workers(2, timeout=20)


@pytest.mark.slow
def test_a_cluster_that_loses_all_workers_is_not_waited_for(client, sleep, patient):
    def wait(part: pd.DataFrame) -> pd.DataFrame:
        time.sleep(0.2)
        return part

    frame = dd.from_pandas(sleep, npartitions=20).map_partitions(wait, meta=sleep[:0])
    timer = threading.Timer(0.5, client.cluster.scale, [0])
    timer.start()
    try:
        with pytest.raises(InterlaceError, match="the Dask cluster has had no workers for 1 s"):
            interlace.fit(FORMULA, frame)
    finally:
        timer.join()
        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=20)
    check_equal(
        interlace.fit(FORMULA, dd.from_pandas(sleep, npartitions=2)), interlace.fit(FORMULA, sleep)
    )


def test_an_interruption_cancels_the_tasks(client, sleep, tmp_path):
    release, visits = tmp_path / "release", tmp_path / "visits"

    def wait(part: pd.DataFrame) -> pd.DataFrame:
        with visits.open("a") as file:
            file.write("x\n")
        for _ in range(200):
            if release.exists():
                break
            time.sleep(0.05)
        return part

    frame = dd.from_pandas(sleep, npartitions=20).map_partitions(wait, meta=sleep[:0])
    sent: list[float] = []

    def interrupt() -> None:
        while not visits.exists():
            time.sleep(0.05)
        time.sleep(0.3)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        interlace.fit(FORMULA, frame)
    assert time.perf_counter() - sent[0] < 5.0
    release.touch()
    deadline = time.perf_counter() + 5.0
    while any(client.processing().values()) and time.perf_counter() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    assert len(visits.read_text().split()) <= 4  # of 20: the others were never begun


# ------------------------------------------------------------------ what is wrong with the data


@pytest.mark.parametrize("here", [True, False])
def test_messages_name_the_partition(client, sleep, here):
    data = sleep.assign(Days=sleep["Days"].where(sleep.index != 130, np.inf))
    with (
        dask.config.set(scheduler="synchronous" if here else None),
        pytest.raises(
            InterlaceError, match="'Days' is infinite in row 130 of partition 2 of the D"
        ),
    ):
        interlace.fit(FORMULA, dd.from_pandas(data, npartitions=4))


@pytest.mark.parametrize("here", [True, False])
def test_partitions_that_cannot_be_read(client, sleep, here):
    def broken(part: pd.DataFrame) -> pd.DataFrame:
        raise FileNotFoundError("no such file: 'part.7.parquet'")

    frame = dd.from_pandas(sleep, npartitions=2).map_partitions(broken, meta=sleep[:0])
    message = r"^the Dask DataFrame cannot be read: no such file: 'part.7.parquet'$"
    with (
        dask.config.set(scheduler="synchronous" if here else None),
        pytest.raises(InterlaceError, match=message),
    ):
        interlace.fit(FORMULA, frame)


def test_the_connection_is_lost(client, sleep, monkeypatch):
    def cancelled(client, done):
        future = done.get()
        client.cancel([future], force=True)
        yield future

    monkeypatch.setattr(engine, "_finished", cancelled)
    with pytest.raises(InterlaceError, match=r"^the connection to the Dask cluster was lost: "):
        interlace.fit(FORMULA, dd.from_pandas(sleep, npartitions=2))


def test_arguments_that_a_dask_frame_cannot_take(sleep):
    frame = dd.from_pandas(sleep, npartitions=2)
    with pytest.raises(InterlaceError, match="no column 'Dais'; did you mean 'Days'"):
        interlace.fit("Reaction ~ Dais + (1 | Subject)", frame)
    with pytest.raises(InterlaceError, match="weights must be the name of a column: the Dask Data"):
        interlace.fit(FORMULA, frame, weights=np.ones(180))
