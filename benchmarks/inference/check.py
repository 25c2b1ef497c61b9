"""Whether two packages gave the same answer to a task: a time counts only if they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg
import scipy.sparse

from benchmarks.check import columns
from benchmarks.inference.tasks import Rule, Task
from benchmarks.outcome import Outcome
from benchmarks.problems import Factor, Floats
from benchmarks.storage import Stored

Values = dict[str, float]


def judge(task: Task, outcomes: Sequence[Outcome], stored: Stored) -> list[Outcome]:
    """The outcomes, each with ``excess`` (its difference) and "disagrees" if it is too large.

    Standard errors of predictions are compared with a dense computation, everything else with
    the other package. One answer alone keeps its status, and its reason says that it is unchecked.
    """
    answered = [o for o in outcomes if o.status == "ok" and o.values]
    if task.rule == "dense":
        return [judged(o, task, dense_gap(o, stored)) if o in answered else o for o in outcomes]
    if len(answered) < 2:
        unchecked = "unchecked: no other answer"
        return [replace(o, reason=unchecked) if o in answered else o for o in outcomes]
    own, other = answered
    try:
        gap = GAPS[task.rule](own.values or {}, other.values or {})
    except KeyError as missing:
        reason = f"no value {missing} in interlace's answer"
        return [replace(o, status="disagrees", reason=reason) if o is own else o for o in outcomes]
    return [judged(o, task, gap) if o is own else o for o in outcomes]


def judged(outcome: Outcome, task: Task, gap: float) -> Outcome:
    text = f"{DIFFERENCE[task.rule]} {gap:.2g} (at most {task.tolerance:g})"
    status = "ok" if gap <= task.tolerance else "disagrees"
    return replace(outcome, status=status, excess=gap, reason=text)


DIFFERENCE: dict[Rule, str] = {
    "relative": "relative difference",
    "width": "difference over interval width",
    "monte-carlo": "difference in Monte-Carlo standard errors",
    "dense": "relative difference from dense equations",
}


def relative_gap(own: Values, other: Values) -> float:
    """Largest relative difference of the values of ``other``."""
    return max(abs(own[name] - value) / abs(value) for name, value in other.items())


def width_gap(own: Values, other: Values) -> float:
    """Largest difference of interval limits, relative to the width of the interval."""
    names = [name.removeprefix("lower ") for name in other if name.startswith("lower ")]
    return max(
        abs(own[f"{side} {name}"] - other[f"{side} {name}"])
        / (other[f"upper {name}"] - other[f"lower {name}"])
        for name in names
        for side in ("lower", "upper")
    )


def monte_carlo_gap(own: Values, other: Values) -> float:
    """Largest difference of means and of log standard deviations, in its standard errors.

    A standard deviation of n draws has the relative variance ``(kurtosis - 1) / (4 n)``.
    """
    names = [name.removeprefix("mean ") for name in other if name.startswith("mean ")]
    gaps = []
    for name in names:
        mean, sd, kurtosis, count = (
            np.array([v[f"{kind} {name}"] for v in (own, other)])
            for kind in ("mean", "sd", "kurtosis", "count")
        )
        gaps.append(abs(mean[0] - mean[1]) / np.sqrt((sd**2 / count).sum()))
        gaps.append(abs(np.log(sd[0] / sd[1])) / np.sqrt(((kurtosis - 1) / (4 * count)).sum()))
    return float(max(gaps))


GAPS: dict[Rule, Callable[[Values, Values], float]] = {
    "relative": relative_gap,
    "width": width_gap,
    "monte-carlo": monte_carlo_gap,
}


def dense_gap(outcome: Outcome, stored: Stored) -> float:
    """Largest relative difference from the standard errors by dense mixed-model equations."""
    found = {int(name.split()[-1]): value for name, value in (outcome.values or {}).items()}
    expected = dense_errors(outcome, stored, np.array(list(found)))
    return float(np.max(np.abs(np.array(list(found.values())) / expected - 1.0)))


def dense_errors(outcome: Outcome, stored: Stored, rows: Floats) -> Floats:
    """Standard errors of ``x'beta + z'b`` at ``rows``, variances taken as known.

    With ``W = [X Z]``, ``sqrt(w' (W'W / sigma^2 + blockdiag(0, G^-1))^-1 w)`` (Henderson, 1975).
    """
    scale, covariances = outcome.scale, outcome.covariances
    assert scale is not None and covariances is not None
    blocks = [scipy.sparse.csr_array(columns(stored, stored.fixed))]
    penalties = [np.zeros(blocks[0].shape[1])]
    for term in stored.terms:  # intercepts of one factor each
        factor = stored.factor(term.key)
        blocks.append(indicators(factor))
        penalties.append(np.full(len(factor.labels), 1.0 / covariances[term.key][0][0]))
    W = scipy.sparse.hstack(blocks, format="csr")
    C = (W.T @ W).toarray() / scale + np.diag(np.concatenate(penalties))
    L = np.linalg.cholesky(C)
    half = scipy.linalg.solve_triangular(L, W[rows].toarray().T, lower=True)
    errors: Floats = np.sqrt((half**2).sum(axis=0))
    return errors


def indicators(factor: Factor) -> scipy.sparse.csr_array:
    """The columns (n, levels) of a factor."""
    n = len(factor.codes)
    entries = (np.ones(n), (np.arange(n), factor.codes))
    return scipy.sparse.csr_array(entries, shape=(n, len(factor.labels)))
