"""Tests of a fitted model and what it explains, one verb a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from interlace.model.fitted import FittedModel

if TYPE_CHECKING:
    from interlace.inference.hypotheses import Hypothesis
    from interlace.inference.profiles.profile import Profile
    from interlace.inference.tables import WaldTest
    from interlace.inference.wald import Reference
    from interlace.reporting import ICC, R2, SingularReport


@dataclass(frozen=True, eq=False)
class InferredModel(FittedModel):
    """Estimates with their tests; a part of :class:`interlace.CrossedLMEResult`."""

    # -------------------------------------------------------------- tests of the fixed effects

    @cached_property
    def _references(self) -> dict[str, Reference]:
        """References asked for so far: they are functions of the fit, and some take a while."""
        return {}

    def _reference(self, ddf: str | None) -> Reference:
        """What the fixed effects are compared with, by default as the fit was asked."""
        from interlace.inference.tables import reference

        name = self.options.ddf if ddf is None else ddf
        if name not in self._references:
            self._references[name] = reference(self.estimate, name)
        return self._references[name]

    @cached_property
    def _coefficients(self) -> pd.DataFrame:
        return self.coef_table()

    @property
    def fe_bse(self) -> pd.Series:
        """Standard errors of the coefficients, by Kenward and Roger's covariance if asked."""
        return self._coefficients["se"]

    @property
    def fe_df(self) -> pd.Series:
        """Denominator degrees of freedom; infinite for ``ddf="normal"``."""
        return self._coefficients["df"]

    @property
    def fe_tvalues(self) -> pd.Series:
        """Coefficients over standard errors."""
        return self._coefficients["statistic"].rename("t")

    @property
    def fe_pvalues(self) -> pd.Series:
        """Two-sided p-values."""
        return self._coefficients["p"]

    @property
    def params(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_params`."""
        return self.fe_params

    @property
    def bse(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_bse`."""
        return self.fe_bse

    @property
    def tvalues(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_tvalues`."""
        return self.fe_tvalues

    @property
    def pvalues(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_pvalues`."""
        return self.fe_pvalues

    def cov_params(self, *, ddf: str | None = None) -> pd.DataFrame:
        """Covariance of the coefficients that tests use, ``(p, p)``.

        :attr:`fe_cov`, or Kenward and Roger's adjusted covariance for ``ddf="kenward-roger"``.
        """
        names = list(self.estimate.A.names)
        return pd.DataFrame(self._reference(ddf).vcov, index=names, columns=names)

    def coef_table(self, ddf: str | None = None, level: float = 0.95) -> pd.DataFrame:
        """Estimates, standard errors, tests and Wald intervals of the fixed effects.

        Parameters
        ----------
        ddf
            ``"normal"``, ``"satterthwaite"`` or ``"kenward-roger"`` (REML only); ``None`` takes
            that of the fit.  After a fit by the iterative solver there is only ``"normal"``.
        level
            Coverage of the intervals.

        Returns
        -------
        DataFrame
            By coefficient: ``estimate, se, df, statistic, p, lower, upper``.  The statistic is t,
            or z where ``df`` is infinite.

        Raises
        ------
        InterlaceError
            An unknown ``ddf``, Kenward-Roger after ML, or a level outside (0, 1).

        Notes
        -----
        Satterthwaite: ``df = 2 v^2 / (g' A g)`` with ``v`` the variance of the estimate, ``g`` its
        gradient in the variance parameters and ``A`` their asymptotic covariance (Giesbrecht and
        Burns 1985, Biometrics 41, 477-486).  Kenward-Roger: Kenward and Roger (1997, Biometrics
        53, 983-997), which also enlarges the standard errors.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.coef_table("kenward-roger")[["estimate", "se", "df"]].round(2)
                   estimate    se    df
        Intercept    251.41  6.82  17.0
        Days          10.47  1.55  17.0
        """
        from interlace.inference.tables import coefficient_table

        return coefficient_table(self.estimate, self._reference(ddf), level=level)

    def wald_test(
        self, hypothesis: Hypothesis, *, ddf: str | None = None, level: float = 0.95
    ) -> WaldTest:
        """Joint test of linear hypotheses on the fixed effects.

        Parameters
        ----------
        hypothesis
            Equations in the coefficients (``"Days = 10"``, ``["a = b", "2*a - c = 1"]``), a dict of
            weights by coefficient, or an array or frame ``(q, p)`` whose rows are set to 0.
        ddf, level
            As in :meth:`coef_table`.

        Returns
        -------
        WaldTest
            ``statistic, num_df, den_df, p_value`` of the joint test, and a ``table`` of the single
            functions with their intervals.

        Raises
        ------
        InterlaceError
            An unknown coefficient, an equation that is not linear, redundant rows.

        Notes
        -----
        ``F = (L b - c)' (L V L')^-1 (L b - c) / q``.  Its denominator degrees of freedom are Fai
        and Cornelius' (1996, Journal of Statistical Computation and Simulation 54, 363-378) for
        Satterthwaite; Kenward and Roger also scale F.

        Examples
        --------
        >>> import interlace
        >>> machines = interlace.datasets.load("machines")
        >>> result = interlace.fit("score ~ Machine + (1 | Worker)", machines, ddf="satterthwaite")
        >>> test = result.wald_test("Machine[T.B] = Machine[T.C]")
        >>> round(test.statistic, 2), test.num_df, round(test.den_df, 1)
        (31.87, 1, 46.0)
        """
        from interlace.inference.tables import wald_test

        return wald_test(self.estimate, self._reference(ddf), hypothesis, level=level)

    def anova(self, type: int | str = 3, ddf: str | None = None) -> pd.DataFrame:
        """F test of every fixed term.

        Parameters
        ----------
        type
            1: each term after those before it in the formula.  2: each after all that do not
            contain it.  3: of hypotheses that respect marginality and do not depend on the
            contrasts of the factors (SAS's, as in lmerTest).
        ddf
            As in :meth:`coef_table`.

        Returns
        -------
        DataFrame
            By term: ``sum_sq, mean_sq, num_df, den_df, F, p``.  Sums of squares are those which
            give F (before Kenward and Roger's scaling) when divided by the residual variance.

        Raises
        ------
        InterlaceError
            An unknown type or ``ddf``.

        Examples
        --------
        >>> import interlace
        >>> cake = interlace.datasets.load("cake")
        >>> result = interlace.fit("angle ~ recipe + temperature + (1 | recipe:replicate)", cake)
        >>> result.anova(ddf="satterthwaite")[["num_df", "den_df", "F"]].round(2)
                     num_df  den_df      F
        term
        recipe            2    42.0   0.25
        temperature       5   220.0  20.51
        """
        from interlace.inference.tables import anova_table

        return anova_table(self, self._reference(ddf), type=type)

    def ranova(self) -> pd.DataFrame:
        """Likelihood-ratio test of every random term, or of its slopes one by one.

        Models are refitted from the cross-products, by the criterion of the fit (REML or ML).  The
        p-values take the statistic as chi-squared; a variance on its boundary makes that
        conservative.

        Returns
        -------
        DataFrame
            First the model itself, then a row a reduction: ``npar, logLik, AIC, LRT, Df, p``, and
            after a fit by the iterative solver ``LRT_error``, the Monte-Carlo error of ``LRT``.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.ranova()[["LRT", "Df"]].round(2)
                                        LRT   Df
        <none>                          NaN  NaN
        Days in (1 + Days | Subject)  42.84  2.0
        """
        from interlace.inference.ranova import ranova

        return ranova(self)

    # -------------------------------------------------------------- variance parameters

    def profile(
        self,
        parm: str | Sequence[str] | None = None,
        *,
        level: float = 0.99,
        progress: bool | None = None,
    ) -> Profile:
        """Profile of the ML deviance along every parameter.

        Parameters
        ----------
        parm
            Names of parameters, ``"beta_"`` for all fixed effects, ``"theta_"`` for all variance
            parameters; all by default.  Names are those of :meth:`conf_int`.
        level
            How far out the curves go.
        progress
            As in :func:`interlace.fit`.

        Returns
        -------
        Profile
            ``table, estimates, conf_int(level)``; draw it with
            :func:`interlace.plots.plot_profile`.

        Raises
        ------
        InterlaceError
            An unknown parameter, a level outside (0, 1), or a fit by the iterative solver.

        Notes
        -----
        ``zeta = sign(v - v_hat) sqrt(D(v) - D_min)``, ``D(v)`` the least deviance with the
        parameter held at ``v``.  A REML fit is first fitted by ML.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.profile("Days").conf_int(0.9).round(2)
              0.05   0.95
        Days   7.9  13.03
        """
        from interlace.inference.profiles.profile import profile

        return profile(self.estimate, parm=parm, level=level, progress=progress)

    def vcov_theta(self) -> pd.DataFrame:
        """Asymptotic covariance of ``theta`` and ``sigma``.

        Twice the inverse of the second derivatives of the criterion of the fit.  Rows and columns
        are ``theta`` in lme4's order (``Subject.Days.Intercept`` is the entry of row ``Days`` and
        column ``Intercept`` of the template of ``Subject``), then ``sigma``.  Directions in which
        the criterion does not curve upwards, at a singular fit, are left out.  After a fit by the
        iterative solver the derivatives are those of the estimated criterion.

        Examples
        --------
        >>> import interlace
        >>> result = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch")
        >>> result.vcov_theta().round(3)
                         Batch.Intercept   sigma
        Batch.Intercept            0.142  -1.118
        sigma                     -1.118  51.068
        """
        from interlace.inference.intervals import theta_covariance

        return theta_covariance(self.estimate)

    # -------------------------------------------------------------- the model as a whole

    def r2(self) -> R2:
        """Nakagawa's marginal and conditional R squared.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> r2 = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep).r2()
        >>> round(r2.marginal, 3), round(r2.conditional, 3)
        (0.279, 0.799)
        """
        from interlace.reporting import r2

        return r2(self)

    def icc(self) -> ICC:
        """Intraclass correlation: shares of the variance that lie between groups."""
        from interlace.reporting import icc

        return icc(self)

    def singular_report(self) -> SingularReport:
        """Which combination of which random term has no variance, and what to try."""
        from interlace.reporting import singular_report

        return singular_report(self)

    def tidy(
        self,
        effects: str = "fixed",
        *,
        ddf: str | None = None,
        conf_int: bool = False,
        conf_level: float = 0.95,
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
        from interlace.reporting import tidy

        return tidy(self, effects, ddf=ddf, conf_int=conf_int, conf_level=conf_level)

    def glance(self) -> pd.DataFrame:
        """One row that describes the fit, with broom.mixed's columns.

        ``nobs, sigma, logLik, AIC, BIC``, ``REMLcrit`` or ``deviance``, and ``df.residual``.
        """
        from interlace.reporting import glance

        return glance(self)
