"""Options and data to a fitted model; another response, and other options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from interlace.design.design import Design, Encoding, assemble, refuse_constant
from interlace.design.formula import MixedFormula, parse
from interlace.design.kept import kept_frame
from interlace.design.recipe import recipe_of, require_rows
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SingularFitWarning,
    UndeterminedWarning,
    choose,
    warn,
)
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate, Watch, estimate_theta
from interlace.estimation.sharpen import (
    LostError,
    can_sharpen,
    is_doubtful,
    sharpened,
    until_lost,
)
from interlace.estimation.unbounded import is_saturated, no_residual
from interlace.machine.progress import watcher
from interlace.model.fitted import DDF, METHODS, FittedModel, Options, as_kept, check_solver
from interlace.model.responses import new_response
from interlace.model.undetermined import in_words
from interlace.model.updating import updated_options
from interlace.solver.choose import choose_solver
from interlace.solver.equations import Equations, Iterative
from interlace.sources.build import of_formula, read
from interlace.sources.opening import open_source
from interlace.sums.crossprod import CrossProducts, cross_products, with_response
from interlace.sums.terms import Floats

# The way out where residuals are lost in sums of squares.
_NEARER = (
    "subtract a round value of every group from the response, or fit a data frame, whose rows are "
    "held, with fewer levels"
)


def fit_model(options: Options, data: object) -> FittedModel:
    """Fit what the options say to data; see :func:`interlace.fit`."""
    check_options(options)
    options, data = as_kept(options), kept_frame(data)
    spec = parse(options.formula, groups=options.groups, random=options.random)
    sums = _from_source(spec, data, options)
    if sums is not None:
        return _fitted(None, sums, options, data)
    design = assemble(
        spec, data, weights=options.weights, offset=options.offset, missing=options.missing
    )
    return _fitted(design, cross_products(design), options, data)


def check_options(options: Options) -> None:
    """Refuse options that no data could be fitted with."""
    choose("method", options.method, METHODS)
    if options.residual is not None:
        raise InterlaceError(
            f"residual={options.residual!r} makes a model of another kind: fit it with "
            "interlace.fit"
        )
    choose("ddf", options.ddf, DDF)
    if options.ddf == "kenward-roger" and options.method == "ML":
        raise InterlaceError(
            "ddf='kenward-roger' corrects a fit by REML: use method='REML', or ddf='satterthwaite'"
        )
    check_solver(options)


def _from_source(spec: MixedFormula, data: object, options: Options) -> CrossProducts | None:
    """Cross-products of data that is read part by part, or is cross-products already."""
    weights, offset = options.weights, options.offset
    if isinstance(data, CrossProducts):
        return of_formula(data, spec, weights=weights, offset=offset)
    source = open_source(data)
    if source is None:
        return None
    return read(spec, source, weights, offset, options.missing, options.progress)


def refit(result: FittedModel, y: ArrayLike) -> FittedModel:
    """Fit the model of a result to another response for the same rows; see its method ``refit``."""
    held = require_rows(result.design, "refit")
    response = new_response(y, held)
    design = replace(held, y=response)
    refuse_constant(design.response, "the new response")
    A = with_response(result.estimate.A, design, response)
    return _fitted(design, A, result.options, None)


def update(
    result: FittedModel,
    formula: str | None = None,
    data: object = None,
    changes: Mapping[str, object] | None = None,
) -> FittedModel:
    """Fit again with some options changed; see the method ``update``."""
    return fit_model(*updated_options(result, formula, data, changes or {}))


def _fitted(
    design: Design | None,
    A: CrossProducts,
    options: Options,
    data: object,
) -> FittedModel:
    """Estimate theta, warn of what the user should know, and label."""
    _warn_of_columns(A, recipe_of(design, A).encoding)
    theta0 = None if options.theta0 is None else _start(A, options.theta0)
    solver = choose_solver(A, options.solver, options.seed)
    refuse_tests(solver, options.ddf)
    criterion = Criterion(A, options.method == "REML", solver)
    with watcher(options.progress) as watch:
        try:
            estimate = _searched(design, criterion, options, theta0, watch)
        except np.linalg.LinAlgError as error:
            if is_saturated(A):
                raise no_residual(A) from error
            raise InterlaceError(
                "the random effects leave no residual variance: the model reproduces the response "
                "(a grouping factor, or several together, may tell every row apart; leave out a "
                "term), or what it leaves is lost in sums of squares: if so, " + _NEARER
            ) from error
    _warn(estimate)
    if estimate.undetermined:
        what = in_words(estimate.undetermined, A.terms, recipe_of(design, A).encoding)
        warn(what, UndeterminedWarning)
    return FittedModel(recipe_of(design, A).encoding.formula, design, estimate, options, data)


def refuse_tests(solver: Equations, ddf: str) -> None:
    """Refuse degrees of freedom that the iterative solver does not have."""
    if isinstance(solver, Iterative) and ddf != "normal":
        raise InterlaceError(
            f"ddf={ddf!r} needs the inverse of the mixed-model equations, which the "
            f"iterative solver never forms: leave ddf out, or fit with solver='exact' where the "
            f"model is small enough for it"
        )


def _searched(
    design: Design | None,
    criterion: Criterion,
    options: Options,
    theta0: Floats | None,
    watch: Watch | None,
) -> Estimate:
    """The optimum from the sums; from the rows where sums have lost the residuals."""
    A, mc = criterion.A, options.mc_tolerance
    if design is not None and can_sharpen(A):
        try:
            estimate = estimate_theta(
                criterion, theta0=theta0, mc_tolerance=mc, watch=until_lost(watch)
            )
        except (LostError, np.linalg.LinAlgError):
            return sharpened(design, A, reml=criterion.reml, watch=watch)
        return estimate if estimate.convergence.converged else _clearer(estimate, design, watch)
    estimate = estimate_theta(criterion, theta0=theta0, mc_tolerance=mc, watch=watch)
    if is_doubtful(estimate):
        warn(
            f"{estimate.evaluation.share_left:.0e} of the response's sum of squares is residual: "
            "such a small difference of sums of squares has few digits, and so have the variances "
            f"of this fit; {_NEARER}",
            ConvergenceWarning,
        )
    return estimate


def _clearer(estimate: Estimate, rows: Design, watch: Watch | None) -> Estimate:
    """The optimum from the rows, if that is found, of a fit whose search did not end."""
    criterion = estimate.criterion
    sharp = sharpened(rows, criterion.A, reml=criterion.reml, watch=watch)
    return sharp if sharp.convergence.converged else estimate


def _warn_of_columns(A: CrossProducts, encoding: Encoding) -> None:
    """Warn of columns that were dropped, and of factors that have none."""
    if A.dropped:
        warn(
            f"the fixed effects are rank deficient; dropped: {', '.join(A.dropped)}",
            RankDeficiencyWarning,
        )
    for side in dict.fromkeys((encoding.fixed, *encoding.slopes)):
        single = {e: v for e, v in side.categories.items() if v is not None and len(v) == 1}
        empty = {e for term in side.terms if not term.columns for e in term.factors}
        for expr in sorted(single.keys() & empty):
            warn(
                f"the factor '{expr}' has one level ({single[expr].tolist()[0]!r}) and no effect "
                "of its own: leave it out",
                RankDeficiencyWarning,
            )


def _start(A: CrossProducts, theta0: ArrayLike) -> Floats:
    """Check a starting value."""
    expected = sum(t.n_theta for t in A.terms)
    try:
        theta = np.asarray(theta0, dtype=np.float64)
    except (TypeError, ValueError):
        theta = np.full(0, np.nan)
    if theta.shape != (expected,) or not np.isfinite(theta).all():
        raise InterlaceError(
            f"theta0 must hold {expected} finite numbers, one for each free entry of the "
            f"templates, not {_shown(theta0)}"
        )
    return theta


def _shown(theta0: object) -> str:
    """A starting value as its user wrote it, or nearly so."""
    return repr(theta0.tolist() if isinstance(theta0, np.ndarray) else theta0)


def _warn(estimate: Estimate) -> None:
    """Warn of a fit that did not converge or is singular."""
    if not estimate.convergence.converged:
        warn(
            f"the fit did not converge: {estimate.convergence.message}; a further step would "
            f"reduce the criterion by {estimate.convergence.predicted_gain:.2g}",
            ConvergenceWarning,
        )
    if estimate.is_singular:
        terms = ", ".join(f"{key!r}" for key in estimate.singular_groups)
        starts = estimate.convergence.n_starts
        checked = (
            f"the estimates are valid: none better was found from {starts - 1} other "
            f"start{'s' if starts > 2 else ''}"
            if starts > 1
            else "other starts, which might lead to a better optimum, were not tried"
        )
        warn(
            f"singular fit: a variance, or a combination of random effects, of {terms} is "
            f"estimated as zero; {checked}; singular_report() of the result says what to try",
            SingularFitWarning,
        )


def refuse_generalised(options: Options) -> None:
    """Refuse arguments that only generalised models have."""
    given = {
        "trials": options.trials is not None,
        "exposure": options.exposure is not None,
        "quadrature": options.quadrature != 1,
        "zero_inflation": options.zero_inflation is not None,
        "dispersion": options.dispersion is not None,
        "fixed_prior": options.fixed_prior is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        way = "name one by family="
        if name == "dispersion":
            way += ', or write residual="varident(s)" for a variance of every level of s'
        raise InterlaceError(f"{name}= is for other families than 'gaussian': {way}")
