"""The result of a generalised model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Never

from interlace.hints import missing_attribute
from interlace.model.fitted import Options
from interlace.model.generalised import fit_general
from interlace.results.general_means import GeneralMeans
from interlace.results.general_reports import GeneralReports
from interlace.results.general_responses import GeneralResponses, as_result
from interlace.results.general_selection import GeneralSelection
from interlace.results.general_variances import GeneralVariances
from interlace.results.result import CrossedLMEResult
from interlace.results.saved import Saved

# Verbs of linear models that generalised ones do not have: why, or what there is.
INSTEAD = {
    "bootstrap_se": "bootstrap(statistic=) has the standard error of any function of a fit",
    "caic": "the degrees of freedom of a conditional AIC are derived for normal responses; aic is "
    "that of new groups, and cross_validate() predicts rows of the same ones",
    "maketables": "interlace.table() has models of every kind side by side",
    "marginal": "predict(), emmeans(type='response') and emtrends() have means and slopes with "
    "their errors",
    "report": "summary() and tidy() have its numbers",
    "singular_report": "ranova() tests every random effect, and summary() names those without "
    "variance",
    "step": "it eliminates by F tests; compare models by anova(), ranova() and interlace.anova()",
    "vcov_theta": "tidy(effects='ran_pars') has standard errors, profile() what is not symmetric",
}


@dataclass(frozen=True, eq=False)
class CrossedGLMMResult(
    GeneralMeans, GeneralReports, GeneralResponses, GeneralSelection, GeneralVariances, Saved
):
    """A fitted generalised linear mixed model.

    Immutable and picklable (a pickled result leaves the data frame behind, not the rows used).
    Log-likelihoods are absolute, all constants included.  Standard errors take account of all
    parameters being estimated.

    Attributes
    ----------
    formula
        The parsed formula.
    design
        Rows used; ``y`` holds proportions if the response is binomial.
    estimate
        Numbers of the fit in arrays.
    options
        Arguments of the fit.
    data
        The frame that was fitted; ``None`` after unpickling.

    Examples
    --------
    >>> import interlace
    >>> cbpp = interlace.datasets.load("cbpp")
    >>> result = interlace.fit(
    ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
    ... )
    >>> result.fe_params.round(4).to_dict()["Intercept"], round(result.llf, 4)
    (-1.3985, -92.0263)
    """

    def __getattr__(self, name: str) -> Never:
        """Say of a verb of linear models that it is one."""
        if not name.startswith("_") and hasattr(CrossedLMEResult, name):
            raise AttributeError(
                f"{name!r} is there for linear models only, not for family="
                f"{self.family.name!r}: {INSTEAD.get(name, 'see what dir(result) lists')}"
            )
        raise missing_attribute(type(self).__name__, name, dir(type(self)))

    def __repr__(self) -> str:
        return (
            f"<CrossedGLMMResult {self.formula} | {self.family.name}, {self.link.name} link, "
            f"{self.nobs} rows, log-likelihood {self.llf:.4f}>"
        )


def fit_result(options: Options, data: object) -> CrossedGLMMResult:
    """Fit what the options say to data; see :func:`interlace.fit`."""
    return as_result(CrossedGLMMResult, fit_general(options, data))
