"""Mixed models as estimators of scikit-learn: for its pipelines, searches and cross-validation.

``pip install 'interlace[sklearn]'`` brings scikit-learn along; nothing else here needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace.choices import FamilyName, FitMethod, LinkName, NewLevels
from interlace.design.foreign import extended
from interlace.design.frame import open_table
from interlace.door import fit
from interlace.errors import InterlaceError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "interlace.sklearn needs scikit-learn 1.6 or later: pip install 'interlace[sklearn]'"
    ) from error

if TYPE_CHECKING:
    from interlace.design.complete import Missing
    from interlace.glmm.families import Family
    from interlace.results import CrossedGLMMResult, CrossedLMEResult
    from interlace.solver.choose import Solver

__all__ = ["MixedModelClassifier", "MixedModelRegressor"]

Names: TypeAlias = str | Sequence[str]
_NAME = re.compile(r"[^\W\d]\w*")


class _MixedModel(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: columns of ``X`` and a response make the data of a fit."""

    # Arguments that are passed on to `fit` under their own names, and whether arrays may have NaN.
    _passed: ClassVar[tuple[str, ...]] = ()
    _gaps: ClassVar[bool] = True

    def _data(self, X: object, *, reset: bool) -> object:
        """``X`` as a frame; the columns of an array are called ``x0, x1, ...``."""
        if hasattr(X, "columns") or hasattr(X, "column_names"):
            names = pd.DataFrame(columns=list(open_table(X).names))  # of any kind of frame
            validate_data(self, names, skip_check_array=True, reset=reset)
            return X
        finite = "allow-nan" if self._gaps else True
        rows = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite=finite)
        return pd.DataFrame(rows, columns=[f"x{i}" for i in range(rows.shape[1])])

    def _formula(self, names: Sequence[str], y: object) -> tuple[str, str]:
        """The formula, and the name of the response in it."""
        given = self.formula
        if given is None:
            groups = [self.groups] if isinstance(self.groups, str) else list(self.groups or ())
            columns = [_quoted(name) for name in names if name not in groups]
            given = " + ".join(columns) or "1"
        left, tilde, right = given.partition("~") if "~" in given else ("", "", given)
        called = str(getattr(y, "name", None) or "y")
        name = left.strip().strip("`") or next(
            one for one in (called, "y", "response", "_y") if one not in names
        )
        if tilde and left.strip() not in ("", name, f"`{name}`"):
            raise InterlaceError(f"the response of the formula is {left.strip()!r}")
        if left.strip() and left.strip() != f"`{name}`" and not _NAME.fullmatch(name):
            raise InterlaceError(
                f"the response '{left.strip()}' must be a plain name, for y is given apart: "
                "transform y beforehand, or by sklearn.compose.TransformedTargetRegressor"
            )
        if name in names:
            raise InterlaceError(f"X has a column '{name}', which is the name of the response")
        return f"{_quoted(name)} ~ {right.strip()}", name

    def _fit(
        self,
        data: object,
        y: NDArray[Any],
        called: object,
        weights: NDArray[np.float64] | None,
        **more: object,
    ) -> None:
        """Fit to a response as the family has it."""
        formula, name = self._formula(open_table(data).names, called)
        rows = None if weights is None else weights > 0.0
        given = {one: getattr(self, one) for one in self._passed}
        self.result_ = cast(Any, fit)(
            formula,
            extended(data, None, rows, {name: y if rows is None else y[rows]}),
            weights=None if rows is None or weights is None else weights[rows],
            **{one: value for one, value in given.items() if value is not None},
            **more,
        )

    def _predicted(self, X: object) -> NDArray[np.float64]:
        """Expected responses."""
        check_is_fitted(self)
        data = self._data(X, reset=False)
        found: NDArray[np.float64] = self.result_.predict(
            data, self.include_re, new_levels=self.new_levels
        )
        return found

    def __sklearn_tags__(self) -> Any:
        """Text is taken, and missing values are."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._gaps
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags


class MixedModelRegressor(RegressorMixin, _MixedModel):  # type: ignore[misc]
    """A linear mixed model, or a generalised one of another family, as a regressor.

    Parameters
    ----------
    formula
        The right side, ``"x + (1 + x | g)"``, or all of it with the name of the response; ``None``
        for every column of ``X`` that is no group, added.
    groups
        Columns of ``X`` that get a random intercept each.
    random, method, missing, solver, family, link, exposure, offset
        As in :func:`interlace.fit`; ``exposure`` and ``offset`` are columns of ``X``.
    include_re
        Whether predictions add the random effects: all, none, or those of some grouping factors.
    new_levels
        ``"zero"`` predicts rows of new groups without a random effect, ``"raise"`` refuses them.

    Attributes
    ----------
    result_
        The result of :func:`interlace.fit`, with all of its verbs.
    n_features_in_, feature_names_in_
        Columns of ``X``.

    Notes
    -----
    ``X`` is a frame whose columns the formula names, or an array of numbers whose columns are then
    called ``x0, x1, ...``.  Groups are columns of ``X`` as others are, so that ``GroupKFold`` takes
    the same column as ``groups=``.

    Examples
    --------
    >>> import interlace
    >>> from interlace.sklearn import MixedModelRegressor
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> model = MixedModelRegressor("Days + (Days | Subject)")
    >>> model.fit(sleep[["Days", "Subject"]], sleep["Reaction"])
    MixedModelRegressor(formula='Days + (Days | Subject)')
    >>> model.predict(sleep[["Days", "Subject"]][:2]).round(2)
    array([253.66, 273.33])
    """

    _passed: ClassVar[tuple[str, ...]] = (
        *("groups", "random", "family", "link", "method", "missing", "solver"),
        *("exposure", "offset"),
    )

    def __init__(
        self,
        formula: str | None = None,
        groups: Names | None = None,
        *,
        random: Names | None = None,
        family: FamilyName | Family = "gaussian",
        link: LinkName | None = None,
        method: FitMethod | None = None,
        missing: Missing = "drop",
        solver: Solver = "auto",
        exposure: str | None = None,
        offset: str | None = None,
        include_re: bool | str | Iterable[str] = True,
        new_levels: NewLevels = "zero",
    ) -> None:
        self.formula = formula
        self.groups = groups
        self.random = random
        self.family = family
        self.link = link
        self.method = method
        self.missing = missing
        self.solver = solver
        self.exposure = exposure
        self.offset = offset
        self.include_re = include_re
        self.new_levels = new_levels

    result_: CrossedLMEResult | CrossedGLMMResult

    def fit(self, X: object, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X
            ``(n, c)`` frame or array.
        y
            ``(n,)`` response.
        sample_weight
            ``(n,)`` prior weights; rows of weight 0 are left out.

        Raises
        ------
        InterlaceError
            The formula or the data cannot be used; the message names what is at fault.
        """
        data = self._data(X, reset=True)
        values, weights = _response(y, data), _weights(sample_weight, data)
        self._fit(data, np.asarray(values, dtype=np.float64), y, weights)
        return self

    def predict(self, X: object) -> NDArray[np.float64]:
        """Expected response, ``(m,)``; NaN where a column that is needed is missing."""
        return self._predicted(X)


class MixedModelClassifier(ClassifierMixin, _MixedModel):  # type: ignore[misc]
    """A logistic mixed model, or one with another link, as a classifier of two classes.

    Parameters
    ----------
    formula
        The right side, ``"x + (1 + x | g)"``, or all of it with the name of the response; ``None``
        for every column of ``X`` that is no group, added.
    groups
        Columns of ``X`` that get a random intercept each.
    random, link, missing, quadrature, fixed_prior, offset
        As in :func:`interlace.fit`; ``offset`` is a column of ``X``.
    include_re
        Whether predictions add the random effects: all, none, those of some grouping factors, or
        ``"integrated"`` for probabilities averaged over them.
    new_levels
        ``"zero"`` predicts rows of new groups without a random effect, ``"raise"`` refuses them.

    Attributes
    ----------
    classes_
        The two classes, sorted; probabilities of the fit are of the second.
    result_
        The result of :func:`interlace.fit`, with all of its verbs.
    n_features_in_, feature_names_in_
        Columns of ``X``.

    Examples
    --------
    >>> import interlace
    >>> from interlace.sklearn import MixedModelClassifier
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> X, slow = sleep[["Days", "Subject"]], sleep["Reaction"] > 300
    >>> model = MixedModelClassifier("Days", groups="Subject").fit(X, slow)
    >>> model.predict_proba(X[2:4]).round(2)
    array([[0.74, 0.26],
           [0.61, 0.39]])
    """

    _passed: ClassVar[tuple[str, ...]] = (
        *("groups", "random", "link", "missing", "quadrature", "fixed_prior", "offset"),
    )
    _gaps: ClassVar[bool] = False  # a row with a missing value has no class

    def __init__(
        self,
        formula: str | None = None,
        groups: Names | None = None,
        *,
        random: Names | None = None,
        link: LinkName | None = None,
        missing: Missing = "drop",
        quadrature: int = 1,
        fixed_prior: float | None = None,
        offset: str | None = None,
        include_re: bool | str | Iterable[str] = True,
        new_levels: NewLevels = "zero",
    ) -> None:
        self.formula = formula
        self.groups = groups
        self.random = random
        self.link = link
        self.missing = missing
        self.quadrature = quadrature
        self.fixed_prior = fixed_prior
        self.offset = offset
        self.include_re = include_re
        self.new_levels = new_levels

    result_: CrossedGLMMResult
    classes_: NDArray[Any]

    def fit(self, X: object, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X
            ``(n, c)`` frame or array.
        y
            ``(n,)`` of two classes, of any type.
        sample_weight
            ``(n,)`` factors of the log-likelihood of each row; rows of weight 0 are left out.

        Raises
        ------
        InterlaceError
            The formula or the data cannot be used; the message names what is at fault.
        ValueError
            ``y`` has other than two classes.
        """
        data = self._data(X, reset=True)
        values, weights = _response(y, data), _weights(sample_weight, data)
        check_classification_targets(values)
        self.classes_, codes = np.unique(values, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(values)}."
            )
        used = codes if weights is None else codes[weights > 0.0]
        if used.min() == used.max():
            raise ValueError(f"y has one class, {self.classes_[used[0]]!r}: two are needed")
        self._fit(data, codes.astype(np.float64), y, weights, family="binomial")
        return self

    def predict_proba(self, X: object) -> NDArray[np.float64]:
        """Probabilities of the two classes, ``(m, 2)``."""
        second = self._predicted(X)
        return np.column_stack([1.0 - second, second])

    def decision_function(self, X: object) -> NDArray[np.float64]:
        """Log odds of the second class, ``(m,)``."""
        second = self._predicted(X)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(second) - np.log1p(-second))

    def predict(self, X: object) -> NDArray[Any]:
        """The likelier class of each row, ``(m,)``."""
        second = self._predicted(X)
        if np.isnan(second).any():
            row = int(np.argmax(np.isnan(second)))
            raise InterlaceError(
                f"row {row} of X (counted from 0) has a missing value, and so no class: "
                "predict_proba() has NaN there"
            )
        return np.asarray(self.classes_[(second > 0.5).astype(np.intp)])

    def __sklearn_tags__(self) -> Any:
        """Two classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _quoted(name: str) -> str:
    return name if _NAME.fullmatch(name) else f"`{name}`"


def _response(y: object, data: object) -> NDArray[Any]:
    """A response as one column, of as many rows as the data."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    values = np.asarray(column_or_1d(y, warn=True))
    n = open_table(data).n
    if len(values) != n:
        raise ValueError(f"X has {n} rows, but y {len(values)} values")
    if n < 2:
        raise ValueError(f"n_samples={n}: a mixed model needs more rows")
    return values


def _weights(given: ArrayLike | None, data: object) -> NDArray[np.float64] | None:
    """Weights of rows, some of them perhaps zero."""
    if given is None:
        return None
    weights = np.asarray(given, dtype=np.float64)
    n = open_table(data).n
    if weights.shape != (n,):
        raise ValueError(f"sample_weight has the shape {weights.shape}, but X has {n} rows")
    if not (weights >= 0.0).all():
        row = int(np.argmin(weights >= 0.0))
        raise InterlaceError(f"sample_weight is {weights[row]:g} in row {row} (counted from 0)")
    if not weights.any():
        raise InterlaceError("every sample_weight is zero: no row is left")
    return weights
