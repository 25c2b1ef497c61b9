"""A generalised model as arrays: family, responses, rows, and where its parameters lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from interlace.glmm.equations import Equations
from interlace.glmm.families import Curve, Family, Slope
from interlace.glmm.parts import Parts, parts_of
from interlace.glmm.patterns import refined
from interlace.glmm.working import Working
from interlace.solver.layout import Layout
from interlace.solver.probes import Probes
from interlace.sums.cells import Codes
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats, pack, places, unpack

# Rows at a time, so that what a family computes on the way stays in the cache.
_ROWS = 1 << 13


class Parameters(NamedTuple):
    """Working templates, fixed effects in the working basis, and auxiliary coefficients."""

    templates: list[Floats]
    beta: Floats
    gamma: Floats


@dataclass(frozen=True, eq=False)
class Problem:
    """Responses of a family on the rows of a model.

    Attributes
    ----------
    family, rows
        The family with its link, and the columns.
    y, trials, weights, offset
        ``(n,)``; ``weights`` multiply the log-likelihood of their row.
    G
        Columns of the auxiliary predictors, ``(K, n, r)``; none for many families.
    parts
        What the auxiliary coefficients are.
    constant
        Sum of the parts of the log-likelihood that depend on the response alone.
    precision
        ``(p, p)``: the penalty ``beta' precision beta`` of a prior on the fixed effects, in the
        working basis; ``None`` without one.
    probes
        Of the iterative solver; ``None`` for the exact one.
    """

    family: Family
    rows: Working
    y: Floats
    trials: Floats
    weights: Floats | None
    offset: Floats
    G: Floats
    constant: float
    parts: Parts
    precision: Floats | None = None
    probes: Probes | None = None

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Entries of the templates, fixed effects, auxiliary coefficients."""
        return sum(t.template.size for t in self.rows.terms), self.rows.p, self.G.shape[2]

    @property
    def shown(self) -> Problem:
        """Rows that stand for all: these."""
        return self

    @property
    def successes(self) -> list[Floats]:
        """Successes and trials of every level of a binomial response, ``(l, 2)`` a term."""
        counts = np.stack((self.y, self.trials))
        return [
            np.stack([np.bincount(own, weights=v, minlength=t.l) for v in counts], axis=1)
            for t, own in zip(self.rows.terms, self.rows.codes, strict=True)
        ]

    def pack(self, templates: Sequence[Floats], beta: Floats, gamma: Floats) -> Floats:
        """All parameters as one vector."""
        return np.concatenate([pack(self.rows.terms, templates), beta, gamma])

    def unpack(self, x: Floats) -> Parameters:
        """Inverse of :meth:`pack`."""
        t, p, _ = self.sizes
        return Parameters(unpack(self.rows.terms, x[:t]), x[t : t + p], x[t + p :])

    def along(self, x: Floats, step: Floats) -> Parameters:
        """Parameters at ``x`` moved by a step to first order, whatever its size."""
        (t, p, _), at, terms = self.sizes, self.unpack(x), self.rows.terms
        parts = zip(terms, at.templates, places(terms), strict=True)
        templates = [T + term.template.moved(T, step[None, own])[0] for term, T, own in parts]
        beta, gamma = at.beta + step[t : t + p], at.gamma + step[t + p :]
        return Parameters(templates, beta, gamma)

    def fixed_part(self, beta: Floats) -> Floats:
        """``offset + X beta``."""
        return self.offset + self.rows.X @ beta

    def omega(self, gamma: Floats) -> Floats:
        """The auxiliary predictors of every row, ``(K, n)``."""
        return self.G @ gamma

    def to_gamma(self, v: Floats) -> Floats:
        """``G'v`` summed over the predictors, ``(r,)``, for ``v`` (K, n)."""
        return np.asarray(np.einsum("knr,kn->r", self.G, v))

    def curve(self, eta: Floats, omega: Floats) -> Curve:
        """The log-likelihood of every row and its derivatives in ``eta``."""
        n = len(eta)
        if n <= _ROWS:
            return self._curve(slice(None), eta, omega)
        found = Curve(*(np.empty(n) for _ in Curve._fields))
        shared = False
        for start in range(0, n, _ROWS):
            part = slice(start, start + _ROWS)
            values = self._curve(part, eta, omega)
            shared = values.expected is values.W  # in all rows of a family, or in none
            for whole, own in zip(found[: 4 if shared else 5], values, strict=False):
                whole[part] = own
        return found._replace(expected=found.W) if shared else found

    def _curve(self, part: slice, eta: Floats, omega: Floats) -> Curve:
        found = self.family.curve(self.y[part], self.trials[part], eta[part], omega[:, part])
        if self.weights is None:
            return found
        l, g, W, dW, expected = found
        w = self.weights[part]
        weighted = w * W
        return Curve(w * l, w * g, weighted, w * dW, weighted if expected is W else w * expected)

    def slope(self, eta: Floats, omega: Floats) -> Slope:
        """Derivatives in the auxiliary predictors."""
        found = self.family.slope(self.y, self.trials, eta, omega)
        return found if self.weights is None else Slope(*(self.weights * part for part in found))

    def responding(self, y: Floats) -> Problem:
        """The same rows with another response."""
        return replace(self, y=y, constant=_constant(self.family, y, self.trials, self.weights))

    def some(self, rows: Codes) -> Problem:
        """The problem on some of the rows; the constant stays that of all."""
        return replace(
            self,
            rows=self.rows.some(rows),
            y=self.y[rows],
            trials=self.trials[rows],
            weights=None if self.weights is None else self.weights[rows],
            offset=self.offset[rows],
            G=self.G[:, rows],
        )

    def collapsed(self) -> Problem:
        """The same likelihood of rows added up by pattern, where patterns are few."""
        name, found = self.family.name, self.rows.patterns
        exposed = name == "poisson" and self.family.link.name == "log"
        others = [] if exposed else [self.offset]
        if name not in ("binomial", "poisson"):
            others += [self.y, self.trials]
        found = (
            None
            if found is None
            else refined(found, [*others, *self.G.transpose(0, 2, 1).reshape(-1, self.rows.n)])
        )
        if found is None:
            return self
        some, w = self.some(found.first), self.weights
        total = found.sums(w)
        y = self.y if w is None else w * self.y
        if name == "binomial":
            trials = found.sums(self.trials if w is None else w * self.trials)
            return replace(some, y=found.sums(y), trials=trials, weights=None)
        if not exposed:
            mean = some.y if name != "poisson" else found.sums(y) / total
            return replace(some, y=mean, weights=total)
        top = float(self.offset.max())
        exposure = np.exp(self.offset - top)
        offset = top + np.log(found.sums(exposure if w is None else w * exposure))
        counts = found.sums(y)
        constant = self.constant + float(y @ self.offset - counts @ offset)
        return replace(some, y=counts, weights=None, offset=offset, constant=constant)

    @property
    def pattern(self) -> CrossProducts:
        """``Z'Z``, of which solvers ask where it has entries."""
        return self.rows.cross_products(np.ones(self.rows.n))

    @property
    def layout(self) -> Layout:
        """Order of elimination of the iterative solver."""
        return self.rows.layout

    def equations(
        self, W: Floats, templates: Sequence[Floats], *, probed: bool = True
    ) -> Equations:
        """The equations of the random effects at weights; without probes if only solved."""
        probes = self.probes
        if probes is not None and not probed:
            probes = replace(probes, count=0)
        return self.rows.equations(W, templates, probes)

    def penalty(self, beta: Floats) -> float:
        """What the prior on the fixed effects adds to the criterion."""
        return 0.0 if self.precision is None else float(beta @ self.precision @ beta)


def problem_of(
    family: Family,
    rows: Working,
    y: Floats,
    *,
    trials: Floats | None = None,
    weights: Floats | None = None,
    offset: Floats | None = None,
    auxiliary: tuple[Floats, Parts] | None = None,
    precision: Floats | None = None,
) -> Problem:
    """A problem with one auxiliary coefficient a predictor, unless ``auxiliary`` says otherwise."""
    n = rows.n
    G, parts = parts_of(family, n, rows.p) if auxiliary is None else auxiliary
    trials = np.broadcast_to(1.0, n) if trials is None else trials
    return Problem(
        family=family,
        rows=rows,
        y=y,
        trials=trials,
        weights=weights,
        offset=np.broadcast_to(0.0, n) if offset is None else offset,
        G=G,
        parts=parts,
        constant=_constant(family, y, trials, weights),
        precision=precision,
    )


def _constant(family: Family, y: Floats, trials: Floats, weights: Floats | None) -> float:
    """What the response alone adds to the log-likelihood."""
    constants = family.constant(y, trials)
    return float(constants.sum() if weights is None else weights @ constants)


def prior_precision(rows: Working, sd: float) -> Floats:
    """Penalty of a normal prior on every coefficient but the intercept, in the working basis."""
    penalised = np.array([float(name != "Intercept") for name in rows.names]) / sd**2
    return np.asarray(rows.fixed.T @ (penalised[:, None] * rows.fixed))


def has_units(family: Family) -> bool:
    """Whether linear predictors carry the units of the response."""
    return family.link.name in ("identity", "inverse", "sqrt")


def unit_of(family: Family, y: Floats, trials: Floats) -> float:
    """Typical size of a linear predictor, for links that carry the units of the response."""
    if not has_units(family):
        return 1.0
    eta = family.link.to_eta(family.start(y, trials))
    return float(np.sqrt(np.median(eta**2))) or 1.0
