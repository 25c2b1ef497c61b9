"""The search for an optimum by the iterative solver, with probes until their error does not count.

Once the exact solver turns out to be quicker, it is to take over; that is asked at the first point
and wherever there are to be more probes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from interlace.estimation.certificate import Convergence, certificate
from interlace.estimation.chance import (
    GAIN,
    SEARCH,
    Estimated,
    Parametrised,
    criterion_error_at,
    monte_carlo_errors,
)
from interlace.estimation.changeover import DearerError, forecast, largest_share, probes_needed
from interlace.estimation.criterion import Evaluation
from interlace.estimation.optimize import Minimum, Point, minimize
from interlace.solver.equations import Equations, Iterative
from interlace.sums.terms import Floats


class ProbedPoint(Point, Estimated, Protocol):
    """A criterion at a point, solved iteratively."""

    @property
    def value(self) -> float: ...
    @property
    def newton_matrix(self) -> Floats: ...
    @property
    def weighted(self) -> Evaluation:
        """That of the templates, at the weights of the rows."""
        ...

    def doubt(self, step: Floats) -> float:
        """How far the values at the ends of a step may be from what the gradient says."""
        ...


P = TypeVar("P", bound=ProbedPoint)


@dataclass(frozen=True, eq=False)
class Probed(Generic[P]):
    """What is searched: ``by`` gives the function of a solver.

    Attributes
    ----------
    by
        The function to be minimised, by the solver.
    reported
        How reported parameters follow from what it is a function of.
    mc_tolerance
        Monte-Carlo standard error to be left, over the statistical one.
    watch
        As :func:`interlace.estimation.optimize.minimize` has it.
    """

    by: Callable[[Equations], Callable[[Floats], P]]
    reported: Parametrised
    mc_tolerance: float
    watch: Callable[[int, P, float], None] | None

    def later(self, before: int) -> Callable[[int, P, float], None]:
        """A watch that counts on from the evaluations ``before``."""

        def after(n: int, point: P, gain: float) -> None:
            if self.watch is not None:
                self.watch(before + n, point, gain)

        return after

    def errors(self, x: Floats, point: P, gain: float) -> tuple[Floats, Floats]:
        """Monte-Carlo and statistical errors; what a search promised is part of the former."""
        error, statistical = monte_carlo_errors(self.reported, x, point)
        return np.hypot(error, statistical * np.sqrt(max(gain, SEARCH**2))), statistical


def search(of: Probed[P], equations: Iterative, x: Floats) -> tuple[Minimum[P], Convergence]:
    """Minimise from ``x``: where the search with the probes that were enough ended.

    Raises
    ------
    DearerError
        The exact solver is quicker.
    """
    evaluations = 0
    while True:
        first = evaluations == 0
        watch = _checked(of, equations, x) if first else of.later(evaluations)
        found = minimize(
            of.by(equations), x, gain_tolerance=GAIN, watch=watch, doubt=lambda p, s: p.doubt(s)
        )
        evaluations, x = evaluations + found.n_evaluations, found.x
        error, statistical = of.errors(x, found.point, found.predicted_gain)
        excess = largest_share(error, statistical) / of.mc_tolerance
        weighted = found.point.weighted
        more = probes_needed(equations.probes.count, weighted.criterion.rows_at_once, excess)
        if more is None or not found.converged:
            break
        ahead = forecast(equations, weighted, excess, searched=True)
        if ahead is not None and ahead.dearer:
            raise DearerError(ahead.words, x, evaluations)
        equations = equations.with_probes(more)
    convergence = replace(
        certificate(found),
        n_evaluations=evaluations,
        solver="iterative",
        monte_carlo_error=error,
        criterion_error=criterion_error_at(found.point),
        n_probes=weighted.factor.n_probes,
        n_iterations=weighted.factor.n_iterations,
        statistical_error=statistical,
    )
    return found, convergence


def _checked(of: Probed[P], equations: Iterative, x: Floats) -> Callable[[int, P, float], None]:
    """A watch that gives up at the first point, ``x``, if the exact solver would be quicker."""
    tell = of.later(0)

    def after(n: int, point: P, gain: float) -> None:
        tell(n, point, gain)
        if n == 1:
            share = largest_share(*monte_carlo_errors(of.reported, x, point))
            found = forecast(equations, point.weighted, share / of.mc_tolerance, searched=False)
            if found is not None and found.dearer:
                raise DearerError(found.words, x, n)

    return after


def changed_over(convergence: Convergence, why: DearerError) -> Convergence:
    """The certificate of a search by the exact solver from where another one was left."""
    return replace(
        convergence,
        message=f"{convergence.message}; {why}",
        n_evaluations=why.evaluations + convergence.n_evaluations,
    )
