"""The iterative solver for generalised models finds what the exact one finds, within its errors."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from glmm.crossed import BY_NAME, CASES, fitted
from glmm.models import FAMILY_LINKS, gradient_error, name_of, point, problem
from interlace import InterlaceError
from interlace.glmm.laplace import Laplace, evaluate, zeros
from interlace.glmm.probing import Estimated
from interlace.solver.probes import Probes

DESIGNS = [pytest.param(c.name, marks=() if c.quick else pytest.mark.slow) for c in CASES]
QUICK = "trials"


def both(name):
    return fitted(name, "exact"), fitted(name, "iterative")


def test_there_are_enough_designs():
    assert len(CASES) >= 15
    assert {c.family for c in CASES} >= {"binomial", "poisson", "negative-binomial", "gamma"}


@pytest.mark.parametrize("name", DESIGNS)
def test_estimates(name):
    exact, found = both(name)
    certificate = found.convergence
    assert certificate.solver == "iterative" and certificate.converged
    assert exact.convergence.solver == "exact"
    error, statistical = certificate.monte_carlo_error, certificate.statistical_error
    assert (np.abs(found.theta - exact.theta) <= 3.0 * error).all()
    known = statistical > 0.0
    assert (error[known] < 0.01 * statistical[known]).all()
    se = exact.fe_bse
    assert_allclose((found.fe_params - exact.fe_params) / se, 0.0, atol=1e-2)
    assert_allclose(found.fe_bse, se, rtol=1e-3)
    assert abs(found.criterion - exact.criterion) <= 3.0 * certificate.criterion_error
    assert_allclose(found.dispersion, exact.dispersion, rtol=1e-3)


@pytest.mark.parametrize("name", DESIGNS)
def test_random_effects_and_their_errors(name):
    exact, found = both(name)
    for key, table in exact.random_effects_se.items():
        assert_allclose(found.random_effects_se[key], table, rtol=0.03)
        other = found.random_effects[key]
        assert (np.abs(other - exact.random_effects[key]) / table < 0.02).to_numpy().all()


@pytest.mark.parametrize("family", FAMILY_LINKS, ids=name_of)
@pytest.mark.parametrize("structure", ["crossed", "nested", "row", "slope"])
def test_with_a_probe_for_every_effect_nothing_is_left_to_chance(family, structure):
    made = problem(family, structure)
    x = point(made, np.random.default_rng(1))
    probed = replace(made, probes=Probes(made.rows.layout.q, 0))
    exact, found = (evaluate(p, p.unpack(x), zeros(p)) for p in (made, probed))
    assert found.equations.chance.m == 0
    assert_allclose(found.value, exact.value, rtol=1e-8)
    assert_allclose(found.leverages, exact.leverages, rtol=1e-4, atol=1e-7)
    size = max(1.0, np.abs(exact.gradient).max())
    assert_allclose(found.gradient / size, exact.gradient / size, atol=2e-5)
    size = np.abs(exact.newton_matrix).max()
    assert_allclose(found.newton_matrix / size, exact.newton_matrix / size, atol=2e-5)
    for one, other in zip(found.u, exact.u, strict=True):
        assert_allclose(one, other, atol=1e-4)
    to = made.unpack(x + 1e-3)
    for one, other in zip(found.predicted(to), exact.predicted(to), strict=True):
        assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["binomial two", "poisson nested", "trials", "negative binomial two"]
)
def test_means_over_seeds_are_unbiased_and_errors_are_stated(name):
    """Leverages, gradients and values: over 40 seeds, in standard errors of the mean."""
    exact = fitted(name, "exact").estimate
    made, x = exact.problem, exact.x
    points = [
        evaluate(p, p.unpack(x), exact.u)
        for seed in range(40)
        for p in [replace(made, probes=Probes(8, seed))]
    ]
    whole = exact.evaluation
    for read in (
        lambda e: e.leverages[:200],
        lambda e: e.gradient,
        lambda e: np.array([e.value]),
    ):
        found = np.array([read(e) for e in points]) - read(whole)
        z = found.mean(axis=0) / np.maximum(found.std(axis=0, ddof=1), 1e-9) * np.sqrt(len(found))
        assert np.mean(z**2) < 1.0 + 8.0 / np.sqrt(len(z))
    spread = np.std([e.gradient for e in points], axis=0)
    stated = np.sqrt(
        np.median([np.diag(Estimated(e).gradient_covariance) for e in points[:10]], axis=0)
    )
    assert (spread < 1.5 * stated + 1e-6).all()


def test_the_probed_criterion_is_a_smooth_function():
    """With fixed probes gradients change smoothly, by the second derivatives."""
    exact = fitted("binomial two", "exact").estimate
    made = replace(exact.problem, probes=Probes(8, 0))
    base = evaluate(made, made.unpack(exact.x), exact.u)
    step = 1e-3 * np.ones(len(exact.x))
    ends = [evaluate(made, made.unpack(exact.x + s * step), exact.u) for s in (-1.0, 1.0)]
    curvature = (ends[1].gradient - ends[0].gradient) / 2.0
    assert_allclose(ends[0].gradient + ends[1].gradient, 2.0 * base.gradient, atol=5e-3)
    assert_allclose(curvature, exact.hessian @ step, rtol=2e-2)
    again = evaluate(made, made.unpack(exact.x), exact.u)
    assert again.value == base.value and np.array_equal(again.gradient, base.gradient)


@pytest.mark.parametrize("structure", ["scalar", "nested"])
def test_nested_terms_leave_nothing_to_iterate(structure):
    made = problem(FAMILY_LINKS[0], structure)
    probed = replace(made, probes=Probes(4, 0))
    x = point(made, np.random.default_rng(2))
    assert gradient_error(Laplace(), probed, x) < 1e-5


# ------------------------------------------------------------------ verbs

NEW = {"x": [0.0, 1.0, 2.0], "a": [1, 2, 9999], "b": [3, 4, 5], "hours": [1.0] * 3, "size": [6] * 3}
WORK = {
    "predict": lambda r: r.predict(),
    "predict(newdata)": lambda r: r.predict(NEW),
    "predict(fixed, se)": lambda r: r.predict(NEW, False, se=True),
    "predict(integrated)": lambda r: r.predict(NEW, "integrated"),
    "conf_int": lambda r: r.conf_int(),
    "coef_table": lambda r: r.coef_table(),
    "anova": lambda r: r.anova(),
    "wald_test": lambda r: [r.wald_test("x = 0.4").statistic],
    "emtrends": lambda r: r.emtrends("x").table,
    "emmeans": lambda r: r.emmeans("1", type="response").table,
    "tidy": lambda r: r.tidy("ran_vals", conf_int=True),
    "ran_pars": lambda r: r.tidy("ran_pars"),
    "simulate": lambda r: r.simulate(20, seed=1).mean(axis=0),
    "residuals": lambda r: r.residuals("pearson"),
    "refit": lambda r: r.refit(np.asarray(r.simulate(1, seed=4))[:, 0]).theta,
    "bootstrap": lambda r: r.bootstrap(2, seed=1).replicates,
    "ranova": lambda r: r.ranova(),
    "r2": lambda r: r.r2().to_frame(),
    "icc": lambda r: r.icc().to_frame(),
    "update": lambda r: r.update(". ~ . - x").theta,
    "check_dispersion": lambda r: interlace.check_dispersion(r, seed=1).table,
    "pickle": lambda r: pickle.loads(pickle.dumps(r)).random_effects_se["a"],
}
REFUSED = {
    "profile": lambda r: r.profile(),
    "conf_int(profile)": lambda r: r.conf_int(method="profile"),
    "leverage": lambda r: interlace.leverage(r),
    "influence": lambda r: interlace.hlm_influence(r),
    "cooks_distance": lambda r: interlace.cooks_distance(r),
    "augment": lambda r: r.augment(),
    "predict(se)": lambda r: r.predict(se=True),
    "predict(newdata, interval)": lambda r: r.predict(NEW, interval="prediction"),
}


def numbers(value):
    if isinstance(value, pd.DataFrame):
        value = value.select_dtypes("number").drop(columns="df", errors="ignore")
    return np.asarray(value, dtype=float)


@pytest.mark.parametrize("verb", WORK)
def test_verbs_that_work(verb):
    exact, found = (numbers(WORK[verb](r)) for r in both(QUICK))
    size = np.nanmax(np.abs(exact))
    assert_allclose(found / size, exact / size, atol=5e-3)


@pytest.mark.parametrize("verb", REFUSED)
def test_verbs_that_are_refused_by_name(verb):
    REFUSED[verb](fitted(QUICK, "exact"))
    with pytest.raises(InterlaceError, match=r"the inverse of the mixed-model.*solver='exact'"):
        REFUSED[verb](fitted(QUICK, "iterative"))


def test_the_result_says_which_solver_it_was():
    result = fitted(QUICK, "iterative")
    text = str(result.summary())
    assert "iterative solver" in text
    assert "Monte-Carlo standard errors (16 random probes" in text
    assert "theta a.Intercept" in text
    assert "AIC and BIC have twice the Monte-Carlo error of the log-likelihood." in text
    row = result.glance().iloc[0]
    assert row["solver"] == "iterative" and row["logLik.error"] > 0.0
    assert "Monte-Carlo" not in str(fitted(QUICK, "exact").summary())


def test_comparisons_state_their_error():
    case = BY_NAME[QUICK]
    smaller = interlace.fit(
        "y ~ 1 + (1 + x | a) + (1 + x | b)",
        case.data(),
        family="binomial",
        trials="size",
        solver="iterative",
    )
    table = interlace.anova(fitted(QUICK, "iterative"), smaller)
    assert any("Monte-Carlo standard error" in note for note in table.notes)


def test_seeds_and_tolerances_are_kept():
    case = BY_NAME["binomial two"]
    one, other = (case.fit("iterative", seed=s) for s in (1, 2))
    assert 0.0 < np.abs(one.theta - other.theta).max() < 1e-3
    precise = case.fit("iterative", mc_tolerance=1e-4)
    assert precise.convergence.n_probes > one.convergence.n_probes
    exact = fitted("binomial two", "exact")
    assert np.abs(precise.theta - exact.theta).max() < 1e-5


def test_saved_results_come_back(tmp_path):
    result = fitted(QUICK, "iterative")
    result.save(tmp_path / "result.il")
    back = interlace.load(tmp_path / "result.il")
    assert back.llf == pytest.approx(result.llf, abs=1e-6)
    assert back.convergence.solver == "iterative"
    assert_allclose(back.convergence.monte_carlo_error, result.convergence.monte_carlo_error)


def test_a_fit_of_a_second_is_not_left_to_chance():
    """InstEval, where the exact solver factors a dense matrix of 1,128 rows, some forty times."""
    ratings = interlace.datasets.load("insteval")
    ratings["high"] = ratings["y"] > 3
    formula = "high ~ service + (1 | s) + (1 | d)"
    exact = interlace.fit(formula, ratings, family="binomial")
    assert exact.convergence.solver == "exact"
    found = interlace.fit(formula, ratings, family="binomial", solver="iterative")
    assert_allclose(found.theta, exact.theta, atol=1e-4)
    assert abs(found.llf - exact.llf) < 1.5 * found.convergence.criterion_error


def test_the_solver_is_chosen_by_cost(monkeypatch):
    case = BY_NAME["binomial two"]
    assert case.fit("auto").convergence.solver == "exact"
    monkeypatch.setattr("interlace.solver.choose.memory_limit", lambda: 5e5)
    assert case.fit("auto").convergence.solver == "iterative"
    monkeypatch.setattr("interlace.solver.choose.memory_limit", lambda: 1e3)
    with pytest.raises(InterlaceError, match=r"would need .* for these terms"):
        case.fit("auto")
