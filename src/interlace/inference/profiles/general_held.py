"""Parameters of generalised models, each with linear equations that hold it.

By quadrature a template is turned only in ways that the search for the optimum may take: entries
above the diagonal stay zero, in the order of its rows in which those that are held come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from interlace.covariance.templates import Diagonal, Full
from interlace.estimation.parameters import entry_names
from interlace.glmm.curvature import moving
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.general_errors import general_errors
from interlace.inference.profiles.curves import Scale
from interlace.sums.terms import Floats

# Differences of the way that a held parameter moves the others; the largest correlation tried.
_STEP, _INSIDE = 1e-6, 1.0 - 1e-7


@dataclass(frozen=True, eq=False)
class Held:
    """One parameter held: all packed ones are ``back (base(psi) + free(psi) z)``.

    Attributes
    ----------
    name, estimate, se
        Of the parameter, on the scale on which it is held.
    back
        From the user's units to packed parameters, square.
    base, free
        Functions of the value held.
    start
        ``z`` at the estimate.
    low, high
        Bounds of the value.
    scale
        What makes the parameter of the value held.
    """

    name: str
    estimate: float
    se: float
    back: Floats
    base: Callable[[float], Floats]
    free: Callable[[float], Floats]
    start: Floats
    low: float = -np.inf
    high: float = np.inf
    scale: Scale = field(default_factory=lambda: Scale("linear"))

    def at(self, psi: float, z: Floats) -> Floats:
        """Packed parameters."""
        return np.asarray(self.back @ (self.base(psi) + self.free(psi) @ z))

    def slope(self, psi: float, z: Floats) -> Floats:
        """How packed parameters move with the value held, the others staying."""
        low, high = max(psi - _STEP, self.low), min(psi + _STEP, self.high)
        return (self.at(high, z) - self.at(low, z)) / (high - low)


def parameters_of(estimate: GeneralEstimate) -> Iterator[Held | Curved]:
    """All parameters that have names, each with what holds it."""
    t, p, _ = estimate.problem.sizes
    units = _Units.of(estimate, None)
    se = np.sqrt(np.diag(estimate.vcov))
    for j, name in enumerate(estimate.A.names):
        yield _entry(name, t + j, units, float(se[j]))
    yield from _variances(estimate)
    parts, errors = estimate.problem.parts, np.sqrt(np.diag(estimate.family_covariance))
    for k, name in enumerate(parts.names):
        scale = Scale({"log": "exp", "power": "power", "": "linear"}[parts.scale[k]])
        yield _entry(name, t + p + k, units, float(errors[k]), scale)


def turned(estimate: GeneralEstimate) -> bool:
    """Whether a template turned, ``T -> T Q``, is another criterion: nodes lie elsewhere."""
    return estimate.approximation.nodes > 1 and any(t.k > 1 for t in estimate.A.terms)


@dataclass(frozen=True, eq=False)
class _Units:
    """Coordinates of a search: packed parameters are ``back y``, of which ``free`` may move."""

    back: Floats
    y: Floats
    free: NDArray[np.bool_]

    @classmethod
    def of(cls, estimate: GeneralEstimate, own: int | None) -> _Units:
        """Fixed effects in the user's units, and templates too: where turning them matters that of
        the term ``own`` alone, the others as the search for the optimum has them.
        """
        matters = turned(estimate)
        kept = range(len(estimate.A.terms)) if not matters else [] if own is None else [own]
        back = _back(estimate, kept)
        y: Floats = np.asarray(np.linalg.solve(back, estimate.x), dtype=np.float64)
        free = np.ones(len(y), dtype=bool)
        if matters:
            free = moving(estimate.problem, estimate.approximation)
        return cls(back, y, free)

    def rows(self, own: slice, template: Full | Diagonal, order: Sequence[int]) -> _Units:
        """With the rows of a template triangular in an order, where turning it matters."""
        if self.free.all():
            return self
        allowed = np.zeros((template.k, template.k))
        allowed[list(order)] = np.tri(template.k)
        free = self.free.copy()
        free[own] = template.pack(allowed) != 0.0
        return _Units(self.back, self.y, free)


def _back(estimate: GeneralEstimate, own: Iterable[int]) -> Floats:
    """From the user's units to packed parameters, templates of the terms ``own``: square."""
    problem = estimate.problem
    t, p, r = problem.sizes
    total = np.eye(t + p + r)
    start = 0
    for j, (term, B) in enumerate(zip(problem.rows.terms, problem.rows.random, strict=True)):
        size = term.template.size
        if j not in own or term.template.indivisible:  # of structures no entry is held
            start += size
            continue
        inverse = np.linalg.inv(B)
        for i, unit in enumerate(np.eye(size)):
            total[start : start + size, start + i] = term.template.pack(
                inverse @ term.template(unit)
            )
        start += size
    total[t : t + p, t : t + p] = np.linalg.inv(problem.rows.fixed)
    if r:
        inverse = np.linalg.inv(problem.parts.basis)
        total[t + p :, t + p :] = inverse
        total[t + p :, t : t + p] = -inverse @ problem.parts.shift
    return total


def _entry(name: str, i: int, units: _Units, se: float, scale: Scale | None = None) -> Held:
    """A parameter that is an entry."""
    unit, free = np.eye(len(units.y)), units.free.copy()
    free[i] = False
    rest = unit[:, free]
    return Held(
        name,
        float(units.y[i]),
        se,
        units.back,
        lambda psi: psi * unit[:, i],
        lambda psi: rest,
        units.y[free],
        scale=Scale("linear") if scale is None else scale,
    )


@dataclass(frozen=True)
class Curved:
    """Parameter ``index`` of the structure of term ``term``, which no linear equations hold."""

    name: str
    term: int
    index: int


def _variances(estimate: GeneralEstimate) -> Iterator[Held | Curved]:
    """Standard deviations and correlations of all terms, in the order of their names."""
    errors = general_errors(estimate)
    start = 0
    for j, term in enumerate(estimate.A.terms):
        template, S, units = term.template, estimate.covariances[j], _Units.of(estimate, j)
        own = slice(start, start + template.size)
        start += template.size
        if not isinstance(template, Full | Diagonal):
            for i, name in enumerate(entry_names(term, "sd_{}", "cor_{}.{}")):
                yield Curved(f"{name}|{term.group}", j, i)
            continue
        for b, a in zip(*template.entries, strict=True):
            sd = np.sqrt(np.diag(S))
            if a == b:
                name = f"sd_{term.columns[a]}|{term.group}"
                se = float(np.nan_to_num(errors.sds[j][a], nan=0.1))
                yield _deviation(name, template, S, a, (own, se, units))
            elif sd[a] > 0.0 and sd[b] > 0.0:
                name = f"cor_{term.columns[b]}.{term.columns[a]}|{term.group}"
                se = float(np.nan_to_num(errors.correlations[j][a, b], nan=0.1))
                yield _correlation(name, S, (a, b), (own, max(se, 0.02), units))


_Place = tuple[slice, float, _Units]


def _order(k: int, first: Sequence[int]) -> list[int]:
    """Rows with some of them first."""
    return [*first, *(i for i in range(k) if i not in first)]


def _turned(S: Floats, first: Sequence[int]) -> Floats:
    """A template of a covariance in which the rows ``first`` are triangular, ``(k, k)``."""
    k = len(S)
    order = _order(k, first)
    P = S[np.ix_(order, order)]
    values, vectors = np.linalg.eigh(P)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    L = np.linalg.qr(root.T)[1].T
    L = L * np.where(np.diag(L) < 0.0, -1.0, 1.0)
    T = np.empty((k, k))
    T[order] = L
    return T


def _deviation(name: str, template: Full | Diagonal, S: Floats, a: int, place: _Place) -> Held:
    """A standard deviation: the only entry of its row."""
    own, se, units = place
    k = len(S)
    T = np.diag(np.sqrt(np.diag(S))) if isinstance(template, Diagonal) else _turned(S, [a])
    units = units.rows(own, template, _order(k, [a]))
    new = units.y.copy()
    new[own] = template.pack(T)
    row = np.zeros((k, k), dtype=bool)
    row[a] = True
    fixed = ~units.free
    fixed[own] |= template.pack(row.astype(np.float64)) != 0.0
    unit = np.zeros((k, k))
    unit[a, a if isinstance(template, Diagonal) else 0] = 1.0
    direction = np.zeros(len(new))
    direction[own] = template.pack(unit)
    rest = np.eye(len(new))[:, ~fixed]
    return Held(
        name,
        float(np.sqrt(S[a, a])),
        max(se, 1e-3 * float(np.sqrt(S[a, a])), 1e-8),
        units.back,
        lambda psi: psi * direction,
        lambda psi: rest,
        new[~fixed],
        low=0.0,
    )


def _correlation(name: str, S: Floats, pair: tuple[int, int], place: _Place) -> Held:
    """A correlation of the effects ``pair`` of a full template."""
    own, se, units = place
    (a, b), k = pair, len(S)
    T = _turned(S, [a, b])
    template = Full(k)
    units = units.rows(own, template, _order(k, [a, b]))
    new = units.y.copy()
    new[own] = template.pack(T)
    rows = np.zeros((k, k), dtype=bool)
    rows[[a, b]] = True
    fixed = ~units.free
    fixed[own] |= template.pack(rows.astype(np.float64)) != 0.0
    others = np.eye(len(new))[:, ~fixed]
    sd = np.sqrt(np.diag(S))

    def free(psi: float) -> Floats:
        columns = np.zeros((len(new), 2))
        for i, (row, values) in enumerate(
            ((a, (1.0, 0.0)), (b, (psi, np.sqrt(max(1.0 - psi**2, 0.0)))))
        ):
            unit = np.zeros((k, k))
            unit[row, :2] = values
            columns[own, i] = template.pack(unit)
        return np.concatenate((columns, others), axis=1)

    nothing = np.zeros(len(new))
    return Held(
        name,
        float(np.clip(S[a, b] / (sd[a] * sd[b]), -_INSIDE, _INSIDE)),
        se,
        units.back,
        lambda psi: nothing,
        free,
        np.concatenate(([sd[a], sd[b]], new[~fixed])),
        low=-_INSIDE,
        high=_INSIDE,
    )
