"""The page: what was simulated, tables of rates, and what they show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from studies.designs import DESIGNS, Design
from studies.findings import findings
from studies.measure import (
    CASES,
    FITS,
    NEW_RESPONSES,
    NOMINAL_MISS,
    PROFILES,
    WALD,
    Cell,
    bootstraps,
)
from studies.tally import Count, Study, percent, standard_error
from studies.theory import promise

TESTS = (*WALD, "likelihood ratio")

INTRODUCTION = """\
# Do the intervals cover, do the tests keep their size?

A 95 % interval should contain the true value in 95 of 100 studies, and a 5 % test of a true
hypothesis should reject in 5 of 100. Both can be tried: draw data from a model whose truth is
known, fit it, look whether the interval contains the truth, and repeat. That is done here for every
kind of interval and test that interlace offers, in three designs that are small on purpose: with
hundreds of groups all methods agree, with ten they do not.

`python -m studies.coverage` repeats the study (the seeds are fixed, the counts do not depend on the
number of processes); this page and all numbers in it are written by that command.
"""

READING = """\
## How to read the tables

- **Coverage**: percentage of data sets whose 95 % interval contains the truth. For standard
  deviations two more numbers in parentheses: percentage of data sets in which the whole interval
  lay below the truth, and above it.
- **Size**: percentage of data sets in which a 5 % test rejected a hypothesis that is true.
- **s.e.**: the Monte-Carlo standard error, in points, if the nominal rate were the true one. Two in
  three numbers would lie within one of it. Numbers further than 3 s.e. from nominal are **bold**.
- The letter says what theory promises of the method for this parameter in a design of this size:
  **e** exact, as long as no variance is estimated as zero; **c** close to nominal (a correction
  made for small samples, or a large-sample argument with 50 or more degrees of freedom);
  **a** asymptotic only: nominal as the number of groups grows, and there are few here; **n** no
  promise. A bold number with *e* or *c* would be an error of the library or a limit of the
  approximation, and is listed under Findings; a bold number with *a* or *n* is what the theory
  leaves open.
- Under each coefficient: where it varies, and the degrees of freedom that this leaves for its
  estimation.

Intervals: `normal`, `satterthwaite` and `kenward-roger` are estimate ± quantile times standard
error (`coef_table`); `profile` is `conf_int(method="profile")`; the others are percentile
intervals of `bootstrap` (`cases` draws whole levels of the first factor, `cases, all` those of both
crossed factors, with `group="all"`). Tests: t tests of `coef_table`; the joint hypothesis by
`anova(type=3)` or `wald_test`; the likelihood-ratio test by `interlace.anova`.
"""


def markdown(study: Study) -> str:
    """The whole page."""
    parts = [INTRODUCTION, effort(study), "## The designs\n"]
    designs = [build() for build in DESIGNS.values()]
    parts += [described(design, study) for design in designs]
    parts.append(READING)
    parts += [tables(design, study.design(design.name)) for design in designs]
    parts.append(findings(designs, study))
    return "\n".join(parts)


def effort(study: Study) -> str:
    """How many data sets and replicates, and what they took."""
    done = {run.part.name: run.part for run in study.runs}
    boot, cases = done[NEW_RESPONSES], done[CASES]
    minutes = sum(run.seconds for run in study.runs) / 60.0
    processes = " or ".join(sorted({str(run.processes) for run in study.runs}))
    versions = " and ".join(sorted({run.version for run in study.runs}))
    return (
        f"Data sets of each design: {done[FITS].datasets} fitted; the first "
        f"{done[PROFILES].datasets} of them profiled, the first {boot.datasets} bootstrapped with "
        f"{boot.replicates} replicates of each kind, and of cases the first {cases.datasets} with "
        f"{cases.replicates}. Percentile limits are quantiles of a finite number of replicates, "
        f"which alone loses {lost(boot.replicates):.1f} points of coverage with {boot.replicates} "
        f"and {lost(cases.replicates):.1f} with {cases.replicates}. Seed {study.seed}, interlace "
        f"{versions}, {minutes:.0f} minutes with {processes} processes.\n"
    )


def lost(replicates: int) -> float:
    """Points of coverage lost by interpolated quantiles of so many replicates."""
    tail = NOMINAL_MISS / 2.0
    outside = 2.0 * (1.0 + tail * (replicates - 1)) / (replicates + 1)
    return 100.0 * (outside - NOMINAL_MISS)


def described(design: Design, study: Study) -> str:
    """The design in words, and what happened to its fits."""
    facts = {cell: n for cell, n in study.design(design.name).items() if cell.measure == "fact"}
    singular, stuck = (facts[Cell("fact", what, "")] for what in ("singular", "not converged"))
    text = (
        f"**{design.name}**: `{design.formula}`, {len(design.frame)} rows. {design.words} "
        f"The joint hypothesis is that {' and '.join(f'`{c}`' for c in design.joint)} are zero. "
        f"A variance (or correlation) was estimated on its boundary in {percent(singular.rate)} % "
        f"of the data sets, {stuck.misses} fits did not converge."
    )
    failed = [n for cell, n in facts.items() if cell.target == "replicates failed" and n.misses]
    if failed:
        shares = ", ".join(f"{percent(n.rate)} % for `{n.cell.method}`" for n in failed)
        text += (
            f" Replicates that could not be fitted, such as samples without one of the conditions, "
            f"are left out; data sets with any: {shares}."
        )
    return text + "\n"


# ------------------------------------------------------------------ tables


def tables(design: Design, counts: dict[Cell, Count]) -> str:
    """Coverage of coefficients and standard deviations, and size of tests."""
    tested = [n for n, t in design.coefficients.items() if t.truth == 0.0]
    sampled = ("profile", *bootstraps(design, NEW_RESPONSES, CASES))
    coverage = [
        f"## {design.name}: coverage of 95 % intervals, coefficients\n",
        *grid(design, counts, "interval", (*WALD, *sampled), list(design.coefficients)),
        f"\n## {design.name}: coverage of 95 % intervals, standard deviations\n",
        *grid(design, counts, "interval", sampled, list(design.sds)),
    ]
    size = [
        f"\n## {design.name}: size of 5 % tests\n",
        *grid(design, counts, "test", TESTS, [*tested, "joint"]),
    ]
    return "\n".join([*coverage, *size, ""])


def grid(
    design: Design,
    counts: dict[Cell, Count],
    measure: str,
    methods: Sequence[str],
    targets: Sequence[str],
) -> Iterable[str]:
    """Lines of a table: a row for each method, a column for each target."""
    heads = [headed(design, name) for name in targets]
    yield row([measure, "data sets", "s.e.", *heads])
    yield row(["---", "--:", "--:", *["---"] * len(targets)])
    for method in methods:
        found = [counts.get(Cell(measure, name, method)) for name in targets]
        n = next(c.n for c in found if c is not None)
        error = percent(standard_error(NOMINAL_MISS, n))
        cells = ["" if c is None else shown(design, c) for c in found]
        yield row([method, str(n), error, *cells])


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def headed(design: Design, name: str) -> str:
    if name == "joint":
        return "joint<br>" + ", ".join(f"`{c}`" for c in design.joint)
    target = design.targets[name]
    label = name.replace("|", "\\|")
    return f"`{label}`<br>{target.stratum}, {target.df} df"


def shown(design: Design, count: Count) -> str:
    """One number: coverage or size in per cent, bold if off, with the mark of its promise."""
    interval = count.cell.measure == "interval"
    text = percent(1.0 - count.rate if interval else count.rate)
    text = f"**{text}**" if count.is_off else text
    text += f" {promise(design, count.cell).value}"
    if interval and count.cell.target in design.sds:
        # The truth above the interval means that the interval lay too low.
        text += f" ({percent(count.above / count.n)}, {percent(count.below / count.n)})"
    return text
