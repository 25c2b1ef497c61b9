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

    Standard errors of predictions and measures of rows are compared with a dense computation,
    everything else with the other package. One answer alone keeps its status, and its reason says
    that it is unchecked.
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
    "absolute": "difference in standard errors",
}


def relative_gap(own: Values, other: Values) -> float:
    """Largest relative difference of the values of ``other``."""
    return max(abs(own[name] - value) / abs(value) for name, value in other.items())


def absolute_gap(own: Values, other: Values) -> float:
    """Largest difference of the values of ``other``, which are in standard errors already."""
    return max(abs(own[name] - value) for name, value in other.items())


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
    "absolute": absolute_gap,
}


def dense_gap(outcome: Outcome, stored: Stored) -> float:
    """Largest relative difference from what the dense mixed-model equations give.

    Values are called ``"<measure> row <number>"``.
    """
    values = outcome.values or {}
    rows = sorted({int(name.split()[-1]) for name in values})
    measures = dense_measures(outcome, stored, np.array(rows))
    expected = {
        f"{measure} row {row}": value
        for measure, found in measures.items()
        for row, value in zip(rows, found.tolist(), strict=True)
    }
    return max(abs(value / expected[name] - 1.0) for name, value in values.items())


def dense_measures(outcome: Outcome, stored: Stored, rows: Floats) -> dict[str, Floats]:
    """Measures at ``rows`` (m,), variances taken as known, from the mixed-model equations.

    With ``W = [X Z]`` and ``C = W'W / sigma^2 + blockdiag(0, G^-1)``, the coefficients are ``c =
    C^-1 W'y / sigma^2`` and have the covariance ``C^-1`` (Henderson, 1975). So ``x'beta + z'b`` has
    the standard error ``sqrt(w'C^-1 w)`` and the leverage ``h = w'C^-1 w / sigma^2``. Without one
    row ``c`` changes by ``C^-1 w (y - w'c) / (sigma^2 (1 - h))``, from which Cook's distance.
    """
    scale = outcome.scale
    assert scale is not None
    W, penalties = mixed_model(outcome, stored)
    C = (W.T @ W).toarray() / scale + np.diag(penalties)
    L = np.linalg.cholesky(C)
    y = stored.numbers(stored.response)
    coefficients = scipy.linalg.cho_solve((L, True), W.T @ y) / scale
    chosen = W[rows].toarray()
    solved = scipy.linalg.cho_solve((L, True), chosen.T)
    variance = (chosen.T * solved).sum(axis=0)
    leverage = variance / scale
    p = columns(stored, stored.fixed).shape[1]
    change = solved[:p] * (y[rows] - chosen @ coefficients) / (scale * (1.0 - leverage))
    vcov = scipy.linalg.cho_solve((L, True), np.eye(len(C), p))[:p]
    cooksd = (change * np.linalg.solve(vcov, change)).sum(axis=0) / p
    return {"se": np.sqrt(variance), "leverage": leverage, "cooksd": cooksd}


def mixed_model(outcome: Outcome, stored: Stored) -> tuple[scipy.sparse.csr_array, Floats]:
    """``W = [X Z]`` (n, p + q) and the diagonal of ``blockdiag(0, G^-1)`` (p + q,)."""
    covariances = outcome.covariances
    assert covariances is not None
    blocks = [scipy.sparse.csr_array(columns(stored, stored.fixed))]
    penalties = [np.zeros(blocks[0].shape[1])]
    for term in stored.terms:  # intercepts of one factor each
        factor = stored.factor(term.key)
        blocks.append(indicators(factor))
        penalties.append(np.full(len(factor.labels), 1.0 / covariances[term.key][0][0]))
    return scipy.sparse.hstack(blocks, format="csr"), np.concatenate(penalties)


def indicators(factor: Factor) -> scipy.sparse.csr_array:
    """The columns (n, levels) of a factor."""
    n = len(factor.codes)
    entries = (np.ones(n), (np.arange(n), factor.codes))
    return scipy.sparse.csr_array(entries, shape=(n, len(factor.labels)))
