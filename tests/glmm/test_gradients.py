"""Gradients of both approximations against differences, for every family, link and structure."""

import numpy as np
import pytest

from glmm.models import FAMILY_LINKS, STRUCTURES, gradient_error, name_of, point, problem
from interlace.glmm.laplace import Laplace, zeros
from interlace.glmm.quadrature import Quadrature


@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
@pytest.mark.parametrize("index", range(len(FAMILY_LINKS)), ids=map(name_of, FAMILY_LINKS))
def test_gradient_of_laplace_is_that_of_its_value(index, singular):
    """Two structures a family and link, all of them between three families."""
    family = FAMILY_LINKS[index]
    for i in ((2 * index) % 6, (2 * index + 1) % 6):
        structure = STRUCTURES[i]
        made = problem(family, structure, seed=i, weighted=i % 2 == 1)
        x = point(made, np.random.default_rng(i), singular)
        assert gradient_error(Laplace(), made, x) < 1e-8, structure


@pytest.mark.parametrize("index", range(len(FAMILY_LINKS)), ids=map(name_of, FAMILY_LINKS))
def test_gradient_of_quadrature_is_that_of_its_value(index):
    made = problem(FAMILY_LINKS[index], STRUCTURES[index % 3], seed=index, weighted=index % 4 == 1)
    x = point(made, np.random.default_rng(index), singular=index % 2 == 1)
    assert gradient_error(Quadrature(3), made, x) < 1e-8


def test_one_node_is_laplace():
    for family in FAMILY_LINKS[::3]:
        made = problem(family, "slope", seed=3)
        at = made.unpack(point(made, np.random.default_rng(3)))
        start = Laplace()(made, at, zeros(made)).u
        a, b = Laplace()(made, at, start), Quadrature(1)(made, at, start)
        assert a.value == pytest.approx(b.value, abs=1e-9)
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("index", range(len(FAMILY_LINKS)), ids=map(name_of, FAMILY_LINKS))
def test_gradient_of_every_family_link_and_structure(index, structure, singular):
    made = problem(FAMILY_LINKS[index], structure, seed=index, weighted=index % 2 == 0)
    x = point(made, np.random.default_rng(index), singular)
    assert gradient_error(Laplace(), made, x) < 1e-8
