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
    return Answer(
        criterion=float(result.deviance),
        scale=float(result.sigma) ** 2,
        covariances={
            key: in_order(square(components.get_cov(key)), list(variances))
            for key, variances in components.as_dict().items()
        },
        evaluations=int(result.function_evals),
    )


def in_order(covariance: list[list[float]], names: list[str]) -> list[list[float]]:
    """Main effects before interactions: ``a*b*c`` comes as a, b, a:b, c, ..."""
    order = sorted(range(len(names)), key=lambda i: names[i].count(":"))
    return [[covariance[i][j] for j in order] for i in order]
