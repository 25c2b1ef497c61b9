"""What every adapter shares: the shape of an answer, and frames made from stored columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.problems import Factor
from benchmarks.storage import Stored

if TYPE_CHECKING:
    import pandas as pd


class Unsupported(Exception):  # noqa: N818
    """The package cannot fit this model; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a fit found.

    ``criterion`` is the REML criterion or -2 log-likelihood with its constants, None where the
    package only approximates it. ``covariances`` holds the random-effect covariance (k, k)
    of each term by grouping key, in the order of the term's columns. ``evaluations`` counts the
    criterion, ``steps`` those to the modes of the random effects.
    """

    criterion: float | None
    scale: float
    covariances: dict[str, list[list[float]]]
    evaluations: int | None = None
    steps: int | None = None


def square(covariance: object) -> list[list[float]]:
    """A covariance (k, k) as lists; a bare variance counts as 1 x 1."""
    rows: list[list[float]] = np.atleast_2d(np.asarray(covariance, dtype=np.float64)).tolist()
    return rows


def pandas_frame(stored: Stored, *, codes: tuple[str, ...] = ()) -> pd.DataFrame:
    """A frame with categorical factors, except those in ``codes``, which become integers."""
    import pandas as pd

    def column(name: str) -> object:
        value = stored.columns[name]
        if not isinstance(value, Factor):
            return value
        if name in codes:
            return value.codes.astype(np.int64)
        return pd.Categorical.from_codes(value.codes, pd.Index(value.labels))

    return pd.DataFrame({name: column(name) for name in stored.columns})


def variables(expr: str) -> list[str]:
    """Names in a sum of names, its constants left out: ``"1 + x"`` gives ``["x"]``."""
    return [part for part in expr.split(" + ") if part not in {"0", "1"}]


def single_group(stored: Stored, package: str) -> str:
    """The one grouping column of the model; Unsupported if it has more."""
    (term, *more) = stored.terms
    if more or len(term.groups) > 1:
        raise Unsupported(f"{package} takes one grouping factor only")
    return term.groups[0]
