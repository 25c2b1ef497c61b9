"""Crossed designs on which the exact and the iterative solver both run, with a known truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Data = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Term:
    """One ``(expr | group)``: columns left of the bar, and its template in the truth."""

    group: str
    template: Sequence[Sequence[float]]
    columns: Sequence[str] = ("1",)

    @property
    def T(self) -> Floats:
        return np.array(self.template, dtype=np.float64)


@dataclass(frozen=True)
class DesignCase:
    """A formula, what makes the groups of its rows, and the truth.

    ``groups`` takes a generator and returns codes of every grouping column.  The response is
    ``1 + 0.5 x`` plus the random effects plus noise of standard deviation ``sigma``, over the root
    of the weights if there are any.
    """

    name: str
    formula: str
    groups: Callable[[np.random.Generator], Mapping[str, Codes]]
    terms: tuple[Term, ...]
    seed: int
    method: str = "REML"
    weighted: bool = False
    sigma: float = 1.0
    arguments: dict[str, str] = field(default_factory=dict)

    def data(self) -> Data:
        """Columns of the data, the same on every call."""
        rng = np.random.default_rng(self.seed)
        groups = dict(self.groups(rng))
        n = len(next(iter(groups.values())))
        x, z = rng.normal(size=n), rng.normal(size=n)
        values = {"1": np.ones(n), "x": x, "z": z}
        y = 1.0 + 0.5 * x
        for term in self.terms:
            codes = _codes(groups, term.group)
            b = rng.normal(size=(codes.max() + 1, len(term.T))) @ (self.sigma * term.T).T
            Z = np.stack([values[column] for column in term.columns], axis=1)
            y += (b[codes] * Z).sum(axis=1)
        w = rng.uniform(0.25, 4.0, size=n)
        y += self.sigma * rng.normal(size=n) / (np.sqrt(w) if self.weighted else 1.0)
        return {"y": y, "x": x, "z": z, "w": w, **groups}


def _codes(groups: Mapping[str, Codes], key: str) -> Codes:
    """Codes of ``a`` or of the combinations ``a:b``."""
    parts = [groups[name] for name in key.split(":")]
    codes = parts[0]
    for part in parts[1:]:
        codes = codes * (part.max() + 1) + part
    return codes


# ------------------------------------------------------------------ rows of a crossed design


Maker = Callable[[np.random.Generator], Mapping[str, Codes]]


def balanced(users: int, items: int, copies: int = 1) -> Maker:
    """Every user meets every item."""

    def make(_: np.random.Generator) -> Mapping[str, Codes]:
        cell = np.tile(np.arange(users * items), copies)
        return {"u": cell // items, "i": cell % items}

    return make


def sparse(n: int, **sizes: int) -> Maker:
    """Levels of every factor drawn alike and independently."""

    def make(rng: np.random.Generator) -> Mapping[str, Codes]:
        return {name: every(rng.integers(l, size=n), l) for name, l in sizes.items()}

    return make


def power_law(n: int, exponent: float, **sizes: int) -> Maker:
    """Level ``r`` of a factor is drawn with probability proportional to ``r ** -exponent``."""

    def make(rng: np.random.Generator) -> Mapping[str, Codes]:
        return {name: every(_zipf(rng, n, l, exponent), l) for name, l in sizes.items()}

    return make


def workers_and_firms(workers: int, firms: int, years: int, movers: float) -> Maker:
    """Workers stay with a firm for all years, except a share of movers who change it once."""

    def make(rng: np.random.Generator) -> Mapping[str, Codes]:
        first = every(_zipf(rng, workers, firms, 0.7), firms)
        second = np.where(rng.random(workers) < movers, rng.integers(firms, size=workers), first)
        change = rng.integers(1, years, size=workers)
        u, year = np.divmod(np.arange(workers * years), years)
        return {"u": u, "i": np.where(year < change[u], first[u], second[u])}

    return make


def one_bridge(users: int, items: int, n: int) -> Maker:
    """Two crossed blocks with nothing in common but one user, who meets one item of the other."""

    def make(rng: np.random.Generator) -> Mapping[str, Codes]:
        block = np.arange(n) % 2
        u = every(rng.integers(users, size=n), users) + users * block
        i = every(rng.integers(items, size=n), items) + items * block
        return {"u": np.append(u, 0), "i": np.append(i, items)}

    return make


def nested_and_crossed(outer: int, inner: int, items: int, n: int) -> Maker:
    """Classes within schools, and items that all schools meet."""

    def make(rng: np.random.Generator) -> Mapping[str, Codes]:
        unit = every(rng.integers(outer * inner, size=n), outer * inner)
        return {
            "a": unit // inner,
            "b": unit % inner,
            "i": every(rng.integers(items, size=n), items),
        }

    return make


def every(codes: Codes, l: int) -> Codes:
    """Codes in which each of ``l`` levels occurs: the first ``l`` rows hold one of each."""
    out = codes.astype(np.int64)
    out[:l] = np.random.default_rng(l).permutation(l)[: len(out)]
    return out


def _zipf(rng: np.random.Generator, n: int, l: int, exponent: float) -> Codes:
    weights = np.arange(1, l + 1) ** -exponent
    edges = np.cumsum(weights / weights.sum())
    return np.searchsorted(edges[:-1], rng.random(n)).astype(np.int64)


# ------------------------------------------------------------------ the designs


CROSSED = "y ~ x + (1 | u) + (1 | i)"
FIRM_YEARS = 4


def _crossed(
    name: str, groups: Maker, seed: int, sizes: tuple[float, float] = (0.8, 0.5), **more: object
) -> DesignCase:
    """Two crossed intercepts with these standard deviations relative to sigma."""
    terms = (Term("u", [[sizes[0]]]), Term("i", [[sizes[1]]]))
    return DesignCase(name, CROSSED, groups, terms, seed, **more)  # type: ignore[arg-type]


def _intercepts(name: str, groups: Maker, seed: int, **sizes: float) -> DesignCase:
    """Any number of crossed intercepts."""
    formula = "y ~ x + " + " + ".join(f"(1 | {g})" for g in sizes)
    terms = tuple(Term(g, [[sd]]) for g, sd in sizes.items())
    return DesignCase(name, formula, groups, terms, seed)


def _slopes(name: str, formula: str, seed: int, *terms: Term) -> DesignCase:
    return DesignCase(name, formula, sparse(12_000, u=800, i=300), terms, seed)


_FULL = [[0.8, 0.0], [0.2, 0.4]]
_OTHER = [[0.5, 0.0], [-0.1, 0.3]]
_DIAGONAL = [[0.8, 0.0], [0.0, 0.4]]

CASES: tuple[DesignCase, ...] = (
    _crossed("balanced", balanced(200, 60), 1),
    _crossed("balanced twice", balanced(120, 80, copies=2), 2),
    _crossed("sparse", sparse(20_000, u=3_000, i=800), 3),
    _crossed("sparse, four rows a user", sparse(16_000, u=4_000, i=1_000), 4),
    _crossed("power law 0.5", power_law(20_000, 0.5, u=3_000, i=700), 5),
    _crossed("power law 1.0", power_law(30_000, 1.0, u=4_000, i=1_000), 6),
    _crossed("power law 1.3", power_law(30_000, 1.3, u=2_000, i=1_200), 7),
    _crossed("power law, few items", power_law(25_000, 0.8, u=6_000, i=50), 8),
    _crossed("firms, 3 % move", workers_and_firms(4_000, 400, FIRM_YEARS, 0.03), 9),
    _crossed("firms, 10 % move", workers_and_firms(6_000, 900, FIRM_YEARS, 0.1), 10),
    _crossed("firms, 30 % move", workers_and_firms(3_000, 250, FIRM_YEARS, 0.3), 11),
    _crossed("one bridge", one_bridge(600, 200, 12_000), 12),
    _crossed("large theta", sparse(15_000, u=2_000, i=500), 13, (5.0, 5.0)),
    _crossed("large and small theta", power_law(15_000, 0.8, u=2_000, i=500), 14, (5.0, 0.3)),
    _crossed("small theta", sparse(40_000, u=800, i=250), 15, (0.1, 0.1)),
    _crossed("smallest theta", balanced(120, 100, copies=6), 16, (0.05, 0.05), sigma=10.0),
    _crossed("ML", power_law(15_000, 0.7, u=2_000, i=600), 17, method="ML"),
    _crossed(
        "weights", sparse(15_000, u=2_000, i=500), 18, weighted=True, arguments={"weights": "w"}
    ),
    _crossed("no variance of items", sparse(12_000, u=1_000, i=300), 19, (0.8, 0.0)),
    _intercepts("three factors", sparse(15_000, u=2_000, i=500, j=300), 20, u=0.8, i=0.5, j=0.3),
    _intercepts(
        "three factors, one small",
        power_law(20_000, 0.6, u=3_000, i=600, j=12),
        21,
        u=0.8,
        i=0.5,
        j=0.4,
    ),
    _intercepts(
        "four factors", sparse(20_000, u=1_500, i=400, j=100, k=20), 22, u=0.8, i=0.5, j=0.3, k=0.4
    ),
    DesignCase(
        "nested and crossed",
        "y ~ x + (1 | a/b) + (1 | i)",
        nested_and_crossed(60, 30, 250, 15_000),
        (Term("a", [[0.5]]), Term("a:b", [[0.7]]), Term("i", [[0.4]])),
        23,
    ),
    DesignCase(
        "nested in the second factor",
        "y ~ x + (1 | a/b) + (1 | i)",
        nested_and_crossed(40, 8, 1_500, 15_000),
        (Term("a", [[0.5]]), Term("a:b", [[0.7]]), Term("i", [[0.4]])),
        24,
    ),
    _slopes(
        "slopes of users",
        "y ~ x + (1 + x | u) + (1 | i)",
        25,
        Term("u", _FULL, ("1", "x")),
        Term("i", [[0.5]]),
    ),
    _slopes(
        "slopes of both",
        "y ~ x + (1 + x | u) + (1 + z | i)",
        26,
        Term("u", _FULL, ("1", "x")),
        Term("i", _OTHER, ("1", "z")),
    ),
    _slopes(
        "uncorrelated slopes",
        "y ~ x + (1 + x || u) + (1 | i)",
        27,
        Term("u", _DIAGONAL, ("1", "x")),
        Term("i", [[0.5]]),
    ),
    _slopes(
        "singular slopes",
        "y ~ x + (1 + x | u) + (1 | i)",
        28,
        Term("u", [[0.8, 0.0], [0.3, 0.0]], ("1", "x")),
        Term("i", [[0.5]]),
    ),
    DesignCase(
        "slopes, weights, ML",
        "y ~ x + (1 + x | u) + (1 | i)",
        power_law(15_000, 0.6, u=900, i=300),
        (Term("u", _FULL, ("1", "x")), Term("i", [[0.5]])),
        29,
        method="ML",
        weighted=True,
        arguments={"weights": "w"},
    ),
)
