"""Small models of every shape, and the same numbers from n x n matrices written out in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from interlace.design.design import Design, assemble
from interlace.design.formula import parse
from interlace.estimation.certificate import Convergence
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate
from interlace.sums.crossprod import Basis, CrossProducts
from interlace.sums.terms import Floats

FORMULAS = {
    "intercept": "y ~ x + (1 | g)",
    "slope": "y ~ x + (1 + x | g)",
    "uncorrelated": "y ~ x + (1 + x || g)",
    "two terms on one group": "y ~ x + (1 | g) + (0 + x | g)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "crossed slopes": "y ~ x + (1 + x | g) + (1 + z | h)",
    "three crossed": "y ~ x + (1 | g) + (1 + x || h) + (1 | f)",
    "nested in three levels": "y ~ x + (1 | a/b/c)",
    "nested slopes": "y ~ x + (1 + x | a/b/c)",
    "nested and crossed": "y ~ x + (1 + z | a/b) + (1 + x | h)",
    "factor slopes": "y ~ f + (0 + f | g)",
    "no fixed effects": "y ~ 0 + (1 | g) + (1 | h)",
}
MODELS = [(name, weighted) for name in FORMULAS for weighted in (False, True)]


def frame(n: int = 90, seed: int = 1) -> pd.DataFrame:
    """Crossed groups g, h, nested groups a/b/c, a factor f, numbers x, z, o and weights w."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 9, n), rng.integers(0, 5, n)
    a, b, c = rng.integers(0, 4, n), rng.integers(0, 2, n), rng.integers(0, 3, n)
    x, z = rng.normal(size=(2, n))
    y = 1 + 0.5 * x + rng.normal(size=n)
    y += (rng.normal(size=9) + 0.7 * rng.normal(size=9) * x[:, None])[np.arange(n), g]
    y += rng.normal(size=5)[h] + rng.normal(size=4)[a] + rng.normal(size=(4, 2))[a, b]
    columns = {"y": y, "x": x, "z": z, "o": rng.normal(size=n), "w": rng.uniform(0.5, 2, n)}
    groups = {"g": g, "h": h, "a": a, "b": b, "c": c, "f": rng.permutation(np.arange(n) % 3)}
    labels = {name: [f"{name}{i}" for i in codes] for name, codes in groups.items()}
    return pd.DataFrame(columns | labels)


def design(name: str, *, weighted: bool = False, **arguments: object) -> Design:
    """Design of one of ``FORMULAS``, or of a formula."""
    weights = "w" if weighted else None
    return assemble(parse(FORMULAS.get(name, name)), frame(), weights=weights, **arguments)


def identity(A: CrossProducts) -> Basis:
    """The basis in which working columns are the user's."""
    return Basis(np.eye(A.p + 1), tuple(np.eye(t.k) for t in A.terms))


@dataclass(frozen=True, eq=False)
class Dense:
    """A model at given templates in a given basis, from its ``n x n`` covariance matrix."""

    design: Design
    A: CrossProducts
    basis: Basis
    templates: Sequence[Floats]
    reml: bool

    @property
    def nu(self) -> int:
        return self.A.n - self.A.p if self.reml else self.A.n

    @cached_property
    def root_w(self) -> Floats:
        w = self.design.weights
        return np.ones((self.A.n, 1)) if w is None else np.sqrt(w)[:, None]

    @cached_property
    def V_rows(self) -> Floats:
        """``[X y]`` in the basis, weighted."""
        kept = np.isin(self.design.names, self.A.names)
        offset = 0.0 if self.design.offset is None else self.design.offset
        rows = np.column_stack((self.design.X[:, kept], self.design.y - offset))
        return self.root_w * (rows @ self.basis.fixed)

    @property
    def X(self) -> Floats:
        return self.V_rows[:, :-1]

    @property
    def y(self) -> Floats:
        return self.V_rows[:, -1]

    @cached_property
    def Z(self) -> list[Floats]:
        """Per term ``(n, l, k)``."""
        found = []
        for codes, Z, B, term in zip(
            self.design.codes, self.design.Z, self.basis.random, self.A.terms, strict=True
        ):
            full = np.zeros((self.A.n, term.l, term.k))
            full[np.arange(self.A.n), codes] = self.root_w * (Z @ B)
            found.append(full)
        return found

    @cached_property
    def V(self) -> Floats:
        """Covariance of the response over ``sigma^2``."""
        total = np.eye(self.A.n)
        for Z, T in zip(self.Z, self.templates, strict=True):
            rows = (Z @ T).reshape(self.A.n, -1)
            total = total + rows @ rows.T
        return total

    @cached_property
    def V_inverse(self) -> Floats:
        return np.linalg.inv(self.V)

    @cached_property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1``."""
        return np.linalg.inv(self.X.T @ self.V_inverse @ self.X)

    @property
    def beta(self) -> Floats:
        return self.vcov @ self.X.T @ self.V_inverse @ self.y

    @cached_property
    def P(self) -> Floats:
        VX = self.V_inverse @ self.X
        return self.V_inverse - VX @ self.vcov @ VX.T

    @cached_property
    def Py(self) -> Floats:
        return self.P @ self.y

    @property
    def r2(self) -> float:
        return float(self.y @ self.Py)

    @property
    def e(self) -> list[Floats]:
        """``Z' V^-1 (y - X beta)`` per term, ``(l, k)``."""
        return [np.einsum("nlk,n->lk", Z, self.Py) for Z in self.Z]

    @property
    def b(self) -> list[Floats]:
        return [e @ T @ T.T for e, T in zip(self.e, self.templates, strict=True)]

    @property
    def value(self) -> float:
        """Criterion, for the identity basis."""
        log_w = 0.0 if self.design.weights is None else np.log(self.design.weights).sum()
        value = np.linalg.slogdet(self.V)[1] - log_w
        value += self.nu * (1 + np.log(2 * np.pi * self.r2 / self.nu))
        return float(value - (np.linalg.slogdet(self.vcov)[1] if self.reml else 0.0))

    @property
    def variance_gradients(self) -> list[Floats]:
        """``sum over levels of Z' P Z - (nu / r2) e e'`` per term (``V^-1`` for ``P`` in ML)."""
        Q = self.P if self.reml else self.V_inverse
        traces = [np.einsum("nla,nm,mlb->ab", Z, Q, Z, optimize=True) for Z in self.Z]
        return [t - self.nu / self.r2 * e.T @ e for t, e in zip(traces, self.e, strict=True)]

    @property
    def conditional_covariances(self) -> list[Floats]:
        """Covariance of the effects of every level given the parameters, over ``sigma^2``."""
        rows = [(Z @ T).reshape(self.A.n, -1) for Z, T in zip(self.Z, self.templates, strict=True)]
        R = np.concatenate(rows, axis=1)
        inverse = np.linalg.inv(R.T @ R + np.eye(R.shape[1]))
        found, start = [], 0
        for term, T in zip(self.A.terms, self.templates, strict=True):
            at = start + np.arange(term.q).reshape(term.l, term.k)
            found.append(T @ inverse[at[:, :, None], at[:, None, :]] @ T.T)
            start += term.q
        return found

    @property
    def information(self) -> Floats:
        """Average information for every free entry of square templates, row by row."""
        changes = []
        for Z, T, term in zip(self.Z, self.templates, self.A.terms, strict=True):
            for a in range(term.k):
                for b in range(term.k) if term.correlated else [a]:
                    D = np.zeros((term.k, term.k))
                    D[a, b] = 1.0
                    S = D @ T.T + T @ D.T
                    changes.append(np.einsum("nla,ab,mlb,m->n", Z, S, Z, self.Py, optimize=True))
        H = np.array(changes)
        a = H @ self.Py
        return self.nu * (H @ self.P @ H.T / self.r2 - np.outer(a, a) / self.r2**2)


def random_templates(A: CrossProducts, seed: int, *, singular: bool = False) -> list[Floats]:
    """A square template per term (diagonal for ``||``); singular ones have a zero column."""
    rng = np.random.default_rng(seed)
    found = []
    for term in A.terms:
        T = rng.normal(size=(term.k, term.k))
        T = T if term.correlated else np.diag(np.diag(T))
        if singular:
            T[:, -1] = 0.0
        found.append(T)
    return found


def at_templates(A: CrossProducts, templates: Sequence[Floats], *, reml: bool = True) -> Estimate:
    """An estimate that happens to lie at the given working templates."""
    known = Convergence(True, "", np.zeros(1), np.zeros(1), 0.0, 1)
    return Estimate(Criterion(A, reml), tuple(templates), known)
