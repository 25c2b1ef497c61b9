"""Predictions for the rows of a fit and for new rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from interlace.design import Design, replay_fixed, replay_random
from interlace.errors import InterlaceError
from interlace.estimate import Estimate
from interlace.terms import Floats, ReTerm


def fitted(design: Design, estimate: Estimate, include: Sequence[bool]) -> Floats:
    """Predictions for the rows used, ``(n,)``, with the random terms marked in ``include``."""
    total = _fixed_part(design.X, design.names, estimate)
    if design.offset is not None:
        total = total + design.offset
    for codes, Z, b, wanted in zip(design.codes, design.Z, estimate.b, include, strict=True):
        if wanted:
            total += _random_part(codes, Z, b)
    return total


def predicted(
    design: Design,
    estimate: Estimate,
    newdata: object,
    include: Sequence[bool],
    *,
    offset: ArrayLike | None = None,
) -> Floats:
    """Predictions for new rows, ``(m,)``; levels not seen in fitting contribute 0."""
    X, shift = replay_fixed(design.encoding, newdata, offset=offset)
    total = _fixed_part(X, design.names, estimate) + shift
    if not any(include):
        return total
    blocks = replay_random(design.encoding, newdata)
    for (codes, Z), b, wanted in zip(blocks, estimate.b, include, strict=True):
        if wanted:
            known = codes >= 0
            part = _random_part(np.where(known, codes, 0), Z, b)
            total += np.where(known | np.isnan(part), part, 0.0)
    return total


def included(terms: Sequence[ReTerm], include_re: bool | str | Iterable[str]) -> list[bool]:
    """Which terms enter a prediction: all, none, or those of the grouping factors named.

    Raises
    ------
    InterlaceError
        A name is not a grouping factor of the model.
    """
    keys = list(dict.fromkeys(t.group for t in terms))
    if isinstance(include_re, bool | np.bool_):
        return [bool(include_re)] * len(terms)
    wanted = {include_re} if isinstance(include_re, str) else set(include_re)
    for name in wanted - set(keys):
        raise InterlaceError(
            f"include_re names {name!r}, which is not a grouping factor of the model: "
            f"{', '.join(keys)}"
        )
    return [t.group in wanted for t in terms]


def _fixed_part(X: Floats, names: tuple[str, ...], estimate: Estimate) -> Floats:
    """``X beta``; columns dropped for rank contribute nothing."""
    beta = np.zeros(len(names))
    beta[np.isin(names, estimate.A.names)] = estimate.beta
    product: Floats = X @ beta
    return product


def _random_part(codes: np.ndarray, Z: Floats, b: Floats) -> Floats:
    """``Z b`` by row."""
    if Z.strides[0] == 0:
        return np.asarray(b[codes, 0], dtype=np.float64)
    total: Floats = np.einsum("ij,ij->i", Z, b[codes])
    return total
