"""Distributions of the largest of several |t| and of the studentised range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtr
from scipy.stats import studentized_range

from interlace.inference.means.adjust import Family, adjusted, limits
from interlace.inference.means.contrasts import polynomials
from interlace.inference.means.largest import largest, range_bound, range_exceeds
from interlace.inference.means.letters import letters


@pytest.mark.parametrize("k", [2, 3, 5, 12, 40])
@pytest.mark.parametrize("df", [2.0, 3.3, 12.0, 240.0, 1e4])
def test_studentised_range(k: int, df: float) -> None:
    for width in (0.3, 2.0, 4.0, 9.0):
        expected = studentized_range.sf(width, k, df)
        assert range_exceeds(width, k, df) == pytest.approx(expected, abs=1e-5)  # scipy's error
    assert range_exceeds(range_bound(0.05, k, df), k, df) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("df", [1.0, 4.5, 30.0])
def test_two_means_are_a_t_test(df: float) -> None:
    for t in (0.1, 1.0, 3.0, 8.0):
        assert range_exceeds(t * 2**0.5, 2, df) == pytest.approx(2 * stdtr(df, -t), abs=1e-7)
        assert largest(np.eye(1)).exceeds(t, df) == pytest.approx(2 * stdtr(df, -t), abs=1e-12)


@pytest.mark.parametrize("k", [3, 4, 6, 10])
def test_all_pairs_of_balanced_means_are_tukey(k: int) -> None:
    pairs = itertools.combinations(range(k), 2)
    C = np.array([np.eye(k)[i] - np.eye(k)[j] for i, j in pairs]) / 2**0.5
    found = largest(C @ C.T)
    for df in (5.0, 40.0, np.inf):
        for t in (0.5, 2.0, 3.0, 4.5):
            assert found.exceeds(t, df) == pytest.approx(range_exceeds(t * 2**0.5, k, df), abs=5e-4)


# From R's mvtnorm (Genz and Bretz, abseps 1e-6): k correlations of 0.5, df, t, probability.
DUNNETT = [
    (2, 5.0, 1.0, 0.544742), (2, 20.0, 2.0, 0.1052064), (2, np.inf, 2.0, 0.08288815),
    (3, 5.0, 3.0, 0.06884119), (3, 20.0, 2.0, 0.1430904), (3, np.inf, 1.0, 0.6243327),
    (5, 5.0, 1.0, 0.7762811), (5, 20.0, 2.0, 0.2037796), (5, np.inf, 3.0, 0.01212171),
]  # fmt: skip


@pytest.mark.parametrize(("k", "df", "t", "p"), DUNNETT)
def test_dunnett(k: int, df: float, t: float, p: float) -> None:
    assert largest(0.5 * (np.eye(k) + 1.0)).exceeds(t, df) == pytest.approx(p, abs=2e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10**6))
def test_adjustments_keep_their_order(q: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(q, q + 1))
    B /= np.linalg.norm(B, axis=1, keepdims=True)
    family = Family(rng.normal(size=q) * 2, rng.uniform(3, 40, q), B @ B.T, q, q)
    p = {a: adjusted(family, a) for a in ("none", "mvt", "sidak", "holm", "fdr", "bonferroni")}
    for one, other in itertools.pairwise(["none", "mvt", "sidak", "bonferroni"]):
        assert (p[one] <= p[other] + 1e-3).all()
    assert (p["fdr"] <= p["holm"] + 1e-12).all() and (p["holm"] <= p["bonferroni"] + 1e-12).all()
    bounds = {a: limits(family, a, 0.95) for a in ("none", "mvt", "sidak", "bonferroni")}
    for one, other in itertools.pairwise(bounds):
        assert (bounds[one] <= bounds[other] * (1 + 2e-3)).all()
    significant = np.abs(family.statistic) > limits(family, "mvt", 0.95)
    clear = np.abs(p["mvt"] - 0.05) > 1e-3
    assert (significant[clear] == (p["mvt"] < 0.05)[clear]).all()


def test_polynomials_are_orthogonal_whole_numbers() -> None:
    for k in range(2, 12):
        P = polynomials(k, min(k - 1, 6))
        assert (P.round() == P).all() and (P[:, -1] > 0).all()
        gram = P @ P.T
        assert (gram == np.diag(np.diag(gram))).all() and (P.sum(axis=1) == 0).all()
    assert polynomials(4, 3).tolist() == [[-3, -1, 1, 3], [1, -1, -1, 1], [-1, 3, -3, 1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_letters_say_exactly_which_means_differ(k: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    differs = np.triu(rng.uniform(size=(k, k)) < share, 1)
    differs |= differs.T
    found = letters(rng.normal(size=k), differs)
    for i, j in itertools.combinations(range(k), 2):
        assert bool(set(found[i]) & set(found[j])) == (not differs[i, j])
    assert all(found) and found[0].startswith("a")
