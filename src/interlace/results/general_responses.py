"""Responses of a generalised model predicted, simulated, resampled, and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypedDict, TypeVar, Unpack, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace.choices import GeneralResidual, Interval, NewLevels, Predicted
from interlace.diagnostics.general import residuals
from interlace.inference.bootstrap.general import bootstrap_general
from interlace.inference.general import TestedGeneralModel
from interlace.model.drawn import simulate_general
from interlace.model.generalised import FittedGeneralModel, refitted, updated
from interlace.model.respond import predict_general

if TYPE_CHECKING:
    from interlace.inference.bootstrap.replicates import BootstrapResult


class OfRows(TypedDict, total=False):
    """Arguments of ``predict`` that do not change what comes back, for its overloads."""

    type: Literal["response", "link", "category", "zero-probability"]
    offset: ArrayLike | None
    exposure: ArrayLike | None
    trials: ArrayLike | None
    new_levels: NewLevels
    level: float


@dataclass(frozen=True, eq=False)
class GeneralResponses(TestedGeneralModel):
    """Responses predicted, simulated, resampled, and replaced; a chapter of a result."""

    @overload
    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        se: Literal[False] = False,
        interval: None = None,
        **arguments: Unpack[OfRows],
    ) -> NDArray[np.float64]: ...
    @overload
    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        se: Literal[True],
        interval: Interval | None = None,
        **arguments: Unpack[OfRows],
    ) -> pd.DataFrame: ...
    @overload
    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        se: bool = False,
        interval: Interval,
        **arguments: Unpack[OfRows],
    ) -> pd.DataFrame: ...
    @overload
    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        type: Literal["probability"],
        offset: ArrayLike | None = None,
        new_levels: NewLevels = "zero",
    ) -> pd.DataFrame: ...
    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        type: Predicted = "response",
        offset: ArrayLike | None = None,
        exposure: ArrayLike | None = None,
        trials: ArrayLike | None = None,
        new_levels: NewLevels = "zero",
        se: bool = False,
        interval: Interval | None = None,
        level: float = 0.95,
    ) -> NDArray[np.float64] | pd.DataFrame:
        """Expected response, or its linear predictor, and how well it is known.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.
        include_re
            ``True`` adds all random effects, ``False`` none, a name or names those of some
            grouping factors.  A level that is new, or missing, contributes 0.  ``"integrated"``
            averages the mean over the random effects, those of new groups.
        type
            ``"response"`` for means (proportions if binomial; with zeros in excess of all
            responses; of ordered categories of their scores), ``"link"`` for linear predictors,
            ``"probability"`` for those of every ordered category, a frame, ``"category"`` for the
            likeliest, ``"zero-probability"`` for the share that ``zero_inflation=`` models.
        offset, exposure, trials
            ``(m,)`` values of new rows in place of the columns that the fit named; needed if it was
            given arrays.  Trials matter for intervals of new observations only.
        new_levels
            ``"raise"`` refuses rows of a new or missing level.
        se
            Add the standard error; of means and probabilities by the delta method.
        interval
            ``"confidence"``: of the mean, normal on the scale of the link; the errors of all
            parameters and modes are counted together, a new level adds its variance.
            ``"prediction"``: of a new observation (a proportion if binomial): quantiles of its
            predictive distribution, in which random effects not included are drawn anew.
        level
            Coverage of the interval.

        Returns
        -------
        ndarray or DataFrame
            ``(m,)``; with ``se`` or ``interval`` a frame with the columns ``prediction, se`` and
            ``lower, upper``, of ``"probability"`` a row for every row and category.  NaN where a
            column of the fixed side or left of a bar is missing.

        Raises
        ------
        InterlaceError
            A column is absent from ``newdata``, a category was not seen in fitting, a level is new
            (``new_levels="raise"``), an unknown type or interval, a level outside (0, 1).

        Notes
        -----
        The mean given random effects of zero (``include_re=False``) is that of a typical group, not
        of the population, unless the link is the identity.

        The variance of a linear predictor is ``z'C z + J V J'``: ``C`` the conditional covariance
        of the random effects, ``V`` the covariance of all parameters, those of the variances too,
        and ``J`` the derivatives of the predictor at the modes in them (glmmTMB's).  A dispersion
        is taken as known by ``"prediction"``.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.predict({"period": ["1", "4"], "herd": ["1", "5"]}).round(4).tolist()
        [0.3082, 0.0404]
        >>> new = {"period": ["1", "4"], "herd": ["1", "new"], "size": [10, 10]}
        >>> result.predict(new, interval="prediction").round(3)
           prediction     se  lower  upper
        0       0.308  0.165    0.0    0.7
        1       0.048  0.088    0.0    0.3
        """
        return predict_general(
            self,
            newdata,
            include_re,
            type=type,
            offset=offset,
            exposure=exposure,
            trials=trials,
            new_levels=new_levels,
            se=se,
            interval=interval,
            level=level,
        )

    def residuals(
        self,
        type: GeneralResidual = "response",
        *,
        include_re: bool | None = None,
        nsim: int = 250,
        seed: int | np.random.Generator | None = 0,
    ) -> NDArray[np.float64]:
        """Residuals of the rows used, ``(nobs,)``, by six definitions.

        Parameters
        ----------
        type
            ``"response"``: :attr:`resid`, those of proportions if binomial.  ``"pearson"``: over
            the root of the variance function (a dispersion that multiplies it left out, as in R),
            times the root of the weights.  ``"deviance"``: signed roots of what each row adds to
            the deviance.  ``"working"``: over the derivative of the mean in the linear predictor.
            ``"quantile"``: normal if the model is right, given the random effects (Dunn and Smyth
            1996).  ``"simulated"``: uniform if the model is right, the rank of the response among
            simulated ones, ties at random (as in the package DHARMa).
        include_re
            For ``"simulated"``: ``True`` keeps the modes of the random effects, by default they are
            drawn anew.
        nsim
            For ``"simulated"``: how many responses.
        seed
            For ``"quantile"`` and ``"simulated"``, which are drawn.

        Raises
        ------
        InterlaceError
            An unknown type.

        Examples
        --------
        >>> import interlace
        >>> ticks = interlace.datasets.load("grouseticks")
        >>> result = interlace.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, family="poisson")
        >>> result.residuals("pearson")[:3].round(2).tolist()
        [-0.63, -0.63, -0.75]
        >>> bool(abs(result.residuals("quantile").mean()) < 0.2)
        True
        """
        return residuals(self, type, include_re=include_re, nsim=nsim, seed=seed)

    def simulate(
        self,
        nsim: int = 1,
        seed: int | np.random.Generator | None = None,
        include_re: bool = False,
    ) -> NDArray[np.float64]:
        """New responses drawn from the fitted model, ``(nobs, nsim)``; counts if binomial.

        Parameters
        ----------
        nsim
            Number of responses.
        seed
            Seed or generator.  A column depends on its number and the seed, not on ``nsim``.
        include_re
            ``False`` draws new random effects, ``True`` keeps the modes.

        Notes
        -----
        ``weights`` multiply the log-likelihood of a row, and say nothing of how it is drawn.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.simulate(3, seed=1).shape
        (56, 3)
        """
        return simulate_general(self, nsim, seed, include_re=include_re)

    def bootstrap(
        self,
        n: int = 1000,
        kind: Literal["parametric", "cases"] = "parametric",
        *,
        seed: int | None = None,
        statistic: Callable[[Self], object] | None = None,
        group: str | None = None,
        n_jobs: int = 1,
        progress: bool | None = None,
    ) -> BootstrapResult:
        """Bootstrap of the parameters, or of any statistic of the fit.

        Parameters
        ----------
        n
            Replicates, each fitted from the fit's optimum.
        kind
            ``"parametric"``: responses simulated from the fit with new random effects.
            ``"cases"``: levels of a grouping factor drawn with replacement together with their
            rows, for which the family need not be right.  There are no residuals to draw from.
        seed
            Replicates depend on it and on their number alone, whatever ``n`` and ``n_jobs``.
        statistic
            A function of a result that returns a number, an array or a Series; ``None`` for fixed
            effects, standard deviations, correlations, and the dispersion, size or precision.
        group
            What ``"cases"`` draws: a grouping factor (by default the first of the formula),
            ``"observation"`` for rows, or ``"all"`` for every factor independently; as in
            :meth:`interlace.CrossedLMEResult.bootstrap`.
        n_jobs
            Processes; -1 for as many as there are cores.
        progress
            As in :func:`interlace.fit`.

        Returns
        -------
        BootstrapResult
            ``replicates, estimate, se, bias, conf_int(level, method)``, and the numbers of
            replicates that failed (with their messages) or were singular.

        Raises
        ------
        InterlaceError
            A kind that needs residuals, or fewer than 2 replicates.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> boot = result.bootstrap(20, seed=1)
        >>> boot.replicates.shape, boot.n_failed
        ((20, 5), 0)
        """
        return bootstrap_general(
            self,
            n,
            kind,
            seed=seed,
            statistic=statistic,
            group=group,
            n_jobs=n_jobs,
            progress=progress,
        )

    def refit(self, y: ArrayLike) -> Self:
        """Fit the same model to another response ``y`` (nobs,) for the rows used.

        A Series is aligned by its index with the data that was fitted.  The search starts at this
        fit.  A binomial response holds counts or proportions, as in the fit.

        Raises
        ------
        InterlaceError
            ``y`` has another length, or values that the family cannot have.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> round(result.refit(cbpp["incidence"]).llf, 4)
        -92.0263
        """
        return as_result(type(self), refitted(self, y))

    def update(self, formula: str | None = None, data: object = None, **changes: object) -> Self:
        """Fit again with another formula, other data, or other arguments of :func:`interlace.fit`.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> round(result.update(link="probit").llf, 2)
        -92.58
        """
        return as_result(type(self), updated(self, formula, data, changes))


R = TypeVar("R", bound=FittedGeneralModel)


def as_result(kind: type[R], model: FittedGeneralModel) -> R:
    """The same fit as an object that has all verbs."""
    return kind(model.formula, model.design, model.estimate, model.options, model.held)
