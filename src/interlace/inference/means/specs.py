"""What means are asked for: text as in R, names, or lists of names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interlace.errors import InterlaceError

Names = str | Sequence[str] | None


def specified(specs: Names, by: Names, known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Columns of means, and those that make groups.

    Parameters
    ----------
    specs
        A name, names, or text such as ``"a * b | c"`` (with or without ``~``); ``"1"`` or nothing
        for one overall mean.
    by
        A name or names, beside what follows a bar.
    known
        Columns that may be named, which text is first compared with.

    Raises
    ------
    InterlaceError
        Text with more than one bar.
    """
    inner, groups = _names(specs, known), _names(by, known)
    if isinstance(specs, str) and specs not in known and "|" in specs:
        parts = specs.split("|")
        if len(parts) != 2:
            raise InterlaceError(f"means take one bar, not {specs!r}")
        inner, more = (_names(part, known) for part in parts)
        groups = [*more, *(n for n in groups if n not in more)]
    return inner, groups


def _names(text: Names, known: Sequence[str]) -> list[str]:
    """Names in text, or those given."""
    if text is None:
        return []
    if not isinstance(text, str):
        return list(dict.fromkeys(name for one in text for name in _names(one, known)))
    if text in known:
        return [text]
    parts = [part.strip().strip("`") for part in re.split(r"[*:+]", text.strip().lstrip("~"))]
    return [part for part in dict.fromkeys(parts) if part not in ("", "1")]
