"""Residuals: against lme4's and HLMdiag's values, and matrices written out in full."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import interlace
from dense import MODELS, Dense, frame, identity
from fits import of_case as reference_fit
from fits import of_small as fitted
from interlace import InterlaceError
from interlace.diagnostics import innovations as module
from interlace.diagnostics.innovations import innovations
from interlace.diagnostics.leastsquares import group_fits
from interlace.diagnostics.residuals import hlm_resid
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
EXACT = {"rtol": 1e-8, "atol": 1e-10}
CLOSED = [
    n
    for n in cases.case_names("diagnostics")
    if "closed_form" in cases.load_golden(n, "diagnostics")
]
KINDS = ("pearson", "studentized", "cholesky")


def of_rows(golden: dict, values: pd.Series) -> np.ndarray:
    """The rows that the golden file has."""
    index = golden.get("obs_index_1based")
    return values.to_numpy() if index is None else values.to_numpy()[np.array(index) - 1]


def close(found: np.ndarray, golden: list, tolerance: float = 1e-6) -> None:
    """Residuals agree to ``tolerance`` of their spread: they may well be near zero."""
    wanted = np.array(golden, dtype=float)
    spread = np.sqrt(np.nanmean(wanted**2)) if np.isfinite(wanted).any() else 1.0
    assert_allclose(found, wanted, rtol=0, atol=tolerance * spread)


# ------------------------------------------------------------ golden files


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("kind", [False, *KINDS])
def test_marginal_residuals(name: str, kind: bool | str) -> None:
    golden = cases.load_golden(name, "diagnostics")
    wanted = golden["closed_form"]["resid_marginal"][kind or "raw"]
    found = hlm_resid(reference_fit(name), type="marginal", standardized=kind)
    close(of_rows(golden, found.iloc[:, 0]), wanted)


@pytest.mark.parametrize("name", cases.case_names("diagnostics"))
def test_conditional_residuals(name: str) -> None:
    golden, result = cases.load_golden(name, "diagnostics"), reference_fit(name)
    found = hlm_resid(result, standardized="studentized")
    assert list(found) == [".student.resid", ".fitted"]
    close(of_rows(golden, found[".student.resid"]), golden["lme4"]["rstudent"])
    if name in CLOSED:
        close(found[".student.resid"], golden["closed_form"]["resid_conditional_studentized"])


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("type", ["conditional", "marginal"])
@pytest.mark.parametrize(
    "name",
    [n for n in cases.case_names("diagnostics")
     if cases.load_golden(n, "diagnostics").get("hlmdiag_hlm_resid")
     and n != "sleepstudy_offset"],
)  # fmt: skip
def test_hlmdiag_by_row(name: str, type: str, standardized: bool) -> None:
    table = "level1_standardized" if standardized else "level1"
    golden = cases.load_golden(name, "diagnostics")["hlmdiag_hlm_resid"][table]
    found = hlm_resid(reference_fit(name), type=type, standardized=standardized)
    assert set(found) <= set(golden)
    ls = cases.load_golden(name, "diagnostics")["hlmdiag_hlm_resid"]["level1"][".ls.resid"]
    for column in found:
        values, wanted = found[column].to_numpy(), np.array(golden[column], dtype=float)
        if column == ".std.ls.resid":
            exact = np.isnan(values)  # the group is fitted exactly: nothing to standardise
            assert_allclose(np.array(ls)[exact], 0.0, atol=1e-9)
            close(values[~exact], wanted[~exact])
        elif np.abs(wanted).max() < 1e-9:
            assert_allclose(values, 0.0, atol=1e-9)
        else:
            close(values, wanted)


GROUPS = [
    (name, key)
    for name in cases.case_names("diagnostics")
    for key, table in (
        (cases.load_golden(name, "diagnostics").get("hlmdiag_hlm_resid") or {})
        .get("by_group", {})
        .items()
    )
    if table["raw"]
]


@pytest.mark.parametrize(("name", "key"), GROUPS)
def test_hlmdiag_by_group(name: str, key: str) -> None:
    golden = cases.load_golden(name, "diagnostics")["hlmdiag_hlm_resid"]["by_group"][key]
    result = reference_fit(name)
    ours = cases.group_key(key, result.ngroups)
    for standardized, table in ((False, golden["raw"]), (True, golden["standardized"])):
        if not table:
            continue
        labels = table.get("group", table.get(key))
        if ours != key:
            labels = [cases.reversed_label(label) for label in labels]
        found = hlm_resid(result, level=ours, standardized=standardized)
        assert list(found) == [name for name in table if name.startswith(".")]
        for column in found:
            wanted = np.array(table[column], dtype=float)
            assert_allclose(found[column].loc[labels], wanted, rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------ matrices written out


@pytest.mark.parametrize(("name", "weighted"), MODELS)
def test_marginal_residuals_from_the_covariance_matrix(name: str, weighted: bool) -> None:
    result = fitted(name, weighted)
    estimate = result.estimate
    dense = Dense(
        result.design, estimate.A, identity(estimate.A), estimate.user_templates, reml=True
    )
    # Rows of Dense are weighted: their residuals over sigma are those of the rows standardised.
    r = (dense.y - dense.X @ estimate.beta) / estimate.sigma
    wanted = {
        "pearson": r / np.sqrt(np.diag(dense.V)),
        "studentized": r / np.sqrt(np.diag(dense.V - dense.X @ dense.vcov @ dense.X.T)),
        "cholesky": np.linalg.solve(np.linalg.cholesky(dense.V), r),
    }
    for kind, values in wanted.items():
        found = hlm_resid(result, type="marginal", standardized=kind)
        assert_allclose(found.iloc[:, 0], values, rtol=1e-7, atol=1e-9, err_msg=kind)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 12), st.integers(1, 9))
def test_innovations_are_cholesky_residuals(seed: int, n: int, q: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    H = rng.normal(size=(n, q)) * (rng.random((n, q)) < 0.25)
    r = rng.normal(size=n)
    L = np.linalg.cholesky(np.eye(n) + H @ H.T)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SHORT", step)
        found = innovations(csr_matrix(H), r)
    assert_allclose(found, np.linalg.solve(L, r), **EXACT)


def test_groups_that_share_nothing_do_not_inform_each_other() -> None:
    data = frame().sort_values("g", ignore_index=True)
    rows = np.random.default_rng(0).permutation(len(data))
    result = interlace.fit("y ~ x + (1 + x | g)", data)
    within = np.concatenate([rows[data["g"][rows] == g] for g in np.unique(data["g"])])
    mixed = interlace.fit("y ~ x + (1 + x | g)", data.iloc[rows])
    sorted_ = interlace.fit("y ~ x + (1 + x | g)", data.iloc[within])
    first = hlm_resid(mixed, type="marginal", standardized=True).iloc[:, 0].to_numpy()
    second = hlm_resid(sorted_, type="marginal", standardized=True).iloc[:, 0].to_numpy()
    order = np.argsort(rows), np.argsort(within)
    assert_allclose(first[order[0]], second[order[1]], rtol=1e-6, atol=1e-8)
    # Whatever the order, the residuals have the same sum of squares in every group.
    last = hlm_resid(result, type="marginal", standardized=True).iloc[:, 0]
    for g in np.unique(data["g"]):
        here = (data["g"] == g).to_numpy()
        total = (first[order[0]][here] ** 2).sum()
        assert total == pytest.approx((last[here] ** 2).sum(), rel=1e-6)


def test_only_effects_in_use_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    n, l = 2000, 500
    codes = np.repeat(np.arange(l), n // l)
    H = csr_matrix((np.ones(n), (np.arange(n), codes)), shape=(n, l))
    r = np.random.default_rng(1).normal(size=n)
    monkeypatch.setattr(module, "_MOST_BYTES", 8.0 * (module._LONG // 4 + 1) ** 2)
    expected = np.linalg.solve(np.linalg.cholesky(np.eye(n) + (H @ H.T).toarray()), r)
    assert_allclose(innovations(H, r), expected, **EXACT)


def test_least_squares_in_every_group() -> None:
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(6), 5)
    columns = np.column_stack((np.ones(30), rng.normal(size=30), np.repeat([0, 1], 15)))
    y = rng.normal(size=30)
    fits = group_fits(codes, 6, columns, y)
    for g in range(6):
        here = codes == g
        X = columns[here][:, :2]
        coef, squares, *_ = np.linalg.lstsq(X, y[here], rcond=None)
        assert_allclose(fits.coef[g], [*coef, np.nan], **EXACT)
        assert_allclose(fits.residuals[here], y[here] - X @ coef, **EXACT)
        assert_allclose(fits.hat[here], np.diag(X @ np.linalg.pinv(X)), **EXACT)
        assert_allclose(fits.sigma[here] ** 2, float(squares[0]) / 3, **EXACT)


@pytest.mark.parametrize("name", ["slope", "nested slopes", "crossed slopes"])
def test_conditional_residuals_of_every_kind_agree(name: str) -> None:
    result = fitted(name, True)
    raw = hlm_resid(result)
    pearson = hlm_resid(result, standardized="pearson").iloc[:, 0]
    root = np.sqrt(frame()["w"].to_numpy() / result.scale)
    assert_allclose(raw[".resid"], result.resid)
    assert_allclose(pearson, result.resid * root)
    assert_allclose(hlm_resid(result, standardized=True)[".std.resid"], pearson)
    assert_allclose(raw[".ls.resid"] + raw[".ls.fitted"], frame()["y"])


# ------------------------------------------------------------ refusals


def message(call: object) -> str:
    with pytest.raises(InterlaceError) as caught:
        call()
    return str(caught.value)


def test_bad_arguments() -> None:
    result = fitted("intercept", False)
    assert message(lambda: hlm_resid(result, level="school")) == (
        "level must be 1 or a grouping factor of the model (g), not 'school'"
    )
    assert message(lambda: hlm_resid(result, type="deviance")) == (
        "type must be one of 'conditional', 'marginal', not 'deviance'; for random effects name a "
        "grouping factor as level"
    )
    assert message(lambda: hlm_resid(result, standardized="cholesky")) == (
        "standardized must be one of False, True, 'pearson', 'studentized' for conditional "
        "residuals, not 'cholesky'"
    )
    assert message(lambda: hlm_resid(result, level="g", standardized="pearson")) == (
        "standardized must be one of False, True for random effects, not 'pearson'"
    )
    assert message(lambda: hlm_resid(replace(result, design=None))) == (
        "diagnostics look at single rows, and this result holds none (it was fitted from "
        "cross-products): fit the same formula to the rows, or a part of them, in memory"
    )


def test_effects_too_many_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WORK", 1e4)
    result = fitted("nested in three levels", False)
    found = message(lambda: hlm_resid(result, type="marginal", standardized=True))
    assert found == (
        "Cholesky residuals of 90 rows would have to follow 12 random effects at a time (a:b:c: 23 "
        "levels x 1, a:b: 8 levels x 1, a: 4 levels x 1): 0.0 GB and 3e+04 operations; use "
        "studentized residuals, or sort the rows so that those of a group stand together"
    )
