"""A fitted model whose residual variances follow strata or a covariate, with any random effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from interlace.design.design import (
    read_design,
    refuse_constant,
    refuse_saturated,
    refuse_unidentifiable,
)
from interlace.design.formula import MixedFormula, parse
from interlace.design.groups import Grouping
from interlace.design.kept import kept_frame
from interlace.design.recipe import require_rows
from interlace.design.repeated import ResidualTerm, parse_residual
from interlace.design.variances import VarianceTerm, refuse_reproduced, sparse_scales_of
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SingularFitWarning,
    choose,
    warn,
)
from interlace.estimation.criterion import Criterion
from interlace.estimation.scaled import ScaledCriterion
from interlace.estimation.scaled_estimate import ScaledEstimate, estimate_scaled
from interlace.machine.progress import watcher
from interlace.model.fitted import (
    DDF,
    STRUCTURED_DDF,
    FittedModel,
    Labelled,
    Options,
    as_kept,
    read_only,
)
from interlace.model.fitting import refuse_tests
from interlace.model.predict import fitted
from interlace.model.structured import check_structured, in_memory
from interlace.model.updating import updated_options
from interlace.solver.choose import choose_solver
from interlace.solver.equations import Equations
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.rows import Rows
from interlace.sums.sizes import require_squares
from interlace.sums.terms import Floats
from interlace.sums.weighted import fixed_rows


@dataclass(frozen=True, eq=False)
class FittedScaledModel(Labelled[ScaledEstimate]):
    """Estimates of a mixed model with a variance function under their public names.

    ``residual`` is the function as it was read; ``ratios`` and ``units`` say how its numbers are
    reported, ``strata`` tells those of other rows: see
    :class:`interlace.design.variances.Scales`.
    """

    residual: ResidualTerm | None = None
    ratios: tuple[tuple[str, bool], ...] = ()
    units: tuple[float, ...] = ()
    strata: Grouping | None = None

    @property
    def scale(self) -> float:
        """There is no one residual variance.

        Raises
        ------
        InterlaceError
            Always; the message says where the variances are.
        """
        raise InterlaceError(
            f"{self.residual} has several residual variances, and no one scale: see "
            "residual_parameters"
        )

    @cached_property
    def weighted(self) -> FittedModel:
        """The linear model with the variances of the rows taken as known: as weights."""
        design = require_rows(self.design, "the rows of a model with residual=")
        W = self.estimate.evaluation.W
        weights = np.ones(len(design.kept))  # of all rows of the data
        weights[design.kept] = W
        ddf = self.options.ddf if self.options.ddf in DDF else "kenward-roger"
        options = replace(self.options, residual=None, weights=weights, ddf=ddf)
        design = replace(design, weights=W)
        return FittedModel(self.formula, design, self.estimate.weighted, options, self.held)

    def _read_beside(self) -> dict[str, str]:
        """Columns of the variance function."""
        return {f"residual {i}": name for i, name in enumerate(self.variance.columns)}

    @property
    def variance(self) -> VarianceTerm:
        """The variance function."""
        assert self.residual is not None and self.residual.variance is not None
        return self.residual.variance

    @property
    def parameter_names(self) -> list[str]:
        """Of the residual parameters: ``sd``, and those of the function."""
        return ["sd", *(name for name, _ in self.ratios)]

    @cached_property
    def residual_values(self) -> dict[str, float]:
        """The residual standard deviation where the function is 1, and its parameters, by name."""
        return values_of(self.estimate, self.ratios, self.units)

    @cached_property
    def fittedvalues(self) -> NDArray[np.float64]:
        """Predictions of the rows used, random effects included, ``(nobs,)``."""
        design = require_rows(self.design, "fittedvalues")
        return read_only(fitted(design, self.estimate, [True] * len(design.terms)))

    @cached_property
    def resid(self) -> NDArray[np.float64]:
        """Response less :attr:`fittedvalues`, ``(nobs,)``."""
        return read_only(require_rows(self.design, "resid").y - self.fittedvalues)

    @cached_property
    def residual_sd(self) -> NDArray[np.float64]:
        """Residual standard deviation of every row used, ``(nobs,)``."""
        return read_only(self.estimate.sigma / self.estimate.root_weights)

    @property
    def pearson_resid(self) -> NDArray[np.float64]:
        """The same as :attr:`normalized_resid`: these residuals are not correlated."""
        return self.normalized_resid

    @cached_property
    def normalized_resid(self) -> NDArray[np.float64]:
        """:attr:`resid` over :attr:`residual_sd`, ``(nobs,)``: nlme's normalized residuals."""
        return read_only(self.resid / self.residual_sd)


def values_of(
    estimate: ScaledEstimate, ratios: Sequence[tuple[str, bool]], units: Sequence[float]
) -> dict[str, float]:
    """The residual standard deviation where the function is 1, and its parameters, by name."""
    found = {
        name: float(np.exp(eta)) if is_ratio else eta / unit
        for (name, is_ratio), unit, eta in zip(ratios, units, estimate.eta.tolist(), strict=True)
    }
    return {"sd": estimate.sigma, **found}


# ------------------------------------------------------------------ fitting


def variance_alone(options: Options) -> ResidualTerm | None:
    """The variance function of the residuals, where there is that and nothing of subjects."""
    if not isinstance(options.residual, str):
        return None
    term = parse_residual(options.residual)
    return term if term.visit is None else None


def n_factors(options: Options) -> int:
    """Number of grouping factors of the random effects."""
    return len({frozenset(term.group) for term in _spec(options).random})


def _spec(options: Options) -> MixedFormula:
    return parse(options.formula, groups=options.groups, random=options.random, fixed_alone=True)


def fit_scaled(options: Options, data: object) -> FittedScaledModel:
    """Fit a mixed model with a variance function; see :func:`interlace.fit`."""
    options, data = as_kept(options), kept_frame(data)
    check_structured(options)
    term, spec = variance_alone(options), _spec(options)
    assert term is not None
    assert term.variance is not None
    refuse_ddf(term.variance, options.ddf)
    data = in_memory(options, data, spec, [term])
    beside = {f"residual {i}": name for i, name in enumerate(term.columns)}
    extra = {"weights": options.weights, "offset": options.offset, **beside}
    design, rows = read_design(spec, data, extra, options.missing, None)
    refuse_constant(design.response, f"the response '{spec.response}'")
    refuse_unidentifiable(design.terms, len(design.y))
    refuse_saturated(design.X)
    scales, told = sparse_scales_of(term.variance, rows)
    refuse_reproduced(term.variance, design.X, told.strata, rows)

    def solver(A: CrossProducts) -> Equations:
        found = choose_solver(A, options.solver, options.seed)
        refuse_tests(found, options.ddf)
        return found

    criterion = scaled_criterion(design, scales, reml=options.method == "REML", solver=solver)
    with watcher(options.progress) as watch:
        try:
            estimate = estimate_scaled(criterion, mc_tolerance=options.mc_tolerance, watch=watch)
        except np.linalg.LinAlgError as error:
            raise InterlaceError(
                "no residual variance is left: the model reproduces the response, of all rows (a "
                "grouping factor, or several together, may tell every row apart) or of those of a "
                f"stratum of {term}: leave out a term, or merge strata"
            ) from error
    warn_of_scaled(estimate, term)
    units = tuple(told.units.tolist())
    return FittedScaledModel(
        spec, design, estimate, options, data, term, told.ratios, units, told.strata
    )


def scaled_criterion(
    rows: Rows,
    scales: csr_matrix,
    *,
    reml: bool,
    solver: Callable[[CrossProducts], Equations],
) -> ScaledCriterion:
    """The criterion of rows whose variances follow scales, laid out for a solver of their sums."""
    require_squares(rows)
    A = cross_products(rows)
    base = Criterion(A, reml, solver(A))
    n = len(rows.y)
    prior: Floats = np.ones(n) if rows.weights is None else np.asarray(rows.weights)
    return ScaledCriterion(Criterion(A, reml, base.equations), fixed_rows(rows, A), scales, prior)


def refuse_ddf(variance: VarianceTerm, ddf: str) -> None:
    """Refuse tests that a model with a variance function does not have.

    Raises
    ------
    InterlaceError
        An unknown name, or one of these; the message says why.
    """
    choose("ddf", ddf, STRUCTURED_DDF, one_of=True)
    if ddf in ("between-within", "residual"):
        raise InterlaceError(
            f"ddf={ddf!r} counts subjects, and rows within them: with random effects of several "
            "factors there are none; take ddf='satterthwaite' or 'kenward-roger-linear'"
        )
    if ddf == "kenward-roger" and variance.kind != "varident":
        raise InterlaceError(
            f"ddf='kenward-roger' needs variances that are linear in their parameters, and "
            f"{variance} is not: take ddf='kenward-roger-linear', which leaves second derivatives "
            "out, or 'satterthwaite'"
        )


def warn_of_scaled(estimate: ScaledEstimate, term: ResidualTerm) -> None:
    """Warn of columns left out, of a search that did not end, and of zero variances."""
    if estimate.A.dropped:
        what = f"the fixed effects are rank deficient; dropped: {', '.join(estimate.A.dropped)}"
        warn(what, RankDeficiencyWarning)
    if not estimate.convergence.converged:
        warn(
            f"the fit did not converge: {estimate.convergence.message}; fewer parameters than "
            f"{term} has may be all that the data can tell",
            ConvergenceWarning,
        )
    if estimate.is_singular:
        groups = ", ".join(map(repr, estimate.singular_groups))
        searched = estimate.convergence.solver == "exact"
        elsewhere = "other starts, which might lead to a better optimum, were not tried"
        warn(
            f"singular fit: a variance, or a combination of random effects, of {groups} is "
            f"estimated as zero; {'the estimates are valid' if searched else elsewhere}",
            SingularFitWarning,
        )


def updated(
    model: FittedScaledModel, formula: str | None, data: object, changes: Mapping[str, object]
) -> tuple[Options, object]:
    """Options and data of a fit with some options changed; see the method ``update``."""
    options, source = updated_options(model, formula, data, changes)
    alone = variance_alone(options) is not None
    if not alone or n_factors(options) == 0:
        beside = "no random effects" if alone else f"residual={options.residual!r}"
        raise InterlaceError(
            f"update() to {beside} would make a model of another kind: fit it with interlace.fit"
        )
    return options, source
