"""Nothing that a result returns, and nothing that was passed to ``fit``, can change it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal

import interlace

# Pandas 2 says so where what is written to was taken from a frame; here it is on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:\\nA value is trying to be set on a copy")

N = 120
RNG = np.random.default_rng(3)


def data() -> dict[str, np.ndarray]:
    g = np.repeat(np.arange(12), 10)
    x = RNG.normal(size=N)
    y = RNG.normal(size=12)[g] + 0.5 * x * RNG.normal(size=12)[g] + RNG.normal(size=N)
    return {"y": y, "x": x, "g": g, "w": RNG.uniform(0.5, 2.0, N), "unused": RNG.normal(size=N)}


DATA = data()
FORMULA = "y ~ x + (x | g)"


def fitted(**options: object) -> interlace.CrossedLMEResult:
    return interlace.fit(FORMULA, pd.DataFrame(DATA), weights="w", **options)


def public(result: object) -> list[str]:
    names = [name for name in dir(type(result)) if not name.startswith("_")]
    return [name for name in names if not callable(getattr(type(result), name))]


def spoil(value: object) -> None:
    """Write to a value in every way that a caller might."""
    if isinstance(value, dict):
        for inner in value.values():
            spoil(inner)
        value.clear()
    elif isinstance(value, pd.DataFrame):
        for name in value.select_dtypes("number"):
            spoil(value[name])
            value[name] = 99.0
    elif isinstance(value, pd.Series):
        if value.to_numpy().flags.writeable:
            value.to_numpy()[:] = 99
        value.iloc[:] = 99
    elif isinstance(value, np.ndarray):
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
            value[...] = 99.0
        with pytest.raises(ValueError, match="WRITEABLE"):
            value.flags.writeable = True


def shown(value: object) -> bytes:
    return pickle.dumps(value)


@pytest.mark.parametrize("ddf", ["normal", "satterthwaite"])
def test_writing_to_what_a_result_returns_changes_nothing(ddf: str) -> None:
    result = fitted(ddf=ddf)
    kinds = (dict, pd.Series, pd.DataFrame, np.ndarray)
    names = [n for n in public(result) if n != "held" and isinstance(getattr(result, n), kinds)]
    assert {"fe_params", "fe_bse", "theta", "resid", "random_effects", "ngroups"} <= set(names)
    for name in names:
        before = shown(getattr(result, name))
        spoil(getattr(result, name))
        assert shown(getattr(result, name)) == before, name


@pytest.mark.parametrize(
    "name",
    ["coef_table", "conf_int", "cov_params", "vcov_theta", "anova", "ranova", "tidy", "augment"],
)
def test_writing_to_tables_changes_nothing(name: str) -> None:
    result = fitted()
    before = shown(getattr(result, name)())
    spoil(getattr(result, name)())
    assert shown(getattr(result, name)()) == before


def test_rows_held_are_read_only() -> None:
    design = fitted().design
    for array in (design.y, design.X, *design.Z, *design.codes, design.weights):
        assert not array.flags.writeable


MAKERS: dict[str, Callable[[], object]] = {
    "pandas": lambda: pd.DataFrame(DATA),
    "dict": lambda: {name: values.copy() for name, values in DATA.items()},
    "polars": lambda: pl.DataFrame(DATA),
}


def _change_pandas(frame: pd.DataFrame) -> None:
    frame["y"] += 100.0
    frame.loc[:, "x"] = 0.0
    frame.iloc[:, 3] = 50.0
    del frame["g"]


def _change_dict(columns: dict[str, np.ndarray]) -> None:
    columns["y"][:] += 100.0
    columns["w"][:] = 50.0
    columns["x"] = np.zeros(N)
    del columns["g"]


def _change_polars(frame: pl.DataFrame) -> None:
    frame[0, "y"] = 1e6
    frame.drop_in_place("g")


CHANGES = {"pandas": _change_pandas, "dict": _change_dict, "polars": _change_polars}


@pytest.mark.parametrize("kind", MAKERS)
def test_changing_the_data_after_the_fit_changes_nothing(kind: str) -> None:
    frame, other = MAKERS[kind](), MAKERS[kind]()
    result, right = (interlace.fit(FORMULA, d, weights="w") for d in (frame, other))
    CHANGES[kind](frame)
    assert result.update(method="ML").criterion == right.update(method="ML").criterion
    wider = "y ~ x + unused + (x | g)"
    assert result.update(wider).criterion == right.update(wider).criterion
    assert_array_equal(np.asarray(result.augment()), np.asarray(right.augment()))
    assert_array_equal(result.resid, right.resid)
    assert result.refit(right.design.y * 2.0).criterion == pytest.approx(
        right.refit(right.design.y * 2.0).criterion
    )


def test_changing_weights_and_offset_after_the_fit_changes_nothing() -> None:
    w, o, theta0 = DATA["w"].copy(), DATA["unused"].copy(), np.array([1.0, 0.0, 1.0])
    frame = pd.DataFrame(DATA)
    result = interlace.fit(FORMULA, frame, weights=w, offset=o, theta0=theta0)
    before = result.update().criterion
    w[:], o[:], theta0[:] = 7.0, -3.0, np.nan
    assert result.update().criterion == before
    assert_array_equal(result.design.weights, DATA["w"])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_keep_everything(copied: Callable[[object], object]) -> None:
    result = fitted()
    other = copied(result)
    assert other.update(method="ML").criterion == result.update(method="ML").criterion
    assert_array_equal(np.asarray(other.augment()), np.asarray(result.augment()))
    assert_array_equal(other.fe_params, result.fe_params)
    assert other.summary().__repr__() == result.summary().__repr__()


def test_pickles_keep_all_but_the_data() -> None:
    result = fitted()
    other = pickle.loads(pickle.dumps(result))
    for name in public(result):
        if name not in ("data", "held", "design", "estimate"):
            assert shown(getattr(other, name)) == shown(getattr(result, name)), name
    assert_array_equal(
        other.predict({"x": [1.0], "g": [3]}), result.predict({"x": [1.0], "g": [3]})
    )
    assert not other.design.y.flags.writeable
