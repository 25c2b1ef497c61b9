"""Standard errors and intervals of predictions: lme4's equations, n x n matrices, simulation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import interlace
from dense import FORMULAS, MODELS, Dense, frame, identity
from fits import of_case
from fits import of_small as fitted
from interlace import InterlaceError
from interlace.design.design import Design
from interlace.design.newdata import replay
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate
from interlace.model.predict import predict
from interlace.sums.crossprod import with_response
from interlace.sums.terms import Floats, split_theta
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

EXACT = {"rtol": 1e-8, "atol": 1e-10}
Result = interlace.CrossedLMEResult


def table(result: Result, newdata: object = None, include_re: object = True, **options: object):
    return predict(result.design, result.estimate, newdata, include_re, **options)


def blocks_of(design: Design, new: object) -> list[tuple[Floats, Floats]]:
    rows = replay(design.encoding, new)
    return list(zip(rows.codes, rows.Z, strict=True))


def new_rows() -> pd.DataFrame:
    """Known levels in combinations of their own, new and missing ones, some for each factor."""
    new = frame(36, seed=8)
    for i, key in enumerate(["g", "h", "a", "b", "c"]):
        new[key] = new[key].mask(np.arange(36) % 7 == i, "never seen")
        new[key] = new[key].mask(np.arange(36) % 11 == i, None)
    return new


# ------------------------------------------------------------ golden files

WITH_SE = [(n, m) for n in cases.case_names() if n != "insteval" for m in cases.METHODS]


@pytest.mark.parametrize(("name", "method"), WITH_SE)
def test_standard_errors_of_the_reference(name: str, method: str) -> None:
    case = cases.load_case(name)
    result = of_case(name, method)
    golden = cases.load_golden(name, "inference")[method]["predict_se"]
    new = cases.newdata(case, method).iloc[np.array(golden["rows_1based"]) - 1]
    with_effects, without = table(result, new, se=True), table(result, new, False, se=True)
    assert_allclose(with_effects["se"], golden["se_conditional"], rtol=1e-6)
    assert_allclose(without["se"], golden["se_fixed_part"], rtol=1e-6)


# ------------------------------------------------------------ n x n matrices


def expected_variances(result: Result, new: pd.DataFrame, include: list[bool]) -> Floats:
    """Variance of the expected response of every row less its prediction.

    The prediction is ``L y`` with ``L = x'B + c'V^-1 (I - X B)``, ``B y`` the estimate of ``beta``
    and ``c`` the covariance of the response and the row's effects; nothing of the mixed-model
    equations.
    """
    estimate, A = result.estimate, result.estimate.A
    dense = Dense(result.design, A, identity(A), estimate.user_templates, True)
    X = replay(result.design.encoding, new).X
    B = dense.vcov @ dense.X.T @ dense.V_inverse
    c, variance = np.zeros((A.n, len(new))), np.zeros(len(new))
    blocks = blocks_of(result.design, new)
    for (codes, z), T, Z, wanted in zip(blocks, dense.templates, dense.Z, include, strict=True):
        if wanted:
            at = np.where(codes >= 0)[0]
            rows = z @ T
            variance += (rows**2).sum(axis=1)
            c[:, at] += np.einsum("nmk,mk->nm", (Z @ T)[:, codes[at]], rows[at])
    L = X @ B + c.T @ dense.V_inverse @ (np.eye(A.n) - dense.X @ B)
    variance += np.einsum("mn,nk,mk->m", L, dense.V, L) - 2.0 * np.einsum("mn,nm->m", L, c)
    return estimate.sigma**2 * variance


def prior_variances(result: Result, new: pd.DataFrame, wanted: list[bool]) -> Floats:
    """``z'Sigma z`` of the wanted terms."""
    blocks = blocks_of(result.design, new)
    return sum(
        np.einsum("mk,kl,ml->m", z, Sigma, z) * want
        for (_, z), Sigma, want in zip(blocks, result.estimate.covariances, wanted, strict=True)
    )


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_new_rows_agree_with_dense_matrices(name: str, weighted: bool) -> None:
    result, new = fitted(name, weighted), new_rows()
    terms = result.estimate.A.terms
    w = new["w"] if weighted else 1.0
    for names in (True, False, *result.ngroups):
        include = [names is True or t.group == names for t in terms]
        expected = expected_variances(result, new, include)
        confidence = table(result, new, names, interval="confidence")
        assert_allclose(confidence["se"] ** 2, expected, **EXACT)
        assert_allclose(table(result, new, names, se=True)["se"], confidence["se"], **EXACT)
        expected += result.scale / w + prior_variances(result, new, [not i for i in include])
        prediction = table(result, new, names, interval="prediction")
        assert_allclose(prediction["se"] ** 2, expected, **EXACT)
        assert_allclose(prediction["prediction"], result.predict(new, names), **EXACT)


@pytest.mark.parametrize(("name", "weighted"), MODELS)
@pytest.mark.parametrize("interval", ["confidence", "prediction"])
def test_rows_of_the_fit_are_new_rows_like_others(name: str, weighted: bool, interval: str) -> None:
    result = fitted(name, weighted)
    for names in (True, False, next(iter(result.ngroups))):
        own = table(result, None, names, interval=interval)
        assert_allclose(own, table(result, frame(), names, interval=interval), **EXACT)


# ------------------------------------------------------------ simulation


SIMULATED = pd.DataFrame(
    {
        "g": ["g0", "g1", "g2", "new", "new", None],
        "h": ["h0", "h3", "new", "h1", "new", None],
        "x": [0.0, 1.5, -1.0, 0.5, 2.0, 1.0],
        "z": [1.0, -2.0, 0.5, 1.0, 0.0, 1.0],
    }
)
DRAWS = 20_000


def test_errors_of_prediction_have_these_variances() -> None:
    """With parameters known the prediction is ``L y``; ``beta`` drops out and may be 0."""
    design, estimate = fitted("crossed slopes").design, known("crossed slopes")
    L = prediction_map(design, estimate)
    assert_allclose(L @ design.X, replay(design.encoding, SIMULATED).X, atol=1e-7)
    rng = np.random.default_rng(3)
    used, new = simulated_effects(design, estimate, rng)
    used += rng.normal(0.0, estimate.sigma, used.shape)
    found = ((L @ used - new) ** 2).mean(axis=1)
    error = {"rtol": 4.0 * np.sqrt(2.0 / DRAWS)}
    confidence = predict(design, estimate, SIMULATED, interval="confidence")
    assert_allclose(found, confidence["se"] ** 2, **error)
    new += rng.normal(0.0, estimate.sigma, new.shape)
    found = ((L @ used - new) ** 2).mean(axis=1)
    prediction = predict(design, estimate, SIMULATED, interval="prediction")
    assert_allclose(found, prediction["se"] ** 2, **error)


def known(name: str) -> Estimate:
    """A model at templates that are far from singular."""
    estimate = fitted(name).estimate
    theta = np.array([0.8, 0.3, 0.6, 0.7, -0.2, 0.5])
    templates = estimate.criterion.working(split_theta(estimate.A.terms, theta))
    return replace(estimate, templates=tuple(templates))


def prediction_map(design: Design, estimate: Estimate) -> Floats:
    """``L`` (m, n), from the predictions that unit changes of the response lead to."""

    def predictions(y: Floats) -> Floats:
        criterion = Criterion(with_response(estimate.A, design, y), True)
        templates = tuple(criterion.working(estimate.user_templates))
        moved = replace(estimate, criterion=criterion, templates=templates)
        return predict(design, moved, SIMULATED)

    start = predictions(design.y)
    return np.array([predictions(design.y + e) - start for e in np.eye(len(design.y))]).T


def simulated_effects(
    design: Design, estimate: Estimate, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """``Z b`` of the rows of the fit and of the new ones; every new level is a level of its own."""
    m = len(SIMULATED)
    used, new = np.zeros((len(design.y), DRAWS)), np.zeros((m, DRAWS))
    blocks = blocks_of(design, SIMULATED)
    parts = zip(blocks, design.codes, design.Z, design.terms, estimate.user_templates, strict=True)
    for (codes, z), own, Z, term, T in parts:
        draws = rng.normal(0.0, estimate.sigma, (term.l + m, term.k, DRAWS))
        b = np.einsum("ij,ljd->lid", T, draws)
        levels = np.where(codes >= 0, codes, term.l + np.arange(m))
        used += np.einsum("nk,nkd->nd", Z, b[own])
        new += np.einsum("mk,mkd->md", z, b[levels])
    return used, new


# ------------------------------------------------------------ intervals


@pytest.mark.parametrize("interval", ["confidence", "prediction"])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_limits_are_normal_quantiles_away(interval: str, level: float) -> None:
    found = table(fitted("crossed slopes"), new_rows(), interval=interval, level=level)
    assert list(found.columns) == ["prediction", "se", "lower", "upper"]
    reach = stats.norm.ppf(0.5 + level / 2) * found["se"]
    assert_allclose(found["upper"] - found["prediction"], reach, **EXACT)
    assert_allclose(found["prediction"] - found["lower"], reach, **EXACT)


@dataclass(frozen=True)
class Reference:
    """Twice the covariance; 3 degrees of freedom where ``x > 0``, infinite elsewhere."""

    result: Result

    @property
    def vcov(self) -> Floats:
        return 4.0 * self.result.fe_cov

    def df(self, L: Floats) -> Floats:
        assert len(np.unique(L, axis=0)) == len(L)
        return np.where(L[:, 1] > 0, 3.0, np.inf)


def test_a_reference_for_the_fixed_part() -> None:
    result, new = fitted("crossed slopes"), new_rows()
    new.loc[[3, 4], "x"] = [np.nan, new["x"][5]]
    plain = table(result, new, False, interval="confidence")
    found = table(result, new, False, interval="confidence", reference=Reference(result))
    assert_allclose(found["se"], 2.0 * plain["se"], **EXACT)
    quantiles = np.where(new["x"] > 0, stats.t.ppf(0.975, 3), stats.norm.ppf(0.975))
    expected = found["prediction"] + quantiles * found["se"]
    assert_allclose(found["upper"], expected, **EXACT)
    assert np.isnan(found.loc[3]).all()


def test_a_reference_elsewhere() -> None:
    """Its covariance counts in a new observation, its degrees of freedom do not; random: none."""
    result, new = fitted("crossed slopes"), new_rows()
    reference = Reference(result)
    fixed = table(result, new, False, se=True)
    plain = table(result, new, False, interval="prediction")
    found = table(result, new, False, interval="prediction", reference=reference)
    assert_allclose(found["se"] ** 2, plain["se"] ** 2 + 3.0 * fixed["se"] ** 2, **EXACT)
    reach = stats.norm.ppf(0.975) * found["se"]
    assert_allclose(found["upper"], found["prediction"] + reach, **EXACT)
    given = table(result, new, interval="confidence", reference=reference)
    pd.testing.assert_frame_equal(given, table(result, new, interval="confidence"))


def test_a_prediction_alone_stays_an_array() -> None:
    result = fitted("crossed slopes")
    found = table(result, new_rows())
    assert isinstance(found, np.ndarray)
    assert_allclose(found, result.predict(new_rows()), **EXACT)
    assert list(table(result, se=True).columns) == ["prediction", "se"]


def test_the_index_is_that_of_a_pandas_frame() -> None:
    result, new = fitted("crossed slopes"), new_rows().set_index(np.arange(36) * 2 + 7)
    own = table(result, new, se=True)
    assert own.index.equals(new.index)
    counted = pd.RangeIndex(36)
    for other in (pl.from_pandas(new), new.to_dict(orient="list")):
        found = table(result, other, se=True)
        assert found.index.equals(counted)
        assert_allclose(found, own, **EXACT)
    assert table(result, se=True).index.equals(pd.RangeIndex(90))
    assert table(result, new.head(0), interval="prediction").shape == (0, 4)


def test_missing_values_give_nan_everywhere() -> None:
    result, new = fitted("crossed slopes"), new_rows()
    new.loc[2, "x"], new.loc[4, "z"] = np.nan, np.nan
    for include, interval, missing in [
        (True, "confidence", [2, 4]),
        (True, "prediction", [2, 4]),
        ("h", "confidence", [2, 4]),
        (False, "confidence", [2]),
        (False, "prediction", [2, 4]),
    ]:
        found = table(result, new, include, interval=interval)
        assert np.flatnonzero(found.isna().any(axis=1)).tolist() == missing
        assert np.flatnonzero(found.isna().all(axis=1)).tolist() == missing


def test_grouping_columns_of_terms_left_out_are_not_needed() -> None:
    result, new = fitted("crossed slopes"), new_rows()
    found = table(result, new.drop(columns=["g", "h"]), False, interval="prediction")
    assert_allclose(found, table(result, new, False, interval="prediction"), **EXACT)
    found = table(result, new.drop(columns="h"), "g", interval="prediction")
    assert_allclose(found, table(result, new, "g", interval="prediction"), **EXACT)
    alone = table(result, new.drop(columns=["h", "z"]), "g", se=True)
    assert_allclose(alone, table(result, new, "g", se=True), **EXACT)


def test_redundant_columns_change_nothing() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"])
    with pytest.warns(interlace.RankDeficiencyWarning):
        result = interlace.fit(FORMULAS["crossed slopes"].replace("~ x", "~ x + twice"), data)
    new = new_rows().assign(twice=lambda d: 2 * d["x"])
    found = table(result, new, interval="prediction")
    expected = table(fitted("crossed slopes"), new, interval="prediction")
    assert_allclose(found, expected, rtol=1e-5)


def test_an_offset_moves_the_interval() -> None:
    result = interlace.fit("y ~ x + (1 | g)", frame(), offset="o")
    new = new_rows()
    found = table(result, new, interval="confidence")
    at_zero = table(result, new.assign(o=0.0), interval="confidence")
    assert_allclose(found["se"], at_zero["se"], **EXACT)
    assert_allclose(found["lower"], at_zero["lower"] + new["o"], **EXACT)


# ------------------------------------------------------------ weights of new rows


def test_new_rows_weigh_1_unless_they_have_the_column() -> None:
    result, new = fitted("crossed", True), new_rows()
    confidence = table(result, new, se=True)["se"] ** 2
    without = table(result, new.drop(columns="w"), interval="prediction")["se"] ** 2
    assert_allclose(without, confidence + result.scale, **EXACT)
    array = interlace.fit(FORMULAS["crossed"], frame(), weights=frame()["w"].to_numpy())
    assert_allclose(table(array, new, interval="prediction")["se"] ** 2, without, rtol=1e-7)


def test_a_missing_weight() -> None:
    result, new = fitted("crossed", True), new_rows()
    new.loc[5, "w"] = np.nan
    assert table(result, new, se=True).notna().all(axis=None)
    found = table(result, new, interval="prediction")
    assert np.flatnonzero(found.isna().all(axis=1)).tolist() == [5]
    assert found.isna().any(axis=1).sum() == 1


def test_a_weight_that_is_not_positive() -> None:
    result, new = fitted("crossed", True), new_rows()
    new.loc[2, "w"], new.loc[5, "w"] = np.nan, 0.0
    with pytest.raises(InterlaceError) as caught:
        table(result, new, interval="prediction")
    assert str(caught.value) == (
        "weights must be positive, but row 5 of the new data (counted from 0) has 0: "
        "leave such rows out"
    )


# ------------------------------------------------------------ bad arguments


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, float("nan")])
def test_a_level_outside_0_and_1(level: float) -> None:
    with pytest.raises(InterlaceError) as caught:
        table(fitted("crossed"), interval="confidence", level=level)
    assert str(caught.value) == f"level must be strictly between 0 and 1, not {level!r}"


def test_an_unknown_interval() -> None:
    with pytest.raises(InterlaceError) as caught:
        table(fitted("crossed"), interval="credible")
    assert str(caught.value) == (
        "interval must be None, 'confidence' or 'prediction', not 'credible'"
    )
