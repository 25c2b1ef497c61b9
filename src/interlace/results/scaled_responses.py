"""Responses of a model with a variance function predicted, simulated, resampled, and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypedDict, TypeVar, Unpack, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace import inference
from interlace.choices import Ddf, Interval, NewLevels
from interlace.inference.scaled_tests import TestedScaledModel
from interlace.model.scaled import FittedScaledModel, fit_scaled, updated
from interlace.model.scaled_rows import predict_scaled, refitted_scaled
from interlace.model.simulate import simulate

if TYPE_CHECKING:
    from interlace.inference.bootstrap.replicates import BootstrapResult
    from interlace.inference.profiles.curves import Profile


class OfRows(TypedDict, total=False):
    """Arguments of ``predict`` that do not change what comes back, for its overloads."""

    offset: ArrayLike | None
    new_levels: NewLevels
    level: float
    ddf: Ddf | None


@dataclass(frozen=True, eq=False)
class ScaledResponses(TestedScaledModel):
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
    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        offset: ArrayLike | None = None,
        new_levels: NewLevels = "zero",
        se: bool = False,
        interval: Interval | None = None,
        level: float = 0.95,
        ddf: Ddf | None = None,
    ) -> NDArray[np.float64] | pd.DataFrame:
        """Expected response, with or without the random effects, and how well it is known.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.  Columns of the variance
            function are needed for ``interval="prediction"`` alone.
        include_re
            Whether to add random effects: all, none, or those of the factors named.
        offset
            ``(m,)`` values, if the model was fitted with an array as offset.
        new_levels
            ``"zero"``: rows of a new or missing level get no random effect of it.  ``"raise"``
            refuses them.
        se
            Whether to give standard errors.
        interval
            ``"confidence"``: of the expected response.  ``"prediction"``: of a new observation,
            with the residual variance of its stratum or covariate.
        level
            Probability of the interval.
        ddf
            As in :meth:`coef_table`, for confidence intervals without random effects; other
            quantiles are normal.

        Returns
        -------
        ndarray or DataFrame
            ``(m,)`` predictions; with ``se`` or ``interval`` a frame with ``prediction, se`` and,
            for an interval, ``lower, upper``.

        Raises
        ------
        InterlaceError
            A new observation is of a stratum that the fit does not know; an unknown interval.

        Notes
        -----
        As :meth:`interlace.CrossedLMEResult.predict` of the model whose weights are one over the
        estimated variances, which are taken as known.

        Examples
        --------
        >>> import interlace
        >>> penicillin = interlace.datasets.load("penicillin")
        >>> early = penicillin.assign(half=penicillin["plate"].isin(list("abcdefghijkl")))
        >>> result = interlace.fit(
        ...     "diameter ~ 1 + (1 | plate) + (1 | sample)", early, residual="varident(half)"
        ... )
        >>> new = {"plate": ["a", "a"], "sample": ["A", "A"], "half": [True, False]}
        >>> result.predict(new, interval="prediction").round(2)
           prediction    se  lower  upper
        0       25.96  0.62  24.75  27.17
        1       25.96  0.59  24.81  27.11
        """
        return predict_scaled(
            self,
            newdata,
            include_re,
            offset=offset,
            new_levels=new_levels,
            se=se,
            interval=interval,
            level=level,
            reference=self._reference(ddf),
        )

    def simulate(
        self,
        nsim: int = 1,
        seed: int | np.random.Generator | None = None,
        include_re: bool = False,
    ) -> NDArray[np.float64]:
        """New responses drawn from the fitted model, ``(nobs, nsim)``.

        Parameters
        ----------
        nsim
            Number of responses.
        seed
            Seed or generator.  A column depends on its number and the seed, not on ``nsim``.
        include_re
            ``False`` draws new random effects, ``True`` keeps their modes.

        Examples
        --------
        >>> import interlace
        >>> cake = interlace.datasets.load("cake")
        >>> formula = "angle ~ recipe + (1 | replicate) + (1 | temperature)"
        >>> result = interlace.fit(formula, cake, residual="varident(recipe)")
        >>> result.simulate(3, seed=1).shape
        (270, 3)
        """
        weighted = self.weighted
        return simulate(weighted.design, weighted.estimate, nsim, seed, include_re=include_re)

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
        """Bootstrap of the parameters, or of any statistic of the fit; variances are fitted anew.

        Parameters
        ----------
        n
            Replicates.
        kind
            ``"parametric"``: responses simulated from the fit.  ``"cases"``: levels of a grouping
            factor drawn with their rows, which keep their strata.
        seed
            Replicates depend on it and on their number alone, whatever ``n`` and ``n_jobs``.
        statistic
            A function of a result that returns a number, an array or a Series; ``None`` for fixed
            effects and the parameters of random effects and residuals.
        group
            What ``"cases"`` draws, as in :meth:`interlace.CrossedLMEResult.bootstrap`.
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
            Another kind, or fewer than 2 replicates.

        Examples
        --------
        >>> import interlace
        >>> cake = interlace.datasets.load("cake")
        >>> formula = "angle ~ 1 + (1 | replicate) + (1 | temperature)"
        >>> result = interlace.fit(formula, cake, residual="varident(recipe)")
        >>> boot = result.bootstrap(20, seed=1)
        >>> list(boot.replicates.columns[-3:]), boot.n_failed
        (['sd', 'ratio_B', 'ratio_C'], 0)
        """
        return inference.bootstrap.scaled.bootstrap_scaled(
            self,
            n,
            kind,
            seed=seed,
            statistic=statistic,
            group=group,
            n_jobs=n_jobs,
            progress=progress,
        )

    def profile(
        self,
        parm: str | Sequence[str] | None = None,
        *,
        level: float = 0.99,
        progress: bool | None = None,
    ) -> Profile:
        """Profile likelihood: the deviance with one parameter held, all others estimated anew.

        Parameters
        ----------
        parm
            A name or several; ``"beta_"`` for all fixed effects, ``"theta_"`` for all parameters of
            random effects and residuals; ``None`` for all.
        level
            How far out.
        progress
            As in :func:`interlace.fit`.

        Returns
        -------
        Profile
            ``conf_int(level)``, ``table``, and what :func:`interlace.plot_profile` draws.

        Raises
        ------
        InterlaceError
            An unknown name, a standard deviation that is estimated as zero, or a correlation at its
            bound.

        Notes
        -----
        Always of the likelihood (ML), as for other linear models.

        Examples
        --------
        >>> import interlace
        >>> cake = interlace.datasets.load("cake")
        >>> formula = "angle ~ recipe + (1 | replicate) + (1 | temperature)"
        >>> result = interlace.fit(formula, cake, residual="varident(recipe)")
        >>> result.profile("ratio_B").conf_int().round(2)
                 0.025  0.975
        ratio_B   0.67   1.06
        """
        return inference.profiles.scaled.profile_scaled(
            self, parm=parm, level=level, progress=progress
        )

    def refit(self, y: ArrayLike) -> Self:
        """Fit the same model to another response ``y`` (nobs,) for the rows used.

        A Series is aligned by its index with the data that was fitted, and may have more rows.

        Raises
        ------
        InterlaceError
            ``y`` has another length, or is constant, missing or infinite somewhere.

        Examples
        --------
        >>> import interlace
        >>> cake = interlace.datasets.load("cake")
        >>> formula = "angle ~ 1 + (1 | replicate) + (1 | temperature)"
        >>> result = interlace.fit(formula, cake, residual="varident(recipe)")
        >>> twice = result.refit(2 * cake["angle"])
        >>> round(float(twice.fe_params["Intercept"] / result.fe_params["Intercept"]), 6)
        2.0
        """
        return as_result(type(self), refitted_scaled(self, y))

    def update(self, formula: str | None = None, data: object = None, **changes: object) -> Self:
        """Fit again with some options changed, such as ``residual=`` or ``method=``.

        Parameters
        ----------
        formula
            Another formula; a dot stands for what a side was.
        data
            Another frame.
        **changes
            Arguments of :func:`interlace.fit`.
        """
        return as_result(type(self), fit_scaled(*updated(self, formula, data, changes)))


R = TypeVar("R", bound=FittedScaledModel)


def as_result(kind: type[R], model: FittedScaledModel) -> R:
    """The same fit as an object that has all verbs."""
    return kind(
        model.formula,
        model.design,
        model.estimate,
        model.options,
        model.held,
        model.residual,
        model.ratios,
        model.units,
        model.strata,
    )
