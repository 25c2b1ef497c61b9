"""Variance functions beside random effects of any factors."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, ScaledLMEResult, StructuredLMEResult
from interlace.model.fitted import Options
from interlace.plots.residuals import standard_residuals
from interlace.results.scaled import fit_result
from reference.structures.cases import data, golden

FORMULA = "diameter ~ 1 + (1 | plate) + (1 | sample)"


@pytest.fixture(scope="module")
def penicillin() -> ScaledLMEResult:
    return interlace.fit(
        FORMULA, data("penicillin_s"), residual="varident(stratum)", ddf="satterthwaite"
    )


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_crossed_random_effects_with_two_strata(method: str) -> None:
    known = golden("nlme")["het_penicillin_crossed"][method]
    result = interlace.fit(
        FORMULA,
        data("penicillin_s"),
        residual="varident(stratum)",
        method=method.upper(),
        ddf="satterthwaite",
    )
    assert isinstance(result, ScaledLMEResult)
    assert result.converged
    assert result.criterion == pytest.approx(known["minus2logLik"], abs=1e-6)
    assert result.nparams == known["npar"]
    (beta,), (se,), (df,) = (known[name].values() for name in ("fixef", "se", "df"))
    assert result.fe_params["Intercept"] == pytest.approx(beta, abs=1e-5 * se)
    assert result.fe_bse["Intercept"] == pytest.approx(se, rel=1e-5)
    assert result.fe_df["Intercept"] == pytest.approx(df, rel=1e-3)
    ratio = known["residual_parameters"]["varIdent_sd_ratio"]["s2"]
    table = result.residual_parameters
    assert table["estimate"].to_dict() == pytest.approx(
        {"sd": known["sigma"], "ratio_s2": ratio}, rel=1e-4
    )
    assert (table["se"] > 0).all()
    found = [float(v) for v in result.variance_components.values()]
    np.testing.assert_allclose(found, np.ravel(known["covariances"]), rtol=1e-4)
    rows = np.array(known["rows"]["obs_index_1based"]) - 1
    np.testing.assert_allclose(result.fittedvalues[rows], known["rows"]["fitted"], rtol=1e-5)


@pytest.mark.parametrize("residual", ["varident(stratum)", "varexp(Days)"])
def test_subjects_alone_are_the_same_model_either_way(residual: str) -> None:
    frame, formula = data("sleepstudy_s"), "Reaction ~ Days + (Days | Subject)"
    one = interlace.fit(formula, frame, residual=residual, ddf="satterthwaite")
    other = fit_result(Options(formula, residual=residual, ddf="satterthwaite"), frame)
    assert isinstance(one, StructuredLMEResult)
    assert one.criterion == pytest.approx(other.criterion, abs=1e-8)
    np.testing.assert_allclose(other.fe_df, one.fe_df, rtol=1e-5)
    np.testing.assert_allclose(other.anova(), one.anova(), rtol=1e-5)
    np.testing.assert_allclose(other.residual_parameters, one.residual_parameters, rtol=1e-4)
    np.testing.assert_allclose(
        other.random_effects["Subject"], one.random_effects["Subject"], rtol=1e-4, atol=1e-5
    )


def test_it_is_the_weighted_model_at_the_weights_found(penicillin: ScaledLMEResult) -> None:
    frame = data("penicillin_s").assign(w=1.0 / penicillin.residual_sd**2)
    known = interlace.fit(FORMULA, frame, weights="w")
    assert penicillin.criterion == pytest.approx(known.criterion, abs=1e-7)
    np.testing.assert_allclose(penicillin.fe_params, known.fe_params, rtol=1e-7)
    for name in ("random_effects", "random_effects_se"):
        for key, values in getattr(known, name).items():
            np.testing.assert_allclose(getattr(penicillin, name)[key], values, rtol=1e-4)
    np.testing.assert_allclose(penicillin.fittedvalues, known.fittedvalues, rtol=1e-7)
    expected = penicillin.resid / penicillin.residual_sd
    np.testing.assert_allclose(penicillin.normalized_resid, expected)


def test_prior_weights_and_strata_multiply() -> None:
    """Rows of variance twice that of others, told by weights or found by strata."""
    rng = np.random.default_rng(1)
    frame = data("penicillin_s")
    frame = frame.assign(w=np.where(frame["stratum"] == "s2", rng.uniform(2.0, 2.0, 144), 1.0))
    one = interlace.fit(FORMULA, frame, residual="varident(stratum)")
    other = interlace.fit(FORMULA, frame, residual="varident(stratum)", weights="w")
    assert other.criterion == pytest.approx(one.criterion, abs=1e-8)
    ratios = [m.residual_values["ratio_s2"] for m in (one, other)]
    assert ratios[1] == pytest.approx(ratios[0] * np.sqrt(2.0), rel=1e-5)


def test_levels_of_many_rows_are_fitted_by_rows() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": np.repeat(list("pqr"), 250), "s": np.tile(["k", "l"], 375)})
    frame["x"] = rng.normal(size=750)
    spread = np.where(frame["s"] == "k", 1.0, 2.0)
    frame["y"] = frame["x"] + np.repeat([0.0, 2.0, 3.0], 250) + spread * rng.normal(size=750)
    result = interlace.fit("y ~ x + (1 | g)", frame, residual="varident(s)")
    assert isinstance(result, ScaledLMEResult)
    assert result.residual_values["ratio_l"] == pytest.approx(2.0, rel=0.15)


def test_structures_of_random_effects_and_strata() -> None:
    """Equal strata: the ratio's likelihood is no worse than that of none."""
    frame = data("twoterm_p")
    frame = frame.assign(half=np.where(np.arange(len(frame)) % 2, "odd", "even"))
    formula = "y ~ cond + cs(0 + cond | subj) + (1 | item)"
    without = interlace.fit(formula, frame)
    result = interlace.fit(formula, frame, residual="varident(half)")
    assert result.converged
    assert result.nparams == without.nparams + 1
    assert -10.0 < result.criterion - without.criterion <= 1e-8


def test_what_is_asked_of_a_fit(penicillin: ScaledLMEResult) -> None:
    frame = data("penicillin_s")
    np.testing.assert_allclose(penicillin.predict(frame), penicillin.fittedvalues)
    table = penicillin.predict(frame.head(2), include_re=False, interval="confidence")
    assert table["se"].iloc[0] == pytest.approx(penicillin.fe_bse["Intercept"])
    assert "Residual parameters" in str(penicillin.summary())
    table = penicillin.tidy("ran_pars")
    assert table["term"].tolist() == ["sd__Intercept", "sd__Intercept", "sd", "ratio_s2"]
    assert (table["std.error"] > 0).all()
    assert len(penicillin.tidy("ran_vals")) == 30
    assert penicillin.glance().loc[0, "AIC"] == pytest.approx(penicillin.aic)
    assert penicillin.conf_int().shape == (1, 2)
    means = penicillin.emmeans("1").table
    assert means["df"].iloc[0] == pytest.approx(penicillin.fe_df["Intercept"])
    again = pickle.loads(pickle.dumps(penicillin))
    assert again.criterion == penicillin.criterion
    assert repr(again) == repr(penicillin)
    by_ml = penicillin.update(method="ML")
    assert by_ml.method == "ML"


def test_figures_of_residuals_are_of_normalized_ones(penicillin: ScaledLMEResult) -> None:
    figure = interlace.plot_scale_location(penicillin)
    assert isinstance(figure.draw(show=False), object)
    drawn = standard_residuals(penicillin)
    np.testing.assert_allclose(drawn, penicillin.normalized_resid)


def test_zero_variance_is_found() -> None:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"a": np.repeat(np.arange(12), 12), "b": np.tile(np.arange(12), 12)})
    frame["s"] = np.where(frame["a"] < 6, "k", "l")
    within = rng.normal(size=(12, 12))
    within -= within.mean(axis=0)
    y = within + 2.0 * rng.normal(size=12)[:, None]
    frame["y"] = y.ravel()
    with pytest.warns(interlace.SingularFitWarning, match="'b'"):
        result = interlace.fit("y ~ 1 + (1 | a) + (1 | b)", frame, residual="varident(s)")
    assert result.variance_components["b"] == 0.0
    alone = interlace.fit("y ~ 1 + (1 | a)", frame, residual="varident(s)")
    assert result.criterion == pytest.approx(alone.criterion, abs=1e-7)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"residual": "varident(lonely)"}, "has one row, row 7 of the data"),
        ({"residual": "varident(one)"}, "has one stratum"),
        ({"residual": "varident(several)"}, r"\(and so have 1 others\): a variance needs two"),
        ({"residual": "varpower(s)"}, "must be numeric, but holds text"),
        ({"residual": "varident(nothere)"}, "no column 'nothere'"),
        ({"residual": "varpower(zero)"}, "is 0 in row 5 of the data"),
        ({"residual": "varexp(zero)", "ddf": "kenward-roger"}, "take ddf='kenward-roger-linear'"),
        ({"residual": "varident(s)", "ddf": "residual"}, "counts subjects"),
        ({"residual": "ar1(v | g)", "solver": "iterative"}, "is fitted by solver='exact'"),
        ({"residual": "varident(s)", "solver": "quick"}, "solver must be 'auto'"),
        (
            {"residual": "varident(s)", "solver": "iterative", "ddf": "satterthwaite"},
            "ddf='satterthwaite' needs the inverse of the mixed-model equations",
        ),
        ({"residual": "varident(s)", "solver": "iterative", "mc_tolerance": 0}, "positive number"),
        ({"residual": "varident(s) * ar1(v | h)"}, "has two rows at v"),
        ({"residual": ["varident(s)", "ar1(v | g)"]}, "factor other than the"),
    ],
)
def test_what_is_refused(options: dict[str, str], says: str) -> None:
    rng = np.random.default_rng(0)
    n = 40
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "g": np.repeat(np.arange(10), 4),
            "v": np.tile(np.arange(4), 10),
            "h": rng.integers(0, 5, n),
            "s": rng.choice(["k", "l"], n),
            "one": "z",
        }
    )
    frame["lonely"] = np.where(np.arange(n) == 7, "alone", "together")
    frame["several"] = np.where(frame.index < 2, frame.index.astype(str), "rest")
    frame["zero"] = np.where(np.arange(n) == 5, 0.0, 1.0 + np.arange(n))
    with pytest.raises(InterlaceError, match=says):
        interlace.fit("y ~ 1 + (1 | g) + (1 | h)", frame, **options)


@pytest.mark.parametrize("formula", ["y ~ f + (1 | g)", "y ~ f + (1 | g) + (1 | h)"])
@pytest.mark.parametrize("method", ["ML", "REML"])
def test_strata_that_fixed_effects_reproduce_are_refused(formula: str, method: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"y": rng.normal(size=60), "g": np.repeat(np.arange(10), 6)})
    frame["h"], frame["s"] = rng.integers(0, 5, 60), np.where(frame.index < 2, "few", "rest")
    frame["f"] = np.where(frame.index < 2, frame.index.astype(str), "rest")
    says = r"all rows of the stratum few of varident\(s\), such as row 0 of the data"
    with pytest.raises(InterlaceError, match=says):
        interlace.fit(formula, frame, residual="varident(s)", method=method)
    flat = frame.assign(y=frame["y"].where(frame["s"] == "rest", 3.0), x=frame["s"] == "few")
    with pytest.raises(InterlaceError, match="or of those of a stratum"):
        interlace.fit("y ~ x + (1 | g) + (1 | h)", flat, residual="varident(s)", method=method)


def test_what_a_result_does_not_have(penicillin: ScaledLMEResult) -> None:
    with pytest.raises(InterlaceError, match="no one scale"):
        penicillin.scale  # noqa: B018
    with pytest.raises(
        InterlaceError, match="method must be 'wald', 'profile' or 'bootstrap', not"
    ):
        penicillin.conf_int(method="exact")
    with pytest.raises(InterlaceError, match="crossed, so that no one has independent clusters"):
        penicillin.cov_params(robust="CR2")
    with pytest.raises(InterlaceError, match="takes residual variances as known"):
        interlace.hlm_influence(penicillin)
    for change in ({"residual": None}, {"residual": "ar1(plate | sample)"}, {"residual": 3}):
        with pytest.raises(InterlaceError, match=r"update\(\) to residual=.* another kind"):
            penicillin.update(**change)
    with pytest.raises(InterlaceError, match="to no random effects would make a model of another"):
        penicillin.update("diameter ~ 1")
    with pytest.raises(InterlaceError, match="is for Gaussian responses, not family='poisson'"):
        penicillin.update(family="poisson")
    with pytest.raises(InterlaceError, match="quadrature= is for other families"):
        penicillin.update(quadrature=3)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        penicillin.nonsense  # noqa: B018


def test_a_stratum_without_residual_variance_is_an_end() -> None:
    """One stratum has next to none: its ratio goes near zero, and the search ends there."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"g": np.repeat(np.arange(15), 8), "b": np.tile(np.arange(8), 15)})
    frame["s"] = np.where(frame["g"] < 7, "k", "l")
    exact = 2.0 * rng.normal(size=15)[frame["g"]] + rng.normal(size=8)[frame["b"]]
    noise = np.where(frame["s"] == "k", 1.0, 1e-4) * rng.normal(size=120)
    frame["y"] = exact + noise
    result = interlace.fit("y ~ 1 + (1 | g) + (1 | b)", frame, residual="varident(s)")
    assert result.converged
    assert result.residual_values["ratio_l"] == pytest.approx(1e-4, rel=0.4)
