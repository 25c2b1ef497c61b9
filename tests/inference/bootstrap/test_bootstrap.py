"""Bootstrap standard errors of statistics of the response."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace import InterlaceError
from interlace.inference.bootstrap.statistic import _clusters, _pigeonhole, bootstrap_se

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


@functools.cache
def crossed(sd: float = 2.0) -> interlace.CrossedLMEResult:
    """Crossed groups g (30) and h (10), a row for each pair, with effects of some size."""
    rng = np.random.default_rng(1)
    g, h = (a.ravel() for a in np.meshgrid(range(30), range(10), indexing="ij"))
    y = sd * rng.normal(size=30)[g] + sd * rng.normal(size=10)[h] + rng.normal(size=300)
    return interlace.fit("y ~ 1", pd.DataFrame({"y": y, "g": g, "h": h}), groups=["g", "h"])


# ------------------------------------------------------------ known answers


def test_rows() -> None:
    """The standard error of a mean of ``n`` rows is ``sd / sqrt(n)``."""
    result = crossed()
    se = result.bootstrap_se("mean", 2000, "observation", seed=2)
    y = result.design.y
    assert se == pytest.approx(np.std(y) / np.sqrt(len(y)), rel=0.08)


def test_groups() -> None:
    """With equal groups it is that of the mean of the group means."""
    result = crossed()
    means = result.design.y.reshape(30, 10).mean(axis=1)
    se = result.bootstrap_se("mean", 2000, seed=2)
    assert se == pytest.approx(np.std(means) / np.sqrt(30), rel=0.08)


def test_all_factors() -> None:
    """Variances of the means of both factors add up, and that of the cells counts once more."""
    result = crossed()
    table = result.design.y.reshape(30, 10)
    g, h = (np.var(table.mean(axis=axis)) / size for axis, size in ((1, 30), (0, 10)))
    se = result.bootstrap_se("mean", 3000, group="all", seed=2)
    assert se == pytest.approx(np.sqrt(g + h), rel=0.1)
    assert se > result.bootstrap_se("mean", 3000, group="g", seed=2)


def test_groups_that_differ_make_it_larger() -> None:
    rows = crossed(2.0).bootstrap_se("mean", resample_level="observation", seed=3)
    for group in ("g", "h", "all"):
        assert crossed(2.0).bootstrap_se("mean", group=group, seed=3) > 1.5 * rows


def test_groups_that_do_not_differ_leave_it() -> None:
    rows = crossed(0.0).bootstrap_se("mean", 1000, "observation", seed=3)
    assert crossed(0.0).bootstrap_se("mean", 1000, seed=3) == pytest.approx(rows, rel=0.3)


@pytest.mark.parametrize(
    ("name", "function"),
    [("median", np.median), ("mean", np.mean), ("std", lambda y: np.std(y, ddof=1))],
)
def test_named_statistics_are_functions(name: str, function: Any) -> None:
    named, given = (crossed().bootstrap_se(s, 50, seed=4) for s in (name, function))
    assert isinstance(named, float)
    assert named == pytest.approx(given, rel=1e-12)


def test_a_constant_statistic_has_no_error() -> None:
    assert crossed().bootstrap_se(lambda y: 1.0, 20, seed=1) == 0.0


def test_the_first_group_of_the_formula_is_the_default() -> None:
    default, named = (crossed().bootstrap_se(group=g, seed=5) for g in (None, "g"))
    assert default == named
    assert default != crossed().bootstrap_se(group="h", seed=5)


# ------------------------------------------------------------ seeds


@pytest.mark.parametrize("group", ["g", "all"])
def test_seeds(group: str) -> None:
    first, again, other = (crossed().bootstrap_se(group=group, seed=s) for s in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_generator_goes_on() -> None:
    rng = np.random.default_rng(7)
    first, second = (crossed().bootstrap_se(n_bootstrap=50, seed=rng) for _ in range(2))
    assert first == crossed().bootstrap_se(n_bootstrap=50, seed=7)
    assert first != second


# ------------------------------------------------------------ draws


def test_whole_groups_are_drawn() -> None:
    codes = np.array([2, 0, 1, 2, 2, 0])
    draw, rng = _clusters(codes), np.random.default_rng(0)
    for _ in range(30):
        rows = draw(rng)
        times = np.bincount(rows, minlength=6)
        for level in range(3):  # every row of a group as often as the others
            assert len(set(times[codes == level])) == 1
        assert sum(times[codes == level][0] for level in range(3)) == 3


def test_pigeonhole_multiplies_the_factors() -> None:
    g, h = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    draw, rng = _pigeonhole([g, h]), np.random.default_rng(0)
    for _ in range(30):
        times = np.bincount(draw(rng), minlength=6).reshape(3, 2)
        assert np.linalg.matrix_rank(times) == 1
        assert times.sum() == 6


def test_pigeonhole_draws_again_when_nothing_is_left() -> None:
    diagonal = np.arange(2)
    draw, rng = _pigeonhole([diagonal, diagonal]), np.random.default_rng(0)
    assert all(len(draw(rng)) > 0 for _ in range(50))


def test_two_samples_are_enough() -> None:
    y = np.arange(10.0)
    groups = {"g": np.repeat(np.arange(5), 2)}
    options: dict[str, Any] = {"resample_level": "group", "group": None, "seed": 1}
    draws: list[float] = []

    def mean(sample: np.ndarray) -> float:
        draws.append(float(sample.mean()))
        return draws[-1]

    se = bootstrap_se(y, groups, statistic=mean, n_bootstrap=2, **options)
    assert_allclose(se, np.std(draws, ddof=1))


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"statistic": "mode"},
            "unknown statistic 'mode': choose one of median, mean, std, or pass a function of "
            "the response",
        ),
        ({"n_bootstrap": 1}, "n_bootstrap must be at least 2, not 1"),
        (
            {"resample_level": "cluster"},
            "resample_level must be 'group' or 'observation', not 'cluster'",
        ),
        ({"statistic": lambda y: [1, 2]}, "the statistic must return one number, not [1, 2]"),
        ({"statistic": lambda y: "high"}, "the statistic must return one number, not 'high'"),
        ({"group": "k"}, "unknown grouping factor 'k': choose one of g, h, or 'all'"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InterlaceError) as caught:
        crossed().bootstrap_se(**arguments)
    assert str(caught.value) == message
