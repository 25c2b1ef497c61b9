"""Every family with every link: derivatives against differences, sums to one, and names."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from glmm.models import PLAIN
from interlace import InterlaceError
from interlace.glmm import rising
from interlace.glmm.families import NegativeBinomial
from interlace.glmm.names import _LINKS, FAMILIES, family_of

CASES = [replace(family, link=link) for family in PLAIN for link in _LINKS[type(family)]]
# Linear predictors inside every link's domain.
ETA = {
    "log": np.array([-2.3, -0.7, 0.4, 1.9]),
    "inverse": np.array([0.2, 0.9, 1.7, 4.0]),
    "identity": np.array([0.3, 1.1, 2.9, 7.0]),
    "sqrt": np.array([0.3, 1.1, 1.9, 2.7]),
}
PROBABILITY = np.array([-2.1, -0.4, 0.6, 1.3])


def name(family):
    return f"{family.name}{getattr(family, 'kind', '')}-{family.link.name}"


def points(family):
    """Responses, trials, and linear predictors, every combination of the former and the latter."""
    probability = family.name in ("binomial", "beta")
    eta = PROBABILITY if probability else ETA[family.link.name]
    if family.name == "binomial" and family.link.name == "log":
        eta = np.array([-2.4, -1.0, -0.3, -0.05])
    y = {
        "binomial": np.array([0.0, 1.0, 3.0, 5.0]),
        "beta": np.array([0.02, 0.4, 0.7, 0.97]),
    }.get(family.name, np.array([0.0, 1.0, 4.0, 40.0]))
    if family.name in ("gamma", "inverse-gaussian"):
        y = y + 0.3
    y, eta = (m.ravel() for m in np.meshgrid(y, eta))
    return y, np.full_like(y, 5.0 if family.name == "binomial" else 1.0), eta


def difference(f, x, h=2e-4):
    """Derivative by differences of sixth order."""
    odd = [f(x + j * h) - f(x - j * h) for j in (1, 2, 3)]
    return (45.0 * odd[0] - 9.0 * odd[1] + odd[2]) / (60.0 * h)


def close(found, f, x):
    """Whether ``found`` is the derivative of ``f``, to the rounding of its values."""
    expected = difference(f, x)
    scale = np.abs(expected) + np.abs(f(x)) + 1e-3 * np.abs(expected).max() + 1e-3
    assert np.max(np.abs(found - expected) / scale) < 2e-8


@pytest.mark.parametrize("omega", [-1.2, 0.7, 5.5])
@pytest.mark.parametrize("family", CASES, ids=name)
def test_derivatives_in_eta_are_those_of_the_likelihood(family, omega):
    y, trials, eta = points(family)
    om = np.full((len(family.predictors), len(y)), omega)
    c = family.curve(y, trials, eta, om)
    close(c.g, lambda e: family.curve(y, trials, e, om).l, eta)
    close(-c.W, lambda e: family.curve(y, trials, e, om).g, eta)
    close(c.dW, lambda e: family.curve(y, trials, e, om).W, eta)
    assert (c.expected > 0).all()


@pytest.mark.parametrize("omega", [-1.2, 0.7, 5.5])
@pytest.mark.parametrize("family", [f for f in CASES if f.auxiliary], ids=name)
def test_derivatives_in_omega_are_those_of_the_likelihood(family, omega):
    y, trials, eta = points(family)
    om = np.full_like(y, omega)
    s = family.slope(y, trials, eta, om[None])
    close(s.l[0], lambda o: family.curve(y, trials, eta, o[None]).l, om)
    close(s.g[0], lambda o: family.curve(y, trials, eta, o[None]).g, om)
    close(s.W[0], lambda o: family.curve(y, trials, eta, o[None]).W, om)
    close(s.second[0, 0], lambda o: family.slope(y, trials, eta, o[None]).l[0], om)


@pytest.mark.parametrize("family", CASES, ids=name)
def test_links_invert_and_agree_with_their_logarithms(family):
    _, _, eta = points(family)
    mean = family.link.mean(eta)
    np.testing.assert_allclose(family.link.to_eta(mean.value), eta, rtol=1e-10)
    for other in ("log_mean", "log_success"):
        if hasattr(family.link, other):
            np.testing.assert_allclose(
                np.exp(getattr(family.link, other)(eta).value), mean.value, rtol=1e-12
            )
    close(np.zeros_like(eta) + mean.d1, lambda e: family.link.mean(e).value, eta)


@pytest.mark.parametrize("family", CASES, ids=name)
def test_likelihoods_sum_to_one_and_have_the_mean_of_the_link(family):
    eta = points(family)[2][4:5]
    mean = float(family.link.mean(eta).value[0])

    def density(y):
        one = np.array([float(y)])
        trials = np.array([6.0 if family.name == "binomial" else 1.0])
        l = family.curve(
            one, trials, eta, np.full((len(family.predictors), 1), 0.3)
        ).l + family.constant(one, trials)
        return float(np.exp(l[0]))

    if family.name in ("binomial", "poisson", "negative-binomial"):
        values = np.arange(7 if family.name == "binomial" else 400)
        p = np.array([density(v) for v in values])
        total, first = p.sum(), values @ p / (6.0 if family.name == "binomial" else 1.0)
    else:
        low, high = {"beta": (0, 1), "gaussian": (mean - 15, mean + 15)}.get(
            family.name, (0, np.inf)
        )
        total = quad(density, low, high, limit=200)[0]
        first = quad(lambda y: y * density(y), low, high, limit=200)[0]
    assert total == pytest.approx(1.0, abs=1e-6)
    assert first == pytest.approx(mean, rel=1e-5)


def test_a_size_without_bound_is_the_poisson():
    y, eta = np.array([0.0, 2.0, 9.0, 700.0]), np.array([-1.0, 0.5, 2.0, 6.0])
    ones = np.ones(4)
    poisson = FAMILIES["poisson"].curve(y, ones, eta, 0 * eta)
    for family, omega in ((NegativeBinomial(), 32.0), (NegativeBinomial(kind=1), -32.0)):
        near = family.curve(y, ones, eta, np.full((1, 4), omega))
        for a, b in zip(near, poisson, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
        slope = family.slope(y, ones, eta, np.full((1, 4), omega))
        assert max(np.abs(part).max() for part in slope) < 1e-7


def test_probabilities_keep_their_digits_in_the_tails():
    eta = np.array([-30.0, -8.0, 8.0, 30.0])
    for link in _LINKS[type(FAMILIES["binomial"])][:2]:
        family, ones = replace(FAMILIES["binomial"], link=link), np.ones(4)
        found = family.curve(ones, ones, eta, 0 * eta).l
        law = stats.logistic if link.name == "logit" else stats.norm
        np.testing.assert_allclose(found, law.logcdf(eta), rtol=1e-10, atol=1e-14)


def test_names_of_families_and_links():
    assert family_of("nbinom1") == NegativeBinomial(kind=1)
    assert family_of("Negative_Binomial") == NegativeBinomial()
    assert family_of("binomial", "PROBIT").link.name == "probit"
    with pytest.raises(InterlaceError, match=r"unknown family 'poison'.*'poisson'"):
        family_of("poison")
    with pytest.raises(InterlaceError, match=r"link='logit' is none of family='poisson'.*'sqrt'"):
        family_of("poisson", "logit")
    with pytest.raises(InterlaceError, match=r"value of interlace\.families"):
        family_of(3)
    with pytest.raises(InterlaceError, match="kind of a negative binomial"):
        NegativeBinomial(kind=3)


def test_sums_and_gamma_functions_agree():
    """Of sizes that recur and do not, small and large; counts that are none have no sums."""
    rng = np.random.default_rng(0)
    y = rng.poisson(4.0, 300).astype(float)
    for k in (np.full(300, 0.3), np.full(300, 2e3), np.tile([0.5, 90.0, 1e6], 100)):
        sums, functions = rising._by_sums(y, k), rising._by_functions(y, k)
        for a, b in zip(sums, functions, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        assert all((part[y == 0.0] == 0.0).all() for part in sums)
    assert rising._by_sums(y + 0.5, np.full(300, 2.0)) is None
    assert rising._by_sums(1e5 * y, np.full(300, 2.0)) is None
    assert rising._by_sums(np.linspace(0, 40, 41), rng.gamma(2.0, 1.0, 41)) is None
