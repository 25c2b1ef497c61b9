"""Responses of a model with a residual structure predicted, simulated, resampled, and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypedDict, TypeVar, Unpack, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace import inference
from interlace.choices import Ddf, Interval
from interlace.inference.correlated import TestedStructuredModel
from interlace.model.given import predict_structured
from interlace.model.structured import FittedStructuredModel, updated
from interlace.model.subjects import refitted, simulate_structured

if TYPE_CHECKING:
    from interlace.inference.bootstrap.replicates import BootstrapResult
    from interlace.inference.profiles.curves import Profile


class OfRows(TypedDict, total=False):
    """Arguments of ``predict`` that do not change what comes back, for its overloads."""

    conditional: bool
    offset: ArrayLike | None
    level: float
    ddf: Ddf | None


@dataclass(frozen=True, eq=False)
class StructuredResponses(TestedStructuredModel):
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
        conditional: bool = False,
        offset: ArrayLike | None = None,
        se: bool = False,
        interval: Interval | None = None,
        level: float = 0.95,
        ddf: Ddf | None = None,
    ) -> NDArray[np.float64] | pd.DataFrame:
        """Expected response, and how well it is known.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.
        include_re
            Whether to add the random effects of the subject, where the model has such.
        conditional
            Whether to use what the subject's other visits tell: the expected response given the
            rows of the subject in the fit, without the one at the same visit.  Random effects are
            part of it.  Subjects that the fit does not know get the expected response.
        offset
            ``(m,)`` values, if the model was fitted with an array as offset.
        se
            Whether to give standard errors.
        interval
            ``"confidence"``: of the expected response, given the other visits if ``conditional``.
            ``"prediction"``: of a new observation of a new subject, or, if ``conditional``, of this
            visit of this subject.
        level
            Probability of the interval.
        ddf
            As in :meth:`coef_table`, for confidence intervals of the fixed part; other quantiles
            are normal.

        Returns
        -------
        ndarray or DataFrame
            ``(m,)`` predictions; with ``se`` or ``interval`` a frame with ``prediction, se`` and,
            for an interval, ``lower, upper``.

        Raises
        ------
        InterlaceError
            A visit or a group without a covariance in the fit; an unknown interval.

        Notes
        -----
        With ``Sigma`` the covariance of the other rows, ``r`` their residuals, and ``k`` and ``v``
        the covariances of the new row with them and with itself: ``x'beta + t'r`` with ``t =
        Sigma^-1 k``; variance ``(x - X't)' C (x - X't)``, for new observations plus ``v - k't``.
        Parameters of the covariance are taken as known.

        Examples
        --------
        >>> import interlace
        >>> orthodont = interlace.datasets.load("orthodont")
        >>> result = interlace.fit(
        ...     "distance ~ Sex * age", orthodont, residual="us(age | Subject)"
        ... )
        >>> new = {"Sex": ["Male"], "age": [14], "Subject": ["M01"]}
        >>> result.predict(new, interval="prediction").round(1)
           prediction   se  lower  upper
        0        27.4  2.3   22.9   31.9
        >>> result.predict(new, conditional=True, interval="prediction").round(1)
           prediction   se  lower  upper
        0        29.1  1.3   26.6   31.6
        """
        return predict_structured(
            self,
            newdata,
            include_re,
            conditional=conditional,
            offset=offset,
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
        >>> orthodont = interlace.datasets.load("orthodont")
        >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
        >>> result.simulate(3, seed=1).shape
        (108, 3)
        """
        return simulate_structured(self, nsim, seed, include_re=include_re)

    def bootstrap(
        self,
        n: int = 1000,
        kind: Literal["parametric"] = "parametric",
        *,
        seed: int | None = None,
        statistic: Callable[[Self], object] | None = None,
        n_jobs: int = 1,
        progress: bool | None = None,
    ) -> BootstrapResult:
        """Parametric bootstrap of the parameters, or of any statistic of the fit.

        Parameters
        ----------
        n
            Replicates: responses simulated from the fit, each fitted with the same structure.
        kind
            ``"parametric"``.
        seed
            Replicates depend on it and on their number alone, whatever ``n`` and ``n_jobs``.
        statistic
            A function of a result that returns a number, an array or a Series; ``None`` for fixed
            effects and the parameters of random effects and residuals.
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
        >>> orthodont = interlace.datasets.load("orthodont")
        >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
        >>> boot = result.bootstrap(20, seed=1)
        >>> list(boot.replicates.columns), boot.n_failed
        (['Intercept', 'age', 'sd', 'rho'], 0)
        """
        return inference.bootstrap.structured.bootstrap_structured(
            self, n, kind, seed=seed, statistic=statistic, n_jobs=n_jobs, progress=progress
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
            An unknown name, or a standard deviation that is estimated as zero.

        Notes
        -----
        Always of the likelihood (ML), as for other linear models.

        Examples
        --------
        >>> import interlace
        >>> orthodont = interlace.datasets.load("orthodont")
        >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
        >>> result.profile("rho").conf_int().round(2)
             0.025  0.975
        rho   0.55   0.81
        """
        return inference.profiles.structured.profile_structured(
            self, self.parameter_names, parm=parm, level=level, progress=progress
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
        >>> orthodont = interlace.datasets.load("orthodont")
        >>> result = interlace.fit("distance ~ age", orthodont, residual="ar1(age | Subject)")
        >>> float(result.refit(2 * orthodont["distance"]).fe_params["age"].round(3))
        1.305
        """
        return as_result(type(self), refitted(self, y))

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
        return as_result(type(self), updated(self, formula, data, changes))


R = TypeVar("R", bound=FittedStructuredModel)


def as_result(kind: type[R], model: FittedStructuredModel) -> R:
    """The same fit as an object that has all verbs."""
    return kind(
        model.formula,
        model.design,
        model.estimate,
        model.options,
        model.held,
        model.residual,
        model.grid,
    )
