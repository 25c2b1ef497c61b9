"""Power by simulation: a batch beside single fits, designs of other sizes, what is said."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.design.frame import factorize
from interlace.errors import InterlaceError
from interlace.inference.information import _profiled_information, traced_information
from interlace.inference.power.asked import Test as Asked
from interlace.inference.power.simulate import Plan, binomial_interval, template_of
from interlace.inference.power.sizes import combinations, resized
from interlace.inference.power.study import Study, _alone, _together
from interlace.inference.power.truth import of_estimate
from interlace.model.simulate import blocks

SLOPES = "Reaction ~ Days + (Days | Subject)"
MODELS = {
    "slopes": ("sleepstudy", SLOPES),
    "independent": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "crossed": ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "nested": ("pastes", "strength ~ 1 + (1 | batch/cask)"),
    "factor": ("machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"),
}


def fitted(name: str, **options: object) -> interlace.CrossedLMEResult:
    data, formula = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.SingularFitWarning)
        return interlace.fit(formula, interlace.datasets.load(data), **options)


def study(result: interlace.CrossedLMEResult, ddf: str) -> Study:
    assert result.design is not None
    p = len(result.fe_params)
    tests = [
        Asked(name, row[None], np.zeros(1))
        for name, row in zip(result.fe_params.index, np.eye(p), strict=True)
    ]
    if p > 1:
        tests.append(Asked("all", np.eye(p)[1:], np.full(p - 1, 0.5)))
    truth = of_estimate(result.estimate)
    return Study(result.design, truth, tests, ddf, result.method == "REML")


@pytest.mark.parametrize("ddf", ["normal", "satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_has_the_p_values_of_single_fits(name: str, ddf: str) -> None:
    made = study(fitted(name), ddf)
    assert made.batched
    (block,) = blocks(3, 12)
    responses = made.shared.rows.responses(made.drawn(block))
    alone = np.array([_alone(made, responses, i) for i in range(len(responses))])
    assert_allclose(_together(made, responses), alone, rtol=2e-4, atol=1e-12)


def test_by_ml_and_with_weights() -> None:
    sleep = interlace.datasets.load("sleepstudy")
    sleep["w"] = np.random.default_rng(5).uniform(0.5, 2.0, len(sleep))
    for method in ("ML", "REML"):
        result = interlace.fit(SLOPES, sleep, weights="w", method=method)
        made = study(result, "satterthwaite")
        (block,) = blocks(4, 8)
        responses = made.shared.rows.responses(made.drawn(block))
        alone = np.array([_alone(made, responses, i) for i in range(len(responses))])
        assert_allclose(_together(made, responses), alone, rtol=2e-4, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_second_derivatives_by_their_formula(name: str) -> None:
    estimate = fitted(name).estimate
    theta = estimate.theta + 0.05
    found = traced_information(estimate.criterion, theta)
    differences = _profiled_information(estimate.criterion, theta)
    assert_allclose(found, differences, rtol=1e-5, atol=1e-6 * np.abs(differences).max())


def test_many_variances_take_the_formula() -> None:
    rng = np.random.default_rng(7)
    data = pd.DataFrame(
        {
            "g": np.repeat(np.arange(30), 12),
            "x": rng.normal(size=360),
            "z": rng.normal(size=360),
            "w": rng.normal(size=360),
        }
    )
    X = np.column_stack([np.ones(360), data[["x", "z", "w"]]])
    b = rng.normal(size=(30, 4))[data["g"]]
    data["y"] = (X * b).sum(axis=1) + rng.normal(size=360)
    estimate = interlace.fit("y ~ x + z + w + (x + z + w | g)", data).estimate
    found = traced_information(estimate.criterion, estimate.theta)
    differences = _profiled_information(estimate.criterion, estimate.theta)
    assert_allclose(found, differences, rtol=1e-5, atol=1e-6 * np.abs(differences).max())


# ------------------------------------------------------------------ what comes back


def test_under_the_hypothesis_it_is_the_level() -> None:
    result = fitted("slopes", ddf="satterthwaite")
    table = result.power("Days", 1500, effects={"Days": 0.0}, seed=1).table
    assert table["lower"].item() < 0.05 < table["upper"].item()
    assert table["n_failed"].item() == 0


def test_more_levels_and_larger_effects_have_more_power() -> None:
    result = fitted("slopes", ddf="kenward-roger")
    power = result.power(n=200, sizes={"Subject": [6, 12, 36]}, effects={"Days": 4.0}, seed=1)
    assert power.table["power"].is_monotonic_increasing
    assert list(power.table.columns) == [
        "test",
        "Subject",
        "power",
        "lower",
        "upper",
        "n",
        "n_failed",
    ]
    assert power.smallest(0.9)["Subject"].item() == 36
    assert np.isnan(
        result.power(n=50, sizes={"Subject": [4]}, effects={"Days": 0.0}, seed=1)
        .smallest(0.9)["Subject"]
        .item()
    )
    assert "Power by simulation" in repr(power) and "<table>" in power._repr_html_()
    assert max(map(len, repr(power).splitlines())) <= 80


def test_seeds() -> None:
    result = fitted("slopes")
    first, again = (result.power(n=60, effects={"Days": 4.0}, seed=3).table for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    several = result.power(n=60, effects={"Days": 4.0}, seed=3, n_jobs=2).table
    pd.testing.assert_frame_equal(first, several)


def test_from_nothing_is_from_the_fit() -> None:
    result = fitted("slopes", ddf="satterthwaite")
    sleep = interlace.datasets.load("sleepstudy")[["Days", "Subject"]]
    described = interlace.power(
        "~ Days + (Days | Subject)",
        sleep,
        result.fe_params.to_dict() | {"Days": 4.0},
        {"Subject": result.variance_components["Subject"]},
        result.scale**0.5,
        n=100,
        seed=2,
    )
    given = result.power(n=100, effects={"Days": 4.0}, seed=2)
    pd.testing.assert_frame_equal(described.table, given.table)


def test_terms_and_equations() -> None:
    result = fitted("factor", ddf="satterthwaite")
    asked = ["Machine", "Machine[T.B]", "Machine[T.B] = Machine[T.C]"]
    table = result.power(asked, 40, seed=1).table
    assert table["test"].tolist() == asked
    table = result.power({"both": ["Machine[T.B]", "Machine[T.C]"]}, 40, seed=1).table
    assert table["test"].tolist() == ["both"]


def test_failures_count_against() -> None:
    """A design that leaves no residual: every fit fails."""
    design = pd.DataFrame({"g": [0, 0, 1, 1, 2, 2, 3, 3], "x": [0, 1] * 4})
    result = interlace.power(
        "~ x + (x | g)",
        pd.concat([design] * 2),
        {"Intercept": 0, "x": 50},
        {"g": [1.0, 1.0]},
        1.0,
        n=20,
        seed=1,
    )
    assert result.table["n"].item() == 20
    bad = [float("nan")] * 3 + [0.001] * 7
    p = np.array(bad)
    assert int((p < 0.05).sum()) == 7  # nan is never below


def test_exact_limits() -> None:
    assert binomial_interval(0, 10, 0.95) == (0.0, pytest.approx(0.3084971, abs=1e-6))
    assert binomial_interval(10, 10, 0.95) == (pytest.approx(0.6915029, abs=1e-6), 1.0)
    assert binomial_interval(5, 10, 0.95) == (
        pytest.approx(0.1870860, abs=1e-6),
        pytest.approx(0.8129140, abs=1e-6),
    )


# ------------------------------------------------------------------ sizes


def levels(column: object) -> int:
    return len(factorize(column)[1])  # type: ignore[arg-type]


def test_levels_are_left_out_or_repeated() -> None:
    columns = {"g": np.array(["a", "a", "b", "b", "c"], object), "x": np.arange(5.0)}
    fewer, which = resized(columns, ["g"], {"g": 2})
    assert fewer["g"].tolist() == ["a", "a", "b", "b"] and which.tolist() == [0, 1, 2, 3]
    more, which = resized(columns, ["g"], {"g": 5})
    assert levels(more["g"]) == 5 and len(which) == 9
    assert more["x"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]


@pytest.mark.parametrize("labels", [np.array([3, 3, 7, 7]), pd.Categorical(list("uuvv"))])
def test_new_names_are_new(labels: object) -> None:
    more, _ = resized({"g": labels}, ["g"], {"g": 7})  # type: ignore[dict-item]
    assert levels(more["g"]) == 7


def test_what_is_nested_is_new_too() -> None:
    columns = {"school": np.repeat([0, 1], 4), "class": np.repeat([0, 1, 2, 3], 2)}
    more, _ = resized(columns, ["school", "class"], {"school": 3})
    assert levels(more["school"]) == 3 and levels(more["class"]) == 6
    crossed = {"school": np.repeat([0, 1], 4), "item": np.tile([0, 1, 2, 3], 2)}
    more, _ = resized(crossed, ["school", "item"], {"school": 3})
    assert levels(more["item"]) == 4


def test_two_factors_grow_together() -> None:
    columns = {"s": np.repeat(np.arange(4), 6), "i": np.tile(np.arange(6), 4)}
    more, which = resized(columns, ["s", "i"], {"s": 6, "i": 9})
    assert levels(more["s"]) == 6 and levels(more["i"]) == 9 and len(which) == 54
    assert len(list(combinations({"s": [4, 6], "i": 9}, ["s", "i"]))) == 2


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": "Dais"}, "no coefficient or term 'Dais'; did you mean 'Days'"),
        ({"test": []}, "no test is asked for"),
        ({"effects": {"day": 1.0}}, "no coefficient 'day'"),
        ({"effects": {"Days": "x"}}, "must be a finite number"),
        ({"sizes": {"Days": [3]}}, "'Days' is no grouping column"),
        ({"sizes": {"Subject": [1]}}, "whole numbers from 2 on"),
        ({"sizes": {"Subject": [2.5]}}, "whole numbers from 2 on"),
        ({"n": 0}, "n must be a positive whole number"),
        ({"ddf": "between"}, "ddf must be one of"),
        ({"level": 95}, "strictly between 0 and 1"),
        ({"n_jobs": 0}, "n_jobs must be"),
    ],
)
def test_what_makes_no_sense(arguments: Mapping[str, object], message: str) -> None:
    with pytest.raises(InterlaceError, match=message):
        fitted("slopes").power(**({"n": 10} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fixed": {"Intercept": 0.0}}, "give a value for the coefficient 'x'"),
        ({"fixed": {"Intercept": 0.0, "x": 1.0, "z": 2.0}}, "no coefficient 'z'"),
        ({"random": {}}, "give a value for the grouping factor 'g'"),
        ({"random": {"g": 1.0, "h": 1.0}}, "no grouping factor 'h'"),
        ({"random": {"g": -1.0}}, "need 1 standard deviations"),
        ({"random": {"g": [1.0, 2.0]}}, "need 1 standard deviations"),
        ({"sigma": 0.0}, "sigma must be a positive number"),
        ({"method": "MLE"}, "method must be"),
    ],
)
def test_descriptions_that_do_not_fit(changes: Mapping[str, object], message: str) -> None:
    design = pd.DataFrame({"g": np.repeat(np.arange(8), 4), "x": np.tile([0, 1], 16)})
    said: dict[str, object] = {
        "fixed": {"Intercept": 0.0, "x": 1.0},
        "random": {"g": 1.0},
        "sigma": 1.0,
    }
    with pytest.raises(InterlaceError, match=message):
        interlace.power("y ~ x + (1 | g)", design, n=5, **(said | changes))  # type: ignore[arg-type]


def test_without_data() -> None:
    import pickle

    result = pickle.loads(pickle.dumps(fitted("slopes")))
    with pytest.raises(InterlaceError, match=r"use interlace\.power"):
        result.power("Days", 10)
    assert Plan().n == 1000


def test_missing_rows_stay_out() -> None:
    sleep = interlace.datasets.load("sleepstudy")
    sleep.loc[::7, "Reaction"] = np.nan
    result = interlace.fit(SLOPES, sleep)
    assert len(template_of(result).design({}).y) == result.nobs


@pytest.mark.parametrize("seed", [0, 1])
def test_columns_drawn_first_from_a_seed_are_no_noise_that_stands_in(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.standard_normal(60), "g": np.repeat(np.arange(10), 6)})
    frame["y"] = frame["x"] + rng.normal(size=60) + rng.normal(size=10)[frame["g"]]
    result = interlace.fit("y ~ x + (1 | g)", frame)
    assert 0.0 <= result.power("x", n=20, seed=1).table["power"].iloc[0] <= 1.0
