"""Encodings of the sides of a formula as plain values, named one by one, and back.

A side that formulaic encodes has a structure (which columns stem from which factors), the levels
and contrasts of its categories, and the states of its transforms.  These are written as texts,
numbers and arrays; nothing else can be named, so nothing else can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeAlias

import numpy as np
from formulaic import ModelSpec
from formulaic.materializers.types import EvaluatedFactor, ScopedFactor, ScopedTerm
from formulaic.model_spec import EncodedTermStructure
from formulaic.parser.types import Factor, Term
from formulaic.transforms import contrasts as coding
from formulaic.utils.sentinels import UNSET

from interlace.design.encode import Side
from interlace.design.sides import model_terms
from interlace.errors import InterlaceError
from interlace.sources.container import Array, Header
from interlace.sources.labels import Packed, unpacked

_State: TypeAlias = object
_CONTRASTS: dict[str, type[coding.Contrasts]] = {
    "treatment": coding.TreatmentContrasts,
    "SAS": coding.SASContrasts,
    "sum": coding.SumContrasts,
    "helmert": coding.HelmertContrasts,
    "diff": coding.DiffContrasts,
    "poly": coding.PolyContrasts,
    "custom": coding.CustomContrasts,
}
# States are nested no deeper than this.
_DEPTH = 6


def side_out(side: Side, packed: Packed) -> Header:
    """What a side is made of.

    Raises
    ------
    InterlaceError
        It has a state that cannot be named.
    """
    spec = side.spec
    if spec is None:
        return {"text": side.text, "names": list(side.names), "spec": None}
    own = {factor.expr for term in model_terms(side.text) for factor in term.factors}
    return {
        "text": side.text,
        "names": list(side.names),
        "spec": {
            "structure": [_structure_out(term) for term in spec.structure or ()],
            "transforms": [
                [text, value_out(state, packed, text)]
                for text, state in spec.transform_state.items()
            ],
            "factors": [
                [expr, kind.value, _factor_out(expr, state, packed)]
                for expr, (kind, state) in sorted(spec.encoder_state.items())
                if expr in own
            ],
            "fields": [[expr, list(names)] for expr, names in side.fields.items()],
        },
    }


def side_in(stored: Header, arrays: Mapping[str, Array]) -> Side:
    """The side that :func:`side_out` has written; anything else raises ``ValueError`` and such."""
    text, names, spec = stored["text"], tuple(stored["names"]), stored["spec"]
    terms = model_terms(text)
    if spec is None:
        return Side(text, names, None)
    found = ModelSpec(
        formula=terms,
        materializer="pandas",
        materializer_params={},
        na_action="ignore",
        output="numpy",
        structure=_structure_in(spec["structure"], list(terms)),
        transform_state={text: value_in(state, arrays) for text, state in spec["transforms"]},
        encoder_state={
            expr: (Factor.Kind(kind), _factor_in(state, arrays))
            for expr, kind, state in spec["factors"]
        },
    )
    exprs = {factor.expr for term in terms for factor in term.factors}
    if found.column_names != names or not exprs.issuperset(found.encoder_state):
        raise ValueError(text)
    fields = {_text(expr): tuple(map(_text, own)) for expr, own in spec["fields"]}
    return Side(text, names, found, fields)


# Which columns stem from which factors ------------------------------------------------------------


def _structure_out(row: EncodedTermStructure) -> Sequence[object]:
    scoped = [
        [_scale_out(term.scale), [[one.factor.expr, one.reduced] for one in term.factors]]
        for term in row.scoped_terms
    ]
    return [scoped, list(row.columns)]


def _scale_out(scale: float) -> float:
    """A factor that a number in the formula stands for, as a plain number."""
    return int(scale) if float(scale).is_integer() else float(scale)


def _structure_in(
    stored: Sequence[tuple[list[Any], list[object]]], terms: Sequence[Term]
) -> list[EncodedTermStructure]:
    pairs = zip(terms, stored, strict=True)
    return [
        EncodedTermStructure(term, [_scoped(one, term) for one in scoped], list(map(_text, names)))
        for term, (scoped, names) in pairs
    ]


def _scoped(stored: tuple[object, list[tuple[str, object]]], term: Term) -> ScopedTerm:
    scale, factors = stored
    known = {factor.expr: factor for factor in term.factors}
    return ScopedTerm(
        [
            ScopedFactor(EvaluatedFactor(known[expr], None), _truth(reduced))
            for expr, reduced in factors
        ],
        scale=_number(scale),
    )


# Categories and their contrasts -------------------------------------------------------------------


def _factor_out(expr: str, state: Mapping[str, Any], packed: Packed) -> Header | None:
    if "categories" not in state:
        if state:
            raise InterlaceError(f"'{expr}' has a state that cannot be saved: leave it out")
        return None
    values: Array = np.array([*state["categories"], None], dtype=object)[:-1]
    held: coding.Contrasts = state["contrasts"].contrasts
    name = next((key for key, kind in _CONTRASTS.items() if type(held) is kind), None)
    if name is None:
        raise InterlaceError(
            f"'{expr}' has contrasts of yours, which cannot be saved: make its columns beforehand"
        )
    options = {f.name: getattr(held, f.name) for f in fields(held)}
    if isinstance(held, coding.CustomContrasts):
        options["names"] = held.contrast_names
    return {
        "levels": packed.labels(values, expr) if len(values) else None,
        "contrasts": name,
        "options": [
            [option, value_out(_plain(value), packed, expr)]
            for option, value in options.items()
            if value is not UNSET
        ],
    }


def _factor_in(stored: Header | None, arrays: Mapping[str, Array]) -> dict[str, object]:
    if stored is None:
        return {}
    levels = [] if stored["levels"] is None else unpacked(stored["levels"], arrays).tolist()
    made = _CONTRASTS[stored["contrasts"]]
    options = {option: value_in(value, arrays) for option, value in stored["options"]}
    return {"categories": levels, "contrasts": coding.ContrastsState(made(**options), levels)}


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


# States of transforms -----------------------------------------------------------------------------


def value_out(value: _State, packed: Packed, what: str) -> Sequence[object]:
    """A value with its kind before it; ``what`` has it as a state, for messages."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return ["fixed", value]
    if isinstance(value, int):
        return ["int", value]
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, str):
        return ["text", value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "iufb" and value.ndim <= 3:
        return ["array", packed.add(value)]
    if isinstance(value, list | tuple):
        return ["list", [value_out(one, packed, what) for one in value]]
    if isinstance(value, Mapping):
        keys = [value_out(key, packed, what) for key in value]
        values = [value_out(one, packed, what) for one in value.values()]
        return ["dict", [list(pair) for pair in zip(keys, values, strict=True)]]
    raise InterlaceError(
        f"'{what}' has a state of the type {type(value).__name__}, which cannot be saved: make its "
        "columns beforehand"
    )


def value_in(stored: Sequence[object], arrays: Mapping[str, Array], depth: int = 0) -> _State:
    """What :func:`value_out` has written."""
    kind, value = stored
    if depth > _DEPTH:
        raise ValueError("nested too deep")
    match kind, value:
        case "fixed", None | bool():
            return value
        case "int", int() if not isinstance(value, bool):
            return value
        case "float", str():
            return float.fromhex(value)
        case "text", str():
            return value
        case "array", str():
            return arrays[value]
        case "list", list():
            return [value_in(one, arrays, depth + 1) for one in value]
        case "dict", list():
            pairs = [[value_in(one, arrays, depth + 1) for one in pair] for pair in value]
            return {_key(key): one for key, one in pairs}
    raise ValueError(kind)


def _key(value: _State) -> str | int:
    if not isinstance(value, str | int):
        raise ValueError(value)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(value)
    return value
