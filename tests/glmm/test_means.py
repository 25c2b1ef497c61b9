"""Means and contrasts of generalised models: R's emmeans, and means of the population."""

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import CASES, fitted, golden
from interlace import InterlaceError

WITH = [i for i, c in enumerate(CASES) if "emmeans" in golden(c.file)]
EVERY = pytest.mark.parametrize("index", WITH, ids=[CASES[i].file for i in WITH])


def specs_of(index):
    e = golden(CASES[index].file)["emmeans"]
    return e, e["specs"].replace("~", "").strip()


@EVERY
def test_means_on_both_scales_are_emmeans_s(index):
    """R takes offsets at the mean of their variable, this library at 0."""
    (e, specs), result = specs_of(index), fitted(index)
    link, response = result.emmeans(specs), result.emmeans(specs, type="response")
    shift = link.table["emmean"] - e["link"]["emmean"]
    if "offset" in CASES[index].formula:
        assert shift.max() - shift.min() < 1e-5
        assert "The offset is 0." in str(link)
    else:
        np.testing.assert_allclose(shift, 0.0, atol=1e-5)
        name = next(n for n in ("prob", "response", "rate") if n in e["response"])
        np.testing.assert_allclose(response.table["response"], e["response"][name], rtol=1e-5)
        np.testing.assert_allclose(response.table["se"], e["response"]["SE"], rtol=1e-4)
    np.testing.assert_allclose(link.table["se"], e["link"]["SE"], rtol=1e-4)
    assert np.isinf(link.table["df"]).all()
    for limit in ("lower", "upper"):
        mapped = result.link.mean(link.table[limit].to_numpy()).value
        np.testing.assert_allclose(response.table[limit], mapped)


@EVERY
def test_contrasts_are_ratios_where_the_link_has_them(index):
    (e, specs), result = specs_of(index), fitted(index)
    found = result.emmeans(specs, type="response").contrasts(adjust="none")
    expected = e["pairs_tukey_ratio"]
    if result.link.name in ("log", "logit"):
        name = "ratio" if "ratio" in expected else "odds.ratio"
        np.testing.assert_allclose(found.table["ratio"], expected[name], rtol=1e-5)
        np.testing.assert_allclose(found.table["se"], expected["SE"], rtol=1e-4)
        assert all(" / " in name for name in found.table["contrast"])
        plain = result.emmeans(specs).contrasts(adjust="none")
        np.testing.assert_array_equal(found.table["p"], plain.table["p"])
        np.testing.assert_allclose(found.table["lower"], np.exp(plain.table["lower"]))
    else:
        np.testing.assert_allclose(found.table["estimate"], expected["estimate"], rtol=1e-5)
        assert "on the scale of the link" in str(found)


@EVERY
def test_means_of_the_population_are_predictions_of_it(index):
    (_, specs), result = specs_of(index), fitted(index)
    if "offset" in CASES[index].formula or specs == "grp":
        pytest.skip("the grid has columns of its own")
    means = result.emmeans(specs, integrate=True)
    expected = result.predict(
        {"period": means.table["period"].to_numpy()}, "integrated", interval="confidence"
    )
    np.testing.assert_allclose(means.table["response"], expected["prediction"])
    for name in ("se", "lower", "upper"):
        np.testing.assert_allclose(means.table[name], expected[name])
    pairs = means.contrasts(adjust="none").table
    m = means.table["response"].to_numpy()
    assert pairs["estimate"][0] == pytest.approx(m[0] - m[1])
    assert len(means.letters()) == len(means.joint_tests()) + len(m) - 1


def test_random_slopes_have_the_variance_of_their_place_in_the_grid():
    result = fitted(7)
    for days in (0.0, 9.0):
        own = result.emmeans("1", at={"Days": [days]}, integrate=True).table
        expected = result.predict({"Days": [days]}, "integrated", se=True)
        assert own["response"][0] == pytest.approx(expected["prediction"][0])
        assert own["se"][0] == pytest.approx(expected["se"][0])


def test_columns_that_only_the_random_effects_read():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 10), "x": rng.normal(size=120)})
    data["y"] = rng.poisson(np.exp(0.5 + 0.6 * rng.normal(size=12)[data["g"]] * (1 + data["x"])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit("y ~ 1 + (x | g)", data, family="poisson")
    assert len(result.emmeans("1", type="response").table) == 1
    with pytest.raises(InterlaceError, match="the random effects read 'x', which the fixed"):
        result.emmeans("1", integrate=True)


def test_slopes_and_joint_tests_on_the_scale_of_the_link():
    result = fitted(6)
    slopes = result.emtrends("Days", "grp").table
    assert slopes["trend"][0] == pytest.approx(result.fe_params["Days"], rel=1e-6)
    tests = result.joint_tests()
    assert list(tests.index) == ["Days", "grp", "Days:grp"]
    interaction = [name for name in result.fe_params.index if ":" in name]
    wald = result.wald_test([f"{name} = 0" for name in interaction])
    assert tests.loc["Days:grp", "F"] == pytest.approx(wald.statistic)
    assert np.isinf(tests["den_df"]).all()


def test_what_is_refused():
    result = fitted(0)
    with pytest.raises(InterlaceError, match="ddf='satterthwaite' is for Gaussian models"):
        result.emmeans("period", ddf="satterthwaite")
    with pytest.raises(InterlaceError, match="type must be 'link' or 'response'"):
        result.emmeans("period", type="mean")
    with pytest.raises(InterlaceError, match="corrects the residuals of a linear model"):
        result.emmeans("period", robust="CR2")


def test_a_linear_model_has_one_scale():
    machines = interlace.datasets.load("machines")
    result = interlace.fit("score ~ Machine + (1 | Worker)", machines)
    plain = result.emmeans("Machine").table
    for options in ({"type": "response"}, {"integrate": True}):
        pd.testing.assert_frame_equal(plain, result.emmeans("Machine", **options).table)
