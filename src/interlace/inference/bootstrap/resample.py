"""The bootstrap of a fitted model: parametric, residual, wild, and of cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar, get_args

import numpy as np
import pandas as pd

from interlace.batch.fits import Refits, fit_stacked, worth_a_batch
from interlace.batch.refits import Refitter, side_by_side, weighted_columns
from interlace.choices import BootstrapKind
from interlace.design.design import Design
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.estimation.parameters import (
    powers_of_parameters,
    variance_parameter_names,
    variance_parameters,
)
from interlace.inference.bootstrap.cases import Cases, cases, groups_of
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.inference.bootstrap.running import Chunk, Fit, OneByOne, Statistic, check, replicated
from interlace.inference.bootstrap.samplers import Parametric, Residual, reflated, wild
from interlace.model.fitted import FittedModel, tame
from interlace.model.simulate import (
    Block,
    Seed,
    Simulator,
    expected,
)
from interlace.sums.sizes import in_units
from interlace.sums.terms import Floats

KINDS: tuple[BootstrapKind, ...] = get_args(BootstrapKind)
M = TypeVar("M", bound=FittedModel)

# Blocks of replicates that one task takes: many for a batch, one where replicates take long.
_TASK, _CASES_TASK = 16, 4
# Tasks of a batch of responses that are worth a process.
_TASKS_EACH = 4


def bootstrap(
    result: M,
    n: int,
    kind: str = "parametric",
    *,
    seed: Seed = None,
    statistic: Callable[[M], object] | None = None,
    group: str | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> BootstrapResult:
    """Bootstrap of a fitted model: every replicate is fitted anew.

    Parameters
    ----------
    result
        The fit.
    n
        Replicates, at least 2.
    kind
        ``"parametric"``: responses simulated from the fit.
        ``"residual"``: its random effects and residuals, centred and rescaled to the estimated
        covariances, drawn with replacement, the levels of each term apart.
        ``"wild"``: residuals from ``X beta`` times random multipliers, one for each level of the
        factor in which all others are nested; where factors are crossed and there is none, the
        rescaled effects times one multiplier for each level, and residuals times one for each row.
        ``"cases"``: levels of a grouping factor drawn with replacement together with their rows.
    seed
        An integer, generator, seed sequence or ``None``.  Replicates depend on it and on their
        number alone, whatever ``n`` and ``n_jobs``.
    statistic
        A function of a :class:`~interlace.CrossedLMEResult`, which returns a number, an array or a
        Series.  Each replicate is then fitted on its own, some hundred times slower than the batch
        that is used for ``None``: the fixed effects, standard deviations and correlations of random
        effects, and ``sigma``.
    group
        What ``"cases"`` draws: a grouping factor (by default the first of the formula),
        ``"observation"`` for rows, or ``"all"`` for every factor independently (the pigeonhole
        bootstrap, Owen 2007).  A level drawn twice counts as two, and so do those nested in it;
        other factors keep their levels, so that in a crossed model nothing is learned of effects
        that vary between those; with a dozen groups or fewer the intervals are too narrow (the
        simulation study in the documentation has figures).
    n_jobs
        Processes; -1 for as many as there are cores.  Starting them takes a second or two, once.
    progress
        ``True`` shows a bar, ``False`` never does, ``None`` does when it takes long and standard
        error is a terminal.

    Returns
    -------
    BootstrapResult

    Raises
    ------
    InterlaceError
        An argument is out of range, or the model was fitted without holding its rows.

    Warns
    -----
    ConvergenceWarning
        Replicates failed; ``failures`` says why, and they are left out.

    Notes
    -----
    Parametric and residual: Carpenter, Goldstein and Rasbash (2003, Journal of the Royal
    Statistical Society C 52, 431-443).  Wild: Modugno and Giannerini (2015, Communications in
    Statistics - Theory and Methods 44, 4812-4825) with Mammen's two-point multipliers; residuals
    of a cluster are multiplied by the inverse root of ``I - H`` (HC2 for clusters).  Cases: Van der
    Leeden, Meijer and Busing (2008, in Handbook of Multilevel Analysis); pigeonhole: Owen (2007,
    Annals of Applied Statistics 1, 386-411).

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> found = bootstrap(result, 200, seed=1)
    >>> list(found.replicates.columns[:3])
    ['Intercept', 'Days', 'sd_Intercept|Subject']
    >>> bool(found.conf_int().loc["Days", 0.025] < 10.47 < found.conf_int().loc["Days", 0.975])
    True
    """
    design = require_rows(result.design, "bootstrap")
    result.estimate.require_sums("bootstrap() needs")
    check(n, kind, statistic, group, n_jobs)
    if result.estimate.units is not None and statistic is None:
        found = bootstrap(
            tame(result), n, kind, seed=seed, group=group, n_jobs=n_jobs, progress=progress
        )
        return _in_units(found, result.estimate)
    result.estimate.require_near("bootstrap() of a statistic")
    reader = _Parameters(result) if statistic is None else Statistic(result, statistic)
    original = pd.Series(reader.estimate, index=reader.names, name="estimate")
    run = _runner(result, design, kind, group, reader)
    return replicated(run, original, kind, n, seed=seed, n_jobs=n_jobs, progress=progress)


def _in_units(found: BootstrapResult, estimate: Estimate) -> BootstrapResult:
    """Replicates of parameters that were found in other units."""
    powers = np.array(list(powers_of_parameters(estimate).values()))
    values = in_units(found.replicates, powers, "a replicate of a parameter")
    replicates = pd.DataFrame(
        values, index=found.replicates.index, columns=found.replicates.columns
    )
    original = found.estimate.copy()
    original[:] = in_units(found.estimate, powers, "a parameter")
    return replace(found, replicates=replicates, estimate=original)


# ------------------------------------------------------------------ what is read off a replicate


@dataclass(frozen=True, eq=False)
class _Parameters:
    """Fixed effects, standard deviations and correlations, and ``sigma``."""

    result: FittedModel

    @property
    def names(self) -> list[str]:
        A = self.result.estimate.A
        return [*A.names, *variance_parameter_names(A.terms)]

    @cached_property
    def estimate(self) -> Floats:
        """Values of the fit itself."""
        return self.read(require_rows(self.result.design, "bootstrap"), self.result.estimate)

    def read(self, design: Design, estimate: Estimate) -> Floats:
        """Values of one replicate."""
        sigma = np.array(estimate.sigma)
        return np.concatenate(
            (estimate.beta, variance_parameters(estimate.A.terms, estimate.user_templates, sigma))
        )

    def table(self, fits: Refits) -> Floats:
        """Values of many replicates."""
        terms = self.result.estimate.A.terms
        return np.concatenate(
            (fits.beta, variance_parameters(terms, fits.templates, fits.sigma)), axis=1
        )


# ------------------------------------------------------------------ replicates


class _Sampler(Protocol):
    """Draws deviations ``(n, count)`` from ``X beta + offset``."""

    def deviations(self, rng: np.random.Generator, count: int) -> Floats: ...


@dataclass(frozen=True, eq=False)
class _Together:
    """New responses, fitted as a batch."""

    refitter: Refitter
    sampler: _Sampler
    reader: _Parameters
    blocks_each = _TASK
    tasks_each = _TASKS_EACH

    def __call__(self, task: Sequence[Block]) -> Chunk:
        products = self.refitter.rows.responses
        drawn = [products(self.sampler.deviations(block.rng, block.size)) for block in task]
        fits = self.refitter.refit(side_by_side(drawn))
        return Chunk(task[0].columns.start, self.reader.table(fits), fits.singular, fits.errors)


@dataclass(frozen=True, eq=False)
class _CasesTogether:
    """Resampled rows, fitted as a batch."""

    cases: Cases
    refitter: Refitter
    reader: _Parameters
    blocks_each = _CASES_TASK
    tasks_each = 1

    def __call__(self, task: Sequence[Block]) -> Chunk:
        uniform = np.concatenate([b.rng.random((b.size, self.cases.n_draws)) for b in task])
        values = np.full((len(uniform), len(self.reader.names)), np.nan)
        singular = np.zeros(len(uniform), dtype=bool)
        errors: dict[int, str] = {}
        criteria: dict[int, Criterion] = {}
        for i in range(len(uniform)):
            try:
                A = self.cases.sample(uniform[i])[1]
                criteria[i] = self.refitter.estimate.criterion.on(A)
            except InterlaceError as error:
                errors[i] = str(error)
        if criteria:
            theta0 = self.refitter.estimate.criterion.theta(self.refitter.start)
            fits = fit_stacked(list(criteria.values()), theta0)
            where = np.array(list(criteria))
            values[where], singular[where] = self.reader.table(fits), fits.singular
            errors |= {int(where[i]): why for i, why in fits.errors.items()}
        return Chunk(task[0].columns.start, values, singular, errors)


def _runner(
    result: M,
    design: Design,
    kind: str,
    group: str | None,
    reader: _Parameters | Statistic[M],
) -> _Together | _CasesTogether | OneByOne[Estimate]:
    """How the replicates of a kind are made."""
    estimate = result.estimate
    groups = groups_of(result.formula, design)
    rows = weighted_columns(design, estimate.A)
    refitter = Refitter(estimate, rows, result.options.mc_tolerance)
    if kind == "cases":
        drawer = cases(design, estimate.A.names, groups, group)
        if isinstance(reader, _Parameters) and worth_a_batch(estimate.A, own_rows=True):
            return _CasesTogether(drawer, refitter, reader)
        return OneByOne(_CaseFits(drawer, refitter), reader)
    sampler: _Sampler
    if kind == "parametric":
        sampler = Parametric(Simulator(design, estimate))
    elif kind == "residual":
        sampler = Residual(design, reflated(design, estimate))
    else:
        sampler = wild(design, estimate, refitter.rows, groups)
    if refitter.batched and isinstance(reader, _Parameters):
        return _Together(refitter, sampler, reader)
    return OneByOne(_ResponseFits(design, refitter, sampler), reader)


@dataclass(frozen=True, eq=False)
class _ResponseFits:
    """Fits to new responses for the same rows."""

    design: Design
    refitter: Refitter
    sampler: _Sampler

    def __call__(self, block: Block) -> Fit[Estimate]:
        design, refitter = self.design, self.refitter
        mean = expected(design, refitter.estimate)
        deviations = self.sampler.deviations(block.rng, block.size)
        responses = refitter.rows.responses(deviations)

        def fit(i: int) -> tuple[Design, Estimate]:
            return replace(design, y=mean + deviations[:, i]), refitter.single(responses, i)

        return fit


@dataclass(frozen=True, eq=False)
class _CaseFits:
    """Fits to resampled rows."""

    cases: Cases
    refitter: Refitter

    def __call__(self, block: Block) -> Fit[Estimate]:
        criterion = self.refitter.estimate.criterion
        theta0 = criterion.theta(self.refitter.start)
        uniform = block.rng.random((block.size, self.cases.n_draws))

        def fit(i: int) -> tuple[Design, Estimate]:
            design, A = self.cases.sample(uniform[i])
            return design, estimate_theta(
                criterion.on(A), theta0=theta0, mc_tolerance=self.refitter.mc_tolerance
            )

        return fit
