"""Hypotheses of analysis-of-variance tables and of users, against R, definitions, and bad input."""

from __future__ import annotations

import pickle
import re

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

import interlace
from fits import of_case as golden_fit
from interlace import InterlaceError
from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.inference.hypotheses import linear_hypothesis, term_hypotheses
from interlace.inference.wald import wald_f
from interlace.sums.terms import Floats
from reference import cases

pytestmark = [
    pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::interlace.errors.RankDeficiencyWarning"),
]

TYPES = ("I", "II", "III")
DATA, EXTRA = cases.anova_cases()

# lmerTest takes a term of which no margin is in the model, main effects aside, for a part of these
# main effects (a:c:e for a part of a and of c); interlace does not.
DEVIATIONS = {
    ("three_way_slopes", "II"): {"x", "x:a:c"},
    ("missing_margin", "II"): {"a", "c", "a:c:e"},
    ("missing_margin", "III"): {"a:c:e"},
    ("missing_margin_sum", "II"): {"a", "c", "a:c:e"},
    ("missing_margin_sum", "III"): {"a:c:e"},
}
# Without margins R and formulaic code the cells by other columns, which span the same hypotheses.
OTHER_COLUMNS = {"cells_only", "missing_margin", "missing_margin_sum"}


def f_table(result: interlace.CrossedLMEResult, kind: str) -> dict[str, tuple[int, float]]:
    found = term_hypotheses(result.design, result.estimate.A.names, kind)
    beta, vcov = result.estimate.beta, result.fe_cov
    return {sorted_name(name): (len(L), wald_f(beta, vcov, L)) for name, L in found.items()}


def sorted_name(label: str) -> str:
    """R's name of a term with its factors sorted, for R and formulaic order them differently."""
    return ":".join(sorted(cases.r_name(label).split(":")))


def check(found: dict[str, tuple[int, float]], table: dict[str, list] | None, leave: set[str]):
    rows = table or {"row": [], "NumDF": [], "F value": []}
    parts = zip(rows["row"], rows["NumDF"], rows["F value"], strict=True)
    expected = {sorted_name(row): (df, F) for row, df, F in parts if df}
    assert found.keys() == expected.keys()
    for name, (df, F) in expected.items():
        assert found[name][0] == df
        if name not in leave:
            assert_allclose(found[name][1], F, rtol=2e-6, err_msg=name)


# ------------------------------------------------------------ against lmerTest


@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", cases.case_names())
def test_tables_of_the_golden_cases(name: str, method: str) -> None:
    tables = cases.load_golden(name, "inference")[method]["anova_satterthwaite"]
    for kind in TYPES:
        check(f_table(golden_fit(name, method), kind), tables[kind], set())


@pytest.mark.parametrize("method", cases.METHODS)
@pytest.mark.parametrize("name", EXTRA)
def test_tables_of_unbalanced_designs(name: str, method: str) -> None:
    case = EXTRA[name]
    fixed = case["fixed"]
    if case["contrasts"]:
        fixed = re.sub(r"\b([abcefh])\b", rf"C(\1, {case['contrasts']})", fixed)
    result = interlace.fit(
        f"y ~ {fixed} + (1 | g)", DATA, weights=case["weights"], method=method.upper()
    )
    for kind in TYPES:
        leave = DEVIATIONS.get((name, kind), set())
        check(f_table(result, kind), case[method][kind], set(map(sorted_name, leave)))
        if name not in OTHER_COLUMNS:
            check_df(result.anova(kind, "satterthwaite"), case[method][kind], leave)


def check_df(table: pd.DataFrame, expected: dict[str, list] | None, leave: set[str]) -> None:
    """Satterthwaite's joint degrees of freedom, which depend on the rows that span a hypothesis."""
    ours = table["den_df"].rename(index=sorted_name)
    parts = (
        zip(expected["row"], expected["NumDF"], expected["DenDF"], strict=True) if expected else []
    )
    for row, num_df, den_df in parts:
        if num_df and row not in leave:
            assert_allclose(ours[sorted_name(row)], den_df, rtol=1e-4, err_msg=row)


# ------------------------------------------------------------ against definitions


def design_of(fixed: str, data: pd.DataFrame) -> tuple[Design, list[str]]:
    """Design, and the names of the columns of X that do not depend on earlier ones."""
    design = assemble(parse(f"y ~ {fixed} + (1 | g)"), data)
    kept: list[int] = []
    for j in range(design.X.shape[1]):
        if np.linalg.matrix_rank(design.X[:, [*kept, j]]) > len(kept):
            kept.append(j)
    return design, [design.names[j] for j in kept]


def kept_columns(design: Design, names: list[str]) -> Floats:
    return design.X[:, np.isin(design.names, names)]


def projector(rows: Floats) -> Floats:
    """Projector on the space of the rows: what a hypothesis says, however it is written."""
    return np.linalg.pinv(rows) @ rows


def on_rows(design: Design, names: list[str], L: Floats) -> Floats:
    """Hypothesis as functions of the expected responses, which do not depend on the coding."""
    return projector(L @ np.linalg.pinv(kept_columns(design, names)))


def full_columns(data: pd.DataFrame, factors: tuple[str, ...]) -> Floats:
    """Columns of a term with an indicator for every level."""
    columns = np.ones((len(data), 1))
    for factor in factors:
        numeric = data[factor].dtype.kind == "f"
        values = data[[factor]] if numeric else pd.get_dummies(data[factor])
        part = values.to_numpy(dtype=float)
        columns = (columns[:, :, None] * part[:, None, :]).reshape(len(data), -1)
    return columns


def sas_type_three(data: pd.DataFrame, terms: list[tuple[str, ...]]) -> dict[str, Floats]:
    """Projectors on rows of the type III functions, word for word from the definition of SAS."""
    blocks = [full_columns(data, term) for term in terms]
    X = np.concatenate(blocks, axis=1)
    owner = np.repeat(np.arange(len(terms)), [b.shape[1] for b in blocks])
    numeric = [{f for f in term if data[f].dtype.kind == "f"} for term in terms]
    _, s, Vt = np.linalg.svd(X)
    estimable = Vt[: np.count_nonzero(s > 1e-9 * s[0])]

    def above(i: int) -> list[int]:
        return [
            j
            for j in range(len(terms))
            if set(terms[i]) < set(terms[j]) and numeric[i] == numeric[j]
        ]

    def functions(i: int) -> Floats:
        """Estimable functions that are zero on all effects that neither are i nor contain it."""
        other = ~np.isin(owner, [i, *above(i)])
        U, s, _ = np.linalg.svd(estimable[:, other])
        return U[:, np.count_nonzero(s > 1e-9) :].T @ estimable

    found = {}
    for i, term in enumerate(terms):
        L = functions(i)
        if above(i) and len(L):
            S = np.concatenate([functions(j) for j in above(i)])
            U, s, _ = np.linalg.svd(L @ S.T)
            L = U[:, np.count_nonzero(s > 1e-9) :].T @ L
        found[":".join(term)] = projector(L @ np.linalg.pinv(X))
    return found


def unbalanced(seed: int, holes: int, n: int = 70) -> pd.DataFrame:
    """Factors a (3 levels), b (3), c (2) with some empty cells a:b, numbers x, z."""
    rng = np.random.default_rng(seed)
    cells = [(i, j) for i in range(3) for j in range(3)]
    # The cells left are connected: those of the first row and column stay.
    empty = [(i, j) for i, j in cells if i and j]
    gone = {empty[i] for i in rng.permutation(4)[:holes]}
    present = [cell for cell in cells if cell not in gone]
    at = rng.choice(len(present), n, p=rng.dirichlet(np.full(len(present), 5.0)))
    first = np.arange(4 * len(present))  # four rows in every cell, two for each level of c
    at[first] = first % len(present)
    a, b = np.array(present)[at].T
    c = rng.integers(0, 2, n)
    c[first] = first // len(present) % 2
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "a": np.array(list("pqr"))[a],
            "b": np.array(list("uvw"))[b],
            "c": np.array(list("st"))[c],
            "x": rng.normal(2.0, 1.0, n),
            "z": rng.normal(size=n),
            "g": rng.integers(0, 6, n),
        }
    )


MARGINAL = {
    "a * b": ["a", "b", "a:b"],
    "a * b + x": ["a", "b", "x", "a:b"],
    "(a + b + c) ** 2": ["a", "b", "c", "a:b", "a:c", "b:c"],
    "a * c * x": ["a", "c", "x", "a:c", "a:x", "c:x", "a:c:x"],
    "a * b * x": ["a", "b", "x", "a:b", "a:x", "b:x", "a:b:x"],
    "a * x * z": ["a", "x", "z", "a:x", "a:z", "x:z", "a:x:z"],
}
CODINGS = ("contr.sum", "contr.helmert", "contr.poly", "contr.treatment('{last}')")


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(MARGINAL)), st.integers(0, 10**6), st.integers(0, 3))
def test_type_three_is_that_of_sas(fixed: str, seed: int, holes: int) -> None:
    data = unbalanced(seed, holes)
    design, names = design_of(fixed, data)
    expected = sas_type_three(data, [(), *(tuple(t.split(":")) for t in MARGINAL[fixed])])
    found = term_hypotheses(design, names, 3)
    assert list(found) == MARGINAL[fixed][: len(found)]
    for label, L in found.items():
        assert np.linalg.matrix_rank(L) == len(L)
        assert_allclose(on_rows(design, names, L), expected[label], atol=1e-8, err_msg=label)


FREE_OF_CODING = [*MARGINAL, "a * b * c", "a + b", "0 + a + c", "0 + a * c", "a + a:x", "x + a:x"]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(FREE_OF_CODING),
    st.integers(0, 10**6),
    st.integers(0, 3),
    st.sampled_from(CODINGS),
)
def test_type_three_does_not_depend_on_contrasts(
    fixed: str, seed: int, holes: int, coding: str
) -> None:
    data = unbalanced(seed, holes)
    last = {"a": "r", "b": "w", "c": "t"}
    recoded = re.sub(r"\b[abc]\b", lambda m: f"C({m[0]}, {coding.format(last=last[m[0]])})", fixed)
    first, second = design_of(fixed, data), design_of(recoded, data)
    one, two = (term_hypotheses(*pair, 3) for pair in (first, second))
    assert len(one) == len(two)
    for (label, L), M in zip(one.items(), two.values(), strict=True):
        assert_allclose(on_rows(*first, L), on_rows(*second, M), atol=1e-8, err_msg=label)


def explained(X: Floats, y: Floats) -> float:
    return float(y @ X @ np.linalg.lstsq(X, y, rcond=None)[0])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([*MARGINAL, "a * b * c"]), st.integers(0, 10**6), st.integers(0, 3))
def test_types_one_and_two_compare_models(fixed: str, seed: int, holes: int) -> None:
    """Least-squares sums of squares of the hypotheses are differences between two models."""
    data = unbalanced(seed, holes)
    design, names = design_of(fixed, data)
    X, y = kept_columns(design, names), data["y"].to_numpy()
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    owner = [
        next(t.label for t in design.encoding.fixed.terms if design.names.index(name) in t.columns)
        for name in names
    ]
    order = list(dict.fromkeys(owner))
    for kind in (1, 2):
        for label, L in term_hypotheses(design, names, kind).items():
            before = order[: order.index(label)] if kind == 1 else without(label, order)
            small = X[:, np.isin(owner, before)]
            large = X[:, np.isin(owner, [*before, label])]
            squares = wald_f(beta, np.linalg.inv(X.T @ X), L) * len(L)
            assert_allclose(squares, explained(large, y) - explained(small, y), atol=1e-8)


def without(label: str, order: list[str]) -> list[str]:
    """Terms that are not, and do not contain, a term: x and z are numbers."""
    mine = set(label.split(":"))
    return [
        other
        for other in order
        if not mine <= (theirs := set(other.split(":"))) or (theirs - mine) & {"x", "z"}
    ]


def test_a_covariate_far_from_zero() -> None:
    data = unbalanced(3, 1)
    data["x"] = 2e4 + 5.0 * data["x"]
    design, names = design_of("a * b * x", data)
    expected, _ = design_of("C(a, contr.sum) * C(b, contr.sum) * x", data)
    other = [
        name
        for name in expected.names
        if name in design_of("C(a, contr.sum) * C(b, contr.sum) * x", data)[1]
    ]
    one = term_hypotheses(design, names, 3)
    two = term_hypotheses(expected, other, 3)
    for (label, L), M in zip(one.items(), two.values(), strict=True):
        assert_allclose(
            on_rows(design, names, L), on_rows(expected, other, M), atol=1e-5, err_msg=label
        )


# ------------------------------------------------------------ terms of the design

FORMS = {
    "x * z": {"x": ["x"], "z": ["z"], "x:z": ["x:z"]},
    "x + I(x ** 2)": {"x": ["x"], "I(x ** 2)": ["I(x ** 2)"]},
    "0 + c": {"c": ["c[s]", "c[t]"]},
    "c:x": {"c:x": ["c[s]:x", "c[t]:x"]},
    "C(k, contr.poly)": {"C(k, contr.poly)": ["C(k, contr.poly)[.L]", "C(k, contr.poly)[.Q]"]},
    "C(c, contr.sum)": {"C(c, contr.sum)": ["C(c, contr.sum)[S.s]"]},
    "c * poly(x, 2)": {
        "c": ["c[T.t]"],
        "poly(x, 2)": ["poly(x, 2)[1]", "poly(x, 2)[2]"],
        "c:poly(x, 2)": ["c[T.t]:poly(x, 2)[1]", "c[T.t]:poly(x, 2)[2]"],
    },
    "bs(x, df=3)": {"bs(x, df=3)": [f"bs(x, df=3)[{i}]" for i in (1, 2, 3)]},
}


@pytest.mark.parametrize("fixed", FORMS)
def test_terms_know_their_columns(fixed: str) -> None:
    data = unbalanced(1, 0).assign(k=lambda d: d.index % 3)
    design, names = design_of(fixed, data)
    terms = design.encoding.fixed.terms
    columns = {t.label: [design.names[j] for j in t.columns] for t in terms if t.factors}
    assert columns == FORMS[fixed]
    for kind in (1, 2, 3):
        found = term_hypotheses(design, names, kind)
        assert {label: len(L) for label, L in found.items()} == {
            label: len(wanted) for label, wanted in columns.items()
        }


@pytest.mark.parametrize("fixed", ["a * b", "C(k) * x", "a:poly(x, 2)", "a * np.log(w)"])
def test_after_dropping_rows_and_pickling(fixed: str) -> None:
    data = unbalanced(5, 1).assign(k=lambda d: d.index % 3, w=lambda d: np.exp(d["z"]))
    holes = data.copy()
    holes.loc[[3, 17, 40], "y"] = np.nan
    holes.loc[[5], "x"] = np.nan
    complete, names = design_of(fixed + " + x", holes.dropna())
    design, _ = design_of(fixed + " + x", holes)
    assert len(design.y) == len(data) - 4
    expected = term_hypotheses(complete, names, 3)
    for copy in (design, pickle.loads(pickle.dumps(design))):
        found = term_hypotheses(copy, names, 3)
        assert found.keys() == expected.keys()
        for label, L in found.items():
            assert_allclose(L, expected[label], atol=1e-9)


@pytest.mark.parametrize("fixed", ["a * k", "C(k) * x", "a:x", "a:poly(x, 2)"])
def test_the_data_may_change_after_the_fit(fixed: str) -> None:
    data = {name: column.to_numpy().copy() for name, column in unbalanced(5, 0).items()}
    data["k"] = np.arange(len(data["x"])) % 3
    formula = parse(f"y ~ {fixed} + (1 | g)")
    before, after = assemble(formula, data), assemble(formula, data)
    expected = term_hypotheses(before, before.names, 3)
    data["x"][:], data["k"][:], data["a"][:] = 1.0, 1, "q"
    found = term_hypotheses(after, after.names, 3)
    for label, L in found.items():
        assert_array_equal(L, expected[label])


def test_integers_and_text_as_levels_agree() -> None:
    data = unbalanced(2, 0).assign(k=lambda d: d.index % 3)
    data["t"] = data["k"].map({0: "k0", 1: "k1", 2: "k2"})
    data["o"] = pd.Categorical(data["t"], ["k0", "k1", "k2", "unused"])
    one, two, three = (design_of(f"{k} * a", data) for k in ("C(k)", "t", "o"))
    for kind in TYPES:
        tables = [term_hypotheses(*pair, kind).values() for pair in (one, two, three)]
        for L, M, N in zip(*tables, strict=True):
            assert_allclose(L, M, atol=1e-12)
            assert_array_equal(M, N)


def test_aliased_columns_have_no_hypothesis() -> None:
    data = unbalanced(2, 0).assign(x2=lambda d: 2.0 * d["x"] - 1.0)
    design, names = design_of("x + x2 + a", data)
    assert "x2" not in names
    for kind in TYPES:
        found = term_hypotheses(design, names, kind)
        assert list(found) == ["x", "a"]
    assert_allclose(found["x"], [[0, 1, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("fixed", ["1", "0"])
def test_without_terms_there_is_nothing_to_test(fixed: str, kind: str) -> None:
    design = assemble(parse(f"y ~ {fixed} + (1 | g)"), unbalanced(1, 0))
    assert term_hypotheses(design, design.names, kind) == {}


def test_an_unknown_type() -> None:
    design, names = design_of("a", unbalanced(1, 0))
    message = "type must be 1, 2 or 3 (or 'I', 'II', 'III'), not 4"
    with pytest.raises(InterlaceError, match=f"^{re.escape(message)}$"):
        term_hypotheses(design, names, 4)


def test_names_that_are_redundant() -> None:
    data = unbalanced(2, 0).assign(x2=lambda d: 2.0 * d["x"] - 1.0)
    design, _ = design_of("x + x2 + a", data)
    message = (
        "type III hypotheses cannot tell the 5 fixed effects apart: leave out a nearly redundant "
        "one, or centre numeric columns"
    )
    with pytest.raises(InterlaceError, match=f"^{re.escape(message)}$"):
        term_hypotheses(design, design.names, 3)


def test_contrasts_that_leave_differences_out() -> None:
    design, names = design_of("C(a, {'pq': [1, -1, 0]}) * x", unbalanced(1, 0))
    message = (
        "type III hypotheses need contrasts that span all differences of levels, but a factor has "
        "fewer columns than that: use type 2, or other contrasts"
    )
    with pytest.raises(InterlaceError, match=f"^{re.escape(message)}$"):
        term_hypotheses(design, names, 3)
    assert len(term_hypotheses(design, names, 2)) == 3


# ------------------------------------------------------------ the user's hypotheses

NAMES = [
    "Intercept",
    "Days",
    "Days squared",
    "recipe[T.B]",
    "recipe[T.C]",
    "recipe[T.B]:Days",
    "I(x ** 2)",
    "poly(x, 2)[1]",
    "a-b",
]
LINEAR = {
    "Days = 0": ({"Days": 1}, 0),
    "Days": ({"Days": 1}, 0),
    "Days squared = 2": ({"Days squared": 1}, 2),
    "recipe[T.B] = recipe[T.C]": ({"recipe[T.B]": 1, "recipe[T.C]": -1}, 0),
    "2*Days - recipe[T.B]:Days = 1": ({"Days": 2, "recipe[T.B]:Days": -1}, 1),
    "Days*2 - 3 = 1.5e1 + Intercept": ({"Days": 2, "Intercept": -1}, 18),
    "(recipe[T.B] + recipe[T.C]) / 2 = 0": ({"recipe[T.B]": 0.5, "recipe[T.C]": 0.5}, 0),
    "-(Days - 2 * (Intercept - 1)) = +1": ({"Days": -1, "Intercept": 2}, 3),
    "I(x ** 2) = poly(x, 2)[1]": ({"I(x ** 2)": 1, "poly(x, 2)[1]": -1}, 0),
    "a-b - Days=.5": ({"a-b": 1, "Days": -1}, 0.5),
    "1 = Days": ({"Days": -1}, -1),
}


def weights(row: dict[str, float]) -> Floats:
    return np.array([float(row.get(name, 0)) for name in NAMES])


@pytest.mark.parametrize("text", LINEAR)
def test_text(text: str) -> None:
    row, value = LINEAR[text]
    L, constant = linear_hypothesis(NAMES, text)
    assert_array_equal(L, [weights(row)])
    assert_array_equal(constant, [value])


numbers = st.integers(-40, 40).map(lambda i: i / 8)


@given(
    st.dictionaries(st.sampled_from(NAMES), numbers.filter(bool), min_size=1),
    st.lists(st.tuples(numbers, st.booleans()), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
def test_any_sum_is_read_back(row, constants, random) -> None:
    """Terms in any order on either side of the equality sign."""
    terms = [(f"{w!r} * {name}", f"{-w!r} * {name}") for name, w in row.items()]
    terms += [(f"{c!r}", f"{-c!r}") for c, _ in constants]
    random.shuffle(terms)
    cut = random.randrange(len(terms) + 1)
    left = " + ".join(t for t, _ in terms[:cut]) or "0"
    right = " + ".join(t for _, t in terms[cut:]) or "0"
    L, value = linear_hypothesis(NAMES, f"{left} = {right}")
    assert_array_equal(L, [weights(row)])
    assert_array_equal(value, [-sum(c for c, _ in constants)])


def test_all_forms_say_the_same() -> None:
    names = ["Intercept", "a", "b"]
    L = np.array([[0.0, 1.0, 0.0], [0.0, 2.0, -1.0]])
    rows = [{"a": 1}, {"a": 2, "b": -1}]
    frame = pd.DataFrame({"b": [0, -1], "a": [1, 2]})
    for form in (L, L.tolist(), rows, frame, ["a", {"a": 2, "b": -1}], ["a = 0", "2*a = b"]):
        found, value = linear_hypothesis(names, form)
        assert_array_equal(found, L)
        assert_array_equal(value, [0.0, 0.0])
    for form in (L, rows, frame):
        assert_array_equal(linear_hypothesis(names, form, [1, 2])[1], [1.0, 2.0])
        assert_array_equal(linear_hypothesis(names, form, 3)[1], [3.0, 3.0])
    single, value = linear_hypothesis(names, [0, 1, 0], 2.0)
    assert single.shape == (1, 3) and value.tolist() == [2.0]
    assert_array_equal(linear_hypothesis(names, {"a": 1})[0], [[0, 1, 0]])


AB = ["Intercept", "Days", "recipe[T.B]"]
LIST_OF_AB = "'Intercept', 'Days', 'recipe[T.B]'"
NOT_LINEAR = (
    "is not linear: coefficients can be added, subtracted, and multiplied or divided by numbers"
)
BAD = [
    ("Day = 0", "the model has no coefficient 'Day'; did you mean 'Days'?"),
    ("recipe[T.D]", "the model has no coefficient 'recipe[T.D]'; did you mean 'recipe[T.B]'?"),
    (
        "recipe[T.B]:u = 1",
        "the model has no coefficient 'recipe[T.B]:u'; did you mean 'recipe[T.B]'?",
    ),
    ("qqq = 0", f"the model has no coefficient 'qqq'; it has {LIST_OF_AB}"),
    ({"Dais": 1}, "the model has no coefficient 'Dais'; did you mean 'Days'?"),
    (pd.DataFrame({"Dais": [1]}), "the model has no coefficient 'Dais'; did you mean 'Days'?"),
    (
        [1, 0],
        "a hypothesis needs 3 weights, one for each coefficient (Intercept, Days, recipe[T.B]), "
        "not an array of shape (2,)",
    ),
    (
        np.zeros((2, 2, 3)),
        "a hypothesis needs 3 weights, one for each coefficient (Intercept, Days, recipe[T.B]), "
        "not an array of shape (2, 2, 3)",
    ),
    (
        ["Days = 1", "recipe[T.B]", "2 * Days + recipe[T.B]"],
        "hypothesis '2 * Days + recipe[T.B]' is redundant: "
        "the functions before it determine its left side",
    ),
    (
        [[0, 1, 1], [0, -3, -3]],
        "hypothesis number 1 (counted from 0) is redundant: "
        "the functions before it determine its left side",
    ),
    ("Days = Days", "hypothesis 'Days = Days' holds no coefficient"),
    ([[0, 0, 0]], "hypothesis number 0 (counted from 0) holds no coefficient"),
    (
        [],
        "a hypothesis needs 3 weights, one for each coefficient (Intercept, Days, recipe[T.B]), "
        "not an array of shape (0,)",
    ),
    (np.zeros((0, 3)), "the hypothesis is empty: give at least one function"),
    ("Days * recipe[T.B] = 1", f"the hypothesis 'Days * recipe[T.B] = 1' {NOT_LINEAR}"),
    ("1 / Days", f"the hypothesis '1 / Days' {NOT_LINEAR}"),
    ("Days / (1 - 1)", "the hypothesis 'Days / (1 - 1)' cannot be read: it divides by 0"),
    ("Days = 0 = 1", "the hypothesis 'Days = 0 = 1' cannot be read: it has more than one '='"),
    (
        "2 Days",
        "the hypothesis '2 Days' cannot be read: an operator is missing before 'Days'",
    ),
    ("Days )", "the hypothesis 'Days )' cannot be read: an operator is missing before ')'"),
    ("Days 2", "the hypothesis 'Days 2' cannot be read: an operator is missing before '2'"),
    ("(Days", "the hypothesis '(Days' cannot be read: a ')' is missing"),
    (
        "Days = ",
        "the hypothesis 'Days = ' cannot be read: "
        "a number or coefficient is missing at the end of a side",
    ),
    (
        "* Days",
        "the hypothesis '* Days' cannot be read: a number or coefficient is missing before '*'",
    ),
    (["Days", 1], "a list of hypotheses holds texts or dicts of weights, not 1"),
    ({"Days": "x"}, "the weight of 'Days' must be numbers, not 'x'"),
    ({"Days": np.inf}, "the weight of 'Days' must be finite, not inf"),
    ([0, np.nan, 1], "the weights must be finite, not [0, nan, 1]"),
]


@pytest.mark.parametrize(("hypothesis", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_hypotheses(hypothesis: object, message: str) -> None:
    with pytest.raises(InterlaceError, match=f"^{re.escape(message)}$"):
        linear_hypothesis(AB, hypothesis)


@pytest.mark.parametrize(
    ("hypothesis", "value", "message"),
    [
        ("Days = 1", 2, "value cannot be given with text: write it into 'Days = 1'"),
        (
            {"Days": 1},
            [1, 2],
            "value must hold one number for each of the 1 functions, not shape (2,)",
        ),
        ({"Days": 1}, "one", "value must be numbers, not 'one'"),
    ],
)
def test_bad_values(hypothesis: object, value: object, message: str) -> None:
    with pytest.raises(InterlaceError, match=f"^{re.escape(message)}$"):
        linear_hypothesis(AB, hypothesis, value)
