"""The parametric bootstrap of a model with a residual structure."""

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
from interlace.estimation.residual import StructuredEstimate
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.inference.bootstrap.running import Fit, OneByOne, Statistic, check, replicated
from interlace.inference.profiles.numbers import covariance_names
from interlace.model.simulate import Block, Seed
from interlace.model.structured import FittedStructuredModel
from interlace.model.subjects import Draws, re_estimated
from interlace.sums.terms import Floats

M = TypeVar("M", bound=FittedStructuredModel)


def bootstrap_structured(
    result: M,
    n: int,
    kind: str = "parametric",
    *,
    seed: Seed = None,
    statistic: Callable[[M], object] | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> BootstrapResult:
    """Responses simulated from the fit, each fitted with the same structure.

    Raises
    ------
    InterlaceError
        Another kind, or an argument out of range.
    """
    require_rows(result.design, "bootstrap")
    check(n, kind, statistic, None, n_jobs)
    if kind != "parametric":
        raise InterlaceError(
            f"kind={kind!r} is for models without residual=: draws from its residuals or subjects "
            "would not follow a structure; use kind='parametric', or robust='CR2' in the tables"
        )
    reader = StructuredParameters(result) if statistic is None else Statistic(result, statistic)
    original = pd.Series(reader.estimate, index=reader.names, name="estimate")
    run = OneByOne(_Fits(result), reader)
    return replicated(run, original, kind, n, seed=seed, n_jobs=n_jobs, progress=progress)


@dataclass(frozen=True, eq=False)
class StructuredParameters:
    """Fixed effects, parameters of the random effects, and those of the residual structure."""

    result: FittedStructuredModel

    @property
    def names(self) -> list[str]:
        return [*self.result.estimate.A.names, *covariance_names(self.result)]

    @cached_property
    def estimate(self) -> Floats:
        """Values of the fit itself."""
        return self.read(require_rows(self.result.design, "bootstrap"), self.result.estimate)

    def read(self, design: Design, estimate: StructuredEstimate) -> Floats:
        """Values of one replicate."""
        return np.concatenate(
            (estimate.beta, random_parameters(estimate), residual_values(estimate))
        )


def random_parameters(estimate: StructuredEstimate) -> Floats:
    """Standard deviations and correlations of the random effects."""
    templates = estimate.user_templates
    return variance_parameters(estimate.A.terms, templates, np.array(1.0))[:-1]


def residual_values(estimate: StructuredEstimate) -> Floats:
    """Parameters of the residual structure."""
    return estimate.criterion.stack.reported(estimate.x, estimate.unit)[0]


@dataclass(frozen=True, eq=False)
class _Fits:
    """Fits to responses drawn from the fit."""

    result: FittedStructuredModel

    def __call__(self, block: Block) -> Fit[StructuredEstimate]:
        rng, draws = block.rng, Draws.of(self.result)
        drawn: list[Floats] = []

        def fit(i: int) -> tuple[Design, StructuredEstimate]:
            while len(drawn) <= i:
                drawn.append(draws.one(rng))
            held = require_rows(self.result.design, "bootstrap")
            design = replace(held, y=drawn[i])
            return design, re_estimated(self.result, design)

        return fit
