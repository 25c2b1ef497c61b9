"""Sources of frames: eager ones in memory, Polars LazyFrames, Arrow datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from interlace.design.frame import Foreign, open_table
from interlace.errors import InterlaceError
from interlace.sources.files import ROWS, needed
from interlace.sources.source import Partition, Source


@dataclass(frozen=True, eq=False)
class _Held:
    """Reads a frame that is in memory already."""

    frame: Foreign

    def __call__(self, columns: Sequence[str]) -> Iterator[Foreign]:
        yield self.frame


def of_frames(frames: Sequence[Foreign], title: str = "the data") -> Source:
    """A source of frames in memory, one partition each."""
    tables = [open_table(frame) for frame in frames]
    single = len(frames) == 1
    parts = [
        Partition(title if single else f"part {i} of {title}", _Held(frame))
        for i, frame in enumerate(frames)
    ]
    return Source(tables[0].names, tuple(parts), title, n=sum(table.n for table in tables))


# Polars -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Lazy:
    """Collects a LazyFrame batch by batch."""

    frame: Foreign

    def __call__(self, columns: Sequence[str]) -> Iterator[Foreign]:
        polars = needed("polars", "a Polars LazyFrame")
        try:
            selected = self.frame.select(list(columns))
            if hasattr(selected, "collect_batches"):
                yield from selected.collect_batches(chunk_size=ROWS, maintain_order=True)
            else:  # Polars before 1.34
                yield from selected.collect().iter_slices(ROWS)
        except (polars.exceptions.PolarsError, OSError) as error:
            raise InterlaceError(f"Polars cannot collect the LazyFrame: {error}") from error


def of_lazy(frame: Foreign) -> Source:
    """A source of a Polars LazyFrame."""
    polars = needed("polars", "a Polars LazyFrame")
    try:
        schema = frame.collect_schema()
    except (polars.exceptions.PolarsError, OSError) as error:
        raise InterlaceError(f"Polars cannot read the LazyFrame: {error}") from error
    declared = {
        name: np.array(dtype.categories.to_list(), dtype=object)
        for name, dtype in schema.items()
        if isinstance(dtype, polars.Enum)
    }
    title = "the LazyFrame"
    return Source(tuple(schema), (Partition(title, _Lazy(frame)),), title, declared)


# Arrow --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Dataset:
    """Scans an Arrow dataset."""

    dataset: Foreign

    def __call__(self, columns: Sequence[str]) -> Iterator[Foreign]:
        arrow = needed("pyarrow", "an Arrow dataset")
        try:
            batches = self.dataset.to_batches(columns=list(columns), batch_size=ROWS)
            yield from _gathered(arrow, batches)
        except (arrow.ArrowException, OSError) as error:
            raise InterlaceError(f"Arrow cannot read the dataset: {error}") from error


def of_dataset(dataset: Foreign) -> Source:
    """A source of a PyArrow dataset."""
    part = Partition("the dataset", _Dataset(dataset))
    return Source(tuple(dataset.schema.names), (part,), "the dataset")


def _gathered(arrow: Foreign, batches: Iterable[Foreign]) -> Iterator[Foreign]:
    """Record batches joined to tables of enough rows to be worth the work around them."""
    held: list[Foreign] = []
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
        if sum(b.num_rows for b in held) >= ROWS:
            yield arrow.Table.from_batches(held)
            held = []
    if held:
        yield arrow.Table.from_batches(held)
