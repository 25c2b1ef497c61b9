"""How the rows behind cross-products were encoded: what a fit from them needs of the formula."""

from __future__ import annotations

from dataclasses import dataclass

from interlace.design import Encoding


@dataclass(frozen=True, eq=False)
class Recipe:
    """How rows were encoded, and how many were left out for missing values."""

    encoding: Encoding
    n_dropped: int
