"""What is asked of models with a variance function: against R, dense definitions and refits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import interlace
from interlace import InterlaceError, ScaledLMEResult
from interlace.inference.kenward_roger import scaled_f
from interlace.inference.profiles.constrained import CoefficientPoint
from interlace.inference.profiles.scaled import HeldCoefficient, ScaledNumbers
from interlace.model.scaled_rows import scaled_ml
from reference.structures.cases import data, golden

PENICILLIN = "diameter ~ 1 + (1 | plate) + (1 | sample)"
NESTED = "angle ~ recipe + temp + (1 | replicate / recipe)"
CROSSED = "angle ~ recipe + (1 | replicate) + (1 | temperature)"


def _cake() -> pd.DataFrame:
    frame = interlace.datasets.load("cake")
    return frame.assign(temp=frame["temperature"].astype(str).astype(float))


@pytest.fixture(scope="module")
def nested() -> ScaledLMEResult:
    return interlace.fit(NESTED, _cake(), residual="varident(temperature)")


@pytest.fixture(scope="module")
def crossed() -> ScaledLMEResult:
    return interlace.fit(CROSSED, _cake(), residual="varident(recipe)", method="ML")


@pytest.fixture(scope="module")
def slopes() -> ScaledLMEResult:
    """A slope, a crossed factor, three strata, and rows enough for all of it."""
    rng = np.random.default_rng(7)
    n = 120
    frame = pd.DataFrame(
        {
            "g": rng.integers(0, 10, n),
            "h": rng.integers(0, 6, n),
            "s": rng.choice(list("abc"), n),
            "f": rng.choice(list("uvw"), n),
            "x": rng.normal(size=n),
        }
    )
    u = rng.normal(size=(10, 2)) @ np.array([[1.5, 0.4], [0.0, 0.8]])
    sd = frame["s"].map({"a": 1.0, "b": 2.0, "c": 0.6}).to_numpy()
    y = frame["x"] + u[frame["g"], 0] + u[frame["g"], 1] * frame["x"]
    frame["y"] = y + rng.normal(size=6)[frame["h"]] + sd * rng.normal(size=n)
    return interlace.fit("y ~ x + f + (x | g) + (1 | h)", frame, residual="varident(s)")


# ------------------------------------------------------------------ beside R


def test_nested_factors_equal_nlme(nested: ScaledLMEResult) -> None:
    known = golden("strata")["nested"]
    se = np.array(list(known["se"].values()))
    assert nested.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    apart = nested.fe_params.to_numpy() - list(known["fixef"].values())
    np.testing.assert_allclose(apart / se, 0.0, atol=1e-5)
    np.testing.assert_allclose(nested.fe_bse, se, rtol=1e-5)
    values = nested.residual_values
    assert values["sd"] == pytest.approx(known["sigma"], rel=1e-4)
    for level, ratio in known["ratios"].items():
        assert values[f"ratio_{level}"] == pytest.approx(ratio, rel=1e-4)
    for kind in ("normalized_resid", "pearson_resid"):
        found = getattr(nested, kind)[: len(known["normalized"])]
        np.testing.assert_allclose(found, known["normalized"], atol=1e-4)


def test_sandwiches_equal_clubsandwich(nested: ScaledLMEResult) -> None:
    known = golden("strata")["nested"]
    for kind, errors in known["robust"].items():
        table = nested.coef_table(robust=kind, cluster="replicate")
        np.testing.assert_allclose(table["se"], list(errors.values()), rtol=1e-5)
    table = nested.coef_table(robust="CR2", cluster="replicate")
    np.testing.assert_allclose(table["df"], known["robust_df"], rtol=1e-4)
    limits = nested.conf_int(robust="CR2", cluster="replicate")
    np.testing.assert_allclose(limits.iloc[:, 0], table["lower"])
    with pytest.raises(InterlaceError, match="robust is for Wald intervals"):
        nested.conf_int(method="profile", robust="CR2")


def test_models_are_compared_by_their_likelihoods(nested: ScaledLMEResult) -> None:
    known = golden("strata")["nested"]
    plain = interlace.fit(NESTED, _cake())
    table = interlace.anova(plain, nested)
    assert table["Chisq"].iloc[1] == pytest.approx(known["plain"] - known["minus2logLik"], abs=2e-6)
    assert table["Df"].iloc[1] == 5
    assert any("REML" in note for note in table.notes)
    assert not any("special case" in note for note in table.notes)
    fewer = nested.update("angle ~ recipe + (1 | replicate / recipe)")
    by_ml = interlace.anova(fewer, nested)
    assert by_ml["deviance"].iloc[1] == pytest.approx(known["ml"], abs=1e-6)
    assert any("have been refitted by ML" in note for note in by_ml.notes)
    assert nested.update(method="ML").criterion == pytest.approx(known["ml"], abs=1e-6)
    side = interlace.compare({"equal": plain, "strata": nested})
    assert side["residual"].tolist() == ["independent", "varident(temperature)"]
    assert side["AIC"]["strata"] == pytest.approx(known["minus2logLik"] + 2 * nested.nparams)


def test_strata_of_more_columns_contain_those_of_fewer() -> None:
    frame = _cake().assign(half=lambda d: np.where(d.index % 2, "odd", "even"))
    models = [
        interlace.fit(CROSSED, frame, residual=f"varident({strata})")
        for strata in ("recipe", "recipe:half", "half")
    ]
    assert not any("special case" in note for note in interlace.anova(*models[:2]).notes)
    assert any("special case" in note for note in interlace.anova(models[0], models[2]).notes)


def test_crossed_factors_and_profiles_equal_glmmtmb(crossed: ScaledLMEResult) -> None:
    """glmmTMB's search ends 1e-5 from the optimum; its dispersions are logs of variances."""
    known = golden("strata")["crossed"]
    assert crossed.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    assert crossed.aic == pytest.approx(known["aic"], abs=1e-6)
    se = np.array(list(known["se"].values()))
    np.testing.assert_allclose(crossed.fe_params, list(known["fixef"].values()), atol=2e-5 * se[0])
    np.testing.assert_allclose(crossed.fe_bse, se, rtol=2e-5)
    limits = crossed.conf_int(method="profile", parm=["ratio_B", "ratio_C"])
    found = 2.0 * np.log(limits.to_numpy())
    np.testing.assert_allclose(found, np.transpose(known["profile"]), atol=2e-3)


# ------------------------------------------------------------------ Kenward and Roger


def _dense(result: ScaledLMEResult, frame: pd.DataFrame) -> tuple[np.ndarray, Callable]:
    """Adjusted covariance, and ``A1, A2`` of a test, from matrices of all rows."""
    names = list(result.estimate.A.names)
    X = result.design.fixed(tuple(names))
    same = (frame["g"].to_numpy()[:, None] == frame["g"].to_numpy()).astype(float)
    x = frame["x"].to_numpy()
    other = (frame["h"].to_numpy()[:, None] == frame["h"].to_numpy()).astype(float)
    strata = [np.diag((frame["s"] == s).to_numpy().astype(float)) for s in "abc"]
    E = [same, same * (x[:, None] + x), same * np.outer(x, x), other, *strata]
    S = result.variance_components["g"].to_numpy()
    noise = [float(result.residual_sd[(frame["s"] == s).to_numpy()][0] ** 2) for s in "abc"]
    size = [S[0, 0], S[0, 1], S[1, 1], result.variance_components["h"], *noise]
    V = sum(a * b for a, b in zip(size, E, strict=True))
    Vi = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ Vi @ X)
    P = Vi - Vi @ X @ Phi @ X.T @ Vi
    W = np.linalg.inv([[0.5 * np.trace(P @ a @ P @ b) for b in E] for a in E])
    first = [-X.T @ Vi @ a @ Vi @ X for a in E]
    bias = sum(
        W[i, j] * (X.T @ Vi @ E[i] @ Vi @ E[j] @ Vi @ X - first[i] @ Phi @ first[j])
        for i in range(len(E))
        for j in range(len(E))
    )

    def amounts(L: np.ndarray) -> tuple[float, float]:
        theta = L.T @ np.linalg.inv(L @ Phi @ L.T) @ L @ Phi
        M = [theta @ one @ Phi for one in first]
        t = np.array([np.trace(m) for m in M])
        pairs = np.array([[np.trace(a @ b) for b in M] for a in M])
        return float(t @ W @ t), float((W * pairs).sum())

    return Phi + 2.0 * Phi @ bias @ Phi, amounts


def test_kenward_roger_is_that_of_matrices(slopes: ScaledLMEResult) -> None:
    adjusted, amounts = _dense(slopes, slopes.data)
    table = slopes.coef_table(ddf="kenward-roger")
    np.testing.assert_allclose(slopes.cov_params(ddf="kenward-roger"), adjusted, rtol=1e-7)
    known = [2.0 / amounts(row[None])[0] for row in np.eye(4)]
    np.testing.assert_allclose(table["df"], known, rtol=1e-6)
    L = np.eye(4)[[name.startswith("f") for name in table.index]]
    df, scaling = scaled_f(*amounts(L), 2)
    b = L @ slopes.fe_params
    F = scaling * b @ np.linalg.solve(L @ adjusted @ L.T, b) / 2
    anova = slopes.anova(ddf="kenward-roger").loc["f"]
    assert (anova["den_df"], anova["F"]) == pytest.approx((df, F), rel=1e-6)
    linear = slopes.coef_table(ddf="kenward-roger-linear")
    np.testing.assert_allclose(linear, table)


def test_equal_variances_have_the_tests_of_the_model_without_strata() -> None:
    """A power of nearly constant numbers: information on it is none, and the tests are the same."""
    plain = interlace.fit(PENICILLIN, data("penicillin_s"), ddf="kenward-roger")
    strata = interlace.fit(
        PENICILLIN, data("penicillin_s"), residual="varident(stratum)", ddf="kenward-roger"
    )
    assert strata.fe_df["Intercept"] == pytest.approx(plain.fe_df["Intercept"], rel=0.05)


def test_what_kenward_roger_refuses(crossed: ScaledLMEResult, slopes: ScaledLMEResult) -> None:
    with pytest.raises(InterlaceError, match="defined for fits by REML"):
        crossed.coef_table(ddf="kenward-roger")
    for ddf in ("between-within", "residual"):
        with pytest.raises(InterlaceError, match="counts subjects"):
            slopes.coef_table(ddf=ddf)
    positive = slopes.data.assign(z=np.abs(slopes.data["x"]) + 1.0)
    power = interlace.fit("y ~ x + (1 | g) + (1 | h)", positive, residual="varpower(z)")
    with pytest.raises(InterlaceError, match=r"varpower\(z\) is not: take ddf='kenward-roger-lin"):
        power.coef_table(ddf="kenward-roger")
    assert (power.coef_table(ddf="kenward-roger-linear")["df"] > 2.0).all()


# ------------------------------------------------------------------ profiles


def _slopes_of(f: Callable, x: np.ndarray) -> np.ndarray:
    """Derivatives by differences of fourth order."""
    h = 1e-3
    steps = ((1.0, 8.0), (2.0, -1.0))
    return np.array(
        [
            sum(c * (f(x + k * h * e) - f(x - k * h * e)) for k, c in steps) / (12.0 * h)
            for e in np.eye(len(x))
        ]
    )


def test_derivatives_with_something_held(slopes: ScaledLMEResult) -> None:
    best = scaled_ml(slopes)
    numbers = ScaledNumbers(best, (True, True), np.ones(2))
    x = numbers.start + 0.1 * np.random.default_rng(1).normal(size=len(numbers.start))
    for f, known in (
        (lambda v: numbers.at(v).value, numbers.at(x).gradient),
        (lambda v: numbers.all(v)[0], numbers.all(x)[1].T),
    ):
        np.testing.assert_allclose(_slopes_of(f, x), known, atol=1e-8 * np.abs(known).max())
    F, t = best.A.basis.fixed, best.criterion.n_templates

    def held(v: np.ndarray) -> HeldCoefficient:
        at = best.criterion(v)
        point = CoefficientPoint(at.point, F[1, :-1], 0.3 * F[-1, -1] + F[1, -1])
        return HeldCoefficient(best.criterion, v[t:], at.point, point)

    known = held(x[:-1]).gradient
    found = _slopes_of(lambda v: held(v).value, x[:-1])
    np.testing.assert_allclose(found, known, atol=1e-8 * np.abs(known).max())


def test_profile_limits_are_where_refits_rise(slopes: ScaledLMEResult) -> None:
    """A coefficient held by an offset, and a ratio by weights: the deviance rises by 3.84."""
    least = scaled_ml(slopes).value
    limits = slopes.conf_int(method="profile", parm=["x", "ratio_b"])
    for value in limits.loc["x"]:
        held = slopes.data.assign(shift=value * slopes.data["x"])
        formula = "y ~ f + offset(shift) + (x | g) + (1 | h)"
        fit = interlace.fit(formula, held, residual="varident(s)", method="ML")
        assert fit.criterion - least == pytest.approx(3.841459, abs=1e-5)
    for value in limits.loc["ratio_b"]:
        w = np.where(slopes.data["s"] == "b", value**-2.0, 1.0)
        held = slopes.data.assign(w=w, t=np.where(slopes.data["s"] == "c", "c", "ab"))
        formula = "y ~ x + f + (x | g) + (1 | h)"
        fit = interlace.fit(formula, held, residual="varident(t)", weights="w", method="ML")
        assert fit.criterion - least == pytest.approx(3.841459, abs=1e-5)


def test_profiles_have_curves_of_all_parameters(crossed: ScaledLMEResult) -> None:
    found = crossed.profile(["recipe[T.B]", "sd_Intercept|replicate", "sd"])
    limits = found.conf_int()
    other = crossed.conf_int(method="profile", parm=list(limits.index))
    np.testing.assert_allclose(limits, other, rtol=1e-6)
    table = found.table
    assert (np.diff(table.loc[table["parameter"] == "sd", "zeta"]) > 0.0).all()
    interlace.plot_profile(found)
    with pytest.raises(InterlaceError, match="unknown parameter 'sigma'"):
        crossed.profile("sigma")


def test_profiles_of_a_zero_are_refused_in_words() -> None:
    frame = _cake().assign(z=np.arange(270) % 4)
    with pytest.warns(interlace.SingularFitWarning):
        fit = interlace.fit("angle ~ 1 + (1 | replicate) + (1 | z)", frame, residual="varident(z)")
    with pytest.raises(InterlaceError, match=r"'sd_Intercept\|z' is estimated as zero"):
        fit.profile("sd_Intercept|z")
    assert np.isfinite(fit.conf_int(method="profile", parm="Intercept")).all(axis=None)


# ------------------------------------------------------------------ responses


def test_predictions_of_new_observations_know_their_stratum(nested: ScaledLMEResult) -> None:
    frame = nested.data.head(6)
    table = nested.predict(frame, include_re=False, interval="prediction")
    sure = nested.predict(frame, include_re=False, interval="confidence")
    random = sum(float(v) for v in nested.variance_components.values())
    expected = np.sqrt(sure["se"] ** 2 + random + nested.residual_sd[:6] ** 2)
    np.testing.assert_allclose(table["se"], expected)
    known = interlace.fit(
        NESTED, nested.data.assign(w=nested.residual_sd**-2.0), weights="w"
    ).predict(interval="prediction")
    np.testing.assert_allclose(nested.predict(interval="prediction")["se"], known["se"], rtol=1e-6)
    rows = frame.astype({"temperature": str}).assign(temperature=["175", "900", *["185"] * 4])
    says = "has '900' in temperature, of which varident"
    with pytest.raises(InterlaceError, match=says):
        nested.predict(rows, interval="prediction")
    np.testing.assert_allclose(nested.predict(rows), nested.predict(frame))
    missing = rows.assign(temperature=["175", None, *["185"] * 4])
    assert np.isnan(nested.predict(missing, interval="prediction")["se"]).tolist() == [
        False,
        True,
        *[False] * 4,
    ]


def test_simulated_responses_have_the_variances_of_the_model(crossed: ScaledLMEResult) -> None:
    drawn = crossed.simulate(4000, seed=3, include_re=True)
    np.testing.assert_allclose(drawn.std(axis=1), crossed.residual_sd, rtol=0.06)
    whole = crossed.simulate(4000, seed=3)
    between = sum(float(v) for v in crossed.variance_components.values())
    expected = np.sqrt(between + crossed.residual_sd**2)
    np.testing.assert_allclose(whole.std(axis=1), expected, rtol=0.06)
    np.testing.assert_array_equal(crossed.simulate(3, seed=1), crossed.simulate(5, seed=1)[:, :3])


def test_refits_and_bootstraps_fit_the_ratios_anew(crossed: ScaledLMEResult) -> None:
    y = crossed.simulate(1, seed=5)[:, 0]
    one = crossed.refit(y)
    other = interlace.fit(
        CROSSED, _cake().assign(angle=y), residual="varident(recipe)", method="ML"
    )
    assert one.criterion == pytest.approx(other.criterion, abs=1e-8)
    assert one.residual_values == pytest.approx(other.residual_values, rel=1e-5)
    boot = crossed.bootstrap(12, seed=5)
    assert list(boot.replicates.columns[-3:]) == ["sd", "ratio_B", "ratio_C"]
    np.testing.assert_allclose(
        boot.estimate[-3:], crossed.residual_parameters["estimate"].to_numpy()
    )
    again = crossed.bootstrap(6, seed=5, statistic=lambda m: m.residual_values["ratio_B"])
    np.testing.assert_allclose(again.replicates["statistic"], boot.replicates["ratio_B"][:6])
    drawn = crossed.bootstrap(6, "cases", seed=1, group="replicate")
    assert drawn.n_failed == 0
    assert (drawn.replicates["ratio_B"] > 0.0).all()
    with pytest.raises(InterlaceError, match="kind='residual' moves residuals from row to row"):
        crossed.bootstrap(4, "residual")
    limits = crossed.conf_int(method="bootstrap", n_bootstrap=4, seed=1, parm="ratio_B")
    assert limits.index.tolist() == ["ratio_B"]


def test_samples_without_a_stratum_fail_in_words() -> None:
    frame = _cake().assign(few=lambda d: np.where(d["replicate"].astype(str) == "3", "one", "more"))
    fit = interlace.fit(CROSSED, frame, residual="varident(few)")
    with pytest.warns(interlace.ConvergenceWarning, match="0 rows that tell of ratio_one"):
        found = fit.bootstrap(8, "cases", seed=2, group="replicate")
    assert 0 < found.n_failed < 8


# ------------------------------------------------------------------ tables and figures


def test_tables_and_figures(nested: ScaledLMEResult) -> None:
    table = nested.augment()
    np.testing.assert_allclose(table[".normalized"], nested.resid / nested.residual_sd)
    assert {"temperature", ".fitted", ".fixed", ".pearson", ".weights"} <= set(table.columns)
    assert ".fixed" in nested.augment(nested.data.head(2)).columns
    assert nested.standardized().index.tolist()[-1] == "temp"
    assert len(nested.missing()) == 6
    nested.plot()
    interlace.plot_ranef(nested)
    interlace.plot_qq(nested, "replicate")
    means = nested.emmeans("recipe", ddf="kenward-roger")
    assert len(means.contrasts("pairwise").table) == 3
    assert "recipe" in nested.joint_tests().index


def test_the_weighted_model_answers_what_looks_at_rows(nested: ScaledLMEResult) -> None:
    weighted = nested.weighted
    assert weighted.criterion == pytest.approx(nested.criterion, abs=1e-8)
    np.testing.assert_array_equal(weighted.fe_params, nested.fe_params)
    known = interlace.fit(NESTED, _cake().assign(w=nested.residual_sd**-2.0), weights="w")
    found = interlace.hlm_influence(weighted)
    np.testing.assert_allclose(found["cooksd"], interlace.hlm_influence(known)["cooksd"], rtol=1e-4)
    again = weighted.update(method="ML")
    assert again.criterion == pytest.approx(known.update(method="ML").criterion, abs=1e-6)
    table = nested.check(nsim=50).table
    assert table.loc["homogeneity", "verdict"] in ("fine", "look")
    holes = _cake()
    holes.loc[[3, 40], "angle"] = np.nan
    fit = interlace.fit(NESTED, holes, residual="varident(temperature)", ddf="kenward-roger-linear")
    assert fit.weighted.update(method="ML", ddf="normal").nobs == 268
    assert fit.weighted.options.ddf == "kenward-roger"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("r2", "no one definition"),
        ("icc", "no one value"),
        ("ranova", r"compare with interlace.anova\(m1, m2\)"),
        ("vcov_theta", "ran_pars"),
        ("deletions", r"weighted.deletions\(\)"),
        ("power", "count the rejections"),
    ],
)
def test_what_is_not_there_says_why(name: str, says: str, nested: ScaledLMEResult) -> None:
    with pytest.raises(AttributeError, match=says):
        getattr(nested, name)


def test_a_root_of_the_likelihood(crossed: ScaledLMEResult) -> None:
    """The lower limit of a ratio, found from nothing but fits with weights."""
    least = crossed.criterion
    frame = _cake()

    def rise(ratio: float) -> float:
        w = np.where(frame["recipe"] == "B", ratio**-2.0, 1.0)
        held = frame.assign(w=w, t=np.where(frame["recipe"] == "C", "C", "AB"))
        fit = interlace.fit(CROSSED, held, residual="varident(t)", weights="w", method="ML")
        return fit.criterion - least - 3.841458820694124

    root = brentq(rise, 0.5, crossed.residual_values["ratio_B"], xtol=1e-7)
    lower = crossed.conf_int(method="profile", parm="ratio_B").iloc[0, 0]
    assert lower == pytest.approx(root, abs=1e-5)
