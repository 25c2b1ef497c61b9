"""Crossed data of given shapes, made from a seed: ratings with power laws, workers and firms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
Keys = NDArray[np.int64]
Floats = NDArray[np.float64]
Cells = Callable[["Shape", np.random.Generator], tuple[Codes, Codes]]

COLUMNS = ("u", "m", "y")


@dataclass(frozen=True)
class Shape:
    """A data set ``y ~ 1 + (1 | u) + (1 | m)``: its size, and how its rows are drawn.

    ``sds`` are the standard deviations of ``u``, ``m`` and the noise.  Scaled down, rows shrink by
    the scale and levels by its power ``level_power``: a half keeps the share of cells that occur.
    ``heads`` are the shares of the rows that the most frequent level of ``u`` and ``m`` has.
    """

    name: str
    title: str
    n: int
    users: int
    items: int
    make: Cells
    sds: tuple[float, float, float] = (0.4, 0.6, 0.85)
    heads: tuple[float, float] = (0.0, 0.0)
    level_power: float = 0.5
    seed: int = 32

    def scaled(self, scale: float) -> Shape:
        """The same shape with a share of its rows."""
        levels = scale**self.level_power
        return replace(
            self,
            n=max(round(self.n * scale), 400),
            users=max(round(self.users * levels), 20),
            items=max(round(self.items * levels), 10),
            heads=(self.heads[0] / levels, self.heads[1] / levels),
        )


def write(shape: Shape, directory: Path) -> None:
    """Make the columns of a shape and write each as ``<name>.npy`` into ``directory``."""
    rng = np.random.default_rng(shape.seed)
    u, m = shape.make(shape, rng)
    np.save(directory / "u.npy", u)
    np.save(directory / "m.npy", m)
    np.save(directory / "y.npy", response(shape, u, m, rng))


def read(directory: Path) -> dict[str, NDArray[np.generic]]:
    """The columns that ``write`` left, in memory."""
    return {name: np.load(directory / f"{name}.npy") for name in COLUMNS}


def response(shape: Shape, u: Codes, m: Codes, rng: np.random.Generator) -> Floats:
    """``3.5 + user + item + noise``, ``(n,)``."""
    of_user, of_item, noise = shape.sds
    y = rng.standard_normal(len(u))
    y *= noise
    y += 3.5
    y += (of_user * rng.standard_normal(shape.users))[u]
    y += (of_item * rng.standard_normal(shape.items))[m]
    return y


def answers(shape: Shape) -> dict[str, NDArray[np.generic]]:
    """Yes-no answers of levels with uneven frequencies, with a covariate ``x``."""
    rng = np.random.default_rng(shape.seed)
    n, codes = shape.n, []
    for levels, power in ((shape.users, 1.5), (shape.items, 1.0)):
        weights = rng.gamma(power, 1.0, levels)
        codes.append(rng.choice(levels, n, p=weights / weights.sum()).astype(np.int32))
    x = rng.standard_normal(n)
    eta = 0.3 + 0.5 * x
    for own, levels, sd in zip(codes, (shape.users, shape.items), shape.sds, strict=False):
        eta += (sd * rng.standard_normal(levels))[own]
    y = rng.random(n) * (1.0 + np.exp(-eta)) < 1.0
    return {"y": y, "x": x, "u": codes[0], "m": codes[1]}


# ------------------------------------------------------------------ ratings


def ratings(shape: Shape, rng: np.random.Generator) -> tuple[Codes, Codes]:
    """Distinct (user, item) pairs in random order; users and items follow power laws, all occur."""
    n, users, items = shape.n, shape.users, shape.items
    if n > 0.5 * users * items or n < users + items:
        raise ValueError(f"{n} distinct ratings do not fit {users} users and {items} items")

    every_user = np.arange(users) * items + power_law(rng, users, items, shape.heads[1], 2.0)
    every_item = power_law(rng, items, users, shape.heads[0], 1.5) * np.int64(items)
    keys = distinct(np.concatenate((every_user, every_item + np.arange(items))))
    hits = 0.8
    while (wanted := n - len(keys)) > 0:
        drawn = int(1.05 * wanted / hits) + 64
        new = _pairs(shape, rng, drawn)
        new = new[absent(new, keys)]
        hits = max(len(new) / drawn, 0.05)
        if len(new) > wanted:
            new = rng.choice(new, wanted, replace=False, shuffle=False)
            new.sort()
        keys = np.concatenate((keys, new))
        keys.sort(kind="stable")  # merges the two sorted parts
    rng.shuffle(keys)
    u = (keys // items).astype(np.int32)
    keys %= items
    return relabelled(u, users, rng), relabelled(keys.astype(np.int32), items, rng)


def _pairs(shape: Shape, rng: np.random.Generator, size: int) -> Keys:
    """Distinct keys ``user * items + item``, sorted, from ``size`` draws."""
    keys = power_law(rng, size, shape.users, shape.heads[0], 1.5).astype(np.int64)
    keys *= shape.items
    keys += power_law(rng, size, shape.items, shape.heads[1], 2.0)
    return distinct(keys)


def power_law(
    rng: np.random.Generator, size: int, levels: int, head: float, exponent: float
) -> Codes:
    """Draws with probability about ``(level + q)^-exponent``, so that level 0 has share ``head``.

    The distribution function of the continuous law is inverted.
    """
    q = (exponent - 1.0) / max(head, 2.0 / levels)
    power = 1.0 - exponent
    start, end = q**power, (levels + q) ** power
    x = rng.random(size)
    x *= end - start
    x += start
    np.power(x, 1.0 / power, out=x)
    x -= q
    np.clip(x, 0, levels - 1, out=x)
    return x.astype(np.int32)


def distinct(keys: Keys) -> Keys:
    """Sorted keys without repeats; sorts in place."""
    keys.sort()
    first = np.empty(len(keys), dtype=bool)
    first[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return keys[first]


def absent(keys: Keys, known: Keys) -> NDArray[np.bool_]:
    """Which of the sorted keys are not among the sorted known ones."""
    at = np.searchsorted(known, keys)
    at[at == len(known)] = 0
    return known[at] != keys


def relabelled(codes: Codes, levels: int, rng: np.random.Generator) -> Codes:
    """Codes whose order says nothing about how frequent a level is."""
    return rng.permutation(levels).astype(np.int32)[codes]


# ------------------------------------------------------------------ other graphs


def uniform(shape: Shape, rng: np.random.Generator) -> tuple[Codes, Codes]:
    """Users and items drawn alike and independently; each occurs."""
    u = rng.integers(shape.users, size=shape.n, dtype=np.int32)
    m = rng.integers(shape.items, size=shape.n, dtype=np.int32)
    u[: shape.users] = np.arange(shape.users)
    m[-shape.items :] = np.arange(shape.items)
    return u, m


def careers(shape: Shape, rng: np.random.Generator) -> tuple[Codes, Codes]:
    """Workers seen equally often, with one firm each but for one in ten, who moves once.

    Sizes of firms follow a power law; half of the firms have fewer than three movers.
    """
    years = shape.n // shape.users
    first = power_law(rng, shape.users, shape.items, shape.heads[1], 2.0)
    first[: shape.items] = np.arange(shape.items)
    other = power_law(rng, shape.users, shape.items, shape.heads[1], 2.0)
    second = np.where(rng.random(shape.users) < 0.1, other, first)
    change = rng.integers(1, years, size=shape.users)
    u, year = np.divmod(np.arange(shape.users * years, dtype=np.int32), np.int32(years))
    return u, np.where(year < change[u], first[u], second[u]).astype(np.int32)


MOVIELENS_32M = Shape(
    "movielens-32m",
    "MovieLens-32M shape: 32,000,204 ratings, 200,948 users x 84,432 movies",
    32_000_204,
    200_948,
    84_432,
    ratings,
    heads=(1.0e-3, 3.2e-3),
)
MOVIELENS_1M = Shape(
    "movielens-1m",
    "MovieLens-1M shape: 1,000,209 ratings, 6,040 users x 3,706 movies",
    1_000_209,
    6_040,
    3_706,
    ratings,
    heads=(2.3e-3, 3.4e-3),
)
CROSSED_1E6 = Shape(
    "crossed-1e6",
    "1e6 rows, 50,000 x 2,000 crossed",
    1_000_000,
    50_000,
    2_000,
    uniform,
    sds=(0.5, 0.5, 1.0),
    level_power=1.0,
)
CAREERS = Shape(
    "careers",
    "1.2e6 rows, 300,000 workers x 30,000 firms, one worker in ten moves",
    1_200_000,
    300_000,
    30_000,
    careers,
    sds=(0.6, 0.4, 0.5),
    heads=(0.0, 1.0e-3),
    level_power=1.0,
)
# 25 ratings a user and 400 an item, whatever the scale: only the size of the graph changes.
GROWING = Shape(
    "growing",
    "ratings, 25 a user and 400 an item",
    32_000_000,
    1_280_000,
    80_000,
    ratings,
    heads=(3.0e-6, 2.0e-5),
    level_power=1.0,
)
# Made by :func:`answers`, not by :func:`write`: ``sds`` are those of ``u``, ``m`` and nothing.
ANSWERS = Shape(
    "answers",
    "2e6 yes-no answers, 98,067 x 9,956 crossed, a covariate",
    2_000_000,
    100_000,
    10_000,
    uniform,
    sds=(0.8, 0.6, 0.0),
    seed=5,
)
RECORDS = (MOVIELENS_32M, MOVIELENS_1M, CROSSED_1E6, CAREERS)
SHAPES = {shape.name: shape for shape in (*RECORDS, GROWING)}
