"""What is known of one package on one problem."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Literal, cast

from benchmarks.worker_process import Reply

Status = Literal["ok", "disagrees", "limit", "failed", "unsupported"]
Covariances = dict[str, list[list[float]]]


@dataclass(frozen=True)
class Outcome:
    """One package on one problem.

    ``seconds`` are the timed runs, ``cpu_seconds`` what of the processor they and the first one
    took, ``warm_up`` the first, uncounted one. ``peak_mb`` is the highest
    resident memory during a fit, ``before_mb`` that just before it, with the frame loaded, and
    ``process_mb`` the highest of the whole life of the process. ``values`` are the numbers of an
    inference task, by name.
    ``excess`` is the criterion above the lowest one of the same method.
    """

    peer: str
    version: str
    method: str
    status: Status = "ok"
    reason: str = ""
    seconds: tuple[float, ...] = ()
    cpu_seconds: tuple[float, ...] = ()
    warm_up: float | None = None
    peak_mb: float | None = None
    before_mb: float | None = None
    process_mb: float | None = None
    criterion: float | None = None
    scale: float | None = None
    covariances: Covariances | None = None
    evaluations: int | None = None
    steps: int | None = None
    excess: float | None = None
    values: dict[str, float] | None = None
    untimed: bool = False

    @property
    def median(self) -> float | None:
        """Median seconds; of a fit whose only run was the warm-up, that one."""
        if self.seconds:
            return statistics.median(self.seconds)
        return self.warm_up

    @property
    def cpu(self) -> float | None:
        """The least seconds of the processor that a fit took."""
        return min(self.cpu_seconds, default=None)

    def line(self) -> str:
        """One line for someone who waits."""
        if self.status != "ok" or self.median is None:
            return f"{self.peer}: {self.reason}"
        criterion = "" if self.criterion is None else f", criterion {self.criterion}"
        return f"{self.peer}: {self.median:.3g} s{criterion}"


def extend(outcome: Outcome, reply: Reply) -> Outcome:
    """``outcome`` with the reply of one more run."""
    if "unsupported" in reply:
        return replace(outcome, status="unsupported", reason=str(reply["unsupported"]))
    if "error" in reply:
        outcome = replace(outcome, process_mb=highest(outcome.process_mb, reply, "process_mb"))
        return replace(outcome, status="failed", reason=str(reply["error"]))
    return replace(
        outcome,
        seconds=(*outcome.seconds, cast(float, reply["seconds"])),
        cpu_seconds=(*outcome.cpu_seconds, cast(float, reply["cpu_seconds"])),
        peak_mb=highest(outcome.peak_mb, reply, "peak_mb"),
        before_mb=outcome.before_mb or cast("float | None", reply["before_mb"]),
        process_mb=highest(outcome.process_mb, reply, "process_mb"),
        criterion=cast("float | None", reply.get("criterion")),
        scale=cast(float, reply["scale"]),
        covariances=cast(Covariances, reply["covariances"]),
        evaluations=cast("int | None", reply.get("evaluations")),
        steps=cast("int | None", reply.get("steps")),
        values=cast("dict[str, float] | None", reply.get("values")),
    )


def highest(known: float | None, reply: Reply, field: str) -> float | None:
    """The larger one of a memory so far and that of the reply, where there is one."""
    new = cast("float | None", reply.get(field))
    return known if new is None else max(known or 0.0, new)
