"""mixedlm-rs: one grouping factor, from a pandas frame with integer groups, its fastest kind."""

from __future__ import annotations

from collections.abc import Callable

import mixedlm_rs

from benchmarks.peers.common import Answer, pandas_frame, single_group, square
from benchmarks.storage import Stored

Fitted = tuple[str, mixedlm_rs.MixedLMResults]


def prepare(stored: Stored, *, method: str) -> Callable[[], Fitted]:
    group = single_group(stored, "mixedlm-rs")
    frame = pandas_frame(stored, codes=(group,))
    fixed = f"{stored.response} ~ {stored.fixed}"
    random = f"~ {stored.terms[0].expr}"

    def fit() -> Fitted:
        model = mixedlm_rs.mixedlm(fixed, frame, groups=group, re_formula=random)
        return group, model.fit(reml=method == "REML")

    return fit


def answer(result: Fitted) -> Answer:
    group, fitted = result
    return Answer(
        criterion=-2.0 * float(fitted.llf),
        scale=float(fitted.scale),
        covariances={group: square(fitted.cov_re)},
        evaluations=int(fitted.diagnostics["n_objective_evaluations"]),
    )
