"""What is said below tables of means and contrasts."""

from __future__ import annotations

from collections.abc import Sequence

from interlace.inference.means.adjust import STEPWISE
from interlace.inference.means.averages import Functions
from interlace.inference.means.contrasts import level_names
from interlace.inference.means.grid import Grid

_REFERENCES = {
    "normal": "Normal distribution, no degrees of freedom",
    "satterthwaite": "Degrees of freedom by Satterthwaite",
    "kenward-roger": "Standard errors and degrees of freedom by Kenward and Roger",
    "kenward-roger-linear": "Standard errors and degrees of freedom by Kenward and Roger (linear)",
    "between-within": "Degrees of freedom between and within subjects",
    "residual": "Degrees of freedom of the residuals",
}


def of_reference(ddf: str, robust: str | None) -> str:
    """What tests compare with."""
    if robust is None:
        return _REFERENCES.get(ddf, f"Degrees of freedom: {ddf}")
    return f"Cluster-robust standard errors ({robust})"


def of_grid(grid: Grid, functions: Functions, weights: str, trend: str | None) -> tuple[str, ...]:
    """Where the means are taken, and over what."""
    notes = []
    over = [n for n, v in grid.values.items() if n not in functions.labels and len(v) > 1]
    if over:
        how = "" if weights == "equal" else f" with {weights} weights"
        notes.append(f"Averaged over {_listed(over)}{how}.")
    fixed = [
        f"{n} = {level_names('', v)[0]}"
        for n, v in grid.values.items()
        if n not in functions.labels and len(v) == 1 and n not in grid.seen.variables.factors
    ]
    if fixed:
        notes.append(f"At {', '.join(fixed)}.")
    if grid.seen.model.design is None and grid.seen.weighted and fixed:
        notes.append("Means of numbers are weighted, as the rows are not held.")
    for inner, outer in grid.nesting.items():
        notes.append(f"{inner} is nested in {_listed(sorted(outer))}.")
    encoding = grid.seen.variables.encoding
    if encoding.offset or encoding.offset_column is not None or encoding.offset_array:
        notes.append("The offset is 0.")
    notes += _interactions(grid, functions, over)
    return tuple(notes)


def _interactions(grid: Grid, functions: Functions, over: Sequence[str]) -> list[str]:
    """Factors of the means that interact with some that are averaged over."""
    found = [
        name
        for name in over
        if any(
            name in t and t & set(functions.labels)
            for t in grid.seen.variables.terms
            if not t & set(grid.nesting)
        )
    ]
    if not found or not functions.labels:
        return []
    return [f"The means interact with {_listed(found)}, so that the average may mislead."]


def of_means(functions: Functions) -> tuple[str, ...]:
    """That some means cannot be told."""
    lost = int((~functions.estimable).sum())
    if not lost:
        return ()
    if functions.excess.size and not (functions.excess == functions.excess).all():
        return (
            "Columns of the fixed effects are linearly dependent and the rows are not held, so "
            "that nothing tells which means are estimable: all are nan.",
        )
    return (f"{lost} not estimable (nan): the data do not tell all of the cells.",)


def of_contrasts(
    functions: Functions, adjust: str, level: float, note: str | None
) -> tuple[str, ...]:
    """How probabilities and intervals are adjusted."""
    groups = functions.groups()
    family = f"{len(groups[0])} tests" if len(groups) == 1 else f"{len(groups[0])} tests a group"
    if adjust == "none":
        said = f"p and {level * 100:g} % intervals are not adjusted."
    else:
        said = f"p and {level * 100:g} % intervals adjusted for {family}: {adjust}"
        said += " (intervals: bonferroni)." if adjust in STEPWISE else "."
    more = () if note is None else (f"{note}.",)
    return (said, *more, *of_means(functions))


def of_tests(method: str) -> tuple[str, ...]:
    """What tests compare with, as a sentence."""
    return (f"{method}.",)


def _listed(names: Sequence[str]) -> str:
    if len(names) <= 1:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
