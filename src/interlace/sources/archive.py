"""Cross-products on disk, with all that a fit from them needs, and nothing that could be run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from formulaic.errors import FormulaicError

from interlace.covariance.patterned import TEMPLATES
from interlace.design.design import Encoding
from interlace.design.formula import MixedFormula, RandomTerm, parse
from interlace.design.groups import Grouping
from interlace.design.reads import sides_of
from interlace.design.recipe import Recipe, recipe_of
from interlace.errors import InterlaceError
from interlace.sources.allowed import refuse_code
from interlace.sources.consistent import is_consistent
from interlace.sources.container import Array, Header, damaged, read, text_of, write
from interlace.sources.labels import Packed, unpacked
from interlace.sources.specs import side_in, side_out
from interlace.sums.crossprod import Basis, Cells, CrossProducts
from interlace.sums.moments import Moments
from interlace.sums.terms import ReTerm

# What values that are not as `save` writes them raise where they are taken apart.
MALFORMED = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError),
    *(RecursionError, SyntaxError, FormulaicError),
)


def save(A: CrossProducts, path: str | Path) -> None:
    """Write cross-products to a file; see their method ``save``."""
    header, arrays = _packed(A)
    write(path, header, arrays)


def load(path: str | Path) -> CrossProducts:
    """Read cross-products from a file; see their method ``load``."""
    header, arrays = read(path)
    try:
        A = sums_in(header, arrays)
        same = is_consistent(A) and _is_as_saved(A, header, arrays)
    except InterlaceError as error:
        raise InterlaceError(f"'{path}' cannot be read: {error}") from error
    except MALFORMED as error:
        raise damaged(path) from error
    if not same:
        raise damaged(path)
    return A


def _is_as_saved(A: CrossProducts, header: Header, arrays: Mapping[str, Array]) -> bool:
    """Whether saving what was read would give the same file, so that nothing in it was ignored."""
    again, copies = _packed(A)
    return text_of(again, copies) == text_of(header, arrays) and all(
        array is copies[name] or array.tobytes() == copies[name].tobytes()
        for name, array in arrays.items()
    )


def _packed(A: CrossProducts) -> tuple[Header, dict[str, Array]]:
    packed = Packed()
    return sums_out(A, packed), packed.arrays


def sums_out(A: CrossProducts, packed: Packed) -> Header:
    """Cross-products as plain values.

    Raises
    ------
    InterlaceError
        They hold something that cannot be named.
    """
    return {
        "n": A.n,
        "sum_log_w": float(A.sum_log_w).hex(),
        "names": list(A.names),
        "dropped": list(A.dropped),
        "terms": [term_out(term, packed) for term in A.terms],
        "basis": [packed.add(A.basis.fixed), *map(packed.add, A.basis.random)],
        "vv": packed.add(A.vv),
        "zv": [packed.add(block) for block in A.zv],
        "zz": [packed.add(block) for block in A.zz],
        "cells": [
            [i, j, packed.add(c.rows), packed.add(c.cols), packed.add(c.values)]
            for (i, j), c in A.cells.items()
        ],
        "dependence": None if A.dependence is None else packed.add(A.dependence),
        "moments": None if A.moments is None else _moments_out(A.moments, packed),
        "recipe": _recipe_out(recipe_of(None, A), packed),
    }


def sums_in(h: Header, arrays: Mapping[str, Array]) -> CrossProducts:
    """What :func:`sums_out` has written; anything else raises one of ``MALFORMED``."""
    fixed, *random = [arrays[name] for name in h["basis"]]
    return CrossProducts(
        n=h["n"],
        names=tuple(h["names"]),
        dropped=tuple(h["dropped"]),
        terms=tuple(term_in(term, arrays) for term in h["terms"]),
        basis=Basis(fixed, tuple(random)),  # type: ignore[arg-type]
        vv=arrays[h["vv"]],  # type: ignore[arg-type]
        zv=tuple(arrays[name] for name in h["zv"]),  # type: ignore[misc]
        zz=tuple(arrays[name] for name in h["zz"]),  # type: ignore[misc]
        cells={
            (i, j): Cells(arrays[r], arrays[c], arrays[v])  # type: ignore[arg-type]
            for i, j, r, c, v in h["cells"]
        },
        sum_log_w=float.fromhex(h["sum_log_w"]),
        recipe=_recipe_in(h["recipe"], arrays),
        dependence=None if h["dependence"] is None else arrays[h["dependence"]],  # type: ignore[arg-type]
        moments=None if h["moments"] is None else _moments_in(h["moments"], arrays),
    )


def _moments_out(moments: Moments, packed: Packed) -> list[str]:
    return [packed.add(moments.fixed), *map(packed.add, moments.random)]


def _moments_in(stored: list[str], arrays: Mapping[str, Array]) -> Moments:
    fixed, *random = [arrays[name] for name in stored]
    return Moments(fixed, tuple(random))  # type: ignore[arg-type]


def term_out(term: ReTerm, packed: Packed) -> Header:
    """Labels of a random-effects term as plain values."""
    return {
        "group": term.group,
        "columns": list(term.columns),
        "levels": packed.labels(term.levels, term.group),
        "template": term.template.name,
        "backwards": term.backwards,
    }


def term_in(stored: Header, arrays: Mapping[str, Array]) -> ReTerm:
    """What :func:`term_out` has written."""
    return ReTerm(
        stored["group"],
        tuple(stored["columns"]),
        unpacked(stored["levels"], arrays),
        TEMPLATES[stored["template"]](len(stored["columns"])),
        stored["backwards"],
    )


# How rows were encoded ----------------------------------------------------------------------------


def _recipe_out(recipe: Recipe, packed: Packed) -> Header:
    encoding = encoding_out(recipe.encoding, packed)
    orders = [[name, packed.labels(own, name)] for name, own in recipe.orders.items()]
    return {"n_dropped": recipe.n_dropped, **encoding, "orders": orders}


def encoding_out(e: Encoding, packed: Packed) -> Header:
    """How rows were encoded as plain values.

    Raises
    ------
    InterlaceError
        The formula says more than a file may.
    """
    if e.context:
        raise InterlaceError("cross-products of a formula with functions of yours cannot be saved")
    sides = [e.response, e.fixed, *e.offset, *e.slopes]
    for side in sides:
        refuse_code(side.text)
    return {
        "formula": {
            "response": e.formula.response,
            "fixed": e.formula.fixed,
            "random": [_random_out(t) for t in e.formula.random],
            "offset": list(e.formula.offset),
        },
        "sides": [side_out(side, packed) for side in sides],
        "groups": [group_out(group, packed) for group in e.groups],
        "offset_column": e.offset_column,
        "offset_array": e.offset_array,
        "weights_column": e.weights_column,
    }


def _random_out(term: RandomTerm) -> list[object]:
    """A term; the name of its structure only where the bar does not say it."""
    named = [term.structure] if term.structure else []
    return [term.expr, list(term.group), term.correlated, *named]


def group_out(group: Grouping, packed: Packed) -> Header:
    """A grouping factor as plain values."""
    pairs = zip(group.columns, group.levels, strict=True)
    return {
        "columns": list(group.columns),
        "levels": [packed.labels(levels, name) for name, levels in pairs],
        "cells": packed.add(group.cells),
    }


def _recipe_in(stored: Header, arrays: Mapping[str, Array]) -> Recipe:
    orders = {name: unpacked(own, arrays) for name, own in stored["orders"]}
    return Recipe(encoding_in(stored, arrays), stored["n_dropped"], orders)


def encoding_in(stored: Header, arrays: Mapping[str, Array]) -> Encoding:
    """What :func:`encoding_out` has written."""
    formula = _formula_in(stored["formula"])
    sides = [side_in(side, arrays) for side in stored["sides"]]
    n_offsets = len(formula.offset)
    return Encoding(
        formula=formula,
        response=sides[0],
        fixed=sides[1],
        offset=tuple(sides[2 : 2 + n_offsets]),
        slopes=tuple(sides[2 + n_offsets :]),
        groups=tuple(group_in(group, arrays) for group in stored["groups"]),
        offset_column=stored["offset_column"],
        offset_array=stored["offset_array"],
        weights_column=stored["weights_column"],
        context=None,
    )


def _formula_in(stored: Header) -> MixedFormula:
    """The formula, each side of which is held to what a file may say before it is expanded."""
    random = tuple(RandomTerm(expr, tuple(group), *of) for expr, group, *of in stored["random"])
    offset = tuple(stored["offset"])
    formula = MixedFormula(stored["response"], stored["fixed"], random, offset)
    for text in sides_of(formula):
        refuse_code(text)
    if parse(str(formula), fixed_alone=True) != formula:
        raise ValueError(str(formula))
    return formula


def group_in(stored: Header, arrays: Mapping[str, Array]) -> Grouping:
    """What :func:`group_out` has written."""
    levels = tuple(unpacked(one, arrays) for one in stored["levels"])
    return Grouping(tuple(stored["columns"]), levels, arrays[stored["cells"]])  # type: ignore[arg-type]
