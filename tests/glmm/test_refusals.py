"""Verbs of linear models refuse a generalised one in words."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.diagnostics.shrinkage import raw_effects
from interlace.results.general import INSTEAD


@pytest.fixture(scope="module")
def result() -> interlace.CrossedGLMMResult:
    cbpp = interlace.datasets.load("cbpp")
    return interlace.fit(
        "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
    )


@pytest.mark.parametrize(
    "verb",
    [
        interlace.hlm_resid,
        interlace.hlm_augment,
        interlace.plot_resid,
        interlace.plot_scale_location,
        interlace.plot_qq,
        lambda m: interlace.plot_shrinkage(m, "herd"),
        lambda m: raw_effects(m, "herd"),
    ],
)
def test_functions_for_linear_models(verb, result) -> None:
    with pytest.raises(interlace.InterlaceError, match="linear models, and this is a generalised"):
        verb(result)


def test_methods_of_linear_models_name_what_there_is(result) -> None:
    """Every verb of linear models is there, or its refusal says why and what to use."""
    own, other = dir(type(result)), dir(interlace.CrossedLMEResult)
    missing = {name for name in other if not name.startswith("_")} - set(own)
    assert missing == set(INSTEAD)
    for name in missing:
        said = f"'{name}' is there for linear models only, not for family='binomial': "
        with pytest.raises(AttributeError) as caught:
            getattr(result, name)
        assert str(caught.value) == said + INSTEAD[name]


def test_other_names_and_copies(result) -> None:
    with pytest.raises(
        AttributeError, match=r"^'CrossedGLMMResult' object has no attribute 'coeff'"
    ):
        result.coeff  # noqa: B018
    again = pickle.loads(pickle.dumps(result))
    assert again.llf == result.llf and copy.deepcopy(result).llf == result.llf


@pytest.fixture(scope="module")
def counts() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 12)
    x = rng.normal(size=240)
    mean = np.exp(0.3 * x + 0.5 * rng.normal(size=20)[group])
    columns = {"y": rng.poisson(mean), "x": x, "g": group, "far": np.arange(240) % 100}
    return pd.DataFrame(columns)


def test_offsets_beyond_the_range_of_means_are_refused_in_words(counts) -> None:
    with pytest.raises(interlace.InterlaceError, match=r"offset=, exposure= and|use another link"):
        interlace.fit("y ~ 1 + offset(3 * far) + (1 | g)", counts, family="poisson")


@pytest.mark.parametrize("size", [1e-200, 1e200])
@pytest.mark.parametrize("rest", ["x + (1 | g)", "1 + (0 + x | g)"])
def test_columns_beyond_the_range_of_squares_are_refused_in_words(counts, rest, size) -> None:
    far = counts.assign(x=counts["x"] * size)
    with pytest.raises(interlace.InterlaceError, match=r"column 'x' is of the size .* times 1e"):
        interlace.fit(f"y ~ {rest}", far, family="poisson")


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_weights_that_are_nothing_or_all_are_refused(counts, size) -> None:
    with pytest.raises(interlace.InterlaceError, match="on average: in a generalised model"):
        interlace.fit("y ~ x + (1 | g)", counts, family="poisson", weights=np.full(240, size))


@pytest.mark.parametrize("power", [-330, 330])
def test_units_of_a_column_change_its_coefficient_alone(counts, power) -> None:
    one = interlace.fit("y ~ x + (x | g)", counts, family="poisson")
    far = counts.assign(x=np.ldexp(counts["x"], power))
    other = interlace.fit("y ~ x + (x | g)", far, family="poisson")
    assert other.llf == pytest.approx(one.llf, abs=1e-6)
    assert np.ldexp(other.fe_params["x"], power) == pytest.approx(one.fe_params["x"], rel=1e-4)
    assert np.ldexp(other.fe_bse["x"], power) == pytest.approx(one.fe_bse["x"], rel=1e-3)
