"""``anova``, ``ranova``, ``r2`` and ``icc`` from sums are those of fits that hold their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace.errors import InterlaceError

pytestmark = pytest.mark.filterwarnings(
    "ignore::interlace.SingularFitWarning", "ignore::interlace.RankDeficiencyWarning"
)
N = 600
RNG = np.random.default_rng(1)


def _frame() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "x": RNG.normal(2000.0, 8.0, N),
            "z": RNG.normal(size=N),
            "a": RNG.choice(list("abc"), N),
            "b": RNG.choice(list("uvw"), N),
            "k": RNG.integers(0, 4, N),
            "g": RNG.integers(0, 15, N),
            "h": RNG.integers(0, 9, N),
            "w": RNG.uniform(0.2, 3.0, N),
        }
    )
    g, h = RNG.normal(size=(2, 15)), RNG.normal(size=9)
    slopes = g[0][frame.g] + 0.4 * frame.z * g[1][frame.g] + h[frame.h]
    return frame.assign(y=RNG.normal(size=N) + slopes + 0.5 * (frame.a == "b"))


DATA = _frame()
NO_CELL = DATA[~((DATA.a == "b") & (DATA.b == "v"))]
NO_CELLS = NO_CELL[~((NO_CELL.a == "c") & (NO_CELL.b == "w"))]
CASES = [
    ("y ~ x + z + a*b + (1 | g)", DATA, None),
    ("y ~ x*a + (z | g) + (1 | h)", DATA, "w"),
    ("y ~ a*z + b + offset(z) + (z || g)", DATA, None),
    ("y ~ 0 + a + b:z + (0 + a | g)", DATA, "w"),
    ("y ~ 0 + z + (1 | g)", DATA, "w"),
    ("y ~ 0 + z + (0 + a + b | g)", DATA, None),
    ("y ~ 0 + a + (1 | g)", DATA, None),
    ("y ~ z + (a | g)", DATA, None),
    ("y ~ 0 + z + a + (1 | g)", DATA, None),
    ("y ~ a*b + (1 | g)", NO_CELL, None),
    ("y ~ a:b + (1 | g)", NO_CELL, None),
    ("y ~ a*b*z + (1 | g)", NO_CELL, None),
    ("y ~ a*b + z + (1 | g)", NO_CELLS, "w"),
    ("y ~ a + z + I(2*z) + a:z + (1 | g)", DATA, None),
    ("y ~ C(k, contr.sum)*a + I(z**2)*b + (1 | g)", DATA, None),
]


def same_answers(
    result: interlace.CrossedLMEResult, held: interlace.CrossedLMEResult, rtol: float = 1e-10
) -> None:
    assert result.design is None
    for kind in (1, 2, 3):
        found, wanted = result.anova(kind), held.anova(kind)
        assert list(found.index) == list(wanted.index)
        assert_allclose(found, wanted, rtol=10 * rtol)
    assert_allclose(result.r2().to_frame(), held.r2().to_frame(), rtol=rtol, atol=1e-14)
    assert result.icc().to_dict() == pytest.approx(held.icc().to_dict(), rel=rtol)
    found, wanted = result.ranova(), held.ranova()
    assert list(found.index) == list(wanted.index)
    assert_allclose(found, wanted, rtol=10 * rtol, atol=10 * rtol)


@pytest.mark.parametrize(("formula", "data", "weights"), CASES)
def test_sums_of_a_frame(
    formula: str, data: pd.DataFrame, weights: str | None, tmp_path: Path
) -> None:
    held = interlace.fit(formula, data, weights=weights)
    A = interlace.cross_products(formula, data, weights=weights)
    same_answers(interlace.fit(formula, A), held)
    A.save(tmp_path / "sums")
    same_answers(interlace.fit(formula, interlace.CrossProducts.load(tmp_path / "sums")), held)


@pytest.mark.parametrize(("formula", "data", "weights"), CASES)
def test_files(formula: str, data: pd.DataFrame, weights: str | None, tmp_path: Path) -> None:
    held = interlace.fit(formula, data, weights=weights)
    data[::2].to_parquet(tmp_path / "1.parquet")
    data[1::2].to_parquet(tmp_path / "2.parquet")
    found = interlace.fit(formula, str(tmp_path / "*.parquet"), weights=weights)
    same_answers(found, held)


@pytest.mark.parametrize(("formula", "data", "weights"), CASES[:4])
def test_sums_that_were_added_and_taken_away(
    formula: str, data: pd.DataFrame, weights: str | None
) -> None:
    held = interlace.fit(formula, data, weights=weights)
    one, two = (interlace.cross_products(formula, data[i::2], weights=weights) for i in (0, 1))
    # in another basis the search takes another path, to where it ends
    same_answers(interlace.fit(formula, one + two), held, rtol=1e-6)
    assert_allclose((one + two - two).moments.fixed, one.moments.fixed, atol=1e-9 * N)


def test_a_relation() -> None:
    duckdb = pytest.importorskip("duckdb")
    formula = "y ~ a*z + (z | g)"
    with duckdb.connect() as connection:
        relation = connection.from_df(DATA)
        same_answers(interlace.fit(formula, relation), interlace.fit(formula, DATA))


def test_dependent_columns_in_terms_of_the_kept_ones() -> None:
    formula = "y ~ a + z + I(2*z - 1) + (1 | g)"
    A = interlace.cross_products(formula, DATA)
    assert A.dropped == ("I(2 * z - 1)",)
    assert_allclose(A.dependence[:, 0], [-1.0, 0.0, 0.0, 2.0], atol=1e-10)


def test_what_the_formula_does_not_say_is_refused_with_the_way_out() -> None:
    formula = "y ~ a*(poly(z, 2):poly(w, 2)) + (1 | g)"
    result = interlace.fit(formula, interlace.cross_products(formula, DATA))
    held = interlace.fit(formula, DATA)
    assert_allclose(result.anova(1), held.anova(1), rtol=1e-9)
    with pytest.raises(InterlaceError, match=r"type 3 .* need rows"):
        result.anova(3)
