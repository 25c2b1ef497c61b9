"""Small random models of many structures, scales and weights, with singular truths among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_FIXED = (
    "1",
    "x1",
    "x2",
    "x1 + x2",
    "f1",
    "f1 + x1",
    "x1*f1",
    "f2",
    "x1:f1 + x2",
    "f1 + f2 + x1",
)
_RANDOM = (
    "(1|a)",
    "(x1|a)",
    "(x2|a)",
    "(x1||a)",
    "(x2||a)",
    "(f1|a)",
    "(x1+x2|a)",
    "(x1+x2||a)",
    "(x1*f1|a)",
    "(0+x1|a)",
    "(1|a)+(1|b)",
    "(x1|a)+(1|b)",
    "(x2||a)+(1|b)",
    "(1|a/b)",
    "(x1|a/b)",
    "(x1|a)+(x1|b)",
    "(x2||a)+(x2||b)",
    "(f2|a)",
    "(0+f1||a)",
    "(x1||a/b)",
    "(x1*f2|a)",
)


@dataclass(frozen=True)
class RandomModel:
    """A formula, its data, and how to fit it; the seed makes all of it again."""

    seed: int
    formula: str
    data: pd.DataFrame
    method: str
    weights: str | None

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.formula}, {self.method}, weights {self.weights}"


def random_model(seed: int) -> RandomModel:
    """The model of a seed."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([16, 24, 36, 60, 100, 160]))
    groups = {name: _codes(rng, n, most) for name, most in (("a", 13), ("b", 11))}
    unit = 10.0 ** rng.choice([0, 0, 0, -2, 1, 3])
    z = rng.normal(size=n)
    columns = {
        **groups,
        "x1": unit * (z + rng.choice([0.0, 0.0, 0.0, 3.0, 50.0])),
        "x2": rng.uniform(0.0, 3.0, n),
        "f1": rng.choice(list("uv"), n),
        "f2": rng.choice(list("rst"), n),
        "w": 10.0 ** rng.uniform(-1, 1, n) * rng.choice([1.0, 1.0, 1e-3]),
    }
    fixed = str(rng.choice(_FIXED))
    if rng.random() < 0.08:
        fixed = f"0 + {'x1' if fixed == '1' else fixed}"
    formula = f"y ~ {fixed} + {rng.choice(_RANDOM)}"
    columns["y"] = _response(rng, columns, z)
    weights = "w" if rng.random() < 0.3 else None
    data = pd.DataFrame(columns)
    return RandomModel(seed, formula, data, str(rng.choice(["ML", "REML"])), weights)


def _codes(rng: np.random.Generator, n: int, most: int) -> np.ndarray:
    """Codes of a grouping factor with few levels, in turn or at random."""
    levels = int(rng.integers(3, max(4, min(most, n // 3))))
    return np.arange(n) % levels if rng.random() < 0.4 else rng.integers(0, levels, n)


def _response(rng: np.random.Generator, columns: dict[str, np.ndarray], z: np.ndarray):
    """Effects of random sizes, many of them zero, in random units."""
    n = len(z)
    y = rng.normal(size=n) + 0.5 * z + 0.3 * columns["x2"]
    for group in ("a", "b"):
        codes = columns[group]
        for column in (np.ones(n), 0.5 * z, 0.3 * columns["x2"], columns["f1"] == "u"):
            sd = float(rng.choice([0.0, 0.0, 0.2, 0.5, 1.0, 2.0, 5.0]))
            y += sd * rng.normal(size=codes.max() + 1)[codes] * column
    if rng.random() < 0.15:
        y *= np.exp(rng.normal(size=n))
    return y * 10.0 ** rng.choice([0, 0, 0, 2, -3]) + rng.choice([0.0, 0.0, 0.0, 10.0])
