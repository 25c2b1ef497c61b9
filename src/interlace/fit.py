"""``fit``: formula and data to a result."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from interlace.design.complete import Missing
from interlace.model.fitted import Ddf, Method, Options, as_kind
from interlace.model.fitting import fit_model
from interlace.results import CrossedLMEResult
from interlace.solver.choose import Solver


def fit(
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    random: str | Sequence[str] | None = None,
    method: Method = "REML",
    ddf: Ddf = "normal",
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
    missing: Missing = "drop",
    solver: Solver = "auto",
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
        A formula is code: what it calls is run, so never take one from a stranger.
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
    return as_kind(CrossedLMEResult, fit_model(options, data))
