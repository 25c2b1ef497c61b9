"""``theta`` stands in lme4's order, which depends on whether lme4 has to sort the terms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.design.formula import parse
from interlace.design.order import listed_by_lme4
from interlace.estimation.parameters import theta_names

# Names of getME(model, "theta") of lme4 1.1-31, for 15 levels of g, 8 of h, 10 of c, 6 of a and b.
LME4 = {
    "(x || h) + (1 | g)": "g.Intercept h.x h.Intercept",
    "(1 | h) + (x || g)": "g.x g.Intercept h.Intercept",
    "(1 | h) + (x || g) + (1 | c)": "g.x g.Intercept c.Intercept h.Intercept",
    "(1 | a) + (0 + x | a) + (1 | g)": "g.Intercept a.x a.Intercept",
    "(1 | a) + (1 | b) + (1 | c)": "c.Intercept b.Intercept a.Intercept",
    "(1 | a) + (1 | c) + (1 | b)": "c.Intercept b.Intercept a.Intercept",
    "(1 | c) + (1 | a) + (1 | b)": "c.Intercept a.Intercept b.Intercept",
    "(x || g) + (z || h)": "g.Intercept g.x h.Intercept h.z",
    "(1 | a/h) + (1 | b)": "a:h.Intercept a.Intercept b.Intercept",
    "(1 | b) + (1 | a/h)": "a:h.Intercept a.Intercept b.Intercept",
    "(x || a/h) + (1 | b)": "a:h.x a:h.Intercept b.Intercept a.x a.Intercept",
    "(x | a) + (z | b) + (1 | g)": (
        "g.Intercept b.Intercept b.z.Intercept b.z a.Intercept a.x.Intercept a.x"
    ),
    "(1 | h) + (1 + x + z || g)": "g.z g.x g.Intercept h.Intercept",
}


def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 200
    sizes = {"g": 15, "h": 8, "c": 10, "a": 6, "b": 6}
    codes = {name: rng.permutation(np.arange(n) % size) for name, size in sizes.items()}
    x, z = rng.normal(size=(2, n))
    y = rng.normal(size=n) + rng.normal(size=15)[codes["g"]] + rng.normal(size=8)[codes["h"]] * x
    labels = {name: [f"{name}{i}" for i in values] for name, values in codes.items()}
    return pd.DataFrame({"y": y, "x": x, "z": z, **labels})


@pytest.mark.filterwarnings("ignore::interlace.errors.SingularFitWarning")
@pytest.mark.parametrize("random", LME4)
def test_theta_is_in_lme4s_order(random: str) -> None:
    result = interlace.fit(f"y ~ x + {random}", data())
    assert " ".join(theta_names(result.estimate.A.terms)) == LME4[random]
    again = result.estimate.criterion.at_theta(result.theta)
    assert again.value == pytest.approx(result.criterion, abs=1e-6)
    for key, effects in result.random_effects.items():
        if isinstance(effects, pd.DataFrame):  # shown in the order of the formula all the same
            assert effects.columns[0] == "Intercept"
            components = result.variance_components[key]
            assert isinstance(components, pd.DataFrame)
            assert list(components.index) == list(effects.columns)


def test_nestings_stand_from_the_inside_out() -> None:
    terms = parse("y ~ 1 + (1 | a/b/c) + (1 | d)").random
    assert listed_by_lme4(terms, [3, 9, 27, 3], [1, 1, 1, 1]) == ([2, 1, 0, 3], False)
    assert listed_by_lme4(terms, [3, 9, 27, 4], [1, 1, 1, 1]) == ([2, 1, 3, 0], True)
    apart = parse("y ~ 1 + (1 | a) + (x | a:b)").random
    assert listed_by_lme4(apart, [3, 9], [1, 2]) == ([1, 0], True)
