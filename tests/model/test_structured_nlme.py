"""Variance functions, and random effects of the subject beside a structure: nlme's models."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, StructuredLMEResult
from reference.structures.cases import data, golden

# Formula and residual structure of every case.
CASES = {
    "gls_ovary_ar1": ("follicles ~ s1 + c1", "ar1(idx | Mare)"),
    "gls_orthodont_varIdent_cs": ("distance ~ age * Sex", "cs(age | Subject) * varident(Sex)"),
    "gls_orthodont_symm_varIdent": ("distance ~ age * Sex", "us(age | Subject)"),
    "gls_bodyweight_car1_varPower": ("weight ~ Time * Diet", "car1(Time | Rat) * varpower(Time)"),
    "lme_ovary_ar1": ("follicles ~ s1 + c1 + (1 | Mare)", "ar1(idx | Mare)"),
    "lme_ovary_exp_int": ("follicles ~ s1 + c1 + (1 | Mare)", "sp_exp(Time | Mare)"),
    "lme_sleepstudy_varIdent_ar1": (
        "Reaction ~ Days + (1 | Subject)",
        "ar1(Days | Subject) * varident(stratum)",
    ),
    "lme_sleepstudy_slope_varExp": ("Reaction ~ Days + (Days | Subject)", "varexp(Days)"),
    "lme_orthodont_slope_varIdent": ("distance ~ age * Sex + (age | Subject)", "varident(Sex)"),
    "lme_bodyweight_slope_car1": ("weight ~ Time * Diet + (Time || Rat)", "car1(Time | Rat)"),
    "lme_bodyweight_exp": (
        "weight ~ Time * Diet + (Time | Rat)",
        "sp_exp(Time | Rat) * varpower(Time)",
    ),
}
NAMES = {"ar1_phi": "rho", "cs_rho": "rho", "varPower_power": "power", "varExp_expon": "rate"}
NAMES |= {"exp_range": "range"}
BOTH = pytest.mark.parametrize("method", ["reml", "ml"])


@functools.cache
def fitted(case: str, method: str) -> StructuredLMEResult:
    formula, residual = CASES[case]
    name = golden("nlme")[case]["data_file"].removeprefix("data/").removesuffix(".csv")
    return interlace.fit(
        formula, data(name), residual=residual, method=method.upper(), ddf="satterthwaite"
    )


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_likelihood_coefficients_and_degrees_of_freedom(case: str, method: str) -> None:
    known, result = golden("nlme")[case][method], fitted(case, method)
    assert result.converged
    assert result.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    assert result.nparams == known["npar"]
    se = np.array(list(known["se"].values()))
    beta = np.array(list(known["fixef"].values()))
    assert (np.abs(result.fe_params - beta) < 1e-5 * se).all()
    np.testing.assert_allclose(np.sqrt(np.diag(result.fe_cov)), se, rtol=1e-5)
    np.testing.assert_allclose(result.fe_df, list(known["df"].values()), rtol=1e-3)


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_covariance_parameters(case: str, method: str) -> None:
    known, result = golden("nlme")[case][method], fitted(case, method)
    table = result.residual_parameters["estimate"]
    if "symm" not in case:
        assert table["sd"] == pytest.approx(known["sigma"], rel=1e-4)
        for name, value in known["residual_parameters"].items():
            if name in NAMES:
                assert table[NAMES[name]] == pytest.approx(value, rel=1e-4, abs=1e-4)
            elif name == "varIdent_sd_ratio":
                for stratum, ratio in list(value.items())[1:]:
                    assert table[f"ratio_{stratum}"] == pytest.approx(ratio, rel=1e-4)
    assert (result.residual_parameters["se"] > 0).all()
    for wanted, found in zip(
        known["covariances"], result.variance_components.values(), strict=True
    ):
        matrix = np.atleast_2d(np.asarray(found, dtype=float))
        np.testing.assert_allclose(matrix, wanted, atol=1e-4 * np.abs(wanted).max())


@BOTH
@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("lme")])
def test_random_effects_and_fitted_values(case: str, method: str) -> None:
    known, result = golden("nlme")[case][method], fitted(case, method)
    (effects,), (errors,) = result.random_effects.values(), result.random_effects_se.values()
    for wanted, found in (("mode", effects), ("cond_sd", errors)):
        frame = found.to_frame("Intercept") if isinstance(found, pd.Series) else found
        at = zip(known["ranef"]["grp"], known["ranef"]["term"], strict=True)
        values = [frame.loc[g, "Intercept" if t == "(Intercept)" else t] for g, t in at]
        size = np.abs(known["ranef"][wanted]).max()
        np.testing.assert_allclose(values, known["ranef"][wanted], atol=1e-4 * size)
    rows = np.array(known["rows"]["obs_index_1based"]) - 1
    np.testing.assert_allclose(result.fittedvalues[rows], known["rows"]["fitted"], rtol=1e-5)


def test_predictions_have_random_effects_or_not() -> None:
    result = fitted("lme_sleepstudy_slope_varExp", "reml")
    frame = data("sleepstudy_s")
    np.testing.assert_allclose(result.predict(frame), result.fittedvalues)
    with_errors = result.predict(frame.head(3), include_re=False, se=True)
    assert isinstance(with_errors, pd.DataFrame)
    # The same as of a model without residual= whose weights are the variances found.
    rate = result.residual_parameters.loc["rate", "estimate"]
    weights = np.exp(-2.0 * rate * frame["Days"])
    plain = interlace.fit("Reaction ~ Days + (Days | Subject)", frame, weights=weights)
    for interval in ("confidence", "prediction"):
        known = plain.predict(interval=interval)
        own = result.predict(interval=interval)
        assert isinstance(own, pd.DataFrame) and isinstance(known, pd.DataFrame)
        np.testing.assert_allclose(own["prediction"], known["prediction"], rtol=1e-5)
        np.testing.assert_allclose(own["se"], known["se"], rtol=1e-4)


def test_one_variance_a_stratum_of_independent_rows() -> None:
    """Without subjects: as a regression of each stratum, whose variances are those of its rows."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": np.repeat(["a", "b"], [30, 50]), "x": rng.normal(size=80)})
    frame["y"] = frame["x"] + rng.normal(size=80) * np.where(frame["g"] == "a", 1.0, 3.0)
    result = interlace.fit("y ~ g * x", frame, residual="varident(g)", ddf="satterthwaite")
    sds = []
    for _, part in frame.groupby("g"):
        X = np.column_stack([np.ones(len(part)), part["x"]])
        left = part["y"] - X @ np.linalg.lstsq(X, part["y"], rcond=None)[0]
        sds.append(np.sqrt((left**2).sum() / (len(part) - 2)))
    table = result.residual_parameters["estimate"]
    assert table["sd"] == pytest.approx(sds[0], rel=1e-6)
    assert table["ratio_b"] == pytest.approx(sds[1] / sds[0], rel=1e-6)
    assert result.fe_df["x"] == pytest.approx(28.0, rel=1e-6)
    assert result.ngroups == {}
    assert "varident(g)" in str(result.summary())


def test_a_random_intercept_alone_is_the_mixed_model() -> None:
    """Ratios of strata that are none, and a correlation of none, change nothing but parameters."""
    frame = data("sleepstudy_s")
    mixed = interlace.fit("Reaction ~ Days + (Days | Subject)", frame, method="ML")
    free = interlace.fit(
        "Reaction ~ Days + (Days | Subject)", frame, method="ML", residual="varident(stratum)"
    )
    assert free.criterion <= mixed.criterion
    assert free.nparams == mixed.nparams + 1
    assert "Random effects" in str(free.summary())


@pytest.mark.parametrize(
    ("formula", "residual", "says"),
    [
        ("y ~ x + (1 | id)", "us(v | id)", "room for all or some"),
        ("y ~ x + (1 | id)", "ar1(v | id, by=s)", "is in two groups"),
        ("y ~ x", "us(v | id) * varident(s)", "has a variance for every visit"),
        ("y ~ x", "ar1(v | id, by=s) * varident(s)", "covariance .*for every group"),
        ("y ~ x", "ar1(v | id) * cs(v | id)", "one structure and one variance"),
        ("y ~ x", "varexp(x:v)", "reads one column"),
        ("y ~ x", "ar1(v | id) * varident(one)", "has one stratum"),
        ("y ~ x", "varident(lonely)", "has one row, row 7 of the data"),
        ("y ~ x", "varpower(zero)", "is 0 in row 5 of the data"),
        ("y ~ x", "varexp(s)", "must be numeric"),
        ("y ~ x", "varpower(constant)", "in every row"),
        ("y ~ x + (1 | id)", "varident(s) ", ""),
    ],
)
def test_what_is_refused(formula: str, residual: str, says: str) -> None:
    rng = np.random.default_rng(0)
    n = 40
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "id": np.repeat(np.arange(10), 4),
            "v": np.tile(np.arange(4), 10),
            "g": np.tile(["p", "q"], 20),
            "s": np.tile(["k", "l"], 20),
            "one": "z",
            "constant": 2.0,
        }
    )
    frame["lonely"] = np.where(np.arange(n) == 7, "alone", "together")
    frame["zero"] = np.where(np.arange(n) == 5, 0.0, 1.0 + np.arange(n))
    if not says:
        interlace.fit(formula, frame, residual=residual)
        return
    with pytest.raises(InterlaceError, match=says):
        interlace.fit(formula, frame, residual=residual)


def test_kenward_roger_of_strata_is_the_linear_one() -> None:
    """Of strata and random effects: the covariance is linear in their variances."""
    result = fitted("lme_orthodont_slope_varIdent", "reml")
    table = result.coef_table("kenward-roger-linear")
    pd.testing.assert_frame_equal(table, result.coef_table("kenward-roger"))
    assert (table["se"] >= np.sqrt(np.diag(result.fe_cov)) * 0.999).all()


# ------------------------------------------------------------------ times that nobody shares


@pytest.fixture(scope="module")
def irregular() -> pd.DataFrame:
    """Subjects with one to six rows at times of their own, rows in any order."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(40):
        t = rng.uniform(0.0, 10.0, rng.integers(1, 7))
        C = 4.0 * np.exp(-np.abs(np.subtract.outer(t, t)) / 3.0)
        y = np.linalg.cholesky(C) @ rng.normal(size=len(t))
        parts.append(pd.DataFrame({"id": i, "t": t, "x": rng.normal(size=len(t)), "y": y}))
    return pd.concat(parts, ignore_index=True).sample(frac=1.0, random_state=1)


@pytest.mark.parametrize("reml", [True, False])
def test_times_of_their_own_are_the_dense_model(irregular: pd.DataFrame, reml: bool) -> None:
    result = interlace.fit(
        "y ~ x", irregular, residual="sp_exp(t | id)", method="REML" if reml else "ML"
    )
    sd, reach = result.residual_parameters["estimate"]
    ids, t = irregular["id"].to_numpy(), irregular["t"].to_numpy()
    R = np.exp(-np.abs(np.subtract.outer(t, t)) / reach)
    V = np.where(ids[:, None] == ids, sd**2 * R, 0.0)
    X = np.column_stack([np.ones(len(t)), irregular["x"]])
    XVX = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(XVX, X.T @ np.linalg.solve(V, irregular["y"]))
    e = irregular["y"].to_numpy() - X @ beta
    value = (len(t) - 2 * reml) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1]
    value += e @ np.linalg.solve(V, e) + reml * np.linalg.slogdet(XVX)[1]
    assert result.criterion == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(result.fe_params, beta, rtol=1e-8)
    with pytest.raises(InterlaceError, match="do not share the times"):
        result.residual_covariance  # noqa: B018
    assert "range" in str(result.summary())


def test_rates_and_ranges_are_one_model(irregular: pd.DataFrame) -> None:
    one = interlace.fit("y ~ x", irregular, residual="sp_exp(t | id)")
    other = interlace.fit("y ~ x", irregular, residual="car1(t | id)")
    assert other.criterion == pytest.approx(one.criterion, abs=1e-8)
    rho = other.residual_parameters.loc["rho", "estimate"]
    assert rho == pytest.approx(np.exp(-1.0 / one.residual_parameters.loc["range", "estimate"]))


def test_shared_times_taken_by_subject_are_the_same(
    irregular: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = irregular.assign(t=irregular["t"].round()).drop_duplicates(["id", "t"])
    formula, residual = "y ~ x + (1 | id)", "sp_gau(t | id) * varexp(t)"
    one = interlace.fit(formula, rounded, residual=residual)
    monkeypatch.setattr("interlace.design.visits._SHARED", 1)
    other = interlace.fit(formula, rounded, residual=residual)
    assert other.grid is not None and other.grid.times is not None
    assert other.criterion == pytest.approx(one.criterion, abs=1e-8)
    np.testing.assert_allclose(other.random_effects["id"], one.random_effects["id"], atol=1e-4)


def test_what_times_of_their_own_cannot_have(irregular: pd.DataFrame) -> None:
    halves = irregular.assign(half=irregular["id"] % 2)
    with pytest.raises(InterlaceError, match="leave by= out"):
        interlace.fit("y ~ x", halves, residual="car1(t | id, by=half)")
    twice = pd.concat([irregular, irregular.iloc[[3]]])
    with pytest.raises(InterlaceError, match="has two rows at t"):
        interlace.fit("y ~ x", twice, residual="car1(t | id)")
