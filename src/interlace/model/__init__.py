"""The frozen value of a fit, and its first verbs: predict, simulate."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlace.model import stored as stored


def __getattr__(name: str) -> object:
    """What files are made of, opened on first use: it knows every kind of model."""
    if name == "stored":
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
