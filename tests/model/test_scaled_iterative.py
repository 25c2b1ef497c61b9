"""What is asked of a fit with a variance function by the iterative solver."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, ScaledLMEResult

FORMULA = "y ~ x + (1 | a) + (1 | b)"
OPTIONS = {"residual": "varident(s)", "solver": "iterative"}


def data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 1500
    rows = pd.DataFrame({"a": rng.integers(0, 150, n), "b": rng.integers(0, 90, n)})
    rows["s"], rows["x"] = rng.choice(["k", "l"], n), rng.normal(size=n)
    effects = rng.normal(size=150)[rows["a"]] + 0.7 * rng.normal(size=90)[rows["b"]]
    spread = np.where(rows["s"] == "k", 1.0, 2.0)
    return rows.assign(y=rows["x"] + effects + spread * rng.normal(size=n))


@pytest.fixture(scope="module")
def result() -> ScaledLMEResult:
    return interlace.fit(FORMULA, data(), **OPTIONS)


def test_errors_are_stated(result: ScaledLMEResult) -> None:
    text = str(result.summary())
    for said in ("Monte-Carlo standard errors", "theta a.Intercept", "log ratio_l", "AIC and BIC"):
        assert said in text
    row = result.glance().loc[0]
    assert (row["solver"], row["n_probes"]) == ("iterative", result.convergence.n_probes)
    assert row["logLik.error"] == pytest.approx(0.5 * result.convergence.criterion_error)
    table = result.residual_parameters
    assert table.columns.tolist() == ["estimate", "se", "mc_error"]
    assert table["mc_error"].isna().tolist() == [True, False]
    less = interlace.fit("y ~ 1 + (1 | a) + (1 | b)", data(), **OPTIONS)
    assert "Monte-Carlo standard error" in str(interlace.anova(less, result))


def test_it_is_the_weighted_model_by_the_same_solver(result: ScaledLMEResult) -> None:
    known = interlace.fit(
        FORMULA, data().assign(w=1.0 / result.residual_sd**2), weights="w", solver="iterative"
    )
    np.testing.assert_allclose(result.fe_params, known.fe_params, rtol=1e-4)
    np.testing.assert_allclose(result.fe_bse, known.fe_bse, rtol=1e-4)
    for key, errors in known.random_effects_se.items():
        np.testing.assert_allclose(result.random_effects_se[key], errors, rtol=1e-2)


def test_verbs_that_need_no_inverse(result: ScaledLMEResult) -> None:
    np.testing.assert_allclose(result.predict(data()), result.fittedvalues)
    table = result.predict(data().head(2), include_re=False, interval="prediction")
    assert (table["upper"] > table["lower"]).all()
    assert (result.tidy("ran_pars")["std.error"] > 0).all()
    assert len(result.tidy("ran_vals")) == 240
    assert result.conf_int().shape == (2, 2)
    assert np.isinf(result.emmeans("1").table["df"]).all()
    assert result.simulate(2, seed=1).shape == (1500, 2)
    again = result.refit(2.0 * data()["y"])
    assert again.convergence.solver == "iterative"
    np.testing.assert_allclose(again.residual_values["ratio_l"], result.residual_values["ratio_l"])
    by_ml = result.update(method="ML")
    assert (by_ml.method, by_ml.convergence.solver) == ("ML", "iterative")
    boot = result.bootstrap(2, seed=1)
    assert boot.n_failed == 0
    drawn = result.bootstrap(2, "cases", seed=1, group="a")
    assert drawn.n_failed == 0


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        (lambda r: r.coef_table(ddf="satterthwaite"), "ddf='satterthwaite' needs .*ddf='normal'"),
        (lambda r: r.coef_table(ddf="kenward-roger"), "these degrees of freedom need"),
        (lambda r: r.coef_table(ddf="kenward-roger-linear"), "these degrees of freedom need"),
        (lambda r: r.coef_table(robust="CR2", cluster="a"), "a cluster-robust covariance needs"),
        (lambda r: r.profile("ratio_l"), "profiles need .*method='bootstrap'"),
        (lambda r: r.conf_int(method="profile"), "profiles need"),
        (lambda r: r.predict(se=True), "predict with se or interval, random effects included"),
        (lambda r: interlace.hlm_influence(r.weighted), "influence measures"),
        (lambda r: r.check(nsim=20), "need the inverse"),
    ],
)
def test_verbs_that_need_the_inverse(
    result: ScaledLMEResult, verb: Callable[[ScaledLMEResult], object], says: str
) -> None:
    with pytest.raises(InterlaceError, match=says):
        verb(result)


def test_it_is_kept_with_its_probes(result: ScaledLMEResult, tmp_path: Path) -> None:
    result.save(tmp_path / "fit")
    for again in (pickle.loads(pickle.dumps(result)), interlace.load(tmp_path / "fit")):
        assert again.criterion == pytest.approx(result.criterion, rel=1e-14)
        assert again.convergence.n_probes == result.convergence.n_probes
        pd.testing.assert_frame_equal(again.residual_parameters, result.residual_parameters)
        assert str(again.summary()) == str(result.summary())


def test_nested_factors_leave_nothing_to_chance() -> None:
    rows = data().assign(c=data()["a"] % 20)
    formula = "y ~ x + (1 | c) + (1 | a)"
    with pytest.warns(interlace.SingularFitWarning):
        found = interlace.fit(formula, rows, **OPTIONS)
    with pytest.warns(interlace.SingularFitWarning):
        exact = interlace.fit(formula, rows, residual="varident(s)")
    assert found.criterion == pytest.approx(exact.criterion, abs=1e-7)
    np.testing.assert_allclose(
        found.residual_parameters.iloc[:, :2], exact.residual_parameters, rtol=1e-4
    )
