"""Leverages: against lme4, HLMdiag's definitions, and matrices written out in full."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from dense import FORMULAS, Dense, frame, identity
from fits import of_case as reference_fit
from fits import of_small as fitted
from interlace import InterlaceError
from interlace.diagnostics.leverage import hat_cooks, hat_rstudent, hat_values, leverage
from interlace.estimation.criterion import Criterion
from interlace.model import predict
from interlace.sums.crossprod import with_response
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def of_rows(golden: dict, values: np.ndarray) -> np.ndarray:
    """The rows that the golden file has."""
    index = golden.get("obs_index_1based")
    return values if index is None else values[np.array(index) - 1]


def pearson(result: interlace.CrossedLMEResult) -> np.ndarray:
    w = result.design.weights
    return result.resid if w is None else np.sqrt(w) * result.resid


# ------------------------------------------------------------ golden files


@pytest.mark.parametrize("name", cases.case_names())
def test_what_lme4_derives_from_hat_values(name: str) -> None:
    golden, result = cases.load_golden(name, "diagnostics"), reference_fit(name)
    sigma = float(np.sqrt(result.scale))
    h, r = hat_values(result.design, result.estimate), pearson(result)
    assert_allclose(of_rows(golden, h), golden["lme4"]["hatvalues"], **CLOSE)
    cooks = hat_cooks(h, r, sigma=sigma, p=len(result.fe_params))
    assert_allclose(of_rows(golden, cooks), golden["lme4"]["cooks_distance"], **CLOSE)
    rstudent = hat_rstudent(h, r, sigma=sigma)
    # Residuals cross zero, so that their unit, one standard deviation, is what errors are part of.
    assert_allclose(of_rows(golden, rstudent), golden["lme4"]["rstudent"], rtol=1e-6, atol=1e-6)
    if "sum_hatvalues" in golden["lme4"]:
        assert h.sum() == pytest.approx(golden["lme4"]["sum_hatvalues"], rel=1e-6)


@pytest.mark.parametrize("name", [n for n in cases.case_names() if n != "insteval"])
def test_leverage_of_rows_and_groups(name: str) -> None:
    golden, result = cases.load_golden(name, "diagnostics")["closed_form"], reference_fit(name)
    rows = leverage(result)
    assert list(rows.columns) == ["overall", "fixef", "ranef", "ranef.uc"]
    for part in rows:
        assert_allclose(rows[part], golden["leverage"][part], **CLOSE)
    for lme4_key, expected in golden["leverage_by_group"].items():
        key = cases.group_key(lme4_key, result.ngroups)
        units = [u if key == lme4_key else cases.reversed_label(u) for u in expected["unit"]]
        table = pd.DataFrame({part: expected[part] for part in rows}, index=units)
        groups = leverage(result, level=key)
        assert groups.index.name == key
        assert sorted(groups.index.map(str)) == sorted(units)
        assert_allclose(groups, table.loc[groups.index.map(str)], **CLOSE)


# ------------------------------------------------------------ matrices written out


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_parts_from_their_definition(name: str, weighted: bool) -> None:
    result = fitted(name, weighted)
    A = result.estimate.A
    dense = Dense(result.design, A, identity(A), result.estimate.user_templates, True)
    # Dense has the rows times sqrt(w), which leaves these diagonals alone but for the last.
    rows = [(Z @ T).reshape(A.n, -1) for Z, T in zip(dense.Z, dense.templates, strict=True)]
    ZDZ = sum(R @ R.T for R in rows)
    H = dense.X @ dense.vcov @ dense.X.T @ dense.V_inverse
    found = leverage(result)
    assert_allclose(found["fixef"], np.diag(H), **EXACT)
    assert_allclose(found["ranef"], np.diag(ZDZ @ dense.P), **EXACT)
    assert_allclose(found["ranef.uc"], np.diag(ZDZ) / dense.root_w[:, 0] ** 2, **EXACT)
    assert_allclose(found["overall"], hat_values(result.design, result.estimate), **EXACT)
    assert_allclose(found["overall"], found["fixef"] + found["ranef"], **EXACT)


@pytest.mark.parametrize("name", ["crossed slopes", "nested and crossed"])
def test_a_hat_value_is_the_rate_at_which_a_fitted_value_follows_its_response(name: str) -> None:
    """With theta held: the fit is linear in the response, so any step will do."""
    result = fitted(name, True)
    estimate, y = result.estimate, np.array(result.design.y)
    h = hat_values(result.design, estimate)
    for row in (0, 17, 60):
        changed = y.copy()
        changed[row] += 3.0
        moved = fitted_at_theta(result, changed)[row] - fitted_at_theta(result, y)[row]
        assert moved / 3.0 == pytest.approx(h[row], rel=1e-7)


def fitted_at_theta(result: interlace.CrossedLMEResult, y: np.ndarray) -> np.ndarray:
    """Conditional fitted values of another response, theta unchanged."""
    A = with_response(result.estimate.A, result.design, y)
    templates = Criterion(A, True).working(result.estimate.user_templates)
    estimate = replace(result.estimate, criterion=Criterion(A, True), templates=tuple(templates))
    return predict.fitted(result.design, estimate, [True] * len(A.terms))


def test_redundant_columns_change_nothing() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"])
    with pytest.warns(interlace.RankDeficiencyWarning):
        result = interlace.fit("y ~ x + twice + (1 | g) + (1 | h)", data)
    assert_allclose(leverage(result), leverage(fitted("crossed", False)), rtol=1e-7)


def test_two_terms_of_one_group_share_its_means() -> None:
    result = fitted("two terms on one group", False)
    rows, groups = leverage(result), leverage(result, level="g")
    expected = rows.groupby(frame()["g"]).mean()
    assert_allclose(groups, expected.loc[groups.index], **EXACT)


@pytest.mark.parametrize("level", [2, "x", "g:h"])
def test_an_unknown_level(level: int | str) -> None:
    with pytest.raises(InterlaceError) as caught:
        leverage(fitted("crossed", False), level=level)
    assert str(caught.value) == (
        f"level must be 1 or a grouping factor of the model (g, h), not {level!r}"
    )


def test_a_row_that_is_fitted_exactly_has_no_standardised_residual() -> None:
    h, r = np.array([1.0, 0.5]), np.array([0.0, 1.0])
    assert np.isnan(hat_rstudent(h, r, sigma=1.0)).tolist() == [True, False]
    assert np.isnan(hat_cooks(h, r, sigma=1.0, p=2)).tolist() == [True, False]
