"""Reads the reference values of this folder, and turns lme4's spelling into interlace's."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
METHODS = ("reml", "ml")


@dataclass(frozen=True)
class Case:
    """One golden file: a model, its data, and lme4's numbers by method ("reml", "ml")."""

    name: str
    formula: str
    arguments: dict[str, str]  # weights and offset, as `fit` takes them
    data_name: str
    golden: dict[str, Any]

    @property
    def data(self) -> pd.DataFrame:
        return load_data(self.data_name)


def case_names(kind: str = "core") -> list[str]:
    """All cases that have a golden file of a kind."""
    ending = f".{kind}.json"
    return sorted(p.name.removesuffix(ending) for p in (HERE / "golden").glob(f"*{ending}"))


@functools.cache
def load_golden(name: str, kind: str) -> dict[str, Any]:
    """The golden file of a case and a kind."""
    return json.loads((HERE / "golden" / f"{name}.{kind}.json").read_text())


@functools.cache
def load_case(name: str) -> Case:
    golden = load_golden(name, "core")
    arguments = {key: golden[key] for key in ("weights", "offset") if golden[key]}
    formula = python_formula(golden["formula"], polynomial=name == "cake_poly")
    data_name = Path(golden["data_file"]).name.split(".")[0]
    return Case(name, formula, arguments, data_name, golden)


@functools.cache
def solver_checks() -> list[dict[str, Any]]:
    """Criterion and gradient at fixed values of theta."""
    return json.loads((HERE / "solver_checks.json").read_text())["cases"]


@functools.cache
def anova_cases() -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Data and analysis-of-variance tables, by case, of the models of ``anova_cases.R``."""
    extra = json.loads((HERE / "golden" / "extra.anova.json").read_text())
    columns = {
        name: pd.Categorical.from_codes(values["codes"], values["levels"])
        if isinstance(values, dict)
        else values
        for name, values in extra["data"].items()
    }
    return pd.DataFrame(columns), {case["case"]: case for case in extra["cases"]}


@functools.cache
def _schema() -> dict[str, Any]:
    return json.loads((HERE / "data" / "schema.json").read_text())


@functools.cache
def load_data(name: str) -> pd.DataFrame:
    """A data set of this folder with its factors categorical; shared, so do not change it."""
    meta = _schema()[name]
    text = pd.read_csv(HERE / meta["file"], dtype=str)
    return text.apply(lambda column: _typed(column, meta["columns"][column.name]))


def _typed(column: pd.Series, schema: dict[str, Any]) -> pd.Series:
    if schema["type"] == "factor":
        return column.astype(pd.CategoricalDtype(schema.get("levels", column.unique())))
    return column.astype("int64" if schema["type"] == "integer" else "float64")


def python_formula(formula: str, *, polynomial: bool = False) -> str:
    """R's spelling of a formula in interlace's: the offset becomes an argument of `fit`."""
    formula = re.sub(r" \+ offset\(\w+\)", "", formula)
    return formula.replace("temperature", "C(temperature, contr.poly)") if polynomial else formula


def r_name(name: str) -> str:
    """R's name of a coefficient: "recipe[T.B]:age" is "recipeB:age", "Intercept" has brackets."""
    name = re.sub(r"C\((\w+), contr\.\w+\)", r"\1", name)
    name = re.sub(r"\[(?:T\.)?(.*?)\]", r"\1", name)
    return "(Intercept)" if name == "Intercept" else name


def newdata(case: Case, method: str) -> pd.DataFrame:
    """The rows that lme4 predicted for: four of known levels, two with new ones."""
    return pd.DataFrame(case.golden[method]["predict"]["newdata"])


def group_key(lme4_key: str, keys: dict[str, Any]) -> str:
    """Our key of a grouping factor: lme4 writes `a/b` as `b:a`, we write `a:b`."""
    return lme4_key if lme4_key in keys else reversed_label(lme4_key)


def reversed_label(label: str) -> str:
    """`b1:a1` for `a1:b1`."""
    return ":".join(reversed(label.split(":")))


def random_effects_table(case: Case, method: str, column: str, keys: dict[str, Any]):
    """Per group key: lme4's `mode` or `cond_sd` by our level labels, one column a coefficient."""
    long = pd.DataFrame(case.golden[method]["ranef"])
    tables = {}
    for lme4_key, rows in long.groupby("grpvar", sort=False):
        key = group_key(lme4_key, keys)
        wide = rows.pivot(index="grp", columns="term", values=column)[rows["term"].unique()]
        tables[key] = wide if key == lme4_key else wide.rename(index=reversed_label)
    return tables


def covariances(case: Case, method: str, keys: dict[str, Any]) -> dict[str, np.ndarray]:
    """Per group key: lme4's covariance matrix, terms that share a key joined block by block."""
    blocks: dict[str, list[np.ndarray]] = {}
    for term in case.golden[method]["varcorr"]:
        key = group_key(term["group"], keys)
        blocks.setdefault(key, []).append(np.array(term["cov"], dtype=float))
    return {key: _block_diagonal(parts) for key, parts in blocks.items()}


def _block_diagonal(parts: list[np.ndarray]) -> np.ndarray:
    size = sum(len(part) for part in parts)
    out, at = np.zeros((size, size)), 0
    for part in parts:
        out[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return out
