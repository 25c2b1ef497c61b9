"""GPBoost with its exact solver, which gives a likelihood that can be compared."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers import gpboost
from benchmarks.peers.common import Answer
from benchmarks.storage import Stored


def prepare(stored: Stored, *, method: str) -> Callable[[], gpboost.Fitted]:
    return gpboost.prepare(stored, method=method, solver="cholesky")


def answer(result: gpboost.Fitted) -> Answer:
    return gpboost.answer(result, exact=True)
