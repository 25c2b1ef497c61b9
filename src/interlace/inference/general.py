"""Coefficients of a generalised model: tables, tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from interlace import inference
from interlace.choices import Ddf, IntervalMethod, RobustKind
from interlace.errors import InterlaceError
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.bootstrap.general import bootstrap_general
from interlace.inference.components import (
    component_table,
    names_of_all,
    of_all,
    reads_auxiliary,
    wald_limits,
)
from interlace.inference.intervals import Wanted, wald_intervals
from interlace.inference.profiles.general import profile_limits_general
from interlace.inference.tested import Coefficients
from interlace.model.confidence import check_level, coverage_of
from interlace.model.generalised import FittedGeneralModel

if TYPE_CHECKING:
    from interlace.inference import tables
    from interlace.inference.hypotheses import Hypothesis
    from interlace.inference.robust.clusters import Cluster
    from interlace.inference.wald import Reference


@dataclass(frozen=True, eq=False)
class TestedGeneralModel(Coefficients[GeneralEstimate], FittedGeneralModel):
    """Coefficients with tables, tests and intervals: a chapter of ``CrossedGLMMResult``."""

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """A cluster-robust reference."""
        return inference.robust.scores.score_reference(self, kind, cluster, ddf)

    def cov_params(
        self, *, ddf: Ddf | None = None, robust: RobustKind | None = None, cluster: Cluster = None
    ) -> pd.DataFrame:
        """Covariance of the coefficients that tests use, ``(p, p)``.

        :attr:`fe_cov`, or one that is robust to a wrong model of the responses within clusters.

        Parameters
        ----------
        ddf
            ``"normal"``, or nothing.
        robust
            ``"CR0"``: the sandwich of the scores of clusters.  ``"CR1"``: times ``m / (m - 1)`` for
            ``m`` clusters; ``"CR1S"``: also times ``(n - 1) / (n - p)``.
        cluster
            A grouping factor, a column of the data, or a value for each row; by default the
            grouping factor within which all others are nested.

        Raises
        ------
        InterlaceError
            An unknown kind or cluster; clusters that random effects correlate, of which the
            log-likelihood is no sum.

        Notes
        -----
        ``H^-1 [sum_i s_i s_i'] H^-1`` in all parameters together, with the scores ``s_i`` of the
        clusters and the observed information ``H``; the block of the fixed effects is returned
        (White 1982, Econometrica 50, 1-25).  Standard errors become robust; the estimates remain
        those of the model.  Tests have t and F with ``m - 1`` degrees of freedom.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.coef_table(robust="CR1")[["estimate", "se", "df"]].round(3)
                     estimate     se    df
        Intercept      -1.399  0.296  14.0
        period[T.2]    -0.992  0.470  14.0
        period[T.3]    -1.129  0.531  14.0
        period[T.4]    -1.580  0.375  14.0
        """
        return super().cov_params(ddf=ddf, robust=robust, cluster=cluster)

    def component_table(self, level: float = 0.95) -> pd.DataFrame:
        """Coefficients beside those of the mean: thresholds, zeros, dispersion models.

        Parameters
        ----------
        level
            Coverage of the intervals.

        Returns
        -------
        DataFrame
            By component and term: ``estimate, se, statistic, p, lower, upper``.  Of zeros on the
            scale of the logit, of a dispersion, size, precision or scale on that of the logarithm.

        Examples
        --------
        >>> import interlace
        >>> ticks = interlace.datasets.load("grouseticks")
        >>> result = interlace.fit(
        ...     "TICKS ~ YEAR + (1 | BROOD)", ticks, family="poisson", zero_inflation="~ 1"
        ... )
        >>> result.component_table()[["estimate", "se"]].round(2)
                                  estimate    se
        component      term...
        zero-inflation Intercept     -3.56  0.57
        """
        check_level(level)
        return component_table(self.estimate, level)

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
        """Confidence intervals, of coefficients on the scale of the link.

        Parameters
        ----------
        level
            Coverage, 0.95 by default.
        method
            ``"wald"``: of the fixed effects, and of auxiliary coefficients that ``parm`` names.
            ``"profile"``: where the profile likelihood falls by a chi-squared quantile, of all
            parameters.  ``"bootstrap"``: percentiles of a parametric bootstrap, of the parameters
            of the random effects and the family too.
        parm
            Names of the parameters wanted; all by default.
        alpha
            ``1 - level``, as statsmodels calls it.
        ddf, robust, cluster
            For ``"wald"``, as in :meth:`cov_params`.
        n_bootstrap, seed
            For ``"bootstrap"``.

        Returns
        -------
        DataFrame
            By parameter; the columns are the two tail probabilities.

        Raises
        ------
        InterlaceError
            A level outside (0, 1), an unknown method or coefficient.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.conf_int(parm="Intercept").round(3)
                   0.025  0.975
        Intercept -1.854 -0.943
        """
        coverage = coverage_of(level, alpha)
        limits = wald_limits if robust is None else wald_intervals
        return Wanted(method, coverage, parm, robust).by(
            wald=lambda: limits(
                self.estimate, self._reference(ddf, robust, cluster), coverage, parm
            ),
            profile=lambda: profile_limits_general(self.estimate, parm=parm, level=coverage),
            bootstrap=lambda: bootstrap_general(self, n_bootstrap, seed=seed),
            p=self.estimate.A.p,
        )

    def wald_test(
        self,
        hypothesis: Hypothesis,
        *,
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: Cluster = None,
        level: float = 0.95,
    ) -> tables.WaldTest:
        """Joint test of linear hypotheses on the coefficients.

        Parameters
        ----------
        hypothesis
            As of a linear model: equations, weights by name, or an array of weights of the fixed
            effects.  Equations and names may have auxiliary coefficients too, such as thresholds
            and those of ``zero_inflation=`` and ``dispersion=``, named as :meth:`conf_int` has them
            with ``method="profile"``; a dispersion or size of all rows counts as its logarithm.
        ddf, robust, cluster, level
            As in :meth:`coef_table`; ``robust`` is for fixed effects.

        Returns
        -------
        WaldTest
            ``statistic, num_df, den_df, p_value`` of the joint test, and a ``table`` of the single
            functions with their intervals.

        Raises
        ------
        InterlaceError
            An unknown coefficient, an equation that is not linear, redundant rows, or ``robust``
            with auxiliary coefficients.

        Examples
        --------
        >>> import interlace
        >>> ticks = interlace.datasets.load("grouseticks")
        >>> result = interlace.fit(
        ...     "TICKS ~ YEAR + (1 | BROOD)", ticks, family="negative-binomial", dispersion="~ YEAR"
        ... )
        >>> test = result.wald_test(["size:YEAR[T.96] = 0", "size:YEAR[T.97] = 0"])
        >>> test.num_df, round(test.p_value, 3)
        (2, 0.351)
        """
        if not reads_auxiliary(hypothesis, self.estimate):
            return super().wald_test(
                hypothesis, ddf=ddf, robust=robust, cluster=cluster, level=level
            )
        if robust is not None or cluster is not None:
            raise InterlaceError(
                "robust= is for fixed effects: test auxiliary coefficients without it"
            )
        self._reference(ddf)
        given, names = of_all(self.estimate), names_of_all(self.estimate)
        return inference.tables.wald_test(names, given, given, hypothesis, level=level)
