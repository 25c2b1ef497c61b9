"""Small random models for the tests of the numerical core, and their criterion by definition."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interlace.crossprod import CrossProducts, cross_products
from interlace.design import Design, assemble
from interlace.formula import parse
from interlace.terms import split_theta

FORMULAS = {
    "one intercept": "y ~ x + (1 | g)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "crossed slopes": "y ~ x + z + (1 + x | g) + (1 + z | h)",
    "independent slopes": "y ~ x + (1 + x || g) + (1 + x + z || h)",
    "three nested": "y ~ x + (1 | a / b / c)",
    "nested slopes": "y ~ x + (1 + x | a / b)",
    "nested and crossed": "y ~ x + (1 | a / b) + (1 | h)",
    "one group twice": "y ~ x + (1 | g) + (0 + x | g) + (1 | h)",
    "factor slopes": "y ~ f + (0 + f | g) + (1 | h)",
    "no fixed effects": "y ~ 0 + (1 | g) + (1 | h)",
}


def data(seed: int = 0, n: int = 160) -> pd.DataFrame:
    """Rows with crossed groups g (12), h (7) and nested groups a (4) / b / c."""
    rng = np.random.default_rng(seed)
    g, h, a = rng.integers(12, size=n), rng.integers(7, size=n), rng.integers(4, size=n)
    b, c = rng.integers(3, size=n), rng.integers(2, size=n)
    x, z = rng.normal(size=n), rng.normal(size=n)
    y = 2 + x + rng.normal(size=12)[g] + 0.5 * rng.normal(size=7)[h] * z + rng.normal(size=n)
    columns = {"y": y, "x": x, "z": z, "f": np.array(list("uvw"))[rng.integers(3, size=n)]}
    groups = {"g": g, "h": h, "a": a, "b": b, "c": c}
    return pd.DataFrame(columns | groups | {"w": rng.uniform(0.5, 2.0, n)})


def model(name: str, *, weights: str | None = None) -> tuple[Design, CrossProducts]:
    """Rows and cross-products of one of the formulas."""
    design = assemble(parse(FORMULAS[name]), data(), weights=weights)
    return design, cross_products(design)


def random_theta(A: CrossProducts, seed: int = 1) -> np.ndarray:
    """Templates with positive diagonals, as theta."""
    rng = np.random.default_rng(seed)
    return np.concatenate([np.abs(rng.normal(size=t.n_theta)) + 0.2 for t in A.terms])


def full_z(design: Design) -> np.ndarray:
    """All random-effects columns, ``(n, q)``, term by term, level by level."""
    blocks = []
    for term, codes, Z in zip(design.terms, design.codes, design.Z, strict=True):
        block = np.zeros((len(codes), term.l, term.k))
        block[np.arange(len(codes)), codes] = Z
        blocks.append(block.reshape(len(codes), -1))
    return np.concatenate(blocks, axis=1)


def relative_covariance(design: Design, theta: np.ndarray) -> np.ndarray:
    """Covariance of the response over sigma^2, ``(n, n)``."""
    Z = full_z(design)
    blocks = [
        np.kron(np.eye(t.l), T @ T.T)
        for t, T in zip(design.terms, split_theta(design.terms, theta), strict=True)
    ]
    G, start = np.zeros((Z.shape[1], Z.shape[1])), 0
    for block in blocks:
        stop = start + len(block)
        G[start:stop, start:stop] = block
        start = stop
    w = np.ones(len(Z)) if design.weights is None else design.weights
    return Z @ G @ Z.T + np.diag(1.0 / w)


def criterion_by_definition(design: Design, theta: np.ndarray, *, reml: bool) -> float:
    """Minus twice the profiled log-likelihood, from the n x n covariance."""
    V = relative_covariance(design, theta)
    n, p = design.X.shape
    Vi = np.linalg.inv(V)
    XtVX = design.X.T @ Vi @ design.X
    beta = np.linalg.solve(XtVX, design.X.T @ Vi @ design.y)
    r = design.y - design.X @ beta
    nu = n - p if reml else n
    value = np.linalg.slogdet(V)[1] + nu * (1 + np.log(2 * np.pi * (r @ Vi @ r) / nu))
    return float(value + (np.linalg.slogdet(XtVX)[1] if reml else 0.0))
