"""What can be asked of models with ``residual=`` beside coefficients, against dense matrices."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, StructuredLMEResult
from reference.structures.cases import data

CASES = {
    "us": ("y ~ x + week", {"residual": "us(week | id)"}),
    "weights": ("y ~ x + week", {"residual": "ar1h(week | id)", "weights": "w"}),
    "by": ("y ~ x + week", {"residual": "toep(week | id, by=arm)"}),
    "strata": ("y ~ x + (1 + week | id)", {"residual": "varident(arm)"}),
    "product": ("y ~ x + (1 | id)", {"residual": "ar1(week | id) * varpower(z)", "weights": "w"}),
    "times": ("y ~ x", {"residual": "car1(t | id)"}),
    "beside": ("y ~ x + (1 | id)", {"residual": "sp_gau(t | id)"}),
    "shared": ("y ~ x", {"residual": "sp_exp(w5 | id)"}),
}


def trial() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n, k = 60, 4
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(n), k),
            "week": np.tile(np.arange(k), n),
            "arm": np.repeat(["a", "b"], n * k // 2),
            "x": rng.normal(size=n * k),
            "z": rng.uniform(1.0, 3.0, size=n * k).round(1),
            "w": rng.choice([0.5, 1.0, 2.0], size=n * k),
            "t": np.cumsum(rng.uniform(0.3, 2.0, size=(n, k)), axis=1).ravel(),
        }
    )
    frame["w5"] = 5.0 * frame["week"]
    shared = np.repeat(rng.normal(size=(n, 1)), k, axis=1) + np.cumsum(
        rng.normal(size=(n, k)), axis=1
    )
    frame["y"] = 3.0 + frame["x"] + (shared + rng.normal(size=(n, k))).ravel()
    return frame[rng.random(n * k) < 0.85]


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[StructuredLMEResult, pd.DataFrame]:
    formula, arguments = CASES[request.param]
    frame = trial()
    return interlace.fit(formula, frame, **arguments), frame


@pytest.fixture(scope="module")
def result() -> StructuredLMEResult:
    return interlace.fit(
        "FEV1 ~ ARMCD * AVISIT", data("fev"), residual="us(AVISIT | USUBJID)", ddf="satterthwaite"
    )


def dense(result: StructuredLMEResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The covariance of all rows, from what a result says of itself; X; residuals."""
    at, design = result.places, result.design
    assert design is not None
    P, e = result.estimate.criterion.patterns, result.estimate
    Sigma = e.unit**2 * e.evaluation.covariances[P.groups[P.of_subject[at.subjects]]]
    same = at.subjects[:, None] == at.subjects[None, :]
    V = np.where(same, Sigma[np.arange(len(at.visits))[:, None], at.visits[:, None], at.visits], 0)
    root = design.root_weights
    return (
        V / np.outer(root, root),
        design.fixed(e.A.names),
        design.y - result.predict(include_re=False),
    )


# ------------------------------------------------------------------ predictions


def test_predictions_know_the_other_rows_of_the_subject(
    case: tuple[StructuredLMEResult, pd.DataFrame],
) -> None:
    result, frame = case
    V, X, r = dense(result)
    C = result.cov_params().to_numpy()
    found = result.predict(conditional=True, interval="prediction")
    sure = result.predict(conditional=True, interval="confidence")
    assert isinstance(found, pd.DataFrame) and isinstance(sure, pd.DataFrame)
    assert list(found.index) == list(frame.index)
    for i in range(0, len(r), 7):
        others = np.arange(len(r)) != i
        t = np.linalg.solve(V[np.ix_(others, others)], V[others, i])
        a = X[i] - t @ X[others]
        expected = X[i] @ result.estimate.beta + t @ r[others]
        assert found["prediction"].iloc[i] == pytest.approx(expected, rel=1e-9)
        assert sure["se"].iloc[i] == pytest.approx(np.sqrt(a @ C @ a), rel=1e-7)
        variance = a @ C @ a + V[i, i] - t @ V[others, i]
        assert found["se"].iloc[i] == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_rows_of_the_fit_given_as_new_ones_are_predicted_alike(
    case: tuple[StructuredLMEResult, pd.DataFrame],
) -> None:
    result, frame = case
    if result.residual is not None and result.residual.structure == "id":
        return  # rows without visits are new rows beside all of the fit
    for interval in ("confidence", "prediction"):
        pd.testing.assert_frame_equal(
            result.predict(frame, conditional=True, interval=interval),
            result.predict(conditional=True, interval=interval),
        )


def test_a_new_visit_of_a_known_subject(case: tuple[StructuredLMEResult, pd.DataFrame]) -> None:
    result, frame = case
    last = frame[frame["id"] % 3 == 0].groupby("id").tail(1)
    kept = result.update(data=frame.drop(index=last.index))
    found = kept.predict(last, conditional=True, interval="prediction")
    assert isinstance(found, pd.DataFrame)
    assert np.isfinite(found.to_numpy()).all()
    alone = kept.predict(last, include_re=False, interval="prediction")
    assert isinstance(alone, pd.DataFrame)
    assert (found["se"] < alone["se"] + 1e-12).mean() > 0.9
    errors = [np.mean((last["y"] - p["prediction"]) ** 2) for p in (found, alone)]
    assert errors[0] < errors[1]


def test_random_effects_of_a_subject_with_their_errors() -> None:
    sleep = interlace.datasets.load("sleepstudy")
    sleep["half"] = np.where(sleep["Days"] < 5, "early", "late")
    plain = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    strata = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep, residual="varident(half)")
    new = pd.DataFrame({"Days": [0, 4, 9], "Subject": ["308", "309", "new"], "half": "late"})
    for interval in ("confidence", "prediction"):
        one, other = (m.predict(new, interval=interval) for m in (plain, strata))
        assert isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame)
        # As in the plain model, but for the other variances.
        np.testing.assert_allclose(one["prediction"], other["prediction"], rtol=0.1)
        np.testing.assert_allclose(one["se"], other["se"], rtol=0.35)
    same = strata.predict(conditional=True)
    assert not np.allclose(same, strata.fittedvalues)  # it does not know its own row


def test_variances_of_new_rows_follow_strata_and_numbers() -> None:
    frame = trial()
    strata = interlace.fit("y ~ x", frame, residual="cs(week | id) * varident(arm)")
    new = pd.DataFrame({"x": 0.0, "arm": ["a", "b"], "week": 0})
    found = strata.predict(new, interval="prediction")
    assert isinstance(found, pd.DataFrame)
    own = found["se"] ** 2 - strata.predict(new, se=True)["se"] ** 2  # type: ignore[call-overload]
    ratio = strata.residual_parameters.loc["ratio_b", "estimate"]
    assert np.sqrt(own[1] / own[0]) == pytest.approx(ratio)
    with pytest.raises(InterlaceError, match=r"row 1 of the new data .* has 'c' in arm"):
        strata.predict(new.assign(arm=["a", "c"]), interval="prediction")


def test_what_cannot_be_predicted_is_refused(result: StructuredLMEResult) -> None:
    new = pd.DataFrame({"ARMCD": ["PBO"], "AVISIT": ["VIS1"], "USUBJID": ["PT1"]})
    with pytest.raises(InterlaceError, match="interval must be"):
        result.predict(new, interval="both")
    frame = trial()
    both = interlace.fit("y ~ x + (1 | id)", frame, residual="ar1(week | id)")
    with pytest.raises(InterlaceError, match="ask for conditional=True"):
        both.predict(frame, interval="prediction")
    numbers = interlace.fit("y ~ x", frame, residual="us(week | id)")
    with pytest.raises(InterlaceError, match=r"has 9 in week, .* no visit of the fit \(0, 1"):
        numbers.predict(frame.head(1).assign(week=9), conditional=True)
    by = interlace.fit("y ~ x", frame, residual="cs(week | id, by=arm)")
    with pytest.raises(InterlaceError, match="which has no covariance in the fit"):
        by.predict(frame.head(1).assign(arm="z", id=-5), interval="prediction")


# ------------------------------------------------------------------ draws and refits


def test_draws_have_the_covariance_of_the_model(
    case: tuple[StructuredLMEResult, pd.DataFrame],
) -> None:
    result, _ = case
    V, _, _ = dense(result)
    draws = result.simulate(3000, seed=1) - np.asarray(result.predict(include_re=False))[:, None]
    first = result.places.subjects <= 3
    S = np.cov(draws[first])
    scale = np.sqrt(np.outer(np.diag(V), np.diag(V)))[np.ix_(first, first)]
    np.testing.assert_allclose(S / scale, V[np.ix_(first, first)] / scale, atol=0.1)
    np.testing.assert_array_equal(result.simulate(2, seed=5), result.simulate(20, seed=5)[:, :2])


def test_draws_around_the_modes_have_the_residual_variance() -> None:
    frame = trial()
    result = interlace.fit("y ~ x + (1 | id)", frame, residual="varident(arm)")
    draws = result.simulate(2000, seed=1, include_re=True)
    np.testing.assert_allclose(draws.mean(axis=1), result.fittedvalues, atol=0.2)
    sd, ratio = result.residual_parameters["estimate"]
    expected = np.where(frame["arm"] == "a", sd, sd * ratio)
    np.testing.assert_allclose(draws.std(axis=1), expected, rtol=0.1)


def test_another_response(case: tuple[StructuredLMEResult, pd.DataFrame]) -> None:
    result, frame = case
    other = result.simulate(1, seed=2)[:, 0]
    found = result.refit(other)
    direct = result.update(data=frame.assign(y=other))
    assert found.criterion == pytest.approx(direct.criterion, abs=1e-6)
    np.testing.assert_allclose(found.fe_params, direct.fe_params, rtol=1e-5)
    with pytest.raises(InterlaceError, match="the new response has shape"):
        result.refit(other[:3])


def test_bootstrap_of_all_parameters() -> None:
    frame = trial()
    result = interlace.fit("y ~ x", frame, residual="ar1h(week | id, by=arm)")
    boot = result.bootstrap(12, seed=1)
    assert boot.n_failed == 0
    assert list(boot.replicates.columns[:4]) == ["Intercept", "x", "a: sd_0", "a: sd_1"]
    values = result.residual_parameters["estimate"].to_numpy()
    np.testing.assert_allclose(boot.estimate.to_numpy()[2:], values)
    again = result.bootstrap(3, seed=1, statistic=lambda r: r.fe_params)
    np.testing.assert_allclose(again.replicates, boot.replicates.iloc[:3, :2])
    limits = result.conf_int(method="bootstrap", n_bootstrap=4, seed=1, parm="x")
    assert limits.shape == (1, 2)
    with pytest.raises(InterlaceError, match="use kind='parametric'"):
        result.bootstrap(4, kind="wild")
    random = interlace.fit("y ~ x + (1 + week | id)", frame, residual="varident(arm)")
    assert list(random.bootstrap(2, seed=1).replicates.columns)[2:] == [
        "sd_Intercept|id", "cor_week.Intercept|id", "sd_week|id", "sd", "ratio_b",
    ]  # fmt: skip


# ------------------------------------------------------------------ reports


def test_the_data_with_what_the_model_says(result: StructuredLMEResult) -> None:
    frame = data("fev")
    table = result.augment()
    assert list(table.columns[-6:]) == [
        ".fitted", ".resid", ".fixed", ".pearson", ".normalized", ".weights",
    ]  # fmt: skip
    assert {"USUBJID", "AVISIT", "FEV1", "ARMCD"} <= set(table.columns)
    np.testing.assert_allclose(table[".normalized"], result.normalized_resid)
    sd = np.sqrt(np.diag(result.residual_covariance))  # type: ignore[arg-type]
    np.testing.assert_allclose(
        table[".pearson"], result.resid / sd[result.places.visits], rtol=1e-12
    )
    assert len(result.augment(frame.head(3))) == 3
    assert result.standardized().shape[0] == 7
    assert interlace.check_collinearity(result).index.tolist() == [
        "ARMCD",
        "AVISIT",
        "ARMCD:AVISIT",
    ]


def test_normalized_residuals_are_white(case: tuple[StructuredLMEResult, pd.DataFrame]) -> None:
    result, _ = case
    V, _, r = dense(result)
    assert (result.normalized_resid**2).sum() == pytest.approx(r @ np.linalg.solve(V, r))


def test_verbs_that_are_not_there_say_what_to_do(result: StructuredLMEResult) -> None:
    for name, way_out in {
        "ranova": "interlace.anova",
        "r2": "no one definition",
        "vcov_theta": "vcov_residual",
        "power": "simulate",
        "cross_validate": "conditional=True",
    }.items():
        with pytest.raises(AttributeError, match=f"'{name}' is not there .*{way_out}"):
            getattr(result, name)


def test_all_verbs_of_linear_models_work_or_say_why(result: StructuredLMEResult) -> None:
    known = [n for n in dir(interlace.CrossedLMEResult) if not n.startswith("_")]
    ours = dir(type(result))
    for name in known:
        if name not in ours:
            with pytest.raises(AttributeError, match=r"residual=: (?!dir)"):
                getattr(result, name)


def test_a_stored_result_still_answers(result: StructuredLMEResult) -> None:
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_allclose(again.predict(conditional=True), result.predict(conditional=True))
    assert again.augment().shape[0] == result.nobs


def test_tidy_has_random_effects_and_limits() -> None:
    orthodont = interlace.datasets.load("orthodont")
    result = interlace.fit(
        "distance ~ age + (1 | Subject)", orthodont, residual="varident(Sex)", method="ML"
    )
    table = result.tidy("ran_pars", conf_int=True).set_index("term")
    assert list(table.index) == ["sd__Intercept", "sd", "ratio_Female"]
    assert table["group"].tolist() == ["Subject", "Residual", "Residual"]
    sd = table.loc["sd__Intercept"]
    assert sd["estimate"] == pytest.approx(np.sqrt(result.variance_components["Subject"]))
    wide = np.log(sd[["conf.low", "conf.high"]].astype(float)) - np.log(sd["estimate"])
    np.testing.assert_allclose(np.abs(wide), 1.959964 * sd["std.error"] / sd["estimate"], rtol=1e-6)
    profile = result.conf_int(method="profile", parm="theta_")
    np.testing.assert_allclose(table[["conf.low", "conf.high"]], profile, rtol=0.1)
    assert len(result.tidy("ran_vals")) == 27
    us = interlace.fit("distance ~ age", orthodont, residual="cs(age | Subject, by=Sex)")
    assert us.tidy("all", conf_int=True)["group"].tolist()[2:] == [
        "Residual Male", "Residual Male", "Residual Female", "Residual Female",
    ]  # fmt: skip
    for figure in (interlace.plot_coef(us), interlace.plot_ranef(result)):
        assert figure is not None


def test_imputed_data_are_pooled(result: StructuredLMEResult) -> None:
    fits = [result.refit(y) for y in result.simulate(3, seed=1).T]
    pooled = interlace.pool(fits)
    estimates = np.array([fit.fe_params for fit in fits])
    np.testing.assert_allclose(pooled.table["estimate"], estimates.mean(axis=0))
    assert list(pooled.variances.index) == result.parameter_names
    assert np.isfinite(pooled.table["df"]).all()
