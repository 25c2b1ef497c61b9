"""Figures of generalised models: what they show, and that they can be drawn."""

import numpy as np
import pytest

import interlace
from glmm.cases import CASES, fitted
from glmm.test_part_means import categories
from glmm.test_wider import fitted as wider
from interlace import InterlaceError, plots

INDEX = {case.file: i for i, case in enumerate(CASES)}


@pytest.mark.parametrize("file", ["cbpp_laplace.glmm", "glmm_nbinom2_owls"])
def test_the_overview_can_be_drawn(file):
    fitted(INDEX[file]).plot().draw()


def test_a_rootogram_hangs_observed_from_expected_frequencies():
    result = fitted(INDEX["glmm_nbinom2_owls"])
    data = plots.plot_rootogram(result).data
    y, size, mean = result.estimate.problem.y, result.dispersion, result.fittedvalues
    zero = ((size / (size + mean)) ** size).sum()
    assert data["top"][0] == pytest.approx(np.sqrt(zero))
    assert data["low"][0] == pytest.approx(np.sqrt(zero) - np.sqrt((y == 0).sum()))
    with pytest.raises(InterlaceError, match="a rootogram shows counts"):
        plots.plot_rootogram(fitted(INDEX["glmm_gamma_sleep"]))


def test_calibration_compares_means_of_groups():
    result = fitted(0)
    data = plots.plot_calibration(result, groups=4).data
    assert len(data) == 4 and (np.diff(data["predicted"]) > 0).all()
    assert ((data["observed"] > data["low"]) & (data["observed"] < data["high"])).sum() >= 3
    with pytest.raises(InterlaceError, match="groups must be a whole number"):
        plots.plot_calibration(result, groups=1)


def test_predictions_are_means_of_the_model():
    ticks = fitted(INDEX["grouseticks.glmm"])
    data = plots.plot_predictions(ticks, "cHEIGHT", by="YEAR").data
    row = data.iloc[7]
    new = {"cHEIGHT": [row["cHEIGHT"]], "YEAR": [row["YEAR"]]}
    expected = ticks.predict(new, include_re=False, interval="confidence").iloc[0]
    for name, column in (("mean", "prediction"), ("lower", "lower"), ("upper", "upper")):
        assert row[name] == pytest.approx(expected[column])
    plots.plot_predictions(fitted(0), "period", integrate=True).draw()


def test_residuals_and_effects_can_be_drawn():
    plots.plot_quantile_residuals(fitted(0)).draw()
    interlace.plot_ranef(fitted(0)).draw()


def test_linear_models_are_refused_in_words():
    linear = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch")
    for name in ("quantile_residuals", "rootogram", "calibration"):
        with pytest.raises(InterlaceError, match=f"plot_{name} is made for generalised models"):
            getattr(plots, f"plot_{name}")(linear)


def test_coefficients_of_one_fit_or_several():
    one, other = fitted(0), fitted(INDEX["glmm_probit_cbpp"])
    plots.plot_coef(one).draw()
    found = plots.plot_coef({"logit": one, "probit": other}).data
    assert set(found["model"]) == {"logit", "probit"} and len(found) == 6


def test_probabilities_of_categories_are_those_of_means():
    result = categories("soup_logit")
    data = plots.plot_probabilities(result, "age", by="prod", mode="exceedance").data
    assert len(data) == 60 * 5 * 2
    row = data.iloc[70]
    means = result.emmeans("prod", at={"age": row["age"]}, mode="exceedance").table
    own = means[(means["prod"] == row["prod"]) & (means["cut"] == row["cut"])].iloc[0]
    for name in ("probability", "lower", "upper"):
        assert row[name] == pytest.approx(own[name])
    figure = plots.plot_probabilities(categories("wine_logit"), "temp")
    assert list(figure.data["series"].cat.categories) == ["r1", "r2", "r3", "r4", "r5"]
    figure.draw()
    with pytest.raises(InterlaceError, match="mode must be one of 'probability', 'exceedance'"):
        plots.plot_probabilities(result, "age", mode="latent")


def test_thresholds_stand_where_rows_are():
    """On the scale of the linear predictors that the figure shows, with the mean of X at 0."""
    result = categories("wine_logit")
    figure = plots.plot_thresholds(result)
    table = figure.layers[1]._data
    X = result.design.X[:, 1:]
    shift = X.mean(axis=0) @ result.fe_params
    np.testing.assert_allclose(table["estimate"], result.thresholds - shift)
    np.testing.assert_allclose(result.estimate.eta + shift, result.predict(type="link"))
    assert figure.data["rows"].sum() == result.nobs
    figure.draw()


def test_calibration_of_categories_is_of_every_threshold():
    result = categories("soup_logit")
    data = plots.plot_calibration(result, groups=5).data
    assert data["cut"].cat.categories.tolist()[0] == "beyond c1|c2"
    assert (data.groupby("cut", observed=True).size() == 5).all()
    code = result.family.codes(result.estimate.problem.y)
    shares = data.groupby("cut", observed=True)["observed"].mean()
    np.testing.assert_allclose(shares, [(code > j).mean() for j in range(5)], atol=1e-9)
    plots.plot_calibration(result).draw()
    result.plot().draw()


@pytest.mark.parametrize("name", ["zip_plain", "zinb2", "hurdle_nbinom2"])
def test_rootograms_expect_the_zeros_of_the_model(name):
    result = wider(name)
    data = plots.plot_rootogram(result).data
    y = result.estimate.problem.y
    share = result.predict(type="zero-probability")
    if name == "hurdle_nbinom2":
        zeros = share.sum()
    else:
        mean = result.link.mean(result.estimate.eta).value
        k = result.dispersion
        none = np.exp(-mean) if name == "zip_plain" else (k / (k + mean)) ** k
        zeros = (share + (1.0 - share) * none).sum()
    assert data["top"][0] ** 2 == pytest.approx(zeros)
    assert (data["top"][0] - data["low"][0]) ** 2 == pytest.approx((y == 0).sum())


def test_predictions_with_zeros_are_of_all_responses():
    result = wider("zip_plain")
    data = plots.plot_predictions(result, "atime", by="ft", data=True).data
    row = data.iloc[5]
    means = result.emmeans("ft", at={"atime": row["atime"]}, component="mean").table
    own = means[means["ft"] == row["ft"]].iloc[0]
    assert row["mean"] == pytest.approx(own["response"])
    with pytest.raises(InterlaceError, match="lines of groups are not there"):
        plots.plot_predictions(result, "atime", groups="Nest")
    with pytest.raises(InterlaceError, match="use plot_probabilities"):
        plots.plot_predictions(categories("wine_logit"), "temp")
    for verb in (plots.plot_probabilities, plots.plot_thresholds):
        with pytest.raises(InterlaceError, match="needs family='ordinal', not 'zero-inflated"):
            verb(result, *(["ft"] if verb is plots.plot_probabilities else []))
