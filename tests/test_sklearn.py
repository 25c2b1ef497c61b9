"""Estimators of scikit-learn: its own checks, searches and pipelines, and the numbers of fit."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import interlace
from interlace import InterlaceError
from interlace.sklearn import MixedModelClassifier, MixedModelRegressor

SLEEP = interlace.datasets.load("sleepstudy")
X, Y = SLEEP[["Days", "Subject"]], SLEEP["Reaction"]
SLOW = np.where(Y > 300, "slow", "fast")


# ------------------------------------------------------------------ the checks of scikit-learn


class _Binned:
    """Groups made of the numbers that the checks draw, for they come without any."""

    def _data(self, X: object, *, reset: bool) -> object:
        data = super()._data(X, reset=reset).copy()
        data.columns = [str(name) for name in data.columns]
        first = data.iloc[:, 0].fillna(0.0).to_numpy(dtype=float)
        return data.assign(bin_=np.floor(5.0 * first).astype(int) % 3)


class BinnedRegressor(_Binned, MixedModelRegressor):
    pass


class BinnedClassifier(_Binned, MixedModelClassifier):
    pass


# Checks that ask for what these models are not, and why.
OTHERWISE = {
    "check_sample_weight_equivalence_on_dense_data": "two rows are not one row of weight 2",
    "check_sample_weights_invariance": "the same, as older versions call it",
    "check_regressors_no_decision_function": "its response is a predictor, without an error",
    "check_sample_weights_shape": "so it is here",
    "check_sample_weights_not_overwritten": "and here",
    "check_array_api_input": "rows are read by name, not by another array library",
}


def checks() -> Iterator[object]:
    for estimator in (BinnedRegressor(groups="bin_"), BinnedClassifier(groups="bin_")):
        for own, check in estimator_checks_generator(estimator):
            name = getattr(check, "func", check).__name__
            if name not in OTHERWISE:
                yield pytest.param(own, check, id=f"{type(own).__name__}-{name}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_checks_of_scikit_learn(estimator: object, check: Callable[[object], object]) -> None:
    check(estimator)


# ------------------------------------------------------------------ numbers


def test_the_regressor_is_a_fit() -> None:
    model = MixedModelRegressor("Days + (Days | Subject)", method="ML").fit(X, Y)
    expected = interlace.fit("Reaction ~ Days + (Days | Subject)", SLEEP, method="ML")
    assert_allclose(model.result_.fe_params, expected.fe_params)
    assert_allclose(model.predict(X), expected.predict(SLEEP))
    assert model.score(X, Y) == pytest.approx(1.0 - (expected.resid**2).sum() / _squares(Y))
    assert_allclose(
        clone(model).set_params(include_re=False).fit(X, Y).predict(X),
        expected.predict(SLEEP, include_re=False),
    )


def _squares(y: pd.Series) -> float:
    return float(((y - y.mean()) ** 2).sum())


@pytest.mark.parametrize(
    "formula", ["Reaction ~ Days + (1 | Subject)", "~ Days + (1 | Subject)", "Days+(1|Subject)"]
)
def test_formulas_with_and_without_a_response(formula: str) -> None:
    model = MixedModelRegressor(formula).fit(X, Y.to_numpy())
    assert str(model.result_.formula).partition("~")[2] == " Days + (1 | Subject)"


def test_without_a_formula_all_columns_count() -> None:
    data = X.assign(**{"hours of sleep": np.sin(X["Days"])})
    model = MixedModelRegressor(groups="Subject").fit(data, Y)
    assert list(model.result_.fe_params.index) == ["Intercept", "Days", "hours of sleep"]
    assert list(model.feature_names_in_) == ["Days", "Subject", "hours of sleep"]
    arrays = MixedModelRegressor(groups="x1").fit(X.astype(float).to_numpy(), Y)
    assert_allclose(arrays.result_.fe_params["x0"], 10.467, atol=1e-3)


@pytest.mark.parametrize("frame", [pl.from_pandas, lambda d: d])
def test_the_classifier_is_a_fit(frame) -> None:
    model = MixedModelClassifier("Days", groups="Subject").fit(frame(X), SLOW)
    data = SLEEP.assign(slow=(SLOW == "slow").astype(float))
    expected = interlace.fit("slow ~ Days + (1 | Subject)", data, family="binomial")
    assert model.classes_.tolist() == ["fast", "slow"]
    found = model.predict_proba(frame(X))
    assert_allclose(found[:, 1], expected.predict(data), rtol=1e-10)
    assert_allclose(found.sum(axis=1), 1.0)
    assert (model.predict(frame(X)) == np.where(found[:, 1] > 0.5, "slow", "fast")).all()
    assert_allclose(model.decision_function(frame(X)), np.log(found[:, 1] / found[:, 0]))
    assert model.score(frame(X), SLOW) > 0.85
    average = clone(model).set_params(include_re="integrated").fit(frame(X), SLOW)
    assert_allclose(
        average.predict_proba(frame(X))[:, 1], expected.predict(data, include_re="integrated")
    )


def test_other_families_and_weights() -> None:
    counts = Y.round()
    model = MixedModelRegressor("Days", groups="Subject", family="poisson").fit(X, counts)
    expected = interlace.fit("n ~ Days", SLEEP.assign(n=counts), groups="Subject", family="poisson")
    assert_allclose(model.predict(X), expected.predict(SLEEP))
    weights = np.where(X["Days"] == 0, 0.0, 2.0)
    weighted = MixedModelRegressor("Days", groups="Subject").fit(X, Y, sample_weight=weights)
    later = interlace.fit("Reaction ~ Days", SLEEP[SLEEP["Days"] > 0], groups="Subject")
    assert_allclose(weighted.result_.fe_params, later.fe_params)


# ------------------------------------------------------------------ searches and pipelines


def test_cross_validation_by_group() -> None:
    model = MixedModelRegressor("Days", groups="Subject", include_re=False)
    folds = GroupKFold(6)
    scores = cross_val_score(model, X, Y, groups=X["Subject"], cv=folds)
    assert len(scores) == 6 and scores.mean() < model.fit(X, Y).score(X, Y)
    left_out = cross_val_predict(model, X, Y, groups=X["Subject"], cv=folds)
    assert left_out.shape == Y.shape


def test_a_grid_of_formulas() -> None:
    grid = {"formula": ["Days + (1 | Subject)", "Days + (Days | Subject)"], "method": ["ML"]}
    search = GridSearchCV(
        MixedModelRegressor(), grid, cv=KFold(4, shuffle=True, random_state=0)
    ).fit(X, Y)
    assert search.best_params_["formula"] == "Days + (Days | Subject)"
    assert pickle.loads(pickle.dumps(search)).predict(X[:2]).shape == (2,)


def test_a_pipeline() -> None:
    scaled = ColumnTransformer(
        [("scale", StandardScaler(), ["Days"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(scaled, MixedModelRegressor("Days + (Days | Subject)")).fit(X, Y)
    alone = MixedModelRegressor("Days + (Days | Subject)").fit(X, Y)
    assert_allclose(model.predict(X), alone.predict(X), rtol=1e-6)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formula": "log(Reaction) ~ Days + (1 | Subject)"}, "must be a plain name"),
        ({"formula": "Days ~ (1 | Subject)"}, "X has a column 'Days', which is the name of"),
        ({"formula": "Days"}, "has no random term"),
        ({"formula": "Days + (1 | Person)"}, "has no column 'Person'"),
    ],
)
def test_what_cannot_be_fitted(change: dict[str, str], message: str) -> None:
    with pytest.raises(InterlaceError, match=re.escape(message)):
        MixedModelRegressor(**change).fit(X, Y)


def test_what_cannot_be_predicted() -> None:
    model = MixedModelRegressor("Days", groups="Subject", new_levels="raise")
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(InterlaceError, match="were not there when the model was fitted"):
        model.fit(X[:90], Y[:90]).predict(X)
    with pytest.raises(ValueError, match="Only binary classification"):
        MixedModelClassifier("Days", groups="Subject").fit(X, X["Days"])
    with pytest.raises(InterlaceError, match="sample_weight is -1 in row 3"):
        model.fit(X, Y, sample_weight=np.where(np.arange(180) == 3, -1.0, 1.0))
    gaps = X.assign(Days=X["Days"].where(X["Days"] != 3))
    assert np.isnan(model.fit(gaps, Y).predict(gaps)).sum() == 18
    assert model.result_.n_dropped == 18
    with pytest.raises(InterlaceError, match=r"row 3 of X .* no class"):
        MixedModelClassifier("Days", groups="Subject").fit(gaps, SLOW).predict(gaps)
