"""The Gaussian constant against the density of the normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm

import interlace
from interlace.estimation.likelihood import (
    constant,
    criterion_value,
    degrees,
    gaussian,
    gaussian_at,
    n_parameters,
    residual_variance,
)


@given(st.integers(1, 50), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_the_constant_is_that_of_the_normal_density(n: int, sigma: float, seed: int) -> None:
    y = np.random.default_rng(seed).normal(scale=sigma, size=n)
    r2 = float(y @ y)
    variance = residual_variance(r2, n)
    at_best = -2.0 * norm.logpdf(y, scale=np.sqrt(variance)).sum()
    assert_allclose(gaussian(float(n), np.log(r2)), at_best, rtol=1e-10, atol=1e-9)
    assert_allclose(gaussian_at(n, np.log(variance), r2 / variance), at_best, atol=1e-9)
    elsewhere = -2.0 * norm.logpdf(y, scale=sigma).sum()
    assert_allclose(gaussian_at(n, 2 * np.log(sigma), r2 / sigma**2), elsewhere, atol=1e-8)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_value_is_determinants_and_constants(method: str) -> None:
    data = interlace.datasets.load("sleepstudy")
    result = interlace.fit("Reaction ~ Days + (Days | Subject)", data, method=method)
    evaluation, reml = result.estimate.evaluation, method == "REML"
    A, f = result.estimate.A, evaluation.factor
    determinants = f.logdet_u + (f.logdet_x if reml else 0.0)
    fixed = constant(A, A.basis.response_scale, reml=reml)
    nu = degrees(A, reml=reml)
    assert nu == result.nobs - 2 * reml
    assert_allclose(determinants + nu * np.log(f.r2) + fixed, result.criterion, rtol=1e-13)
    value = criterion_value(A, f.r2, reml=reml, logdet_u=f.logdet_u, logdet_x=f.logdet_x)
    assert value == result.criterion
    assert_allclose(evaluation.sigma2 / A.basis.response_scale**2, result.scale, rtol=1e-13)
    assert n_parameters(A) == result.nparams == 6
