"""The simulation study: its plumbing, on a few data sets."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from studies import coverage
from studies.designs import DESIGNS
from studies.findings import hotelling, percentile_sd
from studies.measure import (
    CASES,
    FITS,
    NEW_RESPONSES,
    PARTS,
    PROFILES,
    WALD,
    Cell,
    Miss,
    Part,
    bootstraps,
    missed,
)
from studies.page import TESTS, markdown
from studies.tally import Count, Study, count, load, save
from studies.theory import Promise, promise


@functools.cache
def quick() -> Study:
    return coverage.study(coverage.QUICK, processes=1)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_method_judges_every_target(name: str) -> None:
    design = DESIGNS[name]()
    found = quick().design(name)
    tested = [c for c, t in design.coefficients.items() if t.truth == 0.0]
    kinds = bootstraps(design, NEW_RESPONSES, CASES)
    expected = {
        *(Cell("interval", c, m) for c in design.coefficients for m in WALD),
        *(Cell("interval", t, m) for t in design.targets for m in ("profile", *kinds)),
        *(Cell("test", c, m) for c in tested for m in WALD),
        *(Cell("test", "joint", m) for m in TESTS),
        Cell("fact", "singular", ""),
        Cell("fact", "not converged", ""),
        *(Cell("fact", "replicates failed", m) for m in kinds),
    }
    assert found.keys() == expected
    assert all(c.n == 4 for c in found.values())
    assert all(min(c.below, c.above) >= 0 and c.misses <= c.n for c in found.values())


@pytest.mark.parametrize("name", DESIGNS)
def test_t_tests_and_intervals_agree(name: str) -> None:
    """A 5 % test rejects zero just when the 95 % interval leaves it out."""
    for cell, found in quick().design(name).items():
        if cell.measure == "test" and cell.target != "joint":
            interval = quick().design(name)[Cell("interval", cell.target, cell.method)]
            assert found.misses == interval.misses


def test_a_data_set_depends_on_its_number_alone() -> None:
    few, one = Part(NEW_RESPONSES, 3, 5), Part(NEW_RESPONSES, 1, 5)
    tasks = [coverage.Task(few, "growth", 0), coverage.Task(few, "nested", 2)]
    verdicts = list(coverage.judged(tasks, 1))
    assert coverage.judge_task(coverage.Task(one, "nested", 2)) == verdicts[1]


@pytest.mark.slow
def test_processes_do_not_change_the_counts() -> None:
    one, two = (coverage.run(Part(NEW_RESPONSES, 2, 5), processes=k) for k in (1, 2))
    assert one.counts == two.counts


def test_a_part_run_again_replaces_itself_alone() -> None:
    again = coverage.run(Part(PROFILES, 1), processes=1)
    found = quick().updated(again)
    assert [run.part.name for run in found.runs] == list(PARTS)
    assert found.runs[1] is again and found.runs[0] is quick().runs[0]


@pytest.mark.parametrize("name", DESIGNS)
def test_responses_have_the_stated_moments(name: str) -> None:
    """Sum of the variances and the true means, over many draws."""
    design = DESIGNS[name]()
    rng = np.random.default_rng(1)
    y = np.array([design.draw(rng) for _ in range(4000)])
    spread = np.cov(y.T)
    sd = {k: t.truth for k, t in design.sds.items()}
    if name == "growth":
        time = design.frame["time"].to_numpy()
        expected = sd["sd_Intercept|subject"] ** 2 + sd["sd_time|subject"] ** 2 * time**2 + 1.0
        expected += 2 * 0.3 * sd["sd_Intercept|subject"] * sd["sd_time|subject"] * time
    else:
        expected = np.full(len(design.frame), sum(v**2 for v in sd.values()))
    assert np.diag(spread) == pytest.approx(expected, rel=0.15)
    error = np.sqrt(np.diag(spread) / len(y))
    slope = design.coefficients.get("time", design.coefficients.get("x"))
    column = design.frame["time" if name == "growth" else "x"].to_numpy()
    mean = y.mean(axis=0) - slope.truth * column
    assert np.all(np.abs(mean - mean.mean()) < 5.0 * error)


def test_page_shows_every_number() -> None:
    text = markdown(quick())
    for build in DESIGNS.values():
        design = build()
        rows = len(WALD) + 2 * (1 + len(bootstraps(design, NEW_RESPONSES, CASES))) + len(TESTS)
        part = text.split(f"## {design.name}: coverage of 95 % intervals, coefficients")[1]
        part = part.split("\n## Findings")[0].split(": size of 5 % tests")
        tables = [*part[0].splitlines(), *part[1].split("\n## ")[0].splitlines()]
        assert sum(line.startswith("| ") for line in tables) == rows + 2 * 3
    assert "## Findings" in text


def test_file_keeps_everything(tmp_path) -> None:
    save(quick(), tmp_path / "study.json")
    assert load(tmp_path / "study.json") == quick()


# ------------------------------------------------------------ counting


def test_missed_says_on_which_side() -> None:
    design = DESIGNS["nested"]()
    limits = [("arm", 0.1, 1.0), ("x", -1.0, -0.1), ("sigma", 0.9, 1.1), ("nuisance", 5.0, 6.0)]
    assert dict(missed(design, limits, "normal")) == {
        Cell("interval", "arm", "normal"): Miss(below=True, above=False),
        Cell("interval", "x", "normal"): Miss(below=False, above=True),
        Cell("interval", "sigma", "normal"): Miss(below=False, above=False),
    }


def test_missed_refuses_an_interval_without_limits() -> None:
    with pytest.raises(ValueError, match="the profile interval of sigma has no limits"):
        list(missed(DESIGNS["nested"](), [("sigma", 0.5, math.nan)], "profile"))


def test_counts_and_flags() -> None:
    cell = Cell("test", "arm", "normal")
    misses = [Miss(False, i < 8) for i in range(100)]
    (total,) = count("nested", [{cell: miss} for miss in misses])
    assert total == Count("nested", cell, 100, 0, 8)
    assert total.rate == 0.08
    assert total.excess == pytest.approx(0.03 / math.sqrt(0.05 * 0.95 / 100))
    assert not total.is_off
    assert Count("nested", cell, 1000, 0, 80).is_off


def test_promises() -> None:
    nested, crossed = DESIGNS["nested"](), DESIGNS["crossed"]()
    table = [
        (nested, Cell("test", "arm", "kenward-roger"), Promise.EXACT),
        (nested, Cell("interval", "arm", "normal"), Promise.ASYMPTOTIC),
        (nested, Cell("interval", "x", "normal"), Promise.CLOSE),
        (nested, Cell("test", "joint", "satterthwaite"), Promise.CLOSE),
        (nested, Cell("interval", "sigma", "parametric"), Promise.CLOSE),
        (nested, Cell("interval", "sigma", "wild"), Promise.NONE),
        (crossed, Cell("interval", "x", "cases"), Promise.NONE),
        (crossed, Cell("interval", "x", "wild"), Promise.CLOSE),
        (crossed, Cell("interval", "old", "wild"), Promise.ASYMPTOTIC),
        (nested, Cell("interval", "x", "wild"), Promise.ASYMPTOTIC),
        (crossed, Cell("interval", "old", "satterthwaite"), Promise.CLOSE),
    ]
    for design, cell, expected in table:
        assert promise(design, cell) is expected


def test_hotelling() -> None:
    """Against draws of the statistic that it describes."""
    rng = np.random.default_rng(1)
    mean = rng.standard_normal((200_000, 2))
    x = rng.standard_normal((200_000, 8, 2))
    spread = np.einsum("nij,nik->njk", x, x) / 8.0
    statistic = np.einsum("nj,nj->n", mean, np.linalg.solve(spread, mean[..., None])[..., 0]) / 2.0
    share = np.mean(statistic > 4.45897)  # the 95 % quantile of F(2, 8)
    assert hotelling(2, 8) == pytest.approx(share, abs=4.0 * math.sqrt(0.07 / 200_000))


def test_percentile_sd() -> None:
    """Against draws: the interval runs from s times the quantiles of s over sigma."""
    rng = np.random.default_rng(2)
    s = np.sqrt(rng.chisquare(40, 400_000) / 40.0)
    low, high = np.quantile(s, [0.025, 0.975])
    share = np.mean((s * low < 1.0) & (s * high > 1.0))
    assert percentile_sd(40) == pytest.approx(share, abs=0.002)


@pytest.mark.slow
def test_exact_promises_are_kept() -> None:
    """Balanced data and t distributions: nominal but for Monte-Carlo error, 4 standard errors."""
    found = coverage.run(Part(FITS, 300), processes=2)
    exact = [c for c in found.counts if is_exact(c)]
    assert len(exact) >= 8
    off = {(c.cell, round(c.excess, 1)) for c in exact if abs(c.excess) > 4.0}
    assert not off


def is_exact(found: Count) -> bool:
    judged = found.cell.measure in ("interval", "test")
    return judged and promise(DESIGNS[found.design](), found.cell) is Promise.EXACT
