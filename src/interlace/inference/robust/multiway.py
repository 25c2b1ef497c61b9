"""Covariances robust to several crossed ways of clustering at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from interlace.inference.robust.clusters import Clusters, joined, score_sums
from interlace.inference.robust.sandwich import Scores, correction
from interlace.inference.wald import FTest, wald_f
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class MultiWay:
    """Tests with a covariance that is robust to clustering in several ways.

    Notes
    -----
    Cameron, Gelbach and Miller (2011, Journal of Business & Economic Statistics 29, 238-249): the
    sums of squared scores of every way, less those of the combinations of two, plus those of three,
    and so on, each with its own factor; negative eigenvalues are set to zero.  Tests use t and F
    with one less than the smallest number of clusters.
    """

    scores: Scores
    ways: Sequence[Clusters]
    kind: str

    @cached_property
    def vcov(self) -> Floats:
        """The covariance of the fixed effects, ``(p, p)``."""
        s = self.scores
        rows = (s.weighted * s.e[:, None]) @ s.root
        total = np.zeros((rows.shape[1], rows.shape[1]))
        for size in range(1, len(self.ways) + 1):
            for parts in combinations(self.ways, size):
                part = parts[0] if size == 1 else joined(parts)
                u = score_sums(part, rows)
                total += (
                    (-1.0) ** (size + 1) * correction(self.kind, part.count, rows.shape) * (u.T @ u)
                )
        values, vectors = np.linalg.eigh(total)
        F = s.estimate.A.basis.fixed[:-1, :-1] @ s.root @ vectors
        return np.asarray((F * np.maximum(values, 0.0)) @ F.T)

    @property
    def _df(self) -> float:
        return min(way.count for way in self.ways) - 1.0

    def df(self, L: Floats) -> Floats:
        """One less than the smallest number of clusters, for every row."""
        return np.full(len(L), self._df)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Wald's F test of ``L beta = value``."""
        return FTest(wald_f(self.scores.estimate.beta, self.vcov, L, value), len(L), self._df)
