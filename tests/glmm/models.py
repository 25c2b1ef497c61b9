"""Small random problems of every family, link and structure."""

from dataclasses import replace

import numpy as np

from interlace.covariance.templates import Diagonal, Full
from interlace.glmm.curvature import moving
from interlace.glmm.families import (
    Beta,
    Binomial,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
)
from interlace.glmm.laplace import zeros
from interlace.glmm.names import _LINKS, FAMILIES
from interlace.glmm.problem import problem_of, unit_of
from interlace.glmm.start import start_of
from interlace.glmm.working import working_rows
from interlace.sums.rows import Rows
from interlace.sums.terms import ReTerm

SIMPLE = (Beta, Binomial, Gamma, Gaussian, InverseGaussian, NegativeBinomial, Poisson)
# Families of one auxiliary predictor at most, whose means are the inverse of the link.
PLAIN = [
    *(f for f in FAMILIES.values() if isinstance(f, SIMPLE)),
    NegativeBinomial(kind=1),
]
FAMILY_LINKS = [replace(family, link=link) for family in PLAIN for link in _LINKS[type(family)]]
STRUCTURES = ("scalar", "slope", "diagonal", "crossed", "nested", "row")


def name_of(family):
    return f"{family.name}{getattr(family, 'kind', '')}-{family.link.name}"


def rows_of(structure, rng, n=72):
    """Rows without a response, with an intercept and one covariate."""
    x = rng.uniform(-1.0, 1.0, n)
    g, h = np.arange(n) % 8, np.arange(n) // 9
    ones = np.broadcast_to(1.0, (n, 1))
    slope = np.column_stack((np.ones(n), x))
    parts = {
        "scalar": [(g, ones, Full(1))],
        "slope": [(g, slope, Full(2))],
        "diagonal": [(g, slope, Diagonal(2))],
        "crossed": [(g, ones, Full(1)), (h, slope, Full(2))],
        "nested": [(g + 8 * (np.arange(n) % 3), ones, Full(1)), (g, ones, Full(1))],
        "three": [(g, np.column_stack((slope, x**2 - 0.3)), Full(3))],
        "row": [(np.arange(n), ones, Full(1)), (g, ones, Full(1))],
    }[structure]
    terms, codes, Z = [], [], []
    for j, (raw, columns, template) in enumerate(parts):
        levels, code = np.unique(raw, return_inverse=True)
        names = ("Intercept", "x", "x2")[: template.k]
        terms.append(ReTerm(f"g{j}", names, levels, template))
        codes.append(code)
        Z.append(columns)
    return Rows(
        np.zeros(n), slope, ("Intercept", "x"), tuple(Z), tuple(codes), tuple(terms), None, None
    )


def response(family, rows, rng):
    """A response near the family's means, and its trials."""
    n = len(rows.y)
    trials = np.ones(n)
    effect = 0.25 * rows.X[:, 1] + 0.2 * rng.normal(size=rows.terms[0].l)[rows.codes[0]]
    if family.name in ("binomial", "beta"):
        p = np.clip(0.4 + 0.4 * effect, 0.1, 0.8)
        if family.name == "beta":
            return np.clip(p + 0.1 * rng.normal(size=n), 0.03, 0.97), trials
        trials = rng.integers(1, 7, n).astype(float)
        return rng.binomial(trials.astype(int), p).astype(float), trials
    mean = np.exp(1.2 + effect)
    if family.name == "gaussian":
        return mean + 0.2 * rng.normal(size=n), trials
    if family.name in ("gamma", "inverse-gaussian"):
        return mean * rng.gamma(8.0, 1.0 / 8.0, n) + 0.05, trials
    return rng.poisson(mean).astype(float), trials


def problem(family, structure, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    rows = rows_of(structure, rng)
    y, trials = response(family, rows, rng)
    weights = rng.uniform(0.5, 2.0, len(y)) if weighted else None
    working = working_rows(rows, unit_of(family, y, trials))
    return problem_of(family, working, y, trials=trials, weights=weights)


def point(made, rng, singular=False):
    """Parameters near a likely optimum; with ``singular`` templates without full rank."""
    at, _ = start_of(made)
    templates = []
    for term, T in zip(made.rows.terms, at.templates, strict=True):
        size = min(float(T[0, 0]), 0.3)
        new = size * (np.eye(term.k) + 0.3 * rng.normal(size=(term.k, term.k)))
        if singular:
            new[:, -1] = 0.0
        templates.append(new if term.template.joint > 1 else np.diag(np.diag(new)))
    return made.pack(templates, at.beta + 0.02 * rng.normal(size=len(at.beta)), at.gamma + 0.1)


def gradient_error(approximation, made, x):
    """Largest difference of the gradient to differences of fourth order of the value.

    Relative to the largest entry and the rounding of the values.
    """
    base = approximation(made, made.unpack(x), zeros(made))
    base = approximation(made, base.at, base.u)
    x = made.pack(*base.at)
    found, h = base.gradient, 2e-4
    error = 0.0
    for i in np.flatnonzero(moving(made, approximation)):
        values = []
        for k in (-2, -1, 1, 2):
            to = x.copy()
            to[i] += k * h
            at = made.unpack(to)
            values.append(approximation(made, *base.ahead(at)).value)
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        error = max(error, abs(slope - found[i]))
    rounding = 1e-14 * abs(base.value) / h
    return max(error - 10.0 * rounding, 0.0) / max(np.abs(found).max(), 1.0)
