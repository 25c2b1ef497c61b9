"""Tasks in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import interlace
from interlace.machine.parallel import in_order, n_workers


def test_in_order() -> None:
    def square(task: int) -> tuple[int, int]:
        time.sleep(0.02 if task % 3 == 0 else 0.0)  # some take longer than those after them
        return task**2, os.getpid()

    found = list(in_order(square, range(20), 2))
    assert [value for value, _ in found] == [task**2 for task in range(20)]
    assert os.getpid() not in {pid for _, pid in found}
    assert {pid for _, pid in in_order(square, range(3), 1)} == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_no_tasks(workers: int) -> None:
    assert list(in_order(str, [], workers)) == []


def test_errors_come_through() -> None:
    def fails(task: int) -> int:
        return 1 // (3 - task)

    with pytest.raises(ZeroDivisionError):
        list(in_order(fails, range(6), 2))


def test_number_of_workers() -> None:
    assert n_workers(4, 100) == 4
    assert n_workers(4, 2) == 2
    assert n_workers(4, 0) == 1
    assert n_workers(-1, 10**6) == os.cpu_count()


SCRIPT = """
import pathlib, signal, sys, time
import interlace
from interlace.inference.bootstrap.resample import bootstrap
from interlace.machine.parallel import in_order
result = interlace.fit("Reaction ~ Days", interlace.datasets.load("sleepstudy"), groups="Subject")
signal.signal(signal.SIGINT, signal.default_int_handler)

def meet(task):  # both processes run, and have imported what they need, when it returns
    bootstrap(result, 2, "cases")
    pathlib.Path(folder, str(task)).touch()
    while len(list(pathlib.Path(folder).iterdir())) < 2:
        time.sleep(0.01)

folder = sys.argv[1]
list(in_order(meet, range(2), 2))
print("ready", flush=True)
bootstrap(result, 10**6, "cases", n_jobs=2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    """Ctrl-C, sent to all processes of a terminal: the parent reports it, the others are silent."""
    source = str(Path(interlace.__file__).parent.parent)
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None and run.stdout.readline() == "ready\n"
    time.sleep(0.5)  # the tasks are on their way
    os.killpg(run.pid, signal.SIGINT)
    _, shown = run.communicate(timeout=20)
    assert run.returncode != 0
    assert shown.rstrip().endswith("KeyboardInterrupt")
    assert shown.count("Traceback") == 1
    assert eventually(lambda: not alive(run.pid))


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 15.0
    while time.monotonic() < until and not condition():
        time.sleep(0.1)
    return condition()
