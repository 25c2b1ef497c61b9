"""The bootstrap of a generalised model: parametric, and of cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.estimation.parameters import variance_parameter_names, variance_parameters
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.bootstrap.cases import Cases, cases, groups_of
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.inference.bootstrap.running import Fit, OneByOne, Statistic, check, replicated
from interlace.model.drawn import draw_one
from interlace.model.generalised import FittedGeneralModel, re_drawn, re_estimated
from interlace.model.simulate import Block, Seed
from interlace.sums.terms import Floats

KINDS = ("parametric", "cases")
M = TypeVar("M", bound=FittedGeneralModel)


def bootstrap_general(
    result: M,
    n: int,
    kind: str = "parametric",
    *,
    seed: Seed = None,
    statistic: Callable[[M], object] | None = None,
    group: str | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> BootstrapResult:
    """Responses simulated from the fit, or levels drawn with their rows, fitted from its optimum.

    Raises
    ------
    InterlaceError
        A kind that needs residuals, or an argument out of range.
    """
    design = require_rows(result.design, "bootstrap")
    check(n, kind, statistic, group, n_jobs)
    if kind not in KINDS:
        raise InterlaceError(
            f"kind={kind!r} is for linear models: the responses of a generalised one are not means "
            f"plus residuals that could be drawn; use kind='parametric' or kind='cases'"
        )
    reader = GeneralParameters(result) if statistic is None else Statistic(result, statistic)
    original = pd.Series(reader.estimate, index=reader.names, name="estimate")
    drawn: _Fits | _CaseFits = _Fits(result)
    if kind == "cases":
        groups = groups_of(result.formula, design)
        drawn = _CaseFits(result, cases(design, result.estimate.A.names, groups, group))
    run = OneByOne(drawn, reader)
    return replicated(run, original, kind, n, seed=seed, n_jobs=n_jobs, progress=progress)


@dataclass(frozen=True, eq=False)
class GeneralParameters:
    """Fixed effects, standard deviations, correlations, and auxiliary coefficients."""

    result: FittedGeneralModel

    @property
    def names(self) -> list[str]:
        A, parts = self.result.estimate.A, self.result.estimate.problem.parts
        return [*A.names, *variance_parameter_names(A.terms)[:-1], *parts.names]

    @cached_property
    def estimate(self) -> Floats:
        """Values of the fit itself."""
        return self.values(self.result.estimate)

    def read(self, design: Design, estimate: GeneralEstimate) -> Floats:
        """Values of one replicate."""
        return self.values(estimate)

    @staticmethod
    def values(estimate: GeneralEstimate) -> Floats:
        """Values of an estimate, in the order of the names."""
        one = np.array(1.0)
        sizes = variance_parameters(estimate.A.terms, estimate.user_templates, one)[:-1]
        own = estimate.problem.parts.reported(estimate.family_coefficients)
        return np.concatenate((estimate.beta, sizes, own))


@dataclass(frozen=True, eq=False)
class _Fits:
    """Fits to responses drawn from the fit."""

    result: FittedGeneralModel

    def __call__(self, block: Block) -> Fit[GeneralEstimate]:
        rng = block.rng
        drawn: list[Floats] = []

        def fit(i: int) -> tuple[Design, GeneralEstimate]:
            while len(drawn) <= i:
                drawn.append(draw_one(self.result, rng))
            return re_estimated(self.result, drawn[i])

        return fit


@dataclass(frozen=True, eq=False)
class _CaseFits:
    """Fits to levels drawn with their rows."""

    result: FittedGeneralModel
    cases: Cases

    def __call__(self, block: Block) -> Fit[GeneralEstimate]:
        uniform = block.rng.random((block.size, self.cases.n_draws))

        def fit(i: int) -> tuple[Design, GeneralEstimate]:
            design, rows = self.cases.redrawn(uniform[i])
            estimate = re_drawn(self.result, design, rows)
            self.cases.refuse_others(estimate.A.names)
            return design, estimate

        return fit
