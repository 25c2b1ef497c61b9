"""The result of a model with a residual structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never

import pandas as pd

from interlace import inference, reporting
from interlace.choices import Ddf, Effects
from interlace.design.recipe import require_rows
from interlace.design.visits import TooManyRowsError
from interlace.estimation.residual import StructuredEstimate
from interlace.hints import missing_attribute
from interlace.model.fitted import Options
from interlace.model.scaled import n_factors, variance_alone
from interlace.model.structured import fit_structured
from interlace.results.means import Means
from interlace.results.result import CrossedLMEResult
from interlace.results.saved import Saved
from interlace.results.scaled import ScaledLMEResult
from interlace.results.scaled import fit_result as fit_rows
from interlace.results.structured_responses import StructuredResponses, as_result

if TYPE_CHECKING:
    from interlace.plots.style import Figure
    from interlace.reporting.summary import Summary

# Verbs of other linear models, and what to do here.
_INSTEAD = {
    "ranova": "fit the model without the random term, and compare with interlace.anova(m1, m2)",
    "r2": "explained variance has no one definition where residual variances differ",
    "icc": "correlations within subjects are in residual_covariance and residual_parameters",
    "vcov_theta": "vcov_residual has the covariance of residual_parameters",
    "singular_report": "is_singular says whether a variance of random effects is zero",
    "caic": "aic, bic and bic_subjects are of the marginal likelihood",
    "step": "compare models with interlace.anova(m1, m2), by AIC with interlace.compare(m1, m2)",
    "power": "simulate() draws responses and refit() fits them: count the rejections",
    "check": "plot(), interlace.autocorrelation(result) and normalized_resid show how it fits",
    "bootstrap_se": "bootstrap(statistic=...) draws from the model",
    "deletions": "robust='CR3' in the tables leaves each subject out",
    "cross_validate": "predict(conditional=True) leaves the row out that it predicts",
    "marginal": "emmeans() and emtrends() have means, slopes and their tests",
    "maketables": "interlace.table(result) makes tables for papers: to_latex(), to_html()",
    "report": "summary() and tidy() have the numbers",
}


@dataclass(frozen=True, eq=False)
class StructuredLMEResult(Means[StructuredEstimate], StructuredResponses, Saved):
    """A fitted linear model whose residuals are correlated within subjects.

    Immutable and picklable (a pickled result leaves the data frame behind, not the rows used).

    Attributes
    ----------
    formula
        The parsed formula.
    residual
        The residual structure, as it was read.
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
    >>> orthodont = interlace.datasets.load("orthodont")
    >>> result = interlace.fit(
    ...     "distance ~ Sex * age", orthodont, residual="us(age | Subject)", ddf="kenward-roger"
    ... )
    >>> result.residual_parameters.loc[["sd_8", "cor_14.8"]].round(3)
               estimate     se
    parameter
    sd_8          2.329  0.329
    cor_14.8      0.522  0.146
    """

    def summary(self) -> Summary:
        """Tables of the fit; ``str()`` gives text, notebooks show HTML."""
        return reporting.summarize_structured(self)

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return self.summary()._repr_html_()

    def tidy(
        self,
        effects: Effects | Iterable[Effects] = "fixed",
        *,
        ddf: Ddf | None = None,
        conf_int: bool = False,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Estimates as a frame with broom.mixed's columns.

        Parameters
        ----------
        effects
            ``"fixed"``, ``"ran_pars"`` (parameters of the residual structure), or ``"all"``.
        ddf
            Tests of the fixed effects, as in :meth:`coef_table`.
        conf_int, conf_level
            Add ``conf.low`` and ``conf.high``.
        """
        return reporting.tidy_structured(
            self, effects, ddf=ddf, conf_int=conf_int, conf_level=conf_level
        )

    def glance(self) -> pd.DataFrame:
        """One row that describes the fit, with broom.mixed's columns."""
        return reporting.glance_structured(self)

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
            ``.pearson``, ``.normalized`` (:attr:`normalized_resid`) and ``.weights``.
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
        """Residuals, their normal quantiles, their spread, and their autocorrelation.

        Residuals of the quantiles, the spread and the autocorrelation are
        :attr:`normalized_resid`.

        Parameters
        ----------
        level
            Of the envelope of the quantiles and the band of the autocorrelations.
        """
        from interlace.plots.overview import plot_structured

        return plot_structured(self, level=level)

    def __getattr__(self, name: str) -> Never:
        """Say of a verb of other linear models why it is not here."""
        if not name.startswith("_") and hasattr(CrossedLMEResult, name):
            why = _INSTEAD.get(name, "dir(result) lists what there is")
            raise AttributeError(f"{name!r} is not there for models with residual=: {why}")
        raise missing_attribute(type(self).__name__, name, dir(type(self)))

    def __repr__(self) -> str:
        return (
            f"<StructuredLMEResult {self.formula} | {self.residual}, {self.method}, "
            f"{self.nobs} rows, criterion {self.criterion:.4f}>"
        )


def fit_result(options: Options, data: object) -> StructuredLMEResult | ScaledLMEResult:
    """Fit what the options say to data; see :func:`interlace.fit`.

    A variance function beside random effects of several factors, or of one with levels of many
    rows, is a model of weighted rows; all others are of subjects.
    """
    factors = n_factors(options) if variance_alone(options) is not None else 0
    if factors > 1:
        return fit_rows(options, data)
    try:
        return as_subjects(options, data)
    except TooManyRowsError:
        if factors == 0:
            raise
        return fit_rows(options, data)


def as_subjects(options: Options, data: object) -> StructuredLMEResult:
    """The fit of a model of subjects."""
    return as_result(StructuredLMEResult, fit_structured(options, data))
