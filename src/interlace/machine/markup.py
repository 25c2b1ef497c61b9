"""Tables in HTML that also fit a phone: the answer first, long labels broken where they may be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from html import escape

# How sure the answer is, and by what: these stand behind it, for a narrow screen ends before them.
_BEHIND = ("se", "Std. error", "df", "den_df", "num_df", "t", "z", "statistic")
_PADDING = "padding:0.1em 0.7em"
# Characters of a line of text.
WIDTH = 80


def answer_first(columns: Sequence[str]) -> list[int]:
    """Positions of columns: labels, estimates, intervals and p values, then all others.

    Examples
    --------
    >>> columns = ["", "Estimate", "Std. error", "df", "t", "P>|t|", "[0.025", "0.975]"]
    >>> [columns[i] for i in answer_first(columns)]
    ['', 'Estimate', 'P>|t|', '[0.025', '0.975]', 'Std. error', 'df', 't']
    """
    has_answer = any(name in ("p", "lower") or name.startswith("P>") for name in columns)
    return sorted(range(len(columns)), key=lambda i: has_answer and columns[i] in _BEHIND)


def html_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[bool], caption: str = ""
) -> str:
    """A table, the answer first; ``left`` says which columns hold labels."""
    order = answer_first(header)
    head = "".join(_cell(header[i], "th", left=left[i]) for i in order)
    body = "".join(
        f"<tr>{''.join(_cell(row[i], 'td', left=left[i]) for i in order)}</tr>" for row in rows
    )
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str, tag: str, *, left: bool) -> str:
    style = f"text-align:{'left;white-space:normal' if left else 'right'};{_PADDING}"
    return f'<{tag} style="{style}">{breakable(text) if left else escape(text)}</{tag}>'


def breakable(text: str) -> str:
    """Text that may be broken after the colons of an interaction."""
    return escape(text).replace(":", ":<wbr>")


def text_facts(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """Names with what they are, a line each; long lines go on under their beginning.

    Examples
    --------
    >>> print(text_facts("Rows", [("number", "180"), ("columns", "Intercept, Days")]))
    Rows
      number   180
      columns  Intercept, Days
    """
    listed = list(facts)
    width = max(len(name) for name, _ in listed)
    lines = [title]
    for name, value in listed:
        indent = " " * (width + 4)
        lines += textwrap.wrap(
            value,
            WIDTH,
            initial_indent=f"  {name.ljust(width)}  ",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def html_facts(facts: Iterable[tuple[str, str]]) -> str:
    """A table of names with what they are."""
    rows = "".join(
        f'<tr><th style="text-align:left;{_PADDING}">{escape(name)}</th>'
        f'<td style="text-align:left;white-space:normal">{breakable(value)}</td></tr>'
        for name, value in facts
    )
    return f"<table>{rows}</table>"
