"""Numbers of any size: columns and weights near 1 by powers of two, before they are squared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interlace.errors import InterlaceError
from interlace.sums.rows import Basis, Rows, lengths
from interlace.sums.terms import Floats

# Sizes of columns and of weights; their reciprocals, the smallest, must be numbers as well.
_LARGEST = 1e301
# Columns and weights within this power of 2 of 1 are left as they are: fourth powers fit.
COMMON = 200
# Numbers of which the square is in range are within this power of 2 of 1.
_SQUARES = 500
# Numbers below this have lost digits.
_TINY = float(np.finfo(np.float64).tiny)

Powers = NDArray[np.int64]
R = TypeVar("R", bound=Rows)


@dataclass(frozen=True, eq=False)
class Units:
    """Powers of 2 in which a model is measured so that its numbers are near 1.

    The response is ``2^response`` times one in these units, the columns of ``X`` are times
    ``2^fixed`` (p,), those of the random terms times ``2^random[j]`` (k_j,), and the weights times
    ``2^weights``, an even power.
    """

    response: int
    fixed: Powers
    random: tuple[Powers, ...]
    weights: int

    @property
    def plain(self) -> bool:
        """Whether all of them are 1."""
        return not (self.response or self.weights or self.fixed.any()) and not any(
            one.any() for one in self.random
        )

    @property
    def beyond_squares(self) -> bool:
        """Whether squares of estimates leave the range of doubles, or come near its end."""
        powers = np.concatenate([[self.sigma], self.coefficients, *self.effects])
        return bool((np.abs(powers) > _SQUARES).any())

    @property
    def sigma(self) -> int:
        """That of the residual standard deviation."""
        return self.response + self.weights // 2

    @property
    def coefficients(self) -> Powers:
        """Those of the fixed effects, ``(p,)``."""
        return self.response - self.fixed

    @property
    def effects(self) -> tuple[Powers, ...]:
        """Those of the random effects, ``(k,)`` per term."""
        return tuple(self.response - one for one in self.random)

    def of_basis(self, basis: Basis) -> Basis:
        """The maps from columns in these units, where ``basis`` has those from the user's."""
        half = self.weights // 2
        powers = np.append(self.fixed, self.response)
        return Basis(
            np.ldexp(basis.fixed, powers[:, None] + half),
            tuple(
                np.ldexp(B, one[:, None] + half)
                for B, one in zip(basis.random, self.random, strict=True)
            ),
        )

    def inverse(self) -> Units:
        """Those that undo these."""
        return Units(-self.response, -self.fixed, tuple(-one for one in self.random), -self.weights)


def power_of(size: float) -> int:
    """The power of 2 of a size, 0 where that is common."""
    power = math.frexp(size)[1]
    return 0 if abs(power) <= COMMON else power


def units_of_basis(basis: Basis, n: int, sum_log_w: float) -> Units:
    """Units of columns that are known by the maps to working ones, of mean square near 1."""
    half = power_of(math.exp(min(max(0.5 * sum_log_w / n, -700.0), 700.0)))
    sizes = lengths(np.asarray(np.linalg.inv(basis.fixed[:-1, :-1]), dtype=np.float64))
    fixed = [power_of(math.ldexp(size, -half)) for size in sizes.tolist()]
    random = [
        _powers([power_of(math.ldexp(size, -half)) for size in one.tolist()])
        for one in basis.root_mean_squares
    ]
    response = power_of(math.ldexp(1.0 / abs(basis.response_scale), -half))
    return Units(response, _powers(fixed), tuple(random), 2 * half)


def units_of_rows(rows: Rows) -> Units:
    """Units of the columns and weights of rows; the response needs none, it is scaled later.

    Raises
    ------
    InterlaceError
        A number is beyond what doubles have reciprocals of, naming the column.
    """
    weights = 0
    if rows.weights is not None and len(rows.weights):
        for size in (rows.weights.max(), rows.weights.min()):
            _check("a weight", float(size))
        weights = 2 * (power_of(float(rows.weights.max())) // 2)
    root = 2.0 ** (weights // 2)
    _check("the response", _size(rows.response), root)
    fixed = [_power(name, x, root) for name, x in zip(rows.names, rows.X.T, strict=True)]
    random = [
        _powers([_power(c, z, root) for c, z in zip(term.columns, Z.T, strict=True)])
        for term, Z in zip(rows.terms, rows.Z, strict=True)
    ]
    return Units(0, _powers(fixed), tuple(random), weights)


def require_squares(rows: Rows) -> None:
    """Refuse numbers of which squares, or those of reciprocals, are out of range.

    Raises
    ------
    InterlaceError
        Naming the column, and a factor that brings it into range.
    """
    named = zip(rows.names, rows.X.T, strict=True)
    slopes = [
        (f"column {name!r}", z)
        for term, Z in zip(rows.terms, rows.Z, strict=True)
        for name, z in zip(term.columns, Z.T, strict=True)
    ]
    columns = [("the response", rows.response), *((f"column {name!r}", x) for name, x in named)]
    columns += slopes
    for what, column in columns:
        size = _size(column) if column.strides[0] else 1.0
        if size and not 2.0**-_SQUARES <= size <= 2.0**_SQUARES:
            raise InterlaceError(
                f"{what} is of the size {size:.1e}, and its squares are out of the range of double "
                f"precision: give it in other units, times 1e{-round(math.log10(size))}"
            )


def _power(name: str, column: Floats, root: float) -> int:
    """The power of 2 of a column, which must have a reciprocal."""
    if not column.strides[0] or not len(column):
        return 0
    size = _size(column)
    _check(f"column {name!r}", size, root)
    return power_of(size)


def _powers(numbers: Sequence[int]) -> Powers:
    return np.array(numbers, dtype=np.int64)


def _size(column: Floats) -> float:
    """The largest absolute value."""
    return max(float(column.max()), -float(column.min())) if len(column) else 0.0


def _check(what: str, size: float, root: float = 1.0) -> None:
    """Refuse a size that has no reciprocal, or that is no normal number; 0 is fine.

    With ``root`` that of the weights, by which columns are multiplied.
    """
    if not size:
        return
    if not 1.0 / _LARGEST <= size <= _LARGEST:
        power = -round(math.log10(size))
        raise InterlaceError(
            f"{what} is of the size {size:.1e}, at the end of the range of double precision, where "
            f"sums and reciprocals leave it; give it in other units, times 1e{power}"
        )
    tens = math.log10(size) + math.log10(root)
    if abs(tens) > math.log10(_LARGEST):
        raise InterlaceError(
            f"{what} is of the size {size:.1e}, and times the roots of the weights, of 1e"
            f"{round(tens)}, not in the range of double precision; give weights near 1: a factor "
            "that they have in common changes the residual variance alone"
        )


def tamed(rows: R, units: Units) -> R:
    """Rows measured in units."""
    Z = [_scaled(Z, one) for Z, one in zip(rows.Z, units.random, strict=True)]
    same = [Z[j] for j in range(len(Z)) if rows.Z[j] is rows.X]
    return replace(
        rows,
        y=_scaled(rows.y, units.response),
        offset=None if rows.offset is None else _scaled(rows.offset, units.response),
        X=same[0] if same else _scaled(rows.X, units.fixed),
        Z=tuple(Z),
        weights=None if rows.weights is None else _scaled(rows.weights, units.weights),
    )


def _scaled(numbers: Floats, power: Powers | int) -> Floats:
    """Numbers over powers of 2, themselves where these are 1."""
    return np.ldexp(numbers, -np.asarray(power)) if np.any(power) else numbers


def in_units_or_nan(numbers: ArrayLike, power: ArrayLike) -> Floats:
    """Numbers times powers of 2; NaN where these are not in the range of double precision."""
    numbers = np.asarray(numbers, dtype=np.float64)
    found = _times(numbers, power)
    return np.where(_lost(numbers, found), np.nan, found)


def _times(numbers: Floats, power: ArrayLike) -> Floats:
    """Numbers times powers of 2, whether in range or not."""
    with np.errstate(over="ignore", under="ignore"):
        found: Floats = np.ldexp(numbers, np.asarray(power, dtype=np.int64))
    return found


def _lost(numbers: Floats, found: Floats) -> NDArray[np.bool_]:
    """Which products of numbers left the range of double precision."""
    there = (abs(found) >= _TINY) & np.isfinite(found)
    return np.asarray((numbers != 0.0) & np.isfinite(numbers) & ~there)


def in_units(numbers: ArrayLike, power: ArrayLike, what: str, instead: str = "") -> Floats:
    """Numbers times powers of 2.

    Raises
    ------
    InterlaceError
        One of them is not in the range of double precision; ``what`` says what they are, and
        ``instead`` how to have it.
    """
    numbers = np.asarray(numbers, dtype=np.float64)
    found = _times(numbers, power)
    if (lost := _lost(numbers, found)).any():
        size = np.abs(np.broadcast_to(numbers, found.shape)[lost][0])
        exponent = np.broadcast_to(np.asarray(power), found.shape)[lost][0]
        tens = round(float(np.log10(size) + exponent * np.log10(2.0)))
        raise InterlaceError(
            f"{what} is of the size 1e{tens}, not in the range of double precision (1e-308 to "
            f"1e308): {instead or 'give the response, or the column, in other units'}"
        )
    return found
