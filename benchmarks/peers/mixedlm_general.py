"""mixedlm: ``glmer`` with its default settings, from a pandas frame with categorical groups."""

from __future__ import annotations

from collections.abc import Callable

import mixedlm
from mixedlm import families

from benchmarks.peers.common import Answer, pandas_frame, square
from benchmarks.storage import Stored


def prepare(stored: Stored, *, method: str) -> Callable[[], mixedlm.GlmerMod]:
    frame = pandas_frame(stored)
    family = {"binomial": families.Binomial, "poisson": families.Poisson}[stored.family]()
    formula, weights = stored.formula, None
    if stored.trials:
        frame["share"] = frame[stored.response] / frame[stored.trials]
        formula = formula.replace(f"{stored.response} ~", "share ~")
        weights = stored.trials
    return lambda: mixedlm.glmer(formula, frame, family=family, weights=weights)


def answer(result: mixedlm.GlmerMod) -> Answer:
    value = result.logLik()
    components = result.VarCorr()
    return Answer(
        criterion=-2.0 * float(getattr(value, "value", value)),
        scale=0.0,
        covariances={key: square(components.get_cov(key)) for key in components.as_dict()},
        evaluations=getattr(result, "function_evals", None),
    )
