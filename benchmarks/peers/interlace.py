"""interlace, from a pandas frame with categorical groups."""

from __future__ import annotations

from collections.abc import Callable

import interlace
from benchmarks.peers.common import Answer, pandas_frame, square
from benchmarks.storage import Stored


def prepare(stored: Stored, *, method: str) -> Callable[[], interlace.CrossedLMEResult]:
    frame = pandas_frame(stored)
    return lambda: interlace.fit(stored.formula, frame, method=method)


def answer(result: interlace.CrossedLMEResult) -> Answer:
    return Answer(
        criterion=float(result.criterion),
        scale=float(result.scale),
        covariances={k: square(v) for k, v in result.variance_components.items()},
        evaluations=int(result.convergence.n_evaluations),
    )
