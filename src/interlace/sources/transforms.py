"""Transforms with a state: which are got right part by part, and which are refused."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from formulaic.parser.types import Factor
from formulaic.transforms import TRANSFORMS

from interlace.design.encode import Context, Side
from interlace.design.sides import model_terms
from interlace.errors import InterlaceError
from interlace.sources.scan import Moments

# Parameters after the data, in order, with their defaults.
_BY_MOMENTS: dict[str, dict[str, bool | float]] = {
    "center": {},
    "scale": {"center": True, "scale": True, "ddof": 1.0},
    "standardize": {"center": True, "rescale": True, "ddof": 0.0},
}
# Values of these in one row depend on other rows, without a state that says how.
_BY_NEIGHBOURS = ("lag",)


@dataclass(frozen=True)
class Standardised:
    """A call of ``center``, ``scale`` or ``standardize`` on a column."""

    column: str
    center: bool | float
    scale: bool | float
    ddof: float


def moments_wanted(
    sides: Iterable[str], columns: Sequence[str], context: Context | None
) -> tuple[str, ...]:
    """Columns whose mean and variance the sides need.

    Raises
    ------
    InterlaceError
        A transform needs more of the rows than that.
    """
    wanted: dict[str, None] = {}
    for side in sides:
        for call in _calls(side):
            name = ast.unparse(call.func)
            function = {**TRANSFORMS, **(context or {})}.get(name)
            stateful = getattr(function, "__is_stateful_transform__", False) and name != "Q"
            if not (stateful or name in _BY_NEIGHBOURS):
                continue
            text = ast.unparse(call)
            standardised = _standardised(call) if name in _BY_MOMENTS else None
            if standardised is None or standardised.column not in columns:
                raise InterlaceError(_refusal(text, name))
            wanted[standardised.column] = None
    return tuple(wanted)


def restate(side: Side, moments: Mapping[str, Moments]) -> None:
    """Give the transforms of a side the moments of all rows for those of the example rows."""
    if side.spec is None:
        return
    for text, state in side.spec.transform_state.items():
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or ast.unparse(call.func) not in _BY_MOMENTS:
            continue
        found = _standardised(call)
        if found is None:
            raise InterlaceError(_refusal(text, ast.unparse(call.func)))
        m = moments[found.column]
        mean = m.mean if found.center is True else float(found.center)
        if found.center is True:
            state["center"] = mean
        if found.scale is True:
            around = m.squares + m.n * (m.mean - mean) ** 2
            state["scale"] = sqrt(around / (m.n - found.ddof))


def _calls(side: str) -> Iterator[ast.Call]:
    for factor in (factor for term in model_terms(side) for factor in term.factors):
        if factor.eval_method is Factor.EvalMethod.PYTHON:
            tree = ast.parse(factor.expr.replace("`", "'"), mode="eval")
            yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _standardised(call: ast.Call) -> Standardised | None:
    """The call, if its data is a column and its other arguments are numbers."""
    name = ast.unparse(call.func)
    arguments = dict(_BY_MOMENTS[name])
    data = call.args[0] if call.args else None
    try:
        for key, value in zip(arguments, call.args[1:], strict=False):
            arguments[key] = ast.literal_eval(value)
        for keyword in call.keywords:
            arguments[str(keyword.arg)] = ast.literal_eval(keyword.value)
    except ValueError:
        return None
    if not isinstance(data, ast.Name):
        return None
    rescale = arguments.get("scale", arguments.get("rescale", False))
    return Standardised(
        data.id, arguments.get("center", True), rescale, float(arguments.get("ddof", 1.0))
    )


def _refusal(text: str, name: str) -> str:
    if name in _BY_MOMENTS:
        reason = f"'{text}' standardises more than a plain column"
    else:
        reason = f"'{text}' needs all rows at once"
    return (
        f"{reason}, which data read part by part does not give: compute its columns beforehand, "
        "or pass the rows as a frame in memory"
    )
