"""The bootstrap of a generalised model: parametric, and of cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from interlace.batch.general import estimate_many
from interlace.design.design import Design
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.estimation.parameters import variance_parameter_names, variance_parameters
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.bootstrap.cases import Cases, cases, groups_of
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.inference.bootstrap.running import (
    Chunk,
    Fit,
    OneByOne,
    Reader,
    Statistic,
    check,
    chunk_of,
    replicated,
)
from interlace.model.drawn import draw_one
from interlace.model.generalised import FittedGeneralModel, re_drawn, usable_response
from interlace.model.outcomes import Outcome
from interlace.model.simulate import Block, Seed
from interlace.sums.terms import Floats

KINDS = ("parametric", "cases")
# Blocks of a task: replicates that are fitted together.
_TASK = 16
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
    run: _Together | OneByOne[GeneralEstimate] = _Together(result, reader)
    if kind == "cases":
        groups = groups_of(result.formula, design)
        drawn = cases(design, result.estimate.A.names, groups, group)
        run = OneByOne(_CaseFits(result, drawn), reader)
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
class _Together:
    """New responses drawn from the fit, fitted as a batch."""

    result: FittedGeneralModel
    reader: Reader[GeneralEstimate]
    blocks_each = _TASK
    tasks_each = 1

    def __call__(self, task: Sequence[Block]) -> Chunk:
        found = self._drawn(task)
        usable = [i for i, one in enumerate(found) if isinstance(one, Outcome)]
        responses = [one.y for one in found if isinstance(one, Outcome)]
        if responses:
            near = self.result.estimate
            Y = np.stack(responses, axis=1)
            estimates = estimate_many(near.problem, Y, near.approximation, near=near)
            fitted = dict(zip(usable, estimates, strict=True))

        def fit(i: int) -> tuple[Design, GeneralEstimate]:
            outcome = found[i]
            if isinstance(outcome, InterlaceError):
                raise outcome
            estimate = fitted[i]
            if isinstance(estimate, InterlaceError):
                raise estimate
            return outcome.design, estimate

        return chunk_of(task, fit, self.reader)

    def _drawn(self, task: Sequence[Block]) -> list[Outcome | InterlaceError]:
        """Responses of the replicates, or what is wrong with one."""
        found: list[Outcome | InterlaceError] = []
        for block in task:
            rng = block.rng
            for _ in range(block.size):
                try:
                    found.append(usable_response(self.result, draw_one(self.result, rng)))
                except InterlaceError as error:
                    found.append(error)
        return found


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
