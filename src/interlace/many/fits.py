"""What many fits on one design found: tidy tables, and a result of any of them on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from interlace import results
from interlace.design.formula import MixedFormula
from interlace.design.frame import hint
from interlace.errors import InterlaceError
from interlace.estimation.parameters import broom_names
from interlace.results import CrossedLMEResult
from interlace.results.shown import as_html
from interlace.sums.terms import Floats, ReTerm

# Rows of the table that a notebook shows.
_ROWS_SHOWN = 20

TABLE = (
    "response",
    "effect",
    "group",
    "term",
    "estimate",
    "std.error",
    "statistic",
    "p.value",
)


@dataclass(frozen=True, eq=False)
class TableRows:
    """Rows that every response of a piece has in the table: fixed effects, then variances.

    ``order`` says which of the standard deviations and correlations, as
    :func:`interlace.estimation.parameters.variance_parameters` lists them, comes where.
    """

    effect: tuple[str, ...]
    group: tuple[str, ...]
    term: tuple[str, ...]
    order: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.term)


def rows_of(names: Sequence[str], terms: Sequence[ReTerm], formula: MixedFormula) -> TableRows:
    """Rows of one model, grouping factors in the order of its formula."""
    keys = [term.key for term in formula.random]
    spans, start = [], 0
    for term in terms:
        size = term.n_theta
        spans.append(start + term.template.listed(backwards=term.backwards))
        start += size
    listed = sorted(range(len(terms)), key=lambda j: keys.index(terms[j].group))
    labels = [(terms[j].group, name) for j in listed for name in broom_names(terms[j])]
    labels.append(("Residual", "sd__Observation"))
    return TableRows(
        effect=("fixed",) * len(names) + ("ran_pars",) * len(labels),
        group=("",) * len(names) + tuple(group for group, _ in labels),
        term=(*names, *(name for _, name in labels)),
        order=np.concatenate([*(spans[j] for j in listed), [start]]).astype(np.intp),
    )


@dataclass(frozen=True, eq=False)
class Piece:
    """Fits of some responses to the same rows, in the user's units.

    ``which`` (B,) are their numbers; ``estimate`` and ``se`` have the columns of ``rows``.  Those
    in ``failed`` are to be fitted alone.  ``beside`` are further columns of ``glance``.
    """

    which: NDArray[np.intp]
    rows: TableRows
    nobs: int
    nparams: int
    dropped: tuple[str, ...]
    estimate: Floats
    se: Floats
    value: Floats
    converged: NDArray[np.bool_]
    singular: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    beside: Mapping[str, NDArray[np.generic]]

    def take(self, keep: NDArray[np.bool_]) -> Piece:
        """Some of the responses."""
        own = ("which", "estimate", "se", "value", "converged", "singular", "failed")
        beside = {name: values[keep] for name, values in self.beside.items()}
        return replace(self, beside=beside, **{name: getattr(self, name)[keep] for name in own})


def blank(which: Sequence[int] | NDArray[np.intp], rows: TableRows) -> Piece:
    """Responses that failed."""
    B = len(which)
    nothing = np.full((B, len(rows)), np.nan)
    return Piece(
        which=np.asarray(which, dtype=np.intp),
        rows=rows,
        nobs=0,
        nparams=0,
        dropped=(),
        estimate=nothing,
        se=nothing,
        value=np.full(B, np.nan),
        converged=np.zeros(B, dtype=bool),
        singular=np.zeros(B, dtype=bool),
        failed=np.ones(B, dtype=bool),
        beside={},
    )


# ------------------------------------------------------------------ tables


def tidy_table(names: Sequence[str], pieces: Sequence[Piece]) -> pd.DataFrame:
    """One row for each response and parameter, responses in their order."""
    sizes = [len(piece.rows) for piece in pieces]
    which = [np.repeat(p.which, size) for p, size in zip(pieces, sizes, strict=True)]
    order = np.argsort(np.concatenate(which), kind="stable")

    def labels(kind: str) -> NDArray[np.object_]:
        parts = [np.tile(np.array(getattr(p.rows, kind), object), len(p.which)) for p in pieces]
        found: NDArray[np.object_] = np.concatenate(parts)[order]
        return found

    estimate = np.concatenate([p.estimate.ravel() for p in pieces])[order]
    se = np.concatenate([p.se.ravel() for p in pieces])[order]
    statistic = estimate / se
    group = labels("group")
    columns = {
        "response": np.array(names, object)[np.concatenate(which)[order]],
        "effect": labels("effect"),
        "group": np.where(group == "", np.nan, group),
        "term": labels("term"),
        "estimate": estimate,
        "std.error": se,
        "statistic": statistic,
        "p.value": 2.0 * ndtr(-np.abs(statistic)),
    }
    return pd.DataFrame(columns, columns=list(TABLE))


def glance_table(names: Sequence[str], pieces: Sequence[Piece], method: str) -> pd.DataFrame:
    """One row for each response."""
    which = np.concatenate([p.which for p in pieces])
    order = np.argsort(which)
    value = np.concatenate([p.value for p in pieces])
    nobs = np.concatenate([np.full(len(p.which), p.nobs) for p in pieces])
    nparams = np.concatenate([np.full(len(p.which), p.nparams) for p in pieces])
    failed = np.concatenate([p.failed for p in pieces])
    criterion = "REMLcrit" if method == "REML" else "deviance"
    beside = {name: _beside(name, pieces) for name in _names_beside(pieces)}
    columns = {
        "response": np.array(names, object)[which],
        "nobs": _counts(nobs, failed),
        "sigma": beside.pop("sigma", np.full(len(value), np.nan)),
        "logLik": -0.5 * value,
        "AIC": value + 2.0 * nparams,
        "BIC": value + nparams * np.log(np.maximum(nobs, 1)),
        criterion: beside.pop("deviance", value),
        "df.residual": _counts(nobs - nparams, failed),
        "converged": np.concatenate([p.converged for p in pieces]),
        "singular": np.concatenate([p.singular for p in pieces]),
        **beside,
    }
    return pd.DataFrame(columns).iloc[order].reset_index(drop=True)


def _names_beside(pieces: Sequence[Piece]) -> list[str]:
    """Further columns, in their order."""
    return list(dict.fromkeys(name for piece in pieces for name in piece.beside))


def _beside(name: str, pieces: Sequence[Piece]) -> NDArray[np.generic]:
    """One of them; of fits that failed nan, or False where it says yes or no."""
    known = next(piece.beside[name] for piece in pieces if name in piece.beside)
    nothing = False if known.dtype == bool else np.nan
    parts = [p.beside.get(name, np.full(len(p.which), nothing, known.dtype)) for p in pieces]
    return np.concatenate(parts)


def _counts(values: NDArray[np.integer], failed: NDArray[np.bool_]) -> NDArray[np.generic]:
    """Counts, NaN where a fit failed."""
    return np.where(failed, np.nan, values) if failed.any() else values


# ------------------------------------------------------------------ the result


class OneResponse(Protocol):
    """A model that can be fitted to one response by name."""

    def fit(self, name: str) -> CrossedLMEResult | results.CrossedGLMMResult: ...


@dataclass(frozen=True, eq=False)
class ManyFits:
    """Fits of one model to many responses; iterating gives the names of the responses.

    Attributes
    ----------
    formula
        The model, without a response.
    method
        ``"REML"`` or ``"ML"``.
    family
        Name of the family of the responses.
    names
        The responses in the order given.
    table
        One row for each response and parameter: ``response, effect, group, term, estimate,
        std.error, statistic, p.value``, as ``tidy`` of a result names them.  Effects
        are ``"fixed"`` (normal tests) and ``"ran_pars"`` (standard deviations and correlations,
        without standard errors, and a dispersion or the like of a family that has one).
    errors
        Why responses could not be fitted, by name; their rows hold NaN.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> noise = sleep["Reaction"].sample(frac=1.0, random_state=1).to_numpy()
    >>> many = interlace.fit_many(
    ...     "~ Days + (1 | Subject)", sleep.assign(noise=noise), ["Reaction", "noise"]
    ... )
    >>> slopes = many.table.query("term == 'Days'")
    >>> slopes[["response", "estimate", "std.error"]].round(2).to_numpy().tolist()
    [['Reaction', 10.47, 0.8], ['noise', -1.8, 1.44]]
    """

    formula: str
    method: str
    names: tuple[str, ...]
    table: pd.DataFrame
    errors: Mapping[str, str]
    _glance: pd.DataFrame = field(repr=False)
    _model: OneResponse = field(repr=False)
    family: str = "gaussian"

    def glance(self) -> pd.DataFrame:
        """One row for each response, with the columns of a result's ``glance``.

        ``response, nobs, sigma, logLik, AIC, BIC, REMLcrit`` (``deviance`` for ML),
        ``df.residual, converged, singular``; of other families than the Gaussian also their names,
        dispersions, and whether a coefficient is ``separated``, which has no finite estimate.
        """
        return self._glance.copy()

    def result(self, name: str) -> Any:  # CrossedLMEResult or CrossedGLMMResult, as family= says
        """The fit of one response with all that can be asked of it: ``fit`` of that response.

        It is computed when asked for, and warns as ``fit`` does.

        Raises
        ------
        InterlaceError
            There is no such response, or it cannot be fitted; the message is that of ``errors``.
        """
        if name not in self.names:
            raise InterlaceError(f"there is no response {name!r}{hint(str(name), self.names)}")
        return self._model.fit(name)

    @property
    def n_singular(self) -> int:
        """Responses with a variance, or a combination of random effects, estimated as zero."""
        return int(self._glance["singular"].sum())

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def _repr_html_(self) -> str:
        shown = self.table.head(_ROWS_SHOWN)
        more = len(self.table) - len(shown)
        notes = [f"{more:,} more rows: see .table"] if more else []
        return as_html(shown, title=f"{self!r}"[1:-1], notes=notes)

    def __repr__(self) -> str:
        parts = [f"{len(self)} response{'s' if len(self) != 1 else ''}"]
        parts += [f"{len(self.errors)} failed"] if self.errors else []
        unsettled = int((~self._glance["converged"]).sum()) - len(self.errors)
        parts += [f"{unsettled} not converged"] if unsettled else []
        parts += [f"{self.n_singular} singular"] if self.n_singular else []
        if "separated" in self._glance and (n := int(self._glance["separated"].sum())):
            parts += [f"{n} separated"]
        kind = self.method if self.family == "gaussian" else f"{self.family}, {self.method}"
        return f"<ManyFits {self.formula} | {kind}, {', '.join(parts)}>"
