"""Variances of generalised models that the data do not determine, and no false alarm."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.errors import UndeterminedWarning


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Counts and binary responses; ``sex`` is one a group, and ``same`` names the groups anew."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 12)
    x, z = rng.normal(size=(2, 240))
    effect = 0.5 * rng.normal(size=20)[group]
    data = {"g": group, "x": x, "z": z, "sex": np.where(group % 2, "M", "F"), "same": group + 100}
    data |= {"count": rng.poisson(np.exp(0.3 * x + effect)), "pair": np.arange(240) // 2}
    data["yes"] = (rng.random(240) < 1.0 / (1.0 + np.exp(-x - effect))).astype(int)
    return pd.DataFrame(data)


OPEN = [
    ("x * sex + (sex | g)", "the variance of 'sex[T.M]' by 'g' in (1 + sex | g): fit"),
    ("x + (1 | g) + (1 | same)", "the variance of 'Intercept' by 'same' in (1 | same): fit"),
    ("x + (0 + sex | g)", "by 'g' in (0 + sex | g): fit"),
]
DETERMINED = [
    "x + (1 | g)",
    "x + (x | g)",
    "x + (x || g)",
    "x + z + (x + z || g)",
    "x * sex + (x | g)",
    "x + (1 | g) + (1 | pair)",
    "x * sex + (sex || g)",
]


def said(
    formula: str, frame: pd.DataFrame, family: str
) -> tuple[list[str], interlace.CrossedGLMMResult]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = interlace.fit(formula, frame, family=family)
    return [str(w.message) for w in seen if w.category is UndeterminedWarning], found


@pytest.mark.parametrize(("rest", "words"), OPEN)
def test_what_the_data_leave_open_is_named(frame, rest: str, words: str) -> None:
    messages, found = said(f"count ~ {rest}", frame, "poisson")
    assert len(messages) == 1 and words in messages[0]
    shown = found.variance_components
    assert any(np.isnan(np.atleast_1d(one)).any() for one in shown.values())
    assert "-" in str(found.summary())
    simpler = messages[0].split(": fit ")[1].removesuffix(" instead")
    again, other = said(simpler, frame, "poisson")
    assert again == []
    assert other.llf <= found.llf + 1e-4
    if "same" in rest:
        assert other.llf == pytest.approx(found.llf, abs=1e-4)


@pytest.mark.parametrize("family", ["poisson", "binomial"])
@pytest.mark.parametrize("rest", DETERMINED)
def test_what_they_determine_is_no_alarm(frame, rest: str, family: str) -> None:
    response = "count" if family == "poisson" else "yes"
    assert said(f"{response} ~ {rest}", frame, family)[0] == []
