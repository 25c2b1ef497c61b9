"""Variances of the random effects of a generalised model: tests, and what they explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from interlace import inference, reporting
from interlace.choices import ShareMethod
from interlace.glmm.ordinal import Ordinal
from interlace.inference.general import TestedGeneralModel
from interlace.inference.profiles.general import profile_general

if TYPE_CHECKING:
    from interlace.inference.profiles.curves import Profile
    from interlace.reporting.explained import ICC, R2


@dataclass(frozen=True, eq=False)
class GeneralVariances(TestedGeneralModel):
    """Variances of the random effects: a chapter of a result."""

    def anova(self, type: int | str = 3) -> pd.DataFrame:
        """Wald's chi-squared test of every fixed term.

        Parameters
        ----------
        type
            2: each after all that do not contain it.  3: of hypotheses that respect marginality and
            do not depend on the contrasts of the factors.  Of ordered categories on the latent
            scale, where minus the mean of the thresholds stands for the intercept.

        Returns
        -------
        DataFrame
            By term: ``Chisq, Df, p``.

        Raises
        ------
        InterlaceError
            An unknown type, or 1: terms in turn take a fit for each.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.anova().round(4)
                  Chisq  Df       p
        term
        period  24.9486   3     0.0
        """
        if isinstance(self.family, Ordinal):
            latent = inference.latent
            names = latent.latent_names(self)
            return inference.tables.chi_squared_table(
                self, latent.latent(self), type=type, names=names
            )
        return inference.tables.chi_squared_table(self, self._reference(None), type=type)

    def ranova(self) -> pd.DataFrame:
        """Likelihood-ratio test of every random term, or of its slopes one by one.

        Every reduced model is fitted; without any random effect it is a generalised linear model.

        Returns
        -------
        DataFrame
            First the model itself, then a row a reduction: ``npar, logLik, AIC, LRT, Df``; ``p``
            from the distribution that ``reference`` names, and ``p_chi2`` from a chi-squared one.

        Notes
        -----
        A variance at its bound of 0, with the covariances of its effect, has a half-half mixture of
        two chi-squared distributions (Stram and Lee 1994, Biometrics 50, 1171-1177).  Where several
        variances go at once ``p`` is that of chi-squared, and too large.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.ranova()[["LRT", "Df", "p"]].round(5)
                         LRT   Df        p
        <none>           NaN  NaN      NaN
        (1 | herd)  14.00584  1.0  0.00009
        """
        return inference.general_ranova.ranova_general(self)

    def profile(
        self,
        parm: str | Sequence[str] | None = None,
        *,
        level: float = 0.99,
        progress: bool | None = None,
    ) -> Profile:
        """Profile of the deviance along every parameter.

        Parameters
        ----------
        parm
            Names of parameters, ``"beta_"`` for all fixed effects, ``"theta_"`` for all others; all
            by default.  Names are those of :meth:`conf_int`.
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
            An unknown parameter, or a level outside (0, 1).

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.profile("sd_Intercept|herd").conf_int().round(3)
                           0.025  0.975
        sd_Intercept|herd  0.346    1.1
        """
        return profile_general(self.estimate, parm=parm, level=level, progress=progress)

    def r2(self, method: ShareMethod | None = None) -> R2:
        """Nakagawa's marginal and conditional R squared, on the scale of the linear predictor.

        Parameters
        ----------
        method
            What is left of a response given its linear predictor.  ``"latent"``: the variance of
            the logistic, normal or Gumbel distribution that a binary response cuts.  ``"delta"``:
            the variance over the squared derivative of the mean.  ``"lognormal"`` and
            ``"trigamma"``, for a log link: the variance of the logarithm of a lognormal or gamma
            variable with the same coefficient of variation.  By default latent, lognormal, or else
            delta.

        Raises
        ------
        InterlaceError
            The method is not defined for the family and link.

        Notes
        -----
        Nakagawa, Johnson and Schielzeth (2017), Journal of the Royal Society Interface 14,
        20170213.  The last three are taken at the mean over the rows of the means over the random
        effects; a response of several trials counts as one of them.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> round(result.r2().marginal, 3), round(result.r2("delta").marginal, 3)
        (0.085, 0.033)
        """
        return reporting.r2_general(self, method)

    def icc(self, method: ShareMethod | None = None) -> ICC:
        """Intraclass correlation: shares of the variance that lie between groups; see :meth:`r2`.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> round(result.icc().adjusted, 3)
        0.111
        """
        return reporting.icc_general(self, method)
