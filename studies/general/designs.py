"""The designs: rows that stay the same, and responses drawn from a known truth.

Covariates and groups are made once and kept; only random effects and responses differ between data
sets.  Three designs are tried with yes-or-no responses (or a few trials) and with counts; pairs of
rows and the like, with yes-or-no responses alone, show what Laplace's approximation is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Design:
    """One simulated situation.

    Attributes
    ----------
    family
        ``"binomial"`` or ``"poisson"``.
    frame
        The rows without the response; ``size`` holds trials.
    formula
        The model fitted.
    coefficients, sds
        The truth, by the names of the tables.
    strata
        Where each of them varies, in words.
    predictor
        ``rng -> eta`` (n,), random effects drawn.
    words
        What the design stands for.
    """

    name: str
    family: str
    frame: pd.DataFrame
    formula: str
    coefficients: Mapping[str, float]
    sds: Mapping[str, float]
    strata: Mapping[str, str]
    predictor: Callable[[np.random.Generator], Floats]
    words: str

    @property
    def truth(self) -> Mapping[str, float]:
        """All parameters that are judged."""
        return dict(self.coefficients) | dict(self.sds)

    def response(self, seed: np.random.SeedSequence) -> pd.DataFrame:
        """The frame with a response drawn from ``seed``."""
        rng = np.random.default_rng(seed)
        eta = self.predictor(rng)
        if self.family == "poisson":
            return self.frame.assign(y=rng.poisson(np.exp(eta)))
        size = self.frame["size"].to_numpy()
        return self.frame.assign(y=rng.binomial(size, 1.0 / (1.0 + np.exp(-eta))))


def clusters(family: str, *, groups: int = 40, rows: int = 5, sd: float = 1.0) -> Design:
    """Small groups; half of them are treated."""
    rng = np.random.default_rng(201)
    g = np.repeat(np.arange(groups), rows)
    x = rng.standard_normal(len(g)).round(2)
    treated = (g % 2).astype(float)
    frame = pd.DataFrame({"g": g, "treated": treated, "x": x, "size": 1})
    start = 0.5 if family == "poisson" else -0.3

    def predictor(rng: np.random.Generator) -> Floats:
        return start + 0.5 * x + sd * rng.standard_normal(groups)[g]

    return Design(
        name=f"{family}, clusters" if rows == 5 and sd == 1.0 else f"{rows} rows a group",
        family=family,
        frame=frame,
        formula="y ~ treated + x + (1 | g)",
        coefficients={"Intercept": start, "treated": 0.0, "x": 0.5},
        sds={"sd_Intercept|g": sd},
        strata={
            "Intercept": "between groups",
            "treated": "between groups",
            "x": "within groups",
            "sd_Intercept|g": "between groups",
        },
        predictor=predictor,
        words=f"{groups} groups of {rows} rows; half of the groups are treated, which in truth "
        f"changes nothing; a covariate varies within groups.",
    )


def crossed(family: str) -> Design:
    """Twenty subjects respond to twelve items."""
    rng = np.random.default_rng(202)
    subject, item = np.divmod(np.arange(20 * 12), 12)
    x = rng.standard_normal(len(subject)).round(2)
    old, hard = (subject % 2).astype(float), (item % 2).astype(float)
    frame = pd.DataFrame(
        {"subject": subject, "item": item, "old": old, "hard": hard, "x": x, "size": 1}
    )
    start = 0.5 if family == "poisson" else 0.2

    def predictor(rng: np.random.Generator) -> Floats:
        a, b = 0.7 * rng.standard_normal(20), 0.5 * rng.standard_normal(12)
        return start + 0.4 * x + a[subject] + b[item]

    return Design(
        name=f"{family}, crossed",
        family=family,
        frame=frame,
        formula="y ~ old + hard + x + (1 | subject) + (1 | item)",
        coefficients={"old": 0.0, "hard": 0.0, "x": 0.4},
        sds={"sd_Intercept|subject": 0.7, "sd_Intercept|item": 0.5},
        strata={
            "old": "between 20 subjects",
            "hard": "between 12 items",
            "x": "within cells",
            "sd_Intercept|subject": "between 20 subjects",
            "sd_Intercept|item": "between 12 items",
        },
        predictor=predictor,
        words="20 subjects, half of them old, respond to 12 items, half of them hard, which in "
        "truth changes nothing; `x` varies from cell to cell.",
    )


def slopes(family: str) -> Design:
    """Twenty-four subjects followed over eight visits, each with a trend of its own."""
    subject = np.repeat(np.arange(24), 8)
    time = np.tile(np.linspace(-1.0, 1.0, 8), 24).round(2)
    treated = (subject % 2).astype(float)
    size = 4 if family == "binomial" else 1
    frame = pd.DataFrame({"subject": subject, "treated": treated, "time": time, "size": size})
    sd, start = np.array([0.8, 0.5]), 0.5 if family == "poisson" else -0.3
    root = np.linalg.cholesky(np.outer(sd, sd) * [[1.0, 0.3], [0.3, 1.0]])

    def predictor(rng: np.random.Generator) -> Floats:
        b = rng.standard_normal((24, 2)) @ root.T
        return start + 0.3 * time + b[subject, 0] + b[subject, 1] * time

    return Design(
        name=f"{family}, slopes",
        family=family,
        frame=frame,
        formula="y ~ treated * time + (time | subject)",
        coefficients={"treated": 0.0, "time": 0.3, "treated:time": 0.0},
        sds={"sd_Intercept|subject": 0.8, "sd_time|subject": 0.5},
        strata=dict.fromkeys(
            ("treated", "time", "treated:time", "sd_Intercept|subject", "sd_time|subject"),
            "between subjects",
        ),
        predictor=predictor,
        words=f"24 subjects at 8 visits{', four trials each' if size == 4 else ''}; a random "
        f"intercept and slope, correlated 0.3. Half of the subjects are treated, which in truth "
        f"changes nothing.",
    )


MAIN: Mapping[str, Callable[[], Design]] = {
    f"{family}, {name}": partial(build, family)
    for name, build in (("clusters", clusters), ("crossed", crossed), ("slopes", slopes))
    for family in ("binomial", "poisson")
}
SMALL: Mapping[str, Callable[[], Design]] = {
    f"{rows} rows a group": partial(clusters, "binomial", groups=150, rows=rows, sd=1.5)
    for rows in (2, 3, 5)
}
DESIGNS = {**MAIN, **SMALL}
