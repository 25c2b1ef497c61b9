"""The parametric bootstrap of a generalised model."""

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
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.inference.bootstrap.running import Fit, OneByOne, Statistic, check, replicated
from interlace.model.drawn import draw_one
from interlace.model.generalised import FittedGeneralModel, re_estimated
from interlace.model.simulate import Block, Seed
from interlace.sums.terms import Floats

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
    """Responses simulated from the fit, each fitted from the fit's optimum.

    Raises
    ------
    InterlaceError
        Another kind, or an argument out of range.
    """
    require_rows(result.design, "bootstrap")
    check(n, kind, statistic, group, n_jobs)
    if kind != "parametric":
        raise InterlaceError(
            f"kind={kind!r} is for linear models: a generalised model has no residuals to draw "
            f"from; use kind='parametric'"
        )
    reader = GeneralParameters(result) if statistic is None else Statistic(result, statistic)
    original = pd.Series(reader.estimate, index=reader.names, name="estimate")
    run = OneByOne(_Fits(result), reader)
    return replicated(run, original, kind, n, seed=seed, n_jobs=n_jobs, progress=progress)


@dataclass(frozen=True, eq=False)
class GeneralParameters:
    """Fixed effects, standard deviations and correlations, and the auxiliary parameter."""

    result: FittedGeneralModel

    @property
    def names(self) -> list[str]:
        A, family = self.result.estimate.A, self.result.family
        own = [family.auxiliary] if family.auxiliary else []
        return [*A.names, *variance_parameter_names(A.terms)[:-1], *own]

    @cached_property
    def estimate(self) -> Floats:
        """Values of the fit itself."""
        return self.read(require_rows(self.result.design, "bootstrap"), self.result.estimate)

    def read(self, design: Design, estimate: GeneralEstimate) -> Floats:
        """Values of one replicate."""
        one = np.array(1.0)
        sizes = variance_parameters(estimate.A.terms, estimate.user_templates, one)[:-1]
        return np.concatenate((estimate.beta, sizes, np.exp(estimate.gamma)))


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
