"""Tables of a generalised model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlace import reporting
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.general import TestedGeneralModel
from interlace.results.checked import Checked
from interlace.results.reports import Tables

if TYPE_CHECKING:
    from interlace.plots.style import Figure
    from interlace.reporting.summary import Summary


@dataclass(frozen=True, eq=False)
class GeneralReports(Tables[GeneralEstimate], Checked[GeneralEstimate], TestedGeneralModel):
    """Tables of a generalised model; a chapter of a result."""

    def summary(self, *, ratios: bool = False) -> Summary:
        """Tables of the fit; prints as text, shows as HTML in notebooks.

        Parameters
        ----------
        ratios
            Add a table of the exponentials of the coefficients: odds ratios with a logit link, rate
            ratios of counts with a log link, and so on.

        Raises
        ------
        InterlaceError
            Exponentials of coefficients mean nothing with the link.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> print(str(result.summary(ratios=True)).split("Odds ratios")[1])
        <BLANKLINE>
        -----------------------------------------
                        Ratio    [0.025    0.975]
        -----------------------------------------
        period[T.2]  0.3707...  0.2032...  0.6761...
        period[T.3]  0.3234...  0.1705...  0.6135...
        period[T.4]  0.2059...  0.0890...  0.4758...
        -----------------------------------------
        """
        return reporting.summarize_general(self, ratios=ratios)

    def plot(self, *, level: float = 0.95) -> Figure:
        """The four pictures that show whether the model fits.

        Quantile residuals against normal quantiles and against linear predictors, the rootogram of
        counts or the calibration, and the random effects with intervals of the given level; see
        :mod:`interlace.plots` for more.

        Examples
        --------
        >>> import interlace
        >>> ticks = interlace.datasets.load("grouseticks")
        >>> result = interlace.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, family="poisson")
        >>> figure = result.plot()
        """
        from interlace.plots.general import plot_general

        return plot_general(self, level=level)

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return self.summary()._repr_html_()
