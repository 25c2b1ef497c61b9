"""Points of searches in generalised models: of all parameters, of a part of them, and of none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from interlace.estimation.optimize import Point
from interlace.glmm.laplace import Evaluation
from interlace.sums.terms import Floats


class Seen(Point, Protocol):
    """A point of the search, and what was done for it in words."""

    @property
    def work(self) -> str: ...


Watch = Callable[[int, Seen, float], None]


@dataclass(frozen=True, eq=False)
class Impossible:
    """A point without a likelihood; the optimiser turns back from it."""

    value: float = np.inf
    work: str = ""
    gradient: Floats = field(default_factory=lambda: np.zeros(0))
    newton_matrix: Floats = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True, eq=False)
class Part:
    """A point of a search in fewer numbers, of which all parameters change by ``M`` (c, m)."""

    point: Evaluation
    M: Floats

    @property
    def value(self) -> float:
        """Of the criterion."""
        return self.point.value

    @property
    def work(self) -> str:
        """What was done for it."""
        return self.point.work

    @property
    def gradient(self) -> Floats:
        """In the numbers of the search."""
        return np.asarray(self.M.T @ self.point.gradient)

    @property
    def newton_matrix(self) -> Floats:
        """In the numbers of the search."""
        return np.asarray(self.M.T @ self.point.newton_matrix @ self.M)
