"""Modes of the random effects of many responses at once, by Newton's method.

The batched twin of :mod:`interlace.glmm.mode`, with the same rules: replicates, the last axis of
everything by row and by effect, leave as soon as their mode is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from interlace.batch.factor import Factor, factorize
from interlace.batch.incidence import Incidence
from interlace.batch.optimize import Index
from interlace.estimation.search import Mask
from interlace.glmm.families import Curve, Slope
from interlace.glmm.mode import SHARE, SHORTEST, STEPS, TOLERANCE, slack
from interlace.glmm.problem import Problem
from interlace.sums.terms import Floats, pack, unpack

Which = Index | Mask
N = TypeVar("N", np.float64, np.intp)


class Parameters(NamedTuple):
    """Working templates ``(B, k, k)`` by term, ``beta`` (B, p) and ``gamma`` (B, r)."""

    templates: Mapping[int, Floats]
    beta: Floats
    gamma: Floats

    def take(self, which: Which) -> Parameters:
        """Those of some replicates."""
        templates = {j: T[which] for j, T in self.templates.items()}
        return Parameters(templates, self.beta[which], self.gamma[which])


@dataclass(frozen=True, eq=False)
class Stack:
    """Responses ``y`` (n, B) on the rows of one problem; ``constant`` (B,) is what they add."""

    problem: Problem
    incidence: Incidence
    y: Floats
    constant: Floats

    def __len__(self) -> int:
        return int(self.y.shape[1])

    def take(self, which: Which) -> Stack:
        """Some of the responses."""
        return replace(self, y=self.y[:, which], constant=self.constant[which])

    @cached_property
    def _rows(self) -> Problem:
        """The likelihood of every row of every response, one after the other."""
        problem, B = self.problem, len(self)
        return replace(
            problem,
            y=self.y.ravel(),
            trials=np.repeat(problem.trials, B),
            weights=None if problem.weights is None else np.repeat(problem.weights, B),
        )

    def curve(self, eta: Floats, omega: Floats) -> Curve:
        """The log-likelihood and its derivatives, ``(n, B)`` each; see :class:`Problem`."""
        found = self._rows.curve(eta.ravel(), omega.reshape(len(omega), eta.size))
        l, g, W, dW, expected = (part.reshape(eta.shape) for part in found)
        return Curve(l, g, W, dW, W if found.expected is found.W else expected)

    def slope(self, eta: Floats, omega: Floats) -> Slope:
        """Derivatives in the auxiliary predictors, ``(K, n, B)`` each."""
        found = self._rows.slope(eta.ravel(), omega.reshape(len(omega), eta.size))
        return Slope(*(part.reshape(*part.shape[:-1], *eta.shape) for part in found))

    def pack(self, at: Parameters) -> Floats:
        """All parameters as one array, ``(B, P)``."""
        templates = [at.templates[j] for j in range(len(at.templates))]
        packed = pack(self.incidence.shape.terms, templates)
        return np.concatenate((packed, at.beta, at.gamma), axis=1)

    def unpack(self, x: Floats) -> Parameters:
        """Inverse of :meth:`pack`."""
        t, p, _ = self.problem.sizes
        templates = unpack(self.incidence.shape.terms, x[:, :t])
        return Parameters(dict(enumerate(templates)), x[:, t : t + p], x[:, t + p :])


@dataclass(frozen=True, eq=False)
class Held:
    """Responses with parameters: all but the random effects."""

    stack: Stack
    at: Parameters

    @cached_property
    def fixed(self) -> Floats:
        """``offset + X beta``, ``(n, B)``."""
        problem = self.stack.problem
        return problem.offset[:, None] + problem.rows.X @ self.at.beta.T

    @cached_property
    def omega(self) -> Floats:
        """The auxiliary predictors, ``(K, n, B)``."""
        return np.asarray(self.stack.problem.G @ self.at.gamma.T)

    def take(self, which: Which) -> Held:
        """Those of some replicates."""
        return Held(self.stack.take(which), self.at.take(which))

    def factor(self, W: Floats) -> Factor:
        """The equations at weights ``(n, B)``; a log determinant is NaN where there are none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return factorize(self.stack.incidence.batch(W), self.at.templates)

    def begun(self, u: Floats) -> Modes:
        """The state at spherical effects ``(q, B)``."""
        incidence = self.stack.incidence
        return self.state(u, self.fixed + incidence.image(incidence.scaled(self.at.templates, u)))

    def state(self, u: Floats, eta: Floats) -> Modes:
        """The same with linear predictors ``(n, B)`` known already."""
        curve = self.stack.curve(eta, self.omega)
        deviance = -2.0 * curve.l.sum(axis=0) + (u**2).sum(axis=0)
        inside = self.stack.problem.family.link.inside(eta).all(axis=0)
        deviance = np.where(inside & np.isfinite(deviance), deviance, np.inf)
        return Modes(u, eta, curve, deviance, np.zeros(len(deviance), dtype=np.intp))


@dataclass(frozen=True, eq=False)
class Modes:
    """Spherical effects ``u`` (q, B), ``eta`` (n, B), and the likelihood there.

    ``deviance`` (B,) is infinite where there is no mode.
    """

    u: Floats
    eta: Floats
    curve: Curve
    deviance: Floats
    n_steps: NDArray[np.intp]

    @property
    def known(self) -> Mask:
        """Which replicates have one."""
        return np.isfinite(self.deviance)

    def take(self, which: Which) -> Modes:
        """Those of some replicates."""
        return Modes(
            self.u[:, which],
            self.eta[:, which],
            Curve(*(part[:, which] for part in self.curve)),
            self.deviance[which],
            self.n_steps[which],
        )

    def put(self, where: Index, other: Modes) -> Modes:
        """These, some of them replaced."""
        if len(where) == len(self.deviance):
            return other
        return Modes(
            _put(self.u, where, other.u),
            _put(self.eta, where, other.eta),
            Curve(*(_put(a, where, b) for a, b in zip(self.curve, other.curve, strict=True))),
            _put(self.deviance, where, other.deviance),
            _put(self.n_steps, where, other.n_steps),
        )


def _put(array: NDArray[N], where: Index, values: NDArray[N]) -> NDArray[N]:
    """A copy with some replicates replaced."""
    out = array.copy()
    out[..., where] = values
    return out


def find_modes(held: Held, start: Floats) -> Modes:
    """Modes from a start ``(q, B)``, or from 0 where that lies outside the link's domain."""
    mode = held.begun(start)
    outside = np.flatnonzero(~mode.known)
    if len(outside):
        mode = mode.put(outside, held.take(outside).begun(0.0 * start[:, outside]))
    going = np.flatnonzero(mode.known)
    for n in range(1, STEPS):
        if not len(going):
            return mode
        everywhere = len(going) == len(mode.deviance)
        part = held if everywhere else held.take(going)
        here = mode if everywhere else mode.take(going)
        moved, decrement = _moved(part, here, n)
        near, lost = decrement < TOLERANCE, ~moved.known
        stays = np.flatnonzero(near & lost)
        mode = mode.put(going, moved.put(stays, here.take(stays)) if len(stays) else moved)
        going = going[~near & ~lost]
    mode.deviance[going] = np.inf
    return mode


def _moved(held: Held, mode: Modes, n: int) -> tuple[Modes, Floats]:
    """States after one step that does not raise the deviance, and the squared lengths of full ones.

    Replicates without such a step have an infinite deviance.
    """
    incidence, curve = held.stack.incidence, mode.curve
    factor, W = _safe_factor(held, curve)
    Zb = mode.eta - held.fixed
    b = incidence.solved(factor, incidence.sums(curve.g + W * Zb))
    deta = incidence.image(b) - Zb
    back = incidence.sums(curve.g - W * deta)
    du = incidence.scaled(held.at.templates, back, transpose=True) - mode.u
    decrement = (W * deta**2).sum(axis=0) + (du**2).sum(axis=0)
    moved = _shortened(held, mode, (du, deta))
    return replace(moved, n_steps=np.full_like(mode.n_steps, n)), decrement


def _safe_factor(held: Held, curve: Curve) -> tuple[Factor, Floats]:
    """The equations at the observed curvature, or at one made positive, and the weights used."""
    W = curve.W
    factor = held.factor(W)
    for instead in (np.maximum(W, SHARE * curve.expected), curve.expected):
        bad = ~np.isfinite(factor.logdet)
        if bad.any():
            W = np.where(bad, instead, W)
            factor = held.factor(W)
    return factor, W


def _shortened(held: Held, mode: Modes, step: tuple[Floats, Floats]) -> Modes:
    """The first of every step, its half, its quarter, ... that does not raise the deviance."""
    du, deta = step
    highest = mode.deviance + slack(mode.deviance)
    found = held.state(mode.u + du, mode.eta + deta)
    still, share = np.flatnonzero(~(found.deviance <= highest)), 0.5
    while len(still) and share > SHORTEST:
        u = mode.u[:, still] + share * du[:, still]
        trial = held.take(still).state(u, mode.eta[:, still] + share * deta[:, still])
        found = found.put(still, trial)
        still, share = still[~(trial.deviance <= highest[still])], 0.5 * share
    found.deviance[still] = np.inf
    return found
