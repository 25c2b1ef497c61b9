"""Rows that are read part by part -> cross-products; they are never held."""

from interlace.sources.passes import read_source
from interlace.sources.source import Batch, Engine, LocalEngine, Partition, Source

__all__ = ["Batch", "Engine", "LocalEngine", "Partition", "Source", "read_source"]
