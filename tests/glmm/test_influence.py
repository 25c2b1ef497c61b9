"""Leverage and influence in generalised models: dense equations, and fits without the rows."""

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from glmm.cases import CASES, fitted, load
from interlace import InterlaceError
from interlace.diagnostics.units import unit_rows

INDEX = {case.file: i for i, case in enumerate(CASES)}
SMALL = [0, INDEX["glmm_probit_cbpp"], INDEX["glmm_gamma_slope_sleep"], INDEX["glmm_beta_cbpp"]]


def equations(result):
    """Rows ``[Z X]`` of the working basis, spherical effects, and their joint equations."""
    problem, at = result.estimate.problem, result.estimate.at
    blocks = []
    for term, codes, Z, T in zip(
        problem.rows.terms, problem.rows.codes, problem.rows.Z, at.templates, strict=True
    ):
        Z = np.ones((problem.rows.n, 1)) if Z is None else Z
        block = np.zeros((problem.rows.n, term.l, term.k))
        block[np.arange(problem.rows.n), codes] = Z @ T
        blocks.append(block.reshape(problem.rows.n, -1))
    R = np.hstack([*blocks, problem.rows.X])
    prior = np.diag([1.0] * (R.shape[1] - problem.rows.p) + [0.0] * problem.rows.p)
    return R, prior


@pytest.mark.parametrize("index", SMALL, ids=lambda i: CASES[i].file)
@pytest.mark.parametrize("level", [1, "group"])
def test_one_step_is_a_newton_step_of_the_joint_equations(index, level):
    result = fitted(index)
    level = 1 if level == 1 else next(iter(result.ngroups))
    found = interlace.hlm_influence(result, level)
    R, prior = equations(result)
    curve, p = result.estimate.evaluation.mode.curve, result.estimate.A.p
    V = np.linalg.inv(R.T @ (curve.W[:, None] * R) + prior)[-p:, -p:]
    inverse = np.linalg.inv(V)
    for i, rows in list(enumerate(unit_rows(result.design, level)))[:6]:
        keep = np.setdiff1d(np.arange(len(R)), rows)
        A = np.linalg.inv(R[keep].T @ (curve.W[keep, None] * R[keep]) + prior)
        d = (A @ (R[rows].T @ curve.g[rows]))[-p:]
        C = A[-p:, -p:]
        row = found.iloc[i]
        assert row["cooksd"] == pytest.approx(d @ inverse @ d / p, rel=1e-6)
        assert row["mdffits"] == pytest.approx(d @ np.linalg.solve(C, d) / p, rel=1e-6)
        assert row["covratio"] == pytest.approx(np.linalg.det(C) / np.linalg.det(V), rel=1e-6)
        assert row["covtrace"] == pytest.approx(abs(np.trace(inverse @ C) - p), rel=1e-6)


def test_exact_deletions_are_fits_without_the_group():
    result, data = fitted(0), load("data/cbpp")
    found = interlace.hlm_influence(result, "herd", approx=False)
    C = result.fe_cov
    for herd in ("1", "14", "8"):
        less = interlace.fit(
            "incidence ~ period",
            data[data["herd"] != herd],
            groups="herd",
            family="binomial",
            trials="size",
        )
        d = (result.fe_params - less.fe_params).to_numpy()
        row = found.loc[herd]
        assert row["cooksd"] == pytest.approx(d @ np.linalg.solve(C, d) / 4, rel=1e-4)
        ratio = np.linalg.det(less.fe_cov) / np.linalg.det(C)
        assert row["covratio"] == pytest.approx(ratio, rel=1e-4)
        np.testing.assert_allclose(
            row[[f"dfbetas.{n}" for n in less.fe_params.index]].astype(float),
            d / less.fe_bse,
            rtol=1e-3,
            atol=1e-5,
        )
        change = less.variance_components["herd"] / result.variance_components["herd"] - 1
        assert row["rvc.var_Intercept|herd"] == pytest.approx(change, rel=1e-3)
    assert (found["note"] == "").all()
    rough = interlace.hlm_influence(result, "herd")
    assert np.corrcoef(rough["cooksd"], found["cooksd"])[0, 1] > 0.9


def test_the_verbs_beside_and_their_leverages():
    result = fitted(0)
    table = interlace.hlm_influence(result)
    for name in ("cooks_distance", "mdffits", "covtrace", "covratio"):
        column = "cooksd" if name == "cooks_distance" else name
        np.testing.assert_array_equal(getattr(interlace, name)(result), table[column])
    lever = interlace.leverage(result)
    np.testing.assert_allclose(lever["overall"], result.augment()[".hat"])
    np.testing.assert_allclose(lever["overall"], lever["fixef"] + lever["ranef"])
    W = result.estimate.evaluation.mode.curve.W
    np.testing.assert_allclose(lever["ranef.uc"], W * result.variance_components["herd"])
    groups = interlace.leverage(result, "herd")
    first = lever["overall"][load("data/cbpp")["herd"] == "1"].mean()
    assert groups.loc["1", "overall"] == pytest.approx(first)


def test_deletions_without_a_fit_say_why():
    data = load("data/cbpp").head(20).copy()
    data["last"] = (np.arange(20) == 19).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = interlace.fit(
            "incidence ~ last", data, groups="herd", family="binomial", trials="size"
        )
    found = interlace.hlm_influence(result, approx=False)
    assert found["note"].iloc[19] == "the fixed effects are rank deficient without it"
    assert np.isnan(found["cooksd"].iloc[19])
    assert np.isfinite(found["cooksd"].iloc[:19]).all()


def test_what_is_refused():
    with pytest.raises(InterlaceError, match="level must be 1 or a grouping factor"):
        interlace.hlm_influence(fitted(0), "cow")
    assert isinstance(interlace.rvc(fitted(0), "herd"), pd.DataFrame)
