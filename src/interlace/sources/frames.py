"""Sources of frames: slices of eager ones, Polars LazyFrames, Arrow datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interlace import _frame
from interlace._frame import Foreign
from interlace.sources.source import Partition, Source


@dataclass(frozen=True, eq=False)
class _Held:
    """Reads a frame that is in memory already."""

    frame: Foreign

    def __call__(self, columns: Sequence[str]) -> Iterator[Foreign]:
        yield self.frame


def of_frames(frames: Sequence[Foreign], title: str = "the data") -> Source:
    """A source of frames in memory, one partition each."""
    tables = [_frame.open_table(frame) for frame in frames]
    single = len(frames) == 1
    parts = [
        Partition(title if single else f"part {i} of {title}", _Held(frame))
        for i, frame in enumerate(frames)
    ]
    return Source(tables[0].names, tuple(parts), title, n=sum(table.n for table in tables))
