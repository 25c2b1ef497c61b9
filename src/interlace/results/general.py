"""The result of a generalised model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interlace import reporting
from interlace.inference.general import TestedGeneralModel
from interlace.model.fitted import Options
from interlace.model.generalised import FittedGeneralModel, fit_general, updated
from interlace.model.respond import predict_mean
from interlace.results.result import CrossedLMEResult

if TYPE_CHECKING:
    from interlace.reporting.summary import Summary


@dataclass(frozen=True, eq=False)
class CrossedGLMMResult(TestedGeneralModel):
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

    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        type: str = "response",
        offset: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Expected response, or its linear predictor, with or without the random effects.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.
        include_re
            ``True`` adds all random effects, ``False`` none, a name or names those of some
            grouping factors.  A level that is new, or missing, contributes 0.
        type
            ``"response"`` for means (proportions if binomial), ``"link"`` for linear predictors.
        offset
            ``(m,)`` values, if the model was fitted with an array as offset.

        Returns
        -------
        ndarray
            ``(m,)``; NaN where a column of the fixed side or left of a bar is missing.

        Raises
        ------
        InterlaceError
            A column is absent from ``newdata``, a category was not seen in fitting, or an unknown
            type.

        Notes
        -----
        The mean given random effects of zero (``include_re=False``) is not the mean of the
        population, unless the link is the identity.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.predict({"period": ["1", "4"], "herd": ["1", "5"]}).round(4).tolist()
        [0.3082, 0.0404]
        """
        return predict_mean(self, newdata, include_re, type=type, offset=offset)

    def update(self, formula: str | None = None, data: object = None, **changes: object) -> Self:
        """Fit again with another formula, other data, or other arguments of :func:`interlace.fit`.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> round(result.update(link="probit").llf, 2)
        -92.58
        """
        return as_result(type(self), updated(self, formula, data, changes))

    def __getattr__(self, name: str) -> Never:
        """Say of a verb of linear models that it is one."""
        if not name.startswith("_") and hasattr(CrossedLMEResult, name):
            raise AttributeError(
                f"{name!r} is there for linear models only: a result of family="
                f"{self.options.family!r} answers fe_params, coef_table(), conf_int(), "
                f"variance_components, random_effects, predict(), update() and summary()"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def summary(self) -> Summary:
        """Tables of the fit; ``str()`` gives text, notebooks show HTML."""
        return reporting.summarize_general(self)

    def __repr__(self) -> str:
        return (
            f"<CrossedGLMMResult {self.formula} | {self.family.name}, {self.link.name} link, "
            f"{self.nobs} rows, log-likelihood {self.llf:.4f}>"
        )


R = TypeVar("R", bound=FittedGeneralModel)


def as_result(kind: type[R], model: FittedGeneralModel) -> R:
    """The same fit as an object that has all verbs."""
    return kind(model.formula, model.design, model.estimate, model.options, model.held)


def fit_result(options: Options, data: object) -> CrossedGLMMResult:
    """Fit what the options say to data; see :func:`interlace.fit`."""
    return as_result(CrossedGLMMResult, fit_general(options, data))
