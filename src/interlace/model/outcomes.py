"""Responses of generalised models: what each family can have, checked and made numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interlace.design import frame
from interlace.design.complete import CompleteRows
from interlace.design.components import columns_beside, component_text, encoded_components
from interlace.design.design import (
    Design,
    Respond,
    read_design,
    refuse_constant,
    refuse_saturated,
)
from interlace.design.encode import Context, Encoded
from interlace.design.formula import MixedFormula
from interlace.errors import InterlaceError
from interlace.glmm.families import Family
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.zeros import Hurdle, Inflated, Truncated, base_of
from interlace.model.categories import labels_of_response, refuse_no_intercept, scored
from interlace.model.fitted import Options
from interlace.model.responses import called
from interlace.sums.sizes import require_squares
from interlace.sums.terms import Floats, ReTerm

_COUNTS = ("poisson", "negative-binomial")
# Means of weights beyond which a likelihood is nothing to a search, or all rounding error.
_LIGHT, _HEAVY = 1e-8, 1e12
# Counts and trials up to which a log-likelihood has digits left.
_MOST = 1e12
_TRIALS = ("binomial", "beta-binomial")


@dataclass(frozen=True, eq=False)
class Outcome:
    """Rows of a generalised model: a design, and what the likelihood is of.

    ``design.y`` is the response as fitted values are: proportions for binomial ones.  ``y`` (n,)
    holds successes there, scores of ordered categories, the response otherwise; ``trials`` is
    ``None`` but for binomial ones.
    """

    design: Design
    y: Floats
    trials: Floats | None
    family: Family


def read_outcome(formula: MixedFormula, data: object, options: Options, family: Family) -> Outcome:
    """Read and check the rows of a generalised model.

    Raises
    ------
    InterlaceError
        Data that cannot be used, or a response that the family cannot have.
    """
    check_arguments(options, family)
    extra = {name: getattr(options, name) for name in ("weights", "offset", "trials", "exposure")}
    texts = component_texts(options, family)
    read = {**extra, **columns_beside(list(texts.values()), data)}
    respond = RESPONDS.get(base_of(family).name)
    design, rows = read_design(formula, data, read, options.missing, None, respond)
    check_terms(design.terms, len(design.y), family)
    refuse_saturated(design.X)
    require_squares(design)
    check_weights(design.weights)
    if isinstance(family, Ordinal):
        refuse_no_intercept(formula, design)
        family = replace(family, labels=labels_of_response(formula.response, rows, design))
        design = replace(design, y=scored(design.y, rows.columns.get(formula.response), family))
    trials = trials_of(extra["trials"], rows)
    place = Place(formula.response, options, partial(rows.name, title="the data"), family)
    y = checked_response(design.y, trials, place)
    offset = exposed(design.offset, extra["exposure"], rows)
    components = encoded_components(texts, rows)
    return _outcome(replace(design, offset=offset, components=components), y, trials, family)


def check_weights(weights: Floats | None) -> None:
    """Refuse weights that leave nothing of the likelihood, or nothing else.

    Raises
    ------
    InterlaceError
        Their mean is far from 1.
    """
    if weights is None:
        return
    mean = float((weights / len(weights)).sum())
    if not _LIGHT <= mean <= _HEAVY:
        raise InterlaceError(
            f"weights are {mean:.1e} on average: in a generalised model they say how much every "
            "row tells, and this is nothing, or all; give weights near 1"
        )


def read_rows(
    formula: MixedFormula,
    data: object,
    given: Mapping[str, str | ArrayLike | None],
    missing: str,
    context: Context | None,
    texts: Mapping[str, str],
    family: Family,
) -> tuple[Design, Floats | None]:
    """Rows of a design whose responses do not matter, the exposure in the offset, and their trials.

    ``given`` has the arguments by row: ``weights, offset, trials, exposure``, and the columns that
    the ``texts`` of the auxiliary predictors read.
    """
    extra = dict(given)
    design, rows = read_design(formula, data, extra, missing, context)
    check_terms(design.terms, len(design.y), family)
    refuse_saturated(design.X)
    check_weights(design.weights)
    offset = exposed(design.offset, extra["exposure"], rows)
    components = encoded_components(texts, rows)
    return replace(design, offset=offset, components=components), trials_of(extra["trials"], rows)


def with_response(
    y: Floats, held: Design, trials: Floats | None, options: Options, family: Family, name: str
) -> Outcome:
    """The rows used with another response, checked in the same way.

    Raises
    ------
    InterlaceError
        A response that the family cannot have.
    """
    place = Place(name, options, partial(called, held=held), family)
    return _outcome(held, checked_response(y, trials, place), trials, family)


def _outcome(design: Design, y: Floats, trials: Floats | None, family: Family) -> Outcome:
    shown = y if trials is None else y / trials
    return Outcome(replace(design, y=shown), y, trials, family)


def component_texts(options: Options, family: Family) -> dict[str, str]:
    """Texts of the auxiliary predictors that have a formula of their own.

    Raises
    ------
    InterlaceError
        The family has no such predictor.
    """
    texts = {}
    if options.zero_inflation is not None:
        texts["zero-inflation"] = component_text("zero_inflation", options.zero_inflation)
    if options.dispersion is not None:
        if not family.auxiliary:
            raise InterlaceError(
                f"dispersion= needs a family with a dispersion, size, precision or scale, not "
                f"family={family.name!r}: leave it out, or take one such as 'negative-binomial'"
            )
        texts[family.auxiliary] = component_text("dispersion", options.dispersion)
    return texts


def check_arguments(options: Options, family: Family) -> None:
    """Refuse arguments that mean nothing for the family.

    Raises
    ------
    InterlaceError
        Trials of another family than the binomial, an exposure without a log link.
    """
    base = base_of(family).name
    if options.trials is not None and base not in _TRIALS:
        raise InterlaceError(
            f"trials= belongs to family='binomial', not {family.name!r}: leave it out"
        )
    if base == "beta-binomial" and options.trials is None:
        raise InterlaceError(
            "family='beta-binomial' needs trials=: single trials vary no more than binomial ones"
        )
    if options.exposure is not None and (base not in _COUNTS or family.link.name != "log"):
        raise InterlaceError(
            f"exposure= is the offset log(exposure) of counts with a log link, not of "
            f"family={family.name!r} with link={family.link.name!r}: leave it out, or use offset="
        )


def check_terms(terms: Sequence[ReTerm], n: int, family: Family) -> None:
    """Refuse random terms of which the rows cannot tell the variance; one a row may be legal."""
    for term in terms:
        if term.l < 2:
            raise InterlaceError(
                f"the grouping factor '{term.group}' has one level "
                f"({term.levels.tolist()[0]!r}): a variance between levels needs two"
            )
        if term.l >= n and family.name == "gaussian":
            raise InterlaceError(
                f"the grouping factor '{term.group}' has as many levels ({term.l}) as there are "
                f"rows: its variance and the residual variance cannot be told apart"
            )


# ------------------------------------------------------------------ what families can have


@dataclass(frozen=True, eq=False)
class Place:
    """What messages say about a value: the response, the row, the family."""

    name: str
    options: Options
    called: Callable[[int], str]
    family: Family

    def row(self, bad: NDArray[np.bool_]) -> str:
        """The first row at fault, as the data counts them."""
        return self.called(int(np.argmax(bad)))

    def refuse(self, y: Floats, bad: NDArray[np.bool_], why: str) -> None:
        """Refuse a response with values at fault."""
        if bad.any():
            value = y[int(np.argmax(bad))]
            raise InterlaceError(
                f"the response '{self.name}' holds {value:g} in {self.row(bad)}: {why}"
            )


def _categories(formula: MixedFormula, encoded: Encoded) -> Floats:
    """Numbers 0, 1, ... of categories; numbers as they are."""
    if encoded.side.categorical:
        return np.asarray(encoded.matrix.argmax(axis=1), dtype=np.float64)
    return _successes(formula, encoded)


def _successes(formula: MixedFormula, encoded: Encoded) -> Floats:
    """A binomial response: numbers as they are, the second of two categories as 1."""
    matrix, side = encoded.matrix, encoded.side
    if side.categorical:
        levels = next(iter(side.categories.values()))
        if matrix.shape[1] != 2:
            found = "" if levels is None else f" ({', '.join(map(str, levels.tolist()[:6]))})"
            size = matrix.shape[1]
            number = "one category" if size == 1 else f"{size} categories"
            raise InterlaceError(
                f"the response '{formula.response}' has {number}{found}: a "
                f"binomial response has two, the first of which is failure"
            )
        return np.asarray(matrix[:, 1], dtype=np.float64)
    if matrix.shape[1] != 1:
        raise InterlaceError(
            f"the response '{formula.response}' has {matrix.shape[1]} columns, but must have one"
        )
    return np.asarray(matrix[:, 0], dtype=np.float64)


def _binomial(y: Floats, trials: Floats | None, place: Place) -> Floats:
    """Numbers of successes."""
    if trials is None:
        place.refuse(
            y,
            (y != 0.0) & (y != 1.0),
            "a binomial response is 0 or 1, or two categories; give counts or proportions with "
            "trials=",
        )
        counts = y
    else:
        counts = _counts_of(y, trials, place)
    total = 1.0 if trials is None else trials
    for value, all_alike in ((0, (counts == 0.0).all()), (1, (counts == total).all())):
        if all_alike:
            raise InterlaceError(
                f"the response '{place.name}' is {value} in every row: nothing can be estimated"
            )
    return counts


def _counts_of(y: Floats, trials: Floats, place: Place) -> Floats:
    """Successes from counts or proportions."""
    place.refuse(y, y < 0.0, "successes cannot be negative")
    if (y <= 1.0).all() and (y % 1.0 != 0.0).any():
        counts = np.round(y * trials)
        uneven = np.abs(counts - y * trials) > 1e-6 * np.maximum(trials, 1.0)
        place.refuse(y, uneven, "times its trials that is not a whole number of successes")
        return np.asarray(counts)
    place.refuse(y, y % 1.0 != 0.0, "successes are whole numbers, or proportions up to 1")
    over = y > trials
    if over.any():
        row = int(np.argmax(over))
        named = place.options.trials
        label = f"trials '{named}'" if isinstance(named, str) else "its trials"
        raise InterlaceError(
            f"'{place.name}' ({y[row]:g}) exceeds {label} ({trials[row]:g}) in {place.row(over)}"
        )
    return y


def _count(y: Floats, trials: Floats | None, place: Place) -> Floats:
    """Counts of events."""
    title = "Poisson" if place.family.name == "poisson" else "negative binomial"
    why = f"a {title} response counts events; give rates as counts with exposure="
    place.refuse(y, (y < 0.0) | (y % 1.0 != 0.0), why)
    large = f"counts above {_MOST:g} leave a likelihood no digits; model their logarithm, or take "
    place.refuse(y, y > _MOST, f"{large}family='gamma'")
    if not y.any():
        raise InterlaceError(
            f"the response '{place.name}' is 0 in every row: nothing can be estimated"
        )
    return y


def _positive(y: Floats, trials: Floats | None, place: Place) -> Floats:
    """Values above 0."""
    bad = y <= 0.0
    if bad.any():
        what = "0" if (y >= 0.0).all() else "0 or below"
        raise InterlaceError(
            f"family={place.family.name!r} needs positive values; '{place.name}' is {what} in "
            f"{int(bad.sum())} rows, the first of which is {place.row(bad)}: fit the rows above "
            f"0 alone, or with zero_inflation='~ 1' all of them (a hurdle model)"
        )
    refuse_constant(y, f"the response '{place.name}'")
    return y


def _share(y: Floats, trials: Floats | None, place: Place) -> Floats:
    """Shares between 0 and 1."""
    why = "family='beta' needs shares above 0 and below 1; counts out of trials are binomial"
    place.refuse(y, (y <= 0.0) | (y >= 1.0), why)
    refuse_constant(y, f"the response '{place.name}'")
    return y


def _any(y: Floats, trials: Floats | None, place: Place) -> Floats:
    """Any numbers."""
    refuse_constant(y, f"the response '{place.name}'")
    if place.family.link.name == "log" and y.mean() <= 0.0:
        raise InterlaceError(
            f"link='log' needs a positive mean; that of '{place.name}' is {y.mean():g}: use "
            f"another link"
        )
    return y


def _amount(y: Floats, trials: Floats | None, place: Place) -> Floats:
    """Amounts from 0 on."""
    why = "a Tweedie response is an amount: 0 or more"
    place.refuse(y, y < 0.0, why)
    refuse_constant(y, f"the response '{place.name}'")
    return y


_CHECKS: Mapping[str, Callable[[Floats, Floats | None, Place], Floats]] = {
    "binomial": _binomial,
    "poisson": _count,
    "negative-binomial": _count,
    "gamma": _positive,
    "inverse-gaussian": _positive,
    "beta": _share,
    "beta-binomial": _binomial,
    "gaussian": _any,
    "student-t": _any,
    "tweedie": _amount,
}
RESPONDS: Mapping[str, Respond] = {
    "binomial": _successes,
    "beta-binomial": _successes,
    "ordinal": _categories,
}


def checked_response(y: Floats, trials: Floats | None, place: Place) -> Floats:
    """The response as the likelihood takes it.

    Raises
    ------
    InterlaceError
        A value that the family cannot have.
    """
    family = place.family
    if isinstance(family, Ordinal):
        return _known_scores(y, place, family)
    check = _CHECKS[base_of(family).name]
    if isinstance(family, Hurdle):
        some = y != 0.0
        _refuse_without_zeros(some, place)
        place.refuse(y, y < 0.0, f"family={family.name!r} has values from 0 on")
        inner = replace(place, family=family.base, called=partial(_nth, place.called, some))
        check(y[some], None, inner)
        return y
    if isinstance(family, Truncated):
        why = "a truncated response counts from 1; zero_inflation='~ 1' makes it a hurdle model"
        place.refuse(y, y == 0.0, why)
    found = check(y, trials, replace(place, family=base_of(family)))
    if isinstance(family, Inflated):
        _refuse_without_zeros(found != 0.0, place)
    return found


def _nth(called: Callable[[int], str], some: NDArray[np.bool_], row: int) -> str:
    """What the n-th of some rows is called."""
    return called(int(np.flatnonzero(some)[row]))


def _refuse_without_zeros(some: NDArray[np.bool_], place: Place) -> None:
    """Refuse a response of which nothing is 0, or all."""
    if some.all() or not some.any():
        what = "no row" if some.all() else "every row"
        raise InterlaceError(
            f"the response '{place.name}' is 0 in {what}: a share of zeros cannot be estimated; "
            f"leave zero_inflation out"
        )


def _known_scores(y: Floats, place: Place, family: Ordinal) -> Floats:
    """Scores of ordered categories, all of which occur."""
    scores = family.scores
    codes = np.minimum(family.codes(y), len(scores) - 1)
    known = ", ".join(f"{v:g}" for v in scores)
    place.refuse(y, scores[codes] != y, f"the categories have the scores {known}")
    missing = np.flatnonzero(np.bincount(codes, minlength=len(scores)) == 0)
    if missing.size:
        raise InterlaceError(
            f"no row has {family.labels[int(missing[0])]!r} of the response '{place.name}': its "
            f"thresholds have no estimate; leave the category out"
        )
    return y


# ------------------------------------------------------------------ trials and exposure


def trials_of(
    argument: str | ArrayLike | None, rows: CompleteRows, title: str = "the data"
) -> Floats | None:
    """Trials of a binomial response, whole and positive."""
    return None if argument is None else _checked("trials", argument, rows, title, whole=True)


def exposed(
    offset: Floats | None,
    argument: str | ArrayLike | None,
    rows: CompleteRows,
    title: str = "the data",
) -> Floats | None:
    """The offset with the log of the exposure."""
    if argument is None:
        return offset
    log = np.log(_checked("exposure", argument, rows, title, whole=False))
    return log if offset is None else offset + log


def _checked(
    name: str, argument: str | ArrayLike, rows: CompleteRows, title: str, *, whole: bool
) -> Floats:
    label = argument if isinstance(argument, str) else f"{name}="
    values = frame.numeric(rows.columns[label], f"{name}=")
    bad = (values <= 0.0) | (whole & (values % 1.0 != 0.0))
    if bad.any():
        row = int(np.argmax(bad))
        kind = "positive whole numbers" if whole else "positive"
        raise InterlaceError(
            f"{name} must be {kind}, but {rows.name(row, title)} has {values[row]:g}: leave "
            f"such rows out"
        )
    if whole and (values > _MOST).any():
        row = int(np.argmax(values > _MOST))
        raise InterlaceError(
            f"{name} must be {_MOST:g} at most, but {rows.name(row, title)} has "
            f"{values[row]:g}: more leave a likelihood no digits; model the share, by family='beta'"
        )
    return values
