"""Coefficients of the fixed effects: tables, tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

import pandas as pd

from interlace import inference
from interlace.choices import Ddf, IntervalMethod, RobustKind
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.hints import hinted
from interlace.model.confidence import coverage_of
from interlace.model.fitted import E, FittedModel, Labelled, tame

if TYPE_CHECKING:
    from interlace.inference import tables
    from interlace.inference.hypotheses import Hypothesis
    from interlace.inference.robust.clusters import Cluster
    from interlace.inference.wald import Reference


@dataclass(frozen=True, eq=False)
class Coefficients(Labelled[E]):
    """Coefficients with tables and tests: what every family of models shares."""

    @cached_property
    def _references(self) -> dict[str, Reference]:
        """References asked for so far: they are functions of the fit, and some take a while."""
        return {}

    def _reference(
        self, ddf: Ddf | None, robust: RobustKind | None = None, cluster: Cluster = None
    ) -> Reference:
        """What the fixed effects are compared with, by default as the fit was asked."""
        if robust is not None:
            return self._robust(robust, cluster, ddf)
        if cluster is not None:
            raise InterlaceError(
                "cluster is given without robust: name the covariance too, robust='CR2'"
            )
        name = self.options.ddf if ddf is None else ddf
        if name not in self._references:
            self._references[name] = self._named(name)
        return self._references[name]

    def _named(self, ddf: str) -> Reference:
        """The reference of a name."""
        return inference.tables.reference(self.estimate, ddf)

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """A cluster-robust reference, of which every family of models has its own."""
        raise NotImplementedError

    @cached_property
    def _coefficients(self) -> pd.DataFrame:
        return self.coef_table()

    @property
    def fe_bse(self) -> pd.Series:
        """Standard errors of the coefficients, by Kenward and Roger's covariance if asked."""
        return self._coefficients["se"].copy()

    @property
    def fe_df(self) -> pd.Series:
        """Denominator degrees of freedom; infinite for ``ddf="normal"``."""
        return self._coefficients["df"].copy()

    @property
    def fe_tvalues(self) -> pd.Series:
        """Coefficients over standard errors."""
        return self._coefficients["statistic"].copy().rename("t")

    @property
    def fe_pvalues(self) -> pd.Series:
        """Two-sided p-values."""
        return self._coefficients["p"].copy()

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

    @property
    def fe_conf_int(self) -> pd.DataFrame:
        """95 % Wald intervals of the coefficients, columns ``0.025`` and ``0.975``."""
        return self.conf_int()

    def conf_int(
        self,
        level: float | None = None,
        method: IntervalMethod = "wald",
        parm: str | Sequence[str] | None = None,
        *,
        alpha: float | None = None,
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: Cluster = None,
        n_bootstrap: int = 1000,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals, which every family of models has its own parameters for."""
        raise NotImplementedError

    def cov_params(
        self, *, ddf: Ddf | None = None, robust: RobustKind | None = None, cluster: Cluster = None
    ) -> pd.DataFrame:
        """Covariance of the coefficients that tests use, ``(p, p)``.

        :attr:`fe_cov`, or Kenward and Roger's adjusted covariance for ``ddf="kenward-roger"``, or
        one that is robust to a wrong model of the covariance within clusters.

        Parameters
        ----------
        ddf
            As in :meth:`coef_table`.
        robust
            ``"CR0"``: the sandwich of the scores of clusters.  ``"CR1"``: times ``m / (m - 1)`` for
            ``m`` clusters; ``"CR1S"``: also times ``(n - 1) / (n - p)``.  ``"CR2"``: unbiased if
            the model is right, the one to take with few clusters.  ``"CR3"``: close to the
            jackknife, on the safe side.
        cluster
            A grouping factor, a column of the data, or a value for each row; by default the
            grouping factor within which all others are nested.  Names of several factors, which may
            be crossed, give a covariance that is robust to each (CR0, CR1, CR1S).

        Raises
        ------
        InterlaceError
            An unknown kind or cluster; clusters that the random effects of a crossed factor
            correlate; a fit that does not hold its rows.

        Notes
        -----
        CR2 is not unique: it needs a square root of a matrix.  This one is clubSandwich's, in the
        scale of the response; mmrm's, in that of residuals made independent, has standard errors
        that differ by 1e-5 with small clusters and 1e-3 with large unequal ones.  CR3 has no
        factor ``(m - 1) / m``.  Tests have Satterthwaite's degrees of freedom in the form of Bell
        and McCaffrey (2002), joint tests are Pustejovsky and Tipton's HTZ (2018); clusters in
        several ways are Cameron, Gelbach and Miller's (2011), tests with one less than the
        smallest number of clusters.  Sources are in
        :class:`interlace.inference.robust.sandwich.Robust`.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (1 | Subject)", sleep)
        >>> result.cov_params(robust="CR2", cluster="Subject").round(2)
                   Intercept  Days
        Intercept      46.57 -1.45
        Days           -1.45  2.39
        """
        names = list(self.estimate.A.names)
        vcov = self._reference(ddf, robust, cluster).vcov
        return pd.DataFrame(vcov, index=names, columns=names, copy=True)  # not a view, in pandas 2

    @hinted
    def coef_table(
        self,
        ddf: Ddf | None = None,
        level: float = 0.95,
        *,
        robust: RobustKind | None = None,
        cluster: Cluster = None,
    ) -> pd.DataFrame:
        """Estimates, standard errors, tests and Wald intervals of the fixed effects.

        Parameters
        ----------
        ddf
            ``"normal"``, ``"satterthwaite"`` or ``"kenward-roger"`` (REML only); ``None`` takes
            that of the fit.  After a fit by the iterative solver there is only ``"normal"``.
        level
            Coverage of the intervals.
        robust, cluster
            A cluster-robust covariance, as in :meth:`cov_params`, with its own degrees of freedom
            unless ``ddf="normal"`` is asked for.

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
        reference = self._reference(ddf, robust, cluster)
        return inference.tables.coefficient_table(self.estimate, reference, level=level)

    def wald_test(
        self,
        hypothesis: Hypothesis,
        *,
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: Cluster = None,
        level: float = 0.95,
    ) -> tables.WaldTest:
        """Joint test of linear hypotheses on the fixed effects.

        Parameters
        ----------
        hypothesis
            Equations in the coefficients (``"Days = 10"``, ``["a = b", "2*a - c = 1"]``), a dict of
            weights by coefficient, or an array or frame ``(q, p)`` whose rows are set to 0.
        ddf, robust, cluster, level
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
        Satterthwaite; Kenward and Roger also scale F, and so does a robust test (Pustejovsky and
        Tipton's HTZ).

        Examples
        --------
        >>> import interlace
        >>> machines = interlace.datasets.load("machines")
        >>> result = interlace.fit("score ~ Machine + (1 | Worker)", machines, ddf="satterthwaite")
        >>> test = result.wald_test("Machine[T.B] = Machine[T.C]")
        >>> round(test.statistic, 2), test.num_df, round(test.den_df, 1)
        (31.87, 1, 46.0)
        """
        reference = self._reference(ddf, robust, cluster)
        names = self.estimate.A.names
        return inference.tables.wald_test(names, self.estimate, reference, hypothesis, level=level)


@dataclass(frozen=True, eq=False)
class TestedModel(Coefficients[Estimate], FittedModel):
    """Coefficients with tables, tests and intervals: a chapter of ``CrossedLMEResult``."""

    @cached_property
    def _tame(self) -> Self:
        return tame(self)

    def _reference(
        self, ddf: Ddf | None, robust: RobustKind | None = None, cluster: Cluster = None
    ) -> Reference:
        """That of the fit in units in which all numbers are near 1, where they are not."""
        units = self.estimate.units
        if units is None:
            return super()._reference(ddf, robust, cluster)
        return inference.tables.Rescaled(
            of=self._tame._reference(ddf, robust, cluster), powers=units.coefficients
        )

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """A cluster-robust reference."""
        return inference.robust.reference.robust_reference(self, kind, cluster, ddf)

    @hinted
    def conf_int(
        self,
        level: float | None = None,
        method: IntervalMethod = "wald",
        parm: str | Sequence[str] | None = None,
        *,
        alpha: float | None = None,
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: Cluster = None,
        n_bootstrap: int = 1000,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals.

        Parameters
        ----------
        level
            Coverage, 0.95 by default.
        method
            ``"wald"``: of the fixed effects, from :meth:`coef_table`.  ``"profile"``: of the fixed
            effects, standard deviations, correlations and ``sigma``, where the profile likelihood
            falls by a chi-squared quantile (not after a fit by the iterative solver).
            ``"bootstrap"``: percentiles of a parametric bootstrap, of the same parameters.
        parm
            Names of the parameters wanted; all by default.
        alpha
            ``1 - level``, as statsmodels calls it.
        ddf, robust, cluster
            For ``"wald"``, as in :meth:`coef_table`.
        n_bootstrap, seed
            For ``"bootstrap"``.

        Returns
        -------
        DataFrame
            By parameter; the columns are the two tail probabilities.

        Raises
        ------
        InterlaceError
            A level outside (0, 1), an unknown method or parameter.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.conf_int(method="profile", parm=["sd_Days|Subject", "sigma"]).round(2)
                         0.025  0.975
        sd_Days|Subject    3.8   8.75
        sigma             22.9  28.86
        """
        wanted = inference.intervals.Wanted(method, coverage_of(level, alpha), parm, robust)
        reference = partial(self._reference, ddf, robust, cluster)
        return inference.intervals.conf_int(
            self, wanted, reference=reference, n_bootstrap=n_bootstrap, seed=seed
        )

    def anova(self, type: int | str = 3, ddf: Ddf | None = None) -> pd.DataFrame:
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
        if self.estimate.units is None:
            reference = self._reference(ddf)
            return inference.tables.anova_table(self, reference, type=type, scale=self.scale)
        found = self._tame.anova(type, ddf)
        return inference.tables.in_squared_units(found, self.estimate.units.sigma)
