"""``cross_products``: formula and data to the sums that a fit needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from interlace.design import frame
from interlace.design.complete import MISSING, Missing
from interlace.design.design import Design, assemble, refuse_unidentifiable, saturated
from interlace.design.formula import MixedFormula, parse
from interlace.design.frame import Levels
from interlace.design.levels import declared_orders
from interlace.design.reads import columns_of
from interlace.design.recipe import Recipe, recipe_of
from interlace.errors import InterlaceError, choose
from interlace.sources.opening import open_source
from interlace.sources.passes import read_source
from interlace.sources.source import Source
from interlace.sums import crossprod
from interlace.sums.columns import reproduced
from interlace.sums.crossprod import CrossProducts

# Squares below this share of others are rounding.
_ROUNDING = 1e-26


def cross_products(
    formula: str,
    data: object,
    groups: str | Sequence[str] | None = None,
    *,
    random: str | Sequence[str] | None = None,
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
    missing: Missing = "drop",
    progress: bool | None = None,
) -> CrossProducts:
    """Sums over rows from which a model can be fitted without them.

    They can be saved, loaded, and added to those of other rows of the same model; :func:`fit` takes
    them in place of data.

    Parameters
    ----------
    formula, groups, random, missing
        As for :func:`fit`.
    data
        A path or pattern of Parquet or CSV files or a list of such, a DuckDB relation, a Polars
        LazyFrame, a PyArrow dataset, a Dask DataFrame: read part by part, at least twice, and never
        held.  Or a frame in memory.
    weights, offset
        Columns; for a frame in memory also ``(n,)`` values.
    progress
        ``True`` shows a bar for every pass, ``False`` never does, ``None`` does when it takes long
        and standard error is a terminal.

    Returns
    -------
    CrossProducts

    Raises
    ------
    InterlaceError
        The formula or the data cannot be used; the message names what is at fault.

    Notes
    -----
    The first pass finds the levels of all factors and rough means.  The second runs the same
    encoding on each part and adds up ``[Z X y]' [Z X y]`` of columns less these means; a change of
    basis then makes the columns orthonormal.  Where the sums hold too few digits for that, columns
    are projected off each other row by row in further passes.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> first = interlace.cross_products("Reaction ~ Days + (Days | Subject)", sleep[:90])
    >>> second = interlace.cross_products("Reaction ~ Days + (Days | Subject)", sleep[90:])
    >>> both = first + second
    >>> both.n, both.terms[0].l
    (180, 18)
    >>> interlace.fit("Reaction ~ Days + (Days | Subject)", both).fe_params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """
    spec = parse(formula, groups=groups, random=random)
    source = open_source(data)
    if source is not None:
        return read(spec, source, weights, offset, missing, progress, whole=False)
    design = assemble(spec, data, weights=weights, offset=offset, missing=missing, whole=False)
    names = columns_of(spec, frame.open_table(data))
    return of_design(design, declared_orders(data, names))


def of_design(design: Design, orders: Mapping[str, Levels] | None = None) -> CrossProducts:
    """Cross-products of a design that say how its rows were encoded."""
    A = crossprod.cross_products(design, moments=True, whole=False)
    return replace(A, recipe=Recipe(design.encoding, design.n_dropped, orders or {}))


def of_formula(
    A: CrossProducts,
    formula: MixedFormula,
    *,
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
) -> CrossProducts:
    """Cross-products, if they are those of a formula.

    Raises
    ------
    InterlaceError
        They are of another formula, or of other weights or another offset, or of too few rows.
    """
    known = recipe_of(None, A).encoding
    if known.formula != formula:
        raise InterlaceError(
            f"the cross-products are those of '{known.formula}', not of '{formula}': fit that "
            "formula, or make cross-products of this one"
        )
    arguments = (
        ("weights", weights, known.weights_column),
        ("offset", offset, known.offset_column),
    )
    for name, given, used in arguments:
        if given is not None and given != used:
            raise InterlaceError(
                f"{name} cannot be changed any more: the cross-products were made with "
                f"{name}={used!r}; leave it out"
            )
    if A.p >= A.n:
        raise saturated(A.p, A.n)
    refuse_unidentifiable(A.terms, A.n)
    _refuse_reproduced(A, formula)
    return A


def _refuse_reproduced(A: CrossProducts, formula: MixedFormula) -> None:
    """Refuse sums in which the fixed effects leave nothing of the response."""
    back = np.linalg.inv(A.basis.fixed)
    response = back[:, -1] / np.abs(back[:, -1]).max()
    y, left = response[:-1], float(A.vv[-1, -1]) * response[-1] ** 2
    around = y.copy()
    if "Intercept" in A.names:
        ones = back[:-1, A.names.index("Intercept")]
        ones = ones / np.abs(ones).max()
        around -= ones * (ones @ y) / (ones @ ones)
    total, size = A.n * float(around @ around), A.n * float(y @ y)
    if total <= _ROUNDING * size and left <= _ROUNDING * size:
        raise InterlaceError(f"the response '{formula.response}' is constant: nothing varies")
    if left <= _ROUNDING * total:
        raise reproduced()


def not_a_column(argument: str, title: str) -> InterlaceError:
    """The error for an array beside rows that are read part by part."""
    return InterlaceError(
        f"{argument} must be the name of a column: {title} is read part by part, "
        "and an array does not say which of its values belong to which part"
    )


def read(
    formula: MixedFormula,
    source: Source,
    weights: str | ArrayLike | None,
    offset: str | ArrayLike | None,
    missing: str,
    progress: bool | None,
    *,
    whole: bool = True,
) -> CrossProducts:
    """Cross-products of a source; refuses arrays, which cannot be cut up as its rows are."""
    missing = choose("missing", missing, MISSING)
    for argument, values in (("weights", weights), ("offset", offset)):
        if values is not None and not isinstance(values, str):
            raise not_a_column(argument, source.title)
    return read_source(
        formula,
        source,
        weights=weights,  # type: ignore[arg-type]
        offset=offset,  # type: ignore[arg-type]
        missing=missing,
        whole=whole,
        progress=progress,
    )
