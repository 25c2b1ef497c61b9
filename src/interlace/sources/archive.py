"""Cross-products on disk, with all that a fit from them needs."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from formulaic import ModelSpec

from interlace.covariance.templates import STRUCTURES
from interlace.design.design import Encoding
from interlace.design.encode import Side
from interlace.design.formula import MixedFormula, RandomTerm
from interlace.design.groups import Grouping
from interlace.design.recipe import Recipe, recipe_of
from interlace.errors import InterlaceError
from interlace.sources.container import Array, Header, damaged, read, write
from interlace.sums.crossprod import Basis, Cells, CrossProducts
from interlace.sums.terms import ReTerm

# What the encoding of a formula's terms is made of, beside classes of formulaic.
_ALLOWED = {
    "builtins": {"set", "frozenset"},
    "collections": {"OrderedDict", "defaultdict"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
}


def save(A: CrossProducts, path: str | Path) -> None:
    """Write cross-products to a file; see their method ``save``."""
    packed = _Packed()
    recipe = recipe_of(None, A)
    header: Header = {
        "n": A.n,
        "sum_log_w": A.sum_log_w,
        "names": A.names,
        "dropped": A.dropped,
        "terms": [_term_out(term, packed) for term in A.terms],
        "basis": [packed.add(A.basis.fixed), *map(packed.add, A.basis.random)],
        "vv": packed.add(A.vv),
        "zv": [packed.add(block) for block in A.zv],
        "zz": [packed.add(block) for block in A.zz],
        "cells": [
            [i, j, packed.add(c.rows), packed.add(c.cols), packed.add(c.values)]
            for (i, j), c in A.cells.items()
        ],
        "recipe": _recipe_out(recipe, packed),
    }
    write(path, header, packed.arrays)


def load(path: str | Path) -> CrossProducts:
    """Read cross-products from a file; see their method ``load``."""
    h, arrays = read(path)
    fixed, *random = [arrays[name] for name in h["basis"]]
    try:
        recipe = _recipe_in(h["recipe"], arrays)
    except (pickle.UnpicklingError, AttributeError, EOFError, ImportError) as error:
        raise InterlaceError(
            f"'{path}' was saved with another version of formulaic or numpy, or does not hold "
            f"cross-products ({error}): save the cross-products again"
        ) from error
    except (KeyError, TypeError) as error:
        raise damaged(path) from error
    return CrossProducts(
        n=h["n"],
        names=tuple(h["names"]),
        dropped=tuple(h["dropped"]),
        terms=tuple(_term_in(term, arrays) for term in h["terms"]),
        basis=Basis(fixed, tuple(random)),  # type: ignore[arg-type]
        vv=arrays[h["vv"]],  # type: ignore[arg-type]
        zv=tuple(arrays[name] for name in h["zv"]),  # type: ignore[misc]
        zz=tuple(arrays[name] for name in h["zz"]),  # type: ignore[misc]
        cells={
            (i, j): Cells(arrays[r], arrays[c], arrays[v])  # type: ignore[arg-type]
            for i, j, r, c, v in h["cells"]
        },
        sum_log_w=h["sum_log_w"],
        recipe=recipe,
    )


# Labels -------------------------------------------------------------------------------------------


@dataclass
class _Packed:
    """Arrays under names of their own, filled as they are met."""

    arrays: dict[str, Array] = field(default_factory=dict)

    def add(self, array: Array) -> str:
        """Name under which an array is kept."""
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def labels(self, values: Array, what: str) -> Header:
        """Values of levels: numbers and times as they are, text as bytes."""
        if values.dtype.kind in "iufb":
            return {"values": self.add(values)}
        if values.dtype.kind in "mM":
            return {"values": self.add(values.view(np.int64)), "dtype": values.dtype.str}
        held = values.tolist()
        if not all(isinstance(value, str) for value in held):
            raise InterlaceError(
                f"the levels of '{what}' are neither numbers nor text and cannot be saved: make "
                "that column text before the cross-products"
            )
        encoded = [value.encode() for value in held]
        text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return {"text": self.add(text), "lengths": self.add(np.array([len(t) for t in encoded]))}


def _labels(stored: Header, arrays: Mapping[str, Array]) -> Array:
    if "values" in stored:
        values = arrays[stored["values"]]
        return values.view(stored["dtype"]) if "dtype" in stored else values
    text = arrays[stored["text"]].tobytes()
    ends = np.cumsum(arrays[stored["lengths"]]).tolist()
    starts = [0, *ends[:-1]]
    found = np.empty(len(ends), dtype=object)
    found[:] = [text[a:b].decode() for a, b in zip(starts, ends, strict=False)]
    return found


def _term_out(term: ReTerm, packed: _Packed) -> Header:
    return {
        "group": term.group,
        "columns": term.columns,
        "levels": packed.labels(term.levels, term.group),
        "template": term.template.name,
        "backwards": term.backwards,
    }


def _term_in(stored: Header, arrays: Mapping[str, Array]) -> ReTerm:
    return ReTerm(
        stored["group"],
        tuple(stored["columns"]),
        _labels(stored["levels"], arrays),
        STRUCTURES[stored["template"]](len(stored["columns"])),
        stored["backwards"],
    )


# How rows were encoded ----------------------------------------------------------------------------


def _recipe_out(recipe: Recipe, packed: _Packed) -> Header:
    e = recipe.encoding
    if e.context:
        raise InterlaceError("cross-products of a formula with functions of yours cannot be saved")
    sides = [e.response, e.fixed, *e.offset, *e.slopes]
    specs = pickle.dumps([side.spec for side in sides], protocol=4)
    return {
        "n_dropped": recipe.n_dropped,
        "formula": {
            "response": e.formula.response,
            "fixed": e.formula.fixed,
            "random": [[t.expr, t.group, t.correlated] for t in e.formula.random],
            "offset": e.formula.offset,
        },
        "sides": [[side.text, side.names] for side in sides],
        "specs": packed.add(np.frombuffer(specs, dtype=np.uint8)),
        "groups": [_group_out(group, packed) for group in e.groups],
        "offset_column": e.offset_column,
        "offset_array": e.offset_array,
        "weights_column": e.weights_column,
    }


def _group_out(group: Grouping, packed: _Packed) -> Header:
    pairs = zip(group.columns, group.levels, strict=True)
    return {
        "columns": group.columns,
        "levels": [packed.labels(levels, name) for name, levels in pairs],
        "cells": packed.add(group.cells),
    }


def _recipe_in(stored: Header, arrays: Mapping[str, Array]) -> Recipe:
    f = stored["formula"]
    random = tuple(RandomTerm(expr, tuple(group), same) for expr, group, same in f["random"])
    formula = MixedFormula(f["response"], f["fixed"], random, tuple(f["offset"]))
    specs = _Formulas(io.BytesIO(arrays[stored["specs"]].tobytes())).load()
    sides = _sides(stored["sides"], specs)
    n_offsets = len(formula.offset)
    encoding = Encoding(
        formula=formula,
        response=sides[0],
        fixed=sides[1],
        offset=tuple(sides[2 : 2 + n_offsets]),
        slopes=tuple(sides[2 + n_offsets :]),
        groups=tuple(_group_in(group, arrays) for group in stored["groups"]),
        offset_column=stored["offset_column"],
        offset_array=stored["offset_array"],
        weights_column=stored["weights_column"],
        context=None,
    )
    return Recipe(encoding, stored["n_dropped"])


def _sides(stored: Sequence[Sequence[str]], specs: Sequence[ModelSpec | None]) -> list[Side]:
    pairs = zip(stored, specs, strict=True)
    return [Side(text, tuple(names), spec) for (text, names), spec in pairs]


def _group_in(stored: Header, arrays: Mapping[str, Array]) -> Grouping:
    levels = tuple(_labels(one, arrays) for one in stored["levels"])
    return Grouping(tuple(stored["columns"]), levels, arrays[stored["cells"]])  # type: ignore[arg-type]


class _Formulas(pickle.Unpickler):
    """Reads formulaic's encodings, and refuses everything else that a pickle can name."""

    def find_class(self, module: str, name: str) -> object:
        """A class of formulaic, or one of the few things its encodings are made of."""
        allowed = module.split(".")[0] == "formulaic" or name in _ALLOWED.get(module, ())
        found = super().find_class(module, name) if allowed else None
        if not allowed or (module.startswith("formulaic") and not isinstance(found, type)):
            raise pickle.UnpicklingError(f"it holds '{module}.{name}'")
        return found
