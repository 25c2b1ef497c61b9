"""Influence: reference values, refits to the reduced data, and matrices written out in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import interlace
from dense import FORMULAS, MODELS, Dense, frame, identity
from fits import of_case as reference_fit
from fits import of_small as fitted
from interlace import CrossedLMEResult
from interlace.diagnostics import changes, refitting
from interlace.diagnostics.influence import (
    hlm_influence,
)
from interlace.diagnostics.polish import polished
from interlace.diagnostics.units import unit_rows
from interlace.estimation.criterion import Criterion
from interlace.solver import plan
from interlace.sums.terms import ReTerm
from plans import PLANS
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")

MEASURES = ["cooksd", "mdffits", "covtrace", "covratio"]
CASES = [n for n in cases.case_names("diagnostics") if n != "insteval"]
GROUPS = [
    (name, key)
    for name in CASES
    for key in cases.load_golden(name, "diagnostics")["closed_form"]["group_level"]
]


def levels(name: str, key: str, labels: list[str]) -> tuple[str, list[str]]:
    """Our key of a grouping factor and our labels of its levels."""
    ours = cases.group_key(key, reference_fit(name).ngroups)
    return ours, labels if ours == key else [cases.reversed_label(x) for x in labels]


def table_of(golden: dict, columns: list[str]) -> np.ndarray:
    return np.column_stack([np.array(golden[name], dtype=float) for name in columns])


# ------------------------------------------------------------ golden files, one step


@pytest.mark.parametrize("name", CASES)
def test_one_step_by_row(name: str) -> None:
    golden = cases.load_golden(name, "diagnostics")["closed_form"]
    found = hlm_influence(reference_fit(name))
    assert list(found) == [*MEASURES, "leverage.overall"]
    wanted = table_of(golden["case_level"], MEASURES)
    assert_allclose(found[MEASURES], wanted, rtol=1e-6, atol=1e-12)
    assert_allclose(found["leverage.overall"], golden["leverage"]["overall"], rtol=1e-6)


@pytest.mark.parametrize(("name", "key"), GROUPS)
def test_one_step_by_group(name: str, key: str) -> None:
    golden = cases.load_golden(name, "diagnostics")["closed_form"]
    table = golden["group_level"][key]
    ours, labels = levels(name, key, table["unit"])
    found = hlm_influence(reference_fit(name), level=ours).loc[labels]
    assert_allclose(found[MEASURES], table_of(table, MEASURES), rtol=1e-6, atol=1e-10)
    wanted = golden["leverage_by_group"][key]["overall"]
    assert_allclose(found["leverage.overall"], wanted, rtol=1e-6)


# ------------------------------------------------------------ golden files, exact


def check_exact(name: str, level: int | str, labels: list, golden: dict) -> None:
    result = reference_fit(name)
    found = hlm_influence(result, level, approx=False).loc[labels]
    assert (found["note"] == "").all()
    assert_allclose(found[MEASURES], table_of(golden, MEASURES), rtol=1e-4, atol=1e-9)
    # lme4 names columns in its way, in the same order as ours.
    ours = found.filter(regex=r"^rvc\.").to_numpy()
    wanted = np.array(golden["rvc"]["values"], dtype=float)
    assert_allclose(ours, wanted, rtol=0, atol=1e-4)
    known = [cases.r_name(n.removeprefix("dfbetas.")) for n in found.filter(regex="^dfbetas")]
    if name != "cake_poly":
        assert known == golden["dfbetas"]["cols"]
    wanted = np.array(golden["dfbetas"]["values"], dtype=float)
    assert_allclose(found.filter(regex="^dfbetas"), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_exact_by_row(name: str) -> None:
    golden = cases.load_golden(name, "diagnostics")["exact_case"]
    check_exact(name, 1, [int(i) - 1 for i in golden["deleted"]], golden)


@pytest.mark.parametrize(("name", "key"), GROUPS)
def test_exact_by_group(name: str, key: str) -> None:
    golden = cases.load_golden(name, "diagnostics")["exact_group"][key]
    ours, labels = levels(name, key, golden["deleted"])
    check_exact(name, ours, labels, golden)


# ------------------------------------------------------------ matrices written out


def written_out(result: CrossedLMEResult, members: np.ndarray) -> list[float]:
    """The four measures at fixed parameters, from the covariance matrix of the rows."""
    estimate = polished(result.estimate)
    d = Dense(result.design, estimate.A, identity(estimate.A), estimate.user_templates, reml=True)
    V, p = estimate.sigma**2 * d.V, estimate.A.p
    inverse = np.linalg.inv(V)
    C = np.linalg.inv(d.X.T @ inverse @ d.X)
    P = inverse - inverse @ d.X @ C @ d.X.T @ inverse
    left = C @ d.X.T @ inverse[:, members]
    solved = np.linalg.inv(P[np.ix_(members, members)])
    e = inverse @ (d.y - d.X @ estimate.beta)
    change = left @ solved @ e[members]
    after = C + left @ solved @ left.T
    return [
        change @ np.linalg.inv(C) @ change / p,
        change @ np.linalg.inv(after) @ change / p,
        abs(np.trace(np.linalg.inv(C) @ after) - p),
        np.linalg.det(after) / np.linalg.det(C),
    ]


WITH_FIXED = [(name, weighted) for name, weighted in MODELS if name != "no fixed effects"]


@pytest.mark.parametrize(("name", "weighted"), WITH_FIXED)
def test_one_step_from_the_covariance_matrix(name: str, weighted: bool) -> None:
    result = fitted(name, weighted)
    for level in (1, *result.ngroups):
        found = hlm_influence(result, level)[MEASURES]
        sets = unit_rows(result.design, level)
        for i in range(0, len(sets), 11):
            wanted = written_out(result, sets[i])
            assert_allclose(found.iloc[i], wanted, rtol=1e-6, atol=1e-10, err_msg=f"{level} {i}")


@pytest.mark.parametrize("name", ["crossed slopes", "nested slopes", "factor slopes"])
def test_large_groups_by_subtracting_cross_products(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = fitted(name, True)
    expected = {g: hlm_influence(result, g) for g in result.ngroups}
    monkeypatch.setattr(changes, "_LARGE", 0)
    monkeypatch.setattr(changes, "_PIECE", 1)
    for g, table in expected.items():
        found = hlm_influence(result, g)
        assert_allclose(found, table, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("order", PLANS)
@pytest.mark.parametrize("name", ["crossed slopes", "three crossed", "nested slopes"])
def test_any_order_of_elimination(name: str, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {g: hlm_influence(fitted(name), g) for g in fitted(name).ngroups}
    monkeypatch.setattr(plan, "_choose", PLANS[order])
    other = replace(fitted(name).estimate, criterion=Criterion(fitted(name).estimate.A, True))
    for g, table in expected.items():
        found = hlm_influence(replace(fitted(name), estimate=other), g)
        assert_allclose(found, table, rtol=1e-7, atol=1e-11)


def test_groups_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fitted("nested slopes", True)
    expected = hlm_influence(result, "a:b")
    q = sum(term.q for term in result.design.terms)
    monkeypatch.setattr(changes, "_PIECE", 20 * q)
    assert_allclose(hlm_influence(result, "a:b"), expected, rtol=1e-9)


# ------------------------------------------------------------ refits to the reduced data


def refit_to(data: pd.DataFrame, name: str, weighted: bool, rows: np.ndarray) -> CrossedLMEResult:
    kept = data.drop(index=data.index[rows])
    return interlace.fit(FORMULAS[name], kept, weights="w" if weighted else None)


def components(result: CrossedLMEResult, terms: Sequence[ReTerm]) -> np.ndarray:
    """Variances and covariances in the order of some terms."""
    estimate, found = polished(result.estimate), []
    own = [(term.group, term.columns) for term in estimate.A.terms]
    for term in terms:
        S = estimate.covariances[own.index((term.group, term.columns))]
        for a in range(term.k):
            found += [S[b, a] for b in range(a, term.k if term.correlated else a + 1)]
    return np.array([*found, estimate.sigma**2])


def check_refit(
    full: CrossedLMEResult, reduced: CrossedLMEResult, found: pd.Series, context: str
) -> None:
    p = full.estimate.A.p
    terms = full.design.terms
    before, after = components(full, terms), components(reduced, terms)
    zero = before == 0.0
    rvcs = found.filter(regex=r"^rvc\.").to_numpy(dtype=float)
    assert np.isnan(rvcs[zero]).all()
    # A component next to nothing is as good as the others.
    near = {"rtol": 1e-4, "atol": 1e-7 * full.scale}
    assert_allclose((rvcs[~zero] + 1) * before[~zero], after[~zero], err_msg=context, **near)
    if not p:
        return
    d = full.fe_params.to_numpy() - reduced.fe_params.to_numpy()
    C, Ca = full.fe_cov, reduced.fe_cov
    wanted = [
        d @ np.linalg.solve(C, d) / p,
        d @ np.linalg.solve(Ca, d) / p,
        abs(np.trace(np.linalg.solve(C, Ca)) - p),
        np.linalg.det(Ca) / np.linalg.det(C),
    ]
    assert_allclose(found[MEASURES].to_numpy(dtype=float), wanted, rtol=1e-4, atol=2e-6,
                    err_msg=context)  # fmt: skip
    dfbetas = found.filter(regex="^dfbetas").to_numpy(dtype=float)
    assert_allclose(dfbetas, -d / np.sqrt(np.diag(Ca)), atol=2e-6, err_msg=context)


@pytest.mark.parametrize(
    ("name", "weighted", "batched"),
    [(*model, True) for model in MODELS] + [(name, True, False) for name in FORMULAS],
)
def test_deletion_is_a_fit_to_the_other_rows(
    name: str, weighted: bool, batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights with every model by group, and by row where a row leaves a quick fit."""
    monkeypatch.setattr(refitting.Deleter, "batched", batched)
    full, data = fitted(name, weighted), frame()
    rows = batched and not (weighted and len(full.theta) > 3)
    for level in ([1] if rows else []) + list(full.ngroups)[-1:]:
        found = hlm_influence(full, level, approx=False)
        sets = unit_rows(full.design, level)
        for i in range(0, len(sets), 41 if level == 1 else max(2, len(sets) // 4)):
            reduced = refit_to(data, name, weighted, sets[i])
            check_refit(full, reduced, found.iloc[i], f"{level} {i}")


@pytest.mark.parametrize("batched", [True, False])
def test_deletion_after_maximum_likelihood(batched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refitting.Deleter, "batched", batched)
    data, formula = frame(), FORMULAS["crossed slopes"]
    full = interlace.fit(formula, data, method="ML", offset="o")
    found = hlm_influence(full, "h", approx=False)
    for h in ("h0", "h3"):
        reduced = interlace.fit(formula, data[data["h"] != h], method="ML", offset="o")
        check_refit(full, reduced, found.loc[h], h)


def test_redundant_and_missing_columns() -> None:
    data = frame().assign(twice=lambda d: 2 * d["x"])
    data.loc[3, "x"] = np.nan
    with pytest.warns(interlace.RankDeficiencyWarning):
        full = interlace.fit("y ~ x + twice + (1 + x | g)", data)
    plain = interlace.fit("y ~ x + (1 + x | g)", data.dropna())
    for approx in (True, False):
        found, wanted = (hlm_influence(r, "g", approx) for r in (full, plain))
        assert list(found) == list(wanted)
        numbers = [name for name in found if name != "note"]
        assert_allclose(found[numbers], wanted[numbers], rtol=1e-5, atol=1e-8)
    assert len(hlm_influence(full)) == 89


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(FORMULAS)))
def test_deletion_for_any_data(seed: int, name: str) -> None:
    data = frame(n=70, seed=seed)
    full = interlace.fit(FORMULAS[name], data)
    found = hlm_influence(full, 1, approx=False)
    i = seed % 70
    if not found["note"][i]:
        check_refit(full, refit_to(data, name, False, np.array([i])), found.loc[i], name)


def test_both_engines_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fitted("nested and crossed", True)
    expected = hlm_influence(result, "h", approx=False)
    monkeypatch.setattr(refitting.Deleter, "batched", False)
    found = hlm_influence(result, "h", approx=False)
    numbers = [name for name in found if name != "note"]
    assert_allclose(found[numbers], expected[numbers], rtol=1e-5, atol=1e-7)


def test_batches_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    result = fitted("crossed slopes")
    expected = hlm_influence(result, 1, approx=False)
    monkeypatch.setattr(refitting, "_TOGETHER", 8_000)
    found = hlm_influence(result, 1, approx=False)
    numbers = [name for name in found if name != "note"]
    assert_allclose(found[numbers], expected[numbers], rtol=1e-6, atol=1e-8)


# ------------------------------------------------------------ invariances


def test_order_of_rows_and_units_do_not_matter() -> None:
    data = frame()
    order = np.random.default_rng(4).permutation(len(data))
    other = data.iloc[order].assign(y=lambda d: 1000.0 + 100.0 * d["y"], x=lambda d: 5 + d["x"] / 7)
    first, second = fitted("slope"), interlace.fit(FORMULAS["slope"], other)
    for approx in (True, False):
        before = hlm_influence(first, approx=approx)[MEASURES].to_numpy()
        after = hlm_influence(second, approx=approx)[MEASURES].to_numpy()
        assert_allclose(after, before[order], rtol=1e-5, atol=1e-9)
        groups = [hlm_influence(r, "g", approx)[MEASURES] for r in (first, second)]
        assert_allclose(groups[1].loc[groups[0].index], groups[0], rtol=1e-5, atol=1e-9)


def test_rows_are_groups_of_one() -> None:
    result = fitted("crossed slopes", True)
    step = changes.one_step(result.design, result.estimate)
    rows = changes.row_changes(step)
    sets = changes.measures(*changes.set_changes(step, unit_rows(result.design, 1)))
    for name in MEASURES:
        assert_allclose(getattr(rows, name), getattr(sets, name), rtol=1e-8, atol=1e-13)


# ------------------------------------------------------------ what cannot be fitted


def test_deletions_without_a_fit_say_why() -> None:
    data = frame()
    data["lone"] = np.where(np.arange(90) == 17, "b", "a")
    result = interlace.fit("y ~ x + lone + (1 | g)", data)
    found = hlm_influence(result, approx=False)
    assert found["note"][17] == "the fixed effects are rank deficient: lone[T.b]"
    assert found.drop(index=17)["note"].eq("").all()
    numbers = found.drop(columns=["note", "leverage.overall"]).filter(regex="^(?!rvc)")
    assert numbers.loc[17].isna().all()
    assert numbers.drop(index=17).notna().all(axis=None)
    near = hlm_influence(result)
    assert near["note"][17] == "the fixed effects are rank deficient: lone[T.b]"
    assert near.loc[17, MEASURES].isna().all()
    assert near.drop(index=17).notna().all(axis=None)


def test_a_group_that_alone_has_a_level_of_a_predictor() -> None:
    data = frame().assign(only=lambda d: (d["g"] == "g3").astype(float))
    result = interlace.fit("y ~ x + only + (1 | g) + (1 | h)", data)
    for approx in (True, False):
        found = hlm_influence(result, "g", approx)
        assert found["note"]["g3"] == "the fixed effects are rank deficient: only"
        assert found["cooksd"].isna().sum() == 1


def test_one_level_left_and_no_degrees_of_freedom() -> None:
    data = frame().assign(two=lambda d: np.where(d["x"] > 0, "p", "q"))
    found = hlm_influence(interlace.fit("y ~ z + (1 | two)", data), "two", approx=False)
    assert found["note"].to_list() == ["one level of 'two' is left"] * 2
    small = pd.DataFrame({
        "y": [1.0, 2.5, 3.0, 2.0, 5.0, 4.0], "x": [1.0, 2.0, 0.5, 4.0, 2.5, 3.0],
        "z": [0.3, 1.0, 2.0, 0.1, 0.6, 0.9], "g": list("aaabbc"),
    })  # fmt: skip
    table = hlm_influence(interlace.fit("y ~ x + z + (1 | g)", small), "g", approx=False)
    assert table["note"]["a"] == (
        "no residual degrees of freedom: 3 rows are left for 3 coefficients"
    )
    assert table["note"]["c"] == ""


def test_more_levels_than_rows_left() -> None:
    data = pd.DataFrame({
        "y": np.arange(9.0) ** 1.3 % 2.0, "g": list("aaaabbcde"), "h": list("ppppqqqqq")
    })  # fmt: skip
    found = hlm_influence(interlace.fit("y ~ 1 + (1 | g) + (1 | h)", data), "h", approx=False)
    assert found["note"].to_list() == ["one level of 'h' is left", "one level of 'g' is left"]
    result = interlace.fit("y ~ 1 + (1 | g)", data)
    deleter = refitting.Deleter(
        changes.one_step(result.design, result.estimate).deletable, result.estimate
    )
    four = np.array([0, 1, 2, 4])  # one row of each level is left
    assert deleter.deletable.obstacles([four]) == {0: "5 levels of 'g' are left for 5 rows"}


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x || g)"])
@pytest.mark.parametrize("sd", [1.3e5, 1e7])
def test_deletions_of_which_sums_have_lost_the_residuals(formula: str, sd: float) -> None:
    """Groups far from each other: refitted from the rows, as a fit of them is."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 6)
    frame = pd.DataFrame({"g": group, "x": rng.normal(size=48)})
    slopes = rng.normal(size=8)[group] * frame["x"]
    frame["y"] = rng.normal(size=48) + sd * rng.normal(size=8)[group] + slopes
    found = interlace.fit(formula, frame).deletions("g")
    assert (found["note"] == "").all()
    for level in range(0, 8, 3):
        again = interlace.fit(formula, frame[frame["g"] != level])
        assert found.loc[level, "sigma"] == pytest.approx(again.scale**0.5, rel=1e-6)
        assert found.loc[level, "x"] == pytest.approx(again.fe_params["x"], abs=1e-7)
