"""interlace's inference and diagnostics after a fit.

The request, in place of a method, is ``"action method count jobs"``: ``count`` replicates or rows
to report, ``jobs`` processes or threads of the task itself. Names and values are those that
``lme4_tasks.R`` answers with.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import interlace
from benchmarks.peers.common import pandas_frame, square
from benchmarks.storage import Stored
from interlace.diagnostics.polish import polished

if TYPE_CHECKING:
    import pandas as pd

Values = dict[str, float]


@dataclass(frozen=True)
class TaskAnswer:
    """Numbers by name, and the variances they rest on (see ``common.Answer``)."""

    values: Values
    scale: float
    covariances: dict[str, list[list[float]]]


@dataclass(frozen=True)
class Action:
    """``run`` is timed; ``values`` reads its result afterwards.

    ``polished`` says that the values rest on the variances after some more Newton steps, which
    interlace takes before it computes measures of rows.
    """

    result: interlace.CrossedLMEResult
    run: Callable[[], pd.DataFrame]
    values: Callable[[pd.DataFrame], Values]
    polished: bool = False


def prepare(stored: Stored, *, method: str) -> Callable[[], tuple[Action, pd.DataFrame]]:
    """A new fit, so that nothing is cached, and the task that follows it."""
    name, fit_method, count, jobs = method.split(" ")
    result = interlace.fit(stored.formula, pandas_frame(stored), method=fit_method)
    action = ACTIONS[name](result, int(count), int(jobs))
    return lambda: (action, action.run())


def answer(done: tuple[Action, pd.DataFrame]) -> TaskAnswer:
    action, table = done
    result = action.result
    scale, covariances = float(result.scale), dict(result.variance_components)
    if action.polished:
        estimate = polished(result.estimate)
        groups = [term.group for term in estimate.A.terms]
        scale, covariances = estimate.sigma**2, dict(zip(groups, estimate.covariances, strict=True))
    return TaskAnswer(
        values=action.values(table),
        scale=scale,
        covariances={group: square(covariance) for group, covariance in covariances.items()},
    )


def labelled(kind: str, values: pd.Series | dict[str, float]) -> Values:
    """Values as ``"kind name"``, with R's names: ``service[T.1]`` is ``service1`` there."""
    return {f"{kind} {r_name(str(name))}": float(value) for name, value in values.items()}


def r_name(name: str) -> str:
    return re.sub(r"\[T\.(.*?)\]", r"\1", name)


def satterthwaite(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    return Action(result, lambda: result.coef_table("satterthwaite"), degrees_of_freedom)


def kenward_roger(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    return Action(result, lambda: result.coef_table("kenward-roger"), degrees_of_freedom)


def degrees_of_freedom(table: pd.DataFrame) -> Values:
    return {**labelled("se", table["se"]), **labelled("df", table["df"])}


def bootstrap(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    def run() -> pd.DataFrame:
        return result.bootstrap(count, "parametric", seed=1, n_jobs=jobs).replicates

    return Action(result, run, moments)


def moments(replicates: pd.DataFrame) -> Values:
    """Mean, standard deviation, kurtosis and number of the finite replicates of every column."""
    values: Values = {}
    for name, column in replicates.select_dtypes("number").items():
        x = column.to_numpy(np.float64)
        x = x[np.isfinite(x)]
        centred = x - x.mean()
        variance = np.mean(centred**2)
        found = {
            "mean": x.mean(),
            "sd": x.std(ddof=1),
            "kurtosis": np.mean(centred**4) / variance**2 if variance > 0.0 else 3.0,
            "count": x.size,
        }
        for kind, value in found.items():
            values |= labelled(kind, {str(name): value})
    return values


def profile(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    return Action(result, lambda: result.profile().conf_int(), limits)


def limits(table: pd.DataFrame) -> Values:
    return {**labelled("lower", table.iloc[:, 0]), **labelled("upper", table.iloc[:, 1])}


def prediction(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    return Action(
        result, lambda: result.predict(se=True), lambda table: at_rows("se", table["se"], count)
    )


def at_rows(kind: str, column: pd.Series, count: int) -> Values:
    """``count`` values of a column, evenly spread over its rows."""
    rows = np.linspace(0, len(column) - 1, count).round().astype(int)
    return {f"{kind} row {row}": float(column.iloc[row]) for row in rows}


def influence_rows(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    return Action(
        result,
        lambda: interlace.hlm_influence(result, 1, approx=False),
        lambda table: changes(table.set_axis(table.index + 1)),  # R counts from 1
    )


def influence_groups(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    group = next(iter(result.variance_components))
    return Action(result, lambda: interlace.hlm_influence(result, group, approx=False), changes)


def changes(table: pd.DataFrame) -> Values:
    """How the fixed effects change without each row or level, in standard errors."""
    values: Values = {}
    for name, column in table.filter(like="dfbetas.").items():
        values |= labelled(f"without {str(name).removeprefix('dfbetas.')}", column)
    return values


def one_step(result: interlace.CrossedLMEResult, count: int, jobs: int) -> Action:
    def chosen(table: pd.DataFrame) -> Values:
        return {
            **at_rows("leverage", table["leverage.overall"], count),
            **at_rows("cooksd", table["cooksd"], count),
        }

    return Action(result, lambda: interlace.hlm_influence(result, 1), chosen, polished=True)


ACTIONS: dict[str, Callable[[interlace.CrossedLMEResult, int, int], Action]] = {
    "satterthwaite": satterthwaite,
    "kenward-roger": kenward_roger,
    "bootstrap": bootstrap,
    "profile": profile,
    "prediction": prediction,
    "influence-rows": influence_rows,
    "influence-groups": influence_groups,
    "one-step": one_step,
}
