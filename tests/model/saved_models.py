"""Fits of every kind, as results that are saved and loaded."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

import fits
import interlace
from dense import frame

Result = (
    interlace.CrossedLMEResult
    | interlace.CrossedGLMMResult
    | interlace.StructuredLMEResult
    | interlace.ScaledLMEResult
)


def _data(name: str) -> pd.DataFrame:
    return interlace.datasets.load(name)


def _by_label() -> Result:
    """Weights with labels, an offset without, text and numbers as levels, labels that are dates."""
    labels = pd.date_range("2026-01-01", periods=len(frame()), tz="Europe/Berlin", name="day")
    data = frame().set_index(labels)
    weights = pd.Series(data["w"].to_numpy()[::-1], labels[::-1])
    return interlace.fit(
        "y ~ x * f + (1 | g)", data, weights=weights, offset=np.linspace(0.0, 1.0, len(data))
    )


def _incomplete() -> Result:
    data = frame().assign(x=lambda d: d["x"].where(d.index % 9 != 4))
    data = data.set_index(["g", data.index])
    return interlace.fit("y ~ bs(x, df=4) + f:z", data.reset_index("g"), groups="g", ddf="KR")


def _sharp() -> Result:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(12), 5)
    y = 1e7 * rng.normal(size=12)[g] + rng.normal(size=60)
    return interlace.fit("y ~ x", {"y": y, "x": rng.normal(size=60), "g": g}, groups="g")


def _iterative() -> Result:
    return interlace.fit("y ~ x", frame(), groups=["g", "c"], solver="iterative")


def _answers() -> Result:
    data = frame().assign(answer=lambda d: np.where(d["y"] > d["y"].median(), "yes", "no"))
    return interlace.fit("answer ~ x", data, groups="g", family="binomial", link="probit")


def _general(family: object, **arguments: object) -> Result:
    cbpp = _data("cbpp")
    return interlace.fit("incidence ~ period", cbpp, groups="herd", family=family, **arguments)


def _count_frame() -> pd.DataFrame:
    """Counts, categories and amounts; with more rows than the frame has."""
    rng = np.random.default_rng(11)
    n = 240
    data = pd.DataFrame({"g": np.arange(n) % 12, "x": rng.uniform(-1.0, 1.0, n)})
    data["f"] = np.array(["p", "q", "r"])[rng.integers(0, 3, n)]
    data["z"] = rng.normal(size=n)
    mean = np.exp(1.0 + 0.5 * data["x"] + 0.4 * rng.normal(size=12)[data["g"]])
    data["count"] = rng.poisson(mean * rng.gamma(2.0, 0.5, n)) * (rng.random(n) > 0.25)
    data["few"] = np.minimum(data["count"], 3)
    data["y"] = np.log(mean) + rng.standard_t(4, n)
    data["amount"] = data["count"] * rng.gamma(2.0, 0.5, n)
    return data


def _counts(family: object, response: str = "count", **arguments: object) -> Result:
    return interlace.fit(
        f"{response} ~ x + f + (1 | g)", _count_frame(), family=family, **arguments
    )


def _ordinal() -> Result:
    data = _count_frame()
    labels = ["none", "one", "two", "more"]
    data["how"] = pd.Categorical.from_codes(data["few"], labels, ordered=True)
    return interlace.fit("how ~ x * f + (1 | g)", data, family="ordinal")


def _structured(formula: str, residual: object) -> Result:
    return interlace.fit(formula, _data("orthodont"), residual=residual, ddf="satterthwaite")


def _scaled(residual: str) -> Result:
    data = frame().assign(u=lambda d: 1.0 + np.abs(d["x"]))
    return interlace.fit("y ~ x + (1 | g) + (1 | c)", data, residual=residual)


LINEAR: dict[str, Callable[[], Result]] = {
    "sleep": lambda: fits.of_case("sleepstudy_slope"),
    "contrasts": lambda: fits.of_small(
        "y ~ scale(x) + C(f, contr.sum) + poly(z, 2) + (x | g/h) + (1 | c)", True
    ),
    "by label": _by_label,
    "incomplete": _incomplete,
    "refit": lambda: fits.of_small("y ~ x + (0 + f || g)").refit(1e-3 * frame()["y"][::-1]),
    "sums": lambda: interlace.fit(
        "y ~ x + (x | g)", interlace.cross_products("y ~ x + (x | g)", frame()), ddf="KR"
    ),
}
NEEDS_ROWS: dict[str, Callable[[], Result]] = {
    "sharp": _sharp,
    "binomial": lambda: _general("binomial", trials="size", quadrature=3),
    "answers": _answers,
    "negative binomial": lambda: _general(
        interlace.families.NegativeBinomial(kind=1), fixed_prior=10.0
    ),
    "poisson": lambda: _general("poisson", exposure="size", weights=np.ones(len(_data("cbpp")))),
    "reml": lambda: _general("binomial", trials="size", method="REML"),
    "ordinal": _ordinal,
    "numbered": lambda: _counts("ordinal", response="few", link="probit"),
    "inflated": lambda: _counts("negative-binomial", zero_inflation="~ C(f) * x"),
    "hurdle": lambda: _counts("truncated-poisson", zero_inflation="~ bs(x, df=3)"),
    "dispersion": lambda: _counts("negative-binomial", dispersion="~ z"),
    "both": lambda: _counts("negative-binomial", zero_inflation="~ 1", dispersion="~ f"),
    "heavy": lambda: _counts(interlace.families.StudentT(4.0), response="y"),
    "tweedie": lambda: _counts(interlace.families.Tweedie(1.4), response="amount"),
    "us": lambda: _structured("distance ~ Sex * age", "us(age | Subject)"),
    "by": lambda: _structured("distance ~ Sex * age", "cs(age | Subject, by=Sex)"),
    "strata": lambda: _structured("distance ~ age + (1 | Subject)", "varident(Sex)"),
    "crossed strata": lambda: _scaled("varident(f)"),
    "crossed power": lambda: _scaled("varpower(u)"),
    "times": lambda: _structured("distance ~ age + (1 | Subject)", ["car1(age | Subject)"]),
}
ALL = {**LINEAR, **NEEDS_ROWS, "iterative": _iterative}


@functools.cache
def fitted(name: str) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.SingularFitWarning)
        return ALL[name]()
