"""Options of a fit with some of them changed: what ``update`` fits, whatever the kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from interlace.design.updating import changed, is_change
from interlace.errors import InterlaceError
from interlace.hints import unknown_argument
from interlace.model.fitted import E, Labelled, Options


def updated_options(
    model: Labelled[E], formula: str | None, data: object, changes: Mapping[str, object]
) -> tuple[Options, object]:
    """The options, and the data to fit them to.

    Raises
    ------
    UnknownArgumentError
        A change is none of an option.
    InterlaceError
        No data are given, and the model holds none.
    """
    wanted = dict(changes) | ({} if formula is None else {"formula": formula})
    known = [f.name for f in fields(Options)]
    for name in wanted:
        if name not in known:
            raise unknown_argument("update", name, known)
    text = wanted.get("formula")
    if isinstance(text, str) and is_change(text):
        terms = [term.label for term in model.encoding.fixed.terms]
        wanted |= {"formula": changed(model.formula, terms, text), "groups": None, "random": None}
    source = model.data if data is None else data
    if source is None:
        raise InterlaceError(
            "the result no longer holds its data (it was unpickled, or fitted by refit): pass data="
        )
    return replace(model.options, **wanted), source  # type: ignore[arg-type]
