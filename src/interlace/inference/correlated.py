"""Coefficients of a model with a residual structure: tables, tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from interlace import inference
from interlace.choices import Ddf, IntervalMethod
from interlace.errors import InterlaceError, choose
from interlace.estimation.parameters import selected
from interlace.estimation.residual import StructuredEstimate
from interlace.inference.tested import Coefficients
from interlace.model.confidence import coverage_of
from interlace.model.structured import FittedStructuredModel

if TYPE_CHECKING:
    from interlace.inference.robust.clusters import Cluster
    from interlace.inference.wald import Reference


@dataclass(frozen=True, eq=False)
class TestedStructuredModel(Coefficients[StructuredEstimate], FittedStructuredModel):
    """Coefficients with tables, tests and intervals: a chapter of ``StructuredLMEResult``."""

    def _named(self, ddf: str) -> Reference:
        """The reference of a name."""
        return inference.structured.reference(self.estimate, ddf, self.between)

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """A reference that is robust to a wrong covariance within subjects.

        Raises
        ------
        InterlaceError
            Clusters other than the subjects, or random effects that subjects share.
        """
        subject = next(iter(self.ngroups))
        if self.shared:
            term = self.estimate.A.terms[self.shared[0]]
            raise InterlaceError(
                f"robust= takes subjects as independent, but they share effects of {term.group!r}: "
                "leave robust out, or the random effects"
            )
        if cluster is not None and not (isinstance(cluster, str) and cluster == subject):
            raise InterlaceError(
                f"models with residual= are robust by subject so far: leave cluster out, or name "
                f"{subject!r}"
            )
        return inference.robust.subjects.subject_reference(self.estimate, kind, ddf, self.with_rows)

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
        n_bootstrap: int = 1000,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals of the coefficients, and by two methods of all parameters.

        Parameters
        ----------
        level
            Coverage, 0.95 by default.
        method
            ``"wald"``: of the fixed effects.  ``"profile"``: where the profile likelihood falls by
            a chi-squared quantile, of the parameters of random effects and residuals too.
            ``"bootstrap"``: percentiles of a parametric bootstrap, of the same.
        parm
            Names of the parameters wanted; all by default.
        alpha
            ``1 - level``, as statsmodels calls it.
        ddf
            As in :meth:`coef_table`.
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
        """
        coverage = coverage_of(level, alpha)
        method = choose("method", method, inference.intervals.METHODS)
        if method == "profile":
            return inference.profiles.structured.profile_limits_structured(
                self, self.parameter_names, parm=parm, level=coverage
            )
        if method == "bootstrap":
            boot = inference.bootstrap.structured.bootstrap_structured
            found = boot(self, n_bootstrap, seed=seed).conf_int(coverage)
            return found.loc[list(selected(list(found.index), parm, self.estimate.A.p))]
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
