"""Quadrature over several effects a level: nodes settle, at the integral itself."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

import interlace
from glmm.models import FAMILY_LINKS, name_of, point, problem
from interlace.glmm.laplace import Laplace, zeros
from interlace.glmm.links import all_inside
from interlace.glmm.quadrature import Quadrature


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


def by_cubature(made, at, step, reach=7.5):
    """Minus twice the log-likelihood, every level's integral by the trapezoidal rule.

    Sums over a grid converge faster than any power of its step for integrands that fade like these.
    """
    (T,), (term,), (codes,) = at.templates, made.rows.terms, made.rows.codes
    axis = np.arange(-reach, reach + step, step)
    u = np.stack(np.meshgrid(*[axis] * term.k, indexing="ij"), axis=-1).reshape(-1, term.k)
    logs = np.tile(-0.5 * (u**2).sum(axis=1), (term.l, 1))
    one = np.ones((made.rows.n, 1))
    Z = one if made.rows.Z[0] is None else made.rows.Z[0]
    fixed, omega = made.fixed_part(at.beta), made.omega(at.gamma)
    for i in range(made.rows.n):
        eta = fixed[i] + u @ (T.T @ Z[i])
        y, trials = (np.full(len(u), v[i]) for v in (made.y, made.trials))
        o = np.tile(omega[:, i : i + 1], len(u))
        logs[codes[i]] += made.family.curve(y, trials, eta, o).l
    shift = term.k * (np.log(step) - 0.5 * np.log(2.0 * np.pi))
    return -2.0 * float((logsumexp(logs, axis=1) + shift).sum() + made.constant)


CUBATURE = [
    (family, structure)
    for family in FAMILY_LINKS
    for structure in ("slope", "three")
    if structure == "slope" or (family.name, family.link.name) in (("poisson", "log"),)
    if all_inside(family.link, np.array([-40.0, 40.0]))
]


@pytest.mark.parametrize(
    ("family", "structure"), CUBATURE, ids=[f"{name_of(f)}-{s}" for f, s in CUBATURE]
)
def test_many_nodes_are_the_integral(family, structure):
    made = problem(family, structure, seed=5)
    at = made.unpack(point(made, np.random.default_rng(5)))
    nodes, step = (25, 0.25) if structure == "slope" else (12, 0.5)
    found = Quadrature(nodes)(made, at, Laplace()(made, at, zeros(made)).u).value
    assert found == pytest.approx(by_cubature(made, at, step), abs=1e-6)
