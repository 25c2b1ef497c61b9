"""Whether a fit by the iterative solver turns out dearer than an exact one, told on the way.

How many iterations the conjugate gradients need, and how many probes the tolerance asks for, is
known only when the equations have been solved once.  The forecast is of work, not of the clock, so
that it is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlace.estimation.criterion import Evaluation
from interlace.solver.choose import iterative_seconds
from interlace.solver.equations import Iterative
from interlace.sums.terms import Floats

# Evaluations of a whole search, and of one that starts at the optimum of fewer probes.
_WHOLE, _AGAIN = 6, 3
# Probes at most.
MOST_PROBES = 1024


class DearerError(Exception):
    """Thrown out of a search that is to be given up for the exact solver, with where it was."""

    def __init__(self, why: str, x: Floats, evaluations: int) -> None:
        super().__init__(why)
        self.x, self.evaluations = x, evaluations


@dataclass(frozen=True, eq=False)
class Forecast:
    """Work that is left for each solver, and the probes that the tolerance will ask for."""

    iterative: float
    exact: float
    probes: int
    iterations: int

    @property
    def dearer(self) -> bool:
        """Whether the exact solver is the quicker one."""
        return self.iterative > self.exact

    @property
    def words(self) -> str:
        """Why the solver was changed."""
        return (
            f"changed from the iterative solver to the exact one, which is quicker here: "
            f"{self.iterations} CG iterations an evaluation with {self.probes} probes were ahead"
        )


def forecast(
    equations: Iterative, point: Evaluation, excess: float, *, searched: bool
) -> Forecast | None:
    """What is ahead of a search, of which one point is known; ``None`` if it must not be changed.

    ``excess`` is how often the error that the probes leave exceeds the tolerance; ``searched`` says
    that the optimum of these probes is known.
    """
    if equations.exact_seconds is None:
        return None
    A, factor = point.criterion.A, point.factor
    count, q = equations.probes.count, point.criterion.rows_at_once
    final = probes_needed(count, q, excess)
    ahead = 0.0 if searched else _WHOLE * iterative_seconds(A, count, factor.n_iterations)
    if final is not None:
        ahead += _AGAIN * iterative_seconds(A, final, factor.n_iterations)
    exact = (_AGAIN if searched else _WHOLE) * equations.exact_seconds
    return Forecast(ahead, exact, final or count, factor.n_iterations)


def probes_needed(count: int, q: int, excess: float) -> int | None:
    """Number of probes that should bring an error down by the factor ``excess``, from ``count``."""
    if excess <= 1.0 or count >= min(q, MOST_PROBES):
        return None
    wanted = int(np.ceil(1.3 * count * min(excess, 1e3) ** 2))
    enough = min(max(wanted, 2 * count), MOST_PROBES)
    return q if enough > 0.5 * q and q <= MOST_PROBES else enough


def largest_share(error: Floats, statistical: Floats) -> float:
    """Largest ratio of two standard errors of ``theta``, where the latter is not zero."""
    return float((error / np.where(statistical > 0.0, statistical, np.inf)).max(initial=0.0))
