"""What must not change when the data are written down differently (hypothesis)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import interlace

# Some of the drawn data have no group variance, so their fits are singular.
pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

INTERCEPTS = "y ~ x + (1 | g) + (1 | h)"
SLOPES = "y ~ x + (1 + x | g) + (1 | h)"
EXAMPLES = settings(max_examples=8)


@dataclass(frozen=True)
class Sample:
    """Random data of a crossed design, with the model to fit to them."""

    formula: str
    method: str
    data: pd.DataFrame = field(repr=False)

    def fit(self, data: pd.DataFrame | None = None, **arguments) -> interlace.CrossedLMEResult:
        data = self.data if data is None else data
        return interlace.fit(self.formula, data, method=self.method, **arguments)


@st.composite
def samples(draw: st.DrawFn, formulas: tuple[str, ...] = (INTERCEPTS, SLOPES)) -> Sample:
    formula = draw(st.sampled_from(formulas))
    method = draw(st.sampled_from(["REML", "ML"]))
    n, levels_g, levels_h = draw(st.integers(60, 150)), draw(st.integers(5, 12)), 6
    sd_g, sd_h = (draw(st.sampled_from([0.0, 0.3, 1.0, 3.0])) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    g, h = rng.integers(levels_g, size=n), rng.integers(levels_h, size=n)
    x = rng.normal(size=n)
    slope = 0.5 + sd_g / 2 * rng.normal(size=levels_g)[g]
    y = 1 + slope * x + sd_g * rng.normal(size=levels_g)[g] + sd_h * rng.normal(size=levels_h)[h]
    data = pd.DataFrame(
        {
            "y": y + rng.normal(size=n),
            "x": x,
            "g": [f"g{i}" for i in g],
            "h": [f"h{i}" for i in h],
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    return Sample(formula, method, data)


def assert_same_fit(a: interlace.CrossedLMEResult, b: interlace.CrossedLMEResult) -> None:
    """The same optimum, in everything that does not depend on how levels are named."""
    assert a.criterion == pytest.approx(b.criterion, abs=1e-6)
    assert_allclose(a.fe_params, b.fe_params, rtol=0, atol=1e-5 * np.max(a.fe_bse))
    assert_allclose(a.fe_bse, b.fe_bse, rtol=1e-4)
    assert a.scale == pytest.approx(b.scale, rel=1e-4)
    assert_same_variances(a, b)


def assert_same_variances(
    a: interlace.CrossedLMEResult, b: interlace.CrossedLMEResult, factor: float = 1.0
) -> None:
    """Covariances of `a` times `factor` are those of `b`, to 1e-4 of the larger variances."""
    assert a.variance_components.keys() == b.variance_components.keys()
    for key, covariance in a.variance_components.items():
        ours, theirs = factor * np.asarray(covariance), np.asarray(b.variance_components[key])
        assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(np.max(np.abs(theirs)), b.scale))


def assert_same_effects(a: interlace.CrossedLMEResult, b: interlace.CrossedLMEResult) -> None:
    sigma = np.sqrt(a.scale)
    for key, effects in a.random_effects.items():
        other = b.random_effects[key].loc[effects.index]
        assert_allclose(effects, other, rtol=0, atol=1e-4 * sigma)


@EXAMPLES
@given(samples(), st.integers(0, 2**32 - 1))
def test_row_order(sample: Sample, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(sample.data))
    a, b = sample.fit(), sample.fit(sample.data.iloc[order])
    assert_same_fit(a, b)
    assert_same_effects(a, b)
    assert_allclose(a.fittedvalues[order], b.fittedvalues, rtol=0, atol=1e-4 * np.sqrt(a.scale))


@EXAMPLES
@given(samples(), st.integers(0, 2**32 - 1))
def test_level_names(sample: Sample, seed: int) -> None:
    levels = sorted(sample.data["g"].unique())
    shuffled = np.random.default_rng(seed).permutation(len(levels))
    renamed = {level: int(i) for level, i in zip(levels, shuffled, strict=True)}
    a, b = sample.fit(), sample.fit(sample.data.assign(g=sample.data["g"].map(renamed)))
    assert_same_fit(a, b)
    effects = a.random_effects["g"]
    other = b.random_effects["g"].loc[[renamed[level] for level in effects.index]]
    assert_allclose(effects, other, rtol=0, atol=1e-4 * np.sqrt(a.scale))


@EXAMPLES
@given(samples(), st.sampled_from([1e-6, 0.01, 3.0, 1e5]), st.sampled_from([0.0, -20.0, 300.0]))
def test_response_scale_and_shift(sample: Sample, factor: float, shift: float) -> None:
    a = sample.fit()
    b = sample.fit(sample.data.assign(y=factor * (sample.data["y"] + shift)))
    nu = a.nobs - len(a.fe_params) if sample.method == "REML" else a.nobs
    assert b.criterion == pytest.approx(a.criterion + 2 * nu * np.log(factor), abs=1e-5)
    expected = factor * (a.fe_params + np.array([shift, 0.0]))
    assert_allclose(b.fe_params, expected, rtol=0, atol=1e-5 * np.max(b.fe_bse))
    assert b.scale == pytest.approx(factor**2 * a.scale, rel=1e-4)
    assert_same_variances(a, b, factor**2)


@EXAMPLES
@given(samples(), st.sampled_from([1e-4, 0.5, 7.0, 1e4]))
def test_all_weights_times_a_constant(sample: Sample, factor: float) -> None:
    """Only the residual variance of a row with weight one changes, by that constant."""
    a = sample.fit(weights="w")
    b = sample.fit(sample.data.assign(w=factor * sample.data["w"]), weights="w")
    assert b.criterion == pytest.approx(a.criterion, abs=1e-5)
    assert_allclose(b.fe_params, a.fe_params, rtol=0, atol=1e-5 * np.max(a.fe_bse))
    assert_allclose(b.fe_bse, a.fe_bse, rtol=1e-4)
    assert b.scale == pytest.approx(factor * a.scale, rel=1e-4)
    for key, covariance in a.variance_components.items():
        other = np.asarray(b.variance_components[key])
        tolerance = 1e-4 * max(np.max(np.abs(other)), a.scale)
        assert_allclose(other, np.asarray(covariance), rtol=0, atol=tolerance)


@EXAMPLES
@given(samples())
def test_weights_of_one_are_no_weights(sample: Sample) -> None:
    a, b = sample.fit(), sample.fit(weights=np.ones(len(sample.data)))
    assert_same_fit(a, b)
    assert_same_effects(a, b)


@EXAMPLES
@given(st.sampled_from(["REML", "ML"]), st.integers(0, 2**32 - 1))
def test_zero_variance_term_changes_nothing(method: str, seed: int) -> None:
    """In a balanced layout, levels of h with equal means have an estimated variance of zero."""
    rng = np.random.default_rng(seed)
    rows = pd.MultiIndex.from_product([range(8), range(6), range(2)], names=["g", "h", "copy"])
    data = rows.to_frame(index=False).assign(y=lambda d: rng.normal(size=len(d)))
    data["y"] += rng.normal(0, 1, 8)[data["g"]]
    data["y"] -= data.groupby("h")["y"].transform("mean")
    with_h = interlace.fit("y ~ 1 + (1 | g) + (1 | h)", data, method=method)
    without = interlace.fit("y ~ 1 + (1 | g)", data, method=method)
    assert with_h.variance_components["h"] <= 1e-8 * with_h.scale
    assert with_h.is_singular is True
    assert with_h.criterion == pytest.approx(without.criterion, abs=1e-6)
    assert_allclose(with_h.fe_params, without.fe_params, rtol=0, atol=1e-8)
    assert_allclose(with_h.fe_bse, without.fe_bse, rtol=1e-5)
    assert_allclose(with_h.fittedvalues, without.fittedvalues, rtol=0, atol=1e-5)
    assert with_h.nparams == without.nparams + 1


@EXAMPLES
@given(samples())
def test_a_large_constant_added_to_y(sample: Sample) -> None:
    a, b = sample.fit(), sample.fit(sample.data.assign(y=sample.data["y"] + 1e8))
    # 1e8 leaves eight digits of y, so a criterion of a few hundred keeps about six decimals.
    assert b.criterion == pytest.approx(a.criterion, abs=1e-4)
    assert_allclose(b.fe_params - [1e8, 0.0], a.fe_params, rtol=0, atol=1e-4 * np.max(a.fe_bse))
    assert_allclose(b.fe_bse, a.fe_bse, rtol=1e-4)
    assert b.scale == pytest.approx(a.scale, rel=1e-4)
    assert_same_variances(a, b)


@EXAMPLES
@given(samples(formulas=(INTERCEPTS,)))
def test_a_large_constant_added_to_x(sample: Sample) -> None:
    a, b = sample.fit(), sample.fit(sample.data.assign(x=sample.data["x"] + 1e6))
    assert b.criterion == pytest.approx(a.criterion, abs=1e-5)
    assert b.fe_params["x"] == pytest.approx(a.fe_params["x"], abs=1e-5 * a.fe_bse["x"])
    assert b.fe_bse["x"] == pytest.approx(a.fe_bse["x"], rel=1e-5)
    assert b.scale == pytest.approx(a.scale, rel=1e-4)
    assert_same_variances(a, b)
    assert_allclose(b.fittedvalues, a.fittedvalues, rtol=0, atol=1e-4 * np.sqrt(a.scale))


@EXAMPLES
@given(samples(formulas=(SLOPES,)), st.sampled_from([10.0, 1e6]))
def test_a_constant_added_to_a_slope(sample: Sample, shift: float) -> None:
    """A correlated intercept absorbs the shift: the same model in other coordinates."""
    a, b = sample.fit(), sample.fit(sample.data.assign(x=sample.data["x"] + shift))
    assert b.criterion == pytest.approx(a.criterion, abs=1e-5)
    assert b.fe_params["x"] == pytest.approx(a.fe_params["x"], abs=1e-4 * a.fe_bse["x"])
    assert b.scale == pytest.approx(a.scale, rel=1e-4)
    slope_a, slope_b = (r.variance_components["g"].loc["x", "x"] for r in (a, b))
    assert slope_b == pytest.approx(slope_a, abs=1e-4 * max(slope_a, a.scale))
    assert_allclose(b.fittedvalues, a.fittedvalues, rtol=0, atol=1e-3 * np.sqrt(a.scale))


@EXAMPLES
@given(samples(), st.booleans())
def test_predict_on_the_training_data_equals_fittedvalues(sample: Sample, weighted: bool) -> None:
    result = sample.fit(weights="w" if weighted else None)
    tolerance = {"rtol": 1e-10, "atol": 1e-10}
    assert_allclose(result.predict(), result.fittedvalues, **tolerance)
    assert_allclose(result.predict(sample.data), result.fittedvalues, **tolerance)
    observed = sample.data["y"].to_numpy()
    assert_allclose(result.resid, observed - result.fittedvalues, **tolerance)


@EXAMPLES
@given(samples())
def test_groups_argument_equals_bars(sample: Sample) -> None:
    assume(sample.formula == INTERCEPTS)
    bars = sample.fit()
    groups = interlace.fit("y ~ x", sample.data, groups=["g", "h"], method=sample.method)
    assert groups.criterion == pytest.approx(bars.criterion, abs=1e-10)
