"""Coefficients of a mixed model with a variance function, and its residual parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from interlace import inference
from interlace.choices import Ddf, IntervalMethod, RobustKind
from interlace.errors import InterlaceError, choose
from interlace.estimation.parameters import selected
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.inference.robust.clusters import Cluster
from interlace.inference.tested import Coefficients
from interlace.inference.wald import Reference
from interlace.model.confidence import coverage_of
from interlace.model.scaled import FittedScaledModel
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class TestedScaledModel(Coefficients[ScaledEstimate], FittedScaledModel):
    """Coefficients with tables, tests and intervals: a chapter of ``ScaledLMEResult``."""

    def _named(self, ddf: str) -> Reference:
        """The reference of a name."""
        return inference.scaled.reference(self, ddf)

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """A cluster-robust reference: that of the model with the weights found."""
        return inference.robust.reference.robust_reference(self.weighted, kind, cluster, ddf)

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
        """Confidence intervals.

        Parameters
        ----------
        level
            Coverage, 0.95 by default.
        method
            ``"wald"``: of the fixed effects, from :meth:`coef_table`.  ``"profile"``: of these, of
            standard deviations and correlations of random effects, and of the residual parameters,
            where the profile likelihood falls by a chi-squared quantile.  ``"bootstrap"``:
            percentiles of a parametric bootstrap, of the same parameters.
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
        coverage = coverage_of(level, alpha)
        method = choose("method", method, inference.intervals.METHODS, one_of=True)
        if robust is not None and method != "wald":
            raise InterlaceError(f"robust is for Wald intervals, not method={method!r}")
        if method == "profile":
            return inference.profiles.scaled.profile_limits_scaled(self, parm=parm, level=coverage)
        if method == "bootstrap":
            found = inference.bootstrap.scaled.bootstrap_scaled(self, n_bootstrap, seed=seed)
            limits = found.conf_int(coverage)
            return limits.loc[list(selected(list(limits.index), parm, self.estimate.A.p))]
        reference = self._reference(ddf, robust, cluster)
        return inference.intervals.wald_intervals(self.estimate, reference, coverage, parm)

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

    @cached_property
    def parameter_covariance(self) -> Floats:
        """Covariance of ``(theta, eta, sigma)``."""
        return inference.scaled.parameter_covariance(self.estimate)

    @property
    def residual_parameters(self) -> pd.DataFrame:
        """The residual standard deviation where the function is 1, and the function's parameters.

        Columns ``estimate`` and ``se``, the latter by the delta method.
        """
        names, values = zip(*self.residual_values.items(), strict=True)
        ratios = [is_ratio for _, is_ratio in self.ratios]
        slopes = np.where(ratios, values[1:], 1.0 / np.array(self.units))
        q, V = len(self.units), np.diag(self.parameter_covariance)
        errors = np.sqrt(np.append(V[-1], slopes**2 * V[len(V) - 1 - q : -1]))
        index = pd.Index(names, name="parameter")
        return pd.DataFrame({"estimate": values, "se": errors}, index=index)
