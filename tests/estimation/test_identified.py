"""What the data do not determine is named, and nothing else is."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import UndeterminedWarning, fit

pytestmark = pytest.mark.filterwarnings("ignore::interlace.SingularFitWarning")


def frame() -> pd.DataFrame:
    """24 groups of 10 rows; ``sex`` and ``three`` do not change within them, ``f`` is the group."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(24), 10)
    x, u = rng.normal(size=240), rng.normal(size=(2, 24))
    y = 1 + x + 2 * u[0, g] + 0.5 * u[1, g] * x + rng.normal(size=240)
    columns = {"y": y, "x": x, "z": rng.normal(size=240), "g": g, "g2": g + 100}
    columns |= {"sex": np.where(g % 2, "M", "F"), "three": np.array(list("rst"))[g % 3]}
    columns |= {"f": np.array([f"k{i}" for i in g]), "h": rng.integers(0, 8, 240)}
    return pd.DataFrame(columns)


def warned(formula: str, data: pd.DataFrame, **options: str) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fit(formula, data, **options)
    return [str(w.message) for w in seen if w.category is UndeterminedWarning]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize(
    ("formula", "method", "named", "instead"),
    [
        ("y ~ x + (sex | g)", "REML", ["'sex[T.M]'", "'g'"], "y ~ x + (1 | g)"),
        ("y ~ x + (sex | g)", "ML", ["'sex[T.M]'", "'g'"], "y ~ x + (1 | g)"),
        ("y ~ x + (three | g)", "REML", ["'three[T.s]'", "'three[T.t]'"], "y ~ x + (1 | g)"),
        ("y ~ x + (0 + three | g)", "REML", ["'three[r]'"], "y ~ x + (1 | g)"),
        ("y ~ x + (x*sex | g)", "REML", ["'x:sex[T.M]'"], "y ~ x + (1 + x | g)"),
        ("y ~ x + (1 | g) + (1 | g2)", "REML", ["'Intercept'", "'g2'"], "y ~ x + (1 | g)"),
        ("y ~ x + (x | g) + (1 | g2)", "REML", ["'Intercept'", "'g2'"], "y ~ x + (1 + x | g)"),
        ("y ~ x + f + (1 | h) + (1 | g)", "REML", ["'Intercept'", "'g'"], "y ~ x + f + (1 | h)"),
        ("y ~ x + f + (1 | g)", "REML", ["'Intercept'", "'g'"], "y ~ x + f"),
        ("y ~ x + f + (1 | g)", "ML", ["'Intercept'", "'g'"], "y ~ x + f"),
        ("y ~ x + f + (x | g)", "REML", ["'Intercept'", "'g'"], "y ~ x + f + (0 + x | g)"),
        ("y ~ x*f + (x | g)", "REML", ["'x'", "'Intercept'", "'g'"], "y ~ x*f"),
    ],
)
def test_what_is_open_is_named_with_the_model_to_fit(
    formula: str, method: str, named: list[str], instead: str, scale: float
) -> None:
    data = frame().assign(y=lambda d: scale * d["y"])
    (message,) = warned(formula, data, method=method)
    assert all(name in message for name in named)
    assert message.endswith(f": fit {instead} instead")
    if "|" in instead:
        assert warned(instead, data, method=method) == []


@pytest.mark.parametrize("method", ["REML", "ML"])
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | g)",
        "y ~ x + (x | g)",
        "y ~ x + (x || g)",
        "y ~ x + z + (x + z | g)",
        "y ~ x + (x*z | g) + (1 | h)",
        "y ~ x + (x*three | h)",
        "y ~ x + (sex || g)",
        "y ~ sex + (x | g) + (0 + sex || h)",
    ],
)
def test_no_false_alarm(formula: str, method: str) -> None:
    """Singular fits among them."""
    assert warned(formula, frame(), method=method) == []


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("dyestuff", "Yield ~ 1 + (1 | Batch)"),
        ("dyestuff2", "Yield ~ 1 + (1 | Batch)"),
        ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("pastes", "strength ~ 1 + (1 | batch/cask)"),
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
        ("orthodont", "distance ~ age * Sex + (age | Subject)"),
    ],
)
def test_no_false_alarm_on_classic_data(name: str, formula: str) -> None:
    assert warned(formula, interlace.datasets.load(name)) == []


def test_groups_far_larger_than_the_noise_are_determined() -> None:
    data = frame()
    data["y"] = 1e4 * data.groupby("g")["y"].transform("mean") + data["z"]
    assert warned("y ~ x + (x | g)", data) == []
    assert warned("y ~ x + (1 | g) + (1 | h)", data) == []


def test_such_parameters_are_left_out_of_tables() -> None:
    with pytest.warns(UndeterminedWarning, match=r"'Sex\[T.Female\]' by 'Subject'"):
        result = fit("distance ~ age * Sex + (Sex | Subject)", interlace.datasets.load("orthodont"))
    text = str(result.summary())
    assert "Sex[T.Female]         -          -      -" in text
    assert "(-) the data do not determine the variance of 'Sex[T.Female]'" in text
    table = result.tidy("ran_pars").set_index("term")[["estimate", "std.error"]]
    open_ = table.isna().all(axis=1)
    assert open_.tolist() == [False, True, True, False]
    components = result.variance_components["Subject"]
    assert np.isnan(components.to_numpy()).tolist() == [[False, True], [True, True]]
    assert np.isfinite(result.random_effects["Subject"].to_numpy()).all()


def test_a_regular_fit_pays_no_evaluation() -> None:
    result = fit("Reaction ~ Days + (Days | Subject)", interlace.datasets.load("sleepstudy"))
    assert not result.estimate.undetermined
    assert not result.estimate.undetermined.residual
