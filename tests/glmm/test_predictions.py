"""Predictions of generalised models: glmmTMB's numbers, integrals, simulation, refusals."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import interlace
from glmm.cases import CASES, fitted, golden
from interlace import InterlaceError
from interlace.glmm.averages import averaged
from interlace.glmm.laws import law_of
from interlace.glmm.links import LOGIT

WITH_SE = [i for i, c in enumerate(CASES) if "link" in golden(c.file).get("predict", {})]


def integral(link, eta, sd):
    """The mean over a normal linear predictor, by adaptive integration."""

    def density(z):
        return stats.norm.pdf(z) * np.asarray(link.mean(np.array([eta + sd * z])).value)[0]

    return integrate.quad(density, -10, 10, epsabs=1e-12, limit=200)[0]


def file_of(index):
    return CASES[index].file


@pytest.fixture(scope="module")
def cbpp():
    data = interlace.datasets.load("cbpp")
    return interlace.fit(
        "incidence ~ period", data, groups="herd", family="binomial", trials="size"
    )


@pytest.mark.parametrize("index", WITH_SE, ids=file_of)
def test_predictions_and_their_errors_are_glmmtmb_s(index):
    result, p = fitted(index), golden(file_of(index))["predict"]
    new = pd.DataFrame(p["newdata"])
    pairs = [
        ({"type": "link"}, "link", "link_se_glmmTMB"),
        ({}, "response", "response_se_glmmTMB"),
        ({"type": "link", "include_re": False}, "link_population", "link_population_se_delta"),
    ]
    for options, value, error in pairs:
        found = result.predict(new, se=True, **options)
        np.testing.assert_allclose(found["prediction"], p[value], rtol=1e-5)
        np.testing.assert_allclose(found["se"], p[error], rtol=1e-4)
        np.testing.assert_array_equal(found["prediction"], result.predict(new, **options))


@pytest.mark.parametrize("index", WITH_SE, ids=file_of)
def test_confidence_limits_are_mapped_from_the_link(index):
    result = fitted(index)
    new = pd.DataFrame(golden(file_of(index))["predict"]["newdata"])
    link = result.predict(new, type="link", interval="confidence", level=0.9)
    mean = result.predict(new, interval="confidence", level=0.9)
    reach = stats.norm.ppf(0.95)
    np.testing.assert_allclose(link["upper"], link["prediction"] + reach * link["se"])
    for limit in ("lower", "upper"):
        np.testing.assert_allclose(mean[limit], result.link.mean(link[limit].to_numpy()).value)


@pytest.mark.parametrize("index", WITH_SE, ids=file_of)
def test_averages_over_random_effects_are_integrals(index):
    result = fitted(index)
    new = pd.DataFrame(golden(file_of(index))["predict"]["newdata"]).head(2)
    eta = result.predict(new, include_re=False, type="link")
    total = np.zeros(2)
    for key, C in result.variance_components.items():
        Z = np.ones((2, 1)) if np.ndim(C) == 0 else np.column_stack((np.ones(2), new["Days"]))
        total += np.einsum("ni,ij,nj->n", Z, np.atleast_2d(C), Z)
        assert key in result.ngroups
    for i in range(2):
        found = result.predict(new, "integrated")[i]
        assert found == pytest.approx(integral(result.link, eta[i], np.sqrt(total[i])), rel=1e-7)
    np.testing.assert_array_equal(
        result.predict(new, "marginal"), result.predict(new, "integrated")
    )


def test_large_variances_are_averaged_over_too():
    # The truth of a logit with standard deviation 3.5 at -1, by adaptive integration.
    for sd in (1e-9, 0.5, 3.5, 12.0):
        found = averaged(LOGIT, np.array([-1.0]), np.array([sd])).value[0]
        assert found == pytest.approx(integral(LOGIT, -1.0, sd), abs=1e-9)


def test_the_errors_of_averages_are_those_of_all_parameters(cbpp):
    """Derivatives in beta and the variance by differences of the integral."""
    new = pd.DataFrame({"period": ["1", "3"]})
    found = cbpp.predict(new, "integrated", se=True)
    X = np.array([[1.0, 0, 0, 0], [1.0, 0, 1.0, 0]])
    estimate = cbpp.estimate
    base = estimate.x

    def mean(x):
        at = estimate.problem.unpack(x)
        eta = X @ (estimate.A.fixed @ at.beta)
        return averaged(cbpp.link, eta, np.full(2, abs(at.templates[0][0, 0]))).value

    J = np.array([(mean(base + h) - mean(base - h)) / 2e-5 for h in 1e-5 * np.eye(len(base))]).T
    expected = np.sqrt(np.einsum("ij,jk,ik->i", J, estimate.covariance, J))
    np.testing.assert_allclose(found["se"], expected, rtol=1e-6)


def test_intervals_of_observations_hold_what_they_say(cbpp):
    """Draws of linear predictors and of responses, for every family that is fitted here."""
    rng = np.random.default_rng(1)
    for index in WITH_SE:
        result = fitted(index)
        new = pd.DataFrame(golden(file_of(index))["predict"]["newdata"]).head(2)
        options = {"trials": [20, 30]} if result.family.name == "binomial" else {}
        link = result.predict(new, include_re=False, type="link", se=True)
        sd = np.sqrt(link["se"] ** 2 + _spread(result, new))
        found = result.predict(new, False, interval="prediction", level=0.8, **options)
        eta = link["prediction"].to_numpy() + sd.to_numpy() * rng.normal(size=(40_000, 2))
        trials = np.array([20.0, 30.0]) if options else np.ones(2)
        mean = np.asarray(result.link.mean(eta).value)
        y = law_of(result.family, mean, trials, result.dispersion).draw(rng) / trials
        for p, limit in ((0.1, "lower"), (0.9, "upper")):
            at = found[limit].to_numpy()
            assert ((y <= at + 1e-9).mean(axis=0) >= p - 0.01).all(), file_of(index)
            assert ((y < at - 1e-9).mean(axis=0) <= p + 0.01).all(), file_of(index)
        np.testing.assert_allclose(found["se"], y.std(axis=0), rtol=0.05)


def _spread(result, new):
    total = np.zeros(len(new))
    for C in result.variance_components.values():
        Z = np.ones((2, 1)) if np.ndim(C) == 0 else np.column_stack((np.ones(2), new["Days"]))
        total += np.einsum("ni,ij,nj->n", Z, np.atleast_2d(C), Z)
    return total


def test_new_levels_bring_their_variance_or_are_refused(cbpp):
    new = {"period": ["1", "1"], "herd": ["new", "1"]}
    found = cbpp.predict(new, type="link", se=True)
    alone = cbpp.predict(new, include_re=False, type="link", se=True)
    variance = cbpp.variance_components["herd"]
    assert found["se"][0] ** 2 == pytest.approx(alone["se"][0] ** 2 + variance)
    with pytest.raises(InterlaceError, match="new"):
        cbpp.predict(new, new_levels="raise")


def test_exposure_and_trials_of_new_rows():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 15), "x": rng.normal(size=120)})
    data["hours"] = rng.uniform(1, 5, 120)
    data["n"] = rng.poisson(data["hours"] * np.exp(0.3 * data["x"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = interlace.fit("n ~ x", data, groups="g", family="poisson", exposure="hours")
        given = interlace.fit(
            "n ~ x", data, groups="g", family="poisson", exposure=data["hours"].to_numpy()
        )
    new = pd.DataFrame({"x": [0.0, 1.0], "g": ["a", "b"], "hours": [1.0, 2.0]})
    expected = named.predict(new)
    np.testing.assert_allclose(given.predict(new, exposure=[1.0, 2.0]), expected)
    np.testing.assert_allclose(named.predict(new, exposure=[2.0, 4.0]), 2 * expected)
    with pytest.raises(InterlaceError, match="array as exposure"):
        given.predict(new)
    with pytest.raises(InterlaceError, match="exposure must be positive"):
        named.predict(new, exposure=[0.0, 1.0])
    with pytest.raises(InterlaceError, match="without trials="):
        named.predict(new, trials=[1, 2], interval="prediction")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "odds"}, "type must be 'response', 'link'"),
        ({"interval": "tolerance"}, "interval must be"),
        ({"interval": "prediction", "type": "link"}, "no linear predictor"),
        ({"level": 1.0, "interval": "confidence"}, "level must be strictly"),
        ({"new_levels": "skip"}, "new_levels must be"),
        ({"include_re": "cow"}, "not a grouping factor"),
        ({"offset": [1.0]}, "belong to new rows"),
    ],
)
def test_what_is_refused(cbpp, options, message):
    with pytest.raises(InterlaceError, match=message):
        cbpp.predict(**options)


def test_missing_values_give_missing_predictions(cbpp):
    new = pd.DataFrame({"period": ["1", None], "herd": ["1", "1"], "size": [5, 5]})
    for options in ({}, {"se": True}, {"interval": "prediction"}):
        found = np.asarray(cbpp.predict(new, **options))
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()


def test_means_over_effects_beyond_a_bounded_link_are_refused():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 10)})
    data["y"] = rng.gamma(4.0, (2.0 + 0.8 * rng.normal(size=12))[data["g"]] ** 2 / 4.0)
    result = interlace.fit("y ~ 1", data, groups="g", family="gamma", link="inverse")
    with pytest.raises(InterlaceError, match="no mean for some random effects"):
        result.predict({"g": [1]}, "integrated")
    found = result.predict({"g": [1, 99]}, interval="confidence")
    assert (found["lower"] <= found["prediction"]).all()
