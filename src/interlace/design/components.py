"""``dispersion="~ site"``: formulas of auxiliary predictors, which have fixed effects alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlace.design import frame
from interlace.design.complete import CompleteRows, complete_rows, refuse_nonfinite, spread
from interlace.design.encode import Context, Encoded, Floats, encode, replay_side
from interlace.design.formula import parse
from interlace.design.reads import columns_read
from interlace.errors import InterlaceError


def component_text(argument: str, text: object) -> str:
    """Formulaic text of the fixed side of a formula ``"~ z"``.

    Raises
    ------
    InterlaceError
        It is no such formula, or has random effects or an offset.

    Examples
    --------
    >>> component_text("dispersion", "~ site")
    'site'
    """
    if not isinstance(text, str) or not text.strip().startswith("~"):
        raise InterlaceError(f"{argument} must be a formula such as '~ x' or '~ 1', not {text!r}")
    found = parse(f"y {text}", fixed_alone=True)
    if found.random:
        raise InterlaceError(
            f"{argument}={text!r} has random effects, which only the mean of a response can have: "
            f"leave {found.random[0].label} out"
        )
    if found.offset:
        raise InterlaceError(f"{argument}={text!r} has an offset: leave it out")
    return found.fixed


def columns_beside(texts: Sequence[str], data: object) -> dict[str, str]:
    """Columns of the data that some components read, as arguments that name them."""
    names = columns_read(texts, frame.open_table(data), None) if texts else []
    return {f"component:{name}": name for name in names}


def encoded_components(texts: Mapping[str, str], rows: CompleteRows) -> dict[str, Encoded]:
    """The components on the rows used, each with its encoding."""
    if not texts:
        return {}
    found = encode(list(texts.values()), rows.columns, rows.n)
    refuse_nonfinite(found, rows)
    return dict(zip(texts, found, strict=True))


def replayed_component(one: Encoded, newdata: object, context: Context | None) -> Floats:
    """Columns of a component for new rows, ``(m, r)``; NaN where a value is missing."""
    table = frame.open_table(newdata, title="the new data")
    stored = frame.pick(table, columns_read([one.side.text], table, context))
    if not stored:
        return replay_side(one.side, {}, table.n, context)
    rows = complete_rows(stored, table)
    return spread(replay_side(one.side, rows.columns, rows.n, context), rows)
