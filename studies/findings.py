"""What the tables show, in sentences whose numbers and truth are computed from the counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scipy.special import chdtrc, chdtri, fdtrc, fdtri, ndtri, stdtr

from studies.designs import Design
from studies.measure import LEVEL
from studies.tally import FLAG, Count, Study, percent
from studies.theory import MANY, Promise, promise


@dataclass(frozen=True, eq=False)
class Judged:
    """A count with its design and what theory promises of it."""

    design: Design
    count: Count
    promise: Promise

    @property
    def sd(self) -> bool:
        """Whether the target is a standard deviation."""
        return self.count.cell.target in self.design.sds

    @property
    def df(self) -> int:
        """Degrees of freedom of the target; of the scarcest one for the joint test."""
        name = self.count.cell.target
        names = self.design.joint if name == "joint" else (name,)
        return min(self.design.targets[n].df for n in names)

    @property
    def few(self) -> bool:
        return self.df < MANY


@dataclass(frozen=True)
class Claim:
    """A sentence, and whether the counts bear it out."""

    text: str
    holds: bool

    def __str__(self) -> str:
        return (
            f"- {self.text}" if self.holds else f"- *Expected, not seen in this run:* {self.text}"
        )


Chapter = Callable[[Sequence[Judged]], Iterator[Claim]]


def findings(designs: Sequence[Design], study: Study) -> str:
    """The section."""
    every = [
        Judged(design, count, promise(design, cell))
        for design in designs
        for cell, count in study.design(design.name).items()
        if cell.measure != "fact"
    ]
    chapters: dict[str, Chapter] = {
        "What theory promises": kept,
        "Coefficients and their tests": quantiles,
        "Percentile intervals of coefficients": percentiles,
        "Standard deviations": deviations,
    }
    lines = ["## Findings"]
    for title, chapter in chapters.items():
        lines += [f"\n### {title}\n", *map(str, chapter(every))]
    return "\n".join([*lines, "", ADVICE])


ADVICE = """\
### What follows for use

- Coefficients and joint tests: `ddf="satterthwaite"` or `ddf="kenward-roger"` whenever a grouping
  factor has fewer than about fifty levels, Kenward-Roger for joint tests with random slopes. The
  normal quantiles, likelihood ratios, profiles and percentile intervals all share one blind spot,
  that few groups tell little about a variance.
- Standard deviations of few groups: read every interval as too low rather than too high.
- The cases bootstrap: only with many groups, and in crossed designs not at all for what varies
  between the levels of the factor that is not drawn.
- This study has normal errors, one size of each design, and percentile limits alone; it does not
  show what residual, wild and cases bootstraps are made for, which is errors of other shapes.
"""


# ------------------------------------------------------------------ picking and describing


def pick(
    every: Sequence[Judged],
    measure: str,
    methods: str | Sequence[str],
    keep: Callable[[Judged], bool] = lambda j: True,
) -> list[Count]:
    """Counts of some methods, in the order of the tables."""
    wanted = [methods] if isinstance(methods, str) else methods
    return [
        j.count
        for j in every
        if j.count.cell.measure == measure and j.count.cell.method in wanted and keep(j)
    ]


def span(counts: Sequence[Count]) -> str:
    """Range of coverage, or of size, in per cent."""
    interval = counts[0].cell.measure == "interval"
    return share_span([1.0 - c.rate if interval else c.rate for c in counts])


def share_span(shares: Sequence[float]) -> str:
    low, high = percent(min(shares)), percent(max(shares))
    return f"{low} %" if low == high else f"{low} to {high} %"


def too_low(counts: Sequence[Count]) -> float:
    """Share of the misses in which the whole interval lay below the truth."""
    return sum(c.above for c in counts) / max(1, sum(c.misses for c in counts))


def short(counts: Sequence[Count]) -> bool:
    """Whether most miss clearly more often than nominal, and none clearly less."""
    clear = sum(c.excess > FLAG for c in counts)
    return 2 * clear > len(counts) and not any(c.excess < -FLAG for c in counts)


def named(count: Count) -> str:
    c = count.cell
    what = "coverage" if c.measure == "interval" else "size"
    return f"{what} of `{c.target}` in {count.design} by {c.method}, {span([count])}"


def is_joint(j: Judged) -> bool:
    return j.count.cell.target == "joint"


def few_coefficients(j: Judged) -> bool:
    return j.few and not j.sd


def few_sds(j: Judged) -> bool:
    """Standard deviations of random effects; sigma rests on the rows."""
    return j.sd and j.count.cell.target != "sigma"


# ------------------------------------------------------------------ the claims


def kept(every: Sequence[Judged]) -> Iterator[Claim]:
    """Whether numbers that should be nominal are."""
    for mark, words in (
        (Promise.EXACT, "exact (*e*)"),
        (Promise.CLOSE, "close to nominal (*c*)"),
    ):
        counts = [j.count for j in every if j.promise is mark]
        off = [c for c in counts if c.is_off]
        size = math.sqrt(sum(c.excess**2 for c in counts) / len(counts))
        which = f": {'; '.join(map(named, off))}" if off else ""
        verb = "lies" if len(off) == 1 else "lie"
        yield Claim(
            f"Of the {len(counts)} numbers that should be {words}, {len(off) or 'none'} {verb} "
            f"further than 3 s.e. from nominal{which}. The root mean square of their distances "
            f"from nominal is {size:.2f} s.e.; Monte-Carlo error alone makes it about 1.",
            True,
        )


def quantiles(every: Sequence[Judged]) -> Iterator[Claim]:
    """Quantiles of z, t and chi-squared where groups are few."""
    few = pick(every, "interval", "normal", few_coefficients)
    many = pick(every, "interval", "normal", lambda j: not j.few)
    dfs = [j.df for j in every if j.count in few]
    expected = [2.0 * float(stdtr(df, ndtri(0.5 + LEVEL / 2.0))) - 1.0 for df in dfs]
    yield Claim(
        f"**Normal quantiles** ignore that variances are estimated. Coefficients that vary between "
        f"few groups are covered in {span(few)} of the data sets (a t variable of as many degrees "
        f"of freedom stays within normal limits in {share_span(expected)}), and the joint tests "
        f"reject a true hypothesis in {span(pick(every, 'test', 'normal', is_joint))}. Where the "
        f"rows decide, normal quantiles do: {span(many)}.",
        short(few) and not any(c.is_off for c in many),
    )
    yield from corrections(every)
    ratio = pick(every, "test", "likelihood ratio")
    yield Claim(
        f"**The likelihood-ratio test** (ML, chi-squared quantiles) rejects the true joint "
        f"hypotheses in {span(ratio)}, for the same reason as the normal quantiles. It is meant "
        f"for many groups.",
        short(ratio),
    )
    profiles = pick(every, "interval", "profile", few_coefficients)
    yield Claim(
        f"**Profile intervals** of coefficients are that test turned round, and cover alike: "
        f"{span(profiles)} between few groups, "
        f"{span(pick(every, 'interval', 'profile', lambda j: not j.few and not j.sd))} where the "
        f"rows decide.",
        short(profiles),
    )


def corrections(every: Sequence[Judged]) -> Iterator[Claim]:
    """Satterthwaite and Kenward-Roger."""
    both = ["satterthwaite", "kenward-roger"]
    intervals = pick(every, "interval", both)
    yield Claim(
        f"**Satterthwaite and Kenward-Roger** intervals repair this at every level: coverage "
        f"{span(pick(every, 'interval', both[0]))} and {span(pick(every, 'interval', both[1]))}.",
        not any(c.is_off for c in intervals),
    )
    kenward_roger = pick(every, "test", "kenward-roger", is_joint)
    yield Claim(
        f"**Joint tests by Kenward-Roger** keep their size: {span(kenward_roger)}.",
        not any(c.is_off for c in kenward_roger),
    )
    slopes = pick(every, "test", "satterthwaite", lambda j: is_joint(j) and j.design.slopes)
    others = pick(every, "test", "satterthwaite", lambda j: is_joint(j) and not j.design.slopes)
    yield Claim(
        f"**Joint tests by Satterthwaite** do too in crossed and nested, {span(others)}, but not "
        f"in growth: {span(slopes)}. There both coefficients rest on one estimated 2 x 2 "
        f"covariance of intercepts and slopes. Were all subjects measured at the same times, the "
        f"statistic would be Hotelling's, 8/7 times an F of 2 and 7 degrees of freedom, and the F "
        f"of 2 and 8 that Fai and Cornelius' formula compares it with is exceeded in "
        f"{percent(hotelling(2, 8))} %. Kenward-Roger makes just this correction. It is a limit of "
        f"the approximation, which lmerTest shares: for joint tests of what varies with a random "
        f"slope, take Kenward-Roger.",
        all(c.excess > FLAG for c in slopes) and not any(c.is_off for c in others),
    )


def hotelling(q: int, df: int) -> float:
    """Size of a test that compares Hotelling's T squared over ``q`` with F(q, df)."""
    critical = float(fdtri(q, df, LEVEL))
    return float(fdtrc(q, df - q + 1, critical * (df - q + 1) / df))


def percentiles(every: Sequence[Judged]) -> Iterator[Claim]:
    """Percentile intervals of coefficients."""
    models = pick(every, "interval", ["parametric", "residual"], few_coefficients)
    yield Claim(
        f"**Parametric and residual** bootstraps draw from the estimated variances as if they were "
        f"the true ones, so that their percentile limits are as narrow as the normal ones: "
        f"{span(models)} between few groups.",
        short(models),
    )
    wild = pick(every, "interval", "wild", few_coefficients)
    yield Claim(
        f"**Wild**: {span(wild)} between few groups. It asks for many groups instead of normal "
        f"errors.",
        short(wild),
    )
    whole = pick(every, "interval", "cases", lambda j: not j.sd and j.design.nested)
    yield Claim(
        f"**Cases** in growth and nested: {span(whole)}, for within-group coefficients too, "
        f"because a sample of few groups varies less than the population.",
        short(whole),
    )
    items = pick(every, "interval", "cases", lambda j: not j.sd and j.df == 6)
    yield Claim(
        f"**Cases in crossed designs**: subjects are drawn, the items stay the same ones. What "
        f"varies between items is covered in {span(items)}: it is not an interval for new items.",
        all(c.rate > 0.25 for c in items),
    )
    both = pick(every, "interval", "cases, all", lambda j: not j.sd)
    rows = [c for c in both if c.cell.target == "x"]
    yield Claim(
        f"**Cases, all factors**: {span(both)}. Drawing both factors counts the rows' share of the "
        f"variance more than once, which makes intervals of what varies within cells too wide "
        f"({span(rows)}) and makes up for some of the narrowness between few groups.",
        all(c.excess < 0 for c in rows),
    )


def residual_deviation(every: Sequence[Judged]) -> Iterator[Claim]:
    """Intervals of sigma."""

    def sigma(method: str) -> list[Count]:
        return pick(every, "interval", method, lambda j: j.count.cell.target == "sigma")

    dfs = [j.df for j in every if j.count in sigma("profile")]
    yield Claim(
        f"**sigma** rests on many rows; profiles cover in {span(sigma('profile'))}. Percentile "
        f"intervals fall short of that, parametric {span(sigma('parametric'))} and residual "
        f"{span(sigma('residual'))}, mostly on the low side. Most of this is no matter of "
        f"random effects: the percentile interval of a normal sample's standard deviation covers "
        f"in {share_span([percentile_sd(df) for df in dfs])} with as many degrees of freedom and "
        f"no end of replicates, and the residual bootstrap adds that a sample shows too little of "
        f"the tails (in 3,000 simulated least-squares fits with the rows and degrees of freedom of "
        f"crossed, 399 replicates each, it covered in 92.7 %, the parametric one in 93.4 %).",
        not any(c.is_off for c in sigma("profile"))
        and all(c.rate < 0.1 for c in sigma("residual")),
    )


def percentile_sd(df: int) -> float:
    """Coverage of the percentile interval of a normal standard deviation, infinite replicates."""
    low, high = chdtri(df, [0.5 + LEVEL / 2.0, 0.5 - LEVEL / 2.0])
    return float(chdtrc(df, df**2 / high) - chdtrc(df, df**2 / low))


def deviations(every: Sequence[Judged]) -> Iterator[Claim]:
    """Intervals of standard deviations."""
    methods = ["profile", "parametric", "residual"]
    few = pick(every, "interval", methods, few_sds)
    school = [j.count for j in every if j.count in few and j.df == min(k.df for k in every if k.sd)]
    yield Claim(
        f"**Between few groups** profile, parametric and residual intervals cover in {span(few)}; "
        f"worst is the standard deviation of six schools, {span(school)}. "
        f"In {percent(too_low(few))} % of the misses the interval lies below the truth: profiles "
        f"are those of the ML deviance, which puts variances too low when coefficients use up the "
        f"groups; percentile intervals repeat in the replicates the skewness of the estimate, "
        f"instead of turning it round, and an estimate near zero leaves them near zero.",
        too_low(few) > 0.75 and max(school, key=lambda c: c.rate).excess > FLAG,
    )
    yield from residual_deviation(every)
    wild = pick(every, "interval", "wild", lambda j: j.sd)
    sigmas = [c for c in wild if c.cell.target == "sigma"]
    yield Claim(
        f"**Wild** intervals of standard deviations are not to be used: one multiplier for a "
        f"whole group gives sums of squares another spread than sampling does. Here they cover in "
        f"{span(wild)}, sigma in {span(sigmas)}.",
        any(c.is_off for c in wild),
    )
    cases = pick(every, "interval", ["cases", "cases, all"], lambda j: j.sd)
    yield Claim(
        f"**Cases** cover in {span(cases)}; {percent(too_low(cases))} % of the misses are too low, "
        f"because a group drawn twice adds no variation between groups.",
        short(cases),
    )
