"""Likelihood-ratio tests between fitted models of the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from interlace.design.labels import row_name
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Chanced, difference_error
from interlace.estimation.likelihood import n_parameters
from interlace.inference.by_likelihood import ml_estimate
from interlace.inference.compare_general import bounds, same_family, same_likelihood
from interlace.inference.compare_structured import WITH_RESIDUAL, not_inside, residual_of
from interlace.model.fitted import FittedModel, Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.model.kinds import require_linear
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

# Likelihood-ratio statistics of nested models below zero by less than this are rounding.
_ROUNDING = 1e-6
# Monte-Carlo errors of a statistic, as a share of it, that are worth a warning.
_LARGE_ERROR = 0.1
_TOO_LARGE = ", too much beside it for the test: fit with a lower mc_tolerance, or solver='exact'."


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """A table of models with what must be known to read it; ``str()`` gives text.

    Columns and rows are read as those of its ``table``.

    Attributes
    ----------
    title
        What was compared.
    table
        One row a model, by name.
    notes
        Sentences on how the numbers were obtained.
    """

    title: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __getitem__(self, column: str) -> pd.Series:
        """A column of the table."""
        return self.table[column]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def columns(self) -> pd.Index:
        """Columns of the table."""
        return self.table.columns

    @property
    def index(self) -> pd.Index:
        """Names of the models."""
        return self.table.index

    @property
    def loc(self) -> Any:
        """Rows by name, as pandas' ``loc``."""
        return self.table.loc

    @property
    def iloc(self) -> Any:
        """Rows by position, as pandas' ``iloc``."""
        return self.table.iloc

    def to_frame(self) -> pd.DataFrame:
        """The table, a copy."""
        return self.table.copy()

    def __str__(self) -> str:
        body = _shown(self.table).to_string()
        return "\n".join([self.title, "=" * len(self.title), *self.notes, "", body])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        shown = _shown(self.table)
        test = [name for name in ("Chisq", "Df", "p") if name in shown]  # first, on a phone
        table = shown[[*test, *(name for name in shown if name not in test)]].to_html()
        return f"<div><h4>{escape(self.title)}</h4>{notes}{table}</div>"


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its numbers as text."""
    return pd.DataFrame(
        {
            name: [_text(str(name), value) for value in table[name].tolist()]
            for name in table.columns
        },
        index=table.index.rename(None),
    )


def _text(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    if column == "Df":
        return f"{value:.0f}"
    return "<0.0001" if column == "p" and value < 0.00005 else f"{value:.4f}"


def anova_models(
    *models: Labelled[Any] | Models, names: Sequence[str] | None = None, refit: bool | None = None
) -> ModelComparison:
    """Likelihood-ratio tests between nested models of the same rows.

    Parameters
    ----------
    models
        Two or more fitted models, or one list or dict of them, in any order; each is tested against
        the one before it when sorted by the number of parameters.
    names
        Their names in the table; by default ``"model 1"``, ``"model 2"`` in the order given.
    refit
        Refit models fitted by REML by ML, on the same cross-products: the default, but for models
        with ``residual=`` and the same fixed effects, whose restricted likelihoods are compared.
        ``False`` never does; REML fits then need the same fixed effects.

    Returns
    -------
    ModelComparison
        ``table`` has the columns ``nparams, AIC, BIC, logLik, deviance, Chisq, Df, p``; for two
        models with as many parameters ``Df`` is 0 and ``p`` is NaN.

    Raises
    ------
    InterlaceError
        Fewer than two models, one given twice, something that is not a fitted model, different
        rows or responses, REML fits that cannot be compared, or generalised models of different
        families, links or numbers of nodes.

    Notes
    -----
    ``Chisq = 2 (logLik_full - logLik_reduced)`` is compared with a chi-squared distribution
    of ``Df`` degrees of freedom; the notes have its Monte-Carlo error after fits by the iterative
    solver.  That is conservative where the reduced model sets a variance to
    zero (Stram and Lee 1994, Biometrics 50, 1171-1177).

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> slopes = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> plain = interlace.fit("Reaction ~ Days + (1 | Subject)", sleep)
    >>> anova_models(slopes, plain)["Chisq"].round(3).to_dict()
    {'model 2': nan, 'model 1': 42.139}
    """
    held, names = given(models, names)
    labels = model_names(held, names, general=True)
    if general := [m for m in held if isinstance(m, FittedGeneralModel)]:
        return _anova_general(general, labels, refit)
    if any(isinstance(m, WITH_RESIDUAL) for m in held):
        return _anova_structured(held, labels, refit)
    results = [m for m in held if isinstance(m, FittedModel)]
    estimates, notes = comparable(results, refit=refit is not False)
    order = sorted(range(len(results)), key=lambda i: n_parameters(estimates[i].A))
    table = likelihood_ratios(
        np.array([estimates[i].value for i in order]),
        np.array([n_parameters(estimates[i].A) for i in order]),
        results[0].nobs,
        [labels[i] for i in order],
    )
    formulas = [f"{labels[i]}: {results[i].formula}" for i in order]
    doubts = list(not_nested([results[i] for i in order], table))
    doubts += _by_chance([estimates[i] for i in order], table)
    return ModelComparison("Likelihood-ratio tests", table, (*notes, *doubts, *formulas))


def _anova_structured(
    results: Sequence[Labelled[Any]], labels: Sequence[str], refit: bool | None
) -> ModelComparison:
    """The same where residuals of some models are correlated or unequal."""
    estimates, notes = comparable_structured(results, refit=refit)
    order = sorted(range(len(results)), key=lambda i: results[i].nparams)
    ordered = [results[i] for i in order]
    table = likelihood_ratios(
        np.array([estimates[i].value for i in order]),
        np.array([r.nparams for r in ordered]),
        results[0].nobs,
        [labels[i] for i in order],
    )
    formulas = [
        f"{labels[i]}: {results[i].formula}, residuals {residual_of(results[i])}" for i in order
    ]
    doubts = [*not_nested(ordered, table), *not_inside(ordered, table)]
    doubts += _by_chance([estimates[i] for i in order], table)
    return ModelComparison("Likelihood-ratio tests", table, (*notes, *doubts, *formulas))


def comparable_structured(
    results: Sequence[Labelled[Any]], *, refit: bool | None
) -> tuple[list[Any], tuple[str, ...]]:
    """Estimates whose likelihoods can be compared: restricted ones where X is the same."""
    same_rows(results)
    restricted = all(r.method == "REML" for r in results)
    if refit is None:
        refit = not (restricted and same_fixed_part(results))
    return comparable(results, refit=refit)


def _anova_general(
    results: Sequence[FittedGeneralModel], labels: Sequence[str], refit: bool | None
) -> ModelComparison:
    """The same of generalised models, whose likelihoods are absolute."""
    same_rows(results)
    same_likelihood(results)
    same_family(results)
    estimates, said = comparable(results, refit=refit is not False)
    order = sorted(range(len(results)), key=lambda i: results[i].nparams)
    ordered = [results[i] for i in order]
    table = likelihood_ratios(
        np.array([estimates[i].value for i in order]),
        np.array([r.nparams for r in ordered]),
        results[0].nobs,
        [labels[i] for i in order],
    )
    formulas = [f"{labels[i]}: {results[i].formula}" for i in order]
    doubts = (*not_nested(ordered, table), *_by_chance([r.estimate for r in ordered], table))
    notes = (*said, *doubts, *bounds(ordered, table), *formulas)
    return ModelComparison("Likelihood-ratio tests", table, notes)


def not_nested(results: Sequence[Labelled[Any]], table: pd.DataFrame) -> Iterator[str]:
    """Why the test of a model against the one before it means nothing, where that is plain."""
    for i in range(1, len(results)):
        pair = f"{table.index[i - 1]} and {table.index[i]}"
        if table["Df"].iloc[i] == 0:
            yield f"{pair} have equally many parameters: neither is part of the other, no test."
        first, other = results[i - 1].design, results[i].design
        if first is None or other is None:
            continue
        if not _same(first.weights, other.weights):
            yield f"{pair} have different weights: neither is part of the other."
        if not _same(first.offset, other.offset):
            yield f"{pair} have different offsets: neither is part of the other."


def _by_chance(estimates: Sequence[Chanced], table: pd.DataFrame) -> Iterator[str]:
    """Monte-Carlo errors of the statistics, where the iterative solver left any."""
    for i in range(1, len(estimates)):
        error = difference_error(estimates[i - 1], estimates[i])
        if error > 0.0:
            note = f"Chisq of {table.index[i]} has a Monte-Carlo standard error of {error:.2g}"
            large = error > _LARGE_ERROR * abs(table["Chisq"].iloc[i])
            yield f"{note}{_TOO_LARGE if large else ' (iterative solver).'}"


def _same(first: Floats | None, second: Floats | None) -> bool:
    """Whether two vectors, or two absent ones, are equal."""
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)


def likelihood_ratios(
    deviance: Floats, size: NDArray[np.int_], n: int, labels: Sequence[str]
) -> pd.DataFrame:
    """Models of ``size`` parameters in order, each tested against the one before it."""
    chisq = np.concatenate(([np.nan], nested_ratio(-np.diff(deviance))))
    df = np.concatenate(([np.nan], np.diff(size)))
    return pd.DataFrame(
        {
            "nparams": size,
            "AIC": deviance + 2.0 * size,
            "BIC": deviance + size * np.log(n),
            "logLik": -0.5 * deviance,
            "deviance": deviance,
            "Chisq": chisq,
            "Df": df,
            "p": chi2_tail(chisq, df),
        },
        index=pd.Index(labels, name="model"),
    )


def nested_ratio(statistic: Floats) -> Floats:
    """Likelihood-ratio statistics with negative rounding errors set to 0."""
    small = (statistic < 0) & (statistic > -_ROUNDING)
    return np.where(small, 0.0, statistic)


def chi2_tail(statistic: Floats, df: Floats) -> Floats:
    """Probability of a larger chi-squared value; NaN without degrees of freedom."""
    tail = chdtrc(np.where(df > 0, df, np.nan), np.maximum(statistic, 0.0))
    return np.asarray(tail, dtype=np.float64)


# ------------------------------------------------------------------ what can be compared


Models = Sequence[Labelled[Any]] | Mapping[str, Labelled[Any]]


def given(
    models: Sequence[Labelled[Any] | Models], names: Sequence[str] | None
) -> tuple[tuple[Labelled[Any], ...], Sequence[str] | None]:
    """Models given one by one, or as one list or dict, whose keys are their names."""
    if len(models) == 1 and isinstance(models[0], Mapping):
        held = models[0]
        return tuple(held.values()), list(map(str, held)) if names is None else names
    if len(models) == 1 and isinstance(models[0], list | tuple):
        return tuple(models[0]), names
    return tuple(models), names  # type: ignore[arg-type]


def model_names(
    results: Sequence[Labelled[Any]],
    names: Sequence[str] | None = None,
    *,
    general: bool = False,
) -> list[str]:
    """Names of the models, once it is sure that they are two or more different fitted models.

    With ``general`` they may all be generalised ones.

    Raises
    ------
    InterlaceError
        Fewer than two, one that is not a fitted model or is given twice, or wrong names.
    """
    kinds = {isinstance(r, FittedGeneralModel) for r in results if isinstance(r, Labelled)}
    if general and len(kinds) == 2:
        raise InterlaceError(
            "a linear model and a generalised one are no parts of each other, and their criteria "
            "are not of one kind: compare models of one family"
        )
    for i, result in enumerate(results, start=1):
        if general and isinstance(result, (FittedGeneralModel, *WITH_RESIDUAL)):
            continue
        require_linear(result, "a table of several models")
        if not isinstance(result, FittedModel):
            raise InterlaceError(
                f"argument {i} is not a fitted model but of the type {type(result).__name__}: "
                "pass what interlace.fit returns"
            )
    if len(results) < 2:
        raise InterlaceError(f"a comparison needs two models or more, not {len(results)}")
    for i, result in enumerate(results):
        for k in range(i):
            if result is results[k]:
                raise InterlaceError(f"argument {i + 1} is the same model as argument {k + 1}")
    labels = [f"model {i + 1}" for i in range(len(results))] if names is None else list(names)
    if isinstance(names, str) or len(labels) != len(results) or len(set(labels)) < len(labels):
        raise InterlaceError(
            f"names must hold one name for each of the {len(results)} models, all different, "
            f"not {names!r}"
        )
    return labels


def same_rows(results: Sequence[Labelled[Any]]) -> None:
    """Refuse models that were not fitted to the same response and rows.

    Raises
    ------
    InterlaceError
        The message says how the first model that differs does so.
    """
    first = results[0]
    for i, other in enumerate(results[1:], start=2):
        difference = _difference(first, other)
        if difference:
            raise InterlaceError(
                f"models of different data cannot be compared: model 1 and model {i} {difference}"
                f"; fit them to the same rows"
            )


def _difference(first: Labelled[Any], other: Labelled[Any]) -> str:
    """How the data of two models differ, in words; empty if they do not."""
    names = first.formula.response, other.formula.response
    if names[0] != names[1]:
        return f"have different responses, '{names[0]}' and '{names[1]}'"
    if first.design is None or other.design is None:
        return _difference_in_sums(first, other)
    kept = first.design.kept, other.design.kept
    if first.nobs != other.nobs:
        hint = ", because of missing values: drop the incomplete rows before fitting"
        dropped = first.n_dropped != other.n_dropped and len(kept[0]) == len(kept[1])
        return f"use {first.nobs} and {other.nobs} rows{hint if dropped else ''}"
    if len(kept[0]) == len(kept[1]) and not np.array_equal(kept[0], kept[1]):
        row = int(np.flatnonzero(kept[0] != kept[1])[0])
        name = row_name(first.design.index, row)
        return f"use different rows: {name} is missing in only one of them"
    if not np.array_equal(first.design.y, other.design.y):
        count = int((first.design.y != other.design.y).sum())
        return f"have different values of the response '{names[0]}' in {count} rows"
    return ""


def _difference_in_sums(first: Labelled[Any], other: Labelled[Any]) -> str:
    """How the data of two models differ, as far as fits tell that do not both hold their rows."""
    if first.nobs != other.nobs:
        return f"use {first.nobs} and {other.nobs} rows"
    squares = _squares_of_response(first.estimate.A)
    if not np.isclose(squares, _squares_of_response(other.estimate.A), rtol=1e-8):
        return f"have different values of the response '{first.formula.response}'"
    return ""


def _squares_of_response(A: CrossProducts) -> float:
    """Sum of squares of the response, less the offset."""
    y = np.linalg.inv(A.basis.fixed)[:, -1]
    return float(y @ A.vv @ y)


def comparable(
    results: Sequence[Labelled[Any]], *, refit: bool = True
) -> tuple[list[Any], tuple[str, ...]]:
    """Estimates whose likelihoods can be compared, and what was done to get them.

    REML fits are refitted by ML; with ``refit=False`` they are taken as they are, if all of them
    are REML fits with the same fixed effects.
    """
    same_rows(results)
    restricted = [r.method == "REML" for r in results]
    if not any(restricted):
        return [r.estimate for r in results], ()
    if refit:
        count = sum(restricted)
        which = "All models" if count == len(results) else f"{count} of {len(results)} models"
        note = f"{which} were fitted by REML and have been refitted by ML for this comparison."
        return [ml_estimate(r) for r in results], (note,)
    if not all(restricted):
        raise InterlaceError(
            "REML and ML fits cannot be compared: leave refit=False out, or fit all with one method"
        )
    if not same_fixed_part(results):
        raise InterlaceError(
            "REML criteria of models with different fixed effects cannot be compared: leave "
            "refit=False out, or fit the models with method='ML'"
        )
    return [r.estimate for r in results], ("Restricted likelihoods (REML) are compared.",)


def same_fixed_part(results: Sequence[Labelled[Any]]) -> bool:
    """Whether all models have the same columns of fixed effects, in any order."""
    first = _fixed_columns(results[0])
    return all(
        first.keys() == (other := _fixed_columns(r)).keys()
        and all(np.array_equal(first[name], other[name]) for name in first)
        for r in results[1:]
    )


def _fixed_columns(result: Labelled[Any]) -> dict[str, Floats]:
    kept = set(result.estimate.A.names)
    design = require_rows(result.design, "a comparison of fixed effects")
    return {
        name: column for name, column in zip(design.names, design.X.T, strict=True) if name in kept
    }
