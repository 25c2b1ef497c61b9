"""Random generalised models, many of them with a singular truth, made from a seed each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

FAMILIES = (
    ("binomial", "logit"),
    ("binomial", "logit"),
    ("binomial", "probit"),
    ("binomial", "cloglog"),
    ("poisson", "log"),
    ("poisson", "log"),
    ("poisson", "sqrt"),
    ("negative-binomial", "log"),
    ("nbinom1", "log"),
    ("gamma", "log"),
    ("beta", "logit"),
)
STRUCTURES = {
    "scalar": "(1 | g)",
    "slope": "(1 + x | g)",
    "diagonal": "(1 + x || g)",
    "crossed": "(1 | g) + (1 | h)",
    "crossed slope": "(1 + x | g) + (1 | h)",
    "two slopes": "(1 + x | g) + (1 + x | h)",
    "nested": "(1 | g) + (1 | g:h)",
    "row": "(1 | g) + (1 | i)",
    "three": "(1 + x + z | g)",
}


@dataclass(frozen=True)
class Drawn:
    """A model and its data; ``trials`` is the name of a column, or nothing."""

    seed: int
    family: str
    link: str
    formula: str
    trials: str
    data: pd.DataFrame


def drawn(seed: int) -> Drawn:
    """The model of a seed."""
    rng = np.random.default_rng(seed)
    family, link = FAMILIES[rng.integers(len(FAMILIES))]
    names = [s for s in STRUCTURES if s != "row" or (family == "poisson" and link == "log")]
    structure = names[rng.integers(len(names))]
    n = int(rng.integers(60, 260))
    l, m = int(rng.integers(6, 16)), int(rng.integers(4, 9))
    data = pd.DataFrame(
        {
            "g": rng.integers(0, l, n).astype(str),
            "h": rng.integers(0, m, n).astype(str),
            "i": np.arange(n).astype(str),
            "x": np.round(rng.normal(size=n), 6),
            "z": np.round(rng.uniform(-1.0, 1.0, n), 6),
        }
    )
    eta = 0.4 * data.x.to_numpy() + effects(rng, data, structure)
    trials = family == "binomial" and rng.random() < 0.4
    data["size"] = rng.integers(2, 9, n) if trials else 1
    data["y"] = response(rng, family, link, eta, data["size"].to_numpy())
    formula = f"y ~ x + {STRUCTURES[structure]}"
    return Drawn(seed, family, link, formula, "size" if trials else "", data)


def effects(rng: np.random.Generator, data: pd.DataFrame, structure: str) -> np.ndarray:
    """What random effects add; a third of the covariances are singular, some are zero."""
    total = np.zeros(len(data))
    columns = np.column_stack((np.ones(len(data)), data.x, data.z))
    terms = {
        "scalar": [("g", 1)],
        "slope": [("g", 2)],
        "diagonal": [("g", 2)],
        "crossed": [("g", 1), ("h", 1)],
        "crossed slope": [("g", 2), ("h", 1)],
        "two slopes": [("g", 2), ("h", 2)],
        "nested": [("g", 1), ("gh", 1)],
        "row": [("g", 1), ("i", 1)],
        "three": [("g", 3)],
    }[structure]
    for group, k in terms:
        keys = data.g + data.h if group == "gh" else data[group]
        levels, codes = np.unique(keys, return_inverse=True)
        root = rng.normal(size=(k, k)) * rng.choice([0.2, 0.5, 0.8])
        fate = rng.random()
        if fate < 0.15:
            root[:] = 0.0
        elif fate < 0.4:
            root[:, -1] = 0.0
        b = rng.normal(size=(len(levels), k)) @ root.T
        total += np.einsum("nk,nk->n", columns[:, :k], b[codes])
    return np.clip(total, -3.0, 3.0)


def response(
    rng: np.random.Generator, family: str, link: str, eta: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """A response with this predictor."""
    if family == "binomial":
        p = 1.0 / (1.0 + np.exp(-(eta - 0.2)))
        return rng.binomial(size, p).astype(float)
    if family == "beta":
        p = 1.0 / (1.0 + np.exp(-eta))
        return np.clip(np.round(rng.beta(8.0 * p, 8.0 * (1.0 - p)), 6), 1e-3, 1.0 - 1e-3)
    mean = np.exp(np.clip(0.8 + eta, -2.0, 3.5))
    if link == "sqrt":
        mean = (2.2 + 0.3 * eta) ** 2
    if family == "gamma":
        return np.round(mean * rng.gamma(4.0, 0.25, len(mean)), 6) + 1e-3
    if family in ("negative-binomial", "nbinom1"):
        mean = mean * rng.gamma(2.0, 0.5, len(mean))
    return rng.poisson(mean).astype(float)
