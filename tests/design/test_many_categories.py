"""Categories so many that a column for each would fill the memory: counted before X is built."""

from __future__ import annotations

import numpy as np
import pytest

import interlace
from interlace.errors import InterlaceError

N = 15_000


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    g = rng.integers(0, 50, N)
    y = rng.normal(size=50)[g] + rng.normal(size=N)
    i = np.arange(N)
    return {"y": y, "x": rng.normal(size=N), "g": g, "i": i, "s": np.array([f"v{k}" for k in i])}


MANY = {
    "C(i)": "'C(i)' has 15,000 different values",
    "C(x)": "'C(x)' has 15,000 different values",
    "C(i // 2)": "'C(i // 2)' has 7,500 different values",
    "C(np.round(x, 4))": r"'C\(np.round\(x, 4\)\)' has 1\d,\d+ different values",
    "x:C(i)": "'C(i)' has 15,000 different values",
    "C(i % 200):C(i // 100)": "has 29,850 columns",
    "C(i, Treatment(3))": "has 15,000 different values",
}


@pytest.mark.parametrize("summand", MANY)
@pytest.mark.parametrize("random", [False, True])
def test_they_are_refused_before_a_column_is_made(summand: str, random: bool) -> None:
    frame = data()
    formula = f"y ~ 1 + ({summand} | g)" if random else f"y ~ {summand} + (1 | g)"
    message = MANY[summand]
    pattern = message if "\\" in message else message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InterlaceError, match=pattern) as caught:
        interlace.fit(formula, frame)
    assert "group" in str(caught.value) and "cannot be evaluated" not in str(caught.value)


def test_as_many_as_usual_are_fitted() -> None:
    frame = {name: column[:3000] for name, column in data().items()}
    result = interlace.fit("y ~ C(i // 30) + (1 | g)", frame)
    assert len(result.fe_params) == 100


def test_many_values_that_are_numbers_are_numbers() -> None:
    result = interlace.fit("y ~ np.exp(x) + i + (1 | g)", data())
    assert len(result.fe_params) == 3
