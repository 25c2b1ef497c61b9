"""Follow a constrained minimum outward from the estimate: the curve ``zeta(psi)`` of a profile.

``zeta`` is the signed square root of how much the deviance rises when ``psi`` is held.  By the
envelope theorem the slope of the deviance at a constrained minimum is its partial derivative along
``psi``, so every point comes with ``d psi / d zeta``, and a limit is found in few steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from interlace.estimation.optimize import minimize
from interlace.inference.profiles.constrained import Path, PathPoint
from interlace.inference.profiles.inner import constrained_minimum, point_at
from interlace.sums.terms import Floats

# How close to the wanted zeta a point must be for the last step to be linear.
_CLOSE = 1e-3
# A deviance lower by more than this is another minimum.
_LOWER = 1e-5
# Predicted gain at which another start is compared with what is known, and evaluations up to it.
_ROUGH, _PATIENCE = 1e-3, 40
# Rate, in steps made so far, from which the deviance counts as level: zeta gets nowhere.
_LEVEL = 1e3
# Relative difference in zeta up to which two polynomials agree, the smallest interval of zeta that
# is halved if they do not, and how often at most.
_AGREE, _SMALL, _ROUNDS = 2e-5, 0.01, 4
_MAX_POINTS = 60
# Extrapolation with weights that sum to more than this in size is not to be trusted.
_WILD = 8.0


class LowerDeviance(Exception):  # noqa: N818  (a finding, caught by the caller)
    """A held quantity led to a deviance below that of the estimate: it was a local minimum."""

    def __init__(self, templates: Sequence[Floats]) -> None:
        super().__init__("the deviance is lower elsewhere")
        self.templates = templates


@dataclass(frozen=True, eq=False)
class Node:
    """A constrained minimum; ``zeta_rate`` is ``d zeta / d psi``.

    Minima that continue each other share a ``branch``; that of the estimate is 0.
    """

    psi: float
    phi: Floats
    rise: float
    zeta: float
    zeta_rate: float
    branch: int = 0
    is_estimate: bool = False

    @property
    def rate(self) -> float:
        """``d psi / d zeta``, infinite where the deviance is level."""
        return 1.0 / self.zeta_rate if self.zeta_rate else np.inf


@dataclass(frozen=True, eq=False)
class Curve:
    """Nodes in the order of ``psi``, and the places where ``zeta`` takes asked values.

    ``limits[z]`` are the lower and upper ``psi`` at ``zeta = -z`` and ``z``, ends of its range
    where ``zeta`` does not get there.
    """

    nodes: tuple[Node, ...]
    limits: dict[float, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Tracer:
    """One path and the deviance at the estimate; ``watch`` is called at every new point."""

    path: Path
    minimum: float
    watch: Callable[[int], None] | None = None

    def origin(self) -> Node:
        """The estimate, its rate not known yet."""
        return Node(self.path.start, self.path.free, 0.0, 0.0, 0.0, is_estimate=True)

    def settle(self, psi: float, phi: Floats, branch: int, *, otherwise: Floats) -> Node:
        """Constrained minimum at ``psi``, started from ``phi``, or ``otherwise`` if that fails.

        If both do, an infinitely high node: something to stay inside of.
        """
        point = point_at(self.path, psi, phi)
        if not np.isfinite(point.value):
            phi, point = otherwise, point_at(self.path, psi, otherwise)
        if not np.isfinite(point.value):
            return Node(psi, phi, np.inf, float(np.copysign(np.inf, psi - self.path.start)), 0.0)
        value, slope, best = constrained_minimum(self.path, psi, phi, point, self.minimum)
        if self.watch is not None:
            self.watch(1)
        rise = value - self.minimum
        if rise < -_LOWER * 10.0:
            raise LowerDeviance(self.path.templates(psi, best))
        zeta = float(np.sign(psi - self.path.start) * np.sqrt(max(rise, 0.0)))
        rate = 0.5 * slope / zeta if zeta else 0.0
        return Node(psi, self.path.tidy(best), rise, zeta, rate, branch)

    def look(self, nodes: Sequence[Node], psi: float, beside: Sequence[Node]) -> Node:
        """Constrained minimum at ``psi`` next to one or two nodes, extrapolated from all ``nodes``.

        On two branches the lower one counts; if extrapolation has led to a worse minimum than
        those beside, or up a wall, start from these.
        """
        nodes, beside = ([n for n in some if np.isfinite(n.rise)] for some in (nodes, beside))
        found = [
            self.settle(psi, _predict(self.path, around, psi), branch, otherwise=beside[0].phi)
            for branch in sorted({n.branch for n in beside})
            for around in [[n for n in nodes if n.branch == branch]]
        ]
        best = min(found, key=lambda n: n.rise)
        if best.rise > _expected(beside, psi) + _LOWER:
            again = [self.settle(psi, n.phi, n.branch, otherwise=self.path.free) for n in beside]
            best = min((best, *again), key=lambda n: n.rise)
        return replace(best, branch=best.branch + 1) if _fell_flat(best, beside) else best

    def scout(self, last: Node, phi: Floats) -> Node | None:
        """The constrained minimum that another start leads to, if it is lower than a known one."""
        if not np.isfinite(point_at(self.path, last.psi, phi).value):
            return None
        found = minimize(
            lambda x: point_at(self.path, last.psi, x),
            phi,
            gain_tolerance=_ROUGH,
            max_evaluations=_PATIENCE,
        )
        if found.point.value - 2.0 * found.predicted_gain > self.minimum + last.rise - _LOWER:
            return None
        node = self.settle(last.psi, found.x, last.branch + 1, otherwise=phi)
        return node if node.rise < last.rise - _LOWER else None


def _expected(beside: Sequence[Node], psi: float) -> float:
    """The most that the deviance should have risen at ``psi``, between two nodes or beyond one."""
    if len(beside) > 1:
        return max(n.rise for n in beside)
    (inner,) = beside
    step = min(abs(psi - inner.psi) * abs(inner.zeta_rate), 1e3)
    return np.inf if inner.is_estimate else (abs(inner.zeta) + 2.0 * step + 0.2) ** 2


def _fell_flat(node: Node, beside: Sequence[Node]) -> bool:
    """Whether the deviance is level at a node but not beside it, on what passes for one branch."""
    rates = [abs(n.zeta_rate) for n in beside if n.branch == node.branch and not n.is_estimate]
    return bool(rates) and abs(node.zeta_rate) < 1e-3 * min(rates)


def trace(
    tracer: Tracer, targets: Sequence[float], exact: Sequence[float], *, refine: bool = False
) -> Curve:
    """Both sides of a curve, and its limits at every ``exact`` value of ``|zeta|``.

    ``targets`` are values to pass on the way; ``refine`` adds points until a cubic through two
    neighbours can be trusted between them.
    """
    origin = tracer.origin()
    down, low = _side(_March(tracer, -1, [origin], (origin,)), targets, exact)
    same = tuple(n for n in down if n.branch == 0)
    up, high = _side(_March(tracer, 1, [origin], same), targets, exact)
    nodes = _with_rate_at_estimate([*down[:0:-1], *up])
    fresh = {n.psi for n in nodes}
    for _ in range(_ROUNDS if refine else 0):
        doubtful = [
            (psi, nodes[i : i + 2])
            for i in range(len(nodes) - 1)
            if fresh & {nodes[i].psi, nodes[i + 1].psi}
            for psi in _doubtful(nodes, i)
        ]
        fresh = {psi for psi, _ in doubtful}
        nodes += [tracer.look(nodes, psi, pair) for psi, pair in doubtful]
        nodes = _with_rate_at_estimate(sorted(nodes, key=lambda n: n.psi))
    return Curve(tuple(nodes), {z: (low[z], high[z]) for z in exact})


def _side(
    march: _March, targets: Sequence[float], exact: Sequence[float]
) -> tuple[list[Node], dict[float, float]]:
    """Nodes of one side from the origin outward, and its limits.

    After the last target the other starts are tried there.  If one leads lower, the nodes inside
    are settled again from it, inward, and the targets are sought anew.
    """
    limits = march.through(targets, exact)
    last = march.nodes[-1]
    for phi in march.tracer.path.alternatives() if not last.is_estimate else []:
        other = march.tracer.scout(last, phi)
        if other is not None:
            march.replace_inward(other)
            limits = march.through(targets, exact)
            last = march.nodes[-1]
    return march.nodes, limits


def _with_rate_at_estimate(nodes: list[Node]) -> list[Node]:
    """The slope at the estimate, from the polynomial with values and slopes of nodes around it."""
    at = next(i for i, n in enumerate(nodes) if n.is_estimate)
    around = sorted((n for n in nodes if not n.is_estimate), key=lambda n: abs(n.zeta))[:3]
    if not around:
        return nodes
    d = np.array([n.psi - nodes[at].psi for n in around])
    unit = np.abs(d).max()
    powers = np.arange(1, 2 * len(d) + 1)
    values = (d[:, None] / unit) ** powers
    slopes = powers * (d[:, None] / unit) ** (powers - 1)
    rhs = np.concatenate(([n.zeta for n in around], [n.zeta_rate * unit for n in around]))
    rate = np.linalg.solve(np.concatenate((values, slopes)), rhs)[0] / unit
    return [*nodes[:at], replace(nodes[at], zeta_rate=float(rate)), *nodes[at + 1 :]]


@dataclass(eq=False)
class _March:
    """Nodes found so far on one side, from the origin outward; grows."""

    tracer: Tracer
    side: int
    nodes: list[Node]
    known: tuple[Node, ...]

    @property
    def bound(self) -> float:
        """End of the range of ``psi`` on this side."""
        return self.tracer.path.lower if self.side < 0 else self.tracer.path.upper

    def through(self, targets: Sequence[float], exact: Sequence[float]) -> dict[float, float]:
        """Reach every target in turn; the limits at the exact ones."""
        limits: dict[float, float] = {}
        rough = [t for t in targets if min(abs(t - z) for z in exact) > 0.3 * min(targets)]
        for target in sorted({*rough, *exact}):
            reach = _CLOSE if target in exact else 0.3 * min(targets)
            limits[target] = self.reach(target, reach)
        self.nodes = [n for n in self.nodes if np.isfinite(n.rise)]
        return {z: limits[z] for z in exact}

    def reach(self, target: float, tolerance: float) -> float:
        """``psi`` where ``|zeta|`` is ``target``, or the end of the range if it stays below."""
        widths = [np.inf] * 3
        for _ in range(_MAX_POINTS):
            inner, outer = self._bracket(target)
            widths.append(abs(outer.psi - inner.psi) if outer else np.inf)
            near = [n for n in (inner, outer) if n and abs(abs(n.zeta) - target) <= tolerance]
            if near and np.isfinite(near[0].rate):
                return self._limit(near[0], target)
            if outer is None and inner.psi == self.bound:
                return self.bound
            if outer is not None and self._leaps(inner, outer):
                if self._stays_up(inner, outer):
                    return inner.psi
                continue
            slow = np.isfinite(widths[-4]) and widths[-1] > 0.5 * widths[-4]
            psi = self._propose(inner, outer, target, halve=bool(slow))
            around = [*self.nodes, *self.known[1:]]
            beside = [inner] if outer is None else [inner, outer]
            self._insert(self.tracer.look(around, psi, beside))
        return self.nodes[-1].psi

    def _leaps(self, inner: Node, outer: Node) -> bool:
        """Whether the deviance jumps between two nodes that all but coincide."""
        near = abs(outer.psi - inner.psi) < 1e-3 * self.tracer.path.unit
        return near and abs(outer.zeta) - abs(inner.zeta) > 0.02

    def _stays_up(self, inner: Node, outer: Node) -> bool:
        """Whether it does so even when followed from the inner node; else the outer is replaced."""
        better = self.tracer.settle(
            outer.psi, inner.phi, inner.branch, otherwise=self.tracer.path.free
        )
        if better.rise > outer.rise - _LOWER:
            return True
        self.nodes[self.nodes.index(outer)] = better
        return False

    def _limit(self, node: Node, target: float) -> float:
        """A linear step from a node close to the target, within the range."""
        psi = node.psi + self.side * (target - abs(node.zeta)) * node.rate
        return float(np.clip(psi, self.tracer.path.lower, self.tracer.path.upper))

    def _bracket(self, target: float) -> tuple[Node, Node | None]:
        """Last node before ``|zeta|`` first gets to the target, and the first one after."""
        for inner, outer in pairwise(self.nodes):
            if abs(outer.zeta) >= target:
                return inner, outer
        return self.nodes[-1], None

    def _insert(self, node: Node) -> None:
        self.nodes.append(node)
        self.nodes.sort(key=lambda n: self.side * n.psi)

    def replace_inward(self, better: Node) -> None:
        """Follow a lower minimum from the outermost node inward as far as it is lower."""
        self.nodes[-1] = better
        for i in range(len(self.nodes) - 2, 0, -1):
            here, phi = self.nodes[i], self.nodes[i + 1].phi
            node = self.tracer.settle(here.psi, phi, better.branch, otherwise=here.phi)
            if node.rise > self.nodes[i].rise - _LOWER:
                break
            self.nodes[i] = node

    # -------------------------------------------------------------- where to look next

    def _propose(self, inner: Node, outer: Node | None, target: float, *, halve: bool) -> float:
        """Next ``psi``, by the rates of the nodes; inside the bracket if there is one."""
        if outer is None:
            psi = inner.psi + self.side * self._stride(inner, target)
            return float(np.clip(psi, self.tracer.path.lower, self.tracer.path.upper))
        a, b = self.side * inner.psi, self.side * outer.psi
        guess = self._inside(inner, outer, target)
        margin = 0.02 * (b - a)
        if halve or not a + margin < guess < b - margin:
            guess = 0.5 * (a + b)
        return self.side * guess

    def _stride(self, inner: Node, target: float) -> float:
        """Step outward from the last node."""
        wanted = target - abs(inner.zeta)
        if len(self.nodes) == 1:
            return wanted * self._first_rate()
        before = self.nodes[-2]
        last = abs(inner.psi - before.psi)
        if not 0.0 < inner.rate < _LEVEL * last:
            return abs(self.bound - inner.psi) if np.isfinite(self.bound) else 2.0 * last
        step = wanted * inner.rate
        gone = abs(inner.zeta) - abs(before.zeta)
        rate = before.rate if len(self.nodes) > 2 else 2.0 * last / gone - inner.rate
        if 0.0 < rate < np.inf and gone > 0.0:
            bend = 0.5 * (inner.rate - rate) / gone * wanted**2
            step += float(np.clip(bend, -0.5 * step, step))
        return min(step, 2.0 * abs(inner.psi - self.tracer.path.start))

    def _first_rate(self) -> float:
        """``d psi / d zeta`` at the estimate: of the other side, or by the Newton matrix."""
        path = self.tracer.path
        if len(self.known) > 1 and abs(self.known[1].zeta) > 0.3:
            rate = abs((self.known[1].psi - path.start) / self.known[1].zeta)
        else:
            point = path.at(path.start, path.free)
            curvature = point.curvature + float(point.cross @ _tangent(point))
            rate = np.sqrt(2.0 / curvature) if curvature > 0.0 else np.inf
        return float(np.clip(rate, 0.1 * path.unit, 20.0 * path.unit))

    def _inside(self, inner: Node, outer: Node, target: float) -> float:
        """Inverse interpolation between two nodes, ``side * psi``."""
        a, b, t, u = self.side * inner.psi, self.side * outer.psi, abs(inner.zeta), abs(outer.zeta)
        h = u - t
        steep = [n.rate for n in (inner, outer)]
        if inner.zeta == 0.0:
            steep[0] = 2.0 * (b - a) / h - steep[1]
        if all(0.0 < r < np.inf for r in steep):
            x = (target - t) / h
            d = (b - a) / h
            return a + (target - t) * (
                steep[0]
                + x * (3.0 * d - 2.0 * steep[0] - steep[1])
                + x * x * (steep[0] + steep[1] - 2.0 * d)
            )
        if 0.0 < steep[0] < np.inf:
            return a + (target - t) * steep[0]
        if not np.isfinite(steep[1]):
            return b - (b - a) * float(np.sqrt((u - target) / h))
        return b - (u - target) * steep[1]


def _predict(path: Path, around: Sequence[Node], psi: float) -> Floats:
    """Start of the minimisation at ``psi``: extrapolated from the nearest nodes."""
    if len(around) == 1 and around[0].is_estimate:
        point = path.at(path.start, path.free)
        return path.free + (psi - path.start) * _tangent(point)
    chosen = _spread(sorted(around, key=lambda n: abs(n.psi - psi)), psi)
    for size in (4, 3, 2):
        weights = _lagrange([n.psi for n in chosen[:size]], psi)
        if np.abs(weights).sum() < _WILD:
            return np.asarray(weights @ np.array([n.phi for n in chosen[:size]]))
    return chosen[0].phi


def _doubtful(nodes: Sequence[Node], i: int) -> list[float]:
    """Middle of the interval after node ``i``, if the cubic and a higher polynomial disagree there.

    The second goes through the neighbours of the two nodes as well.
    """
    left, right = nodes[i], nodes[i + 1]
    h = right.psi - left.psi
    if abs(right.zeta - left.zeta) < _SMALL:
        return []
    before = [n for n in nodes[:i] if left.psi - n.psi > 0.1 * h][-1:]
    after = [n for n in nodes[i + 2 :] if n.psi - right.psi > 0.1 * h][:1]
    wide = [left, right, *before, *after]
    cubic, higher = (_through(some, left.psi + 0.5 * h) for some in ([left, right], wide))
    apart = abs(cubic - higher) > _AGREE * abs(left.zeta + right.zeta)
    return [left.psi + 0.5 * h] if apart else []


def _through(nodes: Sequence[Node], psi: float) -> float:
    """``zeta`` at ``psi`` of the polynomial with the values and slopes of some nodes.

    Newton's divided differences, every node twice.
    """
    at = [n.psi for n in nodes for _ in range(2)]
    row = [n.zeta for n in nodes for _ in range(2)]
    value, product = row[0], 1.0
    for order in range(1, len(at)):
        row = [
            (row[i + 1] - row[i]) / (at[i + order] - at[i])
            if order > 1 or i % 2
            else nodes[i // 2].zeta_rate
            for i in range(len(row) - 1)
        ]
        product *= psi - at[order - 1]
        value += row[0] * product
    return value


def _spread(around: Sequence[Node], psi: float) -> list[Node]:
    """Nodes, nearest to ``psi`` first, without those that are close to a nearer one."""
    chosen = [around[0]]
    gap = 0.5 * abs(around[0].psi - psi)
    for node in around[1:]:
        if min(abs(node.psi - other.psi) for other in chosen) > gap:
            chosen.append(node)
    return chosen


def _lagrange(at: Sequence[float], x: float) -> Floats:
    """Weights of the values at some places in the polynomial through them, at ``x``."""
    places = np.array(at)
    rest = [np.delete(places, i) for i in range(len(places))]
    return np.array([np.prod((x - r) / (a - r)) for a, r in zip(places, rest, strict=True)])


def _tangent(point: PathPoint) -> Floats:
    """``d phi / d psi`` along constrained minima, by the Newton matrix."""
    if not len(point.cross):
        return point.cross
    values, vectors = np.linalg.eigh(point.newton_matrix)
    live = values > 1e-7 * np.abs(values).max()
    inverse = np.where(live, 1.0, 0.0) / np.where(live, values, 1.0)
    return -vectors @ (inverse * (vectors.T @ point.cross))
