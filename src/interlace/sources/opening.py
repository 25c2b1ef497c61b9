"""Which data is read part by part, and how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from interlace.design.frame import Foreign
from interlace.errors import InterlaceError
from interlace.sources.dask import of_dask
from interlace.sources.files import of_paths, of_relation
from interlace.sources.frames import of_dataset, of_lazy
from interlace.sources.source import Source


def open_source(data: Foreign) -> Source | None:
    """The source that data stands for; ``None`` for a frame in memory, or anything else.

    Raises
    ------
    InterlaceError
        Data that can be read only once, or files that cannot be read.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | Path):
        return of_paths([data])
    if _is_paths(data):
        return of_paths(data)
    package, name = type(data).__module__.split(".")[0], type(data).__name__
    if package in ("duckdb", "_duckdb") and name == "DuckDBPyRelation":
        return of_relation(data)
    if package == "polars" and name == "LazyFrame":
        return of_lazy(data)
    if package == "dask" and name == "DataFrame":
        return of_dask(data)
    if package == "pyarrow" and name == "RecordBatchReader":
        raise InterlaceError(
            "a RecordBatchReader can be read only once, and a fit reads its rows at least twice "
            "(levels first): pass the dataset or file behind it, or reader.read_all()"
        )
    if package == "pyarrow" and hasattr(data, "to_batches") and hasattr(data, "get_fragments"):
        return of_dataset(data)
    return None


def _is_paths(data: object) -> bool:
    return (
        isinstance(data, Sequence)
        and len(data) > 0
        and all(isinstance(item, str | Path) for item in data)
    )
