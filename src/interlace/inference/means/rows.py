"""What the rows of a fit say of the columns that its fixed effects read.

A column that is a linear combination of the columns of ``X`` is known wherever ``X`` is, so that
its mean needs no rows: first moments of ``X`` are enough.  In the same way the number of rows in a
cell of several factors is a second moment if products of two columns of ``X`` make its indicator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from interlace.design import frame
from interlace.design.design import Design, Encoding
from interlace.design.frame import Codes, Column, Levels
from interlace.inference.means.variables import Variables, combinations, level_column
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats

# A combination of columns is what was asked for if this share of its size is left at most.
_SAME = 1e-8
# Products of two columns, and cells, up to which counts are sought in second moments.
_MOST_PRODUCTS, _MOST_CELLS = 3000, 3000


class Behind(Protocol):
    """What means ask of a fit, or of a part of one that has coefficients of its own."""

    @property
    def design(self) -> Design | None: ...
    @property
    def data(self) -> object: ...
    @property
    def encoding(self) -> Encoding: ...
    @property
    def estimate(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Seen:
    """The rows behind a fit, held or not, as far as means need them."""

    model: Behind
    variables: Variables

    @property
    def held(self) -> bool:
        """Whether the fit holds its rows."""
        return self.model.design is not None

    @property
    def weighted(self) -> bool:
        """Whether means over rows that are not held weigh them, as older sums do."""
        plain = self.held or self.model.estimate.A.moments is not None
        return not plain and self.model.encoding.weights_column is not None

    @cached_property
    def kept(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which columns of ``X`` have a coefficient."""
        return columns_kept(self.variables.encoding.fixed.names, self.model.estimate.A.names)

    @cached_property
    def dependence(self) -> tuple[Floats, Floats] | None:
        """Redundant columns of ``X``: shares of the kept ones that make them, and their sizes.

        ``None`` for sums of an older file, which do not say.
        """
        design, A = self.model.design, self.model.estimate.A
        if design is None:
            if A.dependence is None and A.dropped:
                return None
            none = np.zeros((A.p, 0))
            shares = none if A.dependence is None else A.dependence
            squares = np.einsum("ij,ik,kj->j", shares, self._gram, shares) / A.n
        else:
            basis, target = design.X[:, self.kept], design.X[:, ~self.kept]
            size = np.sqrt((basis**2).mean(axis=0))
            shares = np.linalg.lstsq(basis / size, target, rcond=None)[0] / size[:, None]
            squares = (target**2).mean(axis=0)
        scale = np.sqrt(squares)
        scale[scale == 0.0] = 1.0
        return shares, scale

    def encode(self, columns: Mapping[str, Column]) -> Floats:
        """The kept columns of ``X`` for values of the columns read, ``(m, p)``."""
        return self.variables.encode(columns)[:, self.kept]

    # -------------------------------------------------------------- numbers

    def column(self, name: str) -> Column | None:
        """A column in the rows used, from the data that was fitted; ``None`` if that is gone."""
        design, data = self.model.design, self.model.data
        if design is None or data is None:
            return None
        table = frame.open_table(data)
        if name not in table.names or table.n != len(design.kept):
            return None
        return frame.plain(frame.pick(table, [name])[name][design.kept], name)

    def values(self, name: str) -> Floats | None:
        """A numeric column in the rows used, ``(n,)``; ``None`` if nothing tells."""
        design, weights = self.model.design, self._combination(name)
        if design is not None and weights is not None:
            return np.asarray(self._X @ weights, dtype=np.float64)
        found = self.column(name)
        return None if found is None else frame.numeric(found, f"the column '{name}'")

    def moments(self, name: str) -> tuple[float, float] | None:
        """Mean and standard deviation of a numeric column; ``None`` if nothing tells."""
        values = self.values(name)
        if values is not None:
            return float(values.mean()), float(values.std())
        weights = self._combination(name)
        ones = combination(self._made_up, np.ones(self._size))
        if weights is None or ones is None or self.held:
            return None
        total = ones @ self._gram @ ones
        mean = float(ones @ self._gram @ weights / total)
        around = weights - mean * ones
        squares = float(around @ self._gram @ around / total)
        return mean, float(np.sqrt(max(squares, 0.0)))

    @cached_property
    def _X(self) -> Floats:
        design = self.model.design
        assert design is not None
        return design.fixed(self.model.estimate.A.names)

    @cached_property
    def _gram(self) -> Floats:
        """``X' X`` of the kept columns, in the user's units; ``X' W X`` of sums without moments."""
        A = self.model.estimate.A
        back = np.linalg.inv(A.basis.fixed)
        vv = A.vv if A.moments is None else A.moments.fixed[1:, 1:]
        return np.asarray((back.T @ vv @ back)[:-1, :-1], dtype=np.float64)

    @property
    def _size(self) -> int:
        return int(4 * self.model.estimate.A.p + 40)

    @cached_property
    def _values(self) -> dict[str, Column]:
        """Made-up values of the columns read: random levels, random numbers."""
        rng = np.random.default_rng(0)
        found: dict[str, Column] = {}
        for name in self.variables.names:
            levels = self.variables.factors.get(name)
            if levels is None:
                found[name] = rng.uniform(0.5, 1.5, self._size)
            else:
                found[name] = np.asarray(levels)[rng.integers(len(levels), size=self._size)]
        return found

    @cached_property
    def _made_up(self) -> Floats:
        """The kept columns of ``X`` for made-up values."""
        return self.encode(self._values)

    def _combination(self, name: str) -> Floats | None:
        """Weights of the columns of ``X`` that give a column, if there are any."""
        if name in self.variables.factors:
            return None
        return combination(self._made_up, np.asarray(self._values[name], dtype=np.float64))

    # -------------------------------------------------------------- cells

    def counts(self, levels: Mapping[str, Levels]) -> Floats | None:
        """Rows in every combination of levels, in the order of :func:`combinations`.

        ``None`` if nothing tells.
        """
        return self._counted(levels) if self.held else self._second_moments(levels)

    def _positions(self, name: str, levels: Levels) -> Codes | None:
        """Positions of the rows in some levels of a column, -1 for none of them."""
        design = self.model.design
        assert design is not None
        for expr, values in design.factors.items():
            if level_column(expr) == name and expr in design.encoding.fixed.categories:
                return frame.recode(values, levels)
        if name in self.variables.factors or levels.dtype.kind not in "fiub":
            found = self.column(name)
            return None if found is None else frame.recode(found, levels)
        numbers = self.values(name)
        return None if numbers is None else _nearest(numbers, levels.astype(np.float64))

    def _counted(self, levels: Mapping[str, Levels]) -> Floats | None:
        design = self.model.design
        assert design is not None
        number = np.zeros(len(design.y), dtype=np.intp)
        known, size = np.ones(len(design.y), dtype=bool), 1
        for name, values in levels.items():
            codes = self._positions(name, values)
            if codes is None:
                return None
            known &= codes >= 0
            number += size * codes
            size *= len(values)
        return np.bincount(number[known], minlength=size).astype(np.float64)

    def _second_moments(self, levels: Mapping[str, Levels]) -> Floats | None:
        """Counts from sums: weights of products of two columns that make every indicator."""
        cells, found = combinations(levels), self.dependence
        m, width = int(np.prod([len(v) for v in levels.values()], initial=1)), len(self.kept)
        if found is None or width * (width + 1) // 2 > _MOST_PRODUCTS or m > _MOST_CELLS:
            return None
        repeated: dict[str, Column] = {n: np.tile(np.asarray(v), 3) for n, v in cells.items()}
        rng = np.random.default_rng(1)
        for name in self.variables.names:
            if name not in repeated:
                known = self.variables.factors.get(name)
                repeated[name] = (
                    rng.uniform(0.5, 1.5, 3 * m)
                    if known is None
                    else np.asarray(known)[rng.integers(len(known), size=3 * m)]
                )
        whole = np.empty((int(self.kept.sum()), width))  # all columns as combinations of the kept
        whole[:, self.kept], whole[:, ~self.kept] = np.eye(len(whole)), found[0]
        X = self.variables.encode(repeated)
        a, b = np.triu_indices(width)
        products = combination(X[:, a] * X[:, b], np.tile(np.eye(m), (3, 1)))
        if products is None:
            return None
        return np.maximum((whole.T @ self._gram @ whole)[a, b] @ products, 0.0)


def _nearest(values: Floats, levels: Floats) -> Codes:
    """Positions of numbers among few, -1 for others."""
    away = np.abs(values[:, None] - levels)
    same = away.min(axis=1) <= _SAME * np.abs(levels).max()
    return np.where(same, away.argmin(axis=1), -1)


def combination(columns: Floats, wanted: Floats) -> Floats | None:
    """Weights with ``columns @ weights = wanted``, if that can be solved."""
    if not (np.isfinite(columns).all() and np.isfinite(wanted).all()):
        return None
    size = np.sqrt((columns**2).mean(axis=0))
    size[size == 0.0] = 1.0
    found = np.linalg.lstsq(columns / size, wanted, rcond=1e-11)[0]
    rest = np.abs(columns / size @ found - wanted).max(initial=0.0)
    if rest > _SAME * np.abs(wanted).max(initial=0.0):
        return None
    return np.asarray((found.T / size).T, dtype=np.float64)
