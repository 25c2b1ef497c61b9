"""Backward elimination of random and fixed terms, every test stated."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from interlace.choices import Ddf
from interlace.design.formula import MixedFormula, RandomTerm
from interlace.design.frame import hint, open_table, pick
from interlace.design.reads import columns_of
from interlace.design.simpler import of_effects, random_term
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    SingularFitWarning,
    UndeterminedWarning,
)
from interlace.inference.compare import chi2_tail, nested_ratio
from interlace.inference.effects import effects_of, part_of_rows
from interlace.inference.hypotheses import term_hypotheses
from interlace.inference.ranova import linear_value
from interlace.inference.slopes import droppable
from interlace.inference.tables import reference
from interlace.model.confidence import check_level
from interlace.model.fitted import FittedModel, tame
from interlace.model.fitting import fit_model
from interlace.sums.crossprod import drop_term
from interlace.sums.sizes import in_units_or_nan

RANDOM = ("eliminated", "npar", "logLik", "AIC", "LRT", "Df", "p")
FIXED = ("eliminated", "sum_sq", "mean_sq", "num_df", "den_df", "F", "p")


@dataclass(frozen=True, eq=False)
class Steps:
    """What an elimination did: its tests and the model that is left.

    ``eliminated`` counts the terms in the order in which they went, 0 for those that stay.
    """

    model: FittedModel
    random: pd.DataFrame
    fixed: pd.DataFrame


def step(
    result: FittedModel,
    *,
    alpha_random: float = 0.1,
    alpha_fixed: float = 0.05,
    ddf: Ddf = "satterthwaite",
    keep: Sequence[str] = (),
) -> Steps:
    """Eliminate random terms, then fixed ones; see the method ``step``."""
    for name, alpha in (("alpha_random", alpha_random), ("alpha_fixed", alpha_fixed)):
        if not (0.0 <= alpha <= 1.0):
            check_level(alpha, name)
    kept = [keep] if isinstance(keep, str) else list(keep)
    _refuse_unknown(result, kept)
    model = _on_rows_used(result)
    random, model = _random_steps(model, alpha_random, kept)
    fixed, model = _fixed_steps(model, alpha_fixed, ddf, kept)
    return Steps(model, random, fixed)


def _refuse_unknown(result: FittedModel, keep: Sequence[str]) -> None:
    """Terms to keep must be terms."""
    known = [t.label for t in result.encoding.fixed.terms if t.factors]
    known += [t.label for t in result.formula.random]
    for name in keep:
        if name not in known:
            raise InterlaceError(f"keep: the model has no term '{name}'{hint(str(name), known)}")


def _on_rows_used(result: FittedModel) -> FittedModel:
    """The model of the rows used alone, so that all models compared have the same."""
    design, data = result.design, result.data
    if design is None or data is None:
        raise InterlaceError(
            "step refits models to the data, and the result does not hold them (it was unpickled, "
            "or fitted part by part): fit the formula again"
        )
    if not result.n_dropped:
        return result
    options = result.options
    table = open_table(data)
    beside = (options.weights, options.offset)
    names = columns_of(result.formula, table, design.encoding.context, beside=beside)
    rows = np.flatnonzero(design.kept)
    columns = {name: column[rows] for name, column in pick(table, names).items()}
    given = (options.weights, options.offset)
    weights, offset = (v if isinstance(v, str | None) else np.asarray(v)[rows] for v in given)
    options = replace(options, weights=weights, offset=offset)
    return replace(result, options=options, held=columns)


def _fit(model: FittedModel, formula: MixedFormula) -> FittedModel:
    """The same options and data with another formula; what is doubtful is said of the last."""
    options = replace(model.options, formula=str(formula), random=None, groups=None, theta0=None)
    with warnings.catch_warnings():
        for category in (SingularFitWarning, ConvergenceWarning, UndeterminedWarning):
            warnings.simplefilter("ignore", category)
        return fit_model(options, model.data)


# ------------------------------------------------------------------ random terms


def _random_steps(
    model: FittedModel, alpha: float, keep: Sequence[str]
) -> tuple[pd.DataFrame, FittedModel]:
    """Leave out the random effect with the largest p while that is above ``alpha``."""
    rows: list[dict[str, object]] = []
    count = 0
    while True:
        candidates = [
            (label, term, formula)
            for label, term, formula in reductions(model)
            if term.label not in keep and formula.random
        ]
        fits = [(label, _fit(model, formula)) for label, _, formula in candidates]
        tests = [(_random_row(model, smaller), label, smaller) for label, smaller in fits]
        worst = max(tests, key=lambda one: one[0]["p"], default=None)
        if worst is None or not worst[0]["p"] > alpha:
            rows += [{"term": label, "eliminated": 0} | row for row, label, _ in tests]
            rows += _the_last(model)
            break
        count += 1
        row, label, model = worst
        rows.append({"term": label, "eliminated": count} | row)
    first = {
        "term": "<none>",
        "eliminated": 0,
        "npar": model.nparams,
        "logLik": model.llf,
        "AIC": model.aic,
    }
    found = pd.DataFrame([*rows, first]).set_index("term").reindex(columns=list(RANDOM))
    return found, model


def _the_last(model: FittedModel) -> list[dict[str, object]]:
    """The only random effect there is: tested, but a mixed model without it there is not."""
    left = list(reductions(model))
    if len(left) != 1 or left[0][2].random:
        return []
    A = drop_term(model.estimate.A, 0)
    value = linear_value(A, reml=model.estimate.criterion.reml)
    df = model.estimate.A.terms[0].n_theta
    npar = model.nparams - df
    row = _ratio(value - model.criterion, npar, float(df))
    return [
        {"term": left[0][0], "eliminated": 0}
        | row
        | {"logLik": -0.5 * value, "AIC": value + 2.0 * npar}
    ]


def _random_row(whole: FittedModel, smaller: FittedModel) -> dict[str, float]:
    """The likelihood-ratio test of what is left out."""
    df = float(whole.nparams - smaller.nparams)
    row = _ratio(smaller.criterion - whole.criterion, smaller.nparams, df)
    return row | {"logLik": smaller.llf, "AIC": smaller.aic}


def _ratio(difference: float, npar: int, df: float) -> dict[str, float]:
    """A likelihood-ratio test."""
    statistic = nested_ratio(np.array([difference]))
    p = float(chi2_tail(statistic, np.array([df]))[0])
    return {"npar": npar, "LRT": float(statistic[0]), "Df": df, "p": p}


def reductions(model: FittedModel) -> Iterator[tuple[str, RandomTerm, MixedFormula]]:
    """Formulas with one random effect less: its name, the term, and the formula."""
    encoding, formula = model.encoding, model.formula
    for j in range(len(model.estimate.A.terms)):
        term, effects = random_term(encoding, j), encoding.slopes[j].terms
        drop = list(effects) if not term.correlated else droppable(effects)
        if len(effects) == 1 or not drop or term.structure:
            others = tuple(t for t in formula.random if t != term)
            yield term.label, term, replace(formula, random=others)
            continue
        for effect in drop:
            rest = [one for one in effects if one is not effect]
            smaller = of_effects(term, rest)
            random = tuple(smaller if t == term else t for t in formula.random)
            yield f"{effect.label} in {term.label}", term, replace(formula, random=random)


# ------------------------------------------------------------------ fixed terms


def _fixed_steps(
    model: FittedModel, alpha: float, ddf: str, keep: Sequence[str]
) -> tuple[pd.DataFrame, FittedModel]:
    """Leave out the fixed term with the largest p, of those that nothing contains."""
    rows: list[dict[str, object]] = []
    count = 0
    while True:
        tests = dict(_fixed_tests(model, ddf))
        open_ = {label: row for label, row in tests.items() if label not in keep}
        worst = max(open_, key=lambda label: open_[label]["p"], default=None)
        if worst is None or not open_[worst]["p"] > alpha:
            rows += [{"term": label, "eliminated": 0} | row for label, row in tests.items()]
            break
        count += 1
        rows.append({"term": worst, "eliminated": count} | open_[worst])
        model = _fit(model, without(model, worst))
    columns = ["term", *FIXED]
    return pd.DataFrame(rows, columns=columns).set_index("term"), model


def _fixed_tests(model: FittedModel, ddf: str) -> Iterator[tuple[str, dict[str, float]]]:
    """F tests of the terms that no other term contains.

    Sums of squares that are not in the range of double precision are NaN.
    """
    units, model = model.estimate.units, tame(model)
    assert model.design is not None
    power = 0 if units is None else 2 * units.sigma
    names = model.estimate.A.names
    compared = reference(model.estimate, ddf)
    effects = effects_of(part_of_rows(model.design), names)
    inner = {e.label for e in effects if any(set(e.factors) < set(o.factors) for o in effects)}
    for label, L in term_hypotheses(model.design, names, 2).items():
        if label in inner:
            continue
        test = compared.f_test(L)
        mean = test.statistic / test.scaling * model.scale
        q = test.numerator_df
        squares = in_units_or_nan([mean * q, mean], power).tolist()
        yield (
            label,
            {
                "sum_sq": squares[0],
                "mean_sq": squares[1],
                "num_df": q,
                "den_df": test.denominator_df,
                "F": test.statistic,
                "p": test.p_value,
            },
        )


def without(model: FittedModel, label: str) -> MixedFormula:
    """The formula without a fixed term."""
    terms = model.encoding.fixed.terms
    intercept = "1" if any(not t.factors for t in terms) else "0"
    rest = [t.label for t in terms if t.factors and t.label != label]
    return replace(model.formula, fixed=" + ".join([intercept, *rest]))
