"""lme-python: ``lmer`` with its default settings, from a Polars frame with string groups."""

from __future__ import annotations

import functools
from collections.abc import Callable

import lme_python
import numpy as np
import polars as pl

from benchmarks.peers.common import Answer, square
from benchmarks.problems import Factor, Floats, products
from benchmarks.storage import Stored


def prepare(stored: Stored, *, method: str) -> Callable[[], lme_python.PyLmeFit]:
    frame = pl.DataFrame(
        {
            name: np.array(column.labels)[column.codes] if isinstance(column, Factor) else column
            for name, column in stored.columns.items()
        }
    )
    formula = stored.formula
    if any("*" in term.expr for term in stored.terms):
        formula = spelled_out(stored)
        crossed = [names for names in products(stored.fixed) if len(names) > 1]
        frame = frame.with_columns(pl.Series("_".join(c), product(stored, c)) for c in crossed)
    return lambda: lme_python.lmer(formula, frame, reml=method == "REML")


def spelled_out(stored: Stored) -> str:
    """The formula with columns in place of products, which it does not read left of a bar."""

    def plain(expr: str) -> str:
        return " + ".join("_".join(names) or "1" for names in products(expr))

    bars = " + ".join(f"({plain(term.expr)} | {term.key})" for term in stored.terms)
    return f"{stored.response} ~ {plain(stored.fixed)} + {bars}"


def product(stored: Stored, names: tuple[str, ...]) -> Floats:
    return functools.reduce(np.multiply, map(stored.numbers, names))


def answer(result: lme_python.PyLmeFit) -> Answer:
    reml = result.reml_criterion
    criterion = reml if reml is not None else -2.0 * (result.log_likelihood or float("nan"))
    return Answer(
        criterion=float(criterion),
        scale=float(result.sigma2 or float("nan")),
        covariances=covariances(result),
        evaluations=result.iterations,
    )


def covariances(result: lme_python.PyLmeFit) -> dict[str, list[list[float]]]:
    """The rows (key, column, column, covariance, sd) of its table as one matrix a key."""
    rows = [row for row in result.var_corr or [] if row[0] != "Residual"]
    out = {}
    for key in dict.fromkeys(row[0] for row in rows):
        mine = {(a, b): value for k, a, b, value, _ in rows if k == key}
        names = [a for a, b in mine if a == b]
        pairs = [[mine.get((a, b), mine.get((b, a), 0.0)) for b in names] for a in names]
        out[key] = square(pairs)
    return out
