"""The result of a mixed model with a variance function and random effects of several factors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Never

import pandas as pd

from interlace import inference, reporting
from interlace.choices import Ddf
from interlace.design.recipe import require_rows
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.hints import missing_attribute
from interlace.model.fitted import Options, as_kind
from interlace.model.scaled import fit_scaled
from interlace.results.means import Means
from interlace.results.result import CrossedLMEResult
from interlace.results.saved import Saved
from interlace.results.scaled_responses import ScaledResponses, as_result

if TYPE_CHECKING:
    from interlace.model.simulate import Seed
    from interlace.plots.style import Figure
    from interlace.reporting.summary import Summary
    from interlace.results.checked import Checks

# Verbs of other linear models, and what to do here.
_INSTEAD = {
    "ranova": "fit the model without the random term, and compare with interlace.anova(m1, m2)",
    "r2": "explained variance has no one definition where residual variances differ",
    "icc": "it has no one value where residual variances differ: variance_components and "
    "residual_sd have what its shares are made of",
    "vcov_theta": "tidy('ran_pars') has the standard errors of random and residual parameters",
    "singular_report": "is_singular says whether a variance of random effects is zero",
    "caic": "aic and bic are of the marginal likelihood",
    "step": "compare models with interlace.anova(m1, m2), by AIC with interlace.compare(m1, m2)",
    "power": "simulate() draws responses and refit() fits them: count the rejections",
    "bootstrap_se": "bootstrap(statistic=...) draws from the model",
    "deletions": "weighted.deletions() takes the variances found as known",
    "cross_validate": "weighted.cross_validate() takes the variances found as known",
    "marginal": "emmeans() and emtrends() have means, slopes and their tests",
    "maketables": "interlace.table(result) makes tables for papers: to_latex(), to_html()",
    "report": "summary() and tidy() have the numbers",
}


@dataclass(frozen=True, eq=False)
class ScaledLMEResult(Means[ScaledEstimate], ScaledResponses, Saved):
    """A fitted linear mixed model whose residual variances differ between rows.

    What :func:`interlace.fit` returns with ``residual="varident(strata)"``, ``"varpower(x)"`` or
    ``"varexp(x)"`` and random effects of several grouping factors, crossed or nested.  Immutable
    and picklable (a pickled result leaves the data frame behind, not the rows used).

    Attributes
    ----------
    formula
        The parsed formula.
    residual
        The variance function, as it was read.
    design
        Rows used.
    estimate
        Numbers of the fit in arrays.
    options
        Arguments of the fit.
    data
        The frame that was fitted; ``None`` after unpickling.

    Examples
    --------
    >>> import interlace
    >>> penicillin = interlace.datasets.load("penicillin")
    >>> early = penicillin.assign(half=penicillin["plate"].isin(list("abcdefghijkl")))
    >>> result = interlace.fit(
    ...     "diameter ~ 1 + (1 | plate) + (1 | sample)", early, residual="varident(half)"
    ... )
    >>> {name: round(value, 3) for name, value in result.residual_values.items()}
    {'sd': 0.532, 'ratio_True': 1.067}
    """

    def summary(self) -> Summary:
        """Tables of the fit; ``str()`` gives text, notebooks show HTML."""
        return reporting.summarize_scaled(self)

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return self.summary()._repr_html_()

    def tidy(
        self,
        effects: str | Iterable[str] = "fixed",
        *,
        ddf: Ddf | None = None,
        conf_int: bool = False,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Estimates as a frame with broom.mixed's columns.

        Parameters
        ----------
        effects
            ``"fixed"``, ``"ran_pars"`` (of the random effects and the residuals), ``"ran_vals"`` or
            ``"all"``.
        ddf
            Tests of the fixed effects, as in :meth:`coef_table`.
        conf_int, conf_level
            Add ``conf.low`` and ``conf.high``.
        """
        return reporting.tidy_scaled(
            self, effects, ddf=ddf, conf_int=conf_int, conf_level=conf_level
        )

    @cached_property
    def weighted(self) -> CrossedLMEResult:
        """The linear model with the variances of the rows as found, as if they were known.

        Its weights are those that the variances make, so that likelihood, coefficients and random
        effects are those of this model.  It is for what looks at rows and groups: leverages,
        influence, deletions, cross-validation.  What is fitted again keeps the weights; its AIC
        does not count the parameters of the variances.

        Examples
        --------
        >>> import interlace
        >>> cake = interlace.datasets.load("cake")
        >>> formula = "angle ~ recipe + (1 | replicate) + (1 | temperature)"
        >>> result = interlace.fit(formula, cake, residual="varident(recipe)")
        >>> table = interlace.hlm_influence(result.weighted)
        >>> table[["cooksd", "leverage.overall"]].head(2).round(4)
           cooksd  leverage.overall
        0  0.0003            0.0652
        1  0.0000            0.0652
        """
        return as_kind(CrossedLMEResult, super().weighted)

    def check(self, *, nsim: int = 500, seed: Seed = 0) -> Checks:
        """All checks of the model at once, those of :attr:`weighted`.

        As :meth:`interlace.CrossedLMEResult.check`: homogeneity is that of residuals over their
        standard deviations, which is what the variance function is to make equal.
        """
        return self.weighted.check(nsim=nsim, seed=seed)

    def augment(self, newdata: object = None) -> Any:
        """The data with predictions and residuals beside them, as broom does.

        Parameters
        ----------
        newdata
            New rows; ``None`` for the rows used.

        Returns
        -------
        DataFrame
            ``.fitted`` (random effects included), ``.fixed``, and for the rows used ``.resid``,
            ``.pearson`` and ``.normalized`` (both :attr:`normalized_resid`, residuals over their
            standard deviations) and the prior ``.weights``.
        """
        return reporting.augment(self, newdata)

    def standardized(self, *, ddf: Ddf | None = None, level: float = 0.95) -> pd.DataFrame:
        """Coefficients in standard deviations of the response and of the numeric columns.

        As :meth:`interlace.CrossedLMEResult.standardized`.
        """
        design = require_rows(self.design, "standardized")
        return inference.standardized.standardized_table(
            self, design, self._reference(ddf), level=level
        )

    def plot(self, *, level: float = 0.95) -> Figure:
        """Residuals, their normal quantiles, their spread, and the random effects.

        Residuals of the quantiles and the spread are :attr:`normalized_resid`.

        Parameters
        ----------
        level
            Of the envelope of the quantiles and of the intervals of the random effects.
        """
        from interlace.plots.overview import plot_scaled

        return plot_scaled(self, level=level)

    def glance(self) -> pd.DataFrame:
        """One row that describes the fit, with broom.mixed's columns."""
        return reporting.glance_structured(self)

    def __getattr__(self, name: str) -> Never:
        """Say of a verb of other linear models that it is one."""
        if not name.startswith("_") and hasattr(CrossedLMEResult, name):
            why = _INSTEAD.get(name, "dir(result) lists what there is")
            raise AttributeError(f"{name!r} is not there for models with residual=: {why}")
        raise missing_attribute(type(self).__name__, name, dir(type(self)))

    def __repr__(self) -> str:
        return (
            f"<ScaledLMEResult {self.formula} | {self.residual}, {self.method}, "
            f"{self.nobs} rows, criterion {self.criterion:.4f}>"
        )


def fit_result(options: Options, data: object) -> ScaledLMEResult:
    """Fit what the options say to data; see :func:`interlace.fit`."""
    return as_result(ScaledLMEResult, fit_scaled(options, data))
