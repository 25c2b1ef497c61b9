"""What one simulated data set says: which intervals missed the truth, which tests rejected it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

import interlace
from interlace import ConvergenceWarning, CrossedLMEResult, SingularFitWarning
from studies.designs import Design

LEVEL = 0.95
NOMINAL_MISS = 0.05
WALD = ("normal", "satterthwaite", "kenward-roger")
# Names in the tables, with the arguments ``kind`` and ``group`` of ``bootstrap``.
BOOTSTRAPS: Mapping[str, tuple[str, str | None]] = {
    "parametric": ("parametric", None),
    "residual": ("residual", None),
    "wild": ("wild", None),
    "cases": ("cases", None),
    "cases, all": ("cases", "all"),
}


@dataclass(frozen=True)
class Cell:
    """What is counted.

    ``measure`` is ``"interval"`` (of ``target`` by ``method``), ``"test"`` (of ``target`` by
    ``method``), or ``"fact"`` (something that happened to the fit, named by ``target``).
    """

    measure: str
    target: str
    method: str


@dataclass(frozen=True)
class Miss:
    """One data set's verdict: the truth lay below, or above, the interval.

    For a test ``above`` says that it rejected, for a fact that it happened.
    """

    below: bool
    above: bool


@dataclass(frozen=True)
class Part:
    """A part of the study: the first ``datasets`` of each design, bootstrapped so many times."""

    name: str
    datasets: int
    replicates: int = 0


FITS, PROFILES, NEW_RESPONSES, CASES = PARTS = ("fits", "profiles", "new responses", "cases")

Verdicts = Iterable[tuple[Cell, Miss]]


def judge(design: Design, part: Part, seed: np.random.SeedSequence) -> dict[Cell, Miss]:
    """Simulate a data set of a design, fit it, and compare the intervals of a part with the truth.

    ``seed`` belongs to the data set alone: who computes it, when, and for which part, changes
    nothing.
    """
    data_seed, *boot_seeds = seed.spawn(1 + len(BOOTSTRAPS))
    frame = design.response(data_seed)
    with warnings.catch_warnings():
        for counted in (SingularFitWarning, ConvergenceWarning):  # by facts() and bootstrap()
            warnings.simplefilter("ignore", counted)
        result = interlace.fit(design.formula, frame)
        if part.name == FITS:
            tests = likelihood_ratio(design, result, frame)
            return dict([*facts(result), *wald(design, result), *tests])
        if part.name == PROFILES:
            return dict(profile(design, result))
        verdicts: list[tuple[Cell, Miss]] = []
        for method, boot_seed in zip(BOOTSTRAPS, boot_seeds, strict=True):
            if method in bootstraps(design, part.name):
                number = int(boot_seed.generate_state(1)[0])
                verdicts += bootstrap(design, result, method, number, part.replicates)
        return dict(verdicts)


def facts(result: CrossedLMEResult) -> Verdicts:
    yield Cell("fact", "singular", ""), Miss(False, result.is_singular)
    yield Cell("fact", "not converged", ""), Miss(False, not result.converged)


def wald(design: Design, result: CrossedLMEResult) -> Verdicts:
    """Intervals and t tests of the coefficients, and their joint test, by each reference."""
    for ddf in WALD:
        table = result.coef_table(ddf, LEVEL)
        limits = zip(table.index, table["lower"], table["upper"], strict=True)
        yield from missed(design, limits, ddf)
        for name, target in design.coefficients.items():
            if target.truth == 0.0:
                yield Cell("test", name, ddf), rejected(table.loc[name, "p"])
        yield Cell("test", "joint", ddf), rejected(joint(design, result, ddf))


def joint(design: Design, result: CrossedLMEResult, ddf: str) -> float:
    """p-value of the joint hypothesis: a row of the anova table if it is one."""
    if design.term is not None:
        return float(result.anova(type=3, ddf=ddf)["p"][design.term])
    return float(result.wald_test(list(design.joint), ddf=ddf).p_value)


def likelihood_ratio(design: Design, result: CrossedLMEResult, frame: pd.DataFrame) -> Verdicts:
    """The joint hypothesis once more, by the ML likelihood ratio and chi-squared quantiles."""
    null = interlace.fit(design.null, frame)
    yield (
        Cell("test", "joint", "likelihood ratio"),
        rejected(interlace.anova(null, result)["p"].iloc[-1]),
    )


def profile(design: Design, result: CrossedLMEResult) -> Verdicts:
    table = result.conf_int(LEVEL, method="profile", parm=list(design.targets))
    yield from missed(design, table.itertuples(name=None), "profile")


def bootstraps(design: Design, *parts: str) -> list[str]:
    """Those tried in some parts: all factors are drawn apart only where they are crossed."""
    return [
        name
        for name, (kind, group) in BOOTSTRAPS.items()
        if (CASES if kind == CASES else NEW_RESPONSES) in parts
        and (group is None or not design.nested)
    ]


def bootstrap(
    design: Design,
    result: CrossedLMEResult,
    method: str,
    seed: int,
    replicates: int,
) -> Verdicts:
    """Percentile intervals from one kind of bootstrap."""
    kind, group = BOOTSTRAPS[method]
    found = result.bootstrap(replicates, kind, seed=seed, group=group)
    yield from missed(design, found.conf_int(LEVEL).itertuples(name=None), method)
    yield Cell("fact", "replicates failed", method), Miss(False, found.n_failed > 0)


def missed(design: Design, limits: Iterable[tuple[str, float, float]], method: str) -> Verdicts:
    """Where the truth of each target lies, given rows ``(name, lower, upper)``."""
    for name, lower, upper in limits:
        if name in design.targets:
            truth = design.targets[name].truth
            if np.isnan(lower) or np.isnan(upper):
                raise ValueError(f"{design.name}: the {method} interval of {name} has no limits")
            yield Cell("interval", name, method), Miss(bool(truth < lower), bool(truth > upper))


def rejected(p: float) -> Miss:
    if np.isnan(p):
        raise ValueError("a test without a p-value")
    return Miss(False, bool(p < NOMINAL_MISS))
