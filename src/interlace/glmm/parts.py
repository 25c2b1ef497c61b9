"""Columns of the auxiliary predictors, and the names and units of their coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from interlace.errors import InterlaceError
from interlace.glmm.families import Family
from interlace.sums.terms import Floats

# Predictors whose exponential is reported where they are the same in every row.
_LOGARITHMS = ("dispersion", "size", "precision", "scale", "df")
# Smallest share of a column of which earlier ones say nothing.
_INDEPENDENT = 1e-10


@dataclass(frozen=True, eq=False)
class Parts:
    """What the coefficients of the auxiliary predictors are.

    Attributes
    ----------
    predictor, term
        Of every coefficient: the predictor, and its column there.
    scale
        Of every coefficient how it is reported: ``"log"`` by its exponential, ``"power"`` as one
        more than its logistic function, ``""`` as it is.
    basis
        ``(r, r)``: coefficients in the user's units from the working ones.
    shift
        ``(r, p)``: what the fixed effects, in the user's units, add to them.
    """

    predictor: tuple[str, ...]
    term: tuple[str, ...]
    scale: tuple[str, ...]
    basis: Floats
    shift: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """Of the coefficients: the predictor alone where it has one number."""
        single = {name for name in self.predictor if self.predictor.count(name) == 1}
        return tuple(
            p if p in single and t in ("Intercept", "") else f"{p}:{t}" if t else p
            for p, t in zip(self.predictor, self.term, strict=True)
        )

    def reported(self, gamma: Floats) -> Floats:
        """Coefficients in the user's units as they are reported."""
        return np.array([_REPORTED[s](v) for s, v in zip(self.scale, gamma, strict=True)])

    def steepness(self, gamma: Floats) -> Floats:
        """Derivatives of what is reported in the coefficients."""
        return np.array([_STEEPNESS[s](v) for s, v in zip(self.scale, gamma, strict=True)])


_REPORTED: Mapping[str, Callable[[float], float]] = {
    "log": np.exp,
    "power": lambda v: 1.0 + expit(v),
    "": float,
}
_UNREPORTED: Mapping[str, Callable[[float], float]] = {
    "log": np.log,
    "power": lambda v: logit(v - 1.0),
    "": float,
}
_STEEPNESS: Mapping[str, Callable[[float], float]] = {
    "log": np.exp,
    "power": lambda v: expit(v) * expit(-v),
    "": lambda v: 1.0,
}


def constant_of(predictor: str, value: float) -> float:
    """The constant of a predictor from what is reported of it; not finite if it makes no sense."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(_UNREPORTED[_scale_of(predictor)](value))


def parts_of(
    family: Family,
    n: int,
    p: int = 0,
    columns: Mapping[str, tuple[tuple[str, ...], Floats]] | None = None,
    shift: Floats | None = None,
) -> tuple[Floats, Parts]:
    """Columns ``(K, n, r)`` of the predictors of a family, and what their coefficients are.

    ``columns`` has names and matrices ``(n, r)`` of predictors that have more than a constant, and
    ``shift`` (p,) is what every threshold takes of the fixed effects.

    Raises
    ------
    InterlaceError
        The columns of a predictor are linearly dependent.
    """
    columns = columns or {}
    names: list[str] = []
    terms: list[str] = []
    scales: list[str] = []
    blocks, bases = [], []
    for name in family.predictors:
        own, matrix = columns.get(name, (("Intercept",), np.broadcast_to(1.0, (n, 1))))
        constant = own == ("Intercept",)
        basis = np.eye(1) if constant else _basis(name, own, matrix)
        names += [name] * len(own)
        terms += ["" if name.startswith("threshold") else one for one in own]
        scales += [_scale_of(name) if constant else ""] * len(own)
        blocks.append(matrix if constant else matrix @ basis)
        bases.append(basis)
    r = len(names)
    G, B = np.zeros((len(blocks), n, r)), np.zeros((r, r))
    start = 0
    for k, (block, basis) in enumerate(zip(blocks, bases, strict=True)):
        end = start + block.shape[1]
        G[k, :, start:end], B[start:end, start:end] = block, basis
        start = end
    moved = np.zeros((r, p)) if shift is None else np.tile(shift, (r, 1))
    return G, Parts(tuple(names), tuple(terms), tuple(scales), B, moved)


def _scale_of(predictor: str) -> str:
    """How a predictor that is the same in every row is reported."""
    if predictor in _LOGARITHMS:
        return "log"
    return "power" if predictor == "power" else ""


def _basis(name: str, terms: tuple[str, ...], matrix: Floats) -> Floats:
    """From working coefficients, of columns with mean square 1, to those of the columns."""
    size = np.sqrt((matrix**2).mean(axis=0))
    size[size == 0.0] = 1.0
    R = np.linalg.qr(matrix / size, mode="r") / np.sqrt(len(matrix))
    alone = np.abs(np.diag(R))
    if len(R) < len(terms) or (alone < _INDEPENDENT).any():
        bad = terms[int(np.argmin(alone))] if len(R) == len(terms) else terms[-1]
        raise InterlaceError(
            f"the columns of the formula of {name!r} are linearly dependent: {bad!r} follows from "
            f"those before it; leave it out"
        )
    return np.asarray(np.linalg.inv(R) / size[:, None])
