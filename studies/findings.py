"""What the tables show, in sentences whose numbers and truth are computed from the counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from studies.designs import Design
from studies.measure import BOOTSTRAPS
from studies.tally import Count, Study, percent
from studies.theory import MANY, Promise, promise


@dataclass(frozen=True, eq=False)
class Judged:
    """A count with what theory promises of it."""

    design: Design
    count: Count
    promise: Promise

    @property
    def few(self) -> bool:
        """Whether the target rests on few units."""
        name = self.count.cell.target
        return name == "joint" or self.design.targets[name].df < MANY


@dataclass(frozen=True)
class Claim:
    """A sentence, and whether the counts bear it out."""

    text: str
    holds: bool

    def __str__(self) -> str:
        return (
            f"- {self.text}" if self.holds else f"- Expected, but not seen in this run: {self.text}"
        )


def findings(designs: Sequence[Design], study: Study) -> str:
    """The section."""
    every = [
        Judged(design, count, promise(design, cell))
        for design in designs
        for cell, count in study.design(design.name).items()
        if cell.measure != "fact"
    ]
    claims = [*promised(every), *small_samples(every), *bootstraps(every)]
    return "\n".join(["## Findings\n", *map(str, claims), ""])


# ------------------------------------------------------------------ picking and describing


def pick(
    every: Sequence[Judged],
    measure: str,
    methods: Collection[str],
    keep: Callable[[Judged], bool] = lambda j: True,
) -> list[Count]:
    return [
        j.count
        for j in every
        if j.count.cell.measure == measure and j.count.cell.method in methods and keep(j)
    ]


def span(counts: Sequence[Count]) -> str:
    """Range of coverage, or of size, in per cent."""
    interval = counts[0].cell.measure == "interval"
    values = sorted(1.0 - c.rate if interval else c.rate for c in counts)
    low, high = percent(values[0]), percent(values[-1])
    return f"{low} %" if low == high else f"{low} to {high} %"


def mean_rate(counts: Sequence[Count]) -> float:
    return sum(c.misses for c in counts) / sum(c.n for c in counts)


def is_sd(j: Judged) -> bool:
    return j.count.cell.target in j.design.sds


def coefficient(j: Judged) -> bool:
    return not is_sd(j)


# ------------------------------------------------------------------ the claims


def promised(every: Sequence[Judged]) -> Iterator[Claim]:
    """Whether numbers that should be nominal are."""
    kept = [j for j in every if j.promise in (Promise.EXACT, Promise.CLOSE)]
    off = [j.count for j in kept if j.count.is_off]
    size = math.sqrt(sum(j.count.excess**2 for j in kept) / len(kept))
    yield Claim(
        f"Of the {len(kept)} numbers marked *e* or *c*, {len(off) or 'none'} "
        f"{'is' if len(off) == 1 else 'are'} further than 3 s.e. from nominal"
        f"{': ' + '; '.join(map(named, off)) if off else ''}. Their distances from nominal, in "
        f"s.e., have a root mean square of {size:.2f}; Monte-Carlo error alone gives 1.",
        True,
    )


def named(count: Count) -> str:
    """A flagged number in words."""
    c = count.cell
    what = "coverage" if c.measure == "interval" else "size"
    return f"{what} of `{c.target}` in {count.design} by {c.method}, {span([count])}"


def small_samples(every: Sequence[Judged]) -> Iterator[Claim]:
    """Quantiles of z, t and chi-squared where groups are few."""
    few = pick(every, "interval", ["normal"], lambda j: coefficient(j) and j.few)
    many = pick(every, "interval", ["normal"], lambda j: coefficient(j) and not j.few)
    joint = pick(every, "test", ["normal"], lambda j: j.count.cell.target == "joint")
    yield Claim(
        f"**Normal quantiles** ignore that variances are estimated: coefficients that vary between "
        f"a few groups are covered in {span(few)} of the data sets, least where the groups are "
        f"fewest, and the joint tests reject in {span(joint)}. Where the rows decide, they do: "
        f"{span(many)}.",
        all(c.excess > 0 for c in few) and all(not c.is_off for c in many),
    )
    for name, words in (("satterthwaite", "Satterthwaite"), ("kenward-roger", "Kenward-Roger")):
        intervals = pick(every, "interval", [name])
        joints = pick(every, "test", [name], lambda j: j.count.cell.target == "joint")
        yield Claim(
            f"**{words}** covers in {span(intervals)}; its joint tests reject in {span(joints)}.",
            not any(c.is_off for c in intervals),
        )
    ratio = pick(every, "test", ["likelihood ratio"])
    yield Claim(
        f"**The likelihood-ratio test** (ML, chi-squared quantiles) rejects true joint hypotheses "
        f"in {span(ratio)}: more often than it says, for the same reason as the normal quantiles.",
        all(c.is_off and c.excess > 0 for c in ratio),
    )
    fixed = pick(every, "interval", ["profile"], lambda j: coefficient(j) and j.few)
    sds = pick(every, "interval", ["profile"], is_sd)
    yield Claim(
        f"**Profile intervals** rest on the same chi-squared quantiles: coefficients of few groups "
        f"{span(fixed)}. Standard deviations {span(sds)}.",
        all(c.excess > 0 for c in fixed),
    )


def bootstraps(every: Sequence[Judged]) -> Iterator[Claim]:
    """Percentile intervals."""
    for kind in BOOTSTRAPS:
        fixed = pick(every, "interval", [kind], lambda j: coefficient(j) and j.few)
        sds = pick(every, "interval", [kind], is_sd)
        yield Claim(f"**{kind}**: coefficients {span(fixed)}; sds {span(sds)}.", True)
