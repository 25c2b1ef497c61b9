"""Coefficients of the auxiliary predictors: thresholds, shares of zeros, dispersion models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from interlace.estimation.parameters import selected
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.intervals import wald_intervals
from interlace.inference.latent import Given
from interlace.inference.tables import two_sided
from interlace.inference.wald import Reference
from interlace.model.confidence import normal_reach, tails
from interlace.sums.terms import Floats


def component_table(estimate: GeneralEstimate, level: float = 0.95) -> pd.DataFrame:
    """Coefficients that are reported as they are, by component and term; see the method of it."""
    parts = estimate.problem.parts
    some = [i for i, scale in enumerate(parts.scale) if not scale]
    value = estimate.family_coefficients[some]
    se = np.sqrt(np.diag(estimate.family_covariance)[some])
    half = normal_reach(level) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        z = value / se
    pairs = [_labels(parts.predictor[i], parts.term[i]) for i in some]
    names = ["component", "term"]
    table = {
        "estimate": value,
        "se": se,
        "statistic": z,
        "p": two_sided(z, np.full_like(z, np.inf)),
        "lower": value - half,
        "upper": value + half,
    }
    return pd.DataFrame(table, index=pd.MultiIndex.from_tuples(pairs, names=names))


def _labels(predictor: str, term: str) -> tuple[str, str]:
    """The component and the term of a coefficient; thresholds are named by their categories."""
    component, _, label = predictor.partition(":")
    return component, label or term


def names_of_all(estimate: GeneralEstimate) -> list[str]:
    """Names of the fixed effects and of the auxiliary coefficients."""
    return [*estimate.A.names, *estimate.problem.parts.names]


def of_all(estimate: GeneralEstimate) -> Given:
    """Fixed effects and auxiliary coefficients, as a reference for them together.

    Those of dispersions, sizes and the like that are the same in all rows are logarithms.
    """
    joint = np.concatenate((estimate.beta, estimate.family_coefficients))
    return Given(joint, estimate.joint_covariance)


def reads_auxiliary(hypothesis: object, estimate: GeneralEstimate) -> bool:
    """Whether text or weights by name of a hypothesis have an auxiliary coefficient."""
    own = estimate.problem.parts.names
    if isinstance(hypothesis, str):
        return any(name in hypothesis for name in own)
    if isinstance(hypothesis, Mapping):
        return any(name in hypothesis for name in own)
    if isinstance(hypothesis, list | tuple):
        return any(
            reads_auxiliary(one, estimate) for one in hypothesis if isinstance(one, str | Mapping)
        )
    return False


def wald_limits(
    estimate: GeneralEstimate,
    reference: Reference,
    level: float,
    parm: str | Sequence[str] | None,
) -> pd.DataFrame:
    """Wald limits of fixed effects, and of auxiliary coefficients that are named.

    Limits of a positive number are symmetric on its logarithm.
    """
    if parm is None:
        return wald_intervals(estimate, reference, level, None)
    names, p = names_of_all(estimate), estimate.A.p
    wanted = list(selected(names, parm, p))
    fixed = [name for name in wanted if name in names[:p]]
    table = wald_intervals(estimate, reference, level, fixed)
    own = [i for i, name in enumerate(names[p:]) if name in wanted]
    parts, value = estimate.problem.parts, estimate.family_coefficients
    half = normal_reach(level) * np.sqrt(np.diag(estimate.family_covariance))
    limits: list[Floats] = [parts.reported(value + side * half)[own] for side in (-1.0, 1.0)]
    rest = pd.DataFrame(
        np.stack(limits, axis=1), index=[names[p + i] for i in own], columns=tails(level)
    )
    return pd.concat((table, rest))
