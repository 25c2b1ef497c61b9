"""What is timed after a fit, what it is compared with, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.problems import PROBLEMS, Problem, Term, cake, exam, insteval_subset, intercepts
from benchmarks.worker_process import Peer

Kind = Literal["inference", "diagnostics"]
Rule = Literal["relative", "width", "monte-carlo", "dense", "absolute"]

PEERS: tuple[Peer, ...] = (Peer("interlace", "interlace_tasks"), Peer("lme4", "lme4_tasks"))


@dataclass(frozen=True)
class Target:
    """What interlace aims at: at most ``seconds`` and ``memory_mb``, ``ratio`` times R's speed.

    ``threads``: the number for which ``seconds`` is meant, any if None.
    """

    seconds: float | None = None
    memory_mb: float | None = None
    ratio: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Task:
    """One thing to compute after a fit.

    ``counts`` are the replicates of interlace and of R (the rows reported, for predictions);
    ``per_replicate`` says that seconds are compared for one replicate. ``rule`` and ``tolerance``
    say when two answers are equal (see ``check``). ``jobs`` says that the task itself shares its
    work: it then gets the threads as jobs, each of one thread. ``runs`` is the least number of
    timed runs, for tasks of a few milliseconds.
    """

    name: str
    title: str
    action: str
    problem: Problem
    rule: Rule
    tolerance: float
    target: Target
    kind: Kind = "inference"
    method: str = "REML"
    counts: tuple[int, int] = (0, 0)
    per_replicate: bool = False
    jobs: bool = False
    memory_gb: float | None = None
    limit: float = 600.0
    runs: int = 1
    quick: bool = False

    def count(self, peer: Peer) -> int:
        own, other = self.counts
        return own if peer.name == "interlace" else other

    def asked(self, peer: Peer, *, threads: int) -> Peer:
        """``peer`` with the request of this task."""
        jobs = threads if self.jobs else 1
        request = f"{self.action} {self.method} {self.count(peer)} {jobs}"
        return replace(peer, method=request)


def problem(name: str) -> Problem:
    return next(p for p in PROBLEMS if p.name == name)


INSTEVAL = problem("insteval")

SUBSET = replace(
    INSTEVAL, name="insteval-subset", title="InstEval, 1,877 rows", make=insteval_subset
)

CAKE = Problem(
    name="cake",
    title="cake, 270 rows, 18 coefficients",
    response="angle",
    fixed="recipe*temperature",
    terms=(Term("1", ("recipe", "replicate")),),
    make=cake,
)

EXAM = Problem(
    name="exam",
    title="exam, 300 rows, 30 x 10 crossed",
    response="score",
    fixed="1 + hours_studied + prior_gpa",
    terms=intercepts("student_id", "school_id"),
    make=exam,
)

TASKS: tuple[Task, ...] = (
    Task(
        name="satterthwaite",
        title="Satterthwaite, InstEval",
        action="satterthwaite",
        problem=INSTEVAL,
        rule="relative",
        tolerance=1e-3,
        target=Target(seconds=1.0),
    ),
    Task(
        name="kenward-roger-insteval",
        title="Kenward-Roger, InstEval, within 12 GB",
        action="kenward-roger",
        problem=INSTEVAL,
        rule="relative",
        tolerance=1e-3,
        target=Target(seconds=60.0, memory_mb=4096.0),
        memory_gb=12.0,
    ),
    Task(
        name="kenward-roger-subset",
        title="Kenward-Roger, InstEval, 1,877 rows",
        action="kenward-roger",
        problem=SUBSET,
        rule="relative",
        tolerance=1e-3,
        target=Target(),
    ),
    Task(
        name="kenward-roger-cake",
        title="Kenward-Roger, cake",
        action="kenward-roger",
        problem=CAKE,
        rule="relative",
        tolerance=1e-3,
        target=Target(),
        quick=True,
    ),
    Task(
        name="bootstrap-sleepstudy",
        title="bootstrap, sleepstudy slopes",
        action="bootstrap",
        problem=problem("sleepstudy"),
        rule="monte-carlo",
        tolerance=4.0,
        target=Target(seconds=5.0, ratio=20.0, threads=2),
        counts=(10_000, 300),
        per_replicate=True,
        jobs=True,
    ),
    Task(
        name="bootstrap-penicillin",
        title="bootstrap, penicillin",
        action="bootstrap",
        problem=problem("penicillin"),
        rule="monte-carlo",
        tolerance=4.0,
        target=Target(seconds=2.0, ratio=20.0, threads=2),
        counts=(1_000, 300),
        per_replicate=True,
        jobs=True,
        quick=True,
    ),
    Task(
        name="profile-sleepstudy",
        title="profile and six 95 % intervals, sleepstudy slopes",
        action="profile",
        problem=problem("sleepstudy"),
        method="ML",
        rule="width",
        tolerance=1e-3,
        target=Target(ratio=10.0),
        quick=True,
    ),
    Task(
        name="prediction-se",
        title="standard errors of all 73,421 predictions, InstEval",
        action="prediction",
        problem=INSTEVAL,
        rule="dense",
        tolerance=1e-6,
        target=Target(seconds=2.0),
        counts=(200, 200),
    ),
    Task(
        name="influence-exam",
        title="refits without each of 300 rows, exam",
        kind="diagnostics",
        action="influence-rows",
        problem=EXAM,
        rule="absolute",
        tolerance=1e-3,
        target=Target(seconds=1.0, ratio=50.0),
    ),
    Task(
        name="influence-sleepstudy",
        title="refits without each of 18 subjects, sleepstudy slopes",
        kind="diagnostics",
        action="influence-groups",
        problem=problem("sleepstudy"),
        rule="absolute",
        tolerance=1e-3,
        target=Target(seconds=0.1, ratio=50.0),
        runs=15,
        quick=True,
    ),
    Task(
        name="onestep-insteval",
        title="leverage and one-step measures of 73,421 rows, InstEval (R: leverage alone)",
        kind="diagnostics",
        action="one-step",
        problem=INSTEVAL,
        rule="dense",
        tolerance=1e-6,
        target=Target(seconds=10.0, memory_mb=2048.0),
        counts=(200, 200),
        memory_gb=12.0,
    ),
)
