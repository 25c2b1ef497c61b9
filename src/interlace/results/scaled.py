"""The result of a mixed model with a variance function and random effects of several factors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace import reporting
from interlace.choices import Ddf
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.hints import missing_attribute
from interlace.inference.scaled_tests import TestedScaledModel
from interlace.model.fitted import Options
from interlace.model.predict import expected, included
from interlace.model.scaled import FittedScaledModel, fit_scaled, updated
from interlace.results.means import Means
from interlace.results.result import CrossedLMEResult

if TYPE_CHECKING:
    from interlace.reporting.summary import Summary


@dataclass(frozen=True, eq=False)
class ScaledLMEResult(Means[ScaledEstimate], TestedScaledModel):
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

    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        offset: ArrayLike | None = None,
        se: bool = False,
        interval: str | None = None,
        level: float = 0.95,
        ddf: Ddf | None = None,
    ) -> NDArray[np.float64] | pd.DataFrame:
        """Expected response, and with ``include_re=False`` how well it is known.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.
        include_re
            Whether to add random effects: all, none, or those of the factors named.
        offset
            ``(m,)`` values, if the model was fitted with an array as offset.
        se
            Whether to give standard errors.
        interval
            ``"confidence"``, or ``None``.
        level
            Probability of the interval.
        ddf
            As in :meth:`coef_table`.

        Returns
        -------
        ndarray or DataFrame
            ``(m,)`` predictions; with ``se`` or ``interval`` a frame with ``prediction, se`` and,
            for an interval, ``lower, upper``.
        """
        return expected(
            self.design,
            self.encoding,
            self.estimate,
            newdata,
            included(self.estimate.A.terms, include_re),
            offset=offset,
            se=se,
            interval=interval,
            level=level,
            reference=self._reference(ddf),
        )

    def update(
        self, formula: str | None = None, *, data: object = None, **changes: object
    ) -> ScaledLMEResult:
        """Fit again with some options changed, such as ``residual=`` or ``method=``.

        Parameters
        ----------
        formula
            Another formula.
        data
            Another frame.
        **changes
            Arguments of :func:`interlace.fit`.
        """
        return as_result(fit_scaled(*updated(self, formula, data, changes)))

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

    def glance(self) -> pd.DataFrame:
        """One row that describes the fit, with broom.mixed's columns."""
        return reporting.glance_structured(self)

    def __getattr__(self, name: str) -> Never:
        """Say of a verb of other linear models that it is one."""
        if not name.startswith("_") and hasattr(CrossedLMEResult, name):
            raise AttributeError(
                f"{name!r} is not built for variance functions beside random effects of several "
                "factors: dir(result) lists what there is; fit the model again with weights= one "
                "over residual_sd**2 to ask it as if the variances were known"
            )
        raise missing_attribute(type(self).__name__, name, dir(type(self)))

    def __repr__(self) -> str:
        return (
            f"<ScaledLMEResult {self.formula} | {self.residual}, {self.method}, "
            f"{self.nobs} rows, criterion {self.criterion:.4f}>"
        )


def as_result(model: FittedScaledModel) -> ScaledLMEResult:
    """The same fit as an object that has all verbs."""
    return ScaledLMEResult(
        model.formula,
        model.design,
        model.estimate,
        model.options,
        model.held,
        model.residual,
        model.ratios,
        model.units,
    )


def fit_result(options: Options, data: object) -> ScaledLMEResult:
    """Fit what the options say to data; see :func:`interlace.fit`."""
    return as_result(fit_scaled(options, data))
