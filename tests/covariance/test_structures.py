"""Structures of residuals: derivatives by differences, charts that reach what they should."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from interlace.covariance.charts import Autocorrelations
from interlace.covariance.structures import STRUCTURES, Structure
from interlace.covariance.templates import Floats

TIMES = (0.0, 1.0, 2.5, 4.0, 4.5)
CASES = [(name, k) for name in STRUCTURES for k in (2, 3, 5)]
EDGES = [
    (name, k) for name in STRUCTURES for k in (1, 2, 5) if k > 1 or name[:2] not in ("sp", "ca")
]


def made(name: str, k: int) -> Structure:
    return STRUCTURES[name](TIMES[:k])


def point(structure: Structure, seed: int = 0) -> Floats:
    """Free numbers of a regular covariance."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(30, structure.k)) + rng.normal(size=(30, 1))
    start = structure.start(rows.T @ rows / 30.0)
    return np.asarray(start + 0.3 * rng.normal(size=structure.size))


def difference(f: Callable[[Floats], Floats], x: Floats, h: float = 1e-3) -> Floats:
    """Fourth-order differences, the last axis by the entries of ``x``."""
    out = []
    for e in h * np.eye(len(x)):
        out.append((8.0 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12.0 * h))
    return np.stack(out, axis=-1)


@pytest.mark.parametrize(("name", "k"), CASES)
def test_derivatives_are_those_of_differences(name: str, k: int) -> None:
    structure = made(name, k)
    x = point(structure)
    J = structure.jacobian(x)
    assert J.shape == (k, k, structure.size)
    np.testing.assert_allclose(J, difference(structure, x), atol=1e-8 * np.abs(J).max())
    G = np.random.default_rng(1).normal(size=(k, k))
    G += G.T
    found = structure.second(x, G)
    known = difference(lambda z: np.einsum("ij,ijc->c", G, structure.jacobian(z)), x)
    np.testing.assert_allclose(found, known, atol=1e-8 * max(np.abs(known).max(), 1.0))


@pytest.mark.parametrize(("name", "k"), CASES)
def test_reported_parameters_follow_the_covariance(name: str, k: int) -> None:
    structure = made(name, k)
    x = point(structure, 2)
    values, J = structure.reported(x)
    known = difference(lambda z: structure.reported(z)[0], x)
    np.testing.assert_allclose(J, known, atol=1e-8 * np.abs(known).max())
    names = structure.names([f"v{i}" for i in range(k)])
    assert len(names) == len(set(names)) == len(values) == structure.size
    Sigma = structure(x)
    for label, value in zip(names, values, strict=True):
        if label.startswith("sd"):
            own = 0 if label == "sd" else int(label[-1])
            assert value == pytest.approx(np.sqrt(Sigma[own, own]), rel=1e-12)
        elif label.startswith("cor_"):
            b, a = (int(part[-1]) for part in label[4:].split("."))
            assert value == pytest.approx(
                Sigma[b, a] / np.sqrt(Sigma[a, a] * Sigma[b, b]), rel=1e-9
            )


@pytest.mark.parametrize(("name", "k"), CASES)
def test_natural_derivatives_are_those_of_the_search_in_other_coordinates(
    name: str, k: int
) -> None:
    structure = made(name, k)
    x = point(structure, 3)
    natural = structure.natural(x)
    first, second, turn = natural.first, natural.second, natural.turn
    J = structure.jacobian(x).reshape(k * k, -1)
    np.testing.assert_allclose(first.reshape(k * k, -1) @ turn, J, atol=1e-9 * np.abs(J).max())
    if structure.linear:
        return
    # Along x, d2 Sigma = second[dpsi, dpsi] + first[d2psi]: first differences of `first` tell.
    moved = difference(lambda z: structure.natural(z).first, x)
    known = np.einsum("ijab,bc->ijac", second, turn)
    np.testing.assert_allclose(known, moved, atol=1e-7 * max(np.abs(moved).max(), 1.0))


@pytest.mark.parametrize(("name", "k"), EDGES)
def test_every_free_number_gives_a_positive_definite_matrix(name: str, k: int) -> None:
    structure = made(name, k)
    rng = np.random.default_rng(4)
    for scale in (0.1, 1.0, 3.0):
        x = scale * rng.normal(size=structure.size)
        values = np.linalg.eigvalsh(structure(x))
        assert values.min() > -1e-12 * values.max()


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_start_from_its_own_covariance_is_near_it(name: str) -> None:
    structure = made(name, 4)
    x = point(structure, 5) * 0.5
    again = structure(structure.start(structure(x)))
    assert np.abs(again - structure(x)).max() < 0.35 * np.abs(structure(x)).max()


def test_partial_autocorrelations_reach_every_toeplitz_matrix() -> None:
    chart = Autocorrelations()
    for r in ([0.9, 0.8, 0.7], [-0.6, 0.1, 0.3], [0.0, 0.0, 0.5]):
        np.testing.assert_allclose(chart(chart.inverse(np.array(r))), r, atol=1e-12)


def test_correlations_near_one_stay_exact() -> None:
    """Near the bounds values, derivatives and matrices are finite."""
    for name in ("ar1", "cs", "toep", "ad", "ar1h", "csh"):
        structure = made(name, 4)
        x = np.full(structure.size, 0.0)
        x[structure.size - 1] = 9.0
        assert np.isfinite(structure(x)).all()
        assert np.isfinite(structure.jacobian(x)).all()
        assert np.isfinite(structure.second(x, np.ones((4, 4)))).all()
