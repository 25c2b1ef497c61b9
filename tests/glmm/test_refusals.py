"""Verbs of linear models refuse a generalised one in words."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.diagnostics.shrinkage import raw_effects


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


@pytest.mark.parametrize("name", ["singular_report", "vcov_theta", "bootstrap_se"])
def test_methods_of_linear_models(name, result) -> None:
    with pytest.raises(AttributeError, match=f"'{name}' is there for linear models only: a result"):
        getattr(result, name)


def test_other_names_and_copies(result) -> None:
    with pytest.raises(
        AttributeError, match=r"^'CrossedGLMMResult' object has no attribute 'coeff'"
    ):
        result.coeff  # noqa: B018
    again = pickle.loads(pickle.dumps(result))
    assert again.llf == result.llf and copy.deepcopy(result).llf == result.llf


def test_offsets_beyond_the_range_of_means_are_refused_in_words() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"y": rng.poisson(2.0, 60), "g": np.repeat(range(10), 6)})
    frame["far"] = rng.uniform(0.0, 5000.0, 60)
    with pytest.raises(interlace.InterlaceError, match="check offset=, exposure= and the units"):
        interlace.fit("y ~ 1 + offset(far) + (1 | g)", frame, family="poisson")
