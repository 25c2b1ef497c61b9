"""Rows for generalised models of sources, and whether two fits are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interlace

N = 240


def frame_of() -> pd.DataFrame:
    """Counts, successes and grades of rows whose text does not come in alphabetical order."""
    rng = np.random.default_rng(3)
    g, h = np.arange(N) % 20, np.arange(N) // 12 % 15
    eta = 0.7 * rng.normal(size=20)[g] + 0.4 * rng.normal(size=15)[h]
    x = rng.normal(size=N)
    frame = pd.DataFrame(
        {
            "site": np.array(["south", "north", "east", "west"])[g % 4],
            "g": [f"g{i}" for i in g[::-1]],
            "h": h,
            "x": x,
            "hours": rng.uniform(0.5, 2.0, N),
            "w": rng.integers(1, 4, N),
            "size": rng.integers(1, 9, N),
            "year": 2000 + h,
            "unused": "text",
        }
    )
    mean = np.exp(0.5 + 0.3 * x + eta[::-1])
    frame["count"] = rng.negative_binomial(3, 3 / (3 + mean))
    frame["hits"] = rng.binomial(frame["size"], mean / (1 + mean))
    frame["answer"] = np.where(rng.random(N) < mean / (1 + mean), "yes", "no")
    frame.loc[3, "x"] = np.nan
    frame.loc[200, "site"] = None
    return frame


def parquet_of(frame: pd.DataFrame, folder: Path) -> str:
    for i, start in enumerate(range(0, len(frame), 100)):
        frame.iloc[start : start + 100].to_parquet(folder / f"{i}.parquet")
    return str(folder / "*.parquet")


def same(
    found: interlace.CrossedGLMMResult,
    wanted: interlace.CrossedGLMMResult,
    llf: float = 1e-12,
    rest: float = 1e-7,
) -> None:
    """The same fit; log-likelihoods to ``llf`` of their size, estimates to ``rest``."""
    assert found.llf == pytest.approx(wanted.llf, rel=llf)
    assert found.nobs == wanted.nobs
    assert found.n_dropped == wanted.n_dropped
    pd.testing.assert_frame_equal(found.coef_table(), wanted.coef_table(), rtol=rest, atol=rest)
    np.testing.assert_allclose(found.theta, wanted.theta, rtol=rest, atol=rest)
    for one, other in zip(
        found.random_effects.values(), wanted.random_effects.values(), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=10 * rest, atol=rest)
        assert one.index.equals(other.index)
