"""Dask DataFrames: passes run on the workers, sums are added there in a tree, only these travel."""

from __future__ import annotations

import queue
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from interlace.design.frame import Foreign, Levels, open_table
from interlace.errors import InterlaceError
from interlace.sources.files import ROWS, needed
from interlace.sources.source import Chunk, Partition, Source

P = TypeVar("P")
Graph = dict[object, object]
Keys = list[object]

# Parts that one task adds up.  A fixed tree makes the sums independent of who was done first.
_FAN_IN = 4
# Seconds between two looks at the workers, and how long a cluster may have none.
_LOOK, PATIENCE = 1.0, 60.0
_TITLE = "the Dask DataFrame"


def of_dask(frame: Foreign) -> Source:
    """A source of a Dask DataFrame, visited where its partitions are."""
    meta = frame._meta
    declared: dict[str, Levels] = {
        name: np.asarray(meta[name].cat.categories)
        for name, dtype in meta.dtypes.items()
        if str(dtype) == "category" and frame[name].cat.known
    }
    parts = tuple(Partition(_title(i), _Computed(frame, i)) for i in range(int(frame.npartitions)))
    return Source(tuple(frame.columns), parts, _TITLE, declared, engine=DaskEngine(frame))


def _title(i: int) -> str:
    return f"partition {i} of {_TITLE}"


@dataclass(frozen=True, eq=False)
class _Computed:
    """Brings one partition here."""

    frame: Foreign
    i: int

    def __call__(self, columns: Sequence[str]) -> Iterator[Foreign]:
        with _reading(), _lost():
            part = self.frame[list(columns)].get_partition(self.i).compute()
        yield part


@dataclass(frozen=True, eq=False)
class DaskEngine:
    """The active distributed client if there is one, else the scheduler that Dask would use.

    A task works on one partition and keeps its sum where it is; further tasks add these by fours,
    in the order of the partitions.  Everything is in the graph, so that what a lost worker held is
    computed again.
    """

    frame: Foreign

    def run(
        self,
        source: Source,
        columns: Sequence[str],
        work: Callable[[Chunk], P | None],
        fold: Callable[[Iterable[P]], P | None],
        advance: Callable[[int], None],
    ) -> P | None:
        """The fold of all parts."""
        dask = needed("dask", "a Dask DataFrame")
        frame = self.frame[list(columns)].optimize()
        graph, counts, root = _graph(frame, partial(_visit, work, fold), partial(_add, fold))
        get = dask.base.get_scheduler(collections=[frame]) or frame.__dask_scheduler__
        client = _client_of(get)
        with _reading(), _lost():
            if client is not None:
                found = _on_cluster(client, graph, counts, root, advance)
            else:
                found = _here(dask, get, graph, counts, root, advance)
        return found[1]  # type: ignore[no-any-return]


@contextmanager
def _reading() -> Iterator[None]:
    """What goes wrong in reading partitions, as an ``InterlaceError``."""
    arrow = needed("pyarrow", "a Dask DataFrame")
    try:
        yield
    except (OSError, arrow.ArrowException) as error:
        raise InterlaceError(f"{_TITLE} cannot be read: {error}") from error


@contextmanager
def _lost() -> Iterator[None]:
    """What goes wrong on a cluster, as an ``InterlaceError``; nothing where there is none."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        yield
        return
    try:
        yield
    except distributed.KilledWorker as error:
        raise InterlaceError(
            f"Dask gave up {_TITLE}: {error.allowed_failures + 1} workers were lost on the same "
            "task, most often for want of memory; give the workers more memory, or the frame "
            "smaller partitions (frame.repartition)"
        ) from error
    except (distributed.CancelledError, distributed.comm.CommClosedError) as error:
        raise InterlaceError(
            f"the connection to the Dask cluster was lost: {str(error) or type(error).__name__}; "
            "start it again and repeat the call"
        ) from error


# Tasks, run on the workers ------------------------------------------------------------------------


def _visit(
    work: Callable[[Chunk], P | None],
    fold: Callable[[Iterable[P]], P | None],
    i: int,
    frame: Foreign,
) -> tuple[int, P | None]:
    """Number of rows, and the sum, of one partition."""
    n = len(frame)

    def parts() -> Iterator[P]:
        for first in range(0, n, ROWS):
            table = open_table(frame.iloc[first : first + ROWS], title=_title(i))
            part = work(Chunk(table, first))
            if part is not None:
                yield part

    return n, fold(parts())


def _add(
    fold: Callable[[Iterable[P]], P | None], found: Sequence[tuple[int, P | None]]
) -> tuple[int, P | None]:
    """Number of rows, and the sum, of several partitions."""
    parts = (part for _, part in found if part is not None)
    return sum(n for n, _ in found), fold(parts)


def _rows(found: tuple[int, object]) -> int:
    """The number alone: sums stay on the workers."""
    return found[0]


def _graph(
    frame: Foreign,
    visit: Callable[[int, Foreign], object],
    add: Callable[[Sequence[object]], object],
) -> tuple[Graph, Keys, object]:
    """Tasks by key, the keys of the numbers of rows, and that of the whole sum."""
    graph: Graph = dict(frame.__dask_graph__())
    name = f"interlace-{uuid.uuid4().hex}"
    graph[f"{name}-visit"], graph[f"{name}-add"] = _Held(visit), _Held(add)
    level: Keys = []
    counts: Keys = []
    for i, key in enumerate(frame.__dask_keys__()):
        level.append((f"{name}-part", i))
        counts.append((f"{name}-rows", i))
        graph[level[-1]] = (_call, f"{name}-visit", i, key)
        graph[counts[-1]] = (_rows, level[-1])
    depth = 0
    while depth == 0 or len(level) > 1:
        above: Keys = [(f"{name}-sum{depth}", i) for i in range(-(-len(level) // _FAN_IN))]
        for i, key in enumerate(above):
            graph[key] = (_call, f"{name}-add", level[_FAN_IN * i : _FAN_IN * (i + 1)])
        level, depth = above, depth + 1
    return graph, counts, level[0]


@dataclass(frozen=True, eq=False)
class _Held:
    """A function as a value: it is sent once, not with every task."""

    function: Callable[..., object]


def _call(held: _Held, *arguments: object) -> object:
    return held.function(*arguments)


# In this process ----------------------------------------------------------------------------------


def _here(
    dask: Foreign,
    get: Foreign,
    graph: Graph,
    counts: Keys,
    root: object,
    advance: Callable[[int], None],
) -> Foreign:
    """By one of Dask's own schedulers."""
    counted = set(counts)

    def after(key: object, value: object, *_: object) -> None:
        if key in counted and isinstance(value, int):
            advance(value)

    with dask.callbacks.Callback(posttask=after):
        found, _ = get(graph, [root, counts])
    return found


# On a cluster -------------------------------------------------------------------------------------


def _client_of(get: Foreign) -> Foreign | None:
    """The distributed client whose method this is, if it is one."""
    client = getattr(get, "__self__", None)
    distributed = sys.modules.get("distributed")
    return client if distributed and isinstance(client, distributed.Client) else None


def _on_cluster(
    client: Foreign, graph: Graph, counts: Keys, root: object, advance: Callable[[int], None]
) -> Foreign:
    """By the workers of a client; an interruption cancels what is left."""
    dask = needed("dask", "a Dask DataFrame")
    done: queue.SimpleQueue[Foreign] = queue.SimpleQueue()
    # Levels of the factors are in the graph, which may be large: that is meant.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        futures = client.get(graph, [root, *counts], sync=False)
    left = set(futures[1:])
    try:
        for future in futures:
            future.add_done_callback(done.put)
        for future in _finished(client, done):
            if future.status in ("error", "cancelled"):
                future.result()  # raises what happened on the worker
            elif future is not futures[0]:
                left.discard(future)
                _count(future, advance)
            elif future.status == "finished":
                for late in left:  # told of later than of the sum that holds them
                    _count(late, advance)
                return future.result()
            else:  # the sum was lost with its worker before we knew that it was there
                future.add_done_callback(done.put)
    finally:
        if not futures[0].done():
            client.cancel(futures, force=True)


def _count(future: Foreign, advance: Callable[[int], None]) -> None:
    """Report the rows of a part, unless its worker was lost meanwhile."""
    with suppress(TimeoutError):
        advance(future.result(timeout=_LOOK))


def _finished(client: Foreign, done: queue.SimpleQueue[Foreign]) -> Iterator[Foreign]:
    """Futures as they finish; stops waiting when there is nobody left to work."""
    idle = 0.0
    while True:
        try:
            yield done.get(timeout=_LOOK)
            idle = 0.0
        except queue.Empty:
            idle = 0.0 if _workers(client) else idle + _LOOK
            if idle >= PATIENCE:
                raise InterlaceError(
                    f"the Dask cluster has had no workers for {idle:.0f} s: all were lost, or none "
                    "was started; look at their logs (memory?), start some and repeat the call"
                ) from None


def _workers(client: Foreign) -> Mapping[str, object]:
    """Workers that the scheduler has now."""
    found: Mapping[str, object] = client.scheduler_info(n_workers=-1)["workers"]
    return found
