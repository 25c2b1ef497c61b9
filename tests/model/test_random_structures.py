"""Random effects with the structures ``cs()``, ``ar1()`` and ``diag()``: lme4 2.0's grammar."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import CrossedLMEResult, InterlaceError
from reference.structures.cases import data, golden

CASES = list(golden("ranef"))
BOTH = pytest.mark.parametrize("method", ["reml", "ml"])
every = pytest.mark.parametrize("case", CASES)


def formula_of(case: str) -> str:
    known = golden("ranef")[case]
    return f"{known['formula_fixed']} + {known['formula_lme4_style'].partition(', rows')[0]}"


@functools.cache
def fitted(case: str, method: str = "reml") -> CrossedLMEResult:
    name = golden("ranef")[case]["data_file"].removeprefix("data/").removesuffix(".csv")
    return interlace.fit(formula_of(case), data(name), method=method.upper(), ddf="satterthwaite")


@BOTH
@every
def test_likelihood_coefficients_and_degrees_of_freedom(case: str, method: str) -> None:
    known, result = golden("ranef")[case][method], fitted(case, method)
    assert result.converged
    assert not result.is_singular
    assert result.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    assert result.nparams == known["npar"]
    se, beta = (np.array(list(known[name].values())) for name in ("se", "fixef"))
    assert (np.abs(result.fe_params - beta) < 1e-5 * se).all()
    np.testing.assert_allclose(result.fe_bse, se, rtol=1e-5)
    np.testing.assert_allclose(result.fe_df, list(known["df"].values()), rtol=1e-3)
    assert np.sqrt(result.scale) == pytest.approx(known["sigma"], rel=1e-4)


@BOTH
@every
def test_covariances_random_effects_and_fitted_values(case: str, method: str) -> None:
    known, result = golden("ranef")[case][method], fitted(case, method)
    left = list(result.estimate.covariances)
    for wanted in map(np.array, known["covariances"]):
        same = [C for C in left if C.shape == wanted.shape]
        nearest = min(same, key=lambda C: np.abs(C - wanted).max())
        np.testing.assert_allclose(nearest, wanted, atol=1e-4 * np.abs(wanted).max())
    rows = np.array(known["rows"]["obs_index_1based"]) - 1
    np.testing.assert_allclose(result.fittedvalues[rows], known["rows"]["fitted"], rtol=1e-5)
    modes, errors = (
        {
            (str(level), re.sub(r"\W|T\.", "", str(name))): value
            for found in of.values()
            for (level, name), value in pd.DataFrame(found).stack().items()
        }
        for of in (result.random_effects, result.random_effects_se)
    )
    if len(known["covariances"]) == 1:
        for wanted, found in (("mode", modes), ("cond_sd", errors)):
            at = zip(known["ranef"]["grp"], known["ranef"]["term"], strict=True)
            values = [found[g, re.sub(r"\W", "", t)] for g, t in at]
            size = np.abs(known["ranef"][wanted]).max()
            np.testing.assert_allclose(values, known["ranef"][wanted], atol=1e-4 * size)


# ------------------------------------------------------------------ one model written twice


def test_equal_variances_and_correlations_are_two_random_intercepts() -> None:
    """``cs`` with one variance and ``rho >= 0``: an intercept by group, and one by group and level.

    What does not depend on parameters is the same: likelihood, tests by every definition of df.
    """
    frame = data("machines")
    one = interlace.fit("score ~ Machine + cs(0 + Machine | Worker, hom=True)", frame)
    two = interlace.fit("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", frame)
    assert one.criterion == pytest.approx(two.criterion, abs=1e-8)
    assert one.nparams == two.nparams
    for ddf in ("satterthwaite", "kenward-roger"):
        a, b = (m.coef_table(ddf)[["estimate", "se", "df"]] for m in (one, two))
        np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_allclose(one.anova(ddf=ddf), two.anova(ddf=ddf), rtol=1e-6)
    assert one.caic().caic == pytest.approx(two.caic().caic, rel=1e-6)
    limits = [m.conf_int(method="profile", parm="beta_") for m in (one, two)]
    np.testing.assert_allclose(*limits, rtol=1e-5)
    np.testing.assert_allclose(
        interlace.leverage(one)["overall"], interlace.leverage(two)["overall"], rtol=1e-5
    )
    np.testing.assert_allclose(
        one.cov_params(robust="CR2", cluster="Worker"),
        two.cov_params(robust="CR2", cluster="Worker"),
        rtol=1e-5,
    )
    total = one.tidy("ran_pars").set_index("term")["estimate"]
    parts = {key: float(v) for key, v in two.variance_components.items()}
    assert total["sd__cs"] ** 2 == pytest.approx(sum(parts.values()), rel=1e-5)
    assert total["rho__cs"] == pytest.approx(parts["Worker"] / sum(parts.values()), rel=1e-5)


def test_two_columns_of_their_own_variances_may_have_any_covariance() -> None:
    frame = data("sleepstudy_s")
    known = interlace.fit("Reaction ~ Days + (Days | Subject)", frame)
    for kind in ("us", "cs", "ar1"):
        hom = "" if kind != "ar1" else ", hom=FALSE"
        other = interlace.fit(f"Reaction ~ Days + {kind}(Days | Subject{hom})", frame)
        assert other.criterion == pytest.approx(known.criterion, abs=1e-7)
        assert other.nparams == known.nparams
        C, known_C = (m.variance_components["Subject"] for m in (other, known))
        np.testing.assert_allclose(C, known_C, rtol=1e-4)
        df = [m.coef_table("satterthwaite")["df"] for m in (other, known)]
        np.testing.assert_allclose(*df, rtol=1e-5)


def test_diag_is_two_bars() -> None:
    frame = data("sleepstudy_s")
    one = interlace.fit("Reaction ~ Days + diag(Days | Subject)", frame)
    assert str(one.formula) == "Reaction ~ Days + (1 + Days || Subject)"


# ------------------------------------------------------------------ text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("us(x | g)", "(1 + x | g)"),
        ("cs(0 + f | a/b)", "cs(0 + f | a) + cs(0 + f | a:b)"),
        ("cs(0 + f | g, hom = TRUE)", "cs(0 + f | g, hom=True)"),
        ("cs(0 + f | g, hom=False)", "cs(0 + f | g)"),
        ("ar1(0 + t | g)", "ar1(0 + t | g)"),
        ("ar1( 0 + t | `my g` , hom = F)", "ar1(0 + t | `my g`, hom=False)"),
        ("diag(x | g)", "(1 + x || g)"),
        ("diag(x | g, hom=T)", "diag(1 + x | g, hom=True)"),
    ],
)
def test_terms_are_read_and_written(written: str, read: str) -> None:
    found = interlace.design.formula.parse(f"y ~ x + {written}")
    assert str(found) == f"y ~ x + {read}"
    assert interlace.design.formula.parse(str(found)) == found


def test_splines_of_the_same_name_stay_functions() -> None:
    parsed = interlace.design.formula.parse("y ~ cs(x, df=4) + (1 | g)")
    assert parsed.fixed == "cs(x, df=4)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cs(x || g)", "it has one bar"),
        ("us(x | g, hom=True)", "leave hom= out"),
        ("cs(x | g, rho=1)", "hom=True or hom=False"),
        ("cs(x | g, hom=yes)", "hom=True or hom=False"),
        ("foo(x | g)", "cannot be read|parentheses"),
        ("2*cs(x | g)", "only be added"),
        ("ar1(0 + x | g) + ar1(0 + z | g)", "are both ar1"),
        ("cs(x | g) + (1 | g)", "the intercept varies by 'g' twice"),
    ],
)
def test_what_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(InterlaceError, match=says):
        interlace.design.formula.parse(f"y ~ x + {text}")


# ------------------------------------------------------------------ what is asked of a fit


def test_names_counts_and_tables() -> None:
    result = fitted("ranef_sleepstudy_ar1")
    table = result.tidy("ran_pars")
    assert table["term"].tolist() == ["sd__ar1", "rho__ar1", "sd__Observation"]
    assert (table["std.error"] > 0).all()
    assert result.vcov_theta().index.tolist() == ["Subject.sd.ar1", "Subject.rho.ar1", "sigma"]
    text = str(result.summary())
    assert "(all 10: ar1)" in text
    assert "DaysF[d5]" not in text
    assert result.variance_components["Subject"].shape == (10, 10)
    table = result.ranova()
    assert table["Df"].tolist()[1] == 2
    assert table.index[1] == "ar1(0 + DaysF | Subject)"


def test_standard_errors_are_those_of_the_likelihood() -> None:
    """Of ``sd`` and ``rho``: by differences of the criterion at the optimum."""
    result = fitted("ranef_sleepstudy_ar1", "ml")
    criterion, theta = result.estimate.criterion, result.theta
    n, step = result.nobs, 1e-4

    def deviance(at: np.ndarray) -> float:
        sigma, point = at[-1], criterion.at_theta(at[:-1])
        scale = criterion.A.basis.response_scale
        s2 = (sigma * scale) ** 2
        profiled = n * (1.0 + np.log(point.factor.r2 / n))
        return point.value - profiled + n * np.log(s2) + point.factor.r2 / s2

    at = np.append(theta, np.sqrt(result.scale))
    eye = step * np.diag(at)
    H = [
        [
            (
                deviance(at + a + b)
                - deviance(at + a - b)
                - deviance(at - a + b)
                + deviance(at - a - b)
            )
            / (4.0 * a.sum() * b.sum())
            for b in eye
        ]
        for a in eye
    ]
    np.testing.assert_allclose(2.0 * np.linalg.inv(H), result.vcov_theta(), rtol=2e-3)


def test_refits_from_simulated_responses_and_their_intervals() -> None:
    result = fitted("ranef_machines_cs_hom")
    table = result.bootstrap(12, seed=1).conf_int()
    assert table.index.tolist()[3:] == ["sd_cs|Worker", "rho_cs|Worker", "sigma"]
    y = result.simulate(2, seed=3)
    again = result.refit(y[:, 1])
    frame = data("machines").assign(score=y[:, 1])
    alone = interlace.fit(formula_of("ranef_machines_cs_hom"), frame)
    assert again.criterion == pytest.approx(alone.criterion, abs=1e-7)
    many = interlace.fit_many(
        "score ~ Machine + cs(0 + Machine | Worker, hom=True)",
        data("machines").assign(a=y[:, 0], b=y[:, 1]),
        ["a", "b"],
    )
    assert many.result("b").criterion == pytest.approx(alone.criterion, abs=1e-7)


def test_sums_files_and_the_iterative_solver_give_the_same(tmp_path: Path) -> None:
    case = "ranef_twoterm_cs_het_item"
    known, frame = fitted(case), data("twoterm_p")
    sums = interlace.cross_products(formula_of(case), frame)
    sums.save(tmp_path / "sums")
    again = interlace.fit(formula_of(case), interlace.CrossProducts.load(tmp_path / "sums"))
    assert again.criterion == pytest.approx(known.criterion, abs=1e-9)
    half = len(frame) // 2
    added = interlace.cross_products(formula_of(case), frame[:half]) + interlace.cross_products(
        formula_of(case), frame[half:]
    )
    assert interlace.fit(formula_of(case), added).criterion == pytest.approx(
        known.criterion, abs=1e-7
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    from_file = interlace.fit(formula_of(case), str(tmp_path / "rows.parquet"))
    assert from_file.criterion == pytest.approx(known.criterion, abs=1e-7)
    iterated = interlace.fit(formula_of(case), frame, solver="iterative")
    assert iterated.criterion == pytest.approx(known.criterion, abs=1e-3)


def test_correlation_at_its_bound_and_zero_variance() -> None:
    """A random intercept and nothing more: ``rho`` is 1; no random effect at all: it is open."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": np.repeat(np.arange(12), 12), "f": np.tile(list("abcd"), 36)})
    frame["y"] = 2.0 * rng.normal(size=12)[frame["g"]] + rng.normal(size=144)
    with pytest.warns(interlace.SingularFitWarning):
        result = interlace.fit("y ~ 1 + cs(0 + f | g, hom=True)", frame)
    alone = interlace.fit("y ~ 1 + (1 | g)", frame)
    assert result.tidy("ran_pars")["estimate"][1] == 1.0
    assert result.criterion == pytest.approx(alone.criterion, abs=1e-8)
    for ddf in ("satterthwaite", "kenward-roger"):
        a, b = (m.coef_table(ddf)["df"] for m in (result, alone))
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert "drop the correlation" in str(result.singular_report())
    frame["y"] = np.tile([1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 0.5, -0.5, -0.5, 0.5], 12)
    with pytest.warns(interlace.SingularFitWarning):
        zero = interlace.fit("y ~ 1 + ar1(0 + f | g)", frame)
    table = zero.tidy("ran_pars").set_index("term")["estimate"]
    assert table["sd__ar1"] == 0.0
    assert np.isnan(table["rho__ar1"])
