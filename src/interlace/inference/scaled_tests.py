"""Coefficients of a mixed model with a variance function, and its residual parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from interlace import inference
from interlace.choices import Ddf
from interlace.errors import InterlaceError
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
        return inference.scaled.reference(self.estimate, ddf)

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """No robust covariance is built for these models.

        Raises
        ------
        InterlaceError
            Always.
        """
        raise InterlaceError(
            "robust= is not built for variance functions beside random effects of several factors: "
            "leave it out"
        )

    @property
    def fe_conf_int(self) -> pd.DataFrame:
        """95 % Wald intervals of the coefficients, columns ``0.025`` and ``0.975``."""
        return self.conf_int()

    def conf_int(
        self,
        level: float | None = None,
        method: str = "wald",
        parm: str | Sequence[str] | None = None,
        *,
        alpha: float | None = None,
        ddf: Ddf | None = None,
    ) -> pd.DataFrame:
        """Wald intervals of the coefficients.

        Parameters
        ----------
        level
            Coverage, 0.95 by default.
        method
            ``"wald"``.
        parm
            Names of the coefficients wanted; all by default.
        alpha
            ``1 - level``, as statsmodels calls it.
        ddf
            As in :meth:`coef_table`.

        Returns
        -------
        DataFrame
            By coefficient; the columns are the two tail probabilities.

        Raises
        ------
        InterlaceError
            A level outside (0, 1), an unknown method or coefficient.
        """
        coverage = coverage_of(level, alpha)
        if method != "wald":
            raise InterlaceError(
                f"method must be 'wald', not {method!r}: profiles and the bootstrap are not built "
                "for variance functions beside random effects of several factors"
            )
        return inference.intervals.wald_intervals(
            self.estimate, self._reference(ddf), coverage, parm
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
