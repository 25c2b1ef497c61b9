"""Likelihoods without a maximum: refused wherever models are fitted, and no other model is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import fits
import interlace
from interlace import InterlaceError, fit, fit_many
from interlace.design.design import assemble
from interlace.design.formula import parse
from interlace.estimation.criterion import Criterion
from interlace.estimation.unbounded import is_saturated, without_maximum
from interlace.sums.crossprod import cross_products
from reference import cases

ML = r"^ML has no estimate: the fixed effects and the random effects of {}.* reproduce any response"
REML = r"^REML has no estimate: .* of {}.* highest where no residual variance is left"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Of singular fits there are many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def data(seed: int, n: int = 12) -> pd.DataFrame:
    """One pair of rows in ``o``, all others alone; pairs in ``g``; three levels in ``h``."""
    r = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": r.normal(size=n),
            "x1": r.normal(size=n),
            "x2": r.normal(size=n),
            "o": [0, *range(n - 1)],
            "g": np.arange(n) // 2,
            "h": np.arange(n) % 3,
            "w": r.uniform(0.1, 10.0, n),
        }
    )


UNBOUNDED = [
    ("y ~ x1 + (1 | o)", "'o'"),
    ("y ~ x1 + (1 | o) + (1 | h)", "'o'"),
    ("y ~ x1 + (1 | h) + (1 | o)", "'o'"),
    ("y ~ x1 + (0 + x2 | o)", r"'o'"),
    ("y ~ x1 * x2 * h + (1 | g)", "'g'"),
    ("y ~ x1 * x2 * h + (1 + x1 || h) + (1 | g)", "'g'"),
    ("y ~ x1 * x2 + (x1 | h) + (1 | g)", "'g' and 'h' .Intercept, x1."),
    ("y ~ x1 * x2 + (x1 || h) + (1 | g)", "'g' and 'h' .Intercept, x1."),
]
BOUNDED = [
    "y ~ 1 + (1 | o)",  # the pair is of one level, and the intercept cannot tell its rows apart
    "y ~ x1 + (1 | g)",
    "y ~ x1 * x2 + (1 | g) + (1 | h)",
    "y ~ x1 + (x2 | h)",
    "y ~ x1 * x2 + (x1 || h)",
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize(("formula", "group"), UNBOUNDED)
def test_ml_is_refused(formula: str, group: str, weights: str | None, seed: int) -> None:
    with pytest.raises(InterlaceError, match=ML.format(group)):
        fit(formula, data(seed), method="ML", weights=weights)


@pytest.mark.parametrize("formula", BOUNDED)
def test_bounded_models_are_fitted(formula: str) -> None:
    for seed in range(4):
        for method in ("ML", "REML"):
            assert fit(formula, data(seed), method=method).converged


def test_the_criterion_of_what_is_refused_falls_without_end() -> None:
    for formula, _ in UNBOUNDED:
        assert (np.diff(along(formula)) < -1.0).all(), formula


def test_that_of_the_others_does_not() -> None:
    for formula in BOUNDED:
        assert (np.diff(along(formula)) > 1.0).all(), formula


def along(formula: str) -> np.ndarray:
    """The ML criterion at larger and larger effects of the terms at fault, or of all."""
    criterion = Criterion(sums(formula, data(0)), False)
    terms = criterion.A.terms
    at_fault = without_maximum(criterion.A) or terms
    eyes = [np.eye(t.k) * (t in at_fault) for t in terms]
    return np.array([criterion.at([t * one for one in eyes]).value for t in (1e2, 1e3, 1e4)])


def sums(formula: str, frame: pd.DataFrame) -> interlace.CrossProducts:
    """Cross-products of a model."""
    return cross_products(assemble(parse(formula), frame))


@pytest.mark.parametrize("seed", range(12))
def test_reml_has_an_estimate_that_no_larger_effects_beat_or_none(seed: int) -> None:
    frame = data(seed)
    criterion = Criterion(sums("y ~ x1 + (1 | o)", frame), True)
    assert is_saturated(criterion.A)
    far = criterion.at([np.array([[1e4]])]).value
    values = [criterion.at([np.array([[t]])]).value for t in np.geomspace(1e-3, 1e3, 300)]
    least = min(criterion.at([np.zeros((1, 1))]).value, *values)
    if far < least:
        with pytest.raises(InterlaceError, match=REML.format("'o'")):
            fit("y ~ x1 + (1 | o)", frame)
    else:
        assert -2 * fit("y ~ x1 + (1 | o)", frame).llf == pytest.approx(least, abs=2e-2)


def test_nearly_full_rank_counts_as_full() -> None:
    frame = data(1)
    frame.loc[1, "x1"] = frame.loc[0, "x1"]
    frame.loc[[0, 1], "o"] = 0
    frame.loc[2:, "o"] = range(1, 11)
    assert fit("y ~ x1 + (1 | o)", frame, method="ML").converged
    frame.loc[1, "x1"] += 1e-4
    with pytest.raises(InterlaceError, match=ML.format("'o'")):
        fit("y ~ x1 + (1 | o)", frame, method="ML")


def test_sums_are_refused_as_rows_are() -> None:
    frame = data(2)
    A = interlace.cross_products("y ~ x1", frame, groups="o")
    with pytest.raises(InterlaceError, match=ML.format("'o'")):
        fit("y ~ x1 + (1 | o)", A, method="ML")


def test_batches_refuse_every_response() -> None:
    frame = data(3).assign(z=np.arange(12.0) ** 2)
    found = fit_many("~ x1 + (1 | o)", frame, ["y", "z"], method="ML")
    assert set(found.errors) == {"y", "z"}
    assert all(why.startswith("ML has no estimate") for why in found.errors.values())


def test_batches_refuse_by_reml_what_single_fits_do() -> None:
    r = np.random.default_rng(0)
    frame = data(0).drop(columns="y").assign(**{f"y{i}": r.normal(size=12) for i in range(8)})
    names = [f"y{i}" for i in range(8)]
    found = fit_many("~ x1 + (1 | o)", frame, names)
    alone = set()
    for name in names:
        try:
            fit(f"{name} ~ x1 + (1 | o)", frame)
        except InterlaceError:
            alone.add(name)
    assert set(found.errors) == alone and 0 < len(alone) < 8


def test_deletions_that_leave_as_many_columns_as_rows_are_noted() -> None:
    frame = data(4, 13)
    frame.loc[2, "o"] = 0  # three rows of a level, of which two may be left
    frame["o"] = pd.factorize(frame["o"])[0]
    result = fit("y ~ x1 + (1 | o)", frame, method="ML")
    notes = result.deletions(1)["note"]
    refused = []
    for i in frame.index:
        try:
            fit("y ~ x1 + (1 | o)", frame.drop(index=i), method="ML")
        except InterlaceError as error:
            refused.append((i, str(error)))
    assert [(i, why) for i, why in notes.items() if why] == refused and refused


def test_bootstrap_samples_of_cases_that_are_refused_are_failures() -> None:
    frame = data(5, 16).assign(o=[*range(11), *range(5)])
    found = fit("y ~ x1 + (1 | o)", frame, method="ML").bootstrap(40, seed=1, kind="cases")
    assert any(why.startswith("ML has no estimate") for why in found.failures.values())


def test_what_fits_by_ml_says_so_of_a_fit_by_reml() -> None:
    result = fit("y ~ x1 + (1 | o)", data(2))
    with pytest.raises(InterlaceError, match=ML.format("'o'")):
        result.profile()


@pytest.mark.parametrize("name", cases.case_names())
def test_no_reference_case_is_refused(name: str) -> None:
    assert without_maximum(fits.of_case(name).estimate.A) == ()
