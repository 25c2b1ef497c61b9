"""Second derivatives of the criterion at an optimum: the last step, and the certificate."""

from __future__ import annotations

from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from interlace.estimation.certificate import Convergence
from interlace.estimation.search import Outcome
from interlace.glmm.laplace import Evaluation
from interlace.glmm.problem import Parameters, Problem
from interlace.sums.terms import Floats, places

# Step of the differences of the gradient, of errors below 1e-5; and the size, relative to the
# largest eigenvalue of the second derivatives, below which a direction has no curvature.
STEP, FLAT = 1e-7, 1e-9
# The former where gradients have the errors of conjugate gradients.
_LONGER = 1e-4
# Gain that is worth a further step, of which parameters move by 1e-6 standard errors, and a rise
# of the value that such a step may have by rounding.
_COUNTS, RISE = 1e-12, 1e-9
# Predicted gain that the exact second derivatives may leave in a fit that converged.
_LEFT = 1e-6


class Ended(Protocol):
    """How a search ended."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def converged(self) -> bool: ...
    @property
    def message(self) -> str: ...
    @property
    def n_evaluations(self) -> int: ...


class Approximation(Protocol):
    """An approximation of the likelihood: Laplace, or quadrature."""

    @property
    def nodes(self) -> int:
        """Nodes a dimension; 1 for Laplace, which alone does not change under ``T -> T Q``."""
        ...

    @property
    def restricted(self) -> bool:
        """Whether fixed effects are integrated over too, and follow from the other parameters."""
        ...

    def __call__(self, problem: Problem, at: Parameters, start: list[Floats]) -> Evaluation | None:
        """The criterion at parameters; ``None`` where there is no likelihood."""
        ...

    def beside(self, point: Evaluation, to: Parameters) -> Evaluation | None:
        """The criterion a tiny step away from a point; ``None`` where there is no likelihood."""
        ...


def polished(
    approximation: Approximation, x: Floats, point: Evaluation, hessian: Floats, Q: Floats
) -> tuple[Floats, Evaluation]:
    """The optimum after :func:`polishing`; a step that gains less than nothing is not taken.

    Nor is one of a criterion that is estimated: it gains less than random probes leave open.
    """
    step = None if point.problem.probes else polishing(point.gradient, hessian, Q)
    if step is None:
        return x, point
    at = point.problem.unpack(x + step)
    found = approximation(point.problem, *point.ahead(at))
    if found is None or found.value > point.value + RISE:
        return x, point
    return point.problem.pack(*found.at), found


def polishing(gradient: Floats, hessian: Floats, Q: Floats) -> Floats | None:
    """The Newton step by the second derivatives; ``None`` if it gains nothing that counts.

    The search ends within 1e-5 standard errors, which along a flat direction is not 1e-5 of the
    parameter.
    """
    values, vectors = np.linalg.eigh(Q.T @ hessian @ Q)
    live = values > FLAT * np.abs(values).max(initial=0.0)
    slopes = (Q @ vectors[:, live]).T @ gradient
    if not 0.5 * (slopes**2 / values[live]).sum() > _COUNTS:
        return None
    return np.asarray(-(Q @ vectors[:, live]) @ (slopes / values[live]))


def moving(problem: Problem, approximation: Approximation) -> NDArray[np.bool_]:
    """Parameters that the search moves: all, or for quadrature templates' lower triangles.

    A rotation of a template changes nothing but where the nodes lie, so little that the search
    would creep along it.  Fixed effects that are integrated over follow from the others.
    """
    t, p, r = problem.sizes
    free = np.ones(t + p + r, dtype=bool)
    if approximation.restricted:
        free[t : t + p] = False
    if approximation.nodes > 1:
        for term, own in zip(problem.rows.terms, places(problem.rows.terms), strict=True):
            free[own] = term.template.pack(np.tri(term.k)) != 0.0
    return free


def differenced(approximation: Approximation, x: Floats, point: Evaluation, Q: Floats) -> Floats:
    """Second derivatives by forward differences of the exact gradient, modes predicted.

    They are taken along the columns of ``Q``, see :func:`upright`: along the others there is no
    curvature.  A step that leaves the link's domain is taken backwards.
    """
    columns = []
    size = STEP if point.problem.probes is None else _LONGER
    for h in size * Q.T:
        for sign in (1.0, -1.0):
            gradient = _gradient_beside(approximation, point, x + sign * h)
            if gradient is not None:
                columns.append((gradient - point.gradient) * (sign / size))
                break
        else:
            columns.append(point.newton_matrix @ h / size)
    H = Q.T @ np.stack(columns, axis=1)
    return np.asarray(Q @ (0.5 * (H + H.T)) @ Q.T + point.joined)


def _gradient_beside(approximation: Approximation, point: Evaluation, x: Floats) -> Floats | None:
    """The gradient a tiny step away; nothing else of that point is kept."""
    found = approximation.beside(point, point.problem.unpack(x))
    return None if found is None else found.gradient


def upright(problem: Problem, at: Parameters, approximation: Approximation) -> Floats:
    """Orthonormal basis of all directions but the rotations ``T -> T Q`` of the templates."""
    size = sum(problem.sizes)
    if approximation.nodes > 1:
        return np.eye(size)[:, moving(problem, approximation)]
    rotations = [np.zeros((size, 0))]
    terms = problem.rows.terms
    for term, T, own in zip(terms, at.templates, places(terms), strict=True):
        for a, b in combinations(range(term.template.joint), 2):
            turn = np.zeros((term.k, term.k))
            turn[a, b], turn[b, a] = 1.0, -1.0
            column = np.zeros((size, 1))
            column[own, 0] = term.template.pack(T @ turn)
            rotations.append(column)
    left, values, _ = np.linalg.svd(np.concatenate(rotations, axis=1), full_matrices=True)
    rank = int((values > 1e-8 * max(values.max(initial=0.0), 1e-300)).sum())
    return np.asarray(left[:, rank:])


def certificate(found: Ended, gradient: Floats, hessian: Floats, Q: Floats) -> Convergence:
    """Certificate of the optimum: by the second derivatives, not the Newton matrix."""
    values, vectors = np.linalg.eigh(Q.T @ hessian @ Q)
    slope = vectors.T @ (Q.T @ gradient)
    largest = float(np.abs(values).max(initial=0.0))
    live = values > 1e-6 * largest
    gain = float((0.5 * slope[live] ** 2 / values[live]).sum())
    falls = bool((values < -1e-4 * largest).any())
    message = found.message
    # Where values are so large that rounding hides what is gained, derivatives still tell.
    hidden = found.outcome is Outcome.STUCK and not falls and gain <= _LEFT
    if found.converged and falls:
        message = "the criterion falls along a direction of negative curvature"
    elif found.converged and gain > _LEFT:
        message = f"the second derivatives promise a further {gain:.2g}"
    elif hidden:
        message = "no step reduces the criterion, and its derivatives promise nothing more"
    return Convergence(
        converged=hidden or (found.converged and not falls and gain <= _LEFT),
        message=message,
        gradient=gradient,
        newton_eigenvalues=values,
        predicted_gain=gain,
        n_evaluations=found.n_evaluations,
    )
