"""The bootstrap of a model with a variance function: parametric, and of cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.estimation.parameters import variance_parameters
from interlace.estimation.scaled_estimate import ScaledEstimate, estimate_scaled
from interlace.inference.bootstrap.cases import Cases, cases, groups_of
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.inference.bootstrap.running import Fit, OneByOne, Statistic, check, replicated
from interlace.inference.profiles.numbers import covariance_names
from interlace.model.scaled import FittedScaledModel, scaled_criterion, values_of
from interlace.model.scaled_rows import re_estimated_scaled
from interlace.model.simulate import Block, Seed, Simulator, expected
from interlace.sums.terms import Floats

M = TypeVar("M", bound=FittedScaledModel)


def bootstrap_scaled(
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
    """Replicates with variances of their own, each fitted; see the method ``bootstrap``.

    Raises
    ------
    InterlaceError
        Another kind, or an argument out of range.
    """
    design = require_rows(result.design, "bootstrap")
    check(n, kind, statistic, group, n_jobs)
    if kind not in ("parametric", "cases"):
        raise InterlaceError(
            f"kind={kind!r} moves residuals from row to row, and these have different variances: "
            "use kind='parametric' or 'cases'"
        )
    reader = ScaledParameters(result) if statistic is None else Statistic(result, statistic)
    original = pd.Series(reader.estimate, index=reader.names, name="estimate")
    fits: _Responses | _Resampled = _Responses(result)
    if kind == "cases":
        groups = groups_of(result.formula, design)
        fits = _Resampled(result, cases(design, result.estimate.A.names, groups, group))
    run = OneByOne(fits, reader)
    return replicated(run, original, kind, n, seed=seed, n_jobs=n_jobs, progress=progress)


@dataclass(frozen=True, eq=False)
class ScaledParameters:
    """Fixed effects, parameters of the random effects, and those of the residuals."""

    result: FittedScaledModel

    @property
    def names(self) -> list[str]:
        return [*self.result.estimate.A.names, *covariance_names(self.result)]

    @cached_property
    def estimate(self) -> Floats:
        """Values of the fit itself."""
        return self.read(require_rows(self.result.design, "bootstrap"), self.result.estimate)

    def read(self, design: Design, estimate: ScaledEstimate) -> Floats:
        """Values of one replicate."""
        sigma = np.array(estimate.sigma)
        random = variance_parameters(estimate.A.terms, estimate.user_templates, sigma)[:-1]
        own = values_of(estimate, self.result.ratios, self.result.units)
        return np.concatenate((estimate.beta, random, list(own.values())))


@dataclass(frozen=True, eq=False)
class _Responses:
    """Fits to responses drawn from the fit."""

    result: FittedScaledModel

    def __call__(self, block: Block) -> Fit[ScaledEstimate]:
        held, weighted = require_rows(self.result.design, "bootstrap"), self.result.weighted
        simulator = Simulator(require_rows(weighted.design, "bootstrap"), weighted.estimate)
        mean = expected(held, weighted.estimate)
        deviations = simulator.deviations(
            block.rng.standard_normal((block.size, simulator.n_draws))
        )

        def fit(i: int) -> tuple[Design, ScaledEstimate]:
            design = replace(held, y=mean + deviations[:, i])
            return design, re_estimated_scaled(self.result, design)

        return fit


@dataclass(frozen=True, eq=False)
class _Resampled:
    """Fits to resampled rows, which keep their strata."""

    result: FittedScaledModel
    cases: Cases

    def __call__(self, block: Block) -> Fit[ScaledEstimate]:
        uniform = block.rng.random((block.size, self.cases.n_draws))
        old = self.result.estimate.criterion

        def fit(i: int) -> tuple[Design, ScaledEstimate]:
            design, rows = self.cases.redrawn(uniform[i])
            scales = old.scales[rows]
            self._refuse_lost(scales.getnnz(axis=0))
            solver = old.base.equations
            criterion = scaled_criterion(design, scales, reml=old.reml, solver=lambda A: solver)
            self.cases.refuse_others(criterion.A.names)
            mc = self.result.options.mc_tolerance
            return design, estimate_scaled(criterion, near=self.result.estimate, mc_tolerance=mc)

        return fit

    def _refuse_lost(self, counts: np.ndarray) -> None:
        """Refuse a sample without the rows that tell of a parameter."""
        if (lost := np.flatnonzero(counts < 2)).size:
            name = self.result.ratios[int(lost[0])][0]
            raise InterlaceError(f"the sample has {counts[lost[0]]} rows that tell of {name}")
