"""Every reference fit, REML and ML, quantity by quantity, against lme4's numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import fits
import interlace
from reference import cases

# Some reference fits are singular on purpose; `is_singular` is checked below.
pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


@dataclass(frozen=True)
class Fitted:
    """One reference case fitted by one method, beside lme4's numbers for it."""

    case: cases.Case
    method: str
    golden: dict[str, Any]
    result: interlace.CrossedLMEResult

    @property
    def sigma(self) -> float:
        """Residual standard deviation: the unit for errors of effects, fits and predictions."""
        return self.golden["sigma"]

    def rows(self, per_row) -> np.ndarray:
        """The rows of a per-row vector that the golden file has."""
        stored = self.golden["obs_index_1based"]
        return np.asarray(per_row) if stored is None else np.asarray(per_row)[np.array(stored) - 1]

    def fixed(self, quantity: str) -> np.ndarray:
        """A named vector in our order: R and formulaic order interactions differently."""
        return np.array([self.golden[quantity][name] for name in self.r_names])

    @property
    def r_names(self) -> list[str]:
        """R's names of our coefficients."""
        return [cases.r_name(name) for name in self.result.fe_params.index]


@functools.cache
def fitted(name: str, method: str) -> Fitted:
    case = cases.load_case(name)
    return Fitted(case, method, case.golden[method], fits.of_case(name, method))


def check_criterion(f: Fitted) -> None:
    objective = f.golden["objective"]
    assert abs(f.result.criterion - objective) <= max(1e-6, 1e-8 * abs(objective))


def check_theta(f: Fitted) -> None:
    theta = list(f.golden["theta"].values())
    assert_allclose(f.result.theta, theta, rtol=0, atol=1e-5)


def check_fe_params(f: Fitted) -> None:
    assert sorted(f.r_names) == sorted(f.case.golden["fixed_columns"])
    assert_allclose(f.result.fe_params, f.fixed("fixef"), rtol=1e-6)


def check_fe_bse(f: Fitted) -> None:
    assert_allclose(f.result.fe_bse, f.fixed("se"), rtol=1e-5)


def check_fe_tvalues(f: Fitted) -> None:
    assert_allclose(f.result.fe_tvalues, f.fixed("t"), rtol=2e-5)


def check_fe_cov(f: Fitted) -> None:
    vcov = f.golden["vcov"]
    golden = pd.DataFrame(vcov["values"], vcov["rows"], vcov["cols"]).loc[f.r_names, f.r_names]
    unit = np.outer(f.fixed("se"), f.fixed("se"))
    assert_allclose(f.result.fe_cov / unit, golden / unit, rtol=0, atol=2e-5)


def check_scale(f: Fitted) -> None:
    assert_allclose(np.sqrt(f.result.scale), f.sigma, rtol=1e-5)


def check_variance_components(f: Fitted) -> None:
    ours = f.result.variance_components
    golden = cases.covariances(f.case, f.method, ours)
    assert set(ours) == set(golden)
    for key, covariance in golden.items():
        sd = np.sqrt(np.diag(covariance))
        # A variance of exactly 0 has no relative error: there, 1e-8 of the residual variance.
        allowed = 1e-4 * np.outer(sd, sd) + 1e-8 * f.sigma**2
        difference = np.abs(np.atleast_2d(ours[key]) - covariance)
        assert (difference <= allowed).all(), (key, difference / allowed)


def check_random_effects(f: Fitted) -> None:
    check_effects_table(f, f.result.random_effects, "mode")


def check_random_effects_se(f: Fitted) -> None:
    check_effects_table(f, f.result.random_effects_se, "cond_sd")


def check_effects_table(f: Fitted, ours: dict, column: str) -> None:
    golden = cases.random_effects_table(f.case, f.method, column, ours)
    assert set(ours) == set(golden)
    for key, table in golden.items():
        effects = ours[key]
        assert isinstance(effects, pd.Series if table.shape[1] == 1 else pd.DataFrame)
        assert set(effects.index) == set(table.index)
        ours_by_label = pd.DataFrame(effects).loc[table.index]
        if table.shape[1] > 1:
            ours_by_label = ours_by_label.rename(columns=cases.r_name)[table.columns]
        assert_allclose(ours_by_label, table, rtol=0, atol=1e-5 * f.sigma, err_msg=key)


def check_fittedvalues(f: Fitted) -> None:
    assert len(f.result.fittedvalues) == f.case.golden["n"]
    assert_allclose(f.rows(f.result.fittedvalues), f.golden["fitted"], rtol=0, atol=1e-5 * f.sigma)
    marginal = f.result.predict(include_re=False)
    assert_allclose(f.rows(marginal), f.golden["fitted_fixed_only"], rtol=0, atol=1e-5 * f.sigma)


def check_resid(f: Fitted) -> None:
    ours = f.rows(f.result.resid)
    assert_allclose(ours, f.golden["resid_response"], rtol=0, atol=1e-5 * f.sigma)
    assert_allclose(np.sum(f.result.resid**2), f.golden["resid_sumsq"], rtol=1e-5)


def check_likelihood(f: Fitted) -> None:
    for ours, golden in (("llf", "logLik"), ("aic", "AIC"), ("bic", "BIC")):
        assert_allclose(getattr(f.result, ours), f.golden[golden], rtol=1e-8, atol=1e-6)
    assert f.result.nparams == f.golden["npar"]


def check_sizes(f: Fitted) -> None:
    golden = f.case.golden
    assert f.result.nobs == golden["n"]
    keyed = {cases.group_key(k, f.result.ngroups): n for k, n in golden["n_groups"].items()}
    assert f.result.ngroups == keyed
    assert f.result.n_dropped == golden["na_rows_dropped"]


def check_flags(f: Fitted) -> None:
    assert f.result.converged is True
    assert f.result.is_singular is f.golden["is_singular"]
    assert f.result.method == f.golden["method"]


def check_predictions(f: Fitted) -> None:
    new, golden = cases.newdata(f.case, f.method), f.golden["predict"]
    conditional = f.result.predict(new)
    assert_allclose(conditional, golden["re_form_NULL"], rtol=0, atol=1e-5 * f.sigma)
    marginal = f.result.predict(new, include_re=False)
    assert_allclose(marginal, golden["re_form_NA"], rtol=0, atol=1e-5 * f.sigma)


def check_partial_predictions(f: Fitted) -> None:
    """lme4 tells each of its terms apart, we each grouping factor: add what shares a factor."""
    new, golden = cases.newdata(f.case, f.method), f.golden["predict"]
    marginal = np.array(golden["re_form_NA"])
    by_key: dict[str, np.ndarray] = {}
    for label, prediction in (golden["partial"] or {}).items():
        key = cases.group_key(label.strip("()").split("| ")[1], f.result.ngroups)
        by_key[key] = by_key.get(key, 0.0) + np.array(prediction) - marginal
    for key, effect in by_key.items():
        ours = f.result.predict(new, include_re=key)
        assert_allclose(ours, marginal + effect, rtol=0, atol=1e-5 * f.sigma)


def check_evaluations(f: Fitted) -> None:
    assert 1 <= f.result.convergence.n_evaluations <= 12


CHECKS: dict[str, Callable[[Fitted], None]] = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_") and name != "check_effects_table"
}


@pytest.mark.parametrize("quantity", CHECKS)
@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", cases.case_names())
def test_equals_lme4(name: str, method: str, quantity: str) -> None:
    CHECKS[quantity](fitted(name, method))


def test_all_cases_are_here() -> None:
    assert len(cases.case_names()) == 17
