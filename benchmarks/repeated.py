"""Unstructured covariances over visits: interlace beside nlme and glmmTMB, where R has them.

``python -m benchmarks.repeated [--limit SECONDS] [--only NAME]`` prints a table.  Times are seconds
of one processor's work (user and system), the least of three fits; R reads the rows beforehand.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

import interlace  # noqa: E402

FORMULA = "y ~ base + arm * visit"
SCRIPT = Path(__file__).with_name("repeated.R")


@dataclass(frozen=True)
class Problem:
    """A trial: subjects, visits, share of drop-out, what is asked, and which peers are tried."""

    subjects: int
    visits: int
    dropout: float
    ddf: str = "normal"
    peers: tuple[str, ...] = ()


PROBLEMS = {
    "200 x 4": Problem(200, 4, 0.3, peers=("nlme", "glmmTMB")),
    "1,000 x 10": Problem(1_000, 10, 0.3, peers=("nlme", "glmmTMB")),
    "1,000 x 10, KR-linear": Problem(1_000, 10, 0.3, ddf="kenward-roger-linear"),
    "10,000 x 8": Problem(10_000, 8, 0.3, peers=("glmmTMB",)),
    "1,000,000 x 5": Problem(1_000_000, 5, 0.0),
}


def trial(problem: Problem, seed: int = 1) -> pd.DataFrame:
    """Rows of a trial of two arms with a baseline; who drops out stays away."""
    rng = np.random.default_rng(seed)
    n, V = problem.subjects, problem.visits
    lags = np.abs(np.subtract.outer(np.arange(V), np.arange(V)))
    L = np.linalg.cholesky(0.5**lags + 0.3 * np.eye(V))
    arm, base = rng.integers(0, 2, n), rng.normal(size=n)
    y = rng.normal(size=(n, V)) @ L.T + 0.5 * base[:, None]
    y += 0.3 * arm[:, None] * np.arange(V) / V
    last = np.where(rng.random(n) < problem.dropout, rng.integers(1, V, n), V)
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(n), V),
            "visit": pd.Categorical(np.tile(np.arange(V), n)),
            "arm": np.repeat(np.where(arm, "b", "a"), V),
            "base": np.repeat(base, V),
            "y": y.ravel(),
        }
    )
    return frame[(np.arange(V) < last[:, None]).ravel()].reset_index(drop=True)


def timed(frame: pd.DataFrame, problem: Problem) -> tuple[float, float]:
    """Least seconds of three fits with their table of coefficients, and minus twice log L."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        result = interlace.fit(FORMULA, frame, residual="us(visit | id)", ddf=problem.ddf)
        result.coef_table()
        seconds.append(time.process_time() - start)
    return min(seconds), result.criterion


def of_peer(peer: str, path: Path, limit: float) -> tuple[str, str]:
    """Seconds and minus twice log L of a package of R, or why there are none."""
    command = ["Rscript", str(SCRIPT), peer, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except FileNotFoundError:
        return "no R", ""
    except subprocess.TimeoutExpired:
        return f"> {limit:g}", ""
    if done.returncode:
        return "failed", done.stderr.strip().splitlines()[-1][:60] if done.stderr else ""
    seconds, value = done.stdout.split()
    return seconds, value


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for a peer's fit")
    parser.add_argument("--only", default="", help="problems whose names begin so")
    arguments = parser.parse_args()
    print(f"{'problem':24}{'rows':>10}  {'package':10}{'seconds':>10}  -2 log L (REML)")
    for name, problem in PROBLEMS.items():
        if not name.startswith(arguments.only):
            continue
        frame = trial(problem)
        seconds, value = timed(frame, problem)
        print(
            f"{name:24}{len(frame):>10,}  {'interlace':10}{seconds:>10.3f}  {value:.4f}", flush=True
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trial.csv"
            for peer in problem.peers:
                frame.to_csv(path, index=False)
                found = of_peer(peer, path, arguments.limit)
                print(f"{'':36}{peer:10}{found[0]:>10}  {found[1]}", flush=True)


if __name__ == "__main__":
    main()
