"""Tidy tables in the columns of the R package broom.mixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interlace.choices import Ddf
from interlace.design import foreign, frame
from interlace.design.newdata import replay
from interlace.design.reads import columns_of
from interlace.design.recipe import require_rows
from interlace.diagnostics.general import prior_weights, residuals
from interlace.diagnostics.leverage import hat_cooks, hat_values
from interlace.errors import InterlaceError
from interlace.estimation.certificate import Convergence
from interlace.estimation.estimate import Estimate
from interlace.estimation.parameters import broom_names
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.leverage import Leverage
from interlace.inference.components import component_table
from interlace.inference.general_errors import general_errors
from interlace.inference.information import variance_errors
from interlace.inference.tested import Coefficients
from interlace.model.confidence import check_level, normal_reach
from interlace.model.drawn import law_at
from interlace.model.fitted import FittedModel
from interlace.model.generalised import DISPERSED, FittedGeneralModel
from interlace.model.predict import center_of, fitted, predict
from interlace.model.respond import predict_general
from interlace.model.scaled import FittedScaledModel
from interlace.model.structured import FittedStructuredModel
from interlace.sums.sizes import Powers, in_units
from interlace.sums.terms import Floats, ReTerm

EFFECTS = ("fixed", "ran_pars", "ran_vals")
_COLUMNS = (
    "effect",
    "component",
    "group",
    "level",
    "term",
    "estimate",
    "std.error",
    "statistic",
    "df",
    "p.value",
    "conf.low",
    "conf.high",
)
Row = dict[str, object]
_ERROR = "a standard error"


def tidy(
    result: Coefficients[Any],
    effects: str | Iterable[str] = "fixed",
    *,
    ddf: Ddf | None = None,
    conf_int: bool = False,
    conf_level: float = 0.95,
    exponentiate: bool = False,
) -> pd.DataFrame:
    """Estimates of a model, one a row, in broom.mixed's columns.

    Parameters
    ----------
    result
        A fitted model.
    effects
        ``"fixed"`` (coefficients), ``"ran_pars"`` (standard deviations and correlations of the
        random effects, and the residual standard deviation), ``"ran_vals"`` (conditional modes by
        level), several of them, or ``"all"``.
    ddf
        Tests and standard errors of the coefficients, as in ``coef_table``.
    conf_int
        Add ``conf.low`` and ``conf.high``: of the coefficients by ``ddf``, of the conditional modes
        by the normal distribution.
    conf_level
        Level of the intervals.
    exponentiate
        Exponentials of coefficients and their limits: odds ratios with a logit link, rate ratios
        with a log link.  Their standard errors are by the delta method; tests do not change.

    Returns
    -------
    DataFrame
        Columns among ``effect, group, level, term, estimate, std.error, statistic, df, p.value,
        conf.low, conf.high``, those that apply to the effects asked for.  Terms of ``"ran_pars"``
        are ``sd__Intercept``, ``cor__Intercept.Days`` and ``sd__Observation`` (of the group
        ``Residual``); their standard errors come from the covariance of ``theta`` by the delta
        method, and are NaN at a boundary.

    Raises
    ------
    InterlaceError
        An unknown kind of effects, or a level that is not strictly between 0 and 1.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> tidy(result, "ran_pars")[["group", "term", "estimate"]].round(4)
          group                 term  estimate
    0   Subject        sd__Intercept   24.7405
    1   Subject  cor__Intercept.Days    0.0656
    2   Subject             sd__Days    5.9221
    3  Residual      sd__Observation   25.5918
    """
    check_level(conf_level, "conf_level")
    wanted = wanted_effects(effects)
    parts = {
        "fixed": lambda: _fixed(result, ddf, conf_level, exponentiate),
        "ran_pars": lambda: _ran_pars(result),
        "ran_vals": lambda: level_rows(result, conf_level),
    }
    return joined([parts[kind]() for kind in wanted], conf_int=conf_int)


def _fixed(
    result: Coefficients[Any], ddf: Ddf | None, level: float, exponentiate: bool
) -> pd.DataFrame:
    """Coefficients of the mean, and of auxiliary predictors where there are such."""
    own = fixed_rows(result.coef_table(ddf, level), exponentiate)
    if not isinstance(result, FittedGeneralModel):
        return own
    beside = component_table(result.estimate, level).reset_index()
    if not len(beside):
        return own
    rest = fixed_rows(beside.set_index("term"), exponentiate)
    rest["component"] = beside["component"].to_numpy()
    return pd.concat([own.assign(component="mean"), rest], ignore_index=True)


def joined(frames: Sequence[pd.DataFrame], *, conf_int: bool) -> pd.DataFrame:
    """Tables of several kinds of effects as one, in broom.mixed's columns."""
    columns = [c for c in _COLUMNS if any(c in f for f in frames)]
    if not conf_int:
        columns = [c for c in columns if not c.startswith("conf.")]
    return pd.concat([f.reindex(columns=columns) for f in frames], ignore_index=True)


def wanted_effects(effects: str | Iterable[str]) -> list[str]:
    """Kinds of effects that are asked for, checked."""
    named = [effects] if isinstance(effects, str) else list(effects)
    wanted = list(EFFECTS) if named == ["all"] else list(dict.fromkeys(named))
    for name in wanted:
        if name not in EFFECTS:
            known = ", ".join(map(repr, EFFECTS))
            raise InterlaceError(f"effects must be among {known} or 'all', not {name!r}")
    if not wanted:
        raise InterlaceError("effects is empty: ask for 'fixed', 'ran_pars', 'ran_vals' or 'all'")
    return wanted


def fixed_rows(table: pd.DataFrame, exponentiate: bool = False) -> pd.DataFrame:
    """A table of coefficients in broom.mixed's columns."""
    names = {"se": "std.error", "p": "p.value", "lower": "conf.low", "upper": "conf.high"}
    if exponentiate:
        table = exponentiated(table)
    found = table.rename(columns=names).rename_axis("term").reset_index()
    return found.assign(effect="fixed")


def exponentiated(table: pd.DataFrame) -> pd.DataFrame:
    """A table of coefficients with their exponentials; errors by the delta method."""
    new = {name: np.exp(table[name]) for name in ("estimate", "lower", "upper")}
    return table.assign(**new, se=new["estimate"] * table["se"])


def _ran_pars(result: Coefficients[Any]) -> pd.DataFrame:
    """Standard deviations and correlations, lower triangles column by column, then sigma."""
    estimate, units = result.estimate, None
    if isinstance(estimate, Estimate):
        units, open_ = estimate.units, estimate.undetermined
        sigma, estimate = estimate.sigma, estimate.tame
        errors = variance_errors(estimate)
        entries, pairs = list(open_.entries), list(open_.correlations)
        power = 0 if units is None else units.sigma
        error = float(in_units(errors.sigma, power, _ERROR))
        last = [{"term": "sd__Observation", "estimate": sigma, "std.error": error}]
    else:
        errors = general_errors(estimate)
        entries = pairs = [np.zeros((t.k, t.k), dtype=bool) for t in estimate.A.terms]
        last = _family_parameters(estimate)
    rows: list[Row] = [
        {"group": term.group, **row}
        for j, term in _in_formula_order(result)
        for row in parameter_rows(
            term,
            np.where(entries[j], np.nan, estimate.covariances[j]),
            np.where(np.diag(entries[j]), np.nan, errors.sds[j]),
            np.where(pairs[j], np.nan, errors.correlations[j]),
            None if units is None else units.effects[j],
        )
    ]
    rows += [{"group": "Residual", **one} for one in last]
    return pd.DataFrame(rows).assign(effect="ran_pars")


def _family_parameters(estimate: GeneralEstimate) -> list[Row]:
    """Parameters of the family that are the same for all rows."""
    parts, gamma = estimate.problem.parts, estimate.family_coefficients
    errors = parts.steepness(gamma) * np.sqrt(np.diag(estimate.family_covariance))
    columns = zip(parts.names, parts.scale, parts.reported(gamma), errors, strict=True)
    return [{"term": n, "estimate": v, "std.error": se} for n, scale, v, se in columns if scale]


def parameter_rows(
    term: ReTerm,
    covariance: Floats,
    sd_errors: Floats,
    correlation_errors: Floats,
    units: Powers | None,
) -> Iterator[Row]:
    sd = np.sqrt(np.diag(covariance))
    shown, errors = sd, sd_errors
    if units is not None:
        shown = in_units(sd, units, "a standard deviation")
        errors = in_units(sd_errors, units, _ERROR)
    for name, b, a in zip(broom_names(term), *term.free_index, strict=True):
        if a == b:
            yield {"term": name, "estimate": shown[a], "std.error": errors[a]}
        else:
            scale = sd[a] * sd[b]
            yield {
                "term": name,
                "estimate": covariance[a, b] / scale if scale > 0 else np.nan,
                "std.error": correlation_errors[a, b],
            }


def level_rows(result: Coefficients[Any], level: float) -> pd.DataFrame:
    """Conditional modes, level by level within each column of each term."""
    estimate = result.estimate
    reach = normal_reach(level)
    parts = []
    for j, term in _in_formula_order(result):
        modes = estimate.b[j].T.ravel()
        se = estimate.b_se[j].T.ravel()
        columns: dict[str, object] = {
            "effect": "ran_vals",
            "group": term.group,
            "level": np.tile(np.asarray(term.levels, dtype=object), term.k),
            "term": np.repeat(np.asarray(term.columns, dtype=object), term.l),
            "estimate": modes,
            "std.error": se,
            "conf.low": modes - reach * se,
            "conf.high": modes + reach * se,
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _in_formula_order(result: Coefficients[Any]) -> list[tuple[int, ReTerm]]:
    """Positions and terms, grouping factors in the order of the formula."""
    keys = list(result.ngroups)
    terms = result.estimate.A.terms
    order = sorted(range(len(terms)), key=lambda j: keys.index(terms[j].group))
    return [(j, terms[j]) for j in order]


def glance(result: Coefficients[Any]) -> pd.DataFrame:
    """One row about a model, in broom.mixed's columns.

    Returns
    -------
    DataFrame
        ``nobs, sigma, logLik, AIC, BIC, REMLcrit, df.residual``; ``deviance`` in place of
        ``REMLcrit`` for ML.  ``df.residual`` is rows less parameters, those of the variances
        included.  Of a generalised model ``sigma`` is the root of a dispersion that multiplies the
        variance, 1 without one, and ``deviance`` the sum of squared deviance residuals,
        NaN where rows are not held; its family, link and auxiliary parameter follow.  After a fit
        by the iterative solver also ``solver, logLik.error`` (Monte-Carlo standard error; AIC and
        BIC have twice that) ``, n_probes, n_iterations``.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> glance(interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)).round(3)
       nobs   sigma   logLik       AIC       BIC  REMLcrit  df.residual
    0   180  25.592 -871.814  1755.628  1774.786  1743.628          174
    """
    row: Row = {
        "nobs": result.nobs,
        "sigma": np.sqrt(_scale(result.estimate)),
        "logLik": result.llf,
        "AIC": result.aic,
        "BIC": result.bic,
        "REMLcrit" if result.method == "REML" else "deviance": _deviance(result),
        "df.residual": result.nobs - result.nparams,
    }
    if isinstance(result, FittedGeneralModel):
        row |= {"family": result.family.name, "link": result.link.name}
        row |= {result.family.auxiliary: result.dispersion} if result.family.auxiliary else {}
    return pd.DataFrame([row | chance_columns(result.convergence)])


def chance_columns(found: Convergence) -> Row:
    """What the iterative solver left to chance; nothing after the exact one."""
    if found.criterion_error is None:
        return {}
    return {
        "solver": found.solver,
        "logLik.error": 0.5 * found.criterion_error,
        "n_probes": found.n_probes,
        "n_iterations": found.n_iterations,
    }


def _scale(estimate: Estimate | GeneralEstimate) -> float:
    """Residual variance, or the dispersion that takes its place."""
    if isinstance(estimate, Estimate):
        return estimate.sigma**2
    multiplies = estimate.family.name in DISPERSED and estimate.auxiliary is not None
    return estimate.auxiliary if multiplies and estimate.auxiliary else 1.0


def _deviance(result: Coefficients[Any]) -> float:
    """The criterion, or the deviance of a generalised model."""
    return deviance_of(result) if isinstance(result, FittedGeneralModel) else result.criterion


def deviance_of(model: FittedGeneralModel) -> float:
    """The sum of squared deviance residuals; NaN where a family or a fit without rows has none."""
    return float("nan") if model.design is None else float((_deviances(model) ** 2).sum())


# ------------------------------------------------------------------ rows


def augment(result: Coefficients[Any], newdata: object = None) -> object:
    """The rows of a model with its predictions and residuals, in broom.mixed's columns.

    Parameters
    ----------
    result
        A fitted model.
    newdata
        Rows to predict instead; they come back whole, with ``.fitted`` (all random effects) and
        ``.fixed`` (none) beside their columns.

    Returns
    -------
    frame
        Of the type of the data (pandas with its index; a dict comes back as pandas).  Of the data
        used in the fit, the columns that the model reads and the rows it used, and ``.fitted,
        .resid, .hat, .cooksd, .fixed, .mu, .offset, .sqrtXwt, .sqrtrwt, .weights, .wtres``.
        A result that no longer holds its data gives the response and the grouping factors.
        Of a generalised model ``.fitted, .mu, .fixed`` and ``.resid`` are means (proportions if
        binomial), and ``.eta, .pearson, .deviance`` stand for what has weights.

    Raises
    ------
    InterlaceError
        As ``predict`` for ``newdata``.

    Notes
    -----
    ``.cooksd = (r / (1 - h))^2 h / (sigma^2 p)`` with ``r`` the weighted residual ``.wtres`` and
    ``h`` the hat value, as lme4 defines it; it is not the change of the fixed effects when a row is
    deleted.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> augment(result)[["Reaction", "Days", ".fitted", ".resid"]].head(2).round(2)
       Reaction  Days  .fitted  .resid
    0    249.56   0.0   253.66   -4.10
    1    258.70   1.0   273.33  -14.63
    """
    if newdata is not None:
        return foreign.extended(newdata, None, None, _predicted(result, newdata))
    new = _statistics(result)
    if result.data is None:
        labels = require_rows(result.design, "augment").labels
        return pd.DataFrame({**_rows_held(result), **new}, index=labels)
    kept = require_rows(result.design, "augment").kept
    table, options = frame.open_table(result.data), result.options
    beside = [options.weights, options.offset, options.trials, options.exposure]
    if isinstance(result, FittedStructuredModel | FittedScaledModel) and result.residual:
        beside += result.residual.columns
    context = require_rows(result.design, "augment").encoding.context
    read = set(columns_of(result.formula, table, context, beside=beside))
    return foreign.extended(result.data, [n for n in table.names if n in read], kept, new)


def _predicted(result: Coefficients[Any], newdata: object) -> dict[str, Floats]:
    """Predictions of new rows with and without the random effects."""
    if isinstance(result, FittedGeneralModel):
        asked = ((".fitted", True), (".fixed", False))
        return {name: np.asarray(predict_general(result, newdata, re)) for name, re in asked}
    encoding, estimate = result.encoding, result.estimate
    rows = replay(encoding, newdata)
    fixed = rows.with_levels([False] * len(rows.codes))
    return {
        name: center_of(own, encoding.fixed.names, estimate)
        for name, own in ((".fitted", rows), (".fixed", fixed))
    }


def _statistics(result: Coefficients[Any]) -> dict[str, Floats]:
    """What a model says of its rows."""
    if isinstance(result, FittedGeneralModel):
        return _of_general(result)
    if isinstance(result, FittedStructuredModel | FittedScaledModel):
        return _of_structured(result)
    assert isinstance(result, FittedModel)
    return _of_linear(result)


def _of_structured(result: FittedStructuredModel | FittedScaledModel) -> dict[str, Floats]:
    design = require_rows(result.design, "augment")
    return {
        ".fitted": result.fittedvalues,
        ".resid": result.resid,
        ".fixed": fitted(design, result.estimate, [False] * len(design.terms)),
        ".pearson": result.pearson_resid,
        ".normalized": result.normalized_resid,
        ".weights": np.square(design.root_weights),
    }


def _deviances(result: FittedGeneralModel) -> Floats:
    """Deviance residuals; NaN for families without a saturated model."""
    if not law_at(result, result.estimate.eta).has_deviance:
        return np.full(result.nobs, np.nan)
    return residuals(result, "deviance")


def _of_general(result: FittedGeneralModel) -> dict[str, Floats]:
    estimate, pearson = result.estimate, residuals(result, "pearson")
    hat = Leverage(estimate.evaluation).overall
    sigma = float(np.sqrt(_scale(estimate)))
    return {
        ".fitted": result.fittedvalues,
        ".resid": result.resid,
        ".hat": hat,
        ".cooksd": hat_cooks(hat, pearson, sigma=sigma, p=estimate.A.p),
        ".fixed": np.asarray(predict_general(result, include_re=False)),
        ".mu": result.fittedvalues,
        ".eta": estimate.eta.copy(),
        ".offset": estimate.problem.offset.copy(),
        ".weights": prior_weights(result) * estimate.problem.trials,
        ".pearson": pearson,
        ".deviance": _deviances(result),
    }


def _of_linear(result: FittedModel) -> dict[str, Floats]:
    design, estimate = require_rows(result.design, "augment"), result.estimate
    one = np.ones(result.nobs)
    w = one if design.weights is None else design.weights
    weighted = np.sqrt(w) * result.resid
    hat = hat_values(design, estimate)
    return {
        ".fitted": result.fittedvalues,
        ".resid": result.resid,
        ".hat": hat,
        ".cooksd": hat_cooks(hat, weighted, sigma=estimate.sigma, p=estimate.A.p),
        ".fixed": np.asarray(predict(design, estimate, include_re=False)),
        ".mu": result.fittedvalues,
        ".offset": 0.0 * one if design.offset is None else design.offset,
        ".sqrtXwt": np.sqrt(w),
        ".sqrtrwt": np.sqrt(w),
        ".weights": w,
        ".wtres": weighted,
    }


def _rows_held(result: Coefficients[Any]) -> dict[str, object]:
    """The response and the levels of the grouping factors."""
    design = require_rows(result.design, "augment")
    groups = {
        term.group: np.asarray(term.levels, dtype=object)[codes]
        for term, codes in zip(design.terms, design.codes, strict=True)
    }
    return {result.formula.response: design.y, **groups}
