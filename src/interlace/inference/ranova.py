"""Tests of the random effects: every term against the model with less of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from interlace.design.design import Encoding
from interlace.design.encode import Side, SideTerm
from interlace.design.formula import RandomTerm
from interlace.design.simpler import is_levels, random_term
from interlace.estimation.estimate import SINGULAR_TOLERANCE, Estimate, difference_error
from interlace.estimation.likelihood import criterion_value, n_parameters
from interlace.inference.by_likelihood import fit_sums
from interlace.inference.compare import chi2_tail, nested_ratio
from interlace.inference.slopes import (
    constant_by_sums,
    constant_combination,
    droppable,
)
from interlace.model.fitted import FittedModel
from interlace.sums.crossprod import CrossProducts, drop_term, map_columns, select_columns
from interlace.sums.terms import Floats, join_theta


@dataclass(frozen=True, eq=False)
class Reduction:
    """A model with less of one random term: its cross-products, and where to start the search."""

    label: str
    A: CrossProducts
    theta0: Floats | None


def ranova(result: FittedModel) -> pd.DataFrame:
    """Likelihood-ratio tests of the random effects, one reduction at a time.

    The criterion of the fit is used, REML or ML.  From a correlated term with several effects each
    is dropped with its correlations (dummies of a factor together; an effect inside an interaction
    stays); a term with one column is dropped; the columns of a ``||`` term are dropped one by one.
    From a term without an intercept, ``(0 + f | g)`` with a factor, the differences between levels
    are dropped, which leaves ``(1 | g)``.

    Parameters
    ----------
    result
        A fitted model.

    Returns
    -------
    DataFrame
        Rows ``<none>`` (the model itself) and, for instance, ``Days in (1 + Days | Subject)``;
        columns ``npar, logLik, AIC, LRT, Df, p``; after a fit by the iterative solver also
        ``LRT_error``, the Monte-Carlo standard error of ``LRT``, which should be small beside it.

    Notes
    -----
    ``LRT`` is compared with a chi-squared distribution of ``Df`` degrees of freedom, without
    the mixture that a variance at its bound asks for, so p-values are too large (Stram and Lee
    1994, Biometrics 50, 1171-1177).  The layout is that of Kuznetsova, Brockhoff and Christensen
    (2017, Journal of Statistical Software 82(13)).  A single column without an intercept,
    ``(0 + x | g)``, is dropped with its term, where lmerTest compares with ``(1 | g)``, a model
    that is not nested in it.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> ranova(result)["LRT"].round(3).to_dict()
    {'<none>': nan, 'Days in (1 + Days | Subject)': 42.837}
    """
    estimate = result.estimate
    rows = None if result.design is None else result.design.Z
    found = list(reductions(result.encoding, estimate, rows))
    values, errors = [estimate.value], [np.nan]
    for one in found:
        value, error = _minimum(one, estimate, result.options.mc_tolerance)
        values.append(value)
        errors.append(error)
    sizes = [n_parameters(estimate.A), *(n_parameters(one.A) for one in found)]
    table = ranova_table(
        ["<none>", *(one.label for one in found)], np.array(values), np.array(sizes)
    )
    exact = estimate.convergence.solver == "exact"
    return table if exact else table.assign(LRT_error=errors)


def ranova_table(labels: list[str], deviance: Floats, size: Floats) -> pd.DataFrame:
    """Every model against the first, by minus twice log-likelihoods and numbers of parameters."""
    lrt = nested_ratio(deviance - deviance[0])
    df = (size[0] - size).astype(np.float64)
    lrt[0] = df[0] = np.nan
    return pd.DataFrame(
        {
            "npar": size,
            "logLik": -0.5 * deviance,
            "AIC": deviance + 2.0 * size,
            "LRT": lrt,
            "Df": df,
            "p": chi2_tail(lrt, df),
        },
        index=labels,
    )


def reductions(
    encoding: Encoding, estimate: Estimate, Z: Sequence[Floats] | None
) -> Iterator[Reduction]:
    """All models with one effect of one random term less, in the order of the formula.

    ``Z`` are the columns of the terms, ``(n, k)`` each, if the rows are held.
    """
    written = encoding.formula.random
    terms = estimate.A.terms
    for j in sorted(range(len(terms)), key=lambda j: written.index(random_term(encoding, j))):
        term = terms[j]
        if term.template.indivisible:
            yield _dropped(estimate, j, random_term(encoding, j).label)
        elif term.template.joint == term.k:
            yield from _by_effect(encoding, estimate, j, None if Z is None else Z[j])
        else:
            yield from _by_column(encoding, estimate, j)


def _by_column(encoding: Encoding, estimate: Estimate, j: int) -> Iterator[Reduction]:
    """Columns of a ``||`` term, which are independent terms of their own."""
    columns = estimate.A.terms[j].columns
    spelled = random_term(encoding, j)
    for c, name in enumerate(columns):
        own = RandomTerm("1" if name == "Intercept" else f"0 + {name}", spelled.group).label
        label = own if name == "Intercept" else f"{name} in {own}"
        yield _selected(estimate, j, [i for i in range(len(columns)) if i != c], label)


def _by_effect(
    encoding: Encoding, estimate: Estimate, j: int, Z: Floats | None
) -> Iterator[Reduction]:
    """Effects of a correlated term, or a term of one column."""
    spelled = replace(random_term(encoding, j), correlated=True)
    side = encoding.slopes[j]
    effects = side.terms
    if not any(effect.factors for effect in effects):
        yield _dropped(estimate, j, spelled.label)
        return
    for effect in droppable(effects):
        rest = [other for other in effects if other is not effect]
        yield _without(side, estimate, j, rest, Z, f"{effect.label} in {spelled.label}")


def _without(
    side: Side,
    estimate: Estimate,
    j: int,
    rest: list[SideTerm],
    Z: Floats | None,
    label: str,
) -> Reduction:
    """Term ``j`` with the effects ``rest`` alone.

    Without an intercept the dummies of a first factor sum to one.  When they go, the constant
    stays if nothing else is left or if another factor's dummies are, as the model formula of
    the rest would have it.
    """
    keep = sorted(c for effect in rest for c in effect.columns)
    constant = None
    without_intercept = all(e.factors for e in rest)
    if without_intercept and (not rest or any(is_levels(side, e) for e in rest)):
        parts = (list(range(estimate.A.terms[j].k)), keep)
        if Z is None:
            whole, part = (constant_by_sums(estimate.A, j, columns) for columns in parts)
        else:
            whole, part = (constant_combination(Z[:, columns]) for columns in parts)
        constant = whole if part is None else None
    if constant is None:
        return _selected(estimate, j, keep, label)
    return _with_constant(estimate, j, keep, constant, label)


def _with_constant(
    estimate: Estimate, j: int, keep: list[int], constant: Floats, label: str
) -> Reduction:
    """Term ``j`` with a constant and the columns at ``keep``."""
    A = estimate.A
    group = A.terms[j].group
    if any("Intercept" in t.columns for i, t in enumerate(A.terms) if i != j and t.group == group):
        return _selected(estimate, j, keep, label)
    M = np.column_stack((constant, np.eye(A.terms[j].k)[:, keep]))
    names = ["Intercept", *(A.terms[j].columns[c] for c in keep)]
    return Reduction(label, map_columns(A, j, M, names), None)


def _selected(estimate: Estimate, j: int, keep: list[int], label: str) -> Reduction:
    """Term ``j`` with some of its columns."""
    if not keep:
        return _dropped(estimate, j, label)
    A = select_columns(estimate.A, j, keep)
    templates = list(estimate.user_templates)
    templates[j] = np.linalg.qr(templates[j][keep].T)[1].T
    return Reduction(label, A, _start(A, templates))


def _dropped(estimate: Estimate, j: int, label: str) -> Reduction:
    """The model without term ``j``."""
    A = drop_term(estimate.A, j)
    templates = [T for i, T in enumerate(estimate.user_templates) if i != j]
    return Reduction(label, A, _start(A, templates))


def _start(A: CrossProducts, templates: list[Floats]) -> Floats | None:
    """Start at the templates, unless a variance is zero, where any criterion is stationary."""
    sizes = A.basis.root_mean_squares
    pairs = zip(templates, sizes, strict=True)
    if not A.terms or any((abs(np.diag(T)) * s < SINGULAR_TOLERANCE).any() for T, s in pairs):
        return None
    return join_theta(A.terms, templates)


def _minimum(one: Reduction, whole: Estimate, mc_tolerance: float) -> tuple[float, float]:
    """Minimum of the criterion of a smaller model, and the chance in its difference."""
    if not one.A.terms:
        value = linear_value(one.A, reml=whole.criterion.reml)
        return value, whole.convergence.criterion_error or 0.0
    smaller = fit_sums(
        whole.criterion.on(one.A),
        theta0=one.theta0,
        mc_tolerance=mc_tolerance,
        what=f"the model without {one.label}",
    )
    return smaller.value, difference_error(whole, smaller)


def linear_value(A: CrossProducts, *, reml: bool) -> float:
    """The criterion without random effects: minus twice the (restricted) log-likelihood.

    With ``RSS`` the residual sum of squares of weighted least squares and ``nu = n - p`` (``n`` for
    ML) it is ``nu (1 + log(2 pi RSS / nu)) - sum(log w)``, plus ``log det(X' W X)`` for REML.
    """
    X, y = A.vv[:-1, :-1], A.vv[:-1, -1]
    rss = float(A.vv[-1, -1] - y @ np.linalg.solve(X, y)) if A.p else float(A.vv[-1, -1])
    logdet_x = float(np.linalg.slogdet(X)[1]) if reml else 0.0
    return criterion_value(A, rss, reml=reml, logdet_x=logdet_x)
