"""Predictions of generalised models: linear predictors, means, their errors, and new observations.

A mean is ``g^-1(eta)`` at a linear predictor ``eta``, or its average over the random effects.
Intervals of means are normal on the scale of the link and mapped; those of new observations are
quantiles of the predictive distribution, in which ``eta`` is normal too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from interlace.choices import Predicted
from interlace.design import frame
from interlace.design.design import column_of
from interlace.design.newdata import NewRows, replay
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError, choose
from interlace.glmm.averages import averaged, bounded, nodes
from interlace.glmm.expected import Expected, expected, of_categories, of_zeros
from interlace.glmm.laws import Law, quantile
from interlace.glmm.mixed_laws import law_at
from interlace.glmm.moves import forms, link_slopes, link_variances
from interlace.glmm.ordinal import Ordinal
from interlace.model.auxiliary import auxiliary_columns, is_plain
from interlace.model.confidence import check_level, normal_reach
from interlace.model.generalised import FittedGeneralModel
from interlace.model.predict import center_of, draws, included, rows_used
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats

TYPES: tuple[Predicted, ...] = get_args(Predicted)
INTERVALS = (None, "confidence", "prediction")
# How to ask for averages over the random effects.
AVERAGED = ("integrated", "marginal")
# Nodes of the predictive distribution: its linear predictor is only known to some digits.
_SPACING, _REACH = 0.25, 6.0
# Probabilities as near to 0 or 1 as their logits have digits.
_TINY = 1e-15
_SIDES = (("lower", -1.0), ("upper", 1.0))


def predict_general(
    model: FittedGeneralModel,
    newdata: object = None,
    include_re: bool | str | Iterable[str] = True,
    *,
    type: str = "response",
    offset: ArrayLike | None = None,
    exposure: ArrayLike | None = None,
    trials: ArrayLike | None = None,
    new_levels: str = "zero",
    se: bool = False,
    interval: str | None = None,
    level: float = 0.95,
) -> Floats | pd.DataFrame:
    """See the method ``predict`` of the result."""
    type = choose("type", type, TYPES)
    interval = choose("interval", interval, INTERVALS)
    new_levels = choose("new_levels", new_levels, ("zero", "raise"))
    check_level(level)
    if interval == "prediction" and type != "response":
        what = "linear predictor" if type == "link" else type.replace("-", " ")
        raise InterlaceError(
            f"a new observation has no {what}: ask for its interval with type='response'"
        )
    if newdata is None and not (offset is None and exposure is None and trials is None):
        raise InterlaceError("offset=, exposure= and trials= belong to new rows: pass newdata=")
    terms = model.estimate.A.terms
    average = include_re in AVERAGED if isinstance(include_re, str) else False
    average = average and include_re not in model.ngroups
    _refuse_odd(model, average=average, prediction=interval == "prediction")
    include = [False] * len(terms) if average else included(terms, include_re)
    every = average or interval == "prediction"
    rows = _rows(model, newdata, include, offset, exposure, every, new_levels == "raise")
    G = auxiliary_columns(model, newdata, len(rows.X))
    spot = Spot(model, rows, tuple(include), average, G)
    if type not in ("response", "link"):
        return _of_parts(spot, type, se=se, level=level if interval else None)
    if not se and interval is None:
        return spot.link if type == "link" else spot.mean
    if interval == "prediction":
        columns = _new_observation(spot, _trials(model, newdata, trials, len(rows.X)), level)
    else:
        columns = _expected(spot, type, level if interval else None)
    return pd.DataFrame(columns, index=rows.index)


@dataclass(frozen=True, eq=False)
class Spot:
    """Rows to predict, with what their linear predictors are made of.

    ``average`` asks for means over the random effects in place of those at ``include``; ``G``
    (K, m, r) are the columns of the auxiliary predictors.
    """

    model: FittedGeneralModel
    rows: NewRows
    include: tuple[bool, ...]
    average: bool
    G: Floats

    @cached_property
    def eta(self) -> Floats:
        """Linear predictors at the modes of the terms included."""
        names = self.model.encoding.fixed.names
        return center_of(self.rows, names, self.model.estimate)

    @cached_property
    def spread(self) -> Floats:
        """Standard deviation of ``z'b`` of all terms."""
        everything = self.rows.with_levels([False] * len(self.include))
        kept = NewRows(
            everything.X, everything.offset, everything.codes, self.rows.Z, None, self.rows.index
        )
        return np.sqrt(draws(kept, self.model.estimate, [True] * len(self.include)))

    @cached_property
    def mean(self) -> Floats:
        """Expected responses."""
        if self.average:
            return averaged(self.model.link, self.eta, self.spread).value
        return self.expected.value

    @cached_property
    def omega(self) -> Floats:
        """Auxiliary predictors, ``(K, m)``."""
        return self.G @ self.model.estimate.family_coefficients

    @cached_property
    def expected(self) -> Expected:
        """Expected responses at :attr:`eta`, and their derivatives."""
        return expected(self.model.family, self.eta, self.omega)

    @property
    def link(self) -> Floats:
        """Linear predictors, or the links of means over the random effects."""
        return self.model.link.to_eta(self.mean) if self.average else self.eta

    @property
    def X(self) -> Floats:
        """Columns that have a coefficient."""
        names = self.model.encoding.fixed.names
        return self.rows.X[:, columns_kept(names, self.model.estimate.A.names)]

    @cached_property
    def variance(self) -> Floats:
        """Variance of :attr:`link`; a new level of an included term is a draw."""
        estimate = self.model.estimate
        if not self.average:
            known = link_variances(estimate, self.X, self.rows.codes, self.rows.Z)
            return known + draws(self.rows, estimate, self.include)
        return forms(self._slopes, estimate.covariance) / self.steepness**2

    @property
    def steepness(self) -> Floats:
        """Derivative of the mean in :attr:`link`."""
        return np.abs(np.asarray(self.model.link.mean(self.link).d1) + 0.0 * self.eta)

    @cached_property
    def mean_variance(self) -> Floats:
        """Variance of :attr:`mean`, by the delta method."""
        if is_plain(self.model.family):
            return self.steepness**2 * self.variance
        return self.variance_of(self.expected)

    @cached_property
    def _linear(self) -> tuple[Floats, Floats]:
        """Variance of the linear predictor given all parameters, and its derivatives in these."""
        estimate = self.model.estimate
        given, J = link_slopes(estimate, self.X, self.rows.codes, self.rows.Z)
        return given + draws(self.rows, estimate, self.include), J

    def variance_of(self, one: Expected) -> Floats:
        """Variance of a function of the linear and the auxiliary predictors of every row."""
        estimate, (given, J) = self.model.estimate, self._linear
        J = one.d_eta[:, None] * J
        (t, p, _), parts = estimate.problem.sizes, estimate.problem.parts
        through = np.einsum("kn,knr->nr", one.d_omega, self.G)
        J[:, t : t + p] += through @ parts.shift @ estimate.problem.rows.fixed
        J[:, t + p :] += through @ parts.basis
        return one.d_eta**2 * given + forms(J, estimate.covariance)

    @property
    def _slopes(self) -> Floats:
        """Derivatives of means over the random effects in all packed parameters, ``(m, r)``."""
        estimate = self.model.estimate
        problem, at = estimate.problem, estimate.at
        found = averaged(self.model.link, self.eta, self.spread)
        t, p, r = problem.sizes
        J = np.zeros((len(self.eta), t + p + r))
        J[:, t : t + p] = found.d1[:, None] * (self.X @ problem.rows.fixed)
        Z = [z @ B for z, B in zip(self.rows.Z, problem.rows.random, strict=True)]
        for i, unit in enumerate(np.eye(t, t + p + r)):
            steps = problem.unpack(unit).templates
            for z, T, dT in zip(Z, at.templates, steps, strict=True):
                J[:, i] += found.d2 * np.einsum("nk,nk->n", z @ dT, z @ T)
        return J


def _refuse_odd(model: FittedGeneralModel, *, average: bool, prediction: bool) -> None:
    """Refuse what means that depend on more than a link do not have."""
    name = model.family.name
    if average and not is_plain(model.family):
        raise InterlaceError(
            f"include_re='integrated' is not there for family={name!r}: average over simulate()"
        )
    if prediction and isinstance(model.family, Ordinal):
        raise InterlaceError("a new category has no interval: ask for type='probability'")


# ------------------------------------------------------------------ rows


def _rows(
    model: FittedGeneralModel,
    newdata: object,
    include: Sequence[bool],
    offset: ArrayLike | None,
    exposure: ArrayLike | None,
    every: bool,
    refuse: bool,
) -> NewRows:
    """The rows of the fit, or new ones with the exposure in their offset."""
    if newdata is None:
        return rows_used(require_rows(model.design, "predict"), include)
    rows = replay(
        model.encoding,
        newdata,
        offset=offset,
        levels=include,
        slopes=[True] * len(include) if every else include,
        refuse=refuse,
    )
    if model.options.exposure is None and exposure is None:
        return rows
    shift = np.log(_beside(model, newdata, "exposure", exposure))
    total = shift if rows.offset is None else rows.offset + shift
    return NewRows(rows.X, total, rows.codes, rows.Z, rows.weights, rows.index)


def _trials(model: FittedGeneralModel, newdata: object, trials: ArrayLike | None, m: int) -> Floats:
    """Trials of every row; ones unless binomial."""
    if model.options.trials is None and trials is None:
        return np.ones(m)
    if newdata is None:
        return model.estimate.problem.trials
    found = _beside(model, newdata, "trials", trials)
    if (found % 1.0 != 0.0).any():
        row = int(np.argmax(found % 1.0 != 0.0))
        raise InterlaceError(f"trials must be whole numbers, but row {row} has {found[row]:g}")
    return found


def _beside(
    model: FittedGeneralModel, newdata: object, name: str, given: ArrayLike | None
) -> Floats:
    """Exposure or trials of new rows: those given, or the column named in the fit."""
    table = frame.open_table(newdata, title="the new data")
    used = getattr(model.options, name)
    if given is not None and used is None:
        raise InterlaceError(f"the model was fitted without {name}=: leave {name} out")
    if given is not None:
        column = column_of(name, given, table)
    elif isinstance(used, str):
        column = frame.pick(table, [used])[used]
    else:
        raise InterlaceError(
            f"the model was fitted with an array as {name}, which new data does not carry: pass "
            f"{name}= with one value a row, or fit with a column of the data as {name}"
        )
    found = frame.numeric(column, f"{name}=")
    bad = found <= 0.0
    if bad.any():
        row = int(np.argmax(bad))
        raise InterlaceError(f"{name} must be positive, but row {row} has {found[row]:g}")
    return found


# ------------------------------------------------------------------ numbers


def _expected(spot: Spot, type: str, level: float | None) -> dict[str, Floats]:
    """Expected responses or linear predictors, their standard errors, and limits."""
    link, se = spot.link, np.sqrt(spot.variance)
    columns = {"prediction": link, "se": se}
    if type == "response":
        columns = {"prediction": spot.mean, "se": np.sqrt(spot.mean_variance)}
    if level is None:
        return columns
    if type == "response" and not is_plain(spot.model.family):
        return columns | _mean_limits(spot, columns["se"], level)
    half = normal_reach(level) * se
    limits = [link - half, link + half]
    if type == "response":
        limits = [mean_inside(spot.model, limit) for limit in limits]
    low, high = np.minimum(*limits), np.maximum(*limits)
    return columns | {"lower": low, "upper": high}


def _mean_limits(spot: Spot, se: Floats, level: float) -> dict[str, Floats]:
    """Limits of positive means, normal on their logarithm; of numbers of categories as they are."""
    half, mean = normal_reach(level) * se, spot.mean
    if isinstance(spot.model.family, Ordinal):
        return {"lower": mean - half, "upper": mean + half}
    ratio = np.exp(half / mean)
    return {"lower": mean / ratio, "upper": mean * ratio}


def _of_parts(spot: Spot, type: str, *, se: bool, level: float | None) -> Floats | pd.DataFrame:
    """Probabilities of categories, the likeliest of them, or of zeros from the part for these.

    With errors a table by row, and by category.

    Raises
    ------
    InterlaceError
        The family has no such part, or means over the random effects are asked for.
    """
    family = spot.model.family
    if spot.average:
        raise InterlaceError(f"type={type!r} is given random effects: leave 'integrated' out")
    if type == "zero-probability":
        if "zero-inflation" not in family.predictors:
            raise InterlaceError("type='zero-probability' needs a model with zero_inflation=")
        found = of_zeros(spot.eta, spot.omega)
        if not se and level is None:
            return found.value
        return pd.DataFrame(_probable(spot, found, level), index=spot.rows.index)
    if not isinstance(family, Ordinal):
        raise InterlaceError(f"type={type!r} needs family='ordinal', not {family.name!r}")
    if type == "category" and (se or level is not None):
        raise InterlaceError(
            "the likeliest category has no standard error: ask for type='probability'"
        )
    if type == "category" or not (se or level is not None):
        P = family.probabilities(spot.eta, spot.omega)
        if type == "category":
            return np.asarray(np.array(family.labels)[P.argmax(axis=1)])
        return pd.DataFrame(P, index=spot.rows.index, columns=list(family.labels))
    parts = [
        pd.DataFrame(_probable(spot, one, level), index=spot.rows.index)
        for one in of_categories(family, spot.eta, spot.omega)
    ]
    name = spot.rows.index.name or "row"
    whole = pd.concat(parts, keys=list(family.labels), names=["category", name])
    order = np.arange(len(whole)).reshape(len(parts), -1).T.ravel()
    return whole.swaplevel().iloc[order]


def _probable(spot: Spot, one: Expected, level: float | None) -> dict[str, Floats]:
    """Probabilities with their errors, and limits that are symmetric on the scale of the logit."""
    p, se = one.value, np.sqrt(spot.variance_of(one))
    columns = {"prediction": p, "se": se}
    if level is None:
        return columns
    inside = np.clip(p, _TINY, 1.0 - _TINY)
    half = normal_reach(level) * se / (inside * (1.0 - inside))
    return columns | {name: expit(logit(inside) + s * half) for name, s in _SIDES}


def mean_inside(model: FittedGeneralModel, eta: Floats) -> Floats:
    """Means of linear predictors, those outside the link's range moved to its edge."""
    with np.errstate(over="ignore", divide="ignore"):
        return np.asarray(model.link.mean(bounded(model.link, eta)).value)


def _new_observation(spot: Spot, trials: Floats, level: float) -> dict[str, Floats]:
    """Expected responses, the predictive standard deviation, and predictive quantiles."""
    model, eta = spot.model, spot.eta
    known = np.isfinite(eta + trials)
    spread = Spot(model, spot.rows, spot.include, False, spot.G).variance
    left_out = [not one for one in spot.include]
    sd = np.sqrt(spread + draws(spot.rows, model.estimate, left_out))
    known &= np.isfinite(sd)
    mixture = predictive(model, eta[known], sd[known], trials[known], spot.omega[:, known])
    tail = 0.5 * (1.0 - level)
    columns = {
        "se": mixture.sd,
        "lower": mixture.quantile(tail),
        "upper": mixture.quantile(1.0 - tail),
    }
    if model.family.name == "binomial":
        columns = {name: values / trials[known] for name, values in columns.items()}
    found = {"prediction": np.where(known, spot.mean, np.nan)}
    for name, values in columns.items():
        found[name] = np.full(len(eta), np.nan)
        found[name][known] = values
    return found


@dataclass(frozen=True, eq=False)
class Predictive:
    """The law of new observations whose linear predictors are normal: a mixture over nodes."""

    laws: tuple[Law, ...]
    weights: tuple[float, ...]

    @property
    def sd(self) -> Floats:
        """Standard deviation, of counts if binomial."""
        means = [law.mean * law.trials for law in self.laws]
        center = sum(w * m for w, m in zip(self.weights, means, strict=True))
        parts = zip(self.weights, self.laws, means, strict=True)
        total = sum(w * (law.variance + (m - center) ** 2) for w, law, m in parts)
        return np.asarray(np.sqrt(total))

    def cdf(self, y: Floats) -> Floats:
        """``P(Y <= y)``."""
        parts = zip(self.weights, self.laws, strict=True)
        return np.asarray(sum(w * law.cdf(y) for w, law in parts))

    def quantile(self, p: float) -> Floats:
        """The smallest values that are reached with probability ``p``."""
        middle = self.laws[len(self.laws) // 2]
        return quantile(self.cdf, p, middle.support, middle)


def predictive(
    model: FittedGeneralModel, eta: Floats, sd: Floats, trials: Floats, omega: Floats
) -> Predictive:
    """New observations with linear predictors ``eta + sd Z``."""
    pairs = list(nodes(_SPACING, _REACH))
    laws = [
        law_at(model.family, bounded(model.link, eta + sd * z), omega, trials) for z, _ in pairs
    ]
    return Predictive(tuple(laws), tuple(w for _, w in pairs))
