"""Tests of random effects, and the smaller cross-products they rest on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import fits
import interlace
from dense import FORMULAS, MODELS, design, frame
from interlace import datasets
from interlace.design.simpler import is_levels
from interlace.estimation.criterion import Criterion
from interlace.inference.ranova import linear_value, ranova
from interlace.inference.slopes import constant_combination, droppable
from interlace.sums.crossprod import CrossProducts, cross_products, drop_term, select_columns
from interlace.sums.terms import split_theta
from reference import cases

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


def golden_ranova(name: str, method: str) -> dict[str, Any] | None:
    text = (cases.HERE / "golden" / f"{name}.inference.json").read_text()
    found: dict[str, Any] | None = json.loads(text)[method].get("ranova")
    return found


GOLDEN = [(n, m) for n in cases.case_names() for m in cases.METHODS if golden_ranova(n, m)]


def our_label(label: str, formula: str) -> str:
    """lmerTest's label of a row in our spelling: groups in our order, the intercept explicit."""
    if label == "<none>":
        return label
    effect, _, term = label.rpartition(" in ")
    expr, group = (part.strip() for part in term.strip("()").split("|"))
    group = group if f"{group})" in formula else ":".join(reversed(group.split(":")))
    expr = expr if expr[0] in "01" else f"1 + {expr}"
    return f"{f'{effect} in ' if effect else ''}({expr} | {group})"


@pytest.mark.parametrize(("name", "method"), GOLDEN)
def test_golden(name: str, method: str) -> None:
    golden = golden_ranova(name, method)
    assert golden is not None
    result = fits.of_case(name, method)
    table = ranova(result)
    labels = [our_label(label, str(result.formula)) for label in golden["row"]]
    assert sorted(table.index) == sorted(labels)
    assert table.index[0] == "<none>"
    table = table.loc[labels]
    assert table["npar"].tolist() == golden["npar"]
    assert_allclose(table["logLik"], golden["logLik"], atol=1e-7, rtol=0)
    assert_allclose(table["AIC"], golden["AIC"], atol=1e-7, rtol=0)
    assert_allclose(table["LRT"], np.array(golden["LRT"], float), atol=1e-7)
    assert_allclose(table["Df"], np.array(golden["Df"], float))
    assert_allclose(table["p"], np.array(golden["Pr(>Chisq)"], float), rtol=1e-5)


# Every row of the table: its label, the model without it, and the degrees of freedom.
REDUCTIONS = {
    "y ~ x + (x + z | g)": {
        "x in (1 + x + z | g)": ("y ~ x + (z | g)", 3),
        "z in (1 + x + z | g)": ("y ~ x + (x | g)", 3),
    },
    "y ~ x + (x * z | g)": {"x:z in (1 + x * z | g)": ("y ~ x + (x + z | g)", 4)},
    "y ~ x + (f | g)": {"f in (1 + f | g)": ("y ~ x + (1 | g)", 5)},
    "y ~ x + (0 + f | g)": {"f in (0 + f | g)": ("y ~ x + (1 | g)", 5)},
    "y ~ x + (0 + f + x | g)": {
        "f in (0 + f + x | g)": ("y ~ x + (0 + x | g)", 9),
        "x in (0 + f + x | g)": ("y ~ x + (0 + f | g)", 4),
    },
    "y ~ x + (0 + f + c | g)": {
        "f in (0 + f + c | g)": ("y ~ x + (0 + c | g)", 7),
        "c in (0 + f + c | g)": ("y ~ x + (0 + f | g)", 4),
    },
    "y ~ x + (0 + x | g) + (1 | h)": {
        "x in (0 + x | g)": ("y ~ x + (1 | h)", 1),
        "(1 | h)": ("y ~ x + (0 + x | g)", 1),
    },
    "y ~ x + (1 | g) + (0 + f | g)": {
        "(1 | g)": ("y ~ x + (0 + f | g)", 1),
        "f in (0 + f | g)": ("y ~ x + (1 | g)", 6),
    },
    "y ~ x + (1 + x + z || g) + (1 | h)": {
        "(1 | g)": ("y ~ x + (0 + x + z || g) + (1 | h)", 1),
        "x in (0 + x | g)": ("y ~ x + (1 + z || g) + (1 | h)", 1),
        "z in (0 + z | g)": ("y ~ x + (1 + x || g) + (1 | h)", 1),
        "(1 | h)": ("y ~ x + (1 + x + z || g)", 1),
    },
    "y ~ x + (0 + x || g) + (1 || h)": {
        "x in (0 + x | g)": ("y ~ x + (1 | h)", 1),
        "(1 | h)": ("y ~ x + (0 + x | g)", 1),
    },
    "y ~ x + (poly(x, 2) | g)": {"poly(x, 2) in (1 + poly(x, 2) | g)": ("y ~ x + (1 | g)", 5)},
    "y ~ x + (1 | b/a)": {"(1 | b)": ("y ~ x + (1 | b:a)", 1), "(1 | b:a)": ("y ~ x + (1 | b)", 1)},
}


def wide_frame() -> pd.DataFrame:
    data = frame(240, seed=5)
    rng = np.random.default_rng(3)
    data["c"] = [f"c{i}" for i in rng.integers(0, 2, len(data))]
    level = data["g"].str[1:].astype(int)
    data["y"] += rng.normal(size=9)[level] * data["z"] + rng.normal(size=9)[level] * (
        data["f"] == "f1"
    )
    return data


@pytest.mark.parametrize("formula", REDUCTIONS)
@pytest.mark.parametrize("method", ["REML", "ML"])
def test_reductions_are_fits_of_the_smaller_model(formula: str, method: str) -> None:
    data = wide_frame()
    full = interlace.fit(formula, data, method=method, weights="w")
    table = ranova(full)
    assert table.index.tolist() == ["<none>", *REDUCTIONS[formula]]
    assert table.loc["<none>", "logLik"] == full.llf
    assert table.loc["<none>", ["LRT", "Df", "p"]].isna().all()
    for label, (reduced, df) in REDUCTIONS[formula].items():
        smaller = interlace.fit(reduced, data, method=method, weights="w")
        row = table.loc[label]
        assert row["npar"] == smaller.nparams
        assert row["Df"] == df
        assert_allclose(row["logLik"], smaller.llf, atol=2e-7)
        assert_allclose(row["AIC"], smaller.aic, atol=4e-7)
        assert_allclose(row["LRT"], max(2 * (full.llf - smaller.llf), 0.0), atol=4e-7)


def test_uncorrelated_dummies_are_dropped_one_by_one() -> None:
    table = ranova(interlace.fit("y ~ x + (1 + f || g)", wide_frame()))
    rows = ["(1 | g)", "f[T.f1] in (0 + f[T.f1] | g)", "f[T.f2] in (0 + f[T.f2] | g)"]
    assert table.index.tolist() == ["<none>", *rows]
    assert table["Df"].tolist()[1:] == [1, 1, 1]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("fixed", ["1", "x + f", "0"])
def test_linear_model_without_random_effects(reml: bool, fixed: str) -> None:
    """Against the normal density of the residuals, integrated over the fixed effects for REML."""
    d = design(f"y ~ {fixed} + (1 | g)", weighted=True, offset="o")
    assert d.weights is not None
    assert d.offset is not None
    A = drop_term(cross_products(d), 0)
    assert A.terms == () and A.cells == {}
    root = np.sqrt(d.weights)[:, None]
    X, y = root * d.X, root[:, 0] * (d.y - d.offset)
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    rss = ((y - X @ beta) ** 2).sum()
    n, p = X.shape
    nu = n - p if reml else n
    s2 = rss / nu
    value = nu * np.log(2 * np.pi * s2) + nu - np.log(d.weights).sum()
    value += np.linalg.slogdet(X.T @ X)[1] if reml else 0.0
    assert_allclose(linear_value(A, reml=reml), value, rtol=1e-12)


# ------------------------------------------------------------ smaller cross-products


def zero_theta(A: CrossProducts, j: int, keep: list[int], seed: int) -> np.ndarray:
    """Random theta of the full model in which the columns not kept of term ``j`` are zero."""
    rng = np.random.default_rng(seed)
    templates = split_theta(A.terms, rng.normal(size=sum(t.n_theta for t in A.terms)))
    gone = [c for c in range(A.terms[j].k) if c not in keep]
    templates[j][gone, :] = templates[j][:, gone] = 0.0
    return np.concatenate([t.theta(T) for t, T in zip(A.terms, templates, strict=True)])


@pytest.mark.parametrize(("name", "weighted"), MODELS)
@pytest.mark.parametrize("reml", [True, False])
def test_smaller_model_is_the_larger_with_zeros(name: str, weighted: bool, reml: bool) -> None:
    A = cross_products(design(name, weighted=weighted))
    for j, term in enumerate(A.terms):
        for keep in [[c] for c in range(term.k)] + [list(range(term.k))[::-1]]:
            if len(keep) > 1 and term.k == 1:
                continue
            order = sorted(keep)
            smaller = select_columns(A, j, order)
            theta = zero_theta(A, j, order, seed=j)
            parts = split_theta(A.terms, theta)
            parts[j] = parts[j][np.ix_(order, order)]
            short = np.concatenate([t.theta(T) for t, T in zip(smaller.terms, parts, strict=True)])
            assert smaller.terms[j].columns == tuple(term.columns[c] for c in order)
            assert smaller.terms[j].correlated == (term.correlated and len(order) > 1)
            assert_allclose(
                Criterion(smaller, reml).at_theta(short).value,
                Criterion(A, reml).at_theta(theta).value,
                rtol=1e-11,
            )
        if len(A.terms) > 1:
            theta = zero_theta(A, j, [], seed=j)
            rest = [p for i, p in enumerate(split_theta(A.terms, theta)) if i != j]
            smaller = drop_term(A, j)
            short = np.concatenate([t.theta(T) for t, T in zip(smaller.terms, rest, strict=True)])
            assert_allclose(
                Criterion(smaller, reml).at_theta(short).value,
                Criterion(A, reml).at_theta(theta).value,
                rtol=1e-11,
            )


def test_kept_columns_are_orthonormal_again() -> None:
    A = select_columns(cross_products(design("y ~ x + (1 + x + z | g) + (1 | h)")), 0, [0, 2])
    assert_allclose(A.zz[0].sum(axis=0), A.n * np.eye(2), atol=1e-10 * A.n)


@settings(max_examples=6)
@given(st.integers(0, 1000))
def test_tests_do_not_depend_on_units(seed: int) -> None:
    """Scaling a slope's column and shifting the response leave every LRT alone."""
    rng = np.random.default_rng(seed)
    data = frame(90, seed=seed)
    a, b = rng.uniform(0.01, 100), rng.normal() * 10
    moved = data.assign(x=a * data["x"], y=data["y"] + b)
    first = ranova(interlace.fit("y ~ x + (1 + x | g) + (1 | h)", data))
    again = ranova(interlace.fit("y ~ x + (1 + x | g) + (1 | h)", moved))
    assert_allclose(first["LRT"], again["LRT"], atol=1e-6)


def test_lrt_is_never_negative_and_singular_terms_cost_nothing() -> None:
    table = ranova(interlace.fit("Yield ~ 1", datasets.load("dyestuff2"), groups="Batch"))
    assert table.loc["(1 | Batch)", "LRT"] == 0.0
    assert table.loc["(1 | Batch)", "p"] == 1.0


# ------------------------------------------------------------ effects of a term


def test_effects_of_a_term() -> None:
    side = design("y ~ x + (1 + x + f + x:f | g)").encoding.slopes[0]
    effects = side.terms
    assert [e.label for e in effects] == ["Intercept", "x", "f", "x:f"]
    assert [e.columns for e in effects] == [(0,), (1,), (2, 3), (4, 5)]
    assert [is_levels(side, e) for e in effects] == [False, False, True, False]
    assert [e.label for e in droppable(effects)] == ["x:f"]
    numeric = design("y ~ x + (1 + x*z | g)").encoding.slopes[0].terms
    assert [e.columns for e in numeric] == [(0,), (1,), (2,), (3,)]
    assert [e.label for e in droppable(numeric)] == ["x:z"]


def test_constant_combination() -> None:
    dummies = design(FORMULAS["factor slopes"]).Z[0]
    weights = constant_combination(dummies)
    assert weights is not None
    assert_allclose(weights, 1.0)
    assert constant_combination(design("y ~ x + (0 + x | g)").Z[0]) is None
