"""Fitted models as plain values in a file, and back.

A model is a function of its rows, or of their sums, and of where the search ended.  These are
written; all else is computed from them again by the code that a fit runs, and the criterion there
must be what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interlace.design.design import Design
from interlace.design.groups import Grouping
from interlace.design.recipe import recipe_of
from interlace.design.repeated import parse_residual
from interlace.design.variances import Scales
from interlace.design.visits import Grid
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate
from interlace.estimation.residual import StructuredEstimate
from interlace.estimation.sharpen import from_rows, units_from
from interlace.model.fitted import FittedModel, Options
from interlace.model.fitting import check_options
from interlace.model.generalised import (
    FittedGeneralModel,
)
from interlace.model.scaled import FittedScaledModel
from interlace.model.stored_general import general_in, general_out
from interlace.model.stored_options import certificate_in, certificate_out, options_in, options_out
from interlace.model.stored_rows import codes_in, codes_out, design_in, design_out, floats
from interlace.model.stored_scaled import scaled_in, scaled_out
from interlace.model.structured import (
    FittedStructuredModel,
    check_structured,
    refuse_iterative,
    with_subject,
)
from interlace.model.structured_sums import criterion_of, scales_at
from interlace.solver.equations import Equations, Exact, Iterative
from interlace.solver.probes import Probes
from interlace.solver.sharp import Sharp
from interlace.sources.archive import MALFORMED, group_in, group_out, sums_in, sums_out
from interlace.sources.build import of_design
from interlace.sources.consistent import is_consistent, is_grouping
from interlace.sources.container import RESULT, Array, Header, damaged, read, text_of, write
from interlace.sources.labels import Packed, unpacked
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.patterns import Visits

Model = FittedModel | FittedGeneralModel | FittedStructuredModel | FittedScaledModel
# What the criterion, computed again, may differ by, as a share of its size and the rows.
_SAME = 1e-6


def save(model: Model, path: str | Path, *, rows: bool = True) -> None:
    """Write a model to a file; see the method ``save`` of a result."""
    packed = Packed()
    header = _out(model, packed, rows=rows)
    write(path, header, packed.arrays, RESULT)


def load(path: str | Path) -> Model:
    """Read a model from a file; see :func:`interlace.load`."""
    header, arrays = read(path, RESULT)
    try:
        with np.errstate(all="ignore"):
            model = _in(header, arrays)
            same = _is_as_saved(model, header, arrays)
    except InterlaceError as error:
        raise InterlaceError(f"'{path}' cannot be read: {error}") from error
    except (*MALFORMED, AssertionError) as error:
        raise damaged(path, RESULT) from error
    if not same:
        raise damaged(path, RESULT)
    return model


def _is_as_saved(model: Model, header: Header, arrays: Mapping[str, Array]) -> bool:
    """Whether the criterion is what it was, and saving again would give the same file."""
    was, now = float.fromhex(header["value"]), model.estimate.value
    if not abs(was - now) <= _SAME * (abs(was) + model.nobs):
        return False
    packed = Packed()
    again = _out(model, packed, rows=model.design is not None) | {"value": header["value"]}
    return text_of(again, packed.arrays) == text_of(header, arrays) and all(
        array is packed.arrays[name] or array.tobytes() == packed.arrays[name].tobytes()
        for name, array in arrays.items()
    )


def _out(model: Model, packed: Packed, *, rows: bool) -> Header:
    common = {
        "options": options_out(model.options, packed),
        "convergence": certificate_out(model.estimate.convergence, packed),
        "value": float(model.estimate.value).hex(),
    }
    match model:
        case FittedModel():
            return {"kind": "linear", **common, **_linear_out(model, packed, rows=rows)}
        case FittedGeneralModel():
            _require_rows(rows, "a generalised model computes")
            return {"kind": "general", **common, **general_out(model, packed)}
    _require_rows(rows, "a model with residual= computes")
    if isinstance(model, FittedScaledModel):
        return {"kind": "scaled", **common, **scaled_out(model, packed)}
    return {"kind": "structured", **common, **_structured_out(model, packed)}


def _require_rows(rows: bool, why: str) -> None:
    if not rows:
        raise InterlaceError(f"{why} its answers from the rows: leave rows=False out")


def _in(header: Header, arrays: Mapping[str, Array]) -> Model:
    return _READERS[header["kind"]](header, options_in(header["options"], arrays), arrays)


# Linear models ------------------------------------------------------------------------------------


def _linear_out(model: FittedModel, packed: Packed, *, rows: bool) -> Header:
    estimate, design = model.estimate, model.design if rows else None
    equations = estimate.criterion.equations
    if design is None and isinstance(equations, Sharp):
        raise InterlaceError(
            "sums of squares have lost the residuals of this model, so that it needs its rows: "
            "leave rows=False out"
        )
    held = None if design is None else design_out(design, packed)
    sums = None if design is not None else sums_out(_sums_of(model), packed)
    return {
        "rows": held,
        "sums": sums,
        "solver": _solver_out(equations, design, estimate.A, packed),
        "templates": [packed.add(T) for T in estimate.templates],
    }


def _sums_of(model: FittedModel) -> CrossProducts:
    """The sums of a fit, with all that is asked of sums alone."""
    return model.estimate.A if model.design is None else of_design(model.design)


def _solver_out(
    equations: Equations, design: Design | None, A: CrossProducts, packed: Packed
) -> Sequence[object]:
    match equations:
        case Exact():
            return ["exact"]
        case Iterative(probes=probes):
            return ["iterative", probes.count, probes.seed]
    assert design is not None
    return ["sharp", [packed.add(units) for units in units_from(cross_products(design), A)]]


def _linear_in(h: Header, options: Options, arrays: Mapping[str, Array]) -> FittedModel:
    check_options(options)
    design = None if h["rows"] is None else design_in(h["rows"], arrays)
    if design is None:
        A = sums_in(h["sums"], arrays)
        if not is_consistent(A):
            raise ValueError("sums")
    else:
        A = cross_products(design)
    criterion = _criterion(h["solver"], design, A, options.method == "REML", arrays)
    templates = tuple(floats(arrays[name], 2) for name in h["templates"])
    if [T.shape for T in templates] != [(t.k, t.k) for t in A.terms]:
        raise ValueError("templates")
    estimate = Estimate(criterion, templates, certificate_in(h["convergence"], arrays))
    formula = recipe_of(design, A).encoding.formula
    return FittedModel(formula, design, estimate, options)


def _criterion(
    stored: Sequence[Any],
    design: Design | None,
    A: CrossProducts,
    reml: bool,
    arrays: Mapping[str, Array],
) -> Criterion:
    match stored:
        case ["exact"]:
            return Criterion(A, reml, Exact())
        case ["iterative", int(count), int(seed)] if 0 < count <= 1 << 20 and seed >= 0:
            return Criterion(A, reml, Iterative(Probes(count, seed)))
        case ["sharp", list(names)] if design is not None:
            return from_rows(design, A, [floats(arrays[name], 1) for name in names], reml=reml)
    raise ValueError("solver")


# Models with residual= ----------------------------------------------------------------------------


def _structured_out(model: FittedStructuredModel, packed: Packed) -> Header:
    assert model.design is not None and model.grid is not None
    grid, scales = model.grid, scales_at(model.estimate.criterion.stack, model.grid.at)
    at = grid.at
    kinds, n_kinds = at.groups, at.n_groups
    if grid.kinds is not None:
        kinds, n_kinds = grid.kinds, 1 if grid.groups is None else len(grid.groups)
    return {
        "rows": design_out(model.design, packed),
        "residual": str(model.residual),
        "at": [codes_out(codes, packed) for codes in (at.subjects, at.visits, kinds)],
        "sizes": [at.n_subjects, at.n_visits, n_kinds],
        "labels": packed.labels(grid.labels, "the visits"),
        "groups": None if grid.groups is None else packed.labels(grid.groups, "the groups"),
        "times": None if grid.times is None else packed.add(grid.times),
        "grouped": [None if g is None else group_out(g, packed) for g in _grouped(grid)],
        "scales": [packed.add(scales.rows), packed.add(scales.units)],
        "ratios": [list(pair) for pair in scales.ratios],
        "x": packed.add(model.estimate.x),
    }


def _structured_in(
    h: Header, options: Options, arrays: Mapping[str, Array]
) -> FittedStructuredModel:
    check_structured(options)
    refuse_iterative(options)
    design = design_in(h["rows"], arrays)
    formula = design.encoding.formula
    term = with_subject(parse_residual(h["residual"]), formula)
    grid = _grid_in(h, len(design.y), arrays)
    rows, units = floats(arrays[h["scales"][0]], 2), floats(arrays[h["scales"][1]], 1)
    ratios = tuple((name, flag) for name, flag in h["ratios"])
    if not all(type(name) is str and type(flag) is bool for name, flag in ratios):
        raise ValueError("ratios")
    if not rows.shape == (len(design.y), len(ratios)) or len(units) != len(ratios):
        raise ValueError("scales")
    if grid.strata is not None and len(grid.strata.cells) != len(ratios) + 1:
        raise ValueError("strata")
    scales = Scales(rows, ratios, units, grid.strata)
    grid, criterion = criterion_of(design, grid, term, scales, reml=options.method == "REML")
    x = floats(arrays[h["x"]], 1)
    if len(x) != criterion.stack.size:
        raise ValueError("parameters")
    estimate = StructuredEstimate(criterion, x, certificate_in(h["convergence"], arrays))
    model = FittedStructuredModel(formula, design, estimate, options, None, term, grid)
    _ = model.tried  # the structure is one of those that the options name
    return model


def _grid_in(h: Header, n: int, arrays: Mapping[str, Array]) -> Grid:
    codes = [codes_in(arrays[name]) for name in h["at"]]
    sizes = h["sizes"]
    for own, size in zip(codes, sizes, strict=True):
        if type(size) is not int or own.shape != (n,) or not 0 <= own.max() < size <= n:
            raise ValueError("grid")
    groups = None if h["groups"] is None else unpacked(h["groups"], arrays)
    times = None if h["times"] is None else floats(arrays[h["times"]], 2)
    labels = unpacked(h["labels"], arrays)
    if labels.shape != (sizes[1],) or (times is not None and len(times) != n):
        raise ValueError("grid")
    if groups is not None and groups.shape != (sizes[2],):
        raise ValueError("groups")
    place = codes[0] * sizes[1] + codes[1]
    if len(np.unique(place)) < n:
        raise ValueError("visits")
    subjects, strata = (None if g is None else group_in(g, arrays) for g in h["grouped"])
    if not all(g is None or is_grouping(g) for g in (subjects, strata)):
        raise ValueError("grouping")
    if subjects is not None and len(subjects.cells) != sizes[0]:
        raise ValueError("subjects")
    at = Visits(codes[0], codes[1], codes[2], *sizes)
    return Grid(at, labels, groups, times, subjects, strata)


def _grouped(grid: Grid) -> tuple[Grouping | None, Grouping | None]:
    """What tells subjects and strata of other rows."""
    return grid.subjects, grid.strata


_READERS: Mapping[str, Callable[[Header, Options, Mapping[str, Array]], Model]] = {
    "linear": _linear_in,
    "general": general_in,
    "structured": _structured_in,
    "scaled": scaled_in,
}
