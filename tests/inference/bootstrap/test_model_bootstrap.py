"""Bootstrap of a fitted model: parametric, residual, wild, cases."""

from __future__ import annotations

import functools
import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import dense
import interlace
from fits import of_case
from fits import of_small as fit
from interlace import InterlaceError
from interlace.batch.refits import weighted_columns
from interlace.errors import ConvergenceWarning
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.inference.bootstrap.cases import cases
from interlace.inference.bootstrap.resample import (
    BootstrapResult,
    _Parameters,
    _runner,
    bootstrap,
)
from interlace.inference.bootstrap.running import Statistic
from interlace.inference.bootstrap.samplers import (
    Residual,
    WildClusters,
    WildParts,
    containing,
    mammen,
    reflated,
    wild,
)
from interlace.model.predict import fitted
from interlace.model.simulate import blocks, expected, simulate
from interlace.sums.crossprod import cross_products
from reference import cases as reference

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

GOLDEN = sorted((reference.HERE / "golden").glob("*.bootstrap.json"))
KINDS = ("parametric", "residual", "wild", "cases")


@functools.cache
def sleep() -> interlace.CrossedLMEResult:
    data = interlace.datasets.load("sleepstudy")
    return interlace.fit("Reaction ~ Days + (Days | Subject)", data)


def groups(result: interlace.CrossedLMEResult) -> dict[str, np.ndarray]:
    design = result.design
    codes = dict(zip([t.group for t in design.terms], design.codes, strict=True))
    return {term.key: codes[term.key] for term in result.formula.random}


# ------------------------------------------------------------ lme4's replicates


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.name.split(".")[0])
def test_parametric_bootstrap_of_lme4(path) -> None:
    """Means within 5 standard errors, standard deviations within a few per cent."""
    golden = json.loads(path.read_text())
    result = of_case(golden["case"])
    found = bootstrap(result, 4000, seed=11)
    theirs = [golden[key] for key in ("param", "boot_mean", "boot_sd", "mc_se_of_mean")]
    for param, mean, sd, mc_se in zip(*theirs, strict=True):
        values = found.replicates[_our_name(param, list(found.replicates.columns))]
        combined = np.hypot(mc_se, values.std() / np.sqrt(len(values)))
        assert abs(values.mean() - mean) < 5 * combined, param
        assert values.std() == pytest.approx(sd, rel=0.06), param
    _agree_in_quartiles(golden, found.replicates)


def _agree_in_quartiles(golden: dict, replicates: pd.DataFrame) -> None:
    """Within 5 standard errors, which for a quartile are at most 1.36 times those of a mean."""
    at = golden["quantiles"]["probs"]
    both = zip(golden["param"], golden["quantiles"]["values"], strict=True)
    for (param, quantiles), mc_se in zip(both, golden["mc_se_of_mean"], strict=True):
        values = replicates[_our_name(param, list(replicates.columns))]
        combined = np.hypot(mc_se, values.std() / np.sqrt(len(values)))
        assert_allclose(values.quantile(at[1:4]), quantiles[1:4], atol=5 * 1.36 * combined)


def _our_name(param: str, columns: list[str]) -> str:
    """The column for lme4's `sd|group|column`, `cor|group|a,b`, or a coefficient."""
    parts = param.split("|")
    for column in columns:
        if len(parts) == 1 and reference.r_name(column) == param:
            return column
        found = re.match(r"(sd|cor)_(.*)\|(.*)", column)
        if len(parts) == 3 and found and found[1] == parts[0]:
            names = [reference.r_name(c) for c in reversed(found[2].split("."))]
            alike = found[3] in (parts[1], ":".join(parts[1].split(":")[::-1]))
            if alike and ",".join(names) == parts[2]:
                return column
    raise AssertionError(param)


# ------------------------------------------------------------ reproducible


@pytest.mark.parametrize("kind", KINDS)
def test_replicates_depend_on_seed_and_number_alone(kind: str) -> None:
    one = bootstrap(sleep(), 40, kind, seed=5)
    fewer = bootstrap(sleep(), 20, kind, seed=5)
    assert_allclose(fewer.replicates, one.replicates.iloc[:20], rtol=1e-5, atol=1e-4)
    other = bootstrap(sleep(), 20, kind, seed=6)
    assert np.abs(other.replicates["Days"] - fewer.replicates["Days"]).min() > 0
    again = bootstrap(sleep(), 20, kind, seed=np.random.SeedSequence(fewer.entropy))
    pd.testing.assert_frame_equal(again.replicates, fewer.replicates)


@pytest.mark.parametrize(("kind", "n"), [("parametric", 2100), ("cases", 40)])
def test_processes_change_nothing(kind: str, n: int) -> None:
    one = bootstrap(sleep(), n, kind, seed=5, n_jobs=1)
    two = bootstrap(sleep(), n, kind, seed=5, n_jobs=2)
    pd.testing.assert_frame_equal(one.replicates, two.replicates)
    assert one.n_singular == two.n_singular


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("statistic", [None, abs])
def test_work_can_be_sent_to_another_process(kind: str, statistic: object) -> None:
    """What another process does is pickled."""
    result = sleep()
    reader = _Parameters(result) if statistic is None else Statistic(result, _days)
    run = _runner(result, result.design, kind, None, reader)
    copy = pickle.loads(pickle.dumps(run))
    task = list(blocks(3, 4))
    one, two = run(task), copy(task)
    assert_allclose(one.values, two.values, rtol=1e-12)
    assert np.isfinite(one.values).all()


def _days(result: interlace.CrossedLMEResult) -> float:
    return result.fe_params["Days"]


def test_parametric_replicates_are_fits_to_simulated_responses() -> None:
    result = sleep()
    drawn = simulate(result.design, result.estimate, 3, seed=8)
    found = bootstrap(result, 3, seed=8)
    for i in range(3):
        again = result.refit(drawn[:, i])
        assert_allclose(found.replicates.loc[i, ["Intercept", "Days"]], again.fe_params, rtol=1e-5)
        assert found.replicates.loc[i, "sigma"] == pytest.approx(np.sqrt(again.scale), rel=1e-5)
        covariance = again.variance_components["Subject"]
        sd = np.sqrt(covariance.loc["Days", "Days"])
        assert found.replicates.loc[i, "sd_Days|Subject"] == pytest.approx(sd, rel=1e-4)


# ------------------------------------------------------------ residual


@pytest.mark.parametrize(("name", "weighted"), dense.MODELS)
def test_reflated_effects_have_the_estimated_covariance(name: str, weighted: bool) -> None:
    result = fit(name, weighted)
    source = reflated(result.design, result.estimate)
    assert source.e.mean() == pytest.approx(0.0, abs=1e-12)
    assert (source.e**2).mean() == pytest.approx(result.scale, rel=1e-12)
    for b, V, plain in zip(source.b, result.estimate.covariances, result.estimate.b, strict=True):
        assert_allclose(b.mean(axis=0), 0.0, atol=1e-12)
        if np.linalg.matrix_rank(plain - plain.mean(axis=0), tol=1e-7) == np.linalg.matrix_rank(
            V, tol=1e-9
        ):
            assert_allclose(b.T @ b / len(b), V, atol=1e-9 * max(np.abs(V).max(), 1.0))


def test_singular_covariances_are_no_trouble() -> None:
    """Effects of variance zero stay zero, correlations of one stay one."""
    result = fit("y ~ x + (1 + x + z | h)")
    assert result.is_singular
    source = reflated(result.design, result.estimate)
    V = result.estimate.covariances[0]
    assert_allclose(source.b[0].T @ source.b[0] / 5, V, atol=1e-8 * np.abs(V).max())


def test_residual_draws() -> None:
    """A replicate is made of effects and residuals of the fit, and nothing else."""
    result = fit("crossed", True)
    source = reflated(result.design, result.estimate)
    sampler = Residual(result.design, source)
    drawn = sampler.deviations(np.random.default_rng(1), 3)
    g, h = result.design.codes
    w = np.sqrt(result.design.weights)
    uniform = np.random.default_rng(1).random((3, sampler.n_draws))[1]
    l, m, n = *(t.l for t in result.design.terms), len(w)
    first, second = (uniform[:l] * l).astype(int), (uniform[l : l + m] * m).astype(int)
    rows = (uniform[l + m :] * n).astype(int)
    b = source.b[0][first, 0][g] + source.b[1][second, 0][h]
    assert_allclose(drawn[:, 1], b + source.e[rows] / w)


# ------------------------------------------------------------ wild


def test_mammen() -> None:
    """Mean 0, second and third moments 1."""
    values = mammen((np.arange(100_000) + 0.5) / 100_000)
    assert_allclose([(values**k).mean() for k in (1, 2, 3)], [0, 1, 1], atol=1e-4)


def test_wild_clusters() -> None:
    """Whole clusters keep or change their residuals together, adjusted for leverage."""
    result = fit("slope", True)
    design, estimate = result.design, result.estimate
    sampler = wild(design, estimate, weighted_columns(design, estimate.A), groups(result))
    assert isinstance(sampler, WildClusters)
    root = np.sqrt(design.weights)
    X = root[:, None] * design.X
    H = X @ np.linalg.inv(X.T @ X) @ X.T
    r = root * (design.y - expected(design, estimate))
    for level in range(design.terms[0].l):
        rows = design.codes[0] == level
        values, vectors = np.linalg.eigh(np.eye(rows.sum()) - H[np.ix_(rows, rows)])
        adjusted = vectors @ (vectors.T @ r[rows] / np.sqrt(values))
        assert_allclose(sampler.residuals[rows] * root[rows], adjusted)
    drawn = sampler.deviations(np.random.default_rng(1), 4)
    ratios = drawn / sampler.residuals[:, None]
    for level in range(design.terms[0].l):
        assert np.ptp(ratios[design.codes[0] == level], axis=0).max() < 1e-9
    assert {round(float(v), 6) for v in ratios.ravel()} == {-0.618034, 1.618034}


def test_wild_with_a_cluster_that_determines_a_coefficient() -> None:
    """Leverage 1 leaves the residuals finite."""
    data = dense.frame().assign(d=lambda f: (f["g"] == "g0").astype(float))
    result = interlace.fit("y ~ d + (1 | g)", data)
    rows = weighted_columns(result.design, result.estimate.A)
    sampler = wild(result.design, result.estimate, rows, groups(result))
    assert np.isfinite(sampler.residuals).all()
    assert np.abs(sampler.residuals).max() < 10


def test_wild_without_fixed_effects() -> None:
    result = fit("y ~ 0 + (1 | g)")
    rows = weighted_columns(result.design, result.estimate.A)
    sampler = wild(result.design, result.estimate, rows, groups(result))
    assert_allclose(sampler.residuals, result.design.y)


def test_nested_factors_are_one_cluster_crossed_ones_are_not() -> None:
    assert containing(groups(fit("nested in three levels"))) == "a"
    assert containing(groups(fit("intercept"))) == "g"
    assert containing(groups(fit("crossed"))) is None
    assert containing(groups(fit("nested and crossed"))) is None


def test_wild_parts_of_crossed_factors() -> None:
    """One multiplier for each level of a factor, shared by its terms, and one for each row."""
    result = fit("y ~ x + (1 | g) + (0 + x | g) + (1 | h)")
    design, estimate = result.design, result.estimate
    sampler = wild(design, estimate, weighted_columns(design, estimate.A), groups(result))
    assert isinstance(sampler, WildParts)
    l = {t.group: t.l for t in design.terms}
    assert sampler.n_draws == l["g"] + l["h"] + len(design.y)
    places = dict(zip([t.group for t in design.terms], sampler.starts, strict=False))
    uniform = np.random.default_rng(1).random((2, sampler.n_draws))[1]
    m = mammen(uniform)
    total = sampler.source.e * m[l["g"] + l["h"] :]
    for t, codes, Z, b in zip(design.terms, design.codes, design.Z, sampler.source.b, strict=True):
        total = total + m[places[t.group] + codes] * (Z * b[codes]).sum(axis=1)
    assert_allclose(sampler.deviations(np.random.default_rng(1), 2)[:, 1], total)


# ------------------------------------------------------------ cases


def sampled(result: interlace.CrossedLMEResult, group: str | None, seed: int = 1):
    drawer = cases(result.design, result.estimate.A.names, groups(result), group)
    uniform = np.random.default_rng(seed).random(drawer.n_draws)
    return drawer, uniform, drawer.sample(uniform)[0]


def test_levels_with_their_rows() -> None:
    """Every copy of a level is a level of its own, with all rows; crossed labels stay."""
    result = fit("crossed")
    _, uniform, sample = sampled(result, "h")
    names = [t.group for t in result.design.terms]
    g, h = (result.design.codes[names.index(name)] for name in "gh")
    levels = (uniform * 5).astype(int)
    assert len(sample.y) == sum((h == level).sum() for level in levels)
    new_g, new_h = (sample.codes[names.index(name)] for name in "gh")
    assert new_h.max() == 4
    for copy, level in enumerate(np.sort(levels)):
        assert_allclose(np.sort(sample.y[new_h == copy]), np.sort(result.design.y[h == level]))
    old = {y: code for y, code in zip(result.design.y, g, strict=True)}
    pairs = {(old[y], code) for y, code in zip(sample.y, new_g, strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_nested_levels_are_copied_with_those_above() -> None:
    result = fit("nested in three levels")
    _, uniform, sample = sampled(result, "a")
    levels = (uniform * 4).astype(int)
    design = result.design
    by_name = {t.group: c for t, c in zip(design.terms, design.codes, strict=True)}
    new = {t.group: c for t, c in zip(sample.terms, sample.codes, strict=True)}
    for inner in ("a:b", "a:b:c"):
        expected_levels = sum(len(np.unique(by_name[inner][by_name["a"] == a])) for a in levels)
        assert new[inner].max() + 1 == expected_levels
        assert len(set(zip(new[inner], new["a"], strict=True))) == expected_levels


def test_drawing_an_inner_factor_keeps_the_outer_one() -> None:
    result = fit("nested in three levels")
    _, _, sample = sampled(result, "a:b")
    new = {t.group: c for t, c in zip(sample.terms, sample.codes, strict=True)}
    assert new["a"].max() <= 3
    assert new["a:b"].max() == 7


def test_pigeonhole() -> None:
    """A row occurs as often as its levels together say, every pair of copies a cell."""
    result = fit("crossed")
    drawer, uniform, sample = sampled(result, "all")
    assert drawer.drawn == ("g", "h")
    by_name = {t.group: c for t, c in zip(result.design.terms, result.design.codes, strict=True)}
    g, h = (uniform[:9] * 9).astype(int), (uniform[9:] * 5).astype(int)
    times = np.bincount(g, minlength=9)[by_name["g"]] * np.bincount(h, minlength=5)[by_name["h"]]
    assert_allclose(np.sort(sample.y), np.sort(np.repeat(result.design.y, times)))
    new = {t.group: c for t, c in zip(sample.terms, sample.codes, strict=True)}
    cells = list(zip(new["g"], new["h"], sample.y, strict=True))
    assert len(set(cells)) == len(cells)


def test_rows() -> None:
    result = fit("slope", True)
    _, uniform, sample = sampled(result, "observation")
    rows = (uniform * len(result.design.y)).astype(int)
    assert_allclose(sample.y, result.design.y[rows])
    assert_allclose(sample.weights, result.design.weights[rows])
    assert_allclose(sample.X, result.design.X[rows])


def test_a_replicate_of_cases_is_the_fit_of_its_rows() -> None:
    result = fit("crossed", True)
    found = bootstrap(result, 16, "cases", group="h", seed=4)
    drawer = cases(result.design, result.estimate.A.names, groups(result), "h")
    uniform = next(blocks(4, 16)).rng.random((16, drawer.n_draws))
    one = estimate_theta(Criterion(cross_products(drawer.sample(uniform[7])[0]), True))
    assert_allclose(found.replicates.loc[7, ["Intercept", "x"]], one.beta, rtol=1e-5)
    assert found.replicates.loc[7, "sigma"] == pytest.approx(one.sigma, rel=1e-5)


def test_impossible_samples_are_counted() -> None:
    """Two levels, of which one may be drawn twice: then a dummy of one of them is redundant."""
    rng = np.random.default_rng(1)
    d = np.repeat([0.0, 0.0, 1.0], 30)
    g = np.repeat(np.arange(3), 30)
    h = np.tile(np.arange(10), 9)
    y = rng.normal(size=90) + rng.normal(size=10)[h] + d
    result = interlace.fit("y ~ d + (1 | g) + (1 | h)", {"y": y, "d": d, "g": g, "h": h})
    with pytest.warns(ConvergenceWarning, match="replicates failed and are left out") as caught:
        found = bootstrap(result, 60, "cases", seed=1)
    assert len(caught) == 1
    assert found.n_failed == len(found.failures) == 60 - len(found.replicates) > 5
    assert set(found.failures.values()) == {"the fixed effects of the sample are rank deficient: d"}
    assert set(found.failures).isdisjoint(found.replicates.index)
    assert np.isfinite(found.replicates.to_numpy()).all()
    assert f"{found.n_failed} failed" in repr(found)


def test_a_level_drawn_alone_is_a_failure() -> None:
    """Rows that all belong to one level of another factor leave nothing to compare."""
    g = np.repeat(np.arange(6), 10)
    h = np.repeat([0, 0, 0, 0, 0, 1], 10)
    y = np.random.default_rng(2).normal(size=60)
    result = interlace.fit("y ~ 1 + (1 | g) + (1 | h)", {"y": y, "g": g, "h": h})
    with pytest.warns(ConvergenceWarning):
        found = bootstrap(result, 40, "cases", group="g", seed=1)
    assert "the sample has 1 level of 'h'" in found.failures.values()


# ------------------------------------------------------------ kinds agree where they should


@pytest.mark.parametrize("kind", ["residual", "wild", "cases"])
def test_standard_errors_of_a_good_model(kind: str) -> None:
    """With normal data and many groups, all kinds estimate the same standard errors."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(60), 6)
    x = rng.normal(size=360)
    y = 1 + x + 1.5 * rng.normal(size=60)[g] + rng.normal(size=360)
    result = interlace.fit("y ~ x + (1 | g)", {"y": y, "x": x, "g": g})
    found = bootstrap(result, 400, kind, seed=2)
    assert_allclose(found.se[["Intercept", "x"]], result.fe_bse, rtol=0.2)
    assert found.bias.abs().max() < 0.1


# ------------------------------------------------------------ statistics


def test_a_number() -> None:
    found = bootstrap(sleep(), 8, seed=8, statistic=lambda r: r.fe_params["Days"])
    assert list(found.replicates.columns) == ["statistic"]
    assert_allclose(found.replicates["statistic"], bootstrap(sleep(), 8, seed=8).replicates["Days"])
    assert found.estimate["statistic"] == pytest.approx(sleep().fe_params["Days"])


def test_an_array_and_a_series() -> None:
    array = bootstrap(sleep(), 4, seed=8, statistic=lambda r: r.fe_params.to_numpy())
    assert list(array.replicates.columns) == ["statistic[0]", "statistic[1]"]
    series = bootstrap(sleep(), 4, seed=8, statistic=lambda r: r.fe_params, n_jobs=2)
    assert list(series.replicates.columns) == ["Intercept", "Days"]
    assert_allclose(array.replicates.to_numpy(), series.replicates.to_numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_a_statistic_sees_a_whole_result(kind: str) -> None:
    """Labels, rows, random effects and predictions of the replicate."""

    def statistic(result: interlace.CrossedLMEResult) -> list[float]:
        effects = result.random_effects["Subject"]
        assert_allclose(result.fittedvalues + result.resid, result.design.y)
        return [effects["Days"].std(), result.predict().mean(), result.criterion]

    found = bootstrap(sleep(), 5, kind, seed=8, statistic=statistic)
    assert found.replicates.shape == (5, 3)
    assert (found.replicates.std() > 0).all()


def test_statistics_of_another_length() -> None:
    lengths = iter([2, 2, 3, 2, 2])
    with pytest.warns(ConvergenceWarning):
        found = bootstrap(sleep(), 4, seed=1, statistic=lambda r: np.ones(next(lengths)))
    assert found.failures == {
        1: "the statistic of a replicate has 3 values (statistic[0], statistic[1], statistic[2]), "
        "that of the fit 2 (statistic[0], statistic[1])"
    }


@pytest.mark.parametrize("value", ["text", np.ones((2, 2)), None])
def test_statistics_that_are_no_numbers(value: object) -> None:
    with pytest.raises(InterlaceError, match="the statistic must return a number, a flat array"):
        bootstrap(sleep(), 4, seed=1, statistic=lambda r: value)


def test_errors_of_a_statistic_are_shown() -> None:
    with pytest.raises(ZeroDivisionError):
        bootstrap(sleep(), 4, seed=1, statistic=lambda r: 1 / 0)


# ------------------------------------------------------------ the result


def known() -> BootstrapResult:
    values = pd.DataFrame({"a": np.arange(101.0), "b": np.r_[np.nan, np.arange(100.0) ** 2]})
    estimate = pd.Series({"a": 40.0, "b": 3000.0})
    return BootstrapResult(values, estimate, "parametric", 103, 2, {3: "no", 9: "no"}, 1)


def test_summaries() -> None:
    found = known()
    assert_allclose(found.se, found.replicates.std())
    assert_allclose(found.bias, [10.0, np.mean(np.arange(100.0) ** 2) - 3000])
    assert found.n_failed == 2


def test_intervals() -> None:
    found = known()
    percentile = found.conf_int(0.9)
    assert list(percentile.columns) == [0.05, 0.95]
    assert_allclose(percentile.loc["a"], [5.0, 95.0])
    assert_allclose(found.conf_int(0.9, "basic").loc["a"], [-15.0, 75.0])
    reach = 1.959964 * np.arange(101.0).std(ddof=1)
    assert_allclose(found.conf_int(method="normal").loc["a"], [30 - reach, 30 + reach], rtol=1e-6)


def test_printed() -> None:
    text = repr(known())
    assert text.startswith("parametric bootstrap, 103 replicates, 2 failed, 2 singular")
    for word in ("estimate", "bias", "se", "0.025", "0.975"):
        assert word in text


def test_pickled() -> None:
    found = bootstrap(sleep(), 4, seed=1)
    again = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(again.replicates, found.replicates)
    assert repr(again) == repr(found)


def test_singular_replicates_are_counted() -> None:
    case = reference.load_case("dyestuff2")
    result = interlace.fit(case.formula, case.data)
    found = bootstrap(result, 300, seed=1)
    zero = found.replicates.filter(like="sd_").iloc[:, 0] < 1e-3 * found.replicates["sigma"]
    assert found.n_singular == pytest.approx(zero.sum(), abs=3)
    assert 100 < found.n_singular < 250


def test_maximum_likelihood_stays_so() -> None:
    result = fit("crossed").update(method="ML")
    found = bootstrap(result, 3, seed=1)
    drawn = simulate(result.design, result.estimate, 3, seed=1)
    again = result.refit(drawn[:, 2])
    assert again.method == "ML"
    assert found.replicates.loc[2, "sigma"] == pytest.approx(np.sqrt(again.scale), rel=1e-5)


def test_offset_and_weights_come_along() -> None:
    data = dense.frame()
    result = interlace.fit("y ~ x + (1 | g)", data, weights="w", offset="o")
    found = bootstrap(result, 200, seed=1)
    assert_allclose(found.se[["Intercept", "x"]], result.fe_bse, rtol=0.2)
    spread = found.se / np.sqrt(200)
    assert (found.bias[["Intercept", "x"]].abs() < 4 * spread[["Intercept", "x"]]).all()


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap(sleep(), 20, seed=1, progress=True)
    shown = capsys.readouterr().err
    assert "bootstrap" in shown and "20/20" in shown
    bootstrap(sleep(), 20, seed=1, progress=False)
    bootstrap(sleep(), 20, seed=1)
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------ bad input

BAD = {
    "n": (dict(n=1), "n must be an integer of at least 2, not 1"),
    "n text": (dict(n="10"), "n must be an integer of at least 2, not '10'"),
    "kind": (
        dict(kind="jackknife"),
        "kind must be 'parametric', 'residual', 'cases' or 'wild', not 'jackknife'",
    ),
    "group": (
        dict(kind="cases", group="Days"),
        "unknown grouping factor 'Days': choose one of Subject, 'observation' for rows, or 'all' "
        "for every factor independently",
    ),
    "group of another kind": (
        dict(kind="residual", group="Subject"),
        "group= says what kind='cases' draws; kind='residual' takes none",
    ),
    "statistic": (dict(statistic="Days"), "statistic must be a function of a result, not 'Days'"),
    "jobs": (dict(n_jobs=0), "n_jobs must be a positive integer or -1, not 0"),
    "seed": (
        dict(seed="x"),
        "seed must be a non-negative integer, a numpy Generator or SeedSequence, or None, not 'x'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str) -> None:
    arguments, message = BAD[name]
    with pytest.raises(InterlaceError) as caught:
        bootstrap(sleep(), **{"n": 10, **arguments})
    assert str(caught.value) == message


def test_no_rows() -> None:
    with pytest.raises(InterlaceError) as caught:
        bootstrap(replace(sleep(), design=None), 10)
    assert str(caught.value) == (
        "bootstrap needs the rows of the model, and this one was fitted without holding them: "
        "fit it to a frame in memory (data=)"
    )


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_bad_level(level: float) -> None:
    with pytest.raises(InterlaceError) as caught:
        known().conf_int(level)
    assert str(caught.value) == f"level must be strictly between 0 and 1, not {level!r}"


def test_bad_method() -> None:
    with pytest.raises(InterlaceError) as caught:
        known().conf_int(method="bca")
    assert str(caught.value) == "method must be 'percentile', 'basic' or 'normal', not 'bca'"


def test_fitted_values_are_where_replicates_start() -> None:
    """All kinds resample around ``X beta`` plus the offset, not around the fitted values."""
    result = fit("crossed")
    assert_allclose(
        expected(result.design, result.estimate),
        fitted(result.design, result.estimate, [False] * 2),
    )
