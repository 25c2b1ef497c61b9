"""Cross-products of parts that see other levels, categories and values add up to those of all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import interlace
from alike import in_memory
from dense import identity
from interlace import CrossProducts, InterlaceError
from interlace.sources.frames import of_frames

N = 60


def frame(seed: int = 0, n: int = N) -> pd.DataFrame:
    """Rows in which much is rare: categories, levels, ones of a dummy, and cells."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(50, 2, n),
            "year": rng.integers(2000, 2004, n).astype(float),
            "promo": (rng.random(n) < 0.1) * 1.0,
            "c": rng.choice(list("uvw"), n, p=[0.6, 0.3, 0.1]),
            "e": rng.choice(["p", "q"], n, p=[0.8, 0.2]),
            "k": rng.integers(1, 4, n),
            "g": rng.choice([f"g{i}" for i in range(7)], n),
            "h": rng.integers(0, 4, n),
            "w": rng.uniform(0.5, 2, n),
            "o": rng.normal(size=n),
        }
    )
    data["d"] = pd.Categorical(data["c"], categories=["w", "never", "v", "u"])
    effects = dict(zip([f"g{i}" for i in range(7)], rng.normal(size=7), strict=True))
    data["y"] = 3 + data["x"] + data["g"].map(effects) + rng.normal(size=n)
    return data


FORMULAS = {
    "dummy": "y ~ x + promo + (1 | g)",
    "category": "y ~ x + c + (1 | g)",
    "two categories": "y ~ c * e + x + (1 | g)",
    "interaction alone": "y ~ c:e + (1 | g)",
    "slopes of a category": "y ~ x * c + promo:x + (1 | g)",
    "slope in each category": "y ~ c:x + (1 | g)",
    "no intercept": "y ~ 0 + c + e + (1 | g)",
    "nested": "y ~ c/e + (1 | g/h)",
    "declared": "y ~ d + x:d + (1 | g)",
    "declared groups": "y ~ x + (1 | d) + (1 | g)",
    "sum contrasts": "y ~ C(c, contr.sum) * e + (1 | g)",
    "helmert and polynomial": "y ~ C(c, contr.helmert) + C(k, contr.poly) + (1 | g)",
    "numbers as categories": "y ~ C(k) * x + (1 | g)",
    "levels declared in the formula": "y ~ C(c, levels=['w', 'u', 'v']) + (1 | g)",
    "states that are given": "y ~ scale(z, center=50, scale=2) * c + (1 | g)",
    "expressions": "y ~ np.log(z) + I(x ** 2) + {x > 0}:c + (1 | g)",
    "large means": "y ~ z + year + c:z + (1 | g)",
    "random slopes": "y ~ x + (x + promo | g)",
    "random categories": "y ~ c + (c | g) + (1 | h)",
    "random interactions": "y ~ x + (0 + e:x | g) + (1 | h)",
    "independent": "y ~ x + (c || g) + (promo || h)",
    "crossed and nested": "y ~ x + c + (x | g/h) + (e | h)",
    "redundant": "y ~ x + I(2 * x) + promo + I(1 - promo) + (1 | g)",
    "offset": "y ~ c + offset(o) + (1 | g)",
    "response": "np.log(y + 20) ~ c + (1 | g)",
    "three ways": "y ~ c * e * C(k) + (1 | g)",
}


def sums(formula: str, data: pd.DataFrame, **more: str) -> CrossProducts:
    return interlace.cross_products(formula, data, **more)


def parts_of(data: pd.DataFrame, seed: int, k: int) -> list[pd.DataFrame]:
    """Parts of any size, by chance or by the values of a column."""
    rng = np.random.default_rng(seed)
    kind = seed % 4
    if kind == 0:
        at = rng.integers(0, k, len(data))
    elif kind == 1:
        at = np.minimum(rng.geometric(0.6, len(data)) - 1, k - 1)
    else:
        column = ("c", "g", "promo", "e", "k")[seed % 5]
        at = pd.factorize(data[column])[0] % k
    return [data[at == i] for i in range(k) if (at == i).any()]


def assert_close(found: CrossProducts, whole: CrossProducts) -> None:
    """The same rows, terms and columns; the same sums to 1e-10 of their columns' sizes."""
    assert (found.n, found.names, found.dropped) == (whole.n, whole.names, whole.dropped)
    for one, two in zip(found.terms, whole.terms, strict=True):
        assert (one.group, one.columns, one.backwards) == (two.group, two.columns, two.backwards)
        assert one.levels.tolist() == two.levels.tolist()
        assert_array_equal(one.free, two.free)
    assert found.sum_log_w == pytest.approx(whole.sum_log_w, abs=1e-10)
    a, b = found.rebase(identity(found)), whole.rebase(identity(whole))
    v = np.sqrt(np.diag(b.vv))
    z = [np.sqrt(np.einsum("lkk->k", block)) for block in b.zz]
    near(a.vv, b.vv, np.outer(v, v))
    for j, own in enumerate(z):
        near(a.zv[j], b.zv[j], np.outer(own, v))
        near(a.zz[j], b.zz[j], np.outer(own, own))
    for (i, j), cells in a.cells.items():
        other = b.cells[i, j]
        assert cells.rows.tolist() == other.rows.tolist()
        assert cells.cols.tolist() == other.cols.tolist()
        near(cells.values, other.values, np.outer(z[i], z[j]))


def near(found: np.ndarray, expected: np.ndarray, size: np.ndarray) -> None:
    assert (np.abs(found - expected) <= 1e-10 * size).all()


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("seed", range(3))
def test_parts_add_up_to_the_whole(name: str, seed: int) -> None:
    data, formula = frame(seed), FORMULAS[name]
    for k in (2, 5):
        found, *others = (sums(formula, p, weights="w") for p in parts_of(data, seed + k, k))
        for other in others:
            found = found + other
        assert_close(found, in_memory(formula, data, weights="w"))


@settings(max_examples=20)
@given(
    name=st.sampled_from(sorted(FORMULAS)),
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 2), min_size=N, max_size=N),
    first=st.booleans(),
)
def test_any_split_in_any_order(name: str, seed: int, cuts: list[int], first: bool) -> None:
    data, formula = frame(seed), FORMULAS[name]
    at = np.array(cuts)
    a, *rest = (sums(formula, data[at == i]) for i in range(3) if (at == i).any())
    if len(rest) == 2:
        found = (a + rest[0]) + rest[1] if first else rest[1] + (rest[0] + a)
    else:
        found = a if not rest else a + rest[0] if first else rest[0] + a
    assert_close(found, in_memory(formula, data))


@pytest.mark.parametrize("name", ["category", "random categories", "redundant", "offset"])
def test_row_by_row(name: str) -> None:
    """Parts of one row: nothing varies in any of them."""
    data, formula = frame(1, 30), FORMULAS[name]
    found = sums(formula, data[:1])
    for i in range(1, len(data)):
        found = found + sums(formula, data[i : i + 1])
    assert_close(found, in_memory(formula, data))


@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
@pytest.mark.filterwarnings("ignore::interlace.errors.RankDeficiencyWarning")
@pytest.mark.parametrize("name", ["two categories", "declared", "crossed and nested", "redundant"])
def test_a_fit_of_the_parts_is_that_of_the_whole(name: str) -> None:
    data, formula = frame(2), FORMULAS[name]
    a, b = (sums(formula, part) for part in parts_of(data, 2, 2))
    found, expected = interlace.fit(formula, a + b), interlace.fit(formula, data)
    assert found.criterion == pytest.approx(expected.criterion, abs=1e-7)
    assert_allclose(found.fe_params, expected.fe_params, rtol=1e-6, atol=1e-6)
    assert list(found.fe_params.index) == list(expected.fe_params.index)
    assert_allclose(found.predict(data), expected.predict(data), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_parts_that_were_saved_add_too(name: str, tmp_path) -> None:
    data, formula = frame(3), FORMULAS[name]
    loaded = []
    for i, part in enumerate(parts_of(data, 3, 3)):
        sums(formula, part).save(tmp_path / str(i))
        loaded.append(CrossProducts.load(tmp_path / str(i)))
    found = loaded[0]
    for one in loaded[1:]:
        found = found + one
    assert_close(found, in_memory(formula, data))
    found.save(tmp_path / "all")
    assert_close(CrossProducts.load(tmp_path / "all"), in_memory(formula, data))


@pytest.mark.parametrize("name", ["category", "declared", "random categories", "dummy"])
def test_a_source_and_a_frame_add(name: str) -> None:
    data, formula = frame(4), FORMULAS[name]
    a, b = parts_of(data, 2, 2)
    half = len(a) // 2
    source = interlace.cross_products(formula, of_frames([a[:half], a[half:]]))
    assert_close(source + sums(formula, b), in_memory(formula, data))
    assert_close(sums(formula, b) + source, in_memory(formula, data))


# ------------------------------------------------------------------ taken away


@pytest.mark.parametrize("name", FORMULAS)
def test_what_is_taken_away_leaves_the_rest(name: str) -> None:
    data, formula = frame(5), FORMULAS[name]
    rng = np.random.default_rng(0)
    part = rng.random(len(data)) < 0.3
    whole, taken = sums(formula, data, weights="w"), sums(formula, data[part], weights="w")
    left = whole - taken
    rest = sums(formula, data[~part], weights="w")
    assert left.n == rest.n
    assert left.sum_log_w == pytest.approx(rest.sum_log_w, abs=1e-10)
    assert_close(left + taken, in_memory(formula, data, weights="w"))


def test_a_fit_of_what_is_left() -> None:
    data = frame(6)
    formula = "y ~ x + promo + c + (1 | g)"
    part = np.arange(len(data)) % 5 == 0
    left = sums(formula, data) - sums(formula, data[part])
    found, expected = interlace.fit(formula, left), interlace.fit(formula, data[~part])
    assert found.criterion == pytest.approx(expected.criterion, abs=1e-7)
    assert_allclose(found.fe_params, expected.fe_params, atol=1e-6)


def test_a_category_of_which_nothing_is_left_is_dropped() -> None:
    data = frame(7)
    formula = "y ~ x + c + (1 | g)"
    last = (data["c"] == "w").to_numpy()
    left = sums(formula, data) - sums(formula, data[last])
    assert left.dropped == ("c[T.w]",)
    with pytest.warns(interlace.RankDeficiencyWarning, match=r"c\[T\.w\]"):
        found = interlace.fit(formula, left)
    expected = interlace.fit(formula, data[~last])
    assert found.criterion == pytest.approx(expected.criterion, abs=1e-7)
    assert_allclose(found.fe_params, expected.fe_params, atol=1e-6)


def refusal(action) -> str:
    with pytest.raises(InterlaceError) as caught:
        action()
    return str(caught.value)


def test_what_was_never_there_cannot_be_taken_away() -> None:
    data = frame(8)
    formula = "y ~ x + c + (1 | g)"
    some = sums(formula, data[data["g"] != "g3"])
    assert refusal(lambda: some - sums(formula, data[:40])) == (
        "cross-products cannot be taken away: 'g' has the level 'g3' in these rows alone"
    )
    some = sums(formula, data[data["c"] != "w"])
    only = data[data["g"].isin(data.loc[data["c"] != "w", "g"])]
    assert refusal(lambda: some - sums(formula, only[only["c"] == "w"])) == (
        "cross-products cannot be taken away: 'c' has levels in these rows alone"
    )
    A = sums(formula, data)
    assert refusal(lambda: A - A) == (
        "cross-products of 60 rows cannot be taken away from those of 60: no row is left"
    )


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize("call", ["scale(x)", "center(x)", "poly(x, 2)", "bs(x, df=4)"])
def test_states_of_their_own_do_not_add(call: str) -> None:
    data = frame(9)
    formula = f"y ~ {call} + (1 | g)"
    halves = [sums(formula, part) for part in (data[:30], data[30:])]
    message = refusal(lambda: halves[0] + halves[1])
    assert message == (
        f"cross-products cannot be added: '{call}' was computed from the rows of each alone; make "
        "them of all rows at once, or leave the transform out"
    )


def test_a_base_that_a_part_lacks_is_refused_clearly() -> None:
    data = frame(10)
    with pytest.raises(InterlaceError, match="'w'"):
        sums("y ~ C(c, contr.treatment('w')) + (1 | g)", data[data["c"] != "w"])


def test_what_no_fit_can_use_is_refused_when_fitting() -> None:
    data = frame(11)
    formula = "y ~ x + c + (1 | g)"
    few = sums(formula, data[:2])
    assert refusal(lambda: interlace.fit(formula, few)).startswith("the fixed effects have ")
    same = data.assign(y=5.0)
    A = sums(formula, same[:30]) + sums(formula, same[30:])
    assert refusal(lambda: interlace.fit(formula, A)) == (
        "the response 'y' is constant: nothing varies"
    )
    line = data.assign(y=1 + 2 * data["x"])
    A = sums(formula, line[:30]) + sums(formula, line[30:])
    assert refusal(lambda: interlace.fit(formula, A)).startswith(
        "the fixed effects reproduce the response exactly"
    )
    mixed = sums(formula, same[:30]) + sums(formula, data[30:])
    assert_close(mixed, in_memory(formula, pd.concat([same[:30], data[30:]])))


def test_levels_in_messages_are_plain_numbers() -> None:
    frame = pd.DataFrame({"y": np.arange(40.0) ** 2, "x": np.sin(np.arange(40.0))})
    frame["g"] = np.arange(40) // 4
    one, other = (sums("y ~ x + (1 | g)", part) for part in (frame[:20], frame[20:]))
    with pytest.raises(InterlaceError, match=r"'g' has the level 5 in these rows alone$"):
        one - other
