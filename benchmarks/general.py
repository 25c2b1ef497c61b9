"""Problems of generalised models: yes-no outcomes and counts."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.problems import (
    MILLION,
    Columns,
    Factor,
    Floats,
    Problem,
    Term,
    insteval,
    intercepts,
    numbered,
    shipped,
)


def as_numbers(column: Floats | Factor, label: str) -> Floats:
    """1 where a factor has this label, 0 elsewhere."""
    assert isinstance(column, Factor)
    return (column.codes == column.labels.index(label)).astype(np.float64)


def contraception() -> Columns:
    """1,934 women in 60 districts."""
    columns = shipped("contraception", "use", "age", "livch", "urban", "district")
    age = columns["age"]
    assert not isinstance(age, Factor)
    return {**columns, "y": as_numbers(columns["use"], "Y"), "age2": age**2}


def verbagg() -> Columns:
    """316 people's answers to 24 questions."""
    columns = shipped("verbagg", "Anger", "Gender", "btype", "situ", "id", "item", "r2")
    return {**columns, "y": as_numbers(columns["r2"], "Y")}


def above_three() -> Columns:
    """Whether a lecture was rated above three."""
    columns = insteval()
    y = columns["y"]
    assert not isinstance(y, Factor)
    return {**columns, "y": (y > 3.0).astype(np.float64)}


def drawn(rng: np.random.Generator, eta: Floats) -> Floats:
    """Yes or no with these log odds."""
    answers: Floats = (rng.random(len(eta)) < 1.0 / (1.0 + np.exp(-eta))).astype(np.float64)
    return answers


def counts_nested(seed: int = 21) -> Columns:
    """30,000 counts, ten in each of 3,000 levels nested in 150."""
    rng = np.random.default_rng(seed)
    b, a = np.repeat(np.arange(3_000), 10), np.repeat(np.arange(150), 200)
    x = rng.normal(size=len(a))
    u, v = 0.5 * rng.normal(size=150), 0.4 * rng.normal(size=3_000)
    y = rng.poisson(np.exp(0.4 + 0.3 * x + u[a] + v[b])).astype(np.float64)
    return {"y": y, "x": x, "a": numbered(a, "a", count=150), "b": numbered(b, "b", count=3_000)}


def answers_crossed(seed: int = 22) -> Columns:
    """100,000 answers: 50 of each of 2,000 people, to 200 items."""
    rng = np.random.default_rng(seed)
    s = np.repeat(np.arange(2_000), 50)
    item = np.concatenate([rng.permutation(200)[:50] for _ in range(2_000)])
    x = rng.normal(size=len(s))
    u = rng.normal(size=(2_000, 2)) @ np.linalg.cholesky([[1.0, 0.2], [0.2, 0.25]]).T
    eta = -0.5 + 0.6 * x + u[s, 0] + u[s, 1] * x + 0.8 * rng.normal(size=200)[item]
    groups = {"s": numbered(s, "s", count=2_000), "item": numbered(item, "i", count=200)}
    return {"y": drawn(rng, eta), "x": x, **groups}


def million(*, coarse: bool, seed: int = 23) -> Columns:
    """1e6 answers in 10,000 groups; with ``coarse`` covariates of few values, else a normal one."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(10_000), 100)
    x1 = rng.integers(0, 3, MILLION) / 2.0 if coarse else rng.normal(size=MILLION)
    x2 = rng.integers(0, 2, MILLION).astype(np.float64)
    eta = -1.0 + 0.5 * x1 - 0.4 * x2 + 0.9 * rng.normal(size=10_000)[g]
    return {"y": drawn(rng, eta), "x1": x1, "x2": x2, "g": numbered(g, "g", count=10_000)}


VERBAGG = "1 + Anger + Gender + btype + situ"

GENERAL: tuple[Problem, ...] = (
    Problem(
        name="glmm-cbpp",
        title="cbpp, 56 counts of trials, 15 herds",
        response="incidence",
        fixed="1 + period",
        terms=intercepts("herd"),
        make=partial(shipped, "cbpp", "incidence", "size", "period", "herd"),
        family="binomial",
        trials="size",
        quick=True,
    ),
    Problem(
        name="glmm-contraception",
        title="contraception, 1,934 answers, 60 districts",
        response="y",
        fixed="1 + age + age2 + urban + livch",
        terms=intercepts("district"),
        make=contraception,
        family="binomial",
        quick=True,
    ),
    Problem(
        name="glmm-grouseticks",
        title="grouseticks, 403 counts, an effect of each row, of 118 broods, of 63 places",
        response="TICKS",
        fixed="1 + YEAR + cHEIGHT",
        terms=intercepts("BROOD", "INDEX", "LOCATION"),
        make=partial(
            shipped, "grouseticks", "TICKS", "YEAR", "cHEIGHT", "BROOD", "INDEX", "LOCATION"
        ),
        family="poisson",
        quick=True,
    ),
    Problem(
        name="glmm-verbagg",
        title="VerbAgg, 7,584 answers, 316 people x 24 questions",
        response="y",
        fixed=VERBAGG,
        terms=intercepts("id", "item"),
        make=verbagg,
        family="binomial",
        quick=True,
    ),
    Problem(
        name="glmm-verbagg-maximal",
        title="VerbAgg, slopes of people and of questions",
        response="y",
        fixed=VERBAGG,
        terms=(Term("1 + btype", ("id",)), Term("1 + Anger", ("item",))),
        make=verbagg,
        family="binomial",
        tolerance=1e-2,
    ),
    Problem(
        name="glmm-counts-nested",
        title="30,000 counts, 3,000 levels in 150",
        response="y",
        fixed="1 + x",
        terms=intercepts("b", "a"),
        make=counts_nested,
        family="poisson",
    ),
    Problem(
        name="glmm-answers-crossed",
        title="100,000 answers, slopes of 2,000 people, 200 items",
        response="y",
        fixed="1 + x",
        terms=(Term("1 + x", ("s",)), Term("1", ("item",))),
        make=answers_crossed,
        family="binomial",
    ),
    Problem(
        name="glmm-insteval",
        title="InstEval above three, 73,421 answers, 2,972 x 1,128 crossed",
        response="y",
        fixed="1 + service",
        terms=intercepts("s", "d"),
        make=above_three,
        family="binomial",
    ),
    Problem(
        name="glmm-1e6",
        title="1e6 answers, 10,000 groups",
        response="y",
        fixed="1 + x1 + x2",
        terms=intercepts("g"),
        make=partial(million, coarse=False),
        family="binomial",
    ),
    Problem(
        name="glmm-1e6-patterns",
        title="1e6 answers, 10,000 groups, covariates of few values",
        response="y",
        fixed="1 + x1 + x2",
        terms=intercepts("g"),
        make=partial(million, coarse=True),
        family="binomial",
    ),
)
