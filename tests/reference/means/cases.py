"""Reads the reference values of means and robust covariances."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent


@functools.cache
def golden(name: str) -> dict[str, Any]:
    return json.loads((HERE / "golden" / f"{name}.json").read_text())


@functools.cache
def data(name: str) -> pd.DataFrame:
    """A data set with its factors categorical; shared, so do not change it."""
    schema = json.loads((HERE / "data" / "schema.json").read_text())
    meta = schema[name]["columns"]
    text = pd.read_csv(HERE / "data" / f"{name}.csv", dtype=str, na_values=["null"])
    columns = {}
    for column, kind in meta.items():
        if kind["type"] == "factor":
            levels = kind.get("levels", list(text[column].dropna().unique()))
            columns[column] = pd.Categorical(text[column], levels)
        else:
            columns[column] = pd.to_numeric(text[column])
    return pd.DataFrame(columns)


@functools.cache
def extra() -> pd.DataFrame:
    """The data of ``make_extra.R``."""
    frame = pd.read_csv(HERE / "data" / "extra.csv")
    for name in ("g", "state", "county", "trt"):
        frame[name] = frame[name].astype("category")
    frame["dose"] = frame["dose"].astype(str).astype(pd.CategoricalDtype(["1", "2", "10"]))
    return frame


@functools.cache
def categories(name: str) -> pd.DataFrame:
    """A data set of ``make_methods.R``: all columns but ``y`` are categories."""
    frame = pd.read_csv(HERE / "data" / f"{name}.csv")
    return frame.astype({column: "category" for column in frame if column != "y"})
