"""Clusters of rows: named, read from the data, or given; and whether rows in two are correlated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from interlace.design import frame
from interlace.design.design import Design
from interlace.design.frame import Codes, Column, hint
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.model.fitted import Labelled
from interlace.sums.terms import Floats

Cluster = str | Sequence[str] | ArrayLike | None


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the rows.

    Parameters
    ----------
    name
        What it is called.
    codes
        ``(n,)`` cluster of each row, all of 0 to ``count - 1`` in use.
    count
        Number of clusters.
    """

    name: str
    codes: Codes
    count: int


def clusters_of(model: Labelled[Any], cluster: Cluster) -> list[Clusters]:
    """Partitions of the rows of a fit: one, or several for clustering in several ways.

    Parameters
    ----------
    model
        The fit.
    cluster
        A grouping factor, a column of the data, names of several, or a value for each row; ``None``
        for the grouping factor within which all others are nested.

    Raises
    ------
    InterlaceError
        The rows are not held; an unknown name; a missing value; fewer than two clusters; no
        grouping factor has all others nested in it.
    """
    design = require_rows(model.design, "a cluster-robust covariance")
    if cluster is None:
        return [_outermost(model, design)]
    if isinstance(cluster, str):
        return [_named(model, design, cluster)]
    if isinstance(cluster, list | tuple) and all(isinstance(name, str) for name in cluster):
        known = {*_keys(model), *_columns(model)}
        if set(cluster) & known or len(cluster) != len(design.kept):
            if len(set(cluster)) != len(cluster) or not cluster:
                raise InterlaceError(f"cluster must name factors, each once, not {cluster!r}")
            return [_named(model, design, name) for name in cluster]
    return [_grouped(design, frame.as_column(cluster, "cluster"), "cluster")]


def _keys(model: Labelled[Any]) -> dict[str, int]:
    """Position of a term of every grouping factor."""
    return {term.group: j for j, term in enumerate(model.estimate.A.terms)}


def _columns(model: Labelled[Any]) -> tuple[str, ...]:
    return () if model.data is None else frame.open_table(model.data).names


def _named(model: Labelled[Any], design: Design, name: str) -> Clusters:
    """A grouping factor, or a column of the data."""
    keys = _keys(model)
    if name in keys:
        return _partition(name, design.codes[keys[name]])
    if model.data is None:
        raise InterlaceError(
            f"'{name}' is no grouping factor of the fit ({', '.join(keys)}), and the result no "
            f"longer holds its data: give a value for each row"
        )
    table = frame.open_table(model.data)
    if name not in table.names:
        known = [*keys, *table.names]
        raise InterlaceError(f"there is no grouping factor or column '{name}'{hint(name, known)}")
    return _grouped(design, frame.pick(table, [name])[name], name)


def _grouped(design: Design, column: Column, name: str) -> Clusters:
    """A value for each row of the data, or for each row used."""
    if len(column) == len(design.kept):
        column = column[design.kept]
    elif len(column) != len(design.y):
        raise InterlaceError(
            f"cluster has {len(column)} values, but the data {len(design.kept)} rows "
            f"({len(design.y)} of them used)"
        )
    missing = frame.missing(column)
    if missing is not None and missing.any():
        raise InterlaceError(
            f"'{name}' is missing in {int(missing.sum())} of the rows used: every row needs a "
            "cluster"
        )
    return _partition(name, frame.factorize(frame.plain(column, name))[0])


def _partition(name: str, codes: Codes) -> Clusters:
    _, own = np.unique(codes, return_inverse=True)
    count = int(own.max()) + 1
    if count < 2:
        raise InterlaceError(f"'{name}' makes one cluster of all rows: there must be two at least")
    return Clusters(name, own, count)


def _outermost(model: Labelled[Any], design: Design) -> Clusters:
    """The grouping factor within which all others are nested."""
    for key, j in sorted(_keys(model).items(), key=lambda item: model.estimate.A.terms[item[1]].l):
        found = _partition(key, design.codes[j])
        if not crossing(model, design, found):
            return found
    raise InterlaceError(
        f"the grouping factors {', '.join(_keys(model))} are crossed, so that no one has "
        "independent clusters: name them all, cluster=[...], for a covariance that is robust to "
        "each (robust='CR1')"
    )


def crossing(model: Labelled[Any], design: Design, clusters: Clusters) -> list[str]:
    """Grouping factors with a level in several clusters, which correlates these.

    Terms whose variance is estimated as zero correlate nothing.
    """
    found = []
    for term, codes, T in zip(
        model.estimate.A.terms, design.codes, model.estimate.user_templates, strict=True
    ):
        if np.any(T) and not within(codes, clusters.codes, term.l):
            found.append(term.group)
    return list(dict.fromkeys(found))


def within(inner: Codes, outer: Codes, levels: int) -> bool:
    """Whether each of the levels of one factor occurs with one level of another."""
    first = np.zeros(levels, dtype=np.intp)
    first[inner] = outer
    return bool((first[inner] == outer).all())


def joined(parts: Sequence[Clusters]) -> Clusters:
    """The partition into combinations."""
    number = np.zeros(len(parts[0].codes), dtype=np.intp)
    for part in parts:
        number = number * part.count + part.codes
    return _partition(" and ".join(part.name for part in parts), number)


def score_sums(clusters: Clusters, scores: Floats) -> Floats:
    """Sums of rows' scores (n, p) in every cluster, ``(m, p)``."""
    return np.stack(
        [np.bincount(clusters.codes, column, clusters.count) for column in scores.T], axis=1
    )


def product_sums(clusters: Clusters, left: Floats, right: Floats) -> Floats:
    """``left_i' right_i`` of the rows (n, a), (n, b) of every cluster, ``(m, a, b)``."""
    order = np.argsort(clusters.codes, kind="stable")
    ends = np.cumsum(np.bincount(clusters.codes, minlength=clusters.count)).tolist()
    a, b = left[order], right[order]
    out = np.empty((clusters.count, left.shape[1], right.shape[1]))
    for i, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        np.matmul(a[start:stop].T, b[start:stop], out=out[i])
    return out
