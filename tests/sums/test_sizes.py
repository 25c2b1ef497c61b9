"""Numbers whose squares leave the range of double precision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import interlace
from interlace.errors import InterlaceError

Result = interlace.CrossedLMEResult


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(15), 12), rng.normal(size=180)
    y = 2.0 + x + (rng.normal(size=15) + 0.5 * rng.normal(size=15) * x[:, None])[range(180), g]
    return {"y": y + rng.normal(size=180), "x": x, "g": g, "w": rng.uniform(0.5, 2.0, 180)}


FORMULAS = ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + (x || g)"]
# Fits in other units are the same bit by bit; searches end within this of one another.
SAME = 1e-6


@cache
def fitted(formula: str) -> Result:
    return interlace.fit(formula, data(), weights="w")


def in_units(formula: str, y: int, x: int, w: int) -> Result:
    """The fit with columns times powers of 2."""
    frame = data()
    powers = {"y": y, "x": x, "w": w}
    scaled = {name: np.ldexp(frame[name], power) for name, power in powers.items()}
    return interlace.fit(formula, frame | scaled, weights="w")


@pytest.mark.parametrize("power", [-990, -700, -300, 300, 700, 990])
@pytest.mark.parametrize("formula", FORMULAS)
def test_weights_of_any_size_rescale_the_variance_alone(formula: str, power: int) -> None:
    one, other = fitted(formula), in_units(formula, 0, 0, power)
    assert other.convergence.converged
    assert_allclose(other.fe_params, one.fe_params, rtol=1e-8)
    assert_allclose(other.fe_bse, one.fe_bse, rtol=1e-6)
    assert_allclose(np.ldexp(other.scale, -power), one.scale, rtol=1e-6)
    assert other.criterion == pytest.approx(one.criterion, abs=1e-6)
    for a, b in zip(other.estimate.covariances, one.estimate.covariances, strict=True):
        assert_allclose(a, b, rtol=1e-5, atol=1e-8)


# y and x from 1e-300 to 1e300, and weights where the residual standard deviation is a number.
POWERS = st.integers(-990, 990)


@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.sampled_from(FORMULAS), POWERS, POWERS, st.integers(-480, 480))
def test_units_of_any_size_change_nothing_else(formula: str, y: int, x: int, w: int) -> None:
    w = 2 * (w // 2)
    if abs(y + w // 2) > 980 or abs(x + w // 2) > 980 or abs(y - x) > 980:
        return  # a coefficient, or a standard deviation, would be no number
    one, other = fitted(formula), in_units(formula, y, x, w)
    units = np.array([y, y - x])
    assert_allclose(np.ldexp(other.fe_params, -units), one.fe_params, rtol=SAME)
    for ddf in ("normal", "satterthwaite", "kenward-roger"):
        table, right = other.coef_table(ddf), one.coef_table(ddf)
        for name in ("se", "lower", "upper"):
            assert_allclose(np.ldexp(table[name], -units), right[name], rtol=1e-5)
        for name in ("df", "statistic", "p"):
            assert_allclose(table[name], right[name], rtol=1e-4, atol=1e-12)
    assert_allclose(other.conf_int().to_numpy(), other.coef_table()[["lower", "upper"]].to_numpy())
    effects = np.ldexp(other.random_effects["g"].to_numpy().reshape(15, -1), -units[: _k(formula)])
    right_effects = one.random_effects["g"].to_numpy().reshape(15, -1)
    assert_allclose(effects, right_effects, atol=1e-5)
    assert len(str(other.summary())) > 500
    _same_theta(other, one, x, w)
    _same_tidy(other, one, y, x, w)
    _same_predictions(other, one, y, x, w)
    assert other.icc().adjusted == pytest.approx(
        one.icc().adjusted if w == 0 else other.icc().adjusted, rel=1e-5
    )


def _k(formula: str) -> int:
    return 1 if "(1 |" in formula else 2


def _same_theta(other: Result, one: Result, x: int, w: int) -> None:
    """Templates are in units of residuals over those of columns."""
    (term,) = one.estimate.A.terms
    rows = np.array([0, -x])[term.free_index[0]] - w // 2
    assert_allclose(np.ldexp(other.theta, -rows), one.theta, rtol=1e-5, atol=1e-8)


def _same_tidy(other: Result, one: Result, y: int, x: int, w: int) -> None:
    table, right = other.tidy("ran_pars"), one.tidy("ran_pars")
    powers = [
        y + w // 2 if name == "sd__Observation" else y - x if name == "sd__x" else y
        for name in right["term"]
    ]
    powers = np.where(right["term"].str.startswith("cor"), 0, powers)
    for name in ("estimate", "std.error"):
        assert_allclose(np.ldexp(table[name], -powers), right[name], rtol=1e-4)


def _same_predictions(other: Result, one: Result, y: int, x: int, w: int) -> None:
    new = pd.DataFrame({"x": [0.0, 1.0], "g": [3, 99], "w": [1.0, 2.0]})
    far = new.assign(x=np.ldexp(new["x"], x), w=np.ldexp(new["w"], w))
    settings: list[dict[str, object]] = [
        {"se": True},
        {"include_re": False, "interval": "confidence"},
        {"interval": "prediction"},
    ]
    if abs(y) > 960:
        return  # limits of intervals may leave the range
    for how in settings:
        if w == 0 or how.get("interval") != "prediction":
            found = np.ldexp(other.predict(far, **how), -y)  # type: ignore[call-overload]
            assert_allclose(found, one.predict(new, **how), rtol=1e-4, atol=1e-6)  # type: ignore[call-overload]


ASKED: dict[str, Callable[[Result], object]] = {
    "scale": lambda r: r.scale,
    "fe_cov": lambda r: r.fe_cov,
    "cov_params": lambda r: r.cov_params(ddf="kenward-roger"),
    "variance_components": lambda r: r.variance_components,
    "vcov_theta": lambda r: r.vcov_theta(),
    "bootstrap": lambda r: r.bootstrap(10, statistic=lambda one: one.scale),
    "bootstrap_se": lambda r: r.bootstrap_se(n_bootstrap=10),
}


@pytest.mark.parametrize("power", [-700, 700])
@pytest.mark.parametrize("name", ASKED)
def test_what_is_no_number_is_refused_with_the_reason(name: str, power: int) -> None:
    result = in_units(FORMULAS[1], power, 0, 0)
    with pytest.raises(InterlaceError, match=r"not in the range of double|squares numbers"):
        ASKED[name](result)


@pytest.mark.parametrize("power", [-700, 700])
def test_what_has_no_unit_does_not_change(power: int) -> None:
    one, other = interlace.fit(FORMULAS[1], data()), None
    frame = data()
    other = interlace.fit(FORMULAS[1], frame | {"y": np.ldexp(frame["y"], power)})
    assert_allclose(other.fe_pvalues, one.fe_pvalues, rtol=1e-5)
    assert other.icc().adjusted == pytest.approx(one.icc().adjusted, rel=1e-6)
    assert other.wald_test("x = 0").statistic == pytest.approx(one.wald_test("x = 0").statistic)
    assert_allclose(other.ranova()["LRT"], one.ranova()["LRT"], rtol=1e-5)
    for verb in (interlace.cooks_distance, interlace.leverage):
        assert_allclose(verb(other), verb(one), rtol=1e-4)
    kinds = [{"standardized": True}, {"type": "marginal", "standardized": "studentized"}]
    for how in kinds:
        found, right = (interlace.hlm_resid(r, **how) for r in (other, one))
        named = [c for c in right.columns if c.startswith((".std", ".student"))]
        assert named
        assert_allclose(found[named], right[named], rtol=1e-4, atol=1e-6)
    limits = other.conf_int(method="profile", parm=["sigma", "x"])
    right_limits = one.conf_int(method="profile", parm=["sigma", "x"])
    assert_allclose(np.ldexp(limits, -power), right_limits, rtol=1e-4)
    robust, right_robust = other.coef_table(robust="CR2"), one.coef_table(robust="CR2")
    assert_allclose(np.ldexp(robust["se"], -power), right_robust["se"], rtol=1e-5)
    many = interlace.fit_many(
        "~ x + (x | g)",
        {k: v for k, v in frame.items() if k != "y"},
        {"a": np.ldexp(frame["y"], power)},
    )
    assert not many.errors


def _times(power: int, name: str, column: str) -> int:
    """The power of 2 of a parameter where one column of the data is times ``2^power``."""
    if column == "w":
        return power // 2 if name == "sigma" else 0
    if name.startswith("cor"):
        return 0
    return power if column == "y" else -power * (name.startswith("x") or name.startswith("sd_x"))


def refitted(result: Result) -> dict[str, pd.DataFrame | pd.Series]:
    """What verbs that refit say."""
    found = result.bootstrap(6, seed=1)
    return {
        "replicates": found.replicates,
        "se": found.se,
        "limits": result.profile(["x", "sd_x|g", "sigma"]).conf_int(),
        "scores": result.cross_validate("g").scores,
        "anova": result.anova()[TESTS],
        "step": result.step().fixed[TESTS],
    }


TESTS = ["num_df", "den_df", "F", "p"]
refitted_in_plain_units = cache(lambda: refitted(fitted(FORMULAS[1])))


@pytest.mark.parametrize("power", [-960, 960])
@pytest.mark.parametrize("column", ["y", "x", "w"])
def test_verbs_that_refit_are_equivariant(column: str, power: int) -> None:
    """Bootstrap, profiles, cross-validation, and shares and tests beside sums of squares."""
    one, right = fitted(FORMULAS[1]), refitted_in_plain_units()
    if column == "w":
        power //= 2
    other = in_units(FORMULAS[1], *(power * (column == name) for name in "yxw"))
    found = refitted(other)
    powers = np.negative([_times(power, name, column) for name in right["replicates"]])
    for name in ("replicates", "se"):
        assert_allclose(np.ldexp(found[name], powers), right[name], rtol=1e-4)
    powers = np.negative([_times(power, str(name), column) for name in right["limits"].index])
    assert_allclose(np.ldexp(found["limits"].T, powers), right["limits"].T, rtol=1e-4)
    errors, back = ["rmse", "mae"], -power * (column == "y")
    assert_allclose(np.ldexp(found["scores"][errors], back), right["scores"][errors], rtol=1e-5)
    assert_allclose(found["scores"]["r2"], right["scores"]["r2"], rtol=1e-4)
    for name in ("anova", "step"):
        assert_allclose(found[name], right[name], rtol=1e-4)
    if column != "w":  # which change the residual variance of a row of weight 1
        assert other.r2().marginal == pytest.approx(one.r2().marginal, rel=1e-5)
        assert other.r2().conditional == pytest.approx(one.r2().conditional, rel=1e-5)
    assert "Standard deviations were" in other.report()


@pytest.mark.parametrize("power", [-660, 660])
def test_sums_of_squares_and_variances_that_are_no_numbers_are_nan(power: int) -> None:
    other = in_units(FORMULAS[1], power, 0, 0)
    assert other.anova()[["sum_sq", "mean_sq"]].isna().all(axis=None)
    assert np.isnan([other.r2().var_fixed, other.r2().var_residual]).all()
    near = in_units(FORMULAS[1], power // 2, 0, 0)
    squares = np.ldexp(near.anova()["sum_sq"], -2 * (power // 2))
    assert_allclose(squares, fitted(FORMULAS[1]).anova()["sum_sq"], rtol=1e-5)


@pytest.mark.parametrize("size", [1e-305, 1e305])
@pytest.mark.parametrize(("column", "named"), [("y", "the response"), ("x", "column 'x'")])
def test_units_at_the_end_of_the_range_are_refused(
    size: float, column: str, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    frame = data()
    with pytest.raises(InterlaceError, match=f"{named} is of the size .*times 1e"):
        interlace.fit(FORMULAS[1], frame | {column: frame[column] * size})
    assert capfd.readouterr() == ("", "")  # LAPACK says nothing


def test_columns_and_weights_that_leave_the_range_together_are_refused() -> None:
    frame = data()
    far = {"x": frame["x"] * 1e-300, "w": frame["w"] * 1e-300}
    with pytest.raises(
        InterlaceError, match=r"times the roots of the weights.*give weights near 1"
    ):
        interlace.fit(FORMULAS[1], frame | far, weights="w")


def test_a_coefficient_that_is_no_number_is_refused() -> None:
    frame = data()
    far = {"x": frame["x"] * 1e-200, "y": frame["y"] * 1e200}
    result = interlace.fit(FORMULAS[0], frame | far)
    with pytest.raises(InterlaceError, match="a coefficient is of the size 1e400"):
        str(result.fe_params)


def test_weights_that_are_no_normal_numbers_are_refused() -> None:
    frame = data()
    with pytest.raises(InterlaceError, match="a weight is of the size"):
        interlace.fit(FORMULAS[0], frame | {"w": frame["w"] * 1e-320}, weights="w")


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sums_of_numbers_of_any_size(size: float) -> None:
    frame = data()
    far = frame | {"y": frame["y"] * size}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sums = interlace.cross_products(FORMULAS[1], far)
        result = interlace.fit(FORMULAS[1], sums)
    assert_allclose(result.fe_bse / size, interlace.fit(FORMULAS[1], frame).fe_bse, rtol=1e-5)


@pytest.mark.parametrize("power", [-430, 430])
@pytest.mark.parametrize("formula", FORMULAS)
def test_other_units_rescale_everything(formula: str, power: int) -> None:
    frame = data()
    one = interlace.fit(formula, frame)
    other = interlace.fit(formula, frame | {"y": np.ldexp(frame["y"], power)})
    assert_allclose(np.ldexp(other.fe_params, -power), one.fe_params, rtol=1e-6)
    assert_allclose(np.ldexp(other.fe_bse, -power), one.fe_bse, rtol=1e-5)
    assert_allclose(np.ldexp(other.scale, -2 * power), one.scale, rtol=1e-5)
    assert_allclose(other.theta, one.theta, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("theta0", ["x", ["a"], [None, "b"], object(), [1.0, 2.0], np.nan])
def test_starting_values_that_are_none(theta0: object) -> None:
    with pytest.raises(InterlaceError, match="theta0 must hold 1 finite numbers"):
        interlace.fit(FORMULAS[0], data(), theta0=theta0)  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [-660, 660])
def test_slopes_of_any_size_make_no_warnings_of_arithmetic(power: int) -> None:
    """A slope that varies by nothing is searched again from elsewhere, in units near 1."""
    frame = data()
    rng = np.random.default_rng(1)
    frame["y"] = frame["x"] + rng.normal(size=15)[frame["g"]] + rng.normal(size=180)
    far = frame | {"x": np.ldexp(frame["x"], power)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", interlace.errors.SingularFitWarning)
        one, other = (
            interlace.fit("y ~ x + (x | g)", columns, method="ML") for columns in (frame, far)
        )
        many = interlace.fit_many("~ x + (x | g)", far, ["y"], method="ML")
    assert other.criterion == pytest.approx(one.criterion, abs=1e-6)
    assert not many.errors
    assert many.table["estimate"].iloc[0] == pytest.approx(one.fe_params.iloc[0], rel=1e-5)
