"""Coefficients of a generalised model: tables, tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from interlace.errors import choose
from interlace.estimation.parameters import selected
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.bootstrap.general import bootstrap_general
from interlace.inference.intervals import wald_intervals
from interlace.inference.profiles.general import profile_limits_general
from interlace.inference.tested import Coefficients
from interlace.model.confidence import coverage_of
from interlace.model.generalised import FittedGeneralModel

METHODS = ("wald", "profile", "bootstrap")


@dataclass(frozen=True, eq=False)
class TestedGeneralModel(Coefficients[GeneralEstimate], FittedGeneralModel):
    """Coefficients with tables, tests and intervals: a chapter of ``CrossedGLMMResult``."""

    @cached_property
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
        n_bootstrap: int = 1000,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals, of coefficients on the scale of the link.

        Parameters
        ----------
        level
            Coverage, 0.95 by default.
        method
            ``"wald"``: of the fixed effects.  ``"profile"``: where the profile likelihood falls by
            a chi-squared quantile, of all parameters.  ``"bootstrap"``: percentiles of a parametric
            bootstrap, of the parameters of the random effects and the family too.
        parm
            Names of the parameters wanted; all by default.
        alpha
            ``1 - level``, as statsmodels calls it.
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
        method = choose("method", method, METHODS)
        if method == "profile":
            return profile_limits_general(self.estimate, parm=parm, level=coverage)
        if method == "bootstrap":
            found = bootstrap_general(self, n_bootstrap, seed=seed).conf_int(coverage)
            return found.loc[list(selected(list(found.index), parm, self.estimate.A.p))]
        return wald_intervals(self.estimate, self._reference(None), coverage, parm)
