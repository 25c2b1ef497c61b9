"""Ctrl-C ends an iterative fit at once, threads and all; progress tells of every evaluation."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

import interlace
from designs import CASES
from interlace.machine import progress

# A fit of several evaluations, each with many iterations on several threads.
_SLOW_FIT = """
import numpy as np, interlace
rng = np.random.default_rng(1)
n = 400_000
data = {"y": rng.normal(size=n), "x": rng.normal(size=n)}
data |= {"u": rng.integers(0, 100_000, n), "i": rng.integers(0, 20_000, n)}
data["y"] += rng.normal(size=100_000)[data["u"]] + 0.5 * rng.normal(size=20_000)[data["i"]]
interlace.fit(
    "y ~ x + (1 | u) + (1 | i)", data, solver="iterative", mc_tolerance=1e-4, progress=True
)
"""
_LINE = re.compile(
    r"evaluation (\d+): criterion -?[\d.]+, to gain [\d.e+-]+(, \d+ CG iterations, \d+ probes)?"
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_an_interrupt_ends_the_fit_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW_FIT], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline()
            assert first.startswith("evaluation 1: criterion "), first
            process.send_signal(signal.SIGINT)
            _, rest = process.communicate(timeout=10.0)
        finally:
            process.kill()
    assert rest.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT


def _fit(solver: str, **more: bool) -> interlace.CrossedLMEResult:
    case = next(case for case in CASES if case.name == "sparse")
    return interlace.fit(case.formula, case.data(), solver=solver, **more)


@pytest.mark.parametrize("solver", ["exact", "iterative"])
def test_a_line_for_every_evaluation(solver: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each step of the search; a step that is taken back leaves none."""
    certificate = _fit(solver, progress=True).convergence
    found = [_LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    assert all(found)
    numbers = [int(line[1]) for line in found if line]
    assert numbers == list(range(1, certificate.n_evaluations + 1))
    work = {line[2] for line in found if line}
    if solver == "exact":
        assert work == {None}
    else:
        last = f", {certificate.n_iterations} CG iterations, {certificate.n_probes} probes"
        assert found[-1] is not None
        assert found[-1][2] == last


def test_quiet_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _fit("iterative")
    _fit("iterative", progress=False)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _fit("iterative")
    shown = capsys.readouterr().err
    assert "evaluations" in shown
    assert "criterion" in shown
    assert not any(_LINE.fullmatch(line) for line in shown.splitlines())
