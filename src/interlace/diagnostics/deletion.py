"""Cross-products without some rows, and whether a model can be fitted to what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.sums.columns import Pool, working_fixed
from interlace.sums.crossprod import Cells, Codes, CrossProducts
from interlace.sums.rows import WorkingRows
from interlace.sums.terms import Floats

# Squared share of a direction of the fixed effects below which its rank is looked at closely.
_SUSPECT = 1e-7


@dataclass(frozen=True, eq=False)
class Deletable:
    """The rows of a fit in its working basis, weighted, and their cross-products ``A``.

    ``y`` (n,) is the working response.  ``A`` is in units in which all numbers are near 1.
    """

    design: Design
    A: CrossProducts
    rows: WorkingRows
    y: Floats

    @classmethod
    def of(cls, design: Design, estimate: Estimate) -> Deletable:
        """The rows of a design."""
        A, root = estimate.A, design.root_weights
        F = A.basis.fixed
        response = design.fixed(A.names) @ F[:-1, -1] + design.response * F[-1, -1]
        near = estimate.tame.A
        return cls(design, near, design.in_basis(A.basis, A.names).times(root), root * response)

    @property
    def V(self) -> Floats:
        """``[X y]``, ``(n, p + 1)``."""
        return np.column_stack((self.rows.X, self.y))

    def log_weight(self, members: Codes) -> float:
        """Sum of the logs of the weights of some rows."""
        w = self.design.weights
        return 0.0 if w is None else float(np.log(w[members]).sum())

    # -------------------------------------------------------------- cross-products

    def without(self, members: Codes) -> CrossProducts:
        """Cross-products of the other rows, in the same basis.

        Levels that lose all their rows stay, with cross-products of zero: such a level has
        ``D = I`` and no row against the rest, so it adds nothing to any part of the criterion.
        """
        A, V = self.A, np.column_stack((self.rows.X[members], self.y[members]))
        parts = [
            (codes[members], Z[members])
            for codes, Z in zip(self.rows.codes, self.rows.Z, strict=True)
        ]
        zz, zv = [], []
        for (codes, Z), own, with_v in zip(parts, A.zz, A.zv, strict=True):
            zz.append(_less(own, codes, Z[:, :, None] * Z[:, None, :]))
            zv.append(_less(with_v, codes, Z[:, :, None] * V[:, None, :]))
        cells = {}
        for (i, j), block in A.cells.items():
            (first, Zi), (second, Zj) = parts[i], parts[j]
            at = np.searchsorted(self._keys[i, j], first.astype(np.int64) * A.terms[j].l + second)
            values = _less(block.values, at, Zi[:, :, None] * Zj[:, None, :])
            cells[i, j] = Cells(block.rows, block.cols, values)
        return replace(
            A,
            n=A.n - len(members),
            vv=A.vv - V.T @ V,
            zv=tuple(zv),
            zz=tuple(zz),
            cells=cells,
            sum_log_w=A.sum_log_w - self.log_weight(members),
        )

    @cached_property
    def _keys(self) -> Mapping[tuple[int, int], Codes]:
        """Pairs of levels that occur, as one number, sorted."""
        terms = self.A.terms
        return {
            (i, j): c.rows.astype(np.int64) * terms[j].l + c.cols
            for (i, j), c in self.A.cells.items()
        }

    # -------------------------------------------------------------- what can be fitted

    def obstacles(self, sets: Sequence[Codes]) -> dict[int, str]:
        """Why the model has no fit without some of the sets, by their number."""
        removed = np.array([len(members) for members in sets])
        left = self.A.n - removed
        members = np.concatenate(sets)
        owner = np.repeat(np.arange(len(sets)), removed)
        found: dict[int, str] = {}
        for group, (codes, counts) in self._counts.items():
            levels = _levels_left(owner, codes[members], counts, len(sets))
            k = max(t.template.joint for t in self.A.terms if t.group == group)
            for i in np.flatnonzero((levels < 2) | (levels * k >= left)).tolist():
                found.setdefault(i, _crowded(group, int(levels[i]), k, int(left[i])))
        for i in np.flatnonzero(left <= self.A.p).tolist():
            found[i] = (
                f"no residual degrees of freedom: {left[i]} rows are left for {self.A.p} "
                f"coefficients"
            )
        for i in np.flatnonzero(self._doubtful(owner, members, len(sets))).tolist():
            if i not in found and (lost := self.undetermined(sets[i])):
                found[i] = lost
        return found

    @cached_property
    def _counts(self) -> Mapping[str, tuple[Codes, Codes]]:
        """Levels of the rows, and rows by level, of every grouping factor."""
        terms = self.A.terms
        return {
            term.group: (codes, np.bincount(codes, minlength=term.l))
            for term, codes in zip(terms, self.rows.codes, strict=True)
        }

    def _doubtful(self, owner: Codes, members: Codes, B: int) -> NDArray[np.bool_]:
        """Sets without which some direction of the fixed effects has little left, ``(B,)``."""
        p, X = self.A.p, self.rows.X[members]
        if not p:
            return np.zeros(B, dtype=bool)
        total = np.repeat(self.A.vv[None, :-1, :-1], B, axis=0)
        start = 0
        for i, size in enumerate(np.bincount(owner, minlength=B).tolist()):
            own = X[start : start + size]
            total[i] -= own.T @ own
            start += size
        doubtful: NDArray[np.bool_] = np.linalg.eigvalsh(total)[:, 0] <= _SUSPECT * self.A.n
        return doubtful

    def undetermined(self, members: Codes) -> str:
        """Which fixed effects the other rows do not determine, in words; empty if all are."""
        if not self._doubtful(np.zeros(len(members), dtype=np.intp), members, 1)[0]:
            return ""
        rest = np.ones(self.A.n, dtype=bool)
        rest[members] = False
        return self._dependent(rest)

    def _dependent(self, rest: NDArray[np.bool_]) -> str:
        """Columns of the rows ``rest`` that depend on earlier ones, as fitting them would find."""
        design, A = self.design, self.A
        X, y = design.fixed(A.names)[rest], design.response[rest]
        w = None if design.weights is None else design.weights[rest]
        try:
            kept, _ = working_fixed(Pool(len(y), w, A.p + 1), X, y)
        except InterlaceError:
            return "the fixed effects reproduce the response exactly"
        lost = ", ".join(name for name, keep in zip(A.names, kept, strict=True) if not keep)
        return f"the fixed effects are rank deficient: {lost}" if lost else ""


def _levels_left(owner: Codes, codes: Codes, counts: Codes, B: int) -> Codes:
    """How many levels keep a row without each of ``B`` sets, whose rows have ``codes``."""
    l = len(counts)
    pairs, removed = np.unique(owner.astype(np.int64) * l + codes, return_counts=True)
    vanished = removed == counts[pairs % l]
    return np.asarray(l - np.bincount(pairs[vanished] // l, minlength=B))


def _crowded(group: str, levels: int, k: int, n: int) -> str:
    """Too few levels, or too many for the rows, in words."""
    if levels < 2:
        return f"{'one' if levels else 'no'} level of {group!r} is left"
    if levels >= n:
        return f"{levels} levels of {group!r} are left for {n} rows"
    return f"{levels * k} effects of {group!r} are left for {n} rows"


def _less(total: Floats, at: Codes, values: Floats) -> Floats:
    """``total`` less ``values`` added up at their places."""
    left = total.copy()
    np.subtract.at(left, at, values)
    return left
