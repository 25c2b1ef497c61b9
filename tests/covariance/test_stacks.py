"""One structure for all groups, with scales and random effects: derivatives by differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from interlace.covariance.stacks import Joined, Separate, Stack
from interlace.covariance.structures import STRUCTURES
from interlace.covariance.templates import Diagonal, Floats, Full

TIMES = (0.0, 1.0, 2.5, 4.0)


def difference(f: Callable[[Floats], Floats], x: Floats, h: float = 1e-3) -> Floats:
    """Fourth-order differences, the last axis by the entries of ``x``."""
    steps = h * np.eye(len(x))
    parts = [8.0 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e)) for e in steps]
    return np.stack(parts, axis=-1) / (12.0 * h)


def stacks() -> dict[str, Stack]:
    rng = np.random.default_rng(0)
    B, Z = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4, 2))
    ratios, units = (("ratio_b", True), ("power", False)), np.array([1.0, 3.0])
    made = {f"separate {name}": Separate(STRUCTURES[name](TIMES), 2) for name in ("us", "ar1h")}
    for name in ("ar1", "cs", "toep", "sp_exp", "id"):
        structure = STRUCTURES[name](TIMES)
        made[f"scaled {name}"] = Joined(structure, B, ratios, units)
        made[f"random {name}"] = Joined(structure, B, ratios, units, (Full(2),), (Z,))
    templates, blocks = (Full(2), Diagonal(2)), (Z, rng.normal(size=(3, 4, 2)))
    none = np.zeros((3, 4, 0))
    made["two terms"] = Joined(STRUCTURES["ar1"](TIMES), none, (), np.zeros(0), templates, blocks)
    own = np.multiply.outer([1.0, 2.0, 0.5], TIMES)[:, :, None]
    each = STRUCTURES["sp_gau"](own)
    made["times of their own"] = Joined(each, B, ratios, units, (Full(2),), (Z,))
    return made


def everywhere(stack: Stack, x: Floats, jacobians: list[Floats]) -> Floats:
    """Derivatives of all groups by all numbers, ``(G, V, V, size)``."""
    found = np.zeros((len(jacobians), 4, 4, stack.size))
    for at, own, J in zip(found, stack.own, jacobians, strict=True):
        at[..., own] = J
    return found


@pytest.mark.parametrize("name", stacks())
@pytest.mark.parametrize("zero", [False, True])
def test_derivatives_are_those_of_differences(name: str, zero: bool) -> None:
    """Also where all random effects are zero."""
    stack = stacks()[name]
    rng = np.random.default_rng(1)
    groups = len(stack.own)
    x = stack.start(np.broadcast_to(np.eye(4) + 0.3, (groups, 4, 4)))
    x = x + 0.2 * rng.normal(size=len(x))
    if zero and isinstance(stack, Joined):
        x[stack.size - sum(t.size for t in stack.templates) :] = 0.0
    J = everywhere(stack, x, stack.jacobians(x))
    np.testing.assert_allclose(J, difference(stack, x), atol=1e-8 * np.abs(J).max())
    G = rng.normal(size=(groups, 4, 4))
    G += np.swapaxes(G, 1, 2)
    known = difference(
        lambda z: np.einsum("gst,gstc->c", G, everywhere(stack, z, stack.jacobians(z))), x
    )
    found = stack.second(x, G)
    np.testing.assert_allclose(found, known, atol=1e-8 * np.abs(known).max())
    values, slopes = stack.reported(x, 2.0)
    known = difference(lambda z: stack.reported(z, 2.0)[0], x)
    np.testing.assert_allclose(slopes, known, atol=1e-8 * np.abs(known).max())
    assert len(values) == len(stack.names(list("abcd"))) * (2 if "separate" in name else 1)


@pytest.mark.parametrize("kind", ["varpower", "times"])
def test_second_derivatives_by_natural_parameters(kind: str) -> None:
    """Those by ``(variance, correlation, rate)``, through the free numbers."""
    rng = np.random.default_rng(1)
    B = rng.normal(size=(2, 4, 1))
    points = np.cumsum(rng.uniform(0.5, 2.0, size=(2, 4, 1)), axis=1)
    times = TIMES if kind == "varpower" else points
    stack = Joined(STRUCTURES["car1"](times), B, (("power", False),), np.ones(1))
    x = stack.start(np.stack([np.eye(4) + 0.5] * 2)) + 0.1

    def at(q: Floats) -> Floats:
        """``Sigma`` by the natural parameters."""
        v, rho, eta = q
        d = np.exp(B[..., 0] * eta)
        apart = (
            np.abs(np.subtract.outer(TIMES, TIMES))
            if kind == "varpower"
            else np.abs(points - np.swapaxes(points, 1, 2))
        )
        return np.asarray(v * d[:, :, None] * d[:, None, :] * rho**apart)

    xi, eta, _ = stack.parts(x)
    values, _ = stack.structure.reported(xi)
    q = np.array([values[0] ** 2, values[1], eta[0]])
    np.testing.assert_allclose(at(q), stack(x), rtol=1e-12)
    h = 1e-4 * np.eye(3)
    second = np.stack(
        [
            [(at(q + a + b) - at(q + a - b) - at(q - a + b) + at(q - a - b)) / 4e-8 for b in h]
            for a in h
        ]
    )
    J = stack._turn(x)
    wanted = np.einsum("ac,abgst,bd->gstcd", J, second, J)
    found = np.stack([n.second for n in stack.naturals(x)])
    np.testing.assert_allclose(found, wanted, atol=1e-6 * np.abs(wanted).max())
