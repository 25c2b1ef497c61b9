"""Every verb of a result after an iterative fit, and after fits that held no rows.

Each either gives what it gives after the exact fit, to what the random probes leave open, or
refuses before it does any work.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
import interlace.estimation.chance
import interlace.estimation.criterion
import interlace.estimation.estimate
import interlace.inference.by_likelihood
from designs import CASES
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.inference.compare import _TOO_LARGE
from interlace.solver.equations import Iterative

Result = interlace.CrossedLMEResult
Verb = Callable[[Result], object]

CROSSED = "y ~ x + c + (1 | u) + (1 | i)"
NESTED = "y ~ x + c + (1 | a/b) + (1 + x | i)"
FORMULAS = {"crossed": CROSSED, "nested": NESTED}
SMALLER = {
    "crossed": "y ~ x + (1 | u) + (1 | i)",
    "nested": "y ~ x + c + (1 | a/b) + (1 | i)",
}


@functools.cache
def data(design: str) -> pd.DataFrame:
    """Power-law levels; more than a hundred in the smaller factor, so that nothing is a batch."""
    rng = np.random.default_rng(7)
    n = 3000
    x, c = rng.normal(size=n), np.array(["p", "q", "r"])[rng.integers(0, 3, n)]
    weights = np.arange(1, 121) ** -0.6
    i = rng.choice(120, size=n, p=weights / weights.sum())
    y = 1.0 + 0.5 * x + 0.6 * rng.normal(size=120)[i] + rng.normal(size=n)
    if design == "crossed":
        u = rng.integers(0, 200, n)
        y += 0.8 * rng.normal(size=200)[u]
        return pd.DataFrame({"y": y, "x": x, "c": c, "u": u, "i": i})
    b = rng.integers(0, 150, n)
    y += 0.5 * rng.normal(size=15)[b // 10] + 0.7 * rng.normal(size=150)[b]
    y += 0.4 * x * rng.normal(size=120)[i]
    return pd.DataFrame({"y": y, "x": x, "c": c, "a": b // 10, "b": b, "i": i})


@functools.cache
def fitted(design: str, solver: str, *, rows: bool = True, smaller: bool = False) -> Result:
    formula, frame = (SMALLER if smaller else FORMULAS)[design], data(design)
    source = frame if rows else interlace.cross_products(formula, frame)
    return interlace.fit(formula, source, solver=solver)


def other(result: Result) -> Result:
    """A smaller model of the same rows, by the same solver."""
    design = "crossed" if "u" in result.ngroups else "nested"
    rows = result.design is not None
    return fitted(design, result.convergence.solver, rows=rows, smaller=True)


NEW = {
    "x": [0.0, 1.0, 2.0],
    "c": ["p", "q", "r"],
    "u": [1, 2, 999],
    "i": [3, 4, 5],
    "a": [0, 0, 1],
    "b": [1, 2, 999],
}


def replicates(kind: str, statistic: Callable[[Result], object] | None = None) -> Verb:
    return lambda r: r.bootstrap(2, kind, seed=1, statistic=statistic).replicates


def response(r: Result) -> np.ndarray:
    return np.random.default_rng(3).normal(size=r.nobs) + data_of(r)["y"].to_numpy()


def data_of(r: Result) -> pd.DataFrame:
    return data("crossed" if "u" in r.ngroups else "nested")


# What works without rows too.
ANYWHERE: dict[str, Verb] = {
    **{
        name: lambda r, name=name: getattr(r, name)
        for name in (
            *("fe_params", "fe_cov", "fe_bse", "fe_tvalues", "fe_conf_int", "variance_components"),
            *("random_effects", "random_effects_se", "scale", "theta", "llf", "aic", "bic"),
        )
    },
    "predict(newdata)": lambda r: r.predict(NEW),
    "predict(newdata, 'i')": lambda r: r.predict(NEW, "i"),
    "predict(newdata, False, se)": lambda r: r.predict(NEW, False, se=True),
    "predict(newdata, False, interval)": lambda r: r.predict(NEW, False, interval="prediction"),
    "augment(newdata)": lambda r: r.augment(NEW),
    "update": lambda r: r.update(method="ML").theta,
    "conf_int": lambda r: r.conf_int(),
    "vcov_theta": lambda r: r.vcov_theta(),
    "coef_table": lambda r: r.coef_table(),
    "cov_params": lambda r: r.cov_params(),
    "wald_test": lambda r: r.wald_test("x = 0.4").table,
    "tidy": lambda r: r.tidy("fixed", conf_int=True),
    "tidy(ran_pars)": lambda r: r.tidy("ran_pars"),
    "tidy(ran_vals)": lambda r: r.tidy("ran_vals", conf_int=True),
    "pickle": lambda r: pickle.loads(pickle.dumps(r)).llf,
    "anova of models": lambda r: interlace.anova(r, other(r)).table.drop(columns="p"),
}
ROWS: dict[str, Verb] = {
    "fittedvalues": lambda r: r.fittedvalues,
    "resid": lambda r: r.resid,
    "predict": lambda r: r.predict(),
    "predict(include_re=False, se)": lambda r: r.predict(include_re=False, se=True),
    "simulate": lambda r: r.simulate(2, seed=1),
    "simulate(include_re)": lambda r: r.simulate(2, seed=1, include_re=True),
    "refit": lambda r: r.refit(response(r)).theta,
    "bootstrap(parametric)": replicates("parametric"),
    "bootstrap(residual)": replicates("residual"),
    "bootstrap(wild)": replicates("wild"),
    "bootstrap(cases)": replicates("cases"),
    "bootstrap(statistic)": replicates("parametric", lambda r: r.theta),
    "bootstrap_se": lambda r: r.bootstrap_se(seed=1, n_bootstrap=20),
    "conf_int(bootstrap)": lambda r: r.conf_int(method="bootstrap", n_bootstrap=3, seed=1),
    "anova": lambda r: r.anova(),
    "anova(1)": lambda r: r.anova(type=1),
    "r2": lambda r: r.r2().to_frame(),
    "icc": lambda r: r.icc().to_frame(),
    "compare": lambda r: interlace.compare(r, other(r)).table.drop(columns=["weight", "formula"]),
    "hlm_resid": lambda r: interlace.hlm_resid(r),
    "hlm_resid(i)": lambda r: interlace.hlm_resid(r, level="i"),
}


def numbers(value: object) -> np.ndarray:
    if isinstance(value, dict):
        return np.concatenate([numbers(part) for part in value.values()])
    if isinstance(value, pd.DataFrame):
        value = value.select_dtypes("number")
    return np.asarray(value, dtype=np.float64).ravel()


def assert_close(found: object, expected: object) -> None:
    """To a thousandth, and to a thousandth of the column's or array's largest number near zero."""
    a, b = numbers(found), numbers(expected)
    assert a.shape == b.shape
    assert b.size
    assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b[np.isfinite(b)]).max())


@pytest.fixture
def nothing_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails whatever makes the plan of the exact solver."""

    def refuse(*_: object) -> None:
        raise AssertionError("the exact solver was used")

    monkeypatch.setattr(interlace.solver.plan, "make_plan", refuse)


@pytest.mark.parametrize("design", FORMULAS)
@pytest.mark.parametrize("verb", ANYWHERE | ROWS)
def test_works(verb: str, design: str, request: pytest.FixtureRequest) -> None:
    run = (ANYWHERE | ROWS)[verb]
    expected, result = run(fitted(design, "exact")), fitted(design, "iterative")
    other(result)
    request.getfixturevalue("nothing_dense")
    assert_close(run(result), expected)


@pytest.mark.parametrize("solver", ["exact", "iterative"])
@pytest.mark.parametrize("verb", ANYWHERE)
def test_works_without_rows(verb: str, solver: str) -> None:
    run = ANYWHERE[verb]
    assert_close(run(fitted("crossed", solver, rows=False)), run(fitted("crossed", "exact")))


@pytest.mark.parametrize("design", FORMULAS)
def test_variances_of_theta_to_a_per_cent(design: str) -> None:
    exact, found = (fitted(design, solver).vcov_theta() for solver in ("exact", "iterative"))
    assert_allclose(np.sqrt(np.diag(found)), np.sqrt(np.diag(exact)), rtol=1e-2)


# ------------------------------------------------------------------ what needs the inverse


def inverse(what: str, instead: str = "") -> str:
    return (
        f"{what} the inverse of the mixed-model equations, which the iterative solver never forms: "
        f"fit with solver='exact' where the model is small enough for it{instead}"
    )


PREDICT = inverse(
    "predict with se or interval, random effects included, needs",
    ", or leave the random effects out (include_re=False)",
)
SATTERTHWAITE = inverse("ddf='satterthwaite' needs", ", or use ddf='normal'")
KENWARD_ROGER = inverse("ddf='kenward-roger' needs", ", or use ddf='normal'")
PROFILE = inverse(
    "profile, or conf_int(method='profile'), needs", ", or use conf_int(method='bootstrap')"
)
LEVERAGE = inverse("leverages (leverage, augment, standardized residuals in plots) need")
INFLUENCE = inverse(
    "influence measures (hlm_influence, cooks_distance, mdffits, covtrace, covratio, rvc) need"
)
REFUSED: dict[str, tuple[Verb, str]] = {
    "predict(se)": (lambda r: r.predict(se=True), PREDICT),
    "predict(newdata, se)": (lambda r: r.predict(NEW, se=True), PREDICT),
    "predict(confidence)": (lambda r: r.predict(NEW, interval="confidence"), PREDICT),
    "predict(prediction)": (lambda r: r.predict(NEW, "i", interval="prediction"), PREDICT),
    "coef_table(satterthwaite)": (lambda r: r.coef_table("satterthwaite"), SATTERTHWAITE),
    "conf_int(satterthwaite)": (lambda r: r.conf_int(ddf="satterthwaite"), SATTERTHWAITE),
    "anova(satterthwaite)": (lambda r: r.anova(ddf="satterthwaite"), SATTERTHWAITE),
    "wald_test(satterthwaite)": (lambda r: r.wald_test("x", ddf="satterthwaite"), SATTERTHWAITE),
    "coef_table(kenward-roger)": (lambda r: r.coef_table("kenward-roger"), KENWARD_ROGER),
    "cov_params(kenward-roger)": (lambda r: r.cov_params(ddf="kenward-roger"), KENWARD_ROGER),
    "anova(kenward-roger)": (lambda r: r.anova(ddf="kenward-roger"), KENWARD_ROGER),
    "wald_test(kenward-roger)": (lambda r: r.wald_test("x", ddf="kenward-roger"), KENWARD_ROGER),
    "profile": (lambda r: r.profile(), PROFILE),
    "conf_int(profile)": (lambda r: r.conf_int(method="profile"), PROFILE),
    "leverage": (interlace.leverage, LEVERAGE),
    "leverage(i)": (lambda r: interlace.leverage(r, level="i"), LEVERAGE),
    "augment": (lambda r: r.augment(), LEVERAGE),
    "plot": (lambda r: r.plot(), LEVERAGE),
    "plot_qq": (lambda r: interlace.plot_qq(r), LEVERAGE),
    "plot_scale_location": (lambda r: interlace.plot_scale_location(r), LEVERAGE),
    **{
        measure.__name__: (measure, INFLUENCE)
        for measure in (
            *(interlace.cooks_distance, interlace.mdffits, interlace.covtrace),
            *(interlace.covratio, interlace.rvc, interlace.hlm_influence),
            *(interlace.hlm_augment, interlace.n_influential),
        )
    },
    "cooks_distance(i)": (lambda r: interlace.cooks_distance(r, level="i"), INFLUENCE),
    "rvc(i)": (lambda r: interlace.rvc(r, level="i"), INFLUENCE),
    "hlm_influence(exact)": (lambda r: interlace.hlm_influence(r, "i", approx=False), INFLUENCE),
}


@pytest.mark.parametrize(
    ("verb", "method"),
    [(v, m) for v in REFUSED for m in ("REML", "ML") if m == "REML" or "kenward" not in v],
)
def test_refuses_before_any_work(verb: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, message = REFUSED[verb]
    result = by_method(method)

    def evaluated(*_: object) -> None:
        raise AssertionError("the criterion was evaluated")

    monkeypatch.setattr(Criterion, "at", evaluated)
    with pytest.raises(InterlaceError) as refusal:
        run(result)
    assert str(refusal.value) == message


@functools.cache
def by_method(method: str) -> Result:
    return interlace.fit(CROSSED, data("crossed"), solver="iterative", method=method)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_fit_refuses_degrees_of_freedom_before_any_work(
    ddf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Criterion, "at", None)
    with pytest.raises(InterlaceError) as refusal:
        interlace.fit(CROSSED, data("crossed"), solver="iterative", ddf=ddf)
    assert str(refusal.value) == (
        f"ddf='{ddf}' needs the inverse of the mixed-model equations, which the iterative solver "
        f"never forms: leave ddf out, or fit with solver='exact' where the model is small enough "
        f"for it"
    )


# ------------------------------------------------------------------ what needs the rows

WITHOUT_ROWS: dict[str, tuple[Verb, str]] = {
    "fittedvalues": (ROWS["fittedvalues"], "fittedvalues"),
    "resid": (ROWS["resid"], "resid"),
    "predict": (ROWS["predict"], "predict without newdata"),
    "simulate": (ROWS["simulate"], "simulate"),
    "refit": (ROWS["refit"], "refit"),
    "bootstrap": (ROWS["bootstrap(parametric)"], "bootstrap"),
    "bootstrap(cases)": (ROWS["bootstrap(cases)"], "bootstrap"),
    "bootstrap_se": (ROWS["bootstrap_se"], "bootstrap_se"),
    "conf_int(bootstrap)": (ROWS["conf_int(bootstrap)"], "bootstrap"),
    "augment": (lambda r: r.augment(), "augment"),
    "marginal": (lambda r: (pytest.importorskip("marginaleffects"), r.marginal()), "marginal"),
    "plot": (lambda r: r.plot(), "plot"),
    "plot_qq": (lambda r: interlace.plot_qq(r), "plot_qq"),
    "plot_resid": (lambda r: interlace.plot_resid(r), "plot_resid"),
    "plot_shrinkage": (lambda r: interlace.plot_shrinkage(r), "plot_shrinkage"),
}


@pytest.mark.parametrize("solver", ["exact", "iterative"])
@pytest.mark.parametrize("verb", WITHOUT_ROWS)
def test_refuses_without_rows(verb: str, solver: str) -> None:
    run, name = WITHOUT_ROWS[verb]
    with pytest.raises(InterlaceError) as refusal:
        run(fitted("crossed", solver, rows=False))
    assert str(refusal.value) == (
        f"{name} needs the rows of the model, and this one was fitted without holding them: "
        f"fit it to a frame in memory (data=)"
    )


@pytest.mark.parametrize("solver", ["exact", "iterative"])
def test_shares_of_variance_and_tests_of_terms_need_no_rows(solver: str) -> None:
    held, sums = (fitted("crossed", solver, rows=rows) for rows in (True, False))
    assert_allclose(held.r2().to_frame(), sums.r2().to_frame(), rtol=1e-6)
    assert_allclose(held.icc().to_frame(), sums.icc().to_frame(), rtol=1e-6)
    assert_allclose(held.anova(), sums.anova(), rtol=1e-5)


@pytest.mark.parametrize("measure", [interlace.leverage, interlace.hlm_resid, interlace.rvc])
def test_diagnostics_refuse_without_rows(measure: Verb) -> None:
    with pytest.raises(InterlaceError, match="diagnostics look at single rows"):
        measure(fitted("crossed", "iterative", rows=False))


@pytest.mark.parametrize("rows", [True, False])
def test_figures_that_need_no_inverse(rows: bool) -> None:
    result = fitted("crossed", "iterative", rows=rows)
    figures = [interlace.plot_coef, interlace.plot_ranef]
    if rows:
        figures += [interlace.plot_resid, interlace.plot_shrinkage]
    for figure in figures:
        assert figure(result) is not None


# ------------------------------------------------------------------ what the reports say


def test_summary_states_the_errors() -> None:
    result = fitted("crossed", "iterative")
    found, text = result.convergence, str(result.summary())
    assert found.monte_carlo_error is not None
    assert found.statistical_error is not None
    assert found.criterion_error is not None
    assert "iterative solver" in text
    assert (
        f"Monte-Carlo standard errors ({found.n_probes} random probes, {found.n_iterations} "
        f"iterations of conjugate gradients)"
    ) in " ".join(text.split())  # wherever the line is broken
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    for j, name in enumerate(("theta u.Intercept", "theta i.Intercept")):
        mc, se = found.monte_carlo_error[j], found.statistical_error[j]
        assert lines[name].split()[-4:-2] == [f"{mc:.1e}", f"{se:.1e}"]
        assert lines[name].endswith(f"{100 * mc / se:.2g} %")
    likelihoods = [line for line in text.splitlines() if line.startswith("Log-likelihood  ")]
    assert likelihoods[0].split()[1:] == [f"{result.llf:.4f}", f"{found.criterion_error / 2:.1e}"]
    assert text.count("AIC and BIC have twice the Monte-Carlo error of the log-likelihood.") == 1
    html = result.summary()._repr_html_()
    assert "Monte-Carlo standard errors" in html
    assert f"{found.monte_carlo_error[0]:.1e}" in html


@pytest.mark.parametrize("design", FORMULAS)
def test_statistical_errors_are_those_of_theta(design: str) -> None:
    result = fitted(design, "iterative")
    se = np.sqrt(np.diag(fitted(design, "exact").vcov_theta())[:-1])
    assert_allclose(result.convergence.statistical_error, se, rtol=0.1)


def test_exact_reports_know_of_no_chance() -> None:
    exact = fitted("crossed", "exact")
    assert "Monte" not in str(exact.summary())
    assert "Monte" not in exact.summary()._repr_html_()
    assert [*exact.glance()][-1] == "df.residual"
    assert "LRT_error" not in exact.ranova()
    assert not any("Monte" in note for note in interlace.anova(exact, other(exact)).notes)


def test_glance_states_the_errors() -> None:
    result = fitted("crossed", "iterative")
    row, found = result.glance().iloc[0], result.convergence
    assert row["solver"] == "iterative"
    assert row["logLik.error"] == 0.5 * found.criterion_error
    assert (row["n_probes"], row["n_iterations"]) == (found.n_probes, found.n_iterations)


@pytest.mark.parametrize("design", FORMULAS)
def test_ranova_within_its_stated_error(design: str) -> None:
    exact, found = (fitted(design, solver).ranova() for solver in ("exact", "iterative"))
    error = found["LRT_error"].to_numpy()[1:]
    assert (error > 0).all()
    assert (error < 0.05).all()
    assert (np.abs(found["LRT"] - exact["LRT"]).to_numpy()[1:] <= 4 * error).all()


def test_comparisons_state_the_error_of_the_statistic() -> None:
    result = fitted("nested", "iterative")
    table = interlace.anova(result, other(result))
    (note,) = (n for n in table.notes if "Monte-Carlo" in n)
    error = float(note.removesuffix(" (iterative solver).").rsplit(" ", 1)[1])
    assert note.startswith("Chisq of model 1 has a Monte-Carlo standard error of ")
    exact = fitted("nested", "exact")
    expected = interlace.anova(exact, other(exact))["Chisq"].iloc[1]
    assert 0 < abs(table["Chisq"].iloc[1] - expected) <= 4 * error
    (note,) = (n for n in interlace.compare(result, other(result)).notes if "Monte-Carlo" in n)
    assert note.startswith("AIC, AICc and BIC have Monte-Carlo standard errors up to 0.00")


def test_an_error_that_hides_the_statistic_is_named() -> None:
    frame = data("crossed")
    one = interlace.fit(SMALLER["crossed"], frame, solver="iterative", method="ML")
    chisq = 0.0
    for seed in range(20):  # a covariate that explains nothing, by another draw of probes
        noise = np.random.default_rng(seed).normal(size=3000)
        more = interlace.fit(
            "y ~ x + noise + (1 | u) + (1 | i)",
            frame.assign(noise=noise),
            solver="iterative",
            method="ML",
            seed=1,
        )
        table = interlace.anova(one, more)
        chisq = abs(table["Chisq"].iloc[1])
        if chisq < 0.01:
            break
    assert chisq < 0.01
    assert any(note.endswith(_TOO_LARGE) for note in table.notes)


# ------------------------------------------------------------------ options are kept


def test_refits_keep_the_solver_and_its_options() -> None:
    first = interlace.fit(CROSSED, data("crossed"), solver="iterative", mc_tolerance=1e-4, seed=5)
    assert first.convergence.n_probes == 120  # all of them: nothing else is that accurate
    for again in (first.update(method="ML"), first.refit(response(first))):
        assert again.convergence.solver == "iterative"
        assert again.convergence.n_probes == 120
        assert (again.options.mc_tolerance, again.options.seed) == (1e-4, 5)
    looser = first.update(mc_tolerance=0.05, seed=6)
    assert looser.convergence.n_probes == 16
    assert isinstance(looser.estimate.criterion.equations, Iterative)
    assert looser.estimate.criterion.equations.probes.seed == 6
    assert first.update(solver="exact").convergence.solver == "exact"


def test_the_bootstrap_keeps_the_solver_and_its_options() -> None:
    first = interlace.fit(CROSSED, data("crossed"), solver="iterative", mc_tolerance=1e-4, seed=5)
    seen: list[tuple[str, int | None]] = []

    def statistic(one: Result) -> float:
        seen.append((one.convergence.solver, one.convergence.n_probes))
        return one.scale

    for kind in ("parametric", "residual", "wild", "cases"):
        first.bootstrap(2, kind, seed=1, statistic=statistic)
    assert seen == [("iterative", 120)] * 12


def test_smaller_models_keep_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    minimise = interlace.estimation.estimate.estimate_theta

    def estimate_theta(criterion: Criterion, **more: object) -> object:
        assert isinstance(criterion.equations, Iterative)
        seen.append((criterion.equations.probes, more["mc_tolerance"]))
        return minimise(criterion, **more)  # type: ignore[arg-type]

    result = interlace.fit(NESTED, data("nested"), solver="iterative", mc_tolerance=0.01)
    monkeypatch.setattr("interlace.inference.by_likelihood.estimate_theta", estimate_theta)
    result.ranova()
    assert {tolerance for _, tolerance in seen} == {0.01}
    assert isinstance(result.estimate.criterion.equations, Iterative)
    assert {probes for probes, _ in seen} == {result.estimate.criterion.equations.probes}


# ------------------------------------------------------------------ standard errors of levels


@functools.cache
def effects_se(name: str, solver: str) -> dict[str, pd.DataFrame]:
    case = next(case for case in CASES if case.name == name)
    return interlace.fit(
        case.formula, case.data(), method=case.method, solver=solver, **case.arguments
    ).random_effects_se


@pytest.mark.parametrize(
    "name",
    [
        *("sparse", "power law 1.0", "firms, 10 % move", "nested and crossed"),
        *("nested in the second factor", "slopes of users", "slopes, weights, ML"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_conditional_errors_to_a_per_cent(
    name: str, complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly where a complete set of probes is cheap; else from random ones."""
    exact = effects_se(name, "exact")
    if not complete:
        monkeypatch.setattr(interlace.estimation.chance, "_MUCH_WORK", 0.0)
    found = effects_se.__wrapped__(name, "iterative")
    for key, se in exact.items():
        assert_allclose(found[key], se, rtol=1e-4 if complete else 1e-2)
