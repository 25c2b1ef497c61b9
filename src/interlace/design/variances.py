"""Variance functions ``varident(strata)``, ``varpower(x)``, ``varexp(x)``: scales of the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from interlace.design import frame, keys
from interlace.design.complete import CompleteRows, complete_rows, spread
from interlace.design.encode import Floats
from interlace.design.frame import Table
from interlace.design.groups import Grouping, group_rows, recode_rows
from interlace.design.newdata import refuse_values
from interlace.errors import InterlaceError

# Shares of a row that count as none.
_NONE = 1e-9

VARIANCES = ("varident", "varpower", "varexp")


@dataclass(frozen=True)
class VarianceTerm:
    """A variance function: its name and the columns that it reads."""

    kind: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}({':'.join(self.columns)})"


@dataclass(frozen=True, eq=False)
class Scales:
    """Logs of standard deviations of rows as linear functions of a few numbers.

    Parameters
    ----------
    rows
        ``(n, q)``, of size 1 at most.
    ratios
        Of every number: its name, and whether its exponential is reported, a ratio.
    units
        ``(q,)``: what is reported of a number is divided by it.
    strata
        Of ``varident``, to tell them in other rows.
    """

    rows: Floats
    ratios: tuple[tuple[str, bool], ...]
    units: Floats
    strata: Grouping | None = None


def scales_of(term: VarianceTerm | None, rows: CompleteRows) -> Scales:
    """The standard deviations of the rows used.

    Raises
    ------
    InterlaceError
        A stratum with one row, one stratum, a covariate that is not a number or is zero where its
        logarithm is taken; the message names rows.
    """
    if term is None:
        return Scales(np.zeros((rows.n, 0)), (), np.zeros(0))
    if term.kind == "varident":
        return _strata(term, rows)
    return _covariate(term, rows)


def sparse_scales_of(term: VarianceTerm, rows: CompleteRows) -> tuple[csr_matrix, Scales]:
    """The rows of :func:`scales_of` without the zeros of many strata, and all else of it."""
    if term.kind != "varident":
        dense = _covariate(term, rows)
        return csr_matrix(dense.rows), dense
    group, codes = _codes(term, rows)
    q = len(group.cells) - 1
    return one_hot(codes, q), Scales(np.zeros((0, q)), _ratios(group), np.ones(q), group)


def one_hot(codes: NDArray[np.integer], q: int) -> csr_matrix:
    """Rows ``(n, q)`` of strata, the first of which is at zero."""
    others = np.flatnonzero(codes)
    return csr_matrix((np.ones(len(others)), (others, codes[others] - 1)), (len(codes), q))


def _strata(term: VarianceTerm, rows: CompleteRows) -> Scales:
    group, codes = _codes(term, rows)
    rows_of = one_hot(codes, len(group.cells) - 1).toarray()
    return Scales(rows_of, _ratios(group), np.ones(rows_of.shape[1]), group)


def _ratios(group: Grouping) -> tuple[tuple[str, bool], ...]:
    return tuple((f"ratio_{label}", True) for label in keys.texts(group.labels)[1:])


def _codes(term: VarianceTerm, rows: CompleteRows) -> tuple[Grouping, NDArray[np.integer]]:
    """The strata and where rows stand in them, checked."""
    group, codes = group_rows(term.columns, rows.columns)
    labels, number = keys.texts(group.labels), np.bincount(codes)
    if len(labels) < 2:
        raise InterlaceError(f"{term} has one stratum ({labels[0]}): all rows have one variance")
    if (alone := np.flatnonzero(number == 1)).size:
        row = int(np.flatnonzero(codes == alone[0])[0])
        raise InterlaceError(
            f"the stratum {labels[int(alone[0])]} of {term} has one row, "
            f"{rows.name(row, 'the data')}{_and_more(len(alone))}: a variance needs two; merge "
            "strata, or leave it out"
        )
    return group, codes


def _and_more(count: int) -> str:
    """How many strata are like the one that is named."""
    return f" (and so have {count - 1} others)" if count > 1 else ""


def refuse_reproduced(
    term: VarianceTerm | None, X: Floats, strata: Grouping | None, rows: CompleteRows
) -> None:
    """Refuse strata whose rows the fixed effects reproduce, whatever the response.

    They say nothing of a variance: by maximum likelihood it would go to zero.  The leverages of
    such rows in a regression on ``X`` (n, p) are 1, so that they are ``p`` rows at most.

    Raises
    ------
    InterlaceError
        There is such a stratum; the message names it and a row.
    """
    if term is None or strata is None:
        return
    codes = recode_rows(strata, rows.columns)
    number = np.bincount(codes)
    few = number <= X.shape[1]
    if not few.any():
        return
    Q, sizes, _ = np.linalg.svd(X / np.maximum(np.abs(X).max(axis=0), 1e-300), full_matrices=False)
    leverages = (Q[:, sizes > _NONE * sizes[0]] ** 2).sum(axis=1)
    left = number - np.bincount(codes, weights=leverages)
    if (told := np.flatnonzero(few & (left < _NONE * number))).size:
        label = keys.texts(strata.labels)[int(told[0])]
        row = int(np.flatnonzero(codes == told[0])[0])
        raise InterlaceError(
            f"the fixed effects reproduce all rows of the stratum {label} of {term}, such as "
            f"{rows.name(row, 'the data')}, whatever the response: they say nothing of its "
            "variance; merge strata, or leave the fixed effects of these rows out"
        )


def _covariate(term: VarianceTerm, rows: CompleteRows) -> Scales:
    (name,) = term.columns
    values = frame.numeric(rows.columns[name], f"the column '{name}' of {term}")
    if values.min() == values.max():
        raise InterlaceError(f"{term}: '{name}' is {values[0]:g} in every row")
    label = "rate"
    if term.kind == "varpower":
        if (zero := np.flatnonzero(values == 0.0)).size:
            raise InterlaceError(
                f"{term}: '{name}' is 0 in {rows.name(int(zero[0]), 'the data')}, where a power of "
                "it is no standard deviation: add a constant to the column, or take varexp"
            )
        values, label = np.log(np.abs(values)), "power"
    unit = float(np.abs(values).max())
    return Scales((values / unit)[:, None], ((label, False),), np.array([unit]))


def new_logs(
    term: VarianceTerm, table: Table, strata: Grouping | None, units: Floats, eta: Floats
) -> Floats:
    """Log standard deviations of the rows of a table, ``(m,)``; NaN where a value is missing.

    Raises
    ------
    InterlaceError
        A stratum is not one of the fit, or a power is asked for at zero; the message names the row.
    """
    stored = frame.pick(table, term.columns)
    rows = complete_rows(stored, table)
    if strata is not None:
        codes = recode_rows(strata, rows.columns, quiet=True)
        logs, unknown = np.append(0.0, eta)[np.maximum(codes, 0)], codes < 0
    else:
        (name,) = term.columns
        values = frame.numeric(rows.columns[name], f"the column '{name}' of {term}")
        unknown = values == 0.0 if term.kind == "varpower" else np.zeros(rows.n, dtype=bool)
        if term.kind == "varpower":
            values = np.log(np.abs(np.where(unknown, 1.0, values)))
        logs = values / units[0] * eta[0]
    wrong = spread(unknown[:, None].astype(np.float64), rows)[:, 0] == 1.0
    refuse_values(table, wrong, term.columns, f"of which {term} knows no standard deviation")
    return spread(logs[:, None], rows)[:, 0]
