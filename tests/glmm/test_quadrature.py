"""Quadrature over two effects a level: nodes settle, and rotations of the template cost nothing."""

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace


def frame(slope, seed=3, n=300):
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(n // 10), 10), rng.normal(size=n)
    u = rng.normal(size=(n // 10, 2)) * (0.5, slope)
    y = rng.poisson(np.exp(0.5 + 0.3 * x + u[g, 0] + u[g, 1] * x))
    return pd.DataFrame({"y": y, "x": x, "g": g})


@pytest.mark.parametrize("slope", [0.4, 0.0], ids=["regular", "singular"])
def test_nodes_settle(slope):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.SingularFitWarning)
        fits = [
            interlace.fit("y ~ x + (x | g)", frame(slope), family="poisson", quadrature=nodes)
            for nodes in (1, 5, 7, 9)
        ]
    assert all(fit.converged and fit.convergence.n_evaluations <= 20 for fit in fits)
    laplace, five, seven, nine = (fit.llf for fit in fits)
    assert abs(nine - seven) < abs(seven - five) + 1e-6 < abs(nine - laplace) + 1e-5
