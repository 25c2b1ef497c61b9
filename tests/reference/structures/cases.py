"""Reads the reference values of models with a residual structure."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent


@functools.cache
def golden(kind: str) -> dict[str, Any]:
    return json.loads((HERE / "golden" / f"{kind}.json").read_text())


@functools.cache
def data(name: str) -> pd.DataFrame:
    """A data set with its factors categorical; shared, so do not change it."""
    meta = json.loads((HERE / "data" / "schema.json").read_text())[name]["columns"]
    text = pd.read_csv(HERE / "data" / f"{name}.csv", dtype=str, na_values=["null"])
    columns = {}
    for column, kind in meta.items():
        if kind["type"] == "factor":
            levels = kind.get("levels", list(text[column].dropna().unique()))
            columns[column] = pd.Categorical(text[column], levels)
        else:
            columns[column] = pd.to_numeric(text[column])
    return pd.DataFrame(columns)


def of_mmrm(formula: str) -> tuple[str, str]:
    """The fixed side and the residual structure of a formula of mmrm."""
    fixed, _, term = formula.rpartition(" + ")
    name, visit, by, subject = re.fullmatch(r"(\w+)\((\w+) \| (?:(\w+) / )?(\w+)\)", term).groups()  # type: ignore[union-attr]
    group = "" if by is None else f", by={by}"
    return fixed, f"{name}({visit} | {subject}{group})"
