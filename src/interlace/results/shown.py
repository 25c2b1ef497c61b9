"""Frames of estimates as text that fits 80 columns, and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from interlace.machine.markup import html_table

WIDTH = 80
_MOST_ROWS = 60
_INTERVAL = ("lower", "upper")


def as_text(table: pd.DataFrame, *, by: Sequence[str], title: str, notes: Sequence[str]) -> str:
    """Text of a frame: a block for every group, then the notes."""
    lines = [title, ""] if title else []
    columns = [name for name in table.columns if name not in by]
    if _width(table, columns) > WIDTH and set(_INTERVAL) < set(columns) - {"emmean", "trend"}:
        columns = [name for name in columns if name not in _INTERVAL]
        notes = [*notes, "Intervals: see .table"]
    cells = {name: _cells(table[name]) for name in columns}
    shown = table.head(_MOST_ROWS)
    widths = _widths(cells, [n for n in columns if not _is_number(table[n])])
    for heading, rows in _groups(shown, by):
        lines += [heading] if heading else []
        lines.append(_line(columns, columns, widths, table))
        lines += [_line([cells[n][i] for n in columns], columns, widths, table) for i in rows]
        lines.append("")
    if len(table) > _MOST_ROWS:
        lines += [f"... {len(table) - _MOST_ROWS} more rows: see .table", ""]
    for note in notes:
        lines += _wrapped(note)
    return "\n".join(lines).rstrip()


def as_html(table: pd.DataFrame, *, title: str, notes: Sequence[str]) -> str:
    """HTML of a frame with its notes."""
    cells = [_cells(table[n]) for n in table.columns]
    rows = [[column[i] for column in cells] for i in range(len(table))]
    left = [not _is_number(table[n]) for n in table.columns]
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    shown = html_table([str(n) for n in table.columns], rows, left)
    return f"<div><h4>{escape(title)}</h4>{shown}{said}</div>"


def _groups(table: pd.DataFrame, by: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Headings and rows of the groups, in order."""
    found: dict[str, list[int]] = {}
    columns = {name: _cells(table[name]) for name in by}
    for i in range(len(table)):
        heading = ", ".join(f"{name} = {column[i]}" for name, column in columns.items())
        found.setdefault(heading, []).append(i)
    return list(found.items())


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_float_dtype(column) or pd.api.types.is_integer_dtype(column))


def _cells(column: pd.Series) -> list[str]:
    """One column as text: numbers with as many decimals as the largest needs for five digits."""
    if not pd.api.types.is_float_dtype(column):
        return [str(v) for v in column.tolist()]
    values = column.to_numpy(dtype=np.float64)
    if column.name == "p":
        return ["nan" if np.isnan(v) else "<.0001" if v < 1e-4 else f"{v:.4f}" for v in values]
    if column.name in ("df", "den_df"):
        return [f"{v:.1f}" for v in values]
    known = values[np.isfinite(values)]
    largest = float(np.abs(known).max(initial=0.0))
    if largest and not 1e-4 <= largest < 1e7:
        return [f"{v:.3e}" for v in values]
    decimals = int(np.clip(4 - np.floor(np.log10(largest or 1.0)), 0, 6))
    if column.name == "statistic" or column.name == "F":
        decimals = min(decimals, 3)
    same = bool(np.allclose(known, known.round()) and largest < 1e6)
    return [f"{v:.{0 if same else decimals}f}" for v in values]


def _widths(cells: dict[str, list[str]], labels: Sequence[str]) -> dict[str, int]:
    """Widths of the columns; labels are cut where the lines would be too long."""
    widths = {n: max(len(str(n)), *(len(c) for c in column), 0) for n, column in cells.items()}
    over = sum(widths.values()) + 2 * (len(widths) - 1) - WIDTH
    while over > 0 and labels and max(widths[n] for n in labels) > 8:
        longest = max(labels, key=lambda n: widths[n])
        cut = min(over, widths[longest] - 8)
        widths[longest] -= cut
        over -= cut
    return widths


def _width(table: pd.DataFrame, columns: Sequence[str]) -> int:
    widths = [max(len(str(n)), *(len(c) for c in _cells(table[n])), 0) for n in columns]
    return sum(widths) + 2 * (len(widths) - 1)


def _line(
    cells: Sequence[str], columns: Sequence[str], widths: dict[str, int], table: pd.DataFrame
) -> str:
    parts = []
    for cell, name in zip(cells, columns, strict=True):
        width = widths[name]
        text = cell if len(cell) <= width else cell[: width - 2] + ".."
        parts.append(text.rjust(width) if _is_number(table[name]) else text.ljust(width))
    return "  ".join(parts).rstrip()


def _wrapped(text: str) -> list[str]:
    """Lines of a sentence."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]
