"""Numbers behind the figures: quantile envelope, local line, cut-offs, unshrunk effects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.diagnostics.cutoffs import internal_cutoff
from interlace.diagnostics.envelope import qq_envelope, ranks_shown
from interlace.diagnostics.shrinkage import raw_effects
from interlace.diagnostics.smooth import local_line
from interlace.errors import InterlaceError


def leaves(table: pd.DataFrame) -> bool:
    return bool(((table["sample"] < table["lower"]) | (table["sample"] > table["upper"])).any())


@pytest.mark.parametrize(("n", "level"), [(10, 0.95), (60, 0.8), (2000, 0.9)])
def test_envelope_holds_normal_samples_as_often_as_it_says(n: int, level: float) -> None:
    rng = np.random.default_rng(n)
    inside = [not leaves(qq_envelope(rng.normal(5.0, 3.0, n), level=level)) for _ in range(250)]
    tolerance = 4.0 * np.sqrt(level * (1.0 - level) / 250)  # both sides were simulated
    assert abs(np.mean(inside) - level) < tolerance


def test_envelope_finds_an_outlier_and_heavy_tails() -> None:
    rng = np.random.default_rng(1)
    assert leaves(qq_envelope(np.append(rng.normal(size=50), 8.0)))
    assert leaves(qq_envelope(rng.standard_t(3, size=2000)))


def test_envelope_moves_with_location_and_scale() -> None:
    x = np.random.default_rng(2).normal(size=40)
    one, two = qq_envelope(x), qq_envelope(10.0 + 3.0 * x)
    for column in ("sample", "line", "lower", "upper"):
        np.testing.assert_allclose(two[column], 10.0 + 3.0 * one[column])


def test_envelope_of_mirrored_values_is_mirrored() -> None:
    x = np.random.default_rng(2).normal(size=40)
    one, two = qq_envelope(x), qq_envelope(-x)
    np.testing.assert_allclose(two["upper"], -one["lower"][::-1])


def test_envelope_remembers_positions_and_leaves_out_what_is_not_finite() -> None:
    x = np.array([3.0, np.nan, 1.0, np.inf, 2.0])
    table = qq_envelope(x)
    assert table["position"].tolist() == [2, 4, 0]
    assert table["sample"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("n", [500, 501, 1000, 100_000])
def test_ranks_shown_keep_both_ends(n: int) -> None:
    ranks = ranks_shown(n)
    assert (np.diff(ranks) > 0).all()
    assert ranks[:100].tolist() == list(range(1, 101))
    assert ranks[-100:].tolist() == list(range(n - 99, n + 1))
    assert len(ranks) <= 500


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([1.0, 2.0], 0.95, "a quantile plot needs at least 3 finite values, and not all the same"),
        ([1.0] * 9, 0.95, "a quantile plot needs at least 3 finite values, and not all the same"),
        ([1.0, 2.0, 3.0], 1.0, "level must be strictly between 0 and 1, not 1.0"),
    ],
)
def test_envelope_refuses(values: list[float], level: float, message: str) -> None:
    with pytest.raises(InterlaceError) as caught:
        qq_envelope(values, level=level)
    assert str(caught.value) == message


# ------------------------------------------------------------------ local line


def test_local_line_reproduces_straight_lines_and_follows_bends() -> None:
    x = np.random.default_rng(0).uniform(-2.0, 5.0, 500)
    straight = local_line(x, 1.0 - 2.0 * x)
    np.testing.assert_allclose(straight["y"], 1.0 - 2.0 * straight["x"], atol=1e-9)
    bent = local_line(x, np.abs(x), span=0.1)
    np.testing.assert_allclose(bent["y"], np.abs(bent["x"]), atol=0.15)


def test_local_line_of_repeated_values_goes_through_their_means() -> None:
    x, y = np.repeat([0.0, 1.0], 50), np.arange(100.0)
    curve = local_line(x, y, span=0.4)
    assert curve["x"].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(curve["y"], [24.5, 74.5])


def test_local_line_is_empty_where_x_does_not_vary() -> None:
    assert len(local_line([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])) == 0
    assert len(local_line([np.nan], [1.0])) == 0


# ------------------------------------------------------------------ cut-offs


def test_internal_cutoff_is_equivariant_and_skips_missing_values() -> None:
    x = np.random.default_rng(3).normal(size=30)
    low, high = internal_cutoff(x, two_sided=True)
    assert internal_cutoff(np.append(2.0 * x + 1.0, np.nan), two_sided=True) == pytest.approx(
        (2.0 * low + 1.0, 2.0 * high + 1.0)
    )
    assert internal_cutoff(x) == (-np.inf, high)


def test_internal_cutoff_refuses_nothing() -> None:
    with pytest.raises(InterlaceError) as caught:
        internal_cutoff([np.nan])
    assert str(caught.value) == "a cut-off needs at least one finite value, and there is none"


# ------------------------------------------------------------------ unshrunk effects


def unbalanced() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    g, h = rng.integers(0, 12, 150), rng.integers(0, 5, 150)
    x = rng.normal(3.0, 2.0, 150)
    y = (
        1.0
        + x
        + rng.normal(size=12)[g]
        + rng.normal(size=12)[g] * x
        + rng.normal(size=5)[h]
        + rng.normal(size=150)
    )
    frame = pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": h.astype(str)})
    return frame.assign(w=rng.uniform(0.3, 3.0, 150))


@pytest.mark.parametrize("options", [{}, {"weights": "w"}])
def test_raw_effects_are_least_squares_level_by_level(options: dict[str, Any]) -> None:
    data = unbalanced()
    result = interlace.fit("y ~ x + (x | g) + (1 | h)", data, **options)
    raw = raw_effects(result, "g")
    rest = result.resid + result.predict() - result.predict(include_re="h")
    w = np.sqrt(data["w"]) if options else pd.Series(np.ones(len(data)))
    for level, part in data.groupby("g"):
        Z = np.column_stack([np.ones(len(part)), part["x"]]) * w[part.index].to_numpy()[:, None]
        expected = np.linalg.lstsq(Z, rest[part.index] * w[part.index], rcond=None)[0]
        np.testing.assert_allclose(raw.loc[level], expected, rtol=1e-9, atol=1e-9)


def test_raw_effects_are_nan_where_rows_do_not_determine_them() -> None:
    data = pd.concat([unbalanced(), unbalanced().head(1).assign(g="alone")], ignore_index=True)
    raw = raw_effects(interlace.fit("y ~ x + (x | g)", data), "g")
    assert raw.isna().all(axis=1).to_dict() == {level: level == "alone" for level in raw.index}


def test_raw_effects_refuse_unknown_factors_and_results_without_rows() -> None:
    result = interlace.fit("y ~ x + (1 | g)", unbalanced())
    with pytest.raises(InterlaceError) as caught:
        raw_effects(result, "k")
    assert str(caught.value) == "no grouping factor 'k'; the model has g"
    with pytest.raises(InterlaceError, match=r"^raw_effects needs the rows of the model"):
        raw_effects(replace(result, design=None), "g")  # type: ignore[arg-type]
