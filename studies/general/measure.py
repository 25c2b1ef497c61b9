"""What one simulated data set says: estimates, and which intervals missed the truth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

import interlace
from interlace import (
    ConvergenceWarning,
    CrossedGLMMResult,
    InterlaceError,
    SeparationWarning,
    SingularFitWarning,
)
from studies.general.designs import Design
from studies.measure import LEVEL, Cell, Miss, Part

FITS, PROFILES, BOOTSTRAPS, SMALL_GROUPS = PARTS = (
    "fits",
    "profiles",
    "bootstraps",
    "small groups",
)
NODES = 15
LAPLACE, QUADRATURE = "Laplace", f"{NODES} nodes"


@dataclass(frozen=True)
class Verdict:
    """One data set's: misses of intervals by cell, and estimates by cell.

    ``failed`` is the message of a model that could not be fitted.
    """

    misses: tuple[tuple[Cell, Miss], ...] = ()
    estimates: tuple[tuple[Cell, float], ...] = ()
    failed: str = ""


def judge(design: Design, part: Part, seed: np.random.SeedSequence) -> Verdict:
    """Simulate a data set of a design, fit it, and compare what a part asks for with the truth."""
    data_seed, boot_seed = seed.spawn(2)
    frame = design.response(data_seed)
    with warnings.catch_warnings():
        for counted in (SingularFitWarning, ConvergenceWarning, SeparationWarning):
            warnings.simplefilter("ignore", counted)
        try:
            if part.name == SMALL_GROUPS:
                return small_groups(design, frame)
            result = fitted(design, frame)
        except InterlaceError as error:
            return Verdict(failed=str(error))
        if part.name == FITS:
            return Verdict((*facts(result), *wald(design, result)), tuple(estimates(result)))
        if part.name == PROFILES:
            return Verdict(tuple(profile(design, result)))
        number = int(boot_seed.generate_state(1)[0])
        return Verdict(tuple(bootstrap(design, result, number, part.replicates)))


def fitted(design: Design, frame: pd.DataFrame, nodes: int = 1) -> CrossedGLMMResult:
    """The model fitted to a data set."""
    trials = "size" if design.family == "binomial" else None
    return interlace.fit(
        design.formula, frame, family=design.family, trials=trials, quadrature=nodes
    )


def facts(result: CrossedGLMMResult) -> Iterator[tuple[Cell, Miss]]:
    """What happened to the fit."""
    yield Cell("fact", "singular", ""), Miss(False, result.is_singular)
    yield Cell("fact", "not converged", ""), Miss(False, not result.converged)
    yield Cell("fact", "separated", ""), Miss(False, bool(result.separated))


def wald(
    design: Design, result: CrossedGLMMResult, method: str = "wald"
) -> Iterator[tuple[Cell, Miss]]:
    """Normal intervals of the coefficients."""
    yield from missed(design, result.conf_int(LEVEL), method)


def profile(
    design: Design, result: CrossedGLMMResult, method: str = "profile", parm: str | None = None
) -> Iterator[tuple[Cell, Miss]]:
    """Profile intervals, of all that is judged or of one parameter."""
    names = list(design.truth) if parm is None else [parm]
    yield from missed(design, result.conf_int(LEVEL, method="profile", parm=names), method)


def bootstrap(
    design: Design, result: CrossedGLMMResult, seed: int, replicates: int
) -> Iterator[tuple[Cell, Miss]]:
    """Intervals from a parametric bootstrap, of two kinds."""
    found = result.bootstrap(replicates, seed=seed)
    for method in ("percentile", "basic"):
        yield from missed(design, found.conf_int(LEVEL, method), method)
    yield Cell("fact", "replicates failed", ""), Miss(False, found.n_failed > 0)


def estimates(result: CrossedGLMMResult, method: str = LAPLACE) -> Iterator[tuple[Cell, float]]:
    """Coefficients and standard deviations."""
    for name, value in result.fe_params.items():
        yield Cell("estimate", str(name), method), float(value)
    table = result.tidy(effects="ran_pars")
    for row in table[table["term"].str.startswith("sd__")].itertuples():
        name = f"sd_{row.term.removeprefix('sd__')}|{row.group}"
        yield Cell("estimate", name, method), float(row.estimate)


def small_groups(design: Design, frame: pd.DataFrame) -> Verdict:
    """Laplace's approximation beside quadrature."""
    misses: list[tuple[Cell, Miss]] = []
    found: list[tuple[Cell, float]] = []
    for method, nodes in ((LAPLACE, 1), (QUADRATURE, NODES)):
        result = fitted(design, frame, nodes)
        misses += [*wald(design, result, method)]
        misses += [*profile(design, result, method, parm="sd_Intercept|g")]
        found += [*estimates(result, method)]
    return Verdict(tuple(misses), tuple(found))


def missed(design: Design, limits: pd.DataFrame, method: str) -> Iterator[tuple[Cell, Miss]]:
    """Where the truth of each target lies; a limit that is not there leaves that side open."""
    rows: Iterable[tuple[str, float, float]] = limits.itertuples(name=None)
    for name, lower, upper in rows:
        if name in design.truth:
            truth = design.truth[name]
            lower = -math.inf if math.isnan(lower) else lower
            upper = math.inf if math.isnan(upper) else upper
            yield Cell("interval", name, method), Miss(truth < lower, truth > upper)
