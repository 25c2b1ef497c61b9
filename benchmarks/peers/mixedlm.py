"""mixedlm: ``lmer`` with its default settings, from a pandas frame with categorical groups."""

from __future__ import annotations

from collections.abc import Callable

import mixedlm

from benchmarks.peers.common import Answer, pandas_frame, square
from benchmarks.storage import Stored


def prepare(stored: Stored, *, method: str) -> Callable[[], mixedlm.LmerResult]:
    frame = pandas_frame(stored)
    return lambda: mixedlm.lmer(stored.formula, frame, REML=method == "REML")


def answer(result: mixedlm.LmerResult) -> Answer:
    components = result.VarCorr()
    keys = components.as_dict()
    return Answer(
        criterion=float(result.deviance),
        scale=float(result.sigma) ** 2,
        covariances={k: square(components.get_cov(k)) for k in keys},
        evaluations=int(result.function_evals),
    )
