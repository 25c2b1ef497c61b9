"""The highest derivatives of rows, and second derivatives of the criterion made of them."""

import numpy as np
import pytest

from glmm.models import FAMILY_LINKS, STRUCTURES, name_of, point, problem
from interlace.glmm.curvature import differenced
from interlace.glmm.further import further
from interlace.glmm.laplace import Laplace, zeros


def test_of_a_logistic_row():
    (logistic,) = (f for f in FAMILY_LINKS if (f.name, f.link.name) == ("binomial", "logit"))
    made = problem(logistic, "scalar")
    eta = np.linspace(-3.0, 3.0, made.rows.n)
    mu = 1.0 / (1.0 + np.exp(-eta))
    v = mu * (1.0 - mu)
    wanted = made.trials * v * (1.0 - 6.0 * v)
    found = further(made, eta, made.omega(np.zeros(0))).W2
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("index", range(len(FAMILY_LINKS)), ids=map(name_of, FAMILY_LINKS))
def test_second_derivatives_are_differences_of_gradients(index):
    made = problem(FAMILY_LINKS[index], STRUCTURES[index % 6], seed=index, weighted=index % 2 == 1)
    x = point(made, np.random.default_rng(index))
    laplace = Laplace()

    def at(z, start):
        for _ in range(3):  # to the last digit of the mode
            found = laplace(made, made.unpack(z), start)
            start = found.u
        return found

    here = at(x, zeros(made))
    found = differenced(laplace, x, here, np.eye(len(x)))
    columns, h = [], 1e-4
    for step in h * np.eye(len(x)):
        near = at(x + step, here.u).gradient - at(x - step, here.u).gradient
        far = at(x + 2 * step, here.u).gradient - at(x - 2 * step, here.u).gradient
        columns.append((8.0 * near - far) / (12.0 * h))
    wanted = np.stack(columns, axis=1)
    wanted = 0.5 * (wanted + wanted.T)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
