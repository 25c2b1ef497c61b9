"""interlace with a family, from a pandas frame with categorical groups."""

from __future__ import annotations

from collections.abc import Callable

import interlace
from benchmarks.peers.common import Answer, pandas_frame, square
from benchmarks.storage import Stored


def prepare(stored: Stored, *, method: str) -> Callable[[], interlace.CrossedGLMMResult]:
    frame = pandas_frame(stored)

    def fit() -> interlace.CrossedGLMMResult:
        result = interlace.fit(
            stored.formula, frame, family=stored.family, trials=stored.trials or None
        )
        result.bse  # noqa: B018 - standard errors are part of what is timed
        return result

    return fit


def answer(result: interlace.CrossedGLMMResult) -> Answer:
    return Answer(
        criterion=-2.0 * float(result.llf),
        scale=0.0,
        covariances={k: square(v) for k, v in result.variance_components.items()},
        evaluations=int(result.convergence.n_evaluations),
        steps=int(result.estimate.n_steps),
    )
