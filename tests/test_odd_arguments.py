"""Arguments that are nearly right: understood, warned of, or refused in words."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import interlace
from interlace import CrossedLMEResult, InterlaceError


def fitted() -> CrossedLMEResult:
    return interlace.fit(
        "Reaction ~ Days + (Days | Subject)", interlace.datasets.load("sleepstudy")
    )


def test_alpha_is_what_the_level_leaves_out() -> None:
    result = fitted()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("wald", "profile"):
            pd.testing.assert_frame_equal(
                result.conf_int(alpha=0.1, method=method, parm=["Days"]),
                result.conf_int(0.9, method=method, parm=["Days"]),
            )
        pd.testing.assert_frame_equal(result.conf_int(), result.conf_int(0.95))


def test_a_level_that_is_an_alpha_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"write level=0.95, or alpha=0.05"):
        table = fitted().conf_int(0.05)
    assert list(table.columns) == [0.475, 0.525]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 0.9, "alpha": 0.1}, "not both"),
        ({"alpha": 0.0}, "alpha must be strictly between 0 and 1"),
        ({"alpha": 95.0}, "alpha must be strictly between 0 and 1"),
        ({"level": 95}, "level must be strictly between 0 and 1"),
    ],
)
def test_levels_that_are_none(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InterlaceError, match=message):
        fitted().conf_int(**arguments)


@pytest.mark.parametrize("value", [3, 2.5, None, object(), [1], ["Subject", 2], {"a": 1}])
def test_random_effects_that_are_none(value: Any) -> None:
    result = fitted()
    with pytest.raises(InterlaceError, match="include_re"):
        result.predict({"Days": [1], "Subject": ["308"]}, include_re=value)


@pytest.mark.parametrize("path", ["a\0b.parquet", "a\0b.csv", "folder\0/*.parquet"])
def test_a_zero_byte_in_a_path(path: str) -> None:
    data = interlace.datasets.load("sleepstudy")
    sums = interlace.cross_products("Reaction ~ Days + (Days | Subject)", data)
    for call in (
        lambda: interlace.fit("y ~ x + (1 | g)", path),
        lambda: interlace.fit("y ~ x + (1 | g)", [Path(path)]),
        lambda: sums.save(path),
        lambda: interlace.CrossProducts.load(path),
    ):
        with pytest.raises(InterlaceError, match=r"x00.*cannot be the name of a file"):
            call()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_columns_that_differ_in_case_alone(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(8), 10)
    data = pd.DataFrame(
        {name: rng.normal(size=80) for name in ("y", "x", "X", "X_1", "abc", "Abc")}
    )
    data["y"] += rng.normal(size=8)[g]
    data = data.assign(g=g, G=[f"k{i % 5}" for i in range(80)])
    path = tmp_path / f"d.{kind}"
    data.to_parquet(path) if kind == "parquet" else data.to_csv(path, index=False)
    for formula in ("y ~ x + X + (1 | g)", "y ~ X + X_1 + (1 | g)", "y ~ Abc + (abc || g)"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, right = interlace.fit(formula, path), interlace.fit(formula, data)
        assert list(found.fe_params.index) == list(right.fe_params.index)
        assert_allclose(found.criterion, right.criterion, rtol=1e-8)
    with pytest.raises(InterlaceError, match="has no column 'Y'; did you mean 'y'"):
        interlace.fit("Y ~ x + (1 | g)", path)
