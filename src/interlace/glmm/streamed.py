"""Laplace's approximation from passes over rows that are not held.

All that a fit asks of rows are sums over them: at the mode the log-likelihood, ``Z'g`` and
``Z'WZ``; and with the leverages of the equations, which are products of these, ``c = lev W'``:
``Z'c``, ``X'c``, ``X'g``, ``Z'W [X, -g_o G]`` and their products.  What the module ``laplace``
computes row by row follows from them:

* a step to the modes solves for ``Z'g + Z'WZ b``;
* ``X'c~ = X'c - (Z'WX)'a`` and ``Z'c~ = Z'c - Z'WZ a`` for ``a = C~ Z'c``;
* modes answer to other parameters by ``Z'W (X dbeta + Z db)``, likewise.

An evaluation takes a pass for every step to the modes, and one for its derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from interlace.glmm.equations import Equations, Factored, Iterated
from interlace.glmm.families import Curve, Slope
from interlace.glmm.laplace import Evaluation, zeros
from interlace.glmm.mode import SHORTEST, STEPS, TOLERANCE, Mode, slack
from interlace.glmm.problem import Parameters, Problem
from interlace.glmm.start import moments, without_random_effects
from interlace.glmm.stored import Block, Stored, not_held
from interlace.glmm.weighed import (
    KINDS,
    Levered,
    LeveredPart,
    Part,
    ProbeSums,
    Weighed,
    levered_part,
    probed_part,
    weighed_part,
)
from interlace.glmm.working import applied
from interlace.solver.exact import factorize
from interlace.solver.iterative import iterate
from interlace.solver.layout import Layout, relay
from interlace.solver.plan import refill
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats, pack

_NOTHING = Curve(*(np.zeros(0) for _ in Curve._fields))


@dataclass(frozen=True, eq=False)
class StreamedProblem(Problem):
    """A problem whose rows are in a scratch file; its arrays of rows are empty.

    ``sample`` has some of the rows, drawn at random; ``alike`` are :attr:`successes`.
    """

    stored: Stored = field(kw_only=True)
    sample: Problem = field(kw_only=True)
    alike: list[Floats] = field(kw_only=True)

    @property
    def successes(self) -> list[Floats]:
        """Successes and trials by level, counted as rows were stored."""
        return self.alike

    @property
    def shown(self) -> Problem:
        """Some of the rows, which stand for all."""
        return self.sample

    def begun(self) -> tuple[Parameters, list[Floats]]:
        """First parameters: a generalised linear model of the sample, and moments of all rows."""
        beta, gamma = without_random_effects(self.sample)
        nothing = zeros(self)
        at = Parameters([np.eye(t.k) for t in self.rows.terms], beta, gamma)
        sums = self.weighed(at, nothing)
        if sums is None:  # beyond the sample the link has no such means
            level = np.zeros_like(beta)
            return Parameters(at.templates, level, gamma), nothing
        return Parameters(moments(self.rows.terms, sums.g, sums.A.zz), beta, gamma), nothing

    def collapsed(self) -> Problem:
        """Itself: rows were added up as they were stored."""
        return self

    def fixed_part(self, beta: Floats) -> Floats:
        """Refuse: rows are not at hand."""
        raise not_held()

    def omega(self, gamma: Floats) -> Floats:
        """Refuse: rows are not at hand."""
        raise not_held()

    def curve(self, eta: Floats, omega: Floats) -> Curve:
        """Refuse: rows are not at hand."""
        raise not_held()

    def slope(self, eta: Floats, omega: Floats) -> Slope:
        """Refuse: rows are not at hand."""
        raise not_held()

    @property
    def pattern(self) -> CrossProducts:
        """``Z'Z``, of which solvers ask where it has entries."""
        return self.stored.pattern

    @property
    def layout(self) -> Layout:
        """Order of elimination of the iterative solver."""
        return self.stored.layout

    def equations_of(
        self, A: CrossProducts, templates: Sequence[Floats], *, probed: bool = True
    ) -> Equations:
        """The equations of cross-products ``Z'WZ``; see :meth:`Problem.equations`.

        Raises
        ------
        numpy.linalg.LinAlgError
            They are not positive definite.
        """
        stored, probes = self.stored, self.probes
        with np.errstate(invalid="ignore", divide="ignore"):
            if probes is None:
                factor = factorize(A, refill(stored.plan, A), templates)
                found: Equations = Factored(factor, stored.own)
            else:
                probes = probes if probed else replace(probes, count=0)
                solved = iterate(A, relay(stored.layout, A), templates, probes)
                found = Iterated(solved, stored.own_probed)
            if not np.isfinite(found.logdet):
                raise np.linalg.LinAlgError("an eliminated level is not positive definite")
        return found

    def weighed(self, at: Parameters, b: Sequence[Floats], kind: int = 0) -> Weighed | None:
        """One pass at parameters and effects; ``None`` outside the link's domain."""
        total = Weighed.nothing(self.stored)

        def work(block: Block) -> Part | None:
            return weighed_part(block, at, b, KINDS[kind])

        self.stored.visit(work, total.add)
        return total if total.inside and np.isfinite(total.l) else None


# ------------------------------------------------------------------ the criterion


@dataclass(frozen=True, eq=False)
class StreamedEvaluation(Evaluation):
    """The criterion at one point, from sums over rows; ``b`` are the effects at the mode."""

    problem: StreamedProblem
    b: list[Floats]
    sums: Weighed

    @cached_property
    def e(self) -> list[Floats]:
        """``Z'g``, ``(l, k)`` a term."""
        return self.sums.g

    @cached_property
    def levered(self) -> Levered:
        """A pass with the leverages of all rows."""
        total, lever = Levered.nothing(self.problem), self.equations.lever()

        def work(block: Block) -> LeveredPart:
            return levered_part(block, self.at, self.b, lever)

        self.problem.stored.visit(work, total.add)
        return total

    def probe_sums(self) -> tuple[list[Floats], Floats]:
        """Of every random probe's share in leverages, in one pass."""
        assert isinstance(self.equations, Iterated)
        total, lever = (
            ProbeSums.nothing(self.problem, self.equations.n_probes),
            self.equations.lever_shares(),
        )

        def work(block: Block) -> tuple[list[tuple[int, Floats]], Floats]:
            return probed_part(block, self.at, self.b, lever)

        self.problem.stored.visit(work, total.add)
        return total.levels, total.fixed

    def _times(self, b: Sequence[Floats]) -> list[Floats]:
        """``Z'WZ b``, ``(l, k)`` a term."""
        return times(self.equations, b)

    @cached_property
    def _moved(self) -> tuple[list[Floats], list[Floats]]:
        """``a = C~ Z'c``, and ``Z'c~``."""
        c = [own[:, :, 0] for own in self.levered.levels]
        a = applied(self.equations, c)
        return a, [v - w for v, w in zip(c, self._times(a), strict=True)]

    @cached_property
    def _of_modes(self) -> list[Floats]:
        parts = []
        for e, q in zip(self.e, self._moved[1], strict=True):
            qe = q.T @ e
            parts.append(0.5 * (qe + qe.T) - e.T @ e)
        return parts

    @cached_property
    def gradient(self) -> Floats:
        """Gradient with respect to all parameters, packed."""
        problem, found = self.problem, self.levered
        p = problem.sizes[1]
        G = [
            2.0 * (d.W + m @ T)
            for d, m, T in zip(self.derivatives, self._of_modes, self.at.templates, strict=True)
        ]
        answer = np.zeros(p + problem.sizes[2])
        for own, a in zip(found.levels, self._moved[0], strict=True):
            answer += np.tensordot(own[:, :, 1:], a, axes=((0, 1), (0, 1)))
        beta = found.fixed @ np.array([1.0, -2.0]) - answer[:p]
        if problem.precision is not None:
            beta = beta + 2.0 * problem.precision @ self.at.beta
        return np.concatenate([pack(problem.rows.terms, G), beta, found.gamma - answer[p:]])

    @property
    def fixed_sums(self) -> tuple[list[Floats], Floats]:
        """``Z'[WX, -g_o G]`` of every term, and second derivatives of ``-l`` in (beta, gamma)."""
        return [own[:, :, 1:] for own in self.levered.levels], self.levered.among

    def predicted(self, to: Parameters) -> list[Floats]:
        """First-order prediction of the spherical effects at other parameters."""
        dT = [new - old for new, old in zip(to.templates, self.at.templates, strict=True)]
        s = [e @ d for e, d in zip(self.e, dT, strict=True)]
        db = [
            u @ d.T + v @ T.T for u, d, v, T in zip(self.u, dT, s, self.at.templates, strict=True)
        ]
        step = np.concatenate((to.beta - self.at.beta, to.gamma - self.at.gamma))
        parts = zip(self._times(db), self.fixed_sums[0], strict=True)
        r = [own + side @ step for own, side in parts]
        left = self._times(applied(self.equations, r))
        return [
            u + v - (z - w) @ T
            for u, v, z, w, T in zip(self.u, s, r, left, self.at.templates, strict=True)
        ]

    def beside(self, to: Parameters) -> Evaluation | None:
        """The criterion a tiny step away, at predicted modes."""
        u = self.predicted(to)
        return evaluation_of(self.problem, to, state_at(self.problem, to, u))


def times(equations: Equations, b: Sequence[Floats]) -> list[Floats]:
    """``Z'WZ b``, ``(l, k)`` a term."""
    return [own[:, :, 0] for own in equations.moved([own[:, :, None] for own in b])]


class State(NamedTuple):
    """Effects, spherical and as they are, the sums there, and the steps taken to them."""

    u: list[Floats]
    b: list[Floats]
    sums: Weighed
    n_steps: int

    @property
    def deviance(self) -> float:
        """``-2 sum l + u'u``."""
        return float(-2.0 * self.sums.l + sum(float((v**2).sum()) for v in self.u))


def state_at(
    problem: StreamedProblem,
    at: Parameters,
    u: Sequence[Floats],
    b: Sequence[Floats] | None = None,
    n_steps: int = 0,
) -> State | None:
    """The sums at some effects; ``None`` outside the link's domain."""
    own = [v @ T.T for v, T in zip(u, at.templates, strict=True)] if b is None else list(b)
    sums = problem.weighed(at, own)
    return None if sums is None else State(list(u), own, sums, n_steps)


def find_state(problem: StreamedProblem, at: Parameters, start: Sequence[Floats]) -> State | None:
    """The mode, sought as :func:`interlace.glmm.mode.find_mode` does."""
    state = state_at(problem, at, start) or state_at(problem, at, [0.0 * u for u in start])
    for n in range(1, STEPS):
        if state is None:
            return None
        found = _newton(problem, at, state)
        if found is None:
            return None
        du, db, decrement = found
        moved = _shortened(problem, at, state, du, db, n)
        if decrement < TOLERANCE:
            return moved or state
        state = moved
    return None


def _newton(
    problem: StreamedProblem, at: Parameters, state: State
) -> tuple[list[Floats], list[Floats], float] | None:
    """Full step in ``u`` and in ``b``, and its squared length."""
    for kind in range(len(KINDS)):
        sums = state.sums if kind == 0 else problem.weighed(at, state.b, kind)
        with suppress(np.linalg.LinAlgError):
            if sums is not None:
                equations = problem.equations_of(sums.A, at.templates, probed=False)
                return _full_step(at, state, equations)
    return None


def _full_step(
    at: Parameters, state: State, equations: Equations
) -> tuple[list[Floats], list[Floats], float]:
    """The same at given equations."""
    g = state.sums.g
    random = [v + w for v, w in zip(g, times(equations, state.b), strict=True)]
    if isinstance(equations, Iterated):
        u = equations.step(random, state.u)
        b = [v @ T.T for v, T in zip(u, at.templates, strict=True)]
    else:
        b = applied(equations, random)
    db = [new - old for new, old in zip(b, state.b, strict=True)]
    Wdb = times(equations, db)
    if not isinstance(equations, Iterated):
        u = [(v - w) @ T for v, w, T in zip(g, Wdb, at.templates, strict=True)]
    du = [new - old for new, old in zip(u, state.u, strict=True)]
    length = sum(float((d * w).sum()) for d, w in zip(db, Wdb, strict=True))
    return du, db, length + sum(float((d**2).sum()) for d in du)


def _shortened(
    problem: StreamedProblem,
    at: Parameters,
    state: State,
    du: Sequence[Floats],
    db: Sequence[Floats],
    n: int,
) -> State | None:
    """The first of the step, its half, its quarter, ... that does not raise the deviance."""
    share = 1.0
    while share > SHORTEST:
        u = [v + share * d for v, d in zip(state.u, du, strict=True)]
        b = [v + share * d for v, d in zip(state.b, db, strict=True)]
        trial = state_at(problem, at, u, b, n)
        if trial is not None and trial.deviance <= state.deviance + slack(state.deviance):
            return trial
        share *= 0.5
    return None


def evaluation_of(
    problem: StreamedProblem, at: Parameters, state: State | None
) -> StreamedEvaluation | None:
    """The criterion at parameters and the sums at their mode; ``None`` where it has none."""
    if state is None:
        return None
    try:
        equations = problem.equations_of(state.sums.A, at.templates)
    except np.linalg.LinAlgError:
        return None
    mode = Mode(state.u, np.zeros(0), _NOTHING, state.deviance, state.n_steps)
    found = StreamedEvaluation(problem, at, mode, equations, state.b, state.sums)
    return found if np.isfinite(found.value) else None


@dataclass(frozen=True)
class Passes:
    """Laplace's approximation by passes over rows that are not held."""

    nodes: int = 1
    restricted: ClassVar[bool] = False

    def __call__(self, problem: Problem, at: Parameters, start: list[Floats]) -> Evaluation | None:
        """The criterion at parameters, the mode sought from ``start``; ``None`` without one."""
        assert isinstance(problem, StreamedProblem)
        return evaluation_of(problem, at, find_state(problem, at, start))

    def beside(self, point: Evaluation, to: Parameters) -> Evaluation | None:
        """The criterion a tiny step away from a point."""
        return point.beside(to)
