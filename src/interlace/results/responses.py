"""Responses predicted, simulated, resampled, and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypedDict, Unpack, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace import inference
from interlace.choices import BootstrapKind, Interval, NewLevels, Resampled, Summarised
from interlace.design.recipe import require_rows
from interlace.hints import hinted
from interlace.inference.tested import TestedModel
from interlace.model import fitting
from interlace.model.fitted import as_kind
from interlace.model.predict import predict
from interlace.model.simulate import simulate

if TYPE_CHECKING:
    from interlace.inference.bootstrap.replicates import BootstrapResult


class OfRows(TypedDict, total=False):
    """Arguments of ``predict`` that do not change what comes back, for its overloads."""

    offset: ArrayLike | None
    new_levels: NewLevels
    level: float


@dataclass(frozen=True, eq=False)
class Responses(TestedModel):
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
    @hinted
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
    ) -> NDArray[np.float64] | pd.DataFrame:
        """Expected response, with or without the random effects, and how well it is known.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.  Stored encodings are
            replayed: the same factor levels, the same centring.  Grouping columns are only needed
            for the random effects asked for.
        include_re
            ``True`` adds all random effects, ``False`` none, a name or names those of some
            grouping factors.  A level that is new, or missing, contributes 0.
        offset
            ``(m,)`` values, if the model was fitted with an array as offset.
        new_levels
            ``"zero"``: rows of a new or missing level get no random effect of it, with a warning if
            no level of a grouping column is known.  ``"raise"`` refuses them.
        se
            Add the standard error; after a fit by the iterative solver only without random effects,
            and so are intervals.
        interval
            ``"confidence"``: of the expected response; the errors of coefficients and BLUPs are
            counted together, a new level adds its variance.  ``"prediction"``: of a new
            observation; adds the residual variance and that of the random effects not included.
        level
            Coverage of the interval.

        Returns
        -------
        ndarray or DataFrame
            ``(m,)``; with ``se`` or ``interval`` a frame with the columns ``prediction, se`` and
            ``lower, upper``.  NaN where a column of the fixed side or left of a bar is missing.

        Raises
        ------
        InterlaceError
            A column is absent from ``newdata``, a category was not seen in fitting, a level is new
            (``new_levels="raise"``), an unknown interval, or a level outside (0, 1).

        Notes
        -----
        The formulas are in :func:`interlace.model.predict.predict`.  Quantiles are normal, or, for
        confidence intervals without random effects, t with the degrees of freedom of the fit's
        ``ddf``.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> result.predict({"Days": [0, 9], "Subject": ["308", "new"]}).round(1).tolist()
        [292.2, 345.6]
        >>> result.predict({"Days": [9]}, include_re=False, interval="prediction").round(1)
           prediction    se  lower  upper
        0       345.6  49.3  248.9  442.3
        """
        return predict(
            self.design,
            self.estimate,
            newdata,
            include_re,
            offset=offset,
            new_levels=new_levels,
            se=se,
            interval=interval,
            level=level,
            reference=None if self.options.ddf == "normal" else self._reference(None),
        )

    @hinted
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
            ``False`` draws new random effects, ``True`` keeps the BLUPs.

        Notes
        -----
        ``X beta + Z b + e`` with the estimated parameters; residual variance ``scale / weights``.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> result.simulate(3, seed=1).shape
        (180, 3)
        """
        return simulate(self.design, self.estimate, nsim, seed, include_re=include_re)

    def bootstrap_se(
        self,
        statistic: Summarised | Callable[[NDArray[np.float64]], float] = "median",
        n_bootstrap: int = 500,
        resample_level: Resampled = "group",
        *,
        group: str | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> float:
        """Bootstrap standard error of a statistic of the response.

        Parameters
        ----------
        statistic
            ``"median"``, ``"mean"``, ``"std"``, or a function of the response.
        n_bootstrap
            Bootstrap samples.
        resample_level
            ``"group"`` draws whole groups, which keeps the correlation within them;
            ``"observation"`` draws rows.
        group
            Grouping factor to draw; by default the first of the formula.  ``"all"`` draws the
            levels of every factor independently (the pigeonhole bootstrap for crossed designs,
            Owen 2007, Annals of Applied Statistics 1, 386-411).
        seed
            Seed or generator.

        Raises
        ------
        InterlaceError
            An unknown statistic, level or grouping factor.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> result.bootstrap_se("mean", seed=1) > result.bootstrap_se(
        ...     "mean", resample_level="observation", seed=1
        ... )
        True
        """
        design = require_rows(self.design, "bootstrap_se")
        self.estimate.require_near("bootstrap_se()")
        return inference.bootstrap.statistic.bootstrap_se(
            design.y,
            {key: design.codes[members[0]] for key, members in self._keys.items()},
            statistic=statistic,
            n_bootstrap=n_bootstrap,
            resample_level=resample_level,
            group=group,
            seed=seed,
        )

    @hinted
    def bootstrap(
        self,
        n: int = 1000,
        kind: BootstrapKind = "parametric",
        *,
        seed: int | None = None,
        statistic: Callable[[Self], object] | None = None,
        group: str | None = None,
        n_jobs: int = 1,
        progress: bool | None = None,
    ) -> BootstrapResult:
        """Bootstrap of the parameters, or of any statistic of the fit: every replicate is refitted.

        Parameters
        ----------
        n
            Replicates.
        kind
            ``"parametric"``: responses simulated from the fit.  ``"residual"``: random effects and
            residuals, rescaled to the estimated variances, drawn with replacement.  ``"wild"``:
            residuals times random multipliers.  ``"cases"``: whole groups drawn with their rows.
        seed
            Replicates depend on it and on their number alone, whatever ``n`` and ``n_jobs``.
        statistic
            A function of a result that returns a number, an array or a Series; ``None`` for fixed
            effects, standard deviations, correlations and ``sigma``, which is much quicker.
        group
            What ``"cases"`` draws: a grouping factor, ``"observation"``, or, for crossed factors,
            ``"all"`` (pigeonhole).
        n_jobs
            Processes; -1 for as many as there are cores.
        progress
            ``True`` shows a bar, ``False`` never does, ``None`` does when it takes long and
            standard error is a terminal.

        Returns
        -------
        BootstrapResult
            ``replicates, estimate, se, bias, conf_int(level, method)``, and the numbers of
            replicates that failed (with their messages) or were singular.

        Raises
        ------
        InterlaceError
            An unknown kind or group, or fewer than 2 replicates.

        Notes
        -----
        Sources and details are in :func:`interlace.inference.bootstrap.resample.bootstrap`.
        Replicates are fitted by the solver of the fit, with the same probes if it was the
        iterative one.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> boot = result.bootstrap(200, seed=1)
        >>> boot.replicates.shape, boot.n_failed
        ((200, 6), 0)
        """
        return inference.bootstrap.resample.bootstrap(
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

        A Series is aligned by its index with the data that was fitted, and may have more rows.

        With the arguments of this fit: solver, ``mc_tolerance`` and ``seed`` too.

        Raises
        ------
        InterlaceError
            ``y`` has another length, or is constant, missing or infinite somewhere.
        """
        return as_kind(type(self), fitting.refit(self, y))

    def update(self, formula: str | None = None, data: object = None, **changes: object) -> Self:
        """Fit again with another formula, other data, or other arguments of :func:`interlace.fit`.

        A dot in the formula stands for what that side was: ``update(". ~ . - x + (1 | h)")``.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> round(result.update(method="ML").criterion, 3)
        1794.079
        """
        return as_kind(type(self), fitting.update(self, formula, data, changes))
