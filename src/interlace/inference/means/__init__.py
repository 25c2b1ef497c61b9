"""Estimated marginal means: a grid, averages over it, contrasts of these, and their tests."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlace.inference.means import averages as averages
    from interlace.inference.means import grid as grid
    from interlace.inference.means import rows as rows
    from interlace.inference.means import said as said
    from interlace.inference.means import specs as specs
    from interlace.inference.means import variables as variables

_CHAPTERS = (
    "averages",
    "grid",
    "rows",
    "said",
    "specs",
    "variables",
)


def __getattr__(name: str) -> object:
    """A chapter, opened on first use: a fit needs none of them."""
    if name in _CHAPTERS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
