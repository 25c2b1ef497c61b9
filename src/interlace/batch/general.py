"""Generalised models of many responses on one design, fitted as a batch.

The twin of :func:`interlace.glmm.estimate.estimate_general`, whose rules it follows: the same
start, search, second derivatives and certificate.  What the batch does not settle goes to the
single engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlace.batch.fits import NO_RESIDUAL, slices
from interlace.batch.incidence import incidence
from interlace.batch.laplace import Evaluation, evaluate
from interlace.batch.modes import Held, Stack
from interlace.batch.optimize import Index, Minima, Points, minimize_many
from interlace.errors import InterlaceError
from interlace.estimation.certificate import Convergence
from interlace.estimation.search import Mask, Outcome
from interlace.glmm.curvature import RISE, STEP, Approximation, certificate, polishing, upright
from interlace.glmm.estimate import GeneralEstimate, begun, estimate_general
from interlace.glmm.laplace import Laplace
from interlace.glmm.limits import RunOff
from interlace.glmm.links import unbounded
from interlace.glmm.problem import Problem
from interlace.glmm.search import CORRECT, GAIN
from interlace.sums.terms import Floats

# A fit, or why there is none.
Estimated: TypeAlias = GeneralEstimate | InterlaceError

# Batches pay while a fit is small: rows, and columns of the dense remainder, at most.
_ROWS, _REMAINDER = 5000, 100
# Numbers by row or by pair of effects of a piece, which stay in the cache together.
_CACHED = 1 << 17
# Evaluations after which a replicate is left to the single engine.
_PATIENCE = 50


def estimate_many(
    problem: Problem,
    Y: Floats,
    approximation: Approximation,
    *,
    near: GeneralEstimate | None = None,
) -> list[Estimated]:
    """Estimates of responses ``Y`` (n, B) on the rows of a problem, as of single fits.

    ``near`` is the optimum of another response for the same rows, where searches start.
    """
    found: list[Estimated | None] = [None] * Y.shape[1]
    if is_small(problem, approximation):
        for part in slices(Y.shape[1], _at_once(problem)):
            found[part] = _together(problem, Y[:, part], approximation, near)
    return [
        _alone(problem.responding(Y[:, i]), approximation, near) if one is None else one
        for i, one in enumerate(found)
    ]


def is_small(problem: Problem, approximation: Approximation) -> bool:
    """Whether fits of many responses are faster, and possible, as a batch."""
    rows = problem.rows
    remainder = sum(t.q for t in rows.terms) - max(t.q for t in rows.terms)
    return (
        isinstance(approximation, Laplace)
        and unbounded(problem.family.link)
        and problem.probes is None
        and rows.n <= _ROWS
        and rows.patterns is None
        and remainder <= _REMAINDER
    )


def _at_once(problem: Problem) -> int:
    """Responses of a piece."""
    terms, n = problem.rows.terms, problem.rows.n
    q, first = sum(t.q for t in terms), max(t.q for t in terms)
    return max(8, _CACHED // (n + first * (q - first) + (q - first) ** 2))


def _alone(
    problem: Problem, approximation: Approximation, near: GeneralEstimate | None
) -> Estimated:
    """One response by the single engine."""
    try:
        return estimate_general(problem, approximation, near=near)
    except InterlaceError as error:
        return error
    except np.linalg.LinAlgError as error:
        return InterlaceError(f"{NO_RESIDUAL} ({error})")


# ------------------------------------------------------------------ together


@dataclass(eq=False)
class _Search:
    """The criteria as functions of their packed parameters, for the optimiser.

    It remembers the last points, from which the next modes are predicted; ``u`` (q, B) and
    ``n_steps`` (B,) are those of all replicates, ``which`` says which ones these are.
    """

    stack: Stack
    u: Floats
    n_steps: NDArray[np.intp]
    which: Index
    last: Evaluation | None = None

    def evaluate(self, x: Floats) -> Points:
        """Values and derivatives at ``x`` (B, P)."""
        at = self.stack.unpack(x)
        start = self.u[:, self.which]
        if self.last is not None:
            predicted = self.last.predicted(at)
            start = np.where(np.isfinite(predicted).all(axis=0), predicted, start)
        self.last = found = evaluate(Held(self.stack, at), start)
        known = np.isfinite(found.value)
        self.u[:, self.which[known]] = found.mode.u[:, known]
        self.n_steps[self.which] += found.mode.n_steps
        return found.points

    def take(self, which: Index | Mask) -> _Search:
        """Some of the criteria."""
        last = None if self.last is None else self.last.take(which)
        return _Search(self.stack.take(which), self.u, self.n_steps, self.which[which], last)


@np.errstate(all="ignore")  # trial steps are checked
def _together(
    problem: Problem, Y: Floats, approximation: Approximation, near: GeneralEstimate | None
) -> Sequence[Estimated | None]:
    """Estimates of some responses, ``None`` of those that the single engine has to find."""
    problems = [problem.responding(y) for y in np.ascontiguousarray(Y.T)]
    rows = problem.rows
    stack = Stack(
        problem,
        incidence(rows.terms, rows.codes, rows.Z),
        np.ascontiguousarray(Y),
        np.array([one.constant for one in problems]),
    )
    x, u, known = _starts(stack, problems, approximation, near)
    some = np.flatnonzero(known)
    found: list[Estimated | None] = [None] * len(problems)
    if not len(some):
        return found
    n_steps = np.zeros(len(problems), dtype=np.intp)
    search = _Search(stack.take(some), u, n_steps, some)
    minima = minimize_many(
        search, x[some], gain_tolerance=GAIN, max_evaluations=_PATIENCE, correct=CORRECT
    )
    settled = np.flatnonzero(minima.converged)
    if not len(settled):
        return found
    ended, minima = some[settled], minima.take(settled)
    held = Held(stack.take(ended), stack.unpack(minima.x))
    bases = [upright(problem, problem.unpack(one), approximation) for one in minima.x]
    optima = _polished(evaluate(held, u[:, ended]), minima.x, bases)
    for i, sure in enumerate(_certificates(optima, minima, bases)):
        one = problems[ended[i]]
        if sure.converged and not _runs_off(one, optima.x[i]):
            found[ended[i]] = GeneralEstimate(
                problem=one,
                approximation=approximation,
                x=optima.x[i],
                u=_by_term(stack, optima.u[:, i]),
                hessian=bases[i] @ (bases[i].T @ optima.hessian[i] @ bases[i]) @ bases[i].T,
                convergence=sure,
                n_steps=int(n_steps[ended[i]]),
                known=float(optima.value[i]),
            )
    return found


def _runs_off(problem: Problem, x: Floats) -> bool:
    """Whether an optimum lies where the family is nearly a simpler one, see :class:`RunOff`."""
    run = RunOff(problem)
    return bool(run.sign) and run.near(float(x[-1]))


def _by_term(stack: Stack, u: Floats) -> list[Floats]:
    """Effects ``(l, k)`` of every term."""
    layout = stack.incidence
    return [np.array(layout.by_level(j, u)) for j in range(len(layout.shape.terms))]


def _starts(
    stack: Stack,
    problems: Sequence[Problem],
    approximation: Approximation,
    near: GeneralEstimate | None,
) -> tuple[Floats, Floats, Mask]:
    """Parameters ``(B, P)`` and effects ``(q, B)`` to start from, and which of them there are."""
    B, layout = len(problems), stack.incidence
    x = np.zeros((B, sum(stack.problem.sizes)))
    u, known = np.zeros((layout.Z.shape[1], B)), np.ones(B, dtype=bool)
    if near is not None and not near.is_singular:
        x[:] = near.x
        u[:] = layout.flat([part[..., None] for part in near.u])
        return x, u, known
    for i, problem in enumerate(problems):
        try:
            at, effects = begun(problem, approximation)
        except (InterlaceError, np.linalg.LinAlgError):
            known[i] = False  # the single engine says why
        else:
            x[i], u[:, i] = problem.pack(*at), layout.flat(effects)
    return x, u, known


@dataclass(frozen=True, eq=False)
class _Optima:
    """Points where searches ended, with derivatives: ``x`` (B, P), ``u`` (q, B)."""

    x: Floats
    u: Floats
    value: Floats
    gradient: Floats
    hessian: Floats

    def put(self, where: Index, other: _Optima) -> _Optima:
        """These, some of them replaced."""
        found = {name: getattr(self, name).copy() for name in self.__dataclass_fields__}
        for name, values in found.items():
            axis = np.s_[:, where] if name == "u" else where
            values[axis] = getattr(other, name)
        return _Optima(**found)


def _optima_at(point: Evaluation, x: Floats) -> _Optima:
    """Points with the second derivatives there, by differences of gradients."""
    problem = point.stack.problem
    columns = []
    for h in STEP * np.eye(sum(problem.sizes)):
        moved = point.beside(point.stack.unpack(x + h))
        columns.append((moved.gradient - point.gradient) / STEP)
    H = np.stack(columns, axis=2)
    return _Optima(x, point.mode.u, point.value, point.gradient, 0.5 * (H + H.swapaxes(1, 2)))


def _polished(point: Evaluation, x: Floats, bases: Sequence[Floats]) -> _Optima:
    """Optima after a Newton step by second derivatives, where that counts."""
    found = _optima_at(point, x)
    parts = zip(found.gradient, found.hessian, bases, strict=True)
    steps = [polishing(*one) for one in parts]
    some = np.array([i for i, step in enumerate(steps) if step is not None], dtype=np.intp)
    if not len(some):
        return found
    part, to = point.take(some), x[some] + np.array([steps[i] for i in some])
    at = part.stack.unpack(to)
    moved = evaluate(Held(part.stack, at), part.predicted(at))
    kept = np.flatnonzero(moved.value <= point.value[some] + RISE)
    if not len(kept):
        return found
    return found.put(some[kept], _optima_at(moved.take(kept), to[kept]))


@dataclass(frozen=True)
class _Ending:
    """How one of the searches ended, at a minimum."""

    outcome: Outcome
    n_evaluations: int

    @property
    def converged(self) -> bool:
        """Whether it did."""
        return self.outcome.found

    @property
    def message(self) -> str:
        """In words."""
        return self.outcome.sentence


def _certificates(found: _Optima, minima: Minima, bases: Sequence[Floats]) -> list[Convergence]:
    """What the second derivatives say of every optimum."""
    ends = [
        _Ending(Outcome(outcome), int(n))
        for outcome, n in zip(minima.outcome, minima.n_evaluations, strict=True)
    ]
    parts = zip(ends, found.gradient, found.hessian, bases, strict=True)
    return [certificate(*one) for one in parts]
