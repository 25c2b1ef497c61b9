"""Tests of the random effects of a generalised model: every term against the model with less of it.

Reduced models are fitted again.  One without any random effect has the likelihood of a generalised
linear model: the criterion with all templates at zero, minimised over what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from interlace.covariance.templates import Full
from interlace.design.design import Design
from interlace.design.encode import SideTerm
from interlace.design.formula import RandomTerm
from interlace.design.recipe import require_rows
from interlace.design.simpler import is_levels, random_term
from interlace.errors import InterlaceError
from interlace.estimation.optimize import minimize
from interlace.glmm.curvature import moving
from interlace.glmm.estimate import GeneralEstimate, estimate_general
from interlace.glmm.search import Search
from interlace.inference.ranova import ranova_table
from interlace.inference.slopes import constant_combination, droppable
from interlace.model.generalised import FittedGeneralModel, problem_on
from interlace.sums.terms import Floats, ReTerm

# Gain at which the search without random effects ends.
_GAIN = 1e-10


@dataclass(frozen=True, eq=False)
class Reduction:
    """A model with less of one random term; ``design`` is ``None`` without any random effect.

    ``variances`` is how many variances go, ``joint`` how many effects were correlated before.
    """

    label: str
    design: Design | None
    variances: int
    joint: int


def ranova_general(model: FittedGeneralModel) -> pd.DataFrame:
    """Likelihood-ratio tests of the random effects; see the method ``ranova``."""
    require_rows(model.design, "ranova")
    found = list(_reductions(model))
    fits = [_fitted(model, one) for one in found]
    value = np.array([model.criterion, *(value for value, _ in fits)])
    size = np.array([model.nparams, *(n for _, n in fits)])
    table = ranova_table(["<none>", *(one.label for one in found)], value, size)
    lrt = table["LRT"].to_list()[1:]
    mixed = [np.nan, *(_mixture(one, x) for one, x in zip(found, lrt, strict=True))]
    plain = table["p"]
    return table.assign(
        p=np.where(np.isnan(mixed), plain, mixed),
        p_chi2=plain,
        reference=["", *(_said(one) for one in found)],
    )


def _mixture(one: Reduction, statistic: float) -> float:
    """Probability under the half-half mixture of Stram and Lee; NaN where several variances go."""
    if one.variances != 1:
        return np.nan
    k = one.joint
    lower = float(statistic <= 0.0) if k == 1 else float(chdtrc(k - 1, max(statistic, 0.0)))
    return 0.5 * (lower + float(chdtrc(k, max(statistic, 0.0))))


def _said(one: Reduction) -> str:
    """What the statistic is compared with."""
    if one.variances != 1:
        return "chi-squared (conservative)"
    return f"half chi-squared({one.joint - 1}), half chi-squared({one.joint})"


# ------------------------------------------------------------------ fits


def _fitted(model: FittedGeneralModel, one: Reduction) -> tuple[float, int]:
    """Minus twice the log-likelihood of a reduced model, and its number of parameters."""
    estimate = model.estimate
    if one.design is None:
        return without_effects(estimate)
    new = replace(problem_on(model, one.design), probes=estimate.problem.probes)
    found = estimate_general(new, estimate.approximation)
    if not found.convergence.converged:
        raise InterlaceError(
            f"the model without {one.label} did not converge: {found.convergence.message}"
        )
    return found.value, found.A.p + len(found.theta) + found.n_family


def without_effects(estimate: GeneralEstimate) -> tuple[float, int]:
    """The same of the generalised linear model without random effects."""
    problem = estimate.problem.collapsed()
    t = problem.sizes[0]
    at = estimate.at
    start = problem.pack([0.0 * T for T in at.templates], at.beta, at.gamma)
    free = moving(problem, estimate.approximation) & (np.arange(len(start)) >= t)
    search = Search(problem, estimate.approximation, [0.0 * u for u in estimate.u], start, free)
    if not free.any():
        return search(start[free]).value, len(start) - t
    found = minimize(search, start[free], gain_tolerance=_GAIN)
    penalty = problem.penalty(problem.unpack(search.full(found.x)).beta)
    return found.point.value - penalty, len(start) - t


# ------------------------------------------------------------------ reductions


def _reductions(model: FittedGeneralModel) -> Iterator[Reduction]:
    """All models with one effect of one random term less, in the order of the formula."""
    encoding, terms = model.encoding, model.estimate.A.terms
    written = encoding.formula.random
    for j in sorted(range(len(terms)), key=lambda j: written.index(random_term(encoding, j))):
        if terms[j].template.indivisible:
            size = terms[j].template.size
            yield Reduction(random_term(encoding, j).label, _selected(model, j, []), size, size)
        elif terms[j].template.joint == terms[j].k:
            yield from _by_effect(model, j)
        else:
            yield from _by_column(model, j)


def _by_column(model: FittedGeneralModel, j: int) -> Iterator[Reduction]:
    """Columns of a ``||`` term, which are independent terms of their own."""
    columns = model.estimate.A.terms[j].columns
    spelled = random_term(model.encoding, j)
    for c, name in enumerate(columns):
        own = RandomTerm("1" if name == "Intercept" else f"0 + {name}", spelled.group).label
        label = own if name == "Intercept" else f"{name} in {own}"
        keep = [i for i in range(len(columns)) if i != c]
        yield Reduction(label, _selected(model, j, keep), 1, 1)


def _by_effect(model: FittedGeneralModel, j: int) -> Iterator[Reduction]:
    """Effects of a correlated term, or a term of one column."""
    spelled = replace(random_term(model.encoding, j), correlated=True)
    effects, k = model.encoding.slopes[j].terms, model.estimate.A.terms[j].k
    if not any(effect.factors for effect in effects):
        yield Reduction(spelled.label, _selected(model, j, []), k, k)
        return
    for effect in droppable(effects):
        rest = [other for other in effects if other is not effect]
        design = _without(model, j, rest)
        left = 0 if design is None else _columns_left(model, design, j)
        yield Reduction(f"{effect.label} in {spelled.label}", design, k - left, k)


def _columns_left(model: FittedGeneralModel, design: Design, j: int) -> int:
    """Columns that a reduced design has of term ``j``."""
    before = sum(t.k for t in model.estimate.A.terms)
    return model.estimate.A.terms[j].k - before + sum(t.k for t in design.terms)


def _without(model: FittedGeneralModel, j: int, rest: list[SideTerm]) -> Design | None:
    """Term ``j`` with the effects ``rest`` alone; a constant stays for dummies that make one."""
    side, design = model.encoding.slopes[j], require_rows(model.design, "ranova")
    keep = sorted(c for effect in rest for c in effect.columns)
    Z, term = design.Z[j], model.estimate.A.terms[j]
    if all(e.factors for e in rest) and (not rest or any(is_levels(side, e) for e in rest)):
        others = [t for i, t in enumerate(design.terms) if i != j and t.group == term.group]
        had = constant_combination(Z) is not None and constant_combination(Z[:, keep]) is None
        if had and not any("Intercept" in t.columns for t in others):
            columns = np.column_stack((np.ones(len(Z)), Z[:, keep]))
            names = ("Intercept", *(term.columns[c] for c in keep))
            new = replace(term, columns=names, template=Full(len(names)))
            return _with(design, j, new, columns)
    return _selected(model, j, keep)


def _selected(model: FittedGeneralModel, j: int, keep: list[int]) -> Design | None:
    """Term ``j`` with some of its columns, or without the term."""
    design, old = require_rows(model.design, "ranova"), model.estimate.A.terms[j]
    if keep:
        columns = tuple(old.columns[c] for c in keep)
        term = replace(old, columns=columns, template=old.template.part(keep))
        return _with(design, j, term, design.Z[j][:, keep])
    rest = [i for i in range(len(design.terms)) if i != j]
    if not rest:
        return None
    return replace(
        design,
        terms=tuple(design.terms[i] for i in rest),
        Z=tuple(design.Z[i] for i in rest),
        codes=tuple(design.codes[i] for i in rest),
    )


def _with(design: Design, j: int, term: ReTerm, Z: Floats) -> Design:
    """The design with another term in the place of one."""
    terms, blocks = list(design.terms), list(design.Z)
    terms[j], blocks[j] = term, Z
    return replace(design, terms=tuple(terms), Z=tuple(blocks))
