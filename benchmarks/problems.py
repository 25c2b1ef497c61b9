"""The data sets and models that are timed, each made from a fixed seed or a public file."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Factor:
    """A grouping or categorical column: codes (n,) into labels."""

    codes: Codes
    labels: tuple[str, ...]


Columns = dict[str, "Floats | Factor"]


def products(expr: str) -> list[tuple[str, ...]]:
    """Columns of a sum of constants, numbers and full products: ``1 + a*b`` is (), a, b, a b."""
    out: list[tuple[str, ...]] = []
    for part in expr.split(" + "):
        names = [] if part == "1" else part.split("*")
        for size in range(min(1, len(names)), len(names) + 1):
            out += itertools.combinations(names, size)
    return out


@dataclass(frozen=True)
class Term:
    """One random term, ``(expr | groups)``; two groups mean their interaction ``a:b``."""

    expr: str
    groups: tuple[str, ...]

    @property
    def key(self) -> str:
        return ":".join(self.groups)


@dataclass(frozen=True)
class Problem:
    """One model and the function that makes its data.

    ``family`` is that of a generalised model, whose ``trials`` may be a column. ``tolerance`` is
    the largest accepted excess of a peer's criterion over the lowest one.
    """

    name: str
    title: str
    response: str
    fixed: str
    terms: tuple[Term, ...]
    make: Callable[[], Columns]
    tolerance: float = 1e-3
    quick: bool = False
    family: str = ""
    trials: str = ""

    @property
    def formula(self) -> str:
        bars = " + ".join(f"({t.expr} | {t.key})" for t in self.terms)
        return f"{self.response} ~ {self.fixed} + {bars}"


def numbered(codes: NDArray[np.integer[Any]], prefix: str, *, count: int) -> Factor:
    """Codes 0..count-1 as a factor with labels ``prefix`` + number."""
    return Factor(codes.astype(np.int32), tuple(f"{prefix}{i}" for i in range(1, count + 1)))


def shipped(name: str, *columns: str) -> Columns:
    """Columns of a data set that interlace ships, categories as factors."""
    from interlace import datasets  # here, so that workers of other packages need no interlace

    frame = datasets.load(name)
    return {column: plain(frame[column]) for column in columns}


def plain(series: pd.Series) -> Floats | Factor:
    if series.dtype.name == "category":
        labels = tuple(str(label) for label in series.cat.categories)
        return Factor(series.cat.codes.to_numpy().astype(np.int32), labels)
    return series.to_numpy(np.float64)


def sleepstudy() -> Columns:
    return shipped("sleepstudy", "Reaction", "Days", "Subject")


def penicillin() -> Columns:
    return shipped("penicillin", "diameter", "plate", "sample")


def insteval() -> Columns:
    """73,421 ratings of lectures: by student, lecturer and department."""
    return shipped("insteval", "y", "service", "s", "d", "dept")


def insteval_subset() -> Columns:
    """The ratings of every 40th student: 1,877 rows."""
    columns = insteval()
    student = columns["s"]
    assert isinstance(student, Factor)
    rows = student.codes % 40 == 0
    return {name: taken(column, rows) for name, column in columns.items()}


def taken(column: Floats | Factor, rows: NDArray[np.bool_]) -> Floats | Factor:
    """The rows of a column, without the levels that no longer occur."""
    if not isinstance(column, Factor):
        return column[rows]
    kept, codes = np.unique(column.codes[rows], return_inverse=True)
    return Factor(codes.astype(np.int32), tuple(column.labels[code] for code in kept))


def cake() -> Columns:
    """270 breakage angles: 3 recipes x 6 temperatures in 45 replicates."""
    return shipped("cake", "angle", "recipe", "temperature", "replicate")


def exam() -> Columns:
    """300 scores of 30 students in 10 schools, crossed."""
    return shipped("exam", "score", "hours_studied", "prior_gpa", "student_id", "school_id")


def factorial(n_factors: int) -> Floats:
    """Model matrix (2^f, 2^f) of f two-level factors coded -0.5, 0.5, with all interactions."""
    one = np.array([[1.0, -0.5], [1.0, 0.5]])
    out = np.ones((1, 1))
    for _ in range(n_factors):
        out = np.kron(one, out)
    return out


def covariance_root(rng: np.random.Generator, *, size: int, rank: int) -> Floats:
    """A root (size, rank) of a random-effect covariance: a large intercept, smaller slopes."""
    root = rng.normal(size=(size, rank))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    sds = np.r_[1.0, np.full(size - 1, 0.6)]
    scaled: Floats = sds[:, None] * root
    return scaled


def maximal(n_factors: int, *, rank: int, seed: int) -> Columns:
    """56 subjects x 32 items in a Latin square of 2^f conditions, all slopes within both."""
    rng = np.random.default_rng(seed)
    n_subjects, n_items, cells = 56, 32, 2**n_factors
    subject, item = (a.ravel() for a in np.indices((n_subjects, n_items)))
    Z = factorial(n_factors)[(subject + item) % cells]
    effects = [
        rng.normal(size=(size, rank)) @ covariance_root(rng, size=cells, rank=rank).T
        for size in (n_subjects, n_items)
    ]
    mean = Z @ np.r_[5.0, rng.normal(size=cells - 1)]
    y = mean + (Z * effects[0][subject]).sum(1) + (Z * effects[1][item]).sum(1)
    columns: Columns = {name: Z[:, 2**k].copy() for k, name in enumerate("abc"[:n_factors])}
    columns["y"] = y + rng.normal(size=y.size)
    columns["subject"] = numbered(subject, "S", count=n_subjects)
    columns["item"] = numbered(item, "I", count=n_items)
    return columns


def crossed(n: int, *, sizes: tuple[int, int] = (50_000, 2_000), seed: int = 11) -> Columns:
    """n rows at random in two crossed factors, one covariate."""
    rng = np.random.default_rng(seed)
    g, h = (rng.integers(size, size=n) for size in sizes)
    x = rng.normal(size=n)
    u, v = (sd * rng.normal(size=size) for sd, size in zip((0.8, 0.5), sizes, strict=True))
    y = 1.0 + 0.3 * x + u[g] + v[h] + rng.normal(size=n)
    return {
        "y": y,
        "x": x,
        "g": numbered(g, "g", count=sizes[0]),
        "h": numbered(h, "h", count=sizes[1]),
    }


def balanced(n: int, *, seed: int = 14) -> Columns:
    """n rows over all cells of 200 x 50 levels in turn, so that every n has the same structure."""
    rng = np.random.default_rng(seed)
    g, h = np.divmod(np.arange(n) % 10_000, 50)
    x = rng.normal(size=n)
    u, v = rng.normal(size=200), rng.normal(size=50)
    y = 1.0 + 0.3 * x + 0.8 * u[g] + 0.5 * v[h] + rng.normal(size=n)
    return {
        "y": y,
        "x": x,
        "g": numbered(g, "g", count=200),
        "h": numbered(h, "h", count=50),
    }


def slope(n: int, *, levels: int = 10_000, seed: int = 12) -> Columns:
    """n rows, one factor with a correlated intercept and slope."""
    rng = np.random.default_rng(seed)
    g = rng.integers(levels, size=n)
    x = rng.normal(size=n)
    u = rng.normal(size=(levels, 2)) @ np.array([[0.8, 0.2], [0.0, 0.4]])
    y = 1.0 + 0.3 * x + u[g, 0] + u[g, 1] * x + rng.normal(size=n)
    return {"y": y, "x": x, "g": numbered(g, "g", count=levels)}


def nested(n: int, *, schools: int = 2_000, classes: int = 50, seed: int = 13) -> Columns:
    """Rows in classes in schools; the class labels repeat from school to school."""
    rng = np.random.default_rng(seed)
    unit = np.arange(n) % (schools * classes)
    school, room = np.divmod(unit, classes)
    x = rng.normal(size=n)
    u, v = 0.5 * rng.normal(size=schools), 0.4 * rng.normal(size=schools * classes)
    return {
        "y": 1.0 + 0.3 * x + u[school] + v[unit] + rng.normal(size=n),
        "x": x,
        "school": numbered(school, "s", count=schools),
        "room": numbered(room, "c", count=classes),
    }


def maximal_problem(n_factors: int, *, singular: bool, seed: int) -> Problem:
    size = 2**n_factors
    expr = "1 + " + "*".join("abc"[:n_factors])
    rank = 2 if singular else size
    truth = "singular" if singular else "full"
    return Problem(
        name=f"maximal{size}-{truth}-{seed}",
        title=f"maximal, two {size}x{size} terms, {truth} truth, seed {seed}",
        response="y",
        fixed=expr,
        terms=(Term(expr, ("subject",)), Term(expr, ("item",))),
        make=partial(maximal, n_factors, rank=rank, seed=seed),
        tolerance=1e-2,
        quick=size == 4 and seed == 1,
    )


def intercepts(*groups: str) -> tuple[Term, ...]:
    return tuple(Term("1", (group,)) for group in groups)


MILLION = 1_000_000

PROBLEMS: tuple[Problem, ...] = (
    Problem(
        name="sleepstudy",
        title="sleepstudy slopes, 180 rows",
        response="Reaction",
        fixed="1 + Days",
        terms=(Term("1 + Days", ("Subject",)),),
        make=sleepstudy,
        quick=True,
    ),
    Problem(
        name="penicillin",
        title="penicillin, 144 rows, 24 x 6 crossed",
        response="diameter",
        fixed="1",
        terms=intercepts("plate", "sample"),
        make=penicillin,
        quick=True,
    ),
    *(
        maximal_problem(n_factors, singular=singular, seed=seed)
        for n_factors in (2, 3)
        for singular in (False, True)
        for seed in (1, 2, 3)
    ),
    Problem(
        name="insteval",
        title="InstEval, 73,421 rows, 2,972 x 1,128 x 14 crossed, one fixed effect",
        response="y",
        fixed="1 + service",
        terms=intercepts("s", "d", "dept"),
        make=insteval,
        quick=True,
    ),
    Problem(
        name="insteval-null",
        title="InstEval, intercept only",
        response="y",
        fixed="1",
        terms=intercepts("s", "d", "dept"),
        make=insteval,
    ),
    Problem(
        name="slope-1e6",
        title="1e6 rows, one slope term of 10,000 levels",
        response="y",
        fixed="1 + x",
        terms=(Term("1 + x", ("g",)),),
        make=partial(slope, MILLION),
    ),
    Problem(
        name="crossed-1e6",
        title="1e6 rows, 50,000 x 2,000 crossed intercepts",
        response="y",
        fixed="1 + x",
        terms=intercepts("g", "h"),
        make=partial(crossed, MILLION),
        tolerance=1e-2,  # several standard errors of a criterion from random probes
    ),
    Problem(
        name="nested-1e6",
        title="1e6 rows, 2,000 schools with 100,000 classes",
        response="y",
        fixed="1 + x",
        terms=(Term("1", ("school",)), Term("1", ("school", "room"))),
        make=partial(nested, MILLION),
    ),
)

# The same cells at growing n: the time of one evaluation must stay where it is.
GROWTH: tuple[Problem, ...] = tuple(
    Problem(
        name=f"growth-{n}",
        title=f"{n:,} rows in the same 200 x 50 cells",
        response="y",
        fixed="1 + x",
        terms=intercepts("g", "h"),
        make=partial(balanced, n),
    )
    for n in (10_000, 100_000, MILLION)
)
