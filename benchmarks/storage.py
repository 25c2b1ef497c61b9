"""A problem on disk: one raw file a column and ``problem.json``, which Python and R both read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems import Columns, Factor, Problem, Term


@dataclass(frozen=True)
class Stored:
    """A problem read back: the model in parts, its formula, and its columns of n rows."""

    name: str
    formula: str
    response: str
    fixed: str
    terms: tuple[Term, ...]
    columns: Columns
    family: str = ""
    trials: str = ""

    @property
    def n(self) -> int:
        return len(self.numbers(self.response))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Column ``name`` (n,) as numbers; a factor gives its codes."""
        column = self.columns[name]
        return column.codes.astype(np.float64) if isinstance(column, Factor) else column

    def factor(self, name: str) -> Factor:
        """Column ``name`` as a factor; TypeError if it is a number."""
        column = self.columns[name]
        if not isinstance(column, Factor):
            raise TypeError(f"column {name} is not a factor")
        return column


def write(problem: Problem, directory: Path) -> None:
    """Make the data of ``problem`` and write them into ``directory``, which must exist."""
    columns = problem.make()
    meta: dict[str, list[str] | None] = {}
    for name, column in columns.items():
        path = directory / f"{name}.bin"
        if isinstance(column, Factor):
            column.codes.tofile(path)
            meta[name] = list(column.labels)
        else:
            column.tofile(path)
            meta[name] = None
    head = {
        "name": problem.name,
        "formula": problem.formula,
        "response": problem.response,
        "fixed": problem.fixed,
        "terms": [{"expr": t.expr, "groups": list(t.groups)} for t in problem.terms],
        "family": problem.family,
        "trials": problem.trials,
        "n": len(columns[problem.response]),  # type: ignore[arg-type]
        "columns": meta,
    }
    (directory / "problem.json").write_text(json.dumps(head), encoding="utf-8")


def read(directory: Path) -> Stored:
    """The problem that ``write`` left in ``directory``."""
    head = json.loads((directory / "problem.json").read_text(encoding="utf-8"))
    columns = {name: read_column(directory, name, meta) for name, meta in head["columns"].items()}
    terms = tuple(Term(t["expr"], tuple(t["groups"])) for t in head["terms"])
    parts = (head[name] for name in ("name", "formula", "response", "fixed"))
    return Stored(*parts, terms, columns, head["family"], head["trials"])


def read_column(
    directory: Path, name: str, labels: list[str] | None
) -> NDArray[np.float64] | Factor:
    path = directory / f"{name}.bin"
    if labels is None:
        return np.fromfile(path, dtype=np.float64)
    return Factor(np.fromfile(path, dtype=np.int32), tuple(labels))
