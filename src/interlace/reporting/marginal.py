"""Marginal effects of a fitted model with the Python package marginaleffects.

The package knows three modelling packages by name and takes, beside them, any object built on its
own base class ``ModelAbstract``; :func:`model` makes such an object of a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from formulaic.parser.types import Factor

from interlace.design import frame, keys
from interlace.design.design import Encoding, column_of
from interlace.design.frame import Column
from interlace.design.newdata import replay
from interlace.design.reads import columns_of
from interlace.design.recipe import require_rows
from interlace.design.sides import model_terms, names_in, side_of
from interlace.errors import InterlaceError
from interlace.model.fitted import FittedModel
from interlace.model.predict import center_of, included
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats

try:
    import polars as pl
    from marginaleffects.classes.model import ModelAbstract, ModelVault
except ImportError as error:
    raise ImportError(
        "marginal effects need the package marginaleffects (version 0.6 or later): "
        "pip install 'interlace[marginaleffects]'"
    ) from error

# Column of the model data that holds an offset given as an array.
_OFFSET = ".offset"
# Names that marginaleffects keeps for its results.
_RESERVED = frozenset(
    {"rowid", "type", "group", "estimate", "std_error", "p_value", "s_value", "conf_low"}
    | {"conf_high", "term", "contrast", "statistic"}
)


def model(
    result: FittedModel,
    *,
    vcov: Floats | None = None,
    df: float | None = None,
    include_re: bool | str | Iterable[str] = False,
) -> MarginalModel:
    """A fitted model as the functions of marginaleffects take it.

    ``predictions, comparisons, slopes, hypotheses``, their ``avg_`` forms, ``datagrid`` and the
    plots take what this returns as their model.

    Parameters
    ----------
    result
        A fitted model.
    vcov
        ``(p, p)`` covariance of the fixed effects, such as Kenward and Roger's; by default the
        model's.
    df
        Degrees of freedom of tests and intervals, one number for all; by default infinite.
    include_re
        Random effects that enter predictions, as in ``predict``; by default none, so that
        predictions are those of a typical level (for a linear model also the mean over levels).
        Their conditional modes are then taken as known: standard errors remain those of the
        fixed effects.

    Returns
    -------
    MarginalModel

    Raises
    ------
    ImportError
        marginaleffects is not installed (raised on import of this module).
    InterlaceError
        ``vcov`` has another shape, the degrees of freedom are not positive, or the result no
        longer holds its data.

    Notes
    -----
    Standard errors are the delta method's, with the covariance of the fixed effects.  For
    slopes, and with an offset or random effects in the predictions, marginaleffects takes
    derivatives by tiny differences, which leaves the standard errors of slopes two to four digits;
    predictions being linear in the coefficients, ``eps_vcov=0.1`` gives all of them (not
    for ratios, which are not linear).  New rows are
    encoded as those of the fit were: factor levels, contrasts, and centring or polynomials
    computed then.  Categories are text (an ``Enum``) for marginaleffects, numbers inside
    ``C()`` included: give them as text in ``newdata``.

    Examples
    --------
    >>> import interlace, marginaleffects
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> slope = marginaleffects.avg_slopes(model(result), variables="Days")
    >>> round(slope["estimate"].item(), 2), round(slope["std_error"].item(), 2)
    (10.47, 1.55)
    """
    p = result.estimate.A.p
    if vcov is not None and np.shape(vcov) != (p, p):
        raise InterlaceError(f"vcov has shape {np.shape(vcov)}, but the model has {p} coefficients")
    if df is not None and not df > 0:
        raise InterlaceError(f"df must be positive, not {df!r}")
    if result.data is None:
        raise InterlaceError(
            "the result no longer holds its data (it was unpickled, or fitted by refit), which "
            "marginal effects are averaged over: fit the model again"
        )
    require_rows(result.design, "marginal")
    include = included(result.estimate.A.terms, include_re)
    covariance = result.fe_cov if vcov is None else np.asarray(vcov, dtype=np.float64)
    return MarginalModel(result, covariance, np.inf if df is None else float(df), include)


class MarginalModel(ModelAbstract):  # type: ignore[misc]
    """A result behind the interface of marginaleffects; see :func:`model`.

    Attributes of the result can be read from it too.
    """

    def __init__(self, result: FittedModel, vcov: Floats, df: float, include: list[bool]) -> None:
        self.df_resid = df
        self._include = include
        response, predictors = result.formula.response, _predictors(result)
        columns = _columns(result, predictors, include)
        self._coded = _coded_numbers(result.encoding, columns)
        vault = ModelVault(
            coef=result.fe_params.to_numpy(),
            coefnames=result.fe_params.index.to_numpy(dtype=object),
            formula=_no_formula,
            modeldata=pl.DataFrame([_series(n, c, n in self._coded) for n, c in columns.items()]),
            package="interlace",
            vcov=vcov,
            variable_names=[response, *predictors],
        )
        super().__init__(result, vault)

    def get_vcov(self, vcov: object = True) -> Floats | None:
        """Covariance of the fixed effects; ``None`` for ``vcov=False``."""
        if vcov is False or vcov is None:
            return None
        if vcov is True:
            return np.asarray(self.vault.vcov)
        raise InterlaceError(
            f"vcov must be True, False or a matrix, not {vcov!r}: a mixed model's covariance comes "
            "from its random effects; pass another one as an array"
        )

    def get_exog(self, newdata: object) -> Floats:
        """Fixed-effects columns kept in the fit, and last what is added to ``X beta``, if any."""
        result: FittedModel = self.model
        encoding, estimate = result.encoding, result.estimate
        rows, offset = self._rows(newdata), self._offset(newdata)
        new = replay(encoding, rows, offset=offset, levels=self._include)
        X = new.X[:, columns_kept(encoding.fixed.names, estimate.A.names)]
        shift = new.offset
        if any(self._include):
            shift = center_of(new, encoding.fixed.names, estimate) - X @ estimate.beta
        return X if shift is None or not self._shifted else np.column_stack((X, shift))

    def get_predict(self, params: Floats, newdata: Floats) -> Any:
        """Predictions for rows that :meth:`get_exog` has encoded."""
        beta = np.asarray(params, dtype=np.float64)
        estimate = newdata[:, : len(beta)] @ beta
        if self._shifted:
            estimate = estimate + newdata[:, -1]
        rowid = pl.Series("rowid", np.arange(len(estimate)), dtype=pl.Int32)
        return pl.DataFrame([rowid, pl.Series("estimate", estimate)])

    def get_autodiff_args(self) -> Any:
        """Says that predictions are ``X beta``, whose derivatives are then exact; or why not."""
        if self._shifted:
            return "models with an offset or with random effects in their predictions"
        return {"model_type": "linear", "family": None, "link": None}

    @property
    def _shifted(self) -> bool:
        """Whether predictions are ``X beta`` plus something."""
        return any(self._include) or self.model.design.offset is not None

    def _offset(self, newdata: object) -> Any:
        """Values of an offset that was given as an array, if the rows carry them."""
        if not self.model.encoding.offset_array:
            return None
        table = frame.open_table(newdata, title="the new data")
        return table.read(_OFFSET) if _OFFSET in table.names else None

    def _rows(self, newdata: object) -> dict[str, Any]:
        """The columns of new rows, those that the fit read as numbers turned back into them."""
        table = frame.open_table(newdata, title="the new data")
        columns: dict[str, Any] = {name: table.read(name) for name in table.names}
        for name, levels in self._coded.items():
            if name in columns:
                codes = frame.recode(columns[name], levels)
                columns[name] = np.where(codes < 0, np.nan, levels[codes])
        return columns


# ------------------------------------------------------------------ data


def _no_formula(newdata: object) -> None:
    """Stands where marginaleffects keeps a formula: the model encodes new rows itself."""
    raise NotImplementedError("new rows are encoded by get_exog")


def _predictors(result: FittedModel) -> list[str]:
    """Columns that a prediction without random effects reads, an offset's last."""
    encoding = result.encoding
    return columns_of(
        result.formula,
        frame.open_table(result.data),
        encoding.context,
        parts=("fixed", "offset"),
        beside=(encoding.offset_column, _OFFSET if encoding.offset_array else None),
    )


def _columns(result: FittedModel, predictors: list[str], include: list[bool]) -> dict[str, Column]:
    """Plain columns of the rows used: response, predictors, weights and grouping columns.

    Grouping columns with a name that marginaleffects keeps for itself are left out if no
    prediction needs them.
    """
    design = require_rows(result.design, "a marginal model")
    formula, options, kept = result.formula, result.options, design.kept
    table = frame.open_table(result.data)
    columns: dict[str, Column] = {formula.response: design.y}
    context = result.encoding.context
    groups = columns_of(formula, table, context, parts=("groups",))
    slopes = columns_of(formula, table, context, parts=("slopes",))
    others = [n for n in [*groups, *slopes] if any(include) or n not in _RESERVED]
    if isinstance(options.weights, str):
        others.append(options.weights)
    for name in dict.fromkeys([*predictors, *others]):
        if name == _OFFSET:
            columns[name] = column_of("offset", options.offset, table)[kept]
        elif name not in columns:
            columns[name] = frame.plain(frame.pick(table, [name])[name][kept], name)
    return columns


def _series(name: str, column: Column, as_text: bool) -> Any:
    """Polars series: categories as an ``Enum`` in their order, booleans as the numbers they are."""
    if as_text and not isinstance(column, pd.Categorical):
        codes, levels = frame.factorize(column)
        column = pd.Categorical.from_codes(codes, categories=pd.Index(keys.texts(levels)))
    if not isinstance(column, pd.Categorical):
        values = np.asarray(column)
        return pl.Series(name, values.astype(np.int64) if values.dtype == bool else values)
    texts = keys.texts(np.asarray(column.categories))
    return pl.Series(name, np.array(texts, dtype=object)[column.codes].tolist(), pl.Enum(texts))


def _coded_numbers(encoding: Encoding, columns: Mapping[str, Column]) -> dict[str, Any]:
    """Levels of numeric columns that the fixed side reads as categories alone: ``C(year)``."""
    factors = [f for term in model_terms(encoding.fixed.text) for f in term.factors]
    states = {} if encoding.fixed.spec is None else encoding.fixed.spec.encoder_state
    reads: dict[bool, set[str]] = {True: set(), False: set()}
    for factor in factors:
        kind = states.get(factor.expr, (None,))[0]
        reads[kind is Factor.Kind.CATEGORICAL] |= names_in(side_of(factor))[0]
    for side in encoding.offset:
        reads[False] |= names_in(side.text)[0]
    names = (reads[True] - reads[False]) & set(columns)
    return {
        name: frame.factorize(columns[name])[1] for name in names if frame.is_numeric(columns[name])
    }
