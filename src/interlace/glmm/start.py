"""Where the search starts: a generalised linear model, and variances by moments around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interlace.errors import InterlaceError
from interlace.glmm.families import Curve
from interlace.glmm.laplace import zeros
from interlace.glmm.links import all_inside
from interlace.glmm.mode import safe_equations
from interlace.glmm.problem import Parameters, Problem
from interlace.glmm.working import applied
from interlace.sums.terms import Floats, ReTerm

# Fisher scoring steps of the generalised linear model, and joint steps with random effects.
_SCORING, _JOINT = 8, 2
# Rows that are enough for the former.
_ENOUGH = 50_000
# Bounds on the first standard deviation of an effect, on the scale of the linear predictor.
_LOWEST, _HIGHEST = 0.1, 1.5


def start_of(problem: Problem, *, joint: bool = True) -> tuple[Parameters, list[Floats]]:
    """First parameters, and random effects to begin the search for their mode with.

    Without ``joint`` those of the model without random effects, and zeros.
    """
    beta, gamma = without_random_effects(thinned(problem))
    curve = problem.curve(problem.fixed_part(beta), problem.omega(gamma))
    at = Parameters(_moments(problem, curve), beta, gamma)
    return _joint(problem, at, curve) if joint else (at, zeros(problem))


def thinned(problem: Problem) -> Problem:
    """The problem on some of its rows, drawn at random, where there are very many."""
    n = problem.rows.n
    if n <= 2 * _ENOUGH:
        return problem
    some = np.random.default_rng(0).integers(0, n, _ENOUGH)
    return problem.some(some)


def without_random_effects(problem: Problem) -> tuple[Floats, Floats]:
    """Fixed effects and auxiliary coefficients of the generalised linear model."""
    beta = _least_squares(problem)
    gamma = np.zeros(problem.sizes[2])
    for _ in range(_SCORING):
        gamma = _spread(problem, beta)
        beta, gain = _scored(problem, beta, gamma)
        if gain < 1e-3:
            break
    return beta, gamma


def _least_squares(problem: Problem) -> Floats:
    """Fixed effects of the link of means near the response.

    Raises
    ------
    InterlaceError
        They, and a constant too, lie outside the link's domain.
    """
    link, rows = problem.family.link, problem.rows
    mean = problem.family.start(problem.y, problem.trials)
    weights = problem.trials if problem.weights is None else problem.trials * problem.weights
    root = np.sqrt(weights)
    level = float(link.to_eta(np.array([weights @ mean / weights.sum()]))[0])
    for target in (link.to_eta(mean), np.full(rows.n, level), np.full(rows.n, -10.0)):
        response = root * (target - problem.offset)
        beta = _solution(root[:, None] * rows.X, response)
        if all_inside(link, problem.fixed_part(beta)):
            return beta
    raise InterlaceError(
        f"no coefficients were found with which link={link.name!r} gives every row a possible "
        f"mean: use another link"
    )


def _spread(problem: Problem, beta: Floats) -> Floats:
    """First auxiliary coefficients."""
    if not problem.sizes[2]:
        return np.zeros(0)
    mean = np.asarray(problem.family.link.mean(problem.fixed_part(beta)).value)
    df = max(problem.rows.n - problem.rows.p, 1)
    omega = problem.family.spread(problem.y, problem.trials, mean, float(df))
    wanted = np.broadcast_to(omega.reshape(len(omega), -1), problem.G.shape[:2])
    return _solution(problem.G.reshape(wanted.size, -1), wanted.ravel())


def _scored(problem: Problem, beta: Floats, gamma: Floats) -> tuple[Floats, float]:
    """One step of Fisher scoring, halved until the likelihood rises, and the deviance it gained."""
    omega, X = problem.omega(gamma), problem.rows.X
    eta = problem.fixed_part(beta)
    curve = problem.curve(eta, omega)
    information = X.T @ (curve.expected[:, None] * X)
    step = _solution(information, X.T @ curve.g)
    deta, before = X @ step, float(curve.l.sum())
    for share in 0.5 ** np.arange(12):
        if all_inside(problem.family.link, eta + share * deta):
            after = float(problem.curve(eta + share * deta, omega).l.sum())
            if after >= before:
                return beta + share * step, 2.0 * (after - before)
    return beta, 0.0


def _moments(problem: Problem, curve: Curve) -> list[Floats]:
    """Templates of size ``c``: the excess of ``|Z'g|^2`` over what it is without random effects.

    With variance ``c^2`` in the working basis, ``E |Z'g|^2 = tr N + c^2 tr N^2``, ``N = Z'WZ``.
    """
    A = problem.rows.cross_products(curve.expected)
    return moments(problem.rows.terms, problem.rows.sums(curve.g), A.zz)


def moments(
    terms: Sequence[ReTerm], sums: Sequence[Floats], squares: Sequence[Floats]
) -> list[Floats]:
    """The same from ``Z'g`` (l, k) and the blocks of ``Z'WZ`` (l, k, k) of every term."""
    found = []
    for term, e, N in zip(terms, sums, squares, strict=True):
        excess = float((e**2).sum() - np.einsum("lii->", N))
        c2 = excess / max(float((N**2).sum()), 1e-300)
        ratio = float(np.sqrt(np.clip(c2, _LOWEST**2, _HIGHEST**2)))
        found.append(term.template.start(ratio))
    return found


def _joint(problem: Problem, at: Parameters, curve: Curve) -> tuple[Parameters, list[Floats]]:
    """A few Newton steps in the random and the fixed effects together, templates held."""
    beta, u = at.beta, zeros(problem)
    omega = problem.omega(at.gamma)
    eta = problem.fixed_part(beta)
    for _ in range(_JOINT):
        new = _joint_step(problem, at.templates, eta, curve)
        if new is None or not all_inside(problem.family.link, new[2]):
            break
        after = problem.curve(new[2], omega)
        before = curve.l.sum() - 0.5 * sum((v**2).sum() for v in u)
        if after.l.sum() - 0.5 * sum((v**2).sum() for v in new[1]) < before:
            break
        (beta, u, eta), curve = new, after
    return Parameters(at.templates, beta, at.gamma), u


def _joint_step(
    problem: Problem, templates: Sequence[Floats], eta: Floats, curve: Curve
) -> tuple[Floats, list[Floats], Floats] | None:
    """Fixed effects, spherical effects and predictor after one step of the joint equations."""
    rows = problem.rows
    equations, W = safe_equations(problem, curve, templates)
    if equations is None:
        return None
    zeta = curve.g + W * (eta - problem.offset)
    WX = W[:, None] * rows.X
    sides = rows.sums(WX)
    images = equations.solve(sides)
    b = applied(equations, rows.sums(zeta))
    S = rows.X.T @ WX - sum(
        np.tensordot(s, c, axes=((0, 1), (0, 1))) for s, c in zip(sides, images, strict=True)
    )
    r = rows.X.T @ zeta - sum(
        np.tensordot(s, c, axes=((0, 1), (0, 1))) for s, c in zip(sides, b, strict=True)
    )
    beta = _solution(S, r)
    b = [v - c @ beta for v, c in zip(b, images, strict=True)]
    new = problem.fixed_part(beta) + rows.image(b)
    back = rows.sums(curve.g - W * (new - eta))
    return beta, [s @ T for s, T in zip(back, templates, strict=True)], new


def _solution(A: Floats, y: Floats) -> Floats:
    """Least squares, the shortest solution if there are several."""
    return np.asarray(np.linalg.lstsq(A, y, rcond=None)[0], dtype=np.float64)
