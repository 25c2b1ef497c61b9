"""``fit``: formula and data to a result."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from interlace.design.design import Design, assemble, refuse_constant
from interlace.design.formula import MixedFormula, parse
from interlace.design.recipe import recipe_of, require_rows
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SingularFitWarning,
)
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.machine.progress import watcher
from interlace.model.fitted import Options
from interlace.result import CrossedLMEResult
from interlace.solver.choose import SOLVERS, choose_probes
from interlace.sources.build import of_formula, read
from interlace.sources.opening import open_source
from interlace.sums.crossprod import CrossProducts, cross_products, with_response
from interlace.sums.terms import Floats

METHODS = ("REML", "ML")
DDF = ("normal", "satterthwaite", "kenward-roger")


def fit(
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    random: str | Sequence[str] | None = None,
    method: str = "REML",
    ddf: str = "normal",
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
    missing: str = "drop",
    solver: str = "auto",
    theta0: ArrayLike | None = None,
    progress: bool | None = None,
    mc_tolerance: float = 0.01,
    seed: int = 0,
) -> CrossedLMEResult:
    """Fit a linear mixed model with crossed or nested random effects.

    Parameters
    ----------
    formula
        ``"y ~ x"``, with random terms as bars if you like: ``"y ~ x + (1 + x | g) + (1 | a/b)"``.
    data
        A pandas, Polars or PyArrow table, a dict of columns, or any frame that narwhals takes.  Or
        what :func:`cross_products` reads part by part (files, DuckDB, Dask, ...), or what it gave.
    groups
        Grouping columns that get a random intercept each: ``"g"`` or ``["g", "h"]``.
    random
        Random terms such as ``"(1 + x | g)"``.  Terms from all three places add up.
    method
        ``"REML"`` or ``"ML"``.
    ddf
        What tests and intervals of the fixed effects refer to: ``"normal"``, or t and F with
        ``"satterthwaite"`` or ``"kenward-roger"`` degrees of freedom (the latter for REML only).
    weights
        Column or ``(n,)`` values; the residual variance of row ``i`` is ``scale / weights[i]``.
    offset
        Column or ``(n,)`` values that enter the linear predictor with coefficient 1.
    missing
        ``"drop"`` leaves out (and counts) rows with a missing value in a column used, ``"raise"``
        refuses them.
    solver
        ``"exact"`` factors the equations; ``"iterative"`` solves them by conjugate gradients, for
        crossed factors with very many levels, and estimates log determinant and traces from random
        probes; ``"auto"`` predicts work and memory and takes the exact one unless it would take
        much longer or not fit.  ``convergence.solver`` says which one it was.
    theta0
        Where to start the search, in lme4's order; by default a moment estimate.
    progress
        ``True`` writes a line about every step of the search to standard error, ``False`` nothing;
        ``None`` shows a bar when the fit takes long and standard error is a terminal.
    mc_tolerance
        Monte-Carlo standard error that the iterative solver may leave in ``theta``, as a share of
        its statistical standard error; more probes are drawn until it is met.
    seed
        Of the probes; the same seed gives the same answer.

    Returns
    -------
    CrossedLMEResult

    Raises
    ------
    InterlaceError
        The formula or the data cannot be used; the message names what is at fault.

    Warns
    -----
    RankDeficiencyWarning, SingularFitWarning, ConvergenceWarning

    Notes
    -----
    The model is ``y = X beta + Z b + e`` with ``b ~ N(0, scale T T')`` for every level of a term
    and ``e ~ N(0, scale / weights)``.  The criterion, with ``beta`` and ``scale`` profiled out, is
    that of Bates et al. (2015, Journal of Statistical Software 67(1)); it is minimised by a
    trust-region Newton method with exact gradients and average information.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> result.fe_params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """
    _choose("method", method, METHODS)
    _choose("ddf", ddf, DDF)
    if ddf == "kenward-roger" and method == "ML":
        raise InterlaceError(
            "ddf='kenward-roger' corrects a fit by REML: use method='REML', or ddf='satterthwaite'"
        )
    _choose("solver", solver, SOLVERS)
    _check_monte_carlo(mc_tolerance, seed)
    spec = parse(formula, groups=groups, random=random)
    options = Options(
        formula=formula,
        groups=groups,
        random=random,
        method=method,
        ddf=ddf,
        weights=weights,
        offset=offset,
        missing=missing,
        solver=solver,
        theta0=theta0,
        progress=progress,
        mc_tolerance=mc_tolerance,
        seed=seed,
    )
    sums = _from_source(spec, data, weights, offset, missing, progress)
    if sums is not None:
        return _result(None, sums, options, data)
    design = assemble(spec, data, weights=weights, offset=offset, missing=missing)
    return _result(design, cross_products(design), options, data)


def _from_source(
    formula: MixedFormula,
    data: object,
    weights: str | ArrayLike | None,
    offset: str | ArrayLike | None,
    missing: str,
    progress: bool | None,
) -> CrossProducts | None:
    """Cross-products of data that is read part by part, or is cross-products already."""
    if isinstance(data, CrossProducts):
        return of_formula(data, formula, weights=weights, offset=offset)
    source = open_source(data)
    if source is None:
        return None
    return read(formula, source, weights, offset, missing, progress)


def refit(result: CrossedLMEResult, y: ArrayLike) -> CrossedLMEResult:
    """Fit the model of a result to another response for the same rows; see its method ``refit``."""
    try:
        response = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InterlaceError(f"the new response must be numbers: {error}") from error
    if response.shape != (result.nobs,):
        raise InterlaceError(
            f"the new response has shape {response.shape}, but the model was fitted to "
            f"{result.nobs} rows: pass one value for each row used"
        )
    if not np.isfinite(response).all():
        row = int(np.argmax(~np.isfinite(response)))
        raise InterlaceError(f"the new response is {response[row]} in row {row} (counted from 0)")
    held = require_rows(result.design, "refit")
    refuse_constant(response, held.offset, "the new response")
    design = replace(held, y=response)
    A = with_response(result.estimate.A, design, response)
    return _result(design, A, result.options, None, stacklevel=4)


def update(
    result: CrossedLMEResult,
    formula: str | None = None,
    data: object = None,
    changes: Mapping[str, object] | None = None,
) -> CrossedLMEResult:
    """Fit again with some arguments changed; see the method ``update``."""
    arguments = result.options.arguments() | dict(changes or {})
    if formula is not None:
        arguments["formula"] = formula
    source = result.data if data is None else data
    if source is None:
        raise InterlaceError(
            "the result no longer holds its data (it was unpickled, or fitted by refit): pass data="
        )
    return fit(data=source, **arguments)  # type: ignore[arg-type]


def _choose(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        known = " or ".join(repr(c) for c in choices)
        raise InterlaceError(f"{name} must be {known}, not {value!r}")


def _check_monte_carlo(mc_tolerance: float, seed: int) -> None:
    """Refuse settings of the probes that cannot be meant."""
    if not 0.0 < mc_tolerance < np.inf:
        raise InterlaceError(f"mc_tolerance must be a positive number, not {mc_tolerance!r}")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InterlaceError(f"seed must be a whole number from 0 on, not {seed!r}")


def _result(
    design: Design | None,
    A: CrossProducts,
    options: Options,
    data: object,
    *,
    stacklevel: int = 3,
) -> CrossedLMEResult:
    """Estimate theta, warn of what the user should know, and label."""
    if A.dropped:
        warnings.warn(
            f"the fixed effects are rank deficient; dropped: {', '.join(A.dropped)}",
            RankDeficiencyWarning,
            stacklevel=stacklevel,
        )
    theta0 = None if options.theta0 is None else _start(A, options.theta0)
    probes = choose_probes(A, options.solver, options.seed)
    if probes is not None and options.ddf != "normal":
        raise InterlaceError(
            f"ddf={options.ddf!r} needs the inverse of the mixed-model equations, which the "
            f"iterative solver never forms: leave ddf out, or fit with solver='exact' where the "
            f"model is small enough for it"
        )
    criterion = Criterion(A, options.method == "REML", probes)
    try:
        with watcher(options.progress) as watch:
            estimate = estimate_theta(
                criterion, theta0=theta0, mc_tolerance=options.mc_tolerance, watch=watch
            )
    except np.linalg.LinAlgError as error:
        raise InterlaceError(
            "the random effects leave no residual variance: the model reproduces the response "
            "(a grouping factor, or several together, may tell every row apart); leave out a term"
        ) from error
    _warn(estimate, stacklevel + 1)
    return CrossedLMEResult(recipe_of(design, A).encoding.formula, design, estimate, options, data)


def _start(A: CrossProducts, theta0: ArrayLike) -> Floats:
    """Check a starting value."""
    theta = np.asarray(theta0, dtype=np.float64)
    expected = sum(t.n_theta for t in A.terms)
    if theta.shape != (expected,) or not np.isfinite(theta).all():
        raise InterlaceError(
            f"theta0 must hold {expected} finite numbers, one for each free entry of the "
            f"templates, not {np.asarray(theta0).tolist()!r}"
        )
    return theta


def _warn(estimate: Estimate, stacklevel: int) -> None:
    """Warn of a fit that did not converge or is singular."""
    if not estimate.convergence.converged:
        warnings.warn(
            f"the fit did not converge: {estimate.convergence.message}; a further step would "
            f"reduce the criterion by {estimate.convergence.predicted_gain:.2g}",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
    if estimate.is_singular:
        terms = ", ".join(f"{key!r}" for key in estimate.singular_groups)
        warnings.warn(
            f"singular fit: a variance, or a combination of random effects, of {terms} is "
            f"estimated as zero; the estimates are valid, and singular_report() of the result says "
            f"what to try",
            SingularFitWarning,
            stacklevel=stacklevel,
        )
