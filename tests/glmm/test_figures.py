"""Figures of generalised models: what they show, and that they can be drawn."""

import numpy as np
import pytest

import interlace
from glmm.cases import CASES, fitted
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
