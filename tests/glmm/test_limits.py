"""Negative binomial responses without overdispersion: the Poisson limit, found early."""

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.families import NegativeBinomial
from interlace.glmm import limits

NOTE = "No overdispersion beyond Poisson is left"


def frame(seed, size=np.inf):
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 15, 300), rng.normal(size=300)
    mean = np.exp(0.5 + 0.3 * x + 0.5 * rng.normal(size=15)[g])
    if np.isfinite(size):
        mean = mean * rng.gamma(size, 1.0 / size, 300)
    return pd.DataFrame({"g": g, "x": x, "y": rng.poisson(mean)})


@pytest.mark.parametrize("quadrature", [1, 3])
@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("seed", [0, 2, 4])
def test_counts_that_vary_like_poisson_ones(seed, kind, quadrature):
    data = frame(seed)
    options = {"groups": "g", "quadrature": quadrature}
    found = interlace.fit("y ~ x", data, family=NegativeBinomial(kind=kind), **options)
    wanted = interlace.fit("y ~ x", data, family="poisson", **options)
    assert found.converged and found.convergence.n_evaluations <= 14
    assert found.llf == pytest.approx(wanted.llf, abs=1e-8)
    np.testing.assert_allclose(found.fe_params, wanted.fe_params, atol=1e-6)
    np.testing.assert_allclose(found.bse, wanted.bse, rtol=1e-3)
    assert NOTE in str(found.summary())


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize(("seed", "size"), [(0, 40.0), (1, np.inf), (3, np.inf), (5, 15.0)])
def test_counts_that_vary_a_little_more(seed, size, kind, monkeypatch):
    """Where some overdispersion is left, leaving the search changes nothing."""
    data = frame(seed, size)
    found = interlace.fit("y ~ x", data, groups="g", family=NegativeBinomial(kind=kind))
    monkeypatch.setattr(limits.RunOff, "sign", 0)
    wanted = interlace.fit("y ~ x", data, groups="g", family=NegativeBinomial(kind=kind))
    assert found.converged
    assert found.llf >= wanted.llf - 1e-7
    assert found.llf == pytest.approx(wanted.llf, abs=1e-4)


def test_a_limit_that_is_none_is_left_again(monkeypatch):
    """A search that is sent to the limit in error finds the minimum."""
    data = frame(3)
    wanted = interlace.fit("y ~ x", data, groups="g", family="negative-binomial")
    calls = []

    def once(self, omega, slope):
        calls.append(omega)
        return len(calls) == 2

    monkeypatch.setattr(limits.RunOff, "seen", once)
    found = interlace.fit("y ~ x", data, groups="g", family="negative-binomial")
    assert found.converged and found.llf == pytest.approx(wanted.llf, abs=1e-8)
    assert found.dispersion == pytest.approx(wanted.dispersion, rel=1e-4)
    assert NOTE not in str(found.summary())
