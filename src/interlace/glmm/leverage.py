"""Leverages at the mode: how much each response determines its own linear predictor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.glmm.equations import Equations
from interlace.glmm.laplace import Evaluation
from interlace.glmm.working import Working
from interlace.sums.terms import Floats

# Begins the message for fits of the iterative solver.
_NEEDS = "leverages (leverage, hlm_influence, augment) need"


def projected(equations: Equations, rows: Working, W: Floats) -> Floats:
    """``X - Z C~ Z'W X`` for weights ``W`` (n,) and the equations there, ``(n, p)``."""
    images = equations.solve(rows.sums(W[:, None] * rows.X))
    moved = [rows.image([b[:, :, i] for b in images]) for i in range(rows.p)]
    return rows.X - np.stack(moved, axis=1) if moved else rows.X


@dataclass(frozen=True, eq=False)
class Leverage:
    """The equations of fixed and random effects at the working weights of the mode.

    Variance parameters are held; random and fixed effects move together, as in a linear model of
    the working response.
    """

    evaluation: Evaluation

    @cached_property
    def directions(self) -> Floats:
        """``X - Z C~ Z'W X``: how linear predictors move with fixed effects, ``(n, p)``."""
        found = self.evaluation
        return projected(found.equations, found.problem.rows, found.mode.curve.W)

    @cached_property
    def vcov(self) -> Floats:
        """Inverse information of the fixed effects, ``(X'PX)^-1``, in the working basis."""
        found = self.evaluation
        WD = found.mode.curve.W[:, None] * self.directions
        information = found.problem.rows.X.T @ WD
        if found.problem.precision is not None:
            information = information + found.problem.precision
        return np.asarray(np.linalg.inv(0.5 * (information + information.T)))

    @cached_property
    def random(self) -> Floats:
        """``W z'C~z``: the part of the random effects given the fixed ones, ``(n,)``."""
        return self.evaluation.mode.curve.W * self.evaluation.leverages

    @cached_property
    def fixed(self) -> Floats:
        """The part that the fixed effects add, ``(n,)``."""
        D = self.directions
        return np.asarray(self.evaluation.mode.curve.W * np.einsum("np,pq,nq->n", D, self.vcov, D))

    @property
    def overall(self) -> Floats:
        """Both together: the diagonal of the hat matrix of the working response, ``(n,)``.

        Raises
        ------
        InterlaceError
            The fit is by the iterative solver, whose leverages are right on average alone.
        """
        self.evaluation.equations.exact(_NEEDS)
        return self.random + self.fixed

    @property
    def effective(self) -> float:
        """Their sum, the effective number of parameters."""
        return float((self.random + self.fixed).sum())
