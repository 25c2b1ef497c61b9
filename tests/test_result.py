"""The result: labels, pickling, refits and what it prints."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
import models
from interlace import CrossedLMEResult, InterlaceError

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


@pytest.fixture(scope="module")
def sleep() -> CrossedLMEResult:
    data = interlace.datasets.load("sleepstudy")
    return interlace.fit("Reaction ~ Days + (Days | Subject)", data)


def test_pickling_keeps_everything_but_the_data(sleep: CrossedLMEResult) -> None:
    sleep.predict()
    text = pickle.dumps(sleep)
    back = pickle.loads(text)
    assert len(text) < 60_000
    assert back.criterion == sleep.criterion
    pd.testing.assert_series_equal(back.fe_params, sleep.fe_params)
    pd.testing.assert_frame_equal(back.random_effects["Subject"], sleep.random_effects["Subject"])
    assert_allclose(back.resid, sleep.resid)
    assert str(back.summary()) == str(sleep.summary())
    with pytest.raises(InterlaceError, match=r"no longer holds its data .* pass data="):
        back.update(method="ML")
    assert back.update(method="ML", data=sleep.data).method == "ML"


def test_immutable(sleep: CrossedLMEResult) -> None:
    with pytest.raises(AttributeError):
        sleep.options = None  # type: ignore[misc]


def test_refit_equals_a_fit_of_the_new_response(sleep: CrossedLMEResult) -> None:
    data = interlace.datasets.load("sleepstudy")
    y = np.random.default_rng(0).normal(size=180)
    again = interlace.fit("y ~ Days + (Days | Subject)", data.assign(y=y))
    refitted = sleep.refit(y)
    assert_allclose(refitted.criterion, again.criterion, atol=1e-9)
    assert_allclose(refitted.fe_params, again.fe_params, rtol=1e-6)
    assert_allclose(refitted.fittedvalues + refitted.resid, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3), r"shape \(3,\), but the model was fitted to 180 rows"),
        (np.full(180, np.nan), "the new response is nan in row 0"),
        (np.ones(180), r"the new response is constant \(1\)"),
    ],
)
def test_refit_refuses(sleep: CrossedLMEResult, y: np.ndarray, message: str) -> None:
    with pytest.raises(InterlaceError, match=message):
        sleep.refit(y)


def test_update_changes_one_thing(sleep: CrossedLMEResult) -> None:
    ml = sleep.update(method="ML")
    assert_allclose(ml.criterion, 1751.9393444646, atol=1e-6)
    fewer = ml.update("Reaction ~ 1 + (Days | Subject)")
    assert fewer.method == "ML"
    assert list(fewer.fe_params.index) == ["Intercept"]


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.1])
def test_levels_outside_0_and_1_are_refused(sleep: CrossedLMEResult, level: float) -> None:
    with pytest.raises(InterlaceError, match="level must be strictly between 0 and 1"):
        sleep.conf_int(level)


def test_intervals_are_wald(sleep: CrossedLMEResult) -> None:
    reach = 1.6448536269514722 * sleep.fe_bse
    interval = sleep.conf_int(0.9)
    assert list(interval.columns) == [0.05, 0.95]
    assert_allclose(interval[0.05], sleep.fe_params - reach)
    assert_allclose(interval[0.95], sleep.fe_params + reach)


def test_statsmodels_spellings(sleep: CrossedLMEResult) -> None:
    pd.testing.assert_series_equal(sleep.params, sleep.fe_params)
    pd.testing.assert_series_equal(sleep.bse, sleep.fe_bse)
    pd.testing.assert_series_equal(sleep.tvalues, sleep.fe_tvalues)
    pd.testing.assert_series_equal(sleep.pvalues, sleep.fe_pvalues)
    assert_allclose(sleep.cov_params(), sleep.fe_cov)


def test_terms_on_one_key_are_joined() -> None:
    result = interlace.fit("y ~ x + (1 | g) + (0 + x | g) + (1 | h)", models.data())
    covariance = result.variance_components["g"]
    assert isinstance(covariance, pd.DataFrame)
    assert list(covariance.index) == list(covariance.columns) == ["Intercept", "x"]
    assert covariance.loc["Intercept", "x"] == 0.0
    assert list(result.random_effects["g"].columns) == ["Intercept", "x"]
    assert isinstance(result.variance_components["h"], float)
    same = interlace.fit("y ~ x + (1 + x || g) + (1 | h)", models.data())
    assert_allclose(same.criterion, result.criterion, atol=1e-8)


def test_conditional_deviations_equal_their_definition() -> None:
    design, _ = models.model("crossed slopes")
    result = interlace.fit(models.FORMULAS["crossed slopes"], models.data())
    Z = models.full_z(design)
    blocks = [
        np.kron(np.eye(t.l), c)
        for t, c in zip(design.terms, result.estimate.covariances, strict=True)
    ]
    G = np.zeros((Z.shape[1], Z.shape[1]))
    start = 0
    for block in blocks:
        stop = start + len(block)
        G[start:stop, start:stop] = block
        start = stop
    V = Z @ G @ Z.T + result.scale * np.eye(len(Z))
    conditional = G - G @ Z.T @ np.linalg.solve(V, Z @ G)
    ours = np.concatenate(
        [result.random_effects_se[t.group].to_numpy().ravel() for t in design.terms]
    )
    assert_allclose(ours**2, np.diag(conditional), atol=1e-9)


def test_dropped_columns_and_rows_are_said() -> None:
    data = models.data().assign(twice=lambda d: 2 * d.x)
    data.loc[3, "x"] = np.nan
    with pytest.warns(interlace.RankDeficiencyWarning, match="dropped: twice"):
        result = interlace.fit("y ~ x + twice + (1 | g)", data)
    text = str(result.summary())
    assert "Dropped as linearly dependent on earlier columns: twice" in text
    assert "159 (1 dropped: missing values)" in text
    assert "twice" not in result.fe_params.index
    assert_allclose(result.predict(data.drop(index=3)), result.fittedvalues)


def test_singular_fits_are_said() -> None:
    with pytest.warns(interlace.SingularFitWarning, match="of 'Batch' is estimated as zero"):
        result = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff2"), "Batch")
    assert result.is_singular
    assert result.theta.tolist() == [0.0]
    assert "is zero in Batch" in str(result.summary())


def test_html_says_what_the_text_says(sleep: CrossedLMEResult) -> None:
    html = sleep._repr_html_()
    for cell in ("Subject", "612.090", "251.405", "&lt;0.001", "P&gt;|z|", "5 evaluations"):
        assert cell in html
    assert html.count("<table>") == html.count("</table>") == 3
    assert "nan" not in html.lower()


def test_repr_is_one_line(sleep: CrossedLMEResult) -> None:
    expected = (
        "<CrossedLMEResult Reaction ~ Days + (1 + Days | Subject) | REML, 180 rows, "
        "criterion 1743.6283>"
    )
    assert repr(sleep) == expected


def test_progress_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    data = interlace.datasets.load("sleepstudy")
    interlace.fit("Reaction ~ Days", data, "Subject", progress=True)
    assert "criterion" in capsys.readouterr().err
    interlace.fit("Reaction ~ Days", data, "Subject")
    assert capsys.readouterr().err == ""
