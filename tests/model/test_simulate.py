"""New responses from a fitted model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import dense
import interlace
from interlace import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.model.predict import fitted
from interlace.model.simulate import (
    Simulator,
    blocks,
    expected,
    seed_sequence,
    simulate,
)
from interlace.sums.crossprod import cross_products

pytestmark = pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")


def model(name: str = "crossed slopes", **arguments: object):
    design = dense.design(name, **arguments)
    return design, estimate_theta(Criterion(cross_products(design), True))


# ------------------------------------------------------------ what is drawn


@pytest.mark.parametrize(("name", "weighted"), dense.MODELS)
def test_covariance(name: str, weighted: bool) -> None:
    """The deviations are a linear map of normal numbers whose square is the covariance matrix."""
    design, estimate = model(name, weighted=weighted)
    simulator = Simulator(design, estimate)
    root = simulator.deviations(np.eye(simulator.n_draws))
    users = dense.Dense(
        design, estimate.A, dense.identity(estimate.A), estimate.user_templates, True
    )
    V = estimate.sigma**2 * users.V / (users.root_w * users.root_w.T)
    assert_allclose(root @ root.T, V, atol=1e-10 * np.abs(V).max())


def test_kept_random_effects() -> None:
    """With the random effects kept, only the residuals are new."""
    design, estimate = model(weighted=True)
    simulator = Simulator(design, estimate, include_re=True)
    assert simulator.n_draws == len(design.y)
    still = simulator.deviations(np.zeros((1, simulator.n_draws)))[:, 0]
    assert_allclose(expected(design, estimate) + still, fitted(design, estimate, [True, True]))
    moved = simulator.deviations(np.ones((1, simulator.n_draws)))[:, 0]
    assert_allclose(moved - still, estimate.sigma / np.sqrt(design.weights))


@pytest.mark.parametrize("offset", [None, "o"])
def test_mean(offset: str | None) -> None:
    """Around ``X beta`` plus the offset; without random effects in the mean."""
    design, estimate = model(offset=offset)
    drawn = simulate(design, estimate, 4000, seed=1)
    mean = fitted(design, estimate, [False, False])
    assert_allclose(expected(design, estimate), mean)
    spread = drawn.std(axis=1) / np.sqrt(4000)
    assert np.abs((drawn.mean(axis=1) - mean) / spread).max() < 4.5
    kept = simulate(design, estimate, 4000, seed=1, include_re=True)
    conditional = fitted(design, estimate, [True, True])
    assert_allclose(kept.std(axis=1), estimate.sigma, rtol=0.06)
    assert np.abs((kept.mean(axis=1) - conditional) * np.sqrt(4000) / estimate.sigma).max() < 4.5


def test_dropped_columns() -> None:
    design, estimate = model("y ~ x + I(2 * x) + (1 | g)")
    assert estimate.A.dropped
    assert_allclose(expected(design, estimate), fitted(design, estimate, [False]))


def test_random_matrix() -> None:
    design, estimate = model("three crossed")
    b = np.concatenate([b.ravel() for b in estimate.b])
    by_hand = fitted(design, estimate, [True] * 3) - fitted(design, estimate, [False] * 3)
    assert_allclose(design.random_matrix @ b, by_hand, atol=1e-12)


# ------------------------------------------------------------ seeds


@pytest.mark.parametrize("include_re", [False, True])
def test_a_column_does_not_depend_on_how_many_there_are(include_re: bool) -> None:
    design, estimate = model()
    many = simulate(design, estimate, 50, seed=3, include_re=include_re)
    for nsim in (1, 15, 16, 17, 33):
        fewer = simulate(design, estimate, nsim, seed=3, include_re=include_re)
        assert_allclose(fewer, many[:, :nsim], rtol=1e-13)
    assert len({round(float(v), 9) for v in many[0]}) == 50


def test_seeds() -> None:
    """Integers and sequences repeat, generators go on, and other seeds give other numbers."""
    design, estimate = model()

    def drawn(seed: object) -> np.ndarray:
        return simulate(design, estimate, 2, seed=seed)

    assert_allclose(drawn(3), drawn(3))
    assert_allclose(drawn(np.int64(3)), drawn(3))
    sequence = np.random.SeedSequence(3)
    assert_allclose(drawn(sequence), drawn(3))
    assert_allclose(drawn(sequence), drawn(3))
    generator = np.random.default_rng(3)
    first, second = drawn(generator), drawn(generator)
    assert np.abs(first - second).min() > 0
    assert_allclose(drawn(np.random.default_rng(3)), first)
    assert np.abs(drawn(4) - drawn(3)).min() > 0
    assert np.abs(drawn(None) - drawn(None)).min() > 0


def test_entropy_is_enough() -> None:
    """Whatever was given, the entropy of the sequence used draws the same numbers again."""
    child = np.random.SeedSequence(3).spawn(2)[1]
    for seed in (3, child, np.random.default_rng(3), None):
        used = seed_sequence(seed)
        again = seed_sequence(np.random.SeedSequence(used.entropy))
        for one, two in zip(blocks(used, 40), blocks(again, 40), strict=True):
            assert one.rng.random() == two.rng.random()
    assert seed_sequence(child).entropy != np.random.SeedSequence(3).entropy


def test_blocks_cover_everything_once() -> None:
    columns = [block.columns for block in blocks(1, 50)]
    assert [i for c in columns for i in range(c.start, c.stop)] == list(range(50))
    assert sum(block.size for block in blocks(1, 50)) == 50
    states = {tuple(block.sequence.generate_state(2)) for block in blocks(1, 50)}
    assert len(states) == len(columns)


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize("nsim", [0, -1, 2.5, "3", None])
def test_nsim(nsim: object) -> None:
    design, estimate = model()
    with pytest.raises(InterlaceError) as caught:
        simulate(design, estimate, nsim)
    assert str(caught.value) == f"nsim must be a positive integer, not {nsim!r}"


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_seed(seed: object) -> None:
    design, estimate = model()
    with pytest.raises(InterlaceError) as caught:
        simulate(design, estimate, 1, seed=seed)
    assert str(caught.value) == (
        "seed must be a non-negative integer, a numpy Generator or SeedSequence, or None, "
        f"not {seed!r}"
    )


def test_no_rows() -> None:
    _, estimate = model()
    with pytest.raises(InterlaceError) as caught:
        simulate(None, estimate, 1)
    assert str(caught.value) == (
        "simulate needs the rows of the model, and this one was fitted without holding them: "
        "fit it to a frame in memory (data=)"
    )


def test_a_data_set_of_the_package() -> None:
    """Response in the original units, one column per simulation."""
    sleep = interlace.datasets.load("sleepstudy")
    result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    drawn = simulate(result.design, result.estimate, 400, seed=1)
    assert drawn.shape == (180, 400)
    slopes = np.polyfit(result.design.X[:, 1], drawn, 1)[0]
    assert slopes.mean() == pytest.approx(10.467, abs=4 * 1.55 / 20)
    assert slopes.std() == pytest.approx(1.546, rel=0.15)
