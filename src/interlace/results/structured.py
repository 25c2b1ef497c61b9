"""The result of a model with a residual structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace import reporting
from interlace.estimation.residual import StructuredEstimate
from interlace.hints import missing_attribute
from interlace.inference.correlated import TestedStructuredModel
from interlace.model.fitted import Options
from interlace.model.predict import expected, included
from interlace.model.structured import FittedStructuredModel, fit_structured, updated
from interlace.results.means import Means
from interlace.results.result import CrossedLMEResult
from interlace.results.saved import Saved

if TYPE_CHECKING:
    from interlace.reporting.summary import Summary


@dataclass(frozen=True, eq=False)
class StructuredLMEResult(Means[StructuredEstimate], TestedStructuredModel, Saved):
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

    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        offset: ArrayLike | None = None,
        se: bool = False,
        interval: str | None = None,
        level: float = 0.95,
        ddf: str | None = None,
    ) -> NDArray[np.float64] | pd.DataFrame:
        """Expected response, and how well it is known.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.
        include_re
            Whether to add the random effects of the subject, where the model has such.
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

    def update(self, formula: str | None = None, *, data: object = None, **changes: object) -> Self:
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
        return as_result(type(self), updated(self, formula, data, changes))

    def summary(self) -> Summary:
        """Tables of the fit; ``str()`` gives text, notebooks show HTML."""
        return reporting.summarize_structured(self)

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return self.summary()._repr_html_()

    def tidy(
        self,
        effects: str | Iterable[str] = "fixed",
        *,
        ddf: str | None = None,
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

    def __getattr__(self, name: str) -> Never:
        """Say of a verb of other linear models that it is one."""
        if not name.startswith("_") and hasattr(CrossedLMEResult, name):
            raise AttributeError(
                f"{name!r} is not built yet for models with residual=; there are coef_table(), "
                f"conf_int(), anova(), wald_test(), emmeans(), residual_covariance, "
                f"residual_parameters, variance_components, predict(), tidy(), update() and "
                f"summary()"
            )
        raise missing_attribute(type(self).__name__, name, dir(type(self)))

    def __repr__(self) -> str:
        return (
            f"<StructuredLMEResult {self.formula} | {self.residual}, {self.method}, "
            f"{self.nobs} rows, criterion {self.criterion:.4f}>"
        )


R = TypeVar("R", bound=FittedStructuredModel)


def as_result(kind: type[R], model: FittedStructuredModel) -> R:
    """The same fit as an object that has all verbs."""
    return kind(
        model.formula,
        model.design,
        model.estimate,
        model.options,
        model.held,
        model.residual,
        model.grid,
    )


def fit_result(options: Options, data: object) -> StructuredLMEResult:
    """Fit what the options say to data; see :func:`interlace.fit`."""
    return as_result(StructuredLMEResult, fit_structured(options, data))
