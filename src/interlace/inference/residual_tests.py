"""Coefficients of models with ``residual=``: intervals by three methods, and tests of the terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from interlace import inference
from interlace.choices import Ddf, IntervalMethod, RobustKind
from interlace.inference.tested import Coefficients
from interlace.model.confidence import coverage_of
from interlace.model.optimum import SummedEstimate

if TYPE_CHECKING:
    from interlace.inference.bootstrap.replicates import BootstrapResult
    from interlace.inference.robust.clusters import Cluster

S = TypeVar("S", bound=SummedEstimate, covariant=True)


@dataclass(frozen=True, eq=False)
class TestedResidualModel(Coefficients[S]):
    """What models with a residual structure and with a variance function share."""

    def _profile_limits(self, level: float, parm: str | Sequence[str] | None) -> pd.DataFrame:
        """Profile-likelihood limits, of which every kind has its own parameters."""
        raise NotImplementedError

    def _bootstrapped(self, n: int, seed: int | None) -> BootstrapResult:
        """A parametric bootstrap."""
        raise NotImplementedError

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
        """Confidence intervals of the coefficients, and by two methods of all parameters.

        Parameters
        ----------
        level
            Coverage, 0.95 by default.
        method
            ``"wald"``: of the fixed effects, from :meth:`coef_table`.  ``"profile"``: of these and
            the parameters of random effects and residuals, where the profile likelihood falls by a
            chi-squared quantile.  ``"bootstrap"``: percentiles of a parametric bootstrap, of the
            same parameters.
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
            A level outside (0, 1), an unknown method or parameter; with ``"profile"`` a standard
            deviation that is estimated as zero.
        """
        estimate, coverage = self.estimate, coverage_of(level, alpha)
        return inference.intervals.Wanted(method, coverage, parm, robust).by(
            wald=lambda: inference.intervals.wald_intervals(
                estimate, self._reference(ddf, robust, cluster), coverage, parm
            ),
            profile=lambda: self._profile_limits(coverage, parm),
            bootstrap=lambda: self._bootstrapped(n_bootstrap, seed),
            p=estimate.A.p,
        )

    def anova(self, type: int | str = 3, ddf: Ddf | None = None) -> pd.DataFrame:
        """F test of every fixed term.

        Parameters
        ----------
        type
            1, 2 or 3, as in :meth:`interlace.CrossedLMEResult.anova`.
        ddf
            As in :meth:`coef_table`.

        Returns
        -------
        DataFrame
            By term: ``num_df, den_df, F, p``.
        """
        return inference.tables.anova_table(self, self._reference(ddf), type=type)
