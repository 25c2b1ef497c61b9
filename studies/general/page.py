"""The page: what was simulated, tables of bias and coverage, and what they show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from studies.general.designs import MAIN, SMALL, Design
from studies.general.measure import (
    BOOTSTRAPS,
    FITS,
    LAPLACE,
    NODES,
    PROFILES,
    QUADRATURE,
    SMALL_GROUPS,
)
from studies.general.tally import Moments, Run, Study
from studies.measure import NOMINAL_MISS, Cell
from studies.page import row
from studies.tally import Count, percent, standard_error

# Data sets from which on a number alone says something.
MANY = 50

INTRODUCTION = """\
# Generalised models: bias and coverage

The [simulation study of linear models](simulation-study.md) asks whether intervals contain the true
value as often as they promise. Here the same is asked of yes-or-no responses and of counts, and two
things more: how far estimates are off on average, and what Laplace's approximation is worth where
groups are small.

`python -m studies.general.coverage` repeats the study (the seeds are fixed, the counts do not
depend on the number of processes); this page and all numbers in it are written by that command.
"""

READING = """\
## How to read the tables

- **Bias**: the mean of the estimates over the data sets less the truth, with the Monte-Carlo
  standard error of the mean in parentheses. **Bold** where it is more than 3 of these from zero.
- **Coverage**: percentage of data sets whose 95 % interval contains the truth, and in parentheses
  the percentages in which the whole interval lay below the truth, and above it. Coverage is
  **bold** where it is further than 3 Monte-Carlo standard errors (`s.e.`, in points) from 95, of
  50 data sets or more.
- `wald` is estimate ± normal quantile times standard error (`conf_int`); `profile` is
  `conf_int(method="profile")`; `percentile` and `basic` are the two intervals of the parametric
  `bootstrap`. Coefficients are on the scale of the link.
"""

LAPLACE_TEXT = f"""\
## Laplace's approximation beside quadrature

Groups of two to five yes-or-no responses are where Laplace's approximation is at its worst: the
likelihood of a group is far from a normal curve. The same data sets are fitted by Laplace's
approximation and by adaptive quadrature with {NODES} nodes (`quadrature={NODES}`), which is exact
to the digits shown. The true standard deviation is 1.5. Intervals of coefficients are Wald's, those
of the standard deviation profiles.
"""


def markdown(study: Study) -> str:
    """The whole page."""
    main, small = ([build() for build in kind.values()] for kind in (MAIN, SMALL))
    parts = [INTRODUCTION, effort(study), "## The designs\n"]
    parts += [described(design, study) for design in main]
    parts += [READING, "## Bias\n", *bias(main, study), ""]
    for design in main:
        parts += [f"## {design.name}: coverage of 95 % intervals\n", *coverage(design, study), ""]
    parts += [LAPLACE_TEXT, *beside(small, study), "", findings(main, small, study)]
    return "\n".join(parts)


def effort(study: Study) -> str:
    """How many data sets and replicates, and what they took."""
    runs = {run.part.name: run for run in study.runs}
    failed = sum(sum(run.failed.values()) for run in runs.values())
    versions = " and ".join(sorted({run.version for run in runs.values()}))
    return (
        f"Data sets of each design: {runs[FITS].part.datasets} fitted; the first "
        f"{runs[PROFILES].part.datasets} of them profiled{bootstrapped(runs)}; "
        f"{runs[SMALL_GROUPS].part.datasets} for Laplace beside quadrature. "
        f"{f'{failed} of them' if failed else 'None'} could not be fitted. Seed {study.seed}, "
        f"interlace {versions}; it takes about ten minutes of one processor.\n"
    )


def bootstrapped(runs: Mapping[str, Run]) -> str:
    """How many were bootstrapped, and what the number of replicates costs."""
    if BOOTSTRAPS not in runs:
        return ""
    part = runs[BOOTSTRAPS].part
    return (
        f", the first {part.datasets} bootstrapped with {part.replicates} replicates, whose "
        f"quantiles alone lose {lost(part.replicates):.1f} points of coverage"
    )


def lost(replicates: int) -> float:
    """Points of coverage lost by interpolated quantiles of so many replicates."""
    tail = NOMINAL_MISS / 2.0
    return 100.0 * (2.0 * (1.0 + tail * (replicates - 1)) / (replicates + 1) - NOMINAL_MISS)


def described(design: Design, study: Study) -> str:
    """The design in words, and what happened to its fits."""
    counts = study.counts(design.name)
    singular, stuck, apart = (
        counts[Cell("fact", what, "")] for what in ("singular", "not converged", "separated")
    )
    text = (
        f"**{design.name}**: `{design.formula}`, {len(design.frame)} rows. {design.words} A "
        f"variance (or correlation) was estimated on its boundary in {percent(singular.rate)} % of "
        f"the data sets; {stuck.misses} fits did not converge"
    )
    if apart.misses:
        text += f", and {apart.misses} were separated"
    return text + ".\n"


# ------------------------------------------------------------------ tables


def bias(designs: Sequence[Design], study: Study) -> Iterator[str]:
    """A row for every parameter of every design."""
    yield row(["design", "parameter", "varies", "truth", "bias", "s.d. of the estimates"])
    yield row(["---", "---", "---", "--:", "--:", "--:"])
    for design in designs:
        moments = study.moments(design.name)
        for name, truth in design.truth.items():
            found = moments[Cell("estimate", name, LAPLACE)]
            yield row(
                [
                    design.name,
                    code(name),
                    design.strata[name],
                    f"{truth:g}",
                    off(found, truth),
                    f"{found.sd:.3f}",
                ]
            )


def off(found: Moments, truth: float) -> str:
    """A bias with its Monte-Carlo error."""
    value = found.mean - truth
    text = f"{value:+.3f}"
    if abs(value) > 3.0 * found.error:
        text = f"**{text}**"
    return f"{text} ({found.error:.3f})"


def coverage(design: Design, study: Study) -> Iterator[str]:
    """A row for every method, a column for every parameter."""
    counts = study.counts(design.name)
    names = list(design.truth)
    yield row(["interval", "data sets", "s.e.", *map(code, names)])
    yield row(["---", "--:", "--:", *["---"] * len(names)])
    for method in ("wald", "profile", "percentile", "basic"):
        cells = [counts.get(Cell("interval", name, method)) for name in names]
        n = next((c.n for c in cells if c is not None), 0)
        if not n:
            continue
        error = percent(standard_error(NOMINAL_MISS, n))
        yield row([method, str(n), error, *("" if c is None else shown(c) for c in cells)])


def beside(designs: Sequence[Design], study: Study) -> Iterator[str]:
    """Laplace's approximation and quadrature, a row each."""
    names = list(designs[0].truth)
    heads = [f"{code(n)}<br>truth {designs[0].truth[n]:g}" for n in names]
    yield row(["groups", "likelihood", *heads])
    yield row(["---", "---", *["---"] * len(names)])
    for design in designs:
        counts, moments = study.counts(design.name), study.moments(design.name)
        for method in (LAPLACE, QUADRATURE):
            cells = [
                f"{off(moments[Cell('estimate', n, method)], design.truth[n])}<br>"
                f"{shown(counts[Cell('interval', n, method)])}"
                for n in names
            ]
            yield row([design.words.split(";")[0], method, *cells])
    n = study.run(SMALL_GROUPS).part.datasets
    error = percent(standard_error(NOMINAL_MISS, n))
    yield ""
    yield (
        f"Each cell: bias with its Monte-Carlo error, and coverage in per cent (s.e. {error}) with "
        f"the intervals below and above the truth; {n} data sets a row."
    )


def shown(count: Count) -> str:
    """Coverage in per cent, bold if off, with the sides of the misses."""
    text = percent(1.0 - count.rate)
    text = f"**{text}**" if count.is_off and count.n >= MANY else text
    # The truth above the interval means that the interval lay too low.
    return f"{text} ({percent(count.above / count.n)}, {percent(count.below / count.n)})"


def code(name: str) -> str:
    """A name as code in a table."""
    return "`" + name.replace("|", "\\|") + "`"


# ------------------------------------------------------------------ findings


def findings(main: Sequence[Design], small: Sequence[Design], study: Study) -> str:
    """Sentences whose numbers are computed from the counts."""
    return "\n".join(["## Findings\n", *_found(main, small, study), "", ADVICE])


def _found(main: Sequence[Design], small: Sequence[Design], study: Study) -> Iterator[str]:
    within = [(d, n) for d in main for n, s in d.strata.items() if s.startswith("within")]
    between = [(d, n) for d in main for n in d.coefficients if not d.strata[n].startswith("within")]
    sds = [(d, n) for d in main for n in d.sds]
    yield (
        f"- **Coefficients that vary within groups**: Wald intervals cover in "
        f"{span(rates(study, within, 'wald'))} %, profiles in "
        f"{span(rates(study, within, 'profile'))} %."
    )
    yield (
        f"- **Coefficients that vary between groups**: Wald {span(rates(study, between, 'wald'))} "
        f"%, profile {span(rates(study, between, 'profile'))} %. Tests are normal, and do not know "
        f"that the variances are estimated from few groups: the fewer there are, the more this "
        f"shows."
    )
    yield (
        f"- **Standard deviations** are off by {span([100 * b for b in biases(study, sds)])} % of "
        f"the truth on average: maximum likelihood counts no degrees of freedom for the "
        f"coefficients, and Laplace's approximation adds to it for yes-or-no responses. Profiles "
        f"cover in {span(rates(study, sds, 'profile'))} %."
    )
    if rates(study, sds, "basic"):
        yield (
            f"- **The bootstrap**, {study.run(BOOTSTRAPS).part.datasets} data sets a design, all "
            f"parameters taken together because single numbers of so few say little: percentile "
            f"intervals of standard deviations, which repeat the bias of the estimate, cover in "
            f"{mean(rates(study, sds, 'percentile'))} %, basic ones, which turn it round, in "
            f"{mean(rates(study, sds, 'basic'))} %. Coefficients: percentile "
            f"{mean(rates(study, within + between, 'percentile'))} %, basic "
            f"{mean(rates(study, within + between, 'basic'))} %."
        )
    yield from _of_laplace(small, study)


def _of_laplace(small: Sequence[Design], study: Study) -> Iterator[str]:
    name = next(iter(small[0].sds))
    lines = []
    for design in small:
        moments = study.moments(design.name)
        laplace, exact = (
            100.0 * (moments[Cell("estimate", name, m)].mean / design.truth[name] - 1.0)
            for m in (LAPLACE, QUADRATURE)
        )
        lines.append(f"{laplace:+.0f} % and {exact:+.0f} % with {design.name}")
    yield (
        f"- **Laplace and quadrature**: the standard deviation of the groups is off by "
        f"{'; '.join(lines)} (Laplace and quadrature). Coefficients are pulled towards zero with "
        f"it, since a smaller variance between groups needs smaller effects for the same "
        f"proportions."
    )


def rates(study: Study, where: Sequence[tuple[Design, str]], method: str) -> list[float]:
    """Coverage in per cent."""
    found = [study.counts(d.name).get(Cell("interval", n, method)) for d, n in where]
    return [100.0 * (1.0 - c.rate) for c in found if c is not None]


def biases(study: Study, where: Sequence[tuple[Design, str]]) -> list[float]:
    """Biases relative to the truth."""
    return [
        study.moments(d.name)[Cell("estimate", n, LAPLACE)].mean / d.truth[n] - 1.0
        for d, n in where
    ]


def mean(values: Sequence[float]) -> str:
    """Of coverages of equally many data sets."""
    return f"{sum(values) / len(values):.1f}"


def span(values: Iterable[float]) -> str:
    """The smallest and the largest."""
    found = list(values)
    return f"{min(found):.1f} to {max(found):.1f}"


ADVICE = f"""\
### What follows for use

- Yes-or-no responses in groups of five or fewer: take `quadrature={NODES}`, which one grouping
  factor with up to three effects allows, and look at `interlace.check_approximation(result)`.
- Few groups: read intervals of coefficients that vary between groups as somewhat too narrow,
  whatever the method, and those of standard deviations as lying somewhat too low.
- Standard deviations: profiles. Of the bootstrap's intervals, which are for what has no profile,
  the percentile one repeats the bias of the estimate.
"""
