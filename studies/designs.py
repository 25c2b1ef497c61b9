"""The three designs: rows that stay the same, and responses drawn from a known truth.

Covariates, groups and missing cells are drawn once, from the design's own seed, and kept: all the
theory is conditional on them.  Only random effects and residuals differ between data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """A parameter: its true value, and the degrees of freedom that carry its information.

    ``stratum`` says in words where it varies.  ``df`` counts the units whose means (for a
    coefficient) or whose spread (for a standard deviation) decide the parameter, less what else is
    estimated from them.
    """

    truth: float
    stratum: str
    df: int


@dataclass(frozen=True, eq=False)
class Design:
    """One simulated situation.

    Attributes
    ----------
    frame
        The rows without the response, ``n`` of them.
    formula, null
        The model fitted, and the same without the coefficients of ``joint``.
    coefficients
        Targets among the fixed effects by formulaic's names; all others are nuisances.
    joint
        Coefficients, truly zero, that are tested together; ``term`` is the same hypothesis as a
        row of the analysis-of-variance table, if it is one.
    sds
        True standard deviations by the names of the bootstrap and profile tables.
    draw
        ``rng -> y`` (n,).
    balanced
        Whether Satterthwaite's and Kenward-Roger's tests are exact (as long as no variance is
        estimated as zero) rather than approximations.
    nested
        Whether one factor contains all others, so that its groups can be drawn as wholes.
    slopes
        Whether random slopes vary beside random intercepts.
    words
        What the design stands for, in a sentence or two.
    """

    name: str
    frame: pd.DataFrame
    formula: str
    null: str
    coefficients: Mapping[str, Target]
    joint: tuple[str, ...]
    term: str | None
    sds: Mapping[str, Target]
    draw: Callable[[np.random.Generator], Floats]
    balanced: bool
    nested: bool
    slopes: bool
    words: str

    @property
    def targets(self) -> Mapping[str, Target]:
        """All parameters whose intervals are judged."""
        return dict(self.coefficients) | dict(self.sds)

    def response(self, seed: np.random.SeedSequence) -> pd.DataFrame:
        """The frame with a response drawn from ``seed``."""
        return self.frame.assign(y=self.draw(np.random.default_rng(seed)))


def growth() -> Design:
    """Ten subjects measured 4 to 8 times each; half of them are treated."""
    rng = np.random.default_rng(101)
    sizes = [4, 8, 5, 7, 6, 6, 7, 5, 8, 4]
    times = [np.sort(rng.choice(10, size, replace=False)) for size in sizes]
    subject = np.repeat(np.arange(10), sizes)
    time = np.concatenate(times).astype(float)
    treated = (subject % 2).astype(float)
    frame = pd.DataFrame({"subject": subject, "treated": treated, "time": time})
    sd = np.array([1.5, 0.5])
    root = np.linalg.cholesky(np.outer(sd, sd) * [[1.0, 0.3], [0.3, 1.0]])

    def draw(rng: np.random.Generator) -> Floats:
        b = rng.standard_normal((10, 2)) @ root.T
        noise = rng.standard_normal(len(time))
        return 10.0 + time + b[subject, 0] + b[subject, 1] * time + noise

    return Design(
        name="growth",
        frame=frame,
        formula="y ~ treated * time + (time | subject)",
        null="y ~ time + (time | subject)",
        coefficients={
            "treated": Target(0.0, "between subjects", 8),
            "time": Target(1.0, "between subjects", 8),
            "treated:time": Target(0.0, "between subjects", 8),
        },
        joint=("treated", "treated:time"),
        term=None,
        sds={
            "sd_Intercept|subject": Target(1.5, "between subjects", 8),
            "sd_time|subject": Target(0.5, "between subjects", 8),
            "sigma": Target(1.0, "within subjects", 40),
        },
        draw=draw,
        balanced=False,
        nested=True,
        slopes=True,
        words="Ten subjects, 4 to 8 measurements each at irregular times; a random intercept and "
        "slope, correlated 0.3. Five subjects are treated, which in truth changes nothing.",
    )


def crossed() -> Design:
    """Twelve subjects see nine items, a tenth of the cells is missing."""
    rng = np.random.default_rng(102)
    cells = np.sort(rng.choice(12 * 9, 97, replace=False))
    subject, item = np.divmod(cells, 9)
    x = rng.standard_normal(len(cells)).round(2)
    frame = pd.DataFrame(
        {
            "subject": subject,
            "item": item,
            "condition": np.array(["a", "b", "c"])[item % 3],
            "old": (subject % 2).astype(float),
            "x": x,
        }
    )

    def draw(rng: np.random.Generator) -> Floats:
        a, b = rng.standard_normal(12), 0.8 * rng.standard_normal(9)
        return 5.0 + 0.5 * x + a[subject] + b[item] + rng.standard_normal(len(x))

    return Design(
        name="crossed",
        frame=frame,
        formula="y ~ condition + old + x + (1 | subject) + (1 | item)",
        null="y ~ old + x + (1 | subject) + (1 | item)",
        coefficients={
            "condition[T.b]": Target(0.0, "between items", 6),
            "condition[T.c]": Target(0.0, "between items", 6),
            "old": Target(0.0, "between subjects", 10),
            "x": Target(0.5, "within cells", 75),
        },
        joint=("condition[T.b]", "condition[T.c]"),
        term="condition",
        sds={
            "sd_Intercept|subject": Target(1.0, "between subjects", 10),
            "sd_Intercept|item": Target(0.8, "between items", 6),
            "sigma": Target(1.0, "within cells", 75),
        },
        draw=draw,
        balanced=False,
        nested=False,
        slopes=False,
        words="Twelve subjects, half of them old, respond to nine items, three in each condition; "
        "11 of the 108 cells are missing; `x` varies from cell to cell. Neither the condition nor "
        "age has an effect.",
    )


def nested() -> Design:
    """Six schools of four classes of five pupils; three schools and half the classes differ."""
    rng = np.random.default_rng(103)
    klass = np.repeat(np.arange(24), 5)
    school = klass // 4
    x = np.concatenate([rng.permutation(np.arange(-2.0, 3.0)) for _ in range(24)])
    frame = pd.DataFrame(
        {
            "school": school,
            "klass": klass,
            "arm": (school % 2).astype(float),
            "method": (klass % 2).astype(float),
            "x": x,
        }
    )

    def draw(rng: np.random.Generator) -> Floats:
        a, b = 1.2 * rng.standard_normal(6), 0.6 * rng.standard_normal(24)
        return 50.0 + a[school] + b[klass] + rng.standard_normal(len(x))

    return Design(
        name="nested",
        frame=frame,
        formula="y ~ arm + method + x + (1 | school / klass)",
        null="y ~ method + (1 | school / klass)",
        coefficients={
            "arm": Target(0.0, "between schools", 4),
            "method": Target(0.0, "between classes", 17),
            "x": Target(0.0, "within classes", 95),
        },
        joint=("arm", "x"),
        term=None,
        sds={
            "sd_Intercept|school": Target(1.2, "between schools", 4),
            "sd_Intercept|school:klass": Target(0.6, "between classes", 17),
            "sigma": Target(1.0, "within classes", 95),
        },
        draw=draw,
        balanced=True,
        nested=True,
        slopes=False,
        words="Six schools of four classes of five pupils. Three schools are in the other arm, two "
        "classes of each school are taught by another method, and a pupil-level covariate takes "
        "the same five values in every class. Nothing has an effect.",
    )


DESIGNS: Mapping[str, Callable[[], Design]] = {
    "growth": growth,
    "crossed": crossed,
    "nested": nested,
}
