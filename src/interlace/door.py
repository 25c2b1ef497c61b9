"""``fit``: formula and data to a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from numpy.typing import ArrayLike

from interlace import results
from interlace.choices import Ddf, FamilyName, FitMethod, LinkName, is_linear
from interlace.design.complete import Missing
from interlace.hints import hinted
from interlace.model.fitted import Options, as_kind
from interlace.model.fitting import fit_model, refuse_generalised
from interlace.results.result import CrossedLMEResult
from interlace.solver.choose import Solver

if TYPE_CHECKING:
    from interlace.glmm.families import Family
    from interlace.results import CrossedGLMMResult, ScaledLMEResult, StructuredLMEResult


class Arguments(TypedDict, total=False):
    """Arguments by name that every family has, for the overloads of :func:`fit`."""

    random: str | Sequence[str] | None
    method: FitMethod | None
    ddf: Ddf
    weights: str | ArrayLike | None
    offset: str | ArrayLike | None
    missing: Missing
    solver: Solver
    theta0: ArrayLike | None
    progress: bool | None
    mc_tolerance: float
    seed: int
    trials: str | ArrayLike | None
    exposure: str | ArrayLike | None
    quadrature: int
    zero_inflation: str | None
    dispersion: str | None
    fixed_prior: float | None


@overload
def fit(  # type: ignore[overload-overlap]
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    family: Literal["gaussian"] = "gaussian",
    link: None = None,
    residual: None = None,
    **arguments: Unpack[Arguments],
) -> CrossedLMEResult: ...
@overload
def fit(
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    residual: str | Sequence[str],
    **arguments: Unpack[Arguments],
) -> StructuredLMEResult | Any: ...  # ScaledLMEResult, as random effects and structure say
@overload
def fit(
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    family: FamilyName | Family,
    link: LinkName | None = None,
    **arguments: Unpack[Arguments],
) -> CrossedGLMMResult: ...
@overload
def fit(
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    link: LinkName,
    **arguments: Unpack[Arguments],
) -> CrossedGLMMResult: ...
@hinted
def fit(
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    random: str | Sequence[str] | None = None,
    method: FitMethod | None = None,
    ddf: Ddf = "normal",
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
    missing: Missing = "drop",
    solver: Solver = "auto",
    theta0: ArrayLike | None = None,
    progress: bool | None = None,
    mc_tolerance: float = 0.01,
    seed: int = 0,
    family: FamilyName | Family = "gaussian",
    link: LinkName | None = None,
    trials: str | ArrayLike | None = None,
    exposure: str | ArrayLike | None = None,
    quadrature: int = 1,
    zero_inflation: str | None = None,
    dispersion: str | None = None,
    fixed_prior: float | None = None,
    residual: str | Sequence[str] | None = None,
) -> CrossedLMEResult | CrossedGLMMResult | StructuredLMEResult | ScaledLMEResult:
    """Fit a linear or generalised linear mixed model with crossed or nested random effects.

    Parameters
    ----------
    formula
        ``"y ~ x"``, with random terms as bars if you like: ``"y ~ x + (1 + x | g) + (1 | a/b)"``.
        A formula is code: what it calls is run, so never take one from a stranger.
    data
        A pandas, Polars or PyArrow table, a dict of columns, or any frame that narwhals takes.  Or
        what :func:`cross_products` reads part by part (files, DuckDB, Dask, ...), or what it gave.
    groups
        Grouping columns that get a random intercept each: ``"g"`` or ``["g", "h"]``.
    random
        Random terms such as ``"(1 + x | g)"``.  Terms from all three places add up.
    method
        ``"REML"`` or ``"ML"``; by default REML for Gaussian models, ML for others, whose REML
        integrates over the fixed effects by Laplace's approximation too.
    ddf
        What tests and intervals of the fixed effects refer to: ``"normal"``, or t and F with
        ``"satterthwaite"`` or ``"kenward-roger"`` degrees of freedom (the latter for REML only).
    weights
        Column or ``(n,)`` values; the residual variance of row ``i`` is ``scale / weights[i]``.
        Of other families they multiply the log-likelihood of the row.
    offset
        Column or ``(n,)`` values that enter the linear predictor with coefficient 1.
    missing
        ``"drop"`` leaves out (and counts) rows with a missing value in a column used, ``"raise"``
        refuses them.
    solver
        ``"exact"`` factors the equations; ``"iterative"`` solves them by conjugate gradients, for
        crossed factors with very many levels, and estimates log determinant and traces from random
        probes; ``"auto"`` predicts work and memory and takes the exact one unless it would take
        much longer or not fit.  ``convergence.solver`` says which one it was.  Quadrature, and REML
        of other families than the Gaussian, are by the exact one; so is ``residual=``, but for
        variance functions beside random effects of several factors, where there is the choice.
    theta0
        Where to start the search, in lme4's order; by default a moment estimate.
    progress
        ``True`` writes a line about every step of the search to standard error, ``False`` nothing;
        ``None`` shows a bar when the fit takes long and standard error is a terminal.
    mc_tolerance
        Monte-Carlo standard error that the iterative solver may leave in ``theta``, as a share of
        its statistical standard error; more probes are drawn until it is met.  With a variance
        function in its parameters too, of other families than the Gaussian in all parameters.
    seed
        Of the probes; the same seed gives the same answer.
    family
        Of the response: ``"gaussian"``, ``"binomial"``, ``"poisson"``, ``"negative-binomial"``,
        ``"gamma"``, ``"inverse-gaussian"``, ``"beta"``, ``"beta-binomial"``, ``"ordinal"``,
        ``"student-t"``, ``"tweedie"``, ``"truncated-poisson"``, ``"truncated-negative-binomial"``,
        or a value of :mod:`interlace.families`.
    link
        By name; the family's own by default.  A Gaussian model with another link than the identity
        is a generalised one.
    trials
        Of a binomial response that holds counts or proportions: column or ``(n,)`` values.
    exposure
        Of counts with a log link: column or ``(n,)`` values whose log is an offset.
    quadrature
        Nodes a dimension of adaptive Gauss-Hermite quadrature; 1 is Laplace's approximation.
    zero_inflation
        Formula ``"~ z"`` of the logit of the share of zeros in excess, ``"~ 1"`` for one share.
        With a truncated family, gamma, inverse Gaussian or beta of all zeros (a hurdle model).
    dispersion
        Formula ``"~ z"`` of the logarithm of the dispersion, size, precision or scale.
    fixed_prior
        Standard deviation of a normal prior on every coefficient but the intercept, for responses
        that leave some without a finite estimate; none by default.
    residual
        Covariance of the residuals of a subject, ``"us(visit | subject)"``.  Structures over visits
        (a factor, or whole numbers, in order) are ``us`` (any), ``toep``, ``ar1``, ``cs`` and
        ``ad`` with one variance, ``toeph``, ``ar1h``, ``csh``, ``adh`` and ``diag`` with one for
        every visit; over numeric times ``car1``, ``sp_exp`` and ``sp_gau``.
        ``by=arm`` gives every arm a covariance of its own.  ``varident(strata)``, ``varpower(x)``
        and ``varexp(x)`` let standard deviations differ between strata or follow a number, alone
        or after a structure and ``*``.  Random effects may be of any factors: of the subject, of
        what subjects are nested in, or crossed with them.  ``ddf`` may then also be
        ``"kenward-roger-linear"``, ``"between-within"`` or ``"residual"``.  Of a list of
        structures the first is taken whose fit converges.  ``sp_exp(x, y | subject)`` takes
        distances in the plane.  Of files and the like the columns that the model reads are held.

    Returns
    -------
    CrossedLMEResult, CrossedGLMMResult, StructuredLMEResult or ScaledLMEResult

    Raises
    ------
    InterlaceError
        The formula or the data cannot be used; the message names what is at fault.

    Warns
    -----
    RankDeficiencyWarning, SingularFitWarning, ConvergenceWarning, SeparationWarning

    Notes
    -----
    The model is ``y = X beta + Z b + e`` with ``b ~ N(0, scale T T')`` for every level of a term
    and ``e ~ N(0, scale / weights)``.  The criterion, with ``beta`` and ``scale`` profiled out, is
    that of Bates et al. (2015, Journal of Statistical Software 67(1)); it is minimised by a
    trust-region Newton method with exact gradients and average information.

    Of other families the mean is ``g^-1(X beta + Z b)`` with ``b ~ N(0, T T')``.  The likelihood is
    Laplace's approximation with the observed curvature, or adaptive quadrature, and is maximised
    over ``T``, ``beta`` and the parameter of the family together.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> result.fe_params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """
    linear = is_linear(family, link)
    options = Options(
        formula=formula,
        groups=groups,
        random=random,
        method=method or ("REML" if linear else "ML"),
        ddf=ddf,
        weights=weights,
        offset=offset,
        missing=missing,
        solver=solver,
        theta0=theta0,
        progress=progress,
        mc_tolerance=mc_tolerance,
        seed=seed,
        family="gaussian" if linear else family,
        link=None if linear else link,
        trials=trials,
        exposure=exposure,
        quadrature=quadrature,
        zero_inflation=zero_inflation,
        dispersion=dispersion,
        fixed_prior=fixed_prior,
        residual=residual,
    )
    if residual is not None:
        return results.structured.fit_result(options, data)
    if not linear:
        return results.general.fit_result(options, data)
    refuse_generalised(options)
    return as_kind(CrossedLMEResult, fit_model(options, data))
