"""Rows that are read part by part -> cross-products; they are never held."""

from interlace.sources.build import cross_products
from interlace.sources.opening import open_source
from interlace.sources.source import Chunk, Engine, LocalEngine, Partition, Source

__all__ = [
    "Chunk",
    "Engine",
    "LocalEngine",
    "Partition",
    "Source",
    "cross_products",
    "open_source",
]
