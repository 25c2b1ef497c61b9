"""Profile likelihoods: one quantity held, all else free."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlace.inference.profiles import scaled as scaled
    from interlace.inference.profiles import structured as structured


def __getattr__(name: str) -> object:
    """A chapter, opened on first use: a fit needs none of them."""
    if name in ("scaled", "structured"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
