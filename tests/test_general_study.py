"""The simulation study of generalised models: its plumbing, on two data sets a design."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from studies.general import coverage
from studies.general.designs import DESIGNS, MAIN, SMALL
from studies.general.measure import (
    BOOTSTRAPS,
    FITS,
    LAPLACE,
    PARTS,
    PROFILES,
    QUADRATURE,
    SMALL_GROUPS,
    Verdict,
    missed,
)
from studies.general.page import markdown
from studies.general.tally import Study, added, load, save
from studies.measure import Cell, Miss, Part


@functools.cache
def quick() -> Study:
    parts = (Part(FITS, 2), Part(PROFILES, 1), Part(BOOTSTRAPS, 1, 3), Part(SMALL_GROUPS, 1))
    return coverage.study(parts, processes=1)


@pytest.mark.parametrize("name", MAIN)
def test_every_method_judges_every_parameter(name: str) -> None:
    design, counts = MAIN[name](), quick().counts(name)
    for target in design.truth:
        methods = ["profile", "percentile", "basic"]
        methods += ["wald"] if target in design.coefficients else []
        assert all(Cell("interval", target, method) in counts for method in methods)
        assert quick().moments(name)[Cell("estimate", target, LAPLACE)].n == 2
    assert counts[Cell("fact", "not converged", "")].n == 2


@pytest.mark.parametrize("name", SMALL)
def test_both_likelihoods_judge_small_groups(name: str) -> None:
    counts = quick().counts(name)
    for target in SMALL[name]().truth:
        assert all(Cell("interval", target, m) in counts for m in (LAPLACE, QUADRATURE))


@pytest.mark.parametrize("name", DESIGNS)
def test_responses_have_the_stated_means(name: str) -> None:
    """The mean of the responses over many draws is that of the inverse link of the predictors."""
    design = DESIGNS[name]()
    y = np.array([design.response(np.random.SeedSequence(i))["y"] for i in range(400)])
    rng = np.random.default_rng(1)
    eta = np.array([design.predictor(rng) for _ in range(4000)])
    size = design.frame["size"].to_numpy()
    mean = np.exp(eta) if design.family == "poisson" else size / (1.0 + np.exp(-eta))
    assert y.mean() == pytest.approx(mean.mean(), rel=0.05)


def test_a_data_set_depends_on_its_number_alone() -> None:
    few, one = Part(FITS, 3), Part(FITS, 1)
    name = "poisson, clusters"
    task = coverage.Task(one, name, 2)
    assert coverage.judge_task(task) == coverage.judge_task(coverage.Task(few, name, 2))


def test_page_and_file_hold_every_number(tmp_path) -> None:
    save(quick(), tmp_path / "study.json")
    again = load(tmp_path / "study.json")
    assert again == quick()
    text = markdown(again)
    assert all(f"## {name}: coverage" in text for name in MAIN)
    assert text.count("| Laplace |") == text.count(f"| {QUADRATURE} |") == len(SMALL)
    assert "## Findings" in text


def test_a_part_run_again_replaces_itself_alone() -> None:
    again = coverage.run(Part(PROFILES, 1), processes=1)
    found = quick().updated(again)
    assert [run.part.name for run in found.runs] == list(PARTS)
    assert found.run(PROFILES) is again and found.run(FITS) is quick().run(FITS)


def test_limits_that_are_not_there_leave_a_side_open() -> None:
    design = MAIN["poisson, clusters"]()
    limits = pd.DataFrame({"low": [np.nan, 0.6], "high": [0.2, np.nan]}, index=["x", "treated"])
    found = dict(missed(design, limits, "profile"))
    assert found[Cell("interval", "x", "profile")] == Miss(False, True)
    assert found[Cell("interval", "treated", "profile")] == Miss(True, False)


def test_estimates_of_separated_fits_are_left_out() -> None:
    cell, apart = Cell("estimate", "x", LAPLACE), Cell("fact", "separated", "")
    good = Verdict(((apart, Miss(False, False)),), ((cell, 1.0),))
    bad = Verdict(((apart, Miss(False, True)),), ((cell, 50.0),))
    failed, _, (moments,) = added("d", [good, good, bad, Verdict(failed="no")])
    assert (failed, moments.n, moments.mean) == (1, 2, 1.0)
