"""Templates of a few numbers against the covariances that their names promise, and differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from interlace.covariance.patterned import TEMPLATES, Patterned, patterned
from interlace.covariance.templates import Floats, Full

NAMES = [name for name in TEMPLATES if "-" in name]
PATTERNED = [TEMPLATES[name](k) for name in NAMES for k in (2, 3, 5)]
every = pytest.mark.parametrize("template", PATTERNED, ids=lambda t: f"{t.name} {t.k}")


def draw(template: Patterned, *leading: int, seed: int = 0) -> tuple[Floats, Floats]:
    x = np.random.default_rng(seed).uniform(0.4, 1.3, size=(*leading, template.size))
    return x, template(x)


def covariance(template: Patterned, values: Floats) -> Floats:
    """By its definition, of standard deviations and the correlation."""
    m = template.deviations
    sd = np.broadcast_to(values[:m], template.k)
    rho = values[m] if template.correlates else 0.0
    lag = np.abs(np.subtract.outer(np.arange(template.k), np.arange(template.k)))
    R = np.where(lag == 0, 1.0, np.float64(rho) ** (lag if template.kind == "ar1" else 1))
    return np.outer(sd, sd) * (np.eye(template.k) if template.kind == "diag" else R)


@every
def test_reported_values_are_standard_deviations_and_the_correlation(template: Patterned) -> None:
    _, T = draw(template)
    values = template.reported(T)
    assert_allclose(T @ T.T, covariance(template, values), atol=1e-13)
    again = template.of_reported(values)
    assert_allclose(again @ again.T, T @ T.T, atol=1e-13)
    b, a = template.entries
    S = T @ T.T
    sd = np.sqrt(np.diag(S))
    shown = np.where(b == a, sd[b], S[b, a] / (sd[b] * sd[a]))
    assert_allclose(shown, values, atol=1e-13)


@every
def test_packing_is_the_inverse_with_any_leading_axes(template: Patterned) -> None:
    for leading in ((), (4,), (3, 2)):
        x, T = draw(template, *leading)
        assert_allclose(template(template.pack(T)), T, atol=1e-14)
        assert_allclose(template.pack(T), x, atol=1e-13)


@every
def test_jacobian_and_second_derivatives(template: Patterned) -> None:
    x, T = draw(template)
    G = np.random.default_rng(1).normal(size=T.shape)
    step, eye = 1e-5, np.eye(template.size)
    moved = [(template(x + step * d) - template(x - step * d)) / (2 * step) for d in eye]
    assert_allclose(template.jacobian(x), np.moveaxis(moved, 0, -1), atol=1e-8)
    assert_allclose(template.pull(T, G), np.tensordot(G, template.jacobian(x), 2), atol=1e-13)
    changes = [
        np.tensordot(G, template.jacobian(x + step * d) - template.jacobian(x - step * d), 2)
        for d in eye
    ]
    assert_allclose(template.second(x, G), np.array(changes) / (2 * step), atol=1e-8)


@every
def test_the_chart_of_reports_and_its_derivatives(template: Patterned) -> None:
    _, T = draw(template)
    G = np.random.default_rng(1).normal(size=T.shape)
    values, step, eye = template.reported(T), 1e-6, np.eye(template.size)
    T = template.of_reported(values)

    def first(at: Floats) -> Floats:
        return np.einsum("rab,ab->r", template.slopes(template.of_reported(at)), G)

    moved = [
        (template.of_reported(values + step * d) - template.of_reported(values - step * d))
        / (2 * step)
        for d in eye
    ]
    assert_allclose(template.slopes(T), moved, atol=1e-7)
    bends = [(first(values + step * d) - first(values - step * d)) / (2 * step) for d in eye]
    assert_allclose(template.bends(T, G), bends, atol=1e-6)


@every
def test_directions_follow_from_the_jacobian(template: Patterned) -> None:
    rng = np.random.default_rng(2)
    x, T = draw(template, 4)
    u, e = rng.normal(size=(2, 4, 6, template.k))
    J = template.jacobian(x)
    expected = np.einsum("nabc,nlb->nlac", J, u) + np.einsum("nab,ndbc,nld->nlac", T, J, e)
    assert_allclose(template.directions(T, u, e), expected, atol=1e-13)
    columns = (np.moveaxis(v, (0, 1), (-1, -2)) for v in (u, e))
    found = template.directions_by_column(np.moveaxis(T, 0, -1)[:, :, None, :], *columns)
    assert_allclose(found, expected.transpose(2, 3, 1, 0), atol=1e-13)


@every
def test_second_order_part_is_the_second_derivative_of_a_trace(template: Patterned) -> None:
    x, T = draw(template)
    gamma = np.random.default_rng(4).normal(size=(template.k, template.k))
    gamma = gamma + gamma.T
    step, eye = 1e-5, np.eye(template.size)

    def gradient(at: Floats) -> Floats:
        return np.tensordot(2.0 * gamma @ template(at), template.jacobian(at), 2)

    expected = [(gradient(x + step * d) - gradient(x - step * d)) / (2 * step) for d in eye]
    assert_allclose(template.second_order(T, gamma), expected, atol=1e-7)
    whole = template.second_order(np.stack([T, T]), np.stack([gamma, 2.0 * gamma]))
    assert_allclose(whole[1], 2.0 * np.array(expected), atol=1e-7)


@every
def test_correlations_at_their_bounds_and_zero_variances_are_regular(template: Patterned) -> None:
    for rho in [1.0, -1.0 if template.kind == "ar1" else -1.0 / (template.k - 1)]:
        values = np.append(np.full(template.deviations, 0.7), rho)[: template.size]
        T = template.of_reported(values)
        assert_allclose(T @ T.T, covariance(template, values), atol=1e-12)
        assert np.isfinite(template.jacobian(template.pack(T))).all()
        assert np.isfinite(template.slopes(T)).all()
        assert_allclose(template.reported(template.canonical(T, floor=1e-9)), values, atol=1e-15)
    zero = np.zeros((template.k, template.k))
    assert_array_equal(template.canonical(zero), zero)
    assert np.isfinite(template.second_order(zero, np.eye(template.k))).all()
    assert (template.reported(zero)[: template.deviations] == 0.0).all()


@every
def test_start_and_the_other_side_of_the_correlation(template: Patterned) -> None:
    T = template.start(0.5)
    assert_allclose(np.diag(T @ T.T), 0.25)
    other = template.elsewhere(T)
    if not template.correlates:
        assert other is None
    else:
        assert template.reported(other)[-1] < 0.0 < template.reported(T)[-1]
        assert template.reported(template.elsewhere(other))[-1] > 0.0


def test_one_column_is_a_variance() -> None:
    assert patterned(1, "ar1", homogeneous=True) == Full(1) == TEMPLATES["cs-het"](1)
