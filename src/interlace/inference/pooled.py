"""Fits to several imputed data sets as one, by Rubin's rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interlace.choices import Ddf
from interlace.errors import InterlaceError
from interlace.estimation.parameters import variance_parameter_names, variance_parameters
from interlace.inference.bootstrap.general import GeneralParameters
from interlace.inference.correlated import TestedStructuredModel
from interlace.inference.general import TestedGeneralModel
from interlace.inference.profiles.numbers import covariance_names
from interlace.inference.profiles.structured import Numbers
from interlace.inference.tables import two_sided
from interlace.inference.tested import TestedModel
from interlace.model.confidence import check_level, reach
from interlace.sums.terms import Floats

Pooling = TestedModel | TestedStructuredModel | TestedGeneralModel


@dataclass(frozen=True, eq=False)
class Pooled:
    """Coefficients pooled over imputations.

    Attributes
    ----------
    table
        By coefficient: ``estimate, se, df, statistic, p, lower, upper``, then ``riv``, the relative
        increase of the variance by missing values, and ``fmi``, the fraction of information that is
        missing.
    variances
        Standard deviations and correlations of the random effects, and ``sigma`` or what the
        family has beside the mean: means.
    m
        Imputations.
    """

    table: pd.DataFrame
    variances: pd.Series
    m: int

    def __repr__(self) -> str:
        shown = self.table.drop(columns=["lower", "upper"]).round(4)
        return f"Pooled over {self.m} imputed data sets\n\n{shown.to_string()}"

    def _repr_html_(self) -> str:
        title = f"<h4>Pooled over {self.m} imputed data sets</h4>"
        return title + str(self.table.round(4).to_html())


def pool(results: Iterable[Pooling], *, ddf: Ddf | None = None, level: float = 0.95) -> Pooled:
    """Pool fits of one model to several imputed data sets.

    Parameters
    ----------
    results
        Two or more fits of the same formula, one for each imputed data set; a list, or a dict.
    ddf
        Degrees of freedom of each fit, as in ``coef_table``; by default those it was fitted with.
    level
        Coverage of the intervals.

    Returns
    -------
    Pooled
        ``table``, ``variances``, ``m``.

    Raises
    ------
    InterlaceError
        Fewer than two fits, or fits with different coefficients, families or links.

    Notes
    -----
    With ``W`` the mean of the squared standard errors and ``B`` the variance of the estimates
    between ``m`` imputations the pooled variance is ``T = W + (1 + 1/m) B`` [1]_.  Degrees of
    freedom are those for small samples [2]_, with the mean of the fits' own, ``nu``, as those of
    complete data: ``1 / (1 / nu_m + 1 / nu_obs)``, ``nu_m = (m - 1) / lambda^2``,
    ``nu_obs = nu (nu + 1) / (nu + 3) (1 - lambda)``, ``lambda = (1 + 1/m) B / T``.

    References
    ----------
    .. [1] Rubin (1987), Multiple Imputation for Nonresponse in Surveys.
    .. [2] Barnard and Rubin (1999), Biometrika 86, 948-955.

    Examples
    --------
    >>> import interlace
    >>> import numpy as np
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> rng = np.random.default_rng(1)
    >>> fits = []
    >>> for _ in range(5):
    ...     imputed = sleep.assign(Reaction=sleep["Reaction"] + rng.normal(0, 5, len(sleep)))
    ...     fits.append(interlace.fit("Reaction ~ Days + (Days | Subject)", imputed,
    ...                               ddf="satterthwaite"))
    >>> interlace.pool(fits).table[["estimate", "se", "df"]].round(1)
               estimate   se    df
    Intercept     251.3  6.8  15.2
    Days           10.4  1.5  15.3
    """
    check_level(level)
    fits = list(results.values()) if isinstance(results, Mapping) else list(results)
    _check(fits)
    tables = [fit.coef_table(ddf) for fit in fits]
    estimates = np.array([t["estimate"] for t in tables])
    squared = np.array([t["se"] for t in tables]) ** 2
    df = np.array([t["df"] for t in tables])
    found = pooled(estimates, squared, df)
    half = reach(level, found["df"]) * found["se"]
    statistic = found["estimate"] / found["se"]
    columns = {
        "estimate": found["estimate"],
        "se": found["se"],
        "df": found["df"],
        "statistic": statistic,
        "p": two_sided(statistic, found["df"]),
        "lower": found["estimate"] - half,
        "upper": found["estimate"] + half,
        "riv": found["riv"],
        "fmi": found["fmi"],
    }
    return Pooled(pd.DataFrame(columns, index=tables[0].index), _variances(fits), len(fits))


def pooled(estimates: Floats, variances: Floats, df: Floats) -> dict[str, Floats]:
    """Rubin's rules for ``(m, p)`` estimates, their variances and degrees of freedom."""
    m = len(estimates)
    W, B = variances.mean(axis=0), estimates.var(axis=0, ddof=1)
    between = (1.0 + 1.0 / m) * B
    total = W + between
    lambda_ = between / total
    with np.errstate(divide="ignore", invalid="ignore"):
        nu_m = (m - 1) / lambda_**2
        nu = 1.0 / (1.0 / df).mean(axis=0)
        ratio = np.where(np.isinf(nu), 1.0, (nu + 1.0) / (nu + 3.0))
        nu_obs = nu * ratio * (1.0 - lambda_)
        joint = 1.0 / (1.0 / nu_m + 1.0 / nu_obs)
        riv = between / W
        fmi = np.where(np.isinf(joint), 0.0, (riv + 2.0 / (joint + 3.0)) / (riv + 1.0))
    return {
        "estimate": estimates.mean(axis=0),
        "se": np.sqrt(total),
        "df": np.asarray(joint),
        "riv": riv,
        "fmi": np.where(B > 0.0, fmi, 0.0),
    }


def _check(fits: list[Pooling]) -> None:
    for fit in fits:
        if not isinstance(fit, TestedModel | TestedStructuredModel | TestedGeneralModel):
            raise InterlaceError(f"pool takes fitted models, not {type(fit).__name__}")
        if type(fit) is not type(fits[0]) or _family(fit) != _family(fits[0]):
            raise InterlaceError("pool takes fits of one family and link")
    if len(fits) < 2:
        raise InterlaceError(
            f"pool needs two or more fits, one for each imputation, not {len(fits)}"
        )
    first = list(fits[0].fe_params.index)
    for i, fit in enumerate(fits[1:], start=2):
        if list(fit.fe_params.index) != first:
            raise InterlaceError(
                f"fit {i} has the coefficients {', '.join(fit.fe_params.index)}, the first "
                f"{', '.join(first)}: pool fits of one formula"
            )


def _family(fit: Pooling) -> object:
    """Family and link of a fit, where it has them."""
    return fit.family if isinstance(fit, TestedGeneralModel) else None


def _variances(fits: list[Pooling]) -> pd.Series:
    """Means of standard deviations, correlations and sigma, or what stands for that."""
    parts = []
    for fit in fits:
        if isinstance(fit, TestedGeneralModel):
            reader = GeneralParameters(fit)
            own = pd.Series(reader.values(fit.estimate), index=reader.names)
            parts.append(own.iloc[len(fit.fe_params) :])
            continue
        if isinstance(fit, TestedStructuredModel):
            names, numbers = covariance_names(fit), Numbers(fit.estimate)
            parts.append(pd.Series(numbers.all(fit.estimate.x)[0], index=names))
            continue
        A = fit.estimate.A
        values = variance_parameters(
            A.terms, [T[None] for T in fit.estimate.user_templates], np.array([fit.estimate.sigma])
        )[0]
        parts.append(pd.Series(values, index=variance_parameter_names(A.terms)))
    found: pd.Series = pd.concat(parts, axis=1).mean(axis=1).rename("estimate")
    return found
