"""Inference on fitted models."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlace.inference import bootstrap as bootstrap
    from interlace.inference import compare as compare
    from interlace.inference import conditional as conditional
    from interlace.inference import general_ranova as general_ranova
    from interlace.inference import intervals as intervals
    from interlace.inference import latent as latent
    from interlace.inference import means as means
    from interlace.inference import power as power
    from interlace.inference import profiles as profiles
    from interlace.inference import ranova as ranova
    from interlace.inference import robust as robust
    from interlace.inference import scaled as scaled
    from interlace.inference import standardized as standardized
    from interlace.inference import step as step
    from interlace.inference import structured as structured
    from interlace.inference import tables as tables

_CHAPTERS = (
    "bootstrap",
    "compare",
    "general_ranova",
    "conditional",
    "intervals",
    "latent",
    "means",
    "power",
    "profiles",
    "ranova",
    "robust",
    "scaled",
    "standardized",
    "step",
    "structured",
    "tables",
)


def __getattr__(name: str) -> object:
    """A chapter, opened on first use: a fit needs none of them."""
    if name in _CHAPTERS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
