"""Replicates in tasks: what is read off one, how they are run, and how failures are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.batch.fits import NO_RESIDUAL
from interlace.choices import BootstrapKind
from interlace.design.design import Design
from interlace.errors import ConvergenceWarning, InterlaceError, choose, warn
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.machine.parallel import in_order, n_workers
from interlace.machine.progress import counter
from interlace.model.fitted import Labelled
from interlace.model.optimum import AnyEstimate
from interlace.model.simulate import Block, Seed, blocks, seed_sequence
from interlace.sums.terms import Floats

KINDS: tuple[BootstrapKind, ...] = get_args(BootstrapKind)
M = TypeVar("M", bound=Labelled[Any])
E = TypeVar("E", bound=AnyEstimate)
E_contra = TypeVar("E_contra", bound=AnyEstimate, contravariant=True)


def check(n: int, kind: str, statistic: object, group: str | None, n_jobs: int) -> None:
    """Refuse arguments that are out of range."""
    if not isinstance(n, int | np.integer) or n < 2:
        raise InterlaceError(f"n must be an integer of at least 2, not {n!r}")
    kind = choose("kind", kind, KINDS)
    if statistic is not None and not callable(statistic):
        raise InterlaceError(f"statistic must be a function of a result, not {statistic!r}")
    if group is not None and kind != "cases":
        raise InterlaceError(f"group= says what kind='cases' draws; kind={kind!r} takes none")
    if not isinstance(n_jobs, int | np.integer) or (n_jobs < 1 and n_jobs != -1):
        raise InterlaceError(f"n_jobs must be a positive integer or -1, not {n_jobs!r}")


def _warn(found: BootstrapResult) -> None:
    """Say that replicates failed."""
    if found.failures:
        first = min(found.failures)
        warn(
            f"{found.n_failed} of {found.n} replicates failed and are left out (see failures); "
            f"number {first}: {found.failures[first]}",
            ConvergenceWarning,
        )


class Reader(Protocol[E_contra]):
    """What is read off a replicate."""

    @property
    def names(self) -> list[str]: ...
    @property
    def estimate(self) -> Floats:
        """Values of the fit itself."""
        ...

    def read(self, design: Design, estimate: E_contra) -> Floats:
        """Values of one replicate."""
        ...


@dataclass(frozen=True, eq=False)
class Statistic(Generic[M]):
    """A function of the user's."""

    result: M
    function: Callable[[M], object]

    @cached_property
    def original(self) -> pd.Series:
        """Labelled values of the fit itself."""
        return _labelled(self.function(self.result))

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.original.index]

    @property
    def estimate(self) -> Floats:
        """Values of the fit itself."""
        return self.original.to_numpy()

    def read(self, design: Design, estimate: AnyEstimate) -> Floats:
        """Values of one replicate."""
        one = replace(self.result, design=design, estimate=estimate, held=None)
        values = _labelled(self.function(one))
        if not values.index.equals(self.original.index):
            raise InterlaceError(
                f"the statistic of a replicate has {len(values)} values "
                f"({_few(values.index)}), that of the fit {len(self.original)} "
                f"({_few(self.original.index)})"
            )
        return values.to_numpy()


def _labelled(value: object) -> pd.Series:
    """The value of a statistic as a Series of numbers."""
    if isinstance(value, pd.Series):
        found = value
    else:
        array = np.asarray(value)
        if array.ndim > 1 or array.dtype.kind not in "biuf":
            raise InterlaceError(
                f"the statistic must return a number, a flat array of numbers or a Series, "
                f"not {value!r}"
            )
        names = ["statistic"] if array.ndim == 0 else [f"statistic[{i}]" for i in range(len(array))]
        found = pd.Series(np.atleast_1d(array), index=names)
    return found.astype(np.float64)


def _few(index: pd.Index) -> str:
    """The first labels."""
    labels = [str(label) for label in index[:4]]
    return ", ".join(labels) + (", ..." if len(index) > 4 else "")


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive replicates from number ``start``: values ``(B, P)``, flags, and failures."""

    start: int
    values: Floats
    singular: NDArray[np.bool_]
    errors: Mapping[int, str]


Fit: TypeAlias = Callable[[int], tuple[Design, E]]


@dataclass(frozen=True, eq=False)
class OneByOne(Generic[E]):
    """Replicates fitted one after the other: ``fits`` makes those of a block, by position."""

    fits: Callable[[Block], Fit[E]]
    reader: Reader[E]
    blocks_each = 1
    tasks_each = 1

    def __call__(self, task: Sequence[Block]) -> Chunk:
        (block,) = task
        return chunk_of(task, self.fits(block), self.reader)


def chunk_of(task: Sequence[Block], fit: Fit[E], reader: Reader[E]) -> Chunk:
    """What is read off the replicates of some blocks, of which ``fit`` makes one by position."""
    size = sum(block.size for block in task)
    values = np.full((size, len(reader.names)), np.nan)
    singular = np.zeros(size, dtype=bool)
    errors: dict[int, str] = {}
    for i in range(size):
        try:
            design, estimate = fit(i)
            if not estimate.convergence.converged:
                raise InterlaceError(f"no convergence: {estimate.convergence.message}")
            values[i] = reader.read(design, estimate)
            singular[i] = estimate.is_singular
        except InterlaceError as error:
            errors[i] = str(error)
        except np.linalg.LinAlgError as error:
            errors[i] = f"{NO_RESIDUAL} ({error})"
    return Chunk(task[0].columns.start, values, singular, errors)


# ------------------------------------------------------------------ the whole


class Run(Protocol):
    """Makes the replicates of some blocks."""

    @property
    def blocks_each(self) -> int:
        """Blocks of a task."""
        ...

    @property
    def tasks_each(self) -> int:
        """Tasks that are worth a process."""
        ...

    def __call__(self, task: Sequence[Block]) -> Chunk: ...


def replicated(
    run: Run,
    original: pd.Series,
    kind: str,
    n: int,
    *,
    seed: Seed,
    n_jobs: int,
    progress: bool | None,
) -> BootstrapResult:
    """All replicates as one result; warns of those that failed."""
    root = seed_sequence(seed)
    tasks = list(_grouped(blocks(root, n), run.blocks_each))
    workers = n_workers(n_jobs, len(tasks) // run.tasks_each)
    with counter(n, progress, what="bootstrap", unit="replicates") as advance:
        chunks = []
        for chunk in in_order(run, tasks, workers):
            chunks.append(chunk)
            advance(len(chunk.values))
    found = _collected(chunks, original, kind, n, root)
    _warn(found)
    return found


def _grouped(items: Iterator[Block], size: int) -> Iterator[list[Block]]:
    """Consecutive blocks in lists of ``size``."""
    while task := list(islice(items, size)):
        yield task


def _collected(
    chunks: Sequence[Chunk],
    original: pd.Series,
    kind: str,
    n: int,
    root: np.random.SeedSequence,
) -> BootstrapResult:
    """All chunks as one result."""
    failures = {c.start + i: message for c in chunks for i, message in c.errors.items()}
    values = pd.DataFrame(np.concatenate([c.values for c in chunks]), columns=original.index)
    return BootstrapResult(
        replicates=values.drop(index=list(failures)),
        estimate=original,
        kind=kind,
        n=n,
        n_singular=int(sum(c.singular.sum() for c in chunks)),
        failures=failures,
        entropy=root.entropy,
    )
