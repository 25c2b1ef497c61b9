"""The bootstrap: what is resampled, refitted, and said of the replicates."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlace.inference.bootstrap import resample as resample
    from interlace.inference.bootstrap import scaled as scaled
    from interlace.inference.bootstrap import statistic as statistic
    from interlace.inference.bootstrap import structured as structured

_CHAPTERS = (
    "resample",
    "scaled",
    "statistic",
    "structured",
)


def __getattr__(name: str) -> object:
    """A chapter, opened on first use: a fit needs none of them."""
    if name in _CHAPTERS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
