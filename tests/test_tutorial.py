"""The tutorial runs as it is written, cell by cell, and what it says holds."""

from __future__ import annotations

import ast
import functools
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from plotnine import ggplot
from scipy.stats import norm

import interlace
from reference import cases

# The data have no true school effect, so their variance may well be estimated as zero.
pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

NOTEBOOK = cases.HERE / "interpreting-results.ipynb"


def code_cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does: the value of a last expression is what the cell shows."""
    module = ast.parse(source)
    last = module.body.pop() if isinstance(module.body[-1], ast.Expr) else None
    exec(compile(module, str(NOTEBOOK), "exec"), namespace)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), namespace)


@functools.cache
def tutorial() -> tuple[dict[str, Any], list[Any]]:
    """Everything defined by the cells, in order, and what each shows."""
    namespace: dict[str, Any] = {}
    shown = [run_cell(source, namespace) for source in code_cells()]
    return namespace, shown


@pytest.fixture
def ns() -> dict[str, Any]:
    return tutorial()[0]


def shown_by(text: str) -> Any:
    """What the one cell that is `text`, or else the one that contains it, shows."""
    cells = list(zip(code_cells(), tutorial()[1], strict=True))
    same = [value for source, value in cells if source.strip() == text]
    (value,) = same or [value for source, value in cells if text in source]
    return value


def test_every_cell_runs_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    tutorial.cache_clear()
    tutorial()
    out = capsys.readouterr().out
    for line in (r"LR statistic: \d+\.\d{3} \(df=1\)", r"ICC\(student_id\): 0\.\d{3}", "log-lik: "):
        assert re.search(line, out), line
    assert "converged: True" in out
    assert "Converged successfully." in out


def test_quick_reference_types(ns: dict[str, Any]) -> None:
    result = ns["result"]
    assert isinstance(result, interlace.CrossedLMEResult)
    types = {
        "fe_params": pd.Series,
        "fe_bse": pd.Series,
        "fe_pvalues": pd.Series,
        "fe_conf_int": pd.DataFrame,
        "fe_cov": np.ndarray,
        "variance_components": dict,
        "scale": float,
        "random_effects": dict,
        "fittedvalues": np.ndarray,
        "resid": np.ndarray,
        "aic": float,
        "bic": float,
        "llf": float,
        "converged": bool,
        "nobs": int,
        "ngroups": dict,
    }
    for name, kind in types.items():
        assert isinstance(getattr(result, name), kind), name


def test_coefficients_are_indexed_by_term(ns: dict[str, Any]) -> None:
    names = ["Intercept", "hours_studied", "prior_gpa"]
    result = ns["result"]
    for series in (result.fe_params, result.fe_bse, result.fe_pvalues):
        assert list(series.index) == names
    assert list(shown_by("result.fe_params").index) == names
    assert result.fe_cov.shape == (3, 3)


def test_inference_is_normal(ns: dict[str, Any]) -> None:
    result = ns["result"]
    z = result.fe_params / result.fe_bse
    assert_allclose(result.fe_pvalues, 2 * norm.sf(np.abs(z)), rtol=1e-12)
    assert list(result.fe_conf_int.columns) == [0.025, 0.975]
    half = norm.ppf(0.975) * result.fe_bse
    assert_allclose(result.fe_conf_int.iloc[:, 0], result.fe_params - half, rtol=1e-12)
    assert_allclose(result.fe_conf_int.iloc[:, 1], result.fe_params + half, rtol=1e-12)


def test_fixed_effects_covariance_is_gls(ns: dict[str, Any]) -> None:
    """fe_cov = scale (X' Omega^-1 X)^-1, with Omega built here row by row."""
    df, result = ns["df"], ns["result"]
    X = np.column_stack([np.ones(len(df)), df["hours_studied"], df["prior_gpa"]])
    omega = np.eye(len(df))
    for group, variance in result.variance_components.items():
        same = df[group].to_numpy()[:, None] == df[group].to_numpy()[None, :]
        omega += same * variance / result.scale
    expected = result.scale * np.linalg.inv(X.T @ np.linalg.solve(omega, X))
    assert_allclose(result.fe_cov, expected, rtol=1e-8)
    assert_allclose(result.fe_bse, np.sqrt(np.diag(expected)), rtol=1e-8)


def test_summary_table_has_a_row_per_coefficient(ns: dict[str, Any]) -> None:
    table = shown_by('"estimate": result.fe_params')
    assert list(table.columns) == ["estimate", "se", "p", "ci_lo", "ci_hi"]
    assert list(table.index) == ["Intercept", "hours_studied", "prior_gpa"]
    assert ((table["ci_lo"] < table["estimate"]) & (table["estimate"] < table["ci_hi"])).all()


def test_likelihood_ratio_test(ns: dict[str, Any]) -> None:
    assert ns["m1"].method == ns["m2"].method == "ML"
    assert ns["lr_stat"] >= 0
    assert 0 <= ns["p_value"] <= 1


def test_variance_components_and_icc(ns: dict[str, Any]) -> None:
    result = ns["result"]
    assert list(result.variance_components) == ["student_id", "school_id"]
    assert all(isinstance(v, float) and v >= 0 for v in result.variance_components.values())
    assert result.scale > 0
    assert sum(ns["icc"].values()) < 1


def test_information_criteria(ns: dict[str, Any]) -> None:
    result = ns["result"]
    k = len(result.fe_params) + 2 + 1  # coefficients, two variance ratios, the residual variance
    assert result.nparams == k
    assert result.aic == pytest.approx(-2 * result.llf + 2 * k, rel=1e-12)
    assert result.bic == pytest.approx(-2 * result.llf + k * np.log(result.nobs), rel=1e-12)


def test_converged(ns: dict[str, Any]) -> None:
    assert ns["result"].converged is True


def test_random_effects_by_level(ns: dict[str, Any]) -> None:
    df, result = ns["df"], ns["result"]
    for group, blups in result.random_effects.items():
        assert isinstance(blups, pd.Series)
        assert set(blups.index) == set(df[group])
        assert result.ngroups[group] == df[group].nunique()
    shown = shown_by("student_blups.sort_values()")
    assert shown.is_monotonic_increasing


def test_random_slopes_give_a_frame(ns: dict[str, Any]) -> None:
    result = interlace.fit("score ~ hours_studied + (hours_studied | student_id)", ns["df"])
    effects = result.random_effects["student_id"]
    assert isinstance(effects, pd.DataFrame)
    assert list(effects.columns) == ["Intercept", "hours_studied"]


def test_random_effects_are_shrunk(ns: dict[str, Any]) -> None:
    """A BLUP is a part, below one, of its group's mean deviation given everything else."""
    df, result = ns["df"], ns["result"]
    blups = result.random_effects["student_id"]
    without = df.assign(left=result.resid + blups.reindex(df["student_id"]).to_numpy())
    raw = without.groupby("student_id")["left"].mean().reindex(blups.index)
    n = df["student_id"].value_counts().reindex(blups.index)
    ratio = result.scale / result.variance_components["student_id"]
    assert_allclose(blups, raw * n / (n + ratio), rtol=0, atol=1e-6)
    assert (blups.abs() <= raw.abs()).all()


def test_shrinkage_plot_is_drawn(ns: dict[str, Any]) -> None:
    plot = shown_by("geom_abline(slope=1")
    assert isinstance(plot, ggplot)
    plot.draw()
    assert len(ns["shrinkage_df"]) == 30
    assert not ns["shrinkage_df"].isna().any(axis=None)


def test_residuals_are_observed_minus_conditional(ns: dict[str, Any]) -> None:
    df, result = ns["df"], ns["result"]
    assert_allclose(ns["y_conditional"], result.fittedvalues, rtol=1e-12)
    assert_allclose(result.resid, df["score"] - ns["y_conditional"], rtol=0, atol=1e-10)


def test_marginal_predictions_use_fixed_effects_only(ns: dict[str, Any]) -> None:
    df, b = ns["df"], ns["result"].fe_params
    expected = b.iloc[0] + b.iloc[1] * df["hours_studied"] + b.iloc[2] * df["prior_gpa"]
    assert_allclose(ns["y_marginal"], expected, rtol=1e-10)
    assert ns["y_marginal"].std() < ns["y_conditional"].std()


def test_unseen_level_contributes_zero(ns: dict[str, Any]) -> None:
    result, new = ns["result"], ns["df_new"]
    students, schools = result.random_effects["student_id"], result.random_effects["school_id"]
    student = students.reindex(new["student_id"]).fillna(0.0).to_numpy()
    assert student[2] == 0.0
    school = schools.reindex(new["school_id"]).to_numpy()
    marginal = result.predict(new, include_re=False)
    assert_allclose(ns["preds"], marginal + student + school, rtol=1e-10)
    assert "predicted_score" in shown_by("predicted_score")


def test_levels_all_unseen_predict_the_marginal_mean(ns: dict[str, Any]) -> None:
    result = ns["result"]
    new = ns["df_new"].assign(student_id="s_new", school_id="sch_new")
    assert_allclose(result.predict(new), result.predict(new, include_re=False), rtol=1e-12)


def test_bootstrap_standard_errors(ns: dict[str, Any]) -> None:
    assert isinstance(ns["se_cluster"], float)
    assert isinstance(ns["se_observation"], float)
    # The median of 300 scores with standard deviation 8 has a standard error near 0.58.
    assert 0.3 < ns["se_observation"] < 1.0
    assert 0.3 < ns["se_cluster"] < 1.5


def test_bootstrap_is_reproducible(ns: dict[str, Any]) -> None:
    again = ns["result"].bootstrap_se(
        statistic="median", n_bootstrap=500, resample_level="group", seed=42
    )
    assert again == ns["se_cluster"]


def test_observation_bootstrap_underestimates_when_groups_differ() -> None:
    result = interlace.fit(
        "score ~ hours_studied + prior_gpa",
        cases.load_data("exam_effects"),
        groups=["student_id", "school_id"],
    )
    cluster = result.bootstrap_se(resample_level="group", seed=1)
    observation = result.bootstrap_se(resample_level="observation", seed=1)
    assert cluster > observation
