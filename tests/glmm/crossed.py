"""Generalised models with crossed and nested terms and slopes, for two solvers to be compared."""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

import interlace


@dataclass(frozen=True)
class Case:
    """A design: levels of ``a, b, c`` (``c`` of three crossed terms, or ``a`` within ``c``)."""

    name: str
    formula: str
    family: object
    n: int
    levels: tuple[int, ...]
    sds: tuple[float, ...]
    slopes: tuple[float, ...] = ()
    nested: bool = False
    quick: bool = False
    options: tuple[tuple[str, object], ...] = ()

    def data(self) -> pd.DataFrame:
        """Rows with levels of uneven frequency."""
        rng = np.random.default_rng(len(self.name) + self.n)
        n, codes = self.n, []
        for l in self.levels:
            share = rng.gamma(1.5, 1.0, l) + 0.1
            codes.append(rng.choice(l, n, p=share / share.sum()))
        if self.nested:
            codes[2] = codes[0] % self.levels[2]
        x = rng.normal(size=n)
        eta = 0.3 + 0.4 * x
        for code, l, sd in zip(codes, self.levels, self.sds, strict=True):
            eta = eta + sd * rng.normal(size=l)[code]
        for code, l, sd in zip(codes, self.levels, self.slopes, strict=False):
            eta = eta + sd * rng.normal(size=l)[code] * x
        columns = dict(zip("abc", codes, strict=False))
        hours = rng.uniform(0.5, 2.0, n)
        y = self._drawn(rng, eta, hours)
        return pd.DataFrame({"y": y, "x": x, "hours": hours, "size": 6, **columns})

    def _drawn(self, rng, eta, hours):
        name = self.family if isinstance(self.family, str) else self.family.name
        if name == "binomial":
            trials = dict(self.options).get("trials")
            return rng.binomial(6 if trials else 1, expit(eta)).astype(float)
        if name == "ordinal":
            found = np.digitize(eta + rng.logistic(size=len(eta)), [-0.7, 0.6, 1.5])
            return pd.Categorical.from_codes(found, list("lmhx"), ordered=True)
        if name == "beta":
            return np.clip(rng.beta(8.0 * expit(eta), 8.0 * expit(-eta)), 1e-4, 1.0 - 1e-4)
        if name == "student-t":
            return eta + 0.5 * rng.standard_t(5, len(eta))
        if name == "gamma":
            return rng.gamma(3.0, np.exp(eta) / 3.0) + 1e-9
        mean = np.exp(eta) * (hours if dict(self.options).get("exposure") else 1.0)
        if name == "negative-binomial":
            mean = mean * rng.gamma(2.0, 0.5, len(eta))
        present = rng.random(len(eta)) > (0.25 if dict(self.options).get("zero_inflation") else 0.0)
        return rng.poisson(mean) * present.astype(float)

    def fit(self, solver, **more):
        return interlace.fit(
            self.formula,
            self.data(),
            family=self.family,
            solver=solver,
            **dict(self.options),
            **more,
        )


TWO = "y ~ x + (1 | a) + (1 | b)"
THREE = "y ~ x + (1 | a) + (1 | b) + (1 | c)"
SLOPE = "y ~ x + (1 + x | a) + (1 | b)"
SLOPES = "y ~ x + (1 + x | a) + (1 + x | b)"
APART = "y ~ x + (1 + x || a) + (1 | b)"

CASES = (
    Case("binomial two", TWO, "binomial", 3000, (200, 110), (0.8, 0.6), quick=True),
    Case("binomial three", THREE, "binomial", 6000, (300, 110, 80), (0.8, 0.6, 0.4)),
    Case("binomial nested", THREE, "binomial", 6000, (300, 110, 30), (0.7, 0.6, 0.5), nested=True),
    Case("binomial slope", SLOPE, "binomial", 6000, (200, 120), (0.8, 0.6), (0.5,)),
    Case(
        "trials",
        SLOPES,
        "binomial",
        4000,
        (200, 120),
        (0.8, 0.6),
        (0.5, 0.3),
        options=(("trials", "size"),),
        quick=True,
    ),
    Case("poisson two", TWO, "poisson", 6000, (300, 150), (0.5, 0.4)),
    Case(
        "poisson nested",
        THREE,
        "poisson",
        4000,
        (240, 120, 24),
        (0.5, 0.4, 0.3),
        nested=True,
        options=(("exposure", "hours"),),
        quick=True,
    ),
    Case("poisson slopes", SLOPES, "poisson", 8000, (300, 150), (0.5, 0.4), (0.3, 0.2)),
    Case("poisson apart", APART, "poisson", 6000, (300, 150), (0.5, 0.4), (0.3,)),
    Case(
        "negative binomial two", TWO, "negative-binomial", 4000, (200, 110), (0.6, 0.5), quick=True
    ),
    Case(
        "negative binomial slope", SLOPE, "negative-binomial", 8000, (300, 130), (0.6, 0.5), (0.3,)
    ),
    Case(
        "negative binomial three", THREE, "negative-binomial", 8000, (300, 110, 70), (0.6, 0.5, 0.3)
    ),
    Case("gamma two", TWO, "gamma", 5000, (200, 110), (0.5, 0.4), options=(("link", "log"),)),
    Case(
        "gamma nested",
        THREE,
        "gamma",
        6000,
        (240, 110, 24),
        (0.5, 0.4, 0.3),
        nested=True,
        options=(("link", "log"),),
    ),
    Case(
        "gamma slopes",
        SLOPES,
        "gamma",
        8000,
        (240, 130),
        (0.5, 0.4),
        (0.3, 0.2),
        options=(("link", "log"),),
    ),
    Case(
        "probit two", TWO, "binomial", 6000, (300, 130), (0.6, 0.5), options=(("link", "probit"),)
    ),
    Case("ordinal two", TWO, "ordinal", 4000, (150, 100), (0.5, 0.4)),
    Case("beta two", TWO, "beta", 4000, (150, 100), (0.5, 0.4)),
    Case("student two", TWO, "student-t", 4000, (150, 100), (0.5, 0.4)),
    Case(
        "zeros two",
        TWO,
        "negative-binomial",
        4000,
        (150, 100),
        (0.5, 0.4),
        options=(("zero_inflation", "~ x"),),
    ),
)
BY_NAME = {case.name: case for case in CASES}


@functools.cache
def fitted(name: str, solver: str) -> interlace.CrossedGLMMResult:
    """A fit, shared by tests."""
    return BY_NAME[name].fit(solver)
