"""What the pages share: short warnings, numbers in sentences, tables of calls that are run.

A page imports this in a hidden cell; its readers never need it.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pandas as pd
import plotnine as p9

WIDTH = 80  # characters that fit beside the menu

warnings.formatwarning = lambda message, kind, *_, **__: (
    textwrap.fill(f"{kind.__name__}: {message}", WIDTH) + "\n"
)
pd.set_option("display.width", WIDTH)
p9.options.figure_size = (6.4, 4.0)


class Text(str):
    """Text that a page shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


def num(value: float, decimals: int = 0) -> Text:
    """A number in a sentence."""
    return Text(f"{value:,.{decimals}f}")


def calls(page: str, column: str) -> Iterator[str]:
    """The calls in one column of a page's tables, in order."""
    at: int | None = None
    for line in Path(page).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            at = None
            continue
        cells = [c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if at is None:
            at = cells.index(column) if column in cells else -1
        elif at >= 0:
            yield from re.findall(r"`([^`]+)`", cells[at])


def run_calls(page: str, column: str, names: Mapping[str, object]) -> int:
    """Run every call of a column, each on its own; the number of calls."""
    done = 0
    for call in calls(page, column):
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            try:
                exec(call, dict(names))
            except Exception as error:
                raise RuntimeError(f"{page} shows a call that fails: {call}") from error
        done += 1
    if not done:
        raise ValueError(f"no call in a column {column!r} of {page}")
    return done
