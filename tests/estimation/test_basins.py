"""Several minima: the lowest is found, by a single fit and by a batch of them alike."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace import SingularFitWarning, fit, fit_many, hlm_influence
from interlace.batch.fits import fit_stacked
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation import basins
from interlace.estimation.basins import elsewhere, raised, suspect
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.estimation.moments import moment_start
from interlace.estimation.optimize import minimize
from interlace.estimation.search import Outcome
from interlace.sums.crossprod import cross_products
from random_models import RandomModel, random_model

pytestmark = pytest.mark.filterwarnings("ignore::interlace.SingularFitWarning")

SLOPES = "y ~ x + (x || g)"


def two_minima() -> pd.DataFrame:
    """Four curves; a search from moments ends where no variance is left."""
    y = (0.7657, 1.4743, 0.9423, 1.2505, -0.1341, -0.1585, 0.3829, 0.9203)
    y += (-0.6097, -0.2213, 0.4762, 1.3795, -0.8406, -0.3188, 0.9338, 1.9695)
    x = [0.25, 1.1667, 2.0833, 3.0] * 4
    return pd.DataFrame({"x": x, "g": np.repeat(list("abcd"), 4), "y": y})


def criterion_of(model: RandomModel) -> Criterion:
    design = assemble(parse(model.formula), model.data, weights=model.weights)
    return Criterion(cross_products(design), model.method == "REML")


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_the_lower_of_two_minima_in_any_units(unit: float) -> None:
    data = two_minima()
    result = fit(SLOPES, data.assign(x=data["x"] * unit))
    assert result.criterion == pytest.approx(26.188923 + 2 * np.log(unit), abs=1e-5)
    assert result.convergence.n_starts > 1 < result.convergence.n_basins
    assert "minima of the criterion were seen" in str(result.summary())


def test_a_regular_fit_is_searched_once() -> None:
    result = fit("Reaction ~ Days + (Days | Subject)", interlace.datasets.load("sleepstudy"))
    assert (result.convergence.n_starts, result.convergence.n_basins) == (1, 1)
    assert result.convergence.n_evaluations <= 8


def test_evaluations_of_all_searches_count() -> None:
    seen: list[int] = []
    criterion = Criterion(cross_products(assemble(parse(SLOPES), two_minima())), True)
    found = estimate_theta(criterion, watch=lambda n, point, gain: seen.append(n))
    assert seen == sorted(seen)
    assert found.convergence.n_evaluations >= seen[-1]


def test_the_warning_says_what_was_checked() -> None:
    data = interlace.datasets.load("dyestuff2")
    with pytest.warns(SingularFitWarning, match="none better was found from 1 other start"):
        fit("Yield ~ 1 + (1 | Batch)", data)


def test_many_fits_follow_the_rule() -> None:
    data = two_minima()
    Y = np.column_stack([data["y"], 3.0 * data["y"], data["y"] - data["x"]])
    many = fit_many("~ x + (x || g)", data.drop(columns="y"), Y)
    right = [fit(SLOPES, data.assign(y=y)).llf for y in Y.T]
    assert_allclose(many.glance()["logLik"], right, atol=1e-6)
    assert right[0] == pytest.approx(-0.5 * 26.188923, abs=1e-5)


def test_deletions_follow_the_rule() -> None:
    data = two_minima()
    extra = pd.DataFrame({"x": data["x"][:4], "g": "e", "y": 0.3 * data["x"][:4]})
    both = pd.concat([data, extra], ignore_index=True)
    result = fit(SLOPES, both)
    table = hlm_influence(result, "g", approx=False)
    for level in "abcde":
        other = fit(SLOPES, both[both["g"] != level])
        change = (result.fe_params - other.fe_params).to_numpy()
        cooks = change @ np.linalg.solve(result.fe_cov, change) / len(change)
        assert table.loc[level, "cooksd"] == pytest.approx(cooks, rel=1e-4, abs=1e-8)


def test_a_batch_takes_what_a_single_fit_takes() -> None:
    data = two_minima()
    frames = [data, data.assign(y=data["y"] - 0.4 * data["x"]), data.assign(y=data["y"] * 2)]
    criteria = [Criterion(cross_products(assemble(parse(SLOPES), one)), True) for one in frames]
    together = fit_stacked(criteria, np.array([1.0, 1.0]))
    assert together.errors == {}
    alone = [estimate_theta(one) for one in criteria]
    assert_allclose(together.value, [one.value for one in alone], atol=1e-6)
    assert together.singular.tolist() == [one.is_singular for one in alone]


def test_starts_are_far_from_singular_and_known_minima_are_left() -> None:
    criterion = Criterion(cross_products(assemble(parse(SLOPES), two_minima())), True)
    (term,) = criterion.A.terms
    zero = [np.zeros((2, 2))]
    assert suspect([term], zero)
    starts = list(elsewhere([term], zero, np.zeros((2, 2)), [np.eye(2)], loose=False))
    assert len(starts) == 4 and not any(suspect([term], start) for start in starts)
    assert_allclose(raised(np.diag([2.0, 0.0]), 0.1), np.diag([2.0, 0.1]))
    best = minimize(criterion, criterion.pack(starts[1]))
    near = criterion(best.x + 1e-2)
    assert basins._known([term], [best], best.x + 1e-2, near, 1e-3)
    assert not basins._known([term], [best], best.x + 1e-2, near, 50.0)


@pytest.mark.parametrize(
    ("excess", "slope", "gain", "known"),
    [
        (50.0, 100.0, 45.0, True),  # a parabola
        (40.0, 80.0, 36.0, True),
        (50.0, 100.0, 20.0, False),  # little is promised: another minimum may be on the way
        (50.0, 100.0, 90.0, False),
        (50.0, 50.0, 45.0, False),  # a shoulder
        (110.0, 220.0, 100.0, False),
    ],
)
def test_far_from_a_known_minimum_both_ends_tell_of_one_bowl(
    excess: float, slope: float, gain: float, known: bool
) -> None:
    (term,) = Criterion(cross_products(assemble(parse(SLOPES), two_minima())), True).A.terms
    H = np.diag([100.0, 1.0])
    minimum = SimpleNamespace(
        x=np.ones(2), point=SimpleNamespace(value=0.0, newton_matrix=H), converged=True
    )
    for sign in (1.0, -1.0):
        there = SimpleNamespace(
            value=excess,
            gradient=np.array([sign * slope, 0.0]),
            newton_matrix=H * 2.0 * excess / 100.0,
        )
        x = np.array([sign * 2.0, 1.0])
        assert basins._known([term], [minimum], x, there, gain) is known


@pytest.mark.parametrize(
    ("excess", "before", "known"),
    [
        (50.0, 400.0, True),
        (45.0, 400.0, True),
        (50.0, 200.0, False),  # no fall
        (80.0, 800.0, False),  # the model says 50
        (50.0, np.inf, False),  # a start
    ],
)
def test_a_fall_to_what_the_model_of_a_known_minimum_says(
    excess: float, before: float, known: bool
) -> None:
    (term,) = Criterion(cross_products(assemble(parse(SLOPES), two_minima())), True).A.terms
    point = SimpleNamespace(value=0.0, newton_matrix=np.diag([100.0, 1.0]))
    minimum = SimpleNamespace(x=np.ones(2), point=point, converged=True)
    there = SimpleNamespace(value=excess)
    assert basins._fell_into([term], [minimum], np.array([-2.0, 1.0]), there, before) is known


def test_differences_are_seen_from_both_ends() -> None:
    (term,) = criterion_of(random_model(1411)).A.terms
    rng = np.random.default_rng(0)
    T0, apart = rng.normal(size=(2, term.k, term.k))
    apart = 0.01 * (apart @ T0.T + T0 @ apart.T) @ np.linalg.inv(T0.T)  # no rotation is nearer
    Q, _ = np.linalg.qr(rng.normal(size=(term.k, term.k)))
    x, known = ((T0 + apart) @ Q).ravel(), T0.ravel()
    there, here = basins._differences([term], x, known)
    assert_allclose(np.linalg.norm(there), np.linalg.norm(here))
    assert np.linalg.norm(there) <= np.linalg.norm(apart) * (1.0 + 1e-12)
    assert_allclose((x - here).reshape(T0.shape) @ (x - here).reshape(T0.shape).T, T0 @ T0.T)


def test_a_small_regular_minimum_near_a_singular_one_is_searched_again() -> None:
    """Two regular minima here, of which a search from moments finds the higher."""
    criterion = criterion_of(random_model(1411))
    first = minimize(criterion, criterion.pack(moment_start(criterion)))
    templates = criterion.unpack(first.x)
    terms = criterion.A.terms
    assert not suspect(terms, templates)
    assert basins.doubted(
        terms, templates, first.point.newton_matrix, np.asarray(first.n_evaluations), loose=False
    )
    found = estimate_theta(criterion)
    assert found.value < first.point.value - 0.01
    assert found.convergence.n_basins == 2 and found.convergence.doubtful


def test_a_lower_value_is_not_left_for_a_higher_one_that_converged() -> None:
    criterion = Criterion(cross_products(assemble(parse(SLOPES), two_minima())), True)
    starts = elsewhere(
        criterion.A.terms, [np.zeros((2, 2))], np.zeros((2, 2)), [np.eye(2)], loose=False
    )
    best = min(
        (minimize(criterion, criterion.pack(s)) for s in starts), key=lambda m: m.point.value
    )
    higher = minimize(criterion, np.zeros(2))
    stuck = replace(best, outcome=Outcome.STUCK)
    assert higher.point.value > best.point.value + 1e-3
    assert basins._better(stuck, higher) and not basins._better(higher, stuck)
    assert basins._better(best, stuck) and not basins._better(stuck, best)


# ------------------------------------------------------------------ random models


def other_starts(criterion: Criterion, seed: int) -> list[np.ndarray]:
    """lme4's, one far from zero, and two at random."""
    terms = criterion.A.terms
    rng = np.random.default_rng(seed)
    units = criterion.working([np.eye(t.k) for t in terms])
    far = [10.0 * np.eye(t.k) for t in terms]
    drawn = [
        [
            t.template(rng.normal(size=t.template.size)) * np.exp(rng.uniform(-2.0, 2.0))
            for t in terms
        ]
        for _ in range(2)
    ]
    return [criterion.pack(start) for start in (units, far, *drawn)]


def lower_elsewhere(model: RandomModel) -> tuple[float, bool]:
    """By how much another start finds a lower value than the fit does, and whether it is sure."""
    criterion = criterion_of(model)
    best = estimate_theta(criterion)
    found = [minimize(criterion, start) for start in other_starts(criterion, model.seed)]
    lowest = min((one.point.value for one in found if one.converged), default=best.value)
    sure = best.convergence.converged and not best.convergence.doubtful
    return best.value - lowest, sure


def beaten(seeds: range) -> tuple[int, list[str], list[str]]:
    """Models tried, those with a lower value elsewhere, and those of them that do not say so."""
    tried, worse, silent = 0, [], []
    for seed in seeds:
        model = random_model(seed)
        try:
            gap, sure = lower_elsewhere(model)
        except (interlace.InterlaceError, np.linalg.LinAlgError):
            continue  # refused, or no residual variance
        tried += 1
        if gap > 1e-6:
            worse.append(f"{model}: {gap:.3g}")
            silent += [str(model)] * sure
    return tried, worse, silent


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [5017, 5058, 5064, 5078, 5086, 5145, *range(5000, 5012)])
def test_what_a_search_has_left_of_a_zero_is_reported_as_zero(seed: int) -> None:
    """A variance is 0, or 0 to no digit that is printed; so are its standard deviation and row."""
    model = random_model(seed)
    try:
        result = fit(model.formula, model.data, method=model.method, weights=model.weights)
    except interlace.InterlaceError:
        pytest.skip("refused")
    A = result.estimate.A
    sizes = zip(result.estimate.user_templates, A.basis.root_mean_squares, strict=True)
    for T, size in sizes:
        rows = np.linalg.norm(T, axis=1) * size
        assert ((rows == 0.0) | (rows > 2e-5)).all()
        assert ((np.diag(T) == 0.0) | (np.diag(T) * size > 2e-5)).all()
    assert "e-1" not in str(result.summary()).split("Fixed effects")[0].split("Std. dev.")[1]


@pytest.mark.filterwarnings("ignore")
def test_other_starts_find_nothing_better_on_a_few_random_models() -> None:
    assert beaten(range(3000, 3012))[1] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", [0, 700_000])
def test_other_starts_find_nothing_better_on_random_models(first: int) -> None:
    """At most 1 in 1,000, and such a fit is reported as doubtful."""
    tried, worse, silent = beaten(range(first, first + 1200))
    print(f"seeds {first} to {first + 1199}: {tried} models", f"{len(worse)} beaten", sep=", ")
    print(*worse, sep="\n")
    assert tried >= 1000
    assert len(worse) <= tried / 1000, "\n".join(worse)
    assert silent == []
