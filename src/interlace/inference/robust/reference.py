"""What robust tests compare with: the kind of covariance and the clusters, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlace.design.design import Design
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.inference.robust.clusters import Cluster, Clusters, clusters_of, crossing
from interlace.inference.robust.multiway import MultiWay
from interlace.inference.robust.sandwich import (
    KINDS,
    Pieces,
    Robust,
    Scores,
    correction,
    plain_pieces,
    scores_of,
)
from interlace.inference.robust.unbiased import unbiased_pieces
from interlace.inference.wald import FTest, Reference, wald_f
from interlace.model.fitted import FittedModel
from interlace.sums.terms import Floats


def robust_reference(model: FittedModel, kind: str, cluster: Cluster, ddf: str | None) -> Reference:
    """The reference of robust tests; see :meth:`interlace.CrossedLMEResult.cov_params`.

    Raises
    ------
    InterlaceError
        An unknown kind; clusters that the model does not take as independent, unless they are
        clusters in several ways and the kind is for that; Kenward-Roger asked for.
    """
    name = str(kind).upper()
    if name not in KINDS:
        raise InterlaceError(f"robust must be one of {', '.join(map(repr, KINDS))}, not {kind!r}")
    if ddf not in (None, "normal", "satterthwaite"):
        raise InterlaceError(
            f"a robust covariance has Satterthwaite's degrees of freedom, not {ddf!r}: leave ddf "
            "out"
        )
    design = require_rows(model.design, "a cluster-robust covariance")
    ways = clusters_of(model, cluster)
    scores = scores_of(design, model.estimate)
    found: Reference
    if len(ways) == 1:
        _refuse_crossed(model, design, ways[0])
        factor = correction(name, ways[0].count, scores.X.shape)
        found = Robust(scores, _pieces(scores, ways[0], name), factor)
    else:
        _refuse_uncovered(model, design, ways, name)
        found = MultiWay(scores, ways, name)
    return Large(model.estimate.beta, found) if ddf == "normal" else found


def _pieces(scores: Scores, clusters: Clusters, kind: str) -> Pieces:
    """What a kind of covariance needs of the clusters."""
    if kind == "CR2":
        return unbiased_pieces(scores, clusters)
    return plain_pieces(scores, clusters, power=1.0 if kind == "CR3" else 0.0)


@dataclass(frozen=True, eq=False)
class Large:
    """A reference without its degrees of freedom: normal and chi-squared."""

    beta: Floats
    of: Reference

    @property
    def vcov(self) -> Floats:
        """The covariance of the fixed effects, ``(p, p)``."""
        return self.of.vcov

    def df(self, L: Floats) -> Floats:
        """Infinite."""
        return np.full(len(L), np.inf)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Wald's chi-squared test, over its degrees of freedom."""
        return FTest(wald_f(self.beta, self.vcov, L, value), len(L), np.inf)


def _refuse_crossed(model: FittedModel, design: Design, clusters: Clusters) -> None:
    found = crossing(model, design, clusters)
    if found:
        raise InterlaceError(
            f"clusters of '{clusters.name}' are not independent in this model: levels of "
            f"{', '.join(repr(name) for name in found)} occur in several. Name a factor that "
            f"contains them, or all crossed factors, cluster=['{clusters.name}', '{found[0]}'], "
            "with robust='CR1'"
        )


def _refuse_uncovered(model: FittedModel, design: Design, ways: list[Clusters], kind: str) -> None:
    if kind in ("CR2", "CR3"):
        raise InterlaceError(
            f"robust={kind!r} is for independent clusters; clusters in several ways "
            f"({', '.join(way.name for way in ways)}) have 'CR0', 'CR1' and 'CR1S'"
        )
    crossed = [set(crossing(model, design, way)) for way in ways]
    left = set.intersection(*crossed)
    if left:
        raise InterlaceError(
            f"levels of {', '.join(map(repr, sorted(left)))} occur in several clusters of "
            f"every way ({', '.join(way.name for way in ways)}): add it to cluster"
        )
