"""Variances of the random effects: tests, profiles, and what they explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from interlace import inference, reporting
from interlace.model.fitted import FittedModel

if TYPE_CHECKING:
    from interlace.inference.profiles.curves import Profile
    from interlace.reporting.explained import ICC, R2
    from interlace.reporting.singular import SingularReport


@dataclass(frozen=True, eq=False)
class Variances(FittedModel):
    """Variances of the random effects: a chapter of a result."""

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
        return inference.ranova.ranova(self)

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
        return inference.intervals.theta_covariance(self.estimate)

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
        return reporting.r2(self)

    def icc(self) -> ICC:
        """Intraclass correlation: shares of the variance that lie between groups."""
        return reporting.icc(self)

    def singular_report(self) -> SingularReport:
        """Which combination of which random term has no variance, and what to try."""
        return reporting.singular_report(self)
