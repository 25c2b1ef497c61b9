"""What rows are read from: partitions that can be read again, and an engine that visits them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from interlace.design.frame import Foreign, Levels, Table, open_table

P = TypeVar("P")
# Reads the columns named as one or more frames; must give the same rows each time.
Reader = Callable[[Sequence[str]], Iterator[Foreign]]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a partition, opened; ``first`` is the number of the first one in it."""

    table: Table
    first: int


@dataclass(frozen=True, eq=False)
class Partition:
    """A part of the rows.

    Parameters
    ----------
    title
        What messages call it: a file, or the number of the part.
    read
        Columns -> frames, in order; picklable where the engine is not local.
    """

    title: str
    read: Reader

    def batches(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """The frames, opened."""
        first = 0
        for frame in self.read(columns):
            table = open_table(frame, title=self.title)
            yield Chunk(table, first)
            first += table.n


class Engine(Protocol):
    """Runs ``work`` on all batches of a source, wherever they are, and ``fold`` on what it gives.

    ``work`` gives ``None`` for a batch without complete rows.  ``fold`` adds any number of parts
    (none: ``None``) and is associative up to rounding, so an engine may fold parts of the parts
    first.  Both are picklable.
    """

    def run(
        self,
        source: Source,
        columns: Sequence[str],
        work: Callable[[Chunk], P | None],
        fold: Callable[[Iterable[P]], P | None],
        advance: Callable[[int], None],
    ) -> P | None:
        """The fold of all parts; ``advance`` is called with numbers of rows that are done."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """One batch after the other in this process, each let go of before the next is read."""

    def run(
        self,
        source: Source,
        columns: Sequence[str],
        work: Callable[[Chunk], P | None],
        fold: Callable[[Iterable[P]], P | None],
        advance: Callable[[int], None],
    ) -> P | None:
        """The fold of all parts, in order."""

        def parts() -> Iterator[P]:
            for partition in source.partitions:
                for batch in partition.batches(columns):
                    part = work(batch)
                    advance(batch.table.n)
                    if part is not None:
                        yield part

        return fold(parts())


@dataclass(frozen=True, eq=False)
class Source:
    """Rows that are read part by part.

    Parameters
    ----------
    names
        Columns.
    partitions
        Parts of the rows.
    title
        What messages call the whole.
    declared
        Categories in their declared order, of columns whose parts may not show all of them.
    n
        Number of rows, if it is known without reading them.
    engine
        Where the parts are visited.
    check
        Refuses columns that not all parts have, or not of one type.
    """

    names: tuple[str, ...]
    partitions: tuple[Partition, ...]
    title: str = "the data"
    declared: Mapping[str, Levels] = field(default_factory=dict)
    n: int | None = None
    engine: Engine = field(default_factory=LocalEngine)
    check: Callable[[Sequence[str]], None] | None = None

    @property
    def header(self) -> Table:
        """The names of the columns as a table without rows."""
        return Table(self.names, 0, lambda name: np.empty(0), self.title)
