"""How the rows behind cross-products were encoded; a fit from them holds no other design."""

from __future__ import annotations

from dataclasses import dataclass

from interlace.crossprod import CrossProducts
from interlace.design import Design, Encoding
from interlace.errors import InterlaceError


@dataclass(frozen=True, eq=False)
class Recipe:
    """How rows were encoded, and how many were left out for missing values."""

    encoding: Encoding
    n_dropped: int


def recipe_of(design: Design | None, A: CrossProducts) -> Recipe:
    """The recipe of rows that are held, or of those behind cross-products.

    Raises
    ------
    InterlaceError
        There are no rows, and the cross-products do not say.
    """
    if design is not None:
        return Recipe(design.encoding, design.n_dropped)
    if isinstance(A.recipe, Recipe):
        return A.recipe
    raise InterlaceError(
        "these cross-products do not say how their rows were encoded: make them with "
        "interlace.cross_products()"
    )


def require_rows(design: Design | None, verb: str) -> Design:
    """The design of a fit that holds its rows."""
    if design is None:
        raise InterlaceError(
            f"{verb} needs the rows of the model, and this one was fitted without holding them: "
            "fit it to a frame in memory (data=)"
        )
    return design
