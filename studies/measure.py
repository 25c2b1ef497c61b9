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
class Effort:
    """How many data sets are fitted, and how many of these are profiled and bootstrapped.

    Cases bootstraps, which build a new design for every replicate, have figures of their own.
    """

    datasets: int
    profiled: int
    bootstrapped: int
    replicates: int
    cases_bootstrapped: int
    cases_replicates: int

    def of(self, method: str) -> tuple[int, int]:
        """Data sets and replicates of a bootstrap."""
        if BOOTSTRAPS[method][0] == "cases":
            return self.cases_bootstrapped, self.cases_replicates
        return self.bootstrapped, self.replicates


Verdicts = Iterable[tuple[Cell, Miss]]


def judge(
    design: Design, index: int, seed: np.random.SeedSequence, effort: Effort
) -> dict[Cell, Miss]:
    """Simulate data set ``index`` of a design, fit it, and compare every interval with the truth.

    ``seed`` belongs to the data set alone: who computes it, and when, changes nothing.
    """
    data_seed, *boot_seeds = seed.spawn(1 + len(BOOTSTRAPS))
    frame = design.response(data_seed)
    with warnings.catch_warnings():
        for counted in (SingularFitWarning, ConvergenceWarning):  # by facts() and bootstrap()
            warnings.simplefilter("ignore", counted)
        result = interlace.fit(design.formula, frame)
        verdicts = [*facts(result), *wald(design, result), *likelihood_ratio(design, result, frame)]
        if index < effort.profiled:
            verdicts += profile(design, result)
        for method, boot_seed in zip(BOOTSTRAPS, boot_seeds, strict=True):
            datasets, replicates = effort.of(method)
            if index < datasets and method in bootstraps(design):
                number = int(boot_seed.generate_state(1)[0])
                verdicts += bootstrap(design, result, method, number, replicates)
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


def bootstraps(design: Design) -> list[str]:
    """Those that are tried: all factors are drawn apart only where they are crossed."""
    return [name for name in BOOTSTRAPS if name != "cases, all" or not design.nested]


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
