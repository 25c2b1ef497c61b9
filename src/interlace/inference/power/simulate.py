"""Power by simulation: designs of all sizes, replicates in tasks, shares of significant tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from interlace.batch.fits import slices
from interlace.design.components import columns_beside
from interlace.design.design import Design, assemble, column_of
from interlace.design.formula import MixedFormula
from interlace.design.frame import Column, open_table, pick
from interlace.design.reads import Part, columns_of
from interlace.errors import InterlaceError, choose
from interlace.inference.power.asked import Asked, Test, tests_asked
from interlace.inference.power.sizes import Sizes, combinations, resized
from interlace.inference.power.study import BLOCK, Study
from interlace.inference.power.truth import Truth
from interlace.machine.parallel import in_order, n_workers
from interlace.machine.progress import counter
from interlace.model.confidence import check_level
from interlace.model.fitted import Labelled
from interlace.model.responses import stand_in
from interlace.model.simulate import Block, Seed, blocks, seed_sequence
from interlace.sums.terms import Floats

# Name of the column that stands in for the response.
RESPONSE = "interlace_response"
# Ways to test a simulated response.
TESTS = ("normal", "satterthwaite", "kenward-roger")


@dataclass(frozen=True)
class Plan:
    """How a power analysis is run."""

    n: int = 1000
    ddf: str = "satterthwaite"
    level: float = 0.95
    seed: Seed = None
    progress: bool | None = None
    n_jobs: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        if not isinstance(self.n, int | np.integer) or self.n < 1:
            raise InterlaceError(f"n must be a positive whole number, not {self.n!r}")
        object.__setattr__(self, "ddf", choose("ddf", self.ddf, TESTS, one_of=True))
        check_level(self.level)
        jobs = self.n_jobs
        if not isinstance(jobs, int | np.integer) or (jobs < 1 and jobs != -1):
            raise InterlaceError(f"n_jobs must be a positive integer or -1, not {jobs!r}")


@dataclass(frozen=True, eq=False)
class Template:
    """Columns from which designs of any size are made, and how the model reads them."""

    formula: MixedFormula
    columns: Mapping[str, Column]
    extra: Mapping[str, str | None]
    missing: str = "drop"
    context: Mapping[str, object] | None = None

    @property
    def factors(self) -> list[str]:
        """Grouping columns."""
        return list(dict.fromkeys(name for term in self.formula.random for name in term.group))

    def columns_of(self, sizes: Mapping[str, int]) -> dict[str, Column]:
        """Columns of a design of the given sizes; noise stands in for the response."""
        columns, _ = resized(self.columns, self.factors, sizes) if sizes else (self.columns, None)
        n = len(next(iter(columns.values())))
        return {**columns, RESPONSE: stand_in(n)}

    def design(self, sizes: Mapping[str, int]) -> Design:
        """The rows of a design of the given sizes."""
        return assemble(
            self.formula,
            self.columns_of(sizes),
            missing=self.missing,
            context=self.context,
            weights=self.extra["weights"],
            offset=self.extra["offset"],
        )


class AnyStudy(Protocol):
    """A design with its tests, and how replicates are made of it."""

    @property
    def tests(self) -> Sequence[Test]: ...
    @property
    def each(self) -> int:
        """Replicates of a task."""
        ...

    def p_values(self, blocks: Sequence[Block]) -> Floats:
        """Of some replicates ``(B, tests)``; nan where a fit failed."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """Some replicates of a study."""

    study: AnyStudy
    blocks: tuple[Block, ...]


def run(task: Task) -> Floats:
    """P-values ``(B, tests)`` of the replicates of a task; nan where a fit failed."""
    return task.study.p_values(task.blocks)


def tasks(study: AnyStudy, n: int, seed: np.random.SeedSequence) -> Iterator[Task]:
    """All replicates, in tasks."""
    found = list(blocks(seed, n))
    for piece in slices(len(found), max(1, study.each // BLOCK)):
        yield Task(study, tuple(found[piece]))


def template_of(
    result: Labelled[Any], beside: Sequence[str] = (), texts: Sequence[str] = ()
) -> Template:
    """Rows used by a fit, as columns.

    ``beside`` names arguments by row other than weights, ``texts`` are auxiliary formulas.
    """
    design, data = result.design, result.data
    if design is None or data is None:
        raise InterlaceError(
            "power simulates responses for the rows of the fit, and the result does not hold its "
            "data (it was unpickled, or fitted part by part): use interlace.power() with a design"
        )
    given = {name: getattr(result.options, name) for name in ("weights", "offset", *beside)}
    given |= columns_beside(texts, data)
    kept = np.flatnonzero(design.kept)
    found = _template(result.formula, data, given, design.encoding.context)
    columns = {name: column[kept] for name, column in found.columns.items()}
    return Template(found.formula, columns, found.extra, context=found.context)


def template_from(formula: MixedFormula, design: object, **given: object) -> Template:
    """Columns of a design that has no response yet, with arguments by row such as weights."""
    return _template(formula, design, given, None)


def _template(
    formula: MixedFormula,
    data: object,
    given: Mapping[str, object],
    context: Mapping[str, object] | None,
) -> Template:
    table = open_table(data)
    spec = MixedFormula(RESPONSE, formula.fixed, formula.random, formula.offset)
    parts: tuple[Part, ...] = ("fixed", "offset", "slopes", "groups")
    names = columns_of(spec, table, context, parts=parts, beside=given.values())
    columns = pick(table, names)
    extra: dict[str, str | None] = {}
    for argument, values in given.items():
        extra[argument] = values if isinstance(values, str) else None
        if values is not None and not isinstance(values, str):
            extra[argument] = f"interlace_{argument}"
            columns[f"interlace_{argument}"] = column_of(argument, values, table)  # type: ignore[arg-type]
    return Template(spec, columns, extra, context=context)


def simulated(
    template: Template, truth: Truth, asked: Asked, sizes: Sizes | None, plan: Plan, *, reml: bool
) -> pd.DataFrame:
    """Power of every test at every size; see :class:`interlace.results.planned.Power`."""
    if plan.ddf == "kenward-roger" and not reml:
        raise InterlaceError("ddf='kenward-roger' corrects fits by REML: use method='REML'")

    def study(one: Mapping[str, int]) -> Study:
        return _study(template, truth, asked, one, plan, reml)

    return tried(study, list(combinations(sizes, template.factors)), plan)


def tried(
    study_of: Callable[[Mapping[str, int]], AnyStudy],
    wanted: Sequence[Mapping[str, int]],
    plan: Plan,
) -> pd.DataFrame:
    """Power of every test at the sizes wanted."""
    studies = [study_of(one) for one in wanted]
    root = seed_sequence(plan.seed)
    seeds = [
        np.random.SeedSequence([*root.generate_state(4).tolist(), i]) for i in range(len(wanted))
    ]
    rows: list[dict[str, object]] = []
    with counter(plan.n * len(wanted), plan.progress, what="power", unit="fits") as advance:
        for one, study, seed in zip(wanted, studies, seeds, strict=True):
            p = np.concatenate(list(_p_values(study, plan, seed, advance)))
            rows += _rows(study, p, one, plan)
    return pd.DataFrame(rows)


def _study(
    template: Template, truth: Truth, asked: Asked, sizes: Mapping[str, int], plan: Plan, reml: bool
) -> Study:
    """The design of one size, with its tests."""
    design = template.design(sizes)
    study = Study(design, truth, (), plan.ddf, reml)
    names = study.shared.A.names
    return Study(design, truth, tests_asked(asked, design, names), plan.ddf, reml)


def _p_values(
    study: AnyStudy, plan: Plan, seed: np.random.SeedSequence, advance: Callable[[int], None]
) -> Iterator[Floats]:
    todo = list(tasks(study, plan.n, seed))
    for found in in_order(run, todo, n_workers(plan.n_jobs, len(todo))):
        advance(len(found))
        yield found


def _rows(
    study: AnyStudy, p: Floats, sizes: Mapping[str, int], plan: Plan
) -> Iterator[dict[str, object]]:
    """Shares of significant replicates with exact binomial intervals; failures count against."""
    for test, found in zip(study.tests, p.T, strict=True):
        hits, n = int((found < 1.0 - plan.level).sum()), len(found)
        lower, upper = binomial_interval(hits, n, plan.level)
        yield {
            "test": test.label,
            **sizes,
            "power": hits / n,
            "lower": lower,
            "upper": upper,
            "n": n,
            "n_failed": int(np.isnan(found).sum()),
        }


def binomial_interval(hits: int, n: int, level: float) -> tuple[float, float]:
    """Exact limits of a share (Clopper and Pearson, 1934, Biometrika 26, 404-413)."""
    tail = (1.0 - level) / 2.0
    lower = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    upper = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1.0 - tail))
    return lower, upper
