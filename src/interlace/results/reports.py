"""Tables and figures of a fitted model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace import reporting
from interlace.choices import Ddf, Effects
from interlace.errors import warn
from interlace.estimation.estimate import Estimate
from interlace.inference.tested import Coefficients, TestedModel
from interlace.model.fitted import E
from interlace.results.checked import Checked

if TYPE_CHECKING:
    from interlace.plots.style import Figure
    from interlace.reporting.brief import ForMakeTables
    from interlace.reporting.marginal import MarginalModel
    from interlace.reporting.summary import Summary


@dataclass(frozen=True, eq=False)
class Tables(Coefficients[E]):
    """Tidy tables of a fitted model of any family; a chapter of a result."""

    def tidy(
        self,
        effects: Effects | Iterable[Effects] = "fixed",
        *,
        ddf: Ddf | None = None,
        conf_int: bool = False,
        conf_level: float = 0.95,
        exponentiate: bool = False,
    ) -> pd.DataFrame:
        """Estimates as a frame with broom.mixed's columns.

        Parameters
        ----------
        effects
            ``"fixed"``, ``"ran_pars"`` (standard deviations and correlations), ``"ran_vals"``
            (BLUPs by level), or ``"all"``.
        ddf
            Tests of the fixed effects, as in :meth:`coef_table`.
        conf_int, conf_level
            Add ``conf.low`` and ``conf.high``.
        exponentiate
            Exponentials of coefficients and limits: odds ratios with a logit link, rate ratios with
            a log link; errors by the delta method.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.tidy("ran_pars")[["group", "term", "estimate"]].round(3)
              group                 term  estimate
        0   Subject        sd__Intercept    24.740
        1   Subject  cor__Intercept.Days     0.066
        2   Subject             sd__Days     5.922
        3  Residual      sd__Observation    25.592
        """
        return reporting.tidy(
            self,
            effects,
            ddf=ddf,
            conf_int=conf_int,
            conf_level=conf_level,
            exponentiate=exponentiate,
        )

    def glance(self) -> pd.DataFrame:
        """One row that describes the fit, with broom.mixed's columns.

        ``nobs, sigma, logLik, AIC, BIC``, ``REMLcrit`` or ``deviance``, and ``df.residual``; of a
        generalised model also ``family``, ``link`` and the dispersion, size or precision.
        """
        return reporting.glance(self)

    def augment(self, newdata: object = None) -> Any:
        """The data with fitted values, residuals and leverages, with broom.mixed's columns.

        Parameters
        ----------
        newdata
            Rows to predict instead; they come back with ``.fitted`` and ``.fixed``.

        Returns
        -------
        frame
            Of the kind that was fitted (after a fit by the iterative solver for ``newdata`` only,
            as it has no leverages): the columns used, then ``.fitted, .resid, .hat, .cooksd,
            .fixed, .mu, .offset, .sqrtXwt, .sqrtrwt, .weights, .wtres``.  ``.cooksd`` is lme4's, a
            function of residual and hat value.  Of a generalised model fitted values and residuals
            are means, and ``.eta, .pearson, .deviance`` stand for what has weights.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> result.augment()[["Subject", ".fitted", ".hat"]].head(2).round(2)
          Subject  .fitted  .hat
        0     308   292.19  0.11
        1     308   302.66  0.10
        """
        return reporting.augment(self, newdata)


@dataclass(frozen=True, eq=False)
class Reports(Tables[Estimate], Checked[Estimate], TestedModel):
    """Tables and figures of a fitted linear model; a chapter of a result."""

    def summary(self, *, ddf: Ddf | None = None) -> Summary:
        """Tables of the fit; prints as text of 80 columns, shows as HTML in notebooks.

        ``ddf`` are degrees of freedom of the tests other than those of the fit.
        """
        return reporting.summarize(self, ddf)

    def report(self, *, ddf: Ddf | None = None, level: float = 0.95) -> str:
        """A paragraph for the methods and results of a paper, numbers computed.

        What was fitted to how many observations and groups, how it was tested, what is explained,
        every coefficient but the intercept with its interval and test, and standard deviations.

        Parameters
        ----------
        ddf, level
            Of the tests and intervals, as in :meth:`coef_table`.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep,
        ...                        ddf="satterthwaite")
        >>> print(result.report().split(". ")[-2])
        The estimate for Days was significantly different from 0, b = 10.47, 95 % CI [7.21, 13.73],
        t(17) = 6.77, p < .001
        """
        return reporting.report(self, ddf=ddf, level=level)

    def __str__(self) -> str:
        """A short table."""
        return reporting.short(self)

    def maketables(self) -> ForMakeTables:
        """This result for tables of the package maketables, which write Word files, too.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.maketables().__maketables_coef_table__["b"].round(2).tail(2)
        Coefficient
        sd_Days|Subject     5.92
        sigma              25.59
        Name: b, dtype: float64

        ``maketables.ETable([one.maketables(), other.maketables()])`` has the random part, numbers
        of groups and R2 below the coefficients.
        """
        return reporting.ForMakeTables(self)

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        """Coefficients as the package maketables reads them, then standard deviations."""
        return reporting.maketables_coefficients(self)

    def __maketables_stat__(self, key: str) -> float | int | str | None:
        """A statistic by the name that maketables gives it."""
        return reporting.maketables_statistic(self, key)

    @property
    def __maketables_depvar__(self) -> str:
        """The response, for maketables."""
        return self.formula.response

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return self.summary()._repr_html_()

    def plot(self, *, level: float = 0.95) -> Figure:
        """The four pictures a reviewer wants to see.

        Residuals against fitted values, their quantiles with an envelope, their spread, and the
        random effects with intervals of the given level; see :mod:`interlace.plots` for more.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> figure = interlace.fit("Reaction ~ Days", sleep, groups="Subject").plot()
        """
        from interlace.plots import plot

        return plot(self, level=level)

    def marginal(
        self,
        *,
        vcov: NDArray[np.float64] | None = None,
        df: float | None = None,
        include_re: bool | str | Iterable[str] = False,
    ) -> MarginalModel:
        """This model for the functions of the package marginaleffects.

        Parameters
        ----------
        vcov, df
            Covariance ``(p, p)`` and degrees of freedom of the fixed effects, such as
            ``cov_params(robust="CR2")``; by default those of the fit's ``ddf``.  The package takes
            one number of degrees of freedom for all: the smallest of the coefficients, with a
            warning if they differ.  :meth:`emmeans` has one for each mean and contrast.
        include_re
            Random effects that enter predictions, as in :meth:`predict`.

        Raises
        ------
        ImportError
            marginaleffects is not installed.

        Examples
        --------
        >>> import interlace, marginaleffects
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> slope = marginaleffects.avg_slopes(result.marginal(), variables="Days")
        >>> round(slope["estimate"].item(), 2), round(slope["std_error"].item(), 2)
        (10.47, 1.55)
        """
        from interlace.reporting.marginal import model

        if vcov is None:
            vcov, df = self.cov_params().to_numpy(), _one_df(self.fe_df) if df is None else df
        return model(self, vcov=vcov, df=df, include_re=include_re)


def _one_df(found: pd.Series) -> float:
    """One number of degrees of freedom for all tests: the smallest, said if others are larger."""
    least, most = float(found.min()), float(found.max())
    if most > 1.01 * least:
        warn(
            f"marginaleffects takes one number of degrees of freedom: {least:.3g} are used, the "
            f"smallest of the coefficients, which have up to {most:.3g}; emmeans() and its "
            "contrasts() have one for each (df= sets another here)",
            UserWarning,
        )
    return least
