"""New responses for the bootstrap: residual and wild resampling of a fitted model.

A sampler turns uniform numbers, ``n_draws`` per replicate, into deviations ``(n, B)`` from
``X beta + offset``; parametric ones come from :class:`interlace.model.simulate.Simulator`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from interlace.batch.refits import WeightedColumns
from interlace.design.design import Design
from interlace.estimation.estimate import Estimate
from interlace.model.predict import fitted
from interlace.model.simulate import Simulator, expected
from interlace.sums.crossprod import Codes, group_sums
from interlace.sums.terms import Floats

# Directions with less than this share of the largest variance hold no effects to rescale.
_EMPTY = 1e-10
# Mammen's (1993) two points have mean 0 and second and third moments 1.
_ROOT5 = 5.0**0.5
_LOW, _HIGH = -(_ROOT5 - 1.0) / 2.0, (_ROOT5 + 1.0) / 2.0
_P_LOW = (_ROOT5 + 1.0) / (2.0 * _ROOT5)


@dataclass(frozen=True, eq=False)
class Parametric:
    """Normal random effects and residuals with the estimated variances."""

    model: Simulator

    @property
    def n_draws(self) -> int:
        """Normal numbers for a replicate."""
        return self.model.n_draws

    def deviations(self, rng: np.random.Generator, count: int) -> Floats:
        """``(n, count)``."""
        return self.model.deviations(rng.standard_normal((count, self.n_draws)))


@dataclass(frozen=True, eq=False)
class Reflated:
    """Estimated effects and residuals, centred, with exactly the estimated covariances.

    ``b`` is (l, k) per term in the user's units; ``e`` (n,) are residuals times the root of the
    weights.

    Notes
    -----
    BLUPs are shrunk, so that their empirical covariance is smaller than the estimated one.  Of each
    term, the effects ``u`` (``b = T u``) are centred and multiplied by the symmetric root of
    ``sigma^2 (u'u / l)^-1``, after which ``b`` has the covariance ``sigma^2 T T'`` over its levels
    (Carpenter, Goldstein and Rasbash 2003, Journal of the Royal Statistical Society C 52, 431-443,
    who take another root).  Directions in which ``T`` is singular hold no effects and get none.
    """

    b: tuple[Floats, ...]
    e: Floats


def reflated(design: Design, estimate: Estimate) -> Reflated:
    """Effects and residuals of a fit, reflated."""
    factor = estimate.evaluation.factor
    parts = zip(factor.effects, estimate.templates, estimate.A.basis.random, strict=True)
    b = tuple(estimate.sigma * _whitened(f.u) @ (B @ T).T for f, T, B in parts)
    residuals = design.y - fitted(design, estimate, [True] * len(design.terms))
    residuals = design.root_weights * residuals
    return Reflated(b, estimate.sigma * _whitened(residuals[:, None])[:, 0])


def _whitened(u: Floats) -> Floats:
    """Rows ``u`` (l, k) centred, with the identity (on their range) as covariance."""
    centred = u - u.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(u))
    held = values > _EMPTY * values.max(initial=0.0)
    roots = np.where(held, 1.0 / np.sqrt(np.where(held, values, 1.0)), 0.0)
    return np.asarray(centred @ ((vectors * roots) @ vectors.T))


@dataclass(frozen=True, eq=False)
class _Parts:
    """Sums of effects and residuals by row."""

    design: Design
    source: Reflated

    @cached_property
    def Z(self) -> csr_matrix:
        """All random-effects columns."""
        return self.design.random_matrix

    @cached_property
    def unweight(self) -> Floats:
        """What a weighted residual is multiplied by, ``(n, 1)``."""
        return 1.0 / self.design.root_weights[:, None]

    def summed(self, effects: Sequence[Floats], residuals: Floats) -> Floats:
        """``Z b + e`` of effects ``(l, k, B)`` per term and weighted residuals ``(n, B)``."""
        stacked = np.concatenate([b.reshape(-1, b.shape[-1]) for b in effects])
        return np.asarray(self.Z @ stacked + self.unweight * residuals)


@dataclass(frozen=True, eq=False)
class Residual(_Parts):
    """Levels of every term, and rows, drawn with replacement from the reflated ones."""

    @property
    def n_draws(self) -> int:
        """Uniform numbers for a replicate."""
        return sum(t.l for t in self.design.terms) + len(self.design.y)

    def deviations(self, rng: np.random.Generator, count: int) -> Floats:
        """``(n, count)``."""
        uniform, start = rng.random((count, self.n_draws)).T, 0
        effects = []
        for b in self.source.b:
            drawn = pick(uniform[start : start + len(b)])
            effects.append(b[drawn].transpose(0, 2, 1))
            start += len(b)
        return self.summed(effects, self.source.e[pick(uniform[start:])])


def pick(uniform: Floats) -> Codes:
    """As many draws with replacement as there are rows, from numbers in [0, 1)."""
    return (uniform * len(uniform)).astype(np.intp)


@dataclass(frozen=True, eq=False)
class WildClusters:
    """Adjusted residuals of whole clusters times one multiplier each."""

    residuals: Floats
    codes: Codes
    n_draws: int

    def deviations(self, rng: np.random.Generator, count: int) -> Floats:
        """``(n, count)``."""
        multipliers = mammen(rng.random((count, self.n_draws)).T)
        return np.asarray(self.residuals[:, None] * multipliers[self.codes])


@dataclass(frozen=True, eq=False)
class WildParts(_Parts):
    """Reflated effects times a multiplier per level of a factor, residuals times one per row.

    ``starts`` are the first draws of the factor of every term, then of the rows.
    """

    starts: tuple[int, ...]

    @property
    def n_draws(self) -> int:
        """Uniform numbers for a replicate."""
        return self.starts[-1] + len(self.design.y)

    def deviations(self, rng: np.random.Generator, count: int) -> Floats:
        """``(n, count)``."""
        multipliers = mammen(rng.random((count, self.n_draws)).T)
        effects = [
            b[:, :, None] * multipliers[start : start + len(b), None]
            for b, start in zip(self.source.b, self.starts[:-1], strict=True)
        ]
        return self.summed(effects, self.source.e[:, None] * multipliers[self.starts[-1] :])


def mammen(uniform: Floats) -> Floats:
    """Mammen's two-point multipliers from numbers in [0, 1)."""
    return np.where(uniform < _P_LOW, _LOW, _HIGH)


def wild(
    design: Design, estimate: Estimate, columns: WeightedColumns, groups: Mapping[str, Codes]
) -> WildClusters | WildParts:
    """The wild bootstrap of a design: by cluster, or by part where factors are crossed."""
    outer = containing(groups)
    if outer is not None:
        return wild_clusters(design, estimate, columns, groups[outer])
    starts: dict[str, int] = {}
    total = 0
    for term in design.terms:
        if term.group not in starts:
            starts[term.group] = total
            total += term.l
    places = (*(starts[t.group] for t in design.terms), total)
    return WildParts(design, reflated(design, estimate), places)


def wild_clusters(
    design: Design, estimate: Estimate, columns: WeightedColumns, codes: Codes
) -> WildClusters:
    """Marginal residuals, adjusted by cluster for the leverage of the fixed effects.

    Notes
    -----
    ``(I - H_c)^-1/2 r_c`` for cluster ``c``, with ``r`` the residuals from ``X beta`` and ``H`` the
    hat matrix of least squares on ``X`` (both times the root of the weights): MacKinnon and White's
    HC2 for whole clusters (Bell and McCaffrey 2002, Survey Methodology 28, 169-181).  A direction
    that a cluster determines alone (leverage 1) is left as it is.
    """
    Q, root = columns.Q, columns.root_w
    n, p = Q.shape
    l = int(codes.max()) + 1
    r = root * (design.y - expected(design, estimate))
    products = (Q[:, :, None] * Q[:, None, :]).reshape(n, p * p)
    leverage = group_sums(codes, l, products).reshape(l, p, p) / n if p else np.zeros((l, 0, 0))
    values, vectors = np.linalg.eigh(leverage)
    values = np.clip(values, 0.0, 1.0)
    partial = (values > _EMPTY) & (values < 1.0 - _EMPTY)
    safe = np.where(partial, values, 0.5)
    rate = np.where(partial, ((1.0 - safe) ** -0.5 - 1.0) / safe, 0.0)
    if p:
        g = group_sums(codes, l, Q * r[:, None]) / n
        inner = (vectors.transpose(0, 2, 1) @ g[:, :, None]) * rate[:, :, None]
        coefficients = (vectors @ inner)[:, :, 0]
        r = r + (Q * coefficients[codes]).sum(axis=1)
    return WildClusters(r / root, codes, l)


def containing(groups: Mapping[str, Codes]) -> str | None:
    """The grouping factor in whose levels all others are nested, if there is one."""
    for name, codes in groups.items():
        if all(is_nested(other, codes) for other in groups.values()):
            return name
    return None


def is_nested(inner: Codes, outer: Codes) -> bool:
    """Whether every level of ``inner`` occurs with one level of ``outer`` alone."""
    if inner is outer:
        return True
    parent = np.zeros(int(inner.max()) + 1, dtype=np.intp)
    parent[inner] = outer
    return bool((parent[inner] == outer).all())
