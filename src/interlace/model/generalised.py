"""A fitted generalised model: options and data to it, and its labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace.design.design import Design, Encoding
from interlace.design.formula import MixedFormula, parse
from interlace.design.kept import kept_frame
from interlace.design.recipe import recipe_of, require_rows
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SeparationWarning,
    SingularFitWarning,
    UndeterminedWarning,
    warn,
)
from interlace.glmm.curvature import Approximation
from interlace.glmm.estimate import GeneralEstimate, estimate_general
from interlace.glmm.expected import Expected, expected
from interlace.glmm.families import Family
from interlace.glmm.laplace import Laplace, zeros
from interlace.glmm.links import Link, unbounded
from interlace.glmm.names import family_of, with_zeros
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.parts import parts_of
from interlace.glmm.probing import Solving
from interlace.glmm.problem import Problem, prior_precision, problem_of, unit_of
from interlace.glmm.quadrature import MOST_NODES, Quadrature, refuse_quadrature
from interlace.glmm.restricted import RestrictedLaplace
from interlace.glmm.separation import (
    Separated,
    pure_groups,
)
from interlace.glmm.streamed import Passes, StreamedProblem
from interlace.glmm.working import working_rows
from interlace.machine.progress import watcher
from interlace.model.arguments import check_general, refuse_structures
from interlace.model.fitted import Labelled, Options, as_kept, read_only
from interlace.model.outcomes import Outcome, read_outcome, with_response
from interlace.model.responses import new_response
from interlace.model.sourced import held_rows
from interlace.model.undetermined import in_words
from interlace.model.updating import updated_options
from interlace.sums.cells import Codes
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats

# Families whose dispersion multiplies the variance function.
# Standard deviation of linear predictors of probabilities from which on it runs off.
_FAR = 20.0
DISPERSED = ("gaussian", "gamma", "inverse-gaussian")


@dataclass(frozen=True, eq=False)
class FittedGeneralModel(Labelled[GeneralEstimate]):
    """Estimates of a generalised linear mixed model under their public names."""

    @property
    def family(self) -> Family:
        """The family, with its link."""
        return self.estimate.family

    @property
    def link(self) -> Link:
        """The link."""
        return self.estimate.family.link

    @property
    def dispersion(self) -> float:
        """The family's parameter beside the mean; 1 where it has none, NaN where it varies.

        Gamma, inverse Gaussian and Gaussian: ``phi`` of the variance ``phi mu^2``, ``phi mu^3``,
        ``phi``.  Negative binomial: the size ``k``, or ``phi`` for ``kind=1``.  Beta: precision.
        """
        found = self.estimate.auxiliary
        if found is None:
            return np.nan if self.family.auxiliary else 1.0
        return found

    @property
    def thresholds(self) -> pd.Series:
        """Thresholds between ordered categories, ``P(Y <= j) = F(threshold_j - eta)``.

        Raises
        ------
        InterlaceError
            The response has no ordered categories.
        """
        if not isinstance(self.family, Ordinal):
            raise InterlaceError(
                f"family={self.family.name!r} has no thresholds: family='ordinal' has"
            )
        names = [name.removeprefix("threshold:") for name in self.estimate.problem.parts.names]
        return pd.Series(self.estimate.family_coefficients, index=names, name="estimate")

    @property
    def zero_inflation(self) -> pd.Series:
        """Coefficients of the logit of the share of zeros, in excess or (hurdle) of all.

        Raises
        ------
        InterlaceError
            The model was fitted without ``zero_inflation=``.
        """
        parts = self.estimate.problem.parts
        own = [i for i, name in enumerate(parts.predictor) if name == "zero-inflation"]
        if not own:
            raise InterlaceError("the model was fitted without zero_inflation='~ 1'")
        names = [parts.term[i] for i in own]
        return pd.Series(self.estimate.family_coefficients[own], index=names, name="estimate")

    @property
    def scale(self) -> float:
        """Dispersion of a Gaussian, Gamma or inverse Gaussian response.

        Raises
        ------
        InterlaceError
            The family has none.
        """
        if self.family.name not in DISPERSED:
            raise InterlaceError(
                f"family={self.family.name!r} has no scale: its variance follows from the mean"
                f"{' and dispersion' if self.family.auxiliary else ''}"
            )
        return self.dispersion

    @cached_property
    def fittedvalues(self) -> NDArray[np.float64]:
        """Conditional means of the rows used, ``(nobs,)``; proportions if binomial.

        With zero inflation means of all responses; of ordered categories those of their numbers.
        """
        return read_only(np.array(self.expected.value))

    @property
    def expected(self) -> Expected:
        """Expected responses of the rows used, with their derivatives."""
        return expected(self.family, self.estimate.eta, self.estimate.omega)

    @cached_property
    def resid(self) -> NDArray[np.float64]:
        """Response, a proportion if binomial, less :attr:`fittedvalues`, ``(nobs,)``."""
        return read_only(require_rows(self.design, "resid").y - self.fittedvalues)

    def _open(self) -> Sequence[NDArray[np.bool_]]:
        return self.estimate.undetermined.entries

    @property
    def n_dropped(self) -> int:
        """Rows left out for missing values."""
        return recipe_of(self.design, self.estimate.A).n_dropped

    @property
    def encoding(self) -> Encoding:
        """How rows are encoded."""
        return recipe_of(self.design, self.estimate.A).encoding

    @property
    def separated(self) -> tuple[Separated, ...]:
        """Coefficients without a finite estimate."""
        return self.estimate.separated


def fit_general(options: Options, data: object) -> FittedGeneralModel:
    """Fit a generalised model; see :func:`interlace.fit`."""
    options, data = as_kept(options), kept_frame(data)
    family = family_of(options.family, options.link)
    if options.zero_inflation is not None:
        family = with_zeros(family)
    check_general(options)
    spec = parse(options.formula, groups=options.groups, random=options.random)
    held = held_rows(spec, data, options, family)
    if isinstance(held, StreamedProblem):
        refuse_structures(spec)
        return _fitted_unheld(spec, held, options, data)
    outcome = read_outcome(spec, held, options, family)
    problem = problem_at(outcome, options)
    approximation = approximation_of(options, problem)
    estimate = _estimated(problem, approximation, options)
    model = FittedGeneralModel(spec, outcome.design, estimate, options, held)
    _warn(model)
    return model


def _fitted_unheld(
    spec: MixedFormula, problem: StreamedProblem, options: Options, data: object
) -> FittedGeneralModel:
    """The fit to rows in a scratch file, which is let go of."""
    try:
        estimate = _estimated(problem, Passes(), options)
        model = FittedGeneralModel(spec, None, estimate, options, data)
        _warn(model)
    finally:
        problem.stored.close()
    return model


def _estimated(problem: Problem, approximation: Approximation, options: Options) -> GeneralEstimate:
    """The optimum; warns of columns that were dropped."""
    refuse_pure(problem)
    if problem.rows.dropped:
        warn(
            f"the fixed effects are rank deficient; dropped: {', '.join(problem.rows.dropped)}",
            RankDeficiencyWarning,
        )
    with watcher(options.progress) as watch:
        return estimate_general(problem, approximation, watch=watch, solving=solving_of(options))


def updated(
    model: FittedGeneralModel, formula: str | None, data: object, changes: Mapping[str, object]
) -> FittedGeneralModel:
    """Fit again with some options changed; see the method ``update``."""
    return fit_general(*updated_options(model, formula, data, changes))


def refitted(model: FittedGeneralModel, y: ArrayLike) -> FittedGeneralModel:
    """Fit the model to another response for the same rows; see the method ``refit``."""
    held = require_rows(model.design, "refit")
    outcome, estimate = re_estimated(model, new_response(y, held))
    found = FittedGeneralModel(model.formula, outcome, estimate, model.options, None)
    _warn(found)
    return found


def re_estimated(model: FittedGeneralModel, y: Floats) -> tuple[Design, GeneralEstimate]:
    """Rows with another response ``y`` (n,), and the estimate for it, sought from the fit's."""
    outcome = usable_response(model, y)
    new = model.estimate.problem.responding(outcome.y)
    return outcome.design, estimate_general(new, model.estimate.approximation, near=model.estimate)


def usable_response(model: FittedGeneralModel, y: Floats) -> Outcome:
    """The rows of the fit with another response ``y`` (n,), checked.

    Raises
    ------
    InterlaceError
        A response that the family cannot have, or of which nothing can be estimated.
    """
    problem, held = model.estimate.problem, require_rows(model.design, "refit")
    trials = None if model.options.trials is None else problem.trials
    name = model.formula.response
    outcome = with_response(y, held, trials, model.options, model.family, name)
    refuse_pure(problem.responding(outcome.y))
    return outcome


def re_drawn(model: FittedGeneralModel, design: Design, rows: Codes) -> GeneralEstimate:
    """The estimate for ``rows`` drawn from those of the fit, of which ``design`` is made.

    Raises
    ------
    InterlaceError
        A variance has no finite estimate, or a category no rows.
    """
    old = model.estimate.problem
    y, trials = old.y[rows], old.trials[rows]
    refuse_empty(old.family, y)
    new = problem_at(Outcome(design, y, trials, old.family), model.options)
    refuse_pure(new)
    new = replace(new, probes=old.probes)
    return estimate_general(new, model.estimate.approximation, near=_moved(model.estimate, new))


def _moved(estimate: GeneralEstimate, problem: Problem) -> GeneralEstimate | None:
    """The estimate in the basis of other rows, if these have the same columns."""
    if problem.rows.names != estimate.A.names:
        return None
    templates: list[Floats] = [
        np.asarray(np.linalg.solve(B, T), dtype=np.float64)
        for B, T in zip(problem.rows.random, estimate.user_templates, strict=True)
    ]
    beta: Floats = np.asarray(np.linalg.solve(problem.rows.fixed, estimate.beta), dtype=np.float64)
    x = problem.pack(templates, beta, estimate.gamma)
    return replace(estimate, problem=problem, x=x, u=zeros(problem), optimum=None, known=None)


def problem_on(model: FittedGeneralModel, design: Design) -> Problem:
    """The response of a model on other columns or random terms of the same rows."""
    held = model.estimate.problem
    return problem_at(Outcome(design, held.y, held.trials, held.family), model.options)


def refuse_empty(family: Family, y: Floats) -> None:
    """Refuse ordered categories of which some have no rows: a threshold has no finite estimate.

    Raises
    ------
    InterlaceError
        There is one.
    """
    if isinstance(family, Ordinal):
        counts = np.bincount(family.codes(y), minlength=family.categories)
        if not counts.all():
            label = family.labels[int(np.argmin(counts))]
            raise InterlaceError(f"no row has category '{label}': a threshold has no estimate")


def refuse_pure(problem: Problem) -> None:
    """Refuse grouping factors whose levels are each all 0 or all 1.

    Raises
    ------
    InterlaceError
        There is one.
    """
    for group in pure_groups(problem):
        raise InterlaceError(
            f"every level of '{group}' is all 0 or all 1: its variance has no finite estimate; "
            f"merge levels, or leave '{group}' out"
        )


def solving_of(options: Options) -> Solving:
    """Which solver is asked for, and how precise."""
    return Solving(options.solver, options.seed, options.mc_tolerance)


def problem_at(outcome: Outcome, options: Options) -> Problem:
    """The model as arrays."""
    design, family = outcome.design, outcome.family
    trials = np.broadcast_to(1.0, len(outcome.y)) if outcome.trials is None else outcome.trials
    held, centre = _centred(design) if isinstance(family, Ordinal) else (design, None)
    rows = working_rows(held, unit_of(family, outcome.y, trials))
    columns = {name: (one.side.names, one.matrix) for name, one in design.components.items()}
    if centre is not None:
        centre = centre[columns_kept(held.names, rows.names)]
    return problem_of(
        family,
        rows,
        outcome.y,
        trials=trials,
        weights=design.weights,
        offset=design.offset,
        auxiliary=parts_of(family, rows.n, rows.p, columns, centre),
        precision=None
        if options.fixed_prior is None
        else prior_precision(rows, options.fixed_prior),
    )


def columns_of(design: Design, family: Family) -> tuple[str, ...]:
    """Columns of the fixed effects that a family keeps of a design."""
    held = _centred(design)[0] if isinstance(family, Ordinal) else design
    return working_rows(held).names


def _centred(design: Design) -> tuple[Design, Floats]:
    """The design without intercept, columns less their means, and these."""
    some = np.array([name != "Intercept" for name in design.names])
    X = design.X[:, some]
    centre = X.mean(axis=0)
    names = tuple(name for name in design.names if name != "Intercept")
    return replace(design, X=X - centre, names=names), centre


def approximation_of(options: Options, problem: Problem) -> Approximation:
    """Laplace, or quadrature where it can be."""
    nodes = options.quadrature
    whole = isinstance(nodes, int | np.integer) and not isinstance(nodes, bool)
    if not whole or not 1 <= nodes <= MOST_NODES:
        raise InterlaceError(
            f"quadrature must be a number of nodes from 1 (Laplace) to {MOST_NODES}, not {nodes!r}"
        )
    if nodes == 1:
        return RestrictedLaplace() if options.method == "REML" else Laplace()
    refuse_quadrature(problem, int(nodes))
    return Quadrature(int(nodes))


def _warn(model: FittedGeneralModel) -> None:
    """Warn of a fit that did not converge, is singular, or has no finite estimate."""
    estimate = model.estimate
    for message in _separation_messages(model):
        warn(message, SeparationWarning)
    if not estimate.convergence.converged and not model.separated:
        warn(
            f"the fit did not converge: {estimate.convergence.message}{_at_the_edge(model)}",
            ConvergenceWarning,
        )
    if grown := _running_off(model):
        warn(grown, SeparationWarning)
    if estimate.undetermined and not model.separated:
        what = in_words(estimate.undetermined, estimate.A.terms, model.encoding)
        warn(what, UndeterminedWarning)
    if estimate.is_singular:
        terms = ", ".join(f"{key!r}" for key in estimate.singular_groups)
        warn(
            f"singular fit: a variance, or a combination of random effects, of {terms} is "
            f"estimated as zero; the estimates are valid",
            SingularFitWarning,
        )


def _at_the_edge(model: FittedGeneralModel) -> str:
    """What is said where the link keeps predictors within bounds, which the search has met."""
    link = model.link
    if unbounded(link):
        return ""
    return (
        f"; with link={link.name!r} means come to the bound of their range, where the likelihood "
        f"has no maximum inside it: use another link"
    )


def _running_off(model: FittedGeneralModel) -> str:
    """What is said of random effects whose variance grows as long as the search goes on."""
    estimate = model.estimate
    sizes = estimate.A.basis.root_mean_squares
    parts = zip(estimate.A.terms, estimate.user_templates, sizes, strict=True)
    for term, T, size in parts:
        sd = np.sqrt((T**2).sum(axis=1))
        for name, own, far in zip(term.columns, sd, sd * size > _FAR, strict=True):
            if far and model.family.name == "binomial":
                return (
                    f"the standard deviation of '{name}' by '{term.group}' has grown to "
                    f"{own:.3g}: where nearly every level's rows are separated it has no finite "
                    f"estimate; leave '{name}' out of the term, or merge levels"
                )
    return ""


def _separation_messages(model: FittedGeneralModel) -> Iterator[str]:
    """Which rows leave coefficients without finite estimates, and the way out."""
    response = model.formula.response
    for one in model.separated:
        if one.value is not None:
            yield _infinite(
                f"every row with {one.name} has {response} = {one.value}", [one.name], model
            )
    names = [one.name for one in model.separated if one.value is None]
    if names:
        along = " and ".join(f"'{name}'" for name in names)
        why = _of_reference_level(model) or f"the rows are separated along {along}"
        yield _infinite(why, names, model)


def _of_reference_level(model: FittedGeneralModel) -> str:
    """The level of a factor, without a column of its own, whose rows have one response alone."""
    design, problem = model.design, model.estimate.problem
    if design is None:
        return ""
    side = model.encoding.fixed
    for term in side.terms:
        levels = side.categories.get(term.factors[0]) if len(term.factors) == 1 else None
        columns = list(term.columns)
        if levels is None or len(columns) != len(levels) - 1:
            continue
        own = ~design.X[:, columns].any(axis=1)  # of codings by dummy variables
        named = any(one.name == side.names[c] for one in model.separated for c in columns)
        if named and np.isin(design.X[:, columns], (0.0, 1.0)).all() and own.any():
            for value, alike in ((0, problem.y == 0.0), (1, problem.y == problem.trials)):
                if alike[own].all() and (value == 0 or model.family.name == "binomial"):
                    level = levels.tolist()[0]
                    response = model.formula.response
                    return f"every row with {term.label} = {level} has {response} = {value}"
    return ""


def _infinite(why: str, names: Sequence[str], model: FittedGeneralModel) -> str:
    """The reason, where the coefficients stopped, and the way out."""
    stopped = " and ".join(f"{model.fe_params[name]:.3g}" for name in names)
    what = (
        f"its coefficient has no finite estimate (it stopped at {stopped})"
        if len(names) == 1
        else f"their coefficients have no finite estimates (they stopped at {stopped})"
    )
    return f"{why}: {what}; merge levels, or give the coefficients a prior with fixed_prior="
