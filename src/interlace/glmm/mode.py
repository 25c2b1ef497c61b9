"""Modes of the random effects given the parameters, by Newton's method (PIRLS).

The mode minimises ``-2 sum l + u'u`` with ``eta = offset + X beta + Z Lambda u``, so that
``u = Lambda'Z'g`` there.  A step is the solution of Gaussian equations at working weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from interlace.estimation.search import Numbers
from interlace.glmm.equations import Equations, Iterated
from interlace.glmm.families import Curve, Slope
from interlace.glmm.links import all_inside
from interlace.glmm.problem import Parameters, Problem
from interlace.glmm.working import applied
from interlace.sums.terms import Floats

# Squared length of a Newton step, in the metric of the equations, after which one more is enough.
TOLERANCE = 1e-4
# Rise of the penalised deviance that counts as rounding, steps at most, and the shortest part of
# one that is tried.
ROUNDING, STEPS, SHORTEST = 1e-8, 100, 1e-6
# Share of the expected curvature that stands in where the observed one leaves the equations
# indefinite away from the mode.
SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class Mode:
    """Spherical effects ``u`` (l, k) a term, ``eta``, and the likelihood there.

    Likelihoods of rows are summed in ``deviance``, and not kept in ``curve``.
    ``slope`` are the derivatives in the auxiliary predictor where these are known already.
    """

    u: list[Floats]
    eta: Floats
    curve: Curve
    deviance: float
    n_steps: int
    slope: Slope | None = None


def find_mode(problem: Problem, at: Parameters, start: Sequence[Floats]) -> Mode | None:
    """The mode from a start, or from 0 where that lies outside the link's domain.

    ``None`` if the parameters give no likelihood, or none of the steps lowers the deviance.
    """
    omega, fixed = problem.omega(at.gamma), problem.fixed_part(at.beta)
    mode = mode_at(problem, at, start, omega, fixed) or mode_at(
        problem, at, [0.0 * u for u in start], omega, fixed
    )
    for n in range(1, STEPS):
        if mode is None:
            return None
        step = _newton(problem, at, mode, fixed)
        if step is None:
            return None
        target, decrement = step
        moved = shortened(problem, mode, target, omega, n)
        if decrement < TOLERANCE:
            return mode if moved is None else moved[0]
        mode = None if moved is None else moved[0]
    return None


def floored(curve: Curve) -> Floats:
    """The observed curvature, made positive."""
    return np.maximum(curve.W, SHARE * curve.expected)


def safe_equations(
    problem: Problem, curve: Curve, templates: Sequence[Floats]
) -> tuple[Equations | None, Floats]:
    """The equations at the observed curvature, or at one made positive, and the weights used."""
    return next(_definite(problem, curve, templates), (None, curve.expected))


def _definite(
    problem: Problem, curve: Curve, templates: Sequence[Floats]
) -> Iterator[tuple[Equations, Floats]]:
    """Equations that are not known to be indefinite, from the observed curvature on.

    The iterative solver may find that only while it solves them.
    """
    floor = floored(curve)
    for W in (curve.W, floor, curve.expected):
        with suppress(np.linalg.LinAlgError):
            yield problem.equations(W, templates, probed=False), W


def mode_at(
    problem: Problem,
    at: Parameters,
    u: Sequence[Floats],
    omega: Floats,
    fixed: Floats,
) -> Mode | None:
    """The state at some effects; ``None`` outside the link's domain."""
    b = [v @ T.T for v, T in zip(u, at.templates, strict=True)]
    return _state(problem, list(u), fixed + problem.rows.image(b), omega, 0)


def _state(problem: Problem, u: list[Floats], eta: Floats, omega: Floats, n: int) -> Mode | None:
    if not all_inside(problem.family.link, eta):
        return None
    curve = problem.curve(eta, omega)
    deviance = float(-2.0 * curve.l.sum() + sum(float((v**2).sum()) for v in u))
    kept = curve._replace(l=np.zeros(0))
    return Mode(u, eta, kept, deviance, n) if np.isfinite(deviance) else None


def _newton(
    problem: Problem, at: Parameters, mode: Mode, fixed: Floats
) -> tuple[tuple[list[Floats], Floats], float] | None:
    """Full step ``(du, deta)``, and its squared length."""
    for equations, W in _definite(problem, mode.curve, at.templates):
        try:
            return _full_step(problem, at, mode, equations, W, fixed)
        except np.linalg.LinAlgError:
            continue
    return None


def _full_step(
    problem: Problem, at: Parameters, mode: Mode, equations: Equations, W: Floats, fixed: Floats
) -> tuple[tuple[list[Floats], Floats], float]:
    """The same at given equations."""
    rows = problem.rows
    Zb = mode.eta - fixed
    random = rows.sums(mode.curve.g + W * Zb)
    if isinstance(equations, Iterated):
        u = equations.step(random, mode.u)
        b = [v @ T.T for v, T in zip(u, at.templates, strict=True)]
        deta = rows.image(b) - Zb
    else:
        deta = rows.image(applied(equations, random)) - Zb
        back = rows.sums(mode.curve.g - W * deta)
        u = [r @ T for r, T in zip(back, at.templates, strict=True)]
    du = [new - old for new, old in zip(u, mode.u, strict=True)]
    decrement = float(deta @ (W * deta)) + sum(float((d**2).sum()) for d in du)
    return (du, deta), decrement


def shortened(
    problem: Problem, mode: Mode, step: tuple[list[Floats], Floats], omega: Floats, n: int
) -> tuple[Mode, float] | None:
    """The first of the step ``(du, deta)``, its half, its quarter, ... that does not raise the
    deviance, and the share of the step.
    """
    (du, deta), share = step, 1.0
    while share > SHORTEST:
        u = [v + share * d for v, d in zip(mode.u, du, strict=True)]
        trial = _state(problem, u, mode.eta + share * deta, omega, n)
        if trial is not None and trial.deviance <= mode.deviance + slack(mode.deviance):
            return trial, share
        share *= 0.5
    return None


def slack(deviance: Numbers) -> Numbers:
    """Rise of penalised deviances that counts as rounding."""
    size = 1e-6 * abs(deviance)
    return ROUNDING * (np.maximum(1.0, size) if isinstance(size, np.ndarray) else max(1.0, size))
