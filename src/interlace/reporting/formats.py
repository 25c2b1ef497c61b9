"""Tables of text as plain text, HTML, LaTeX, Markdown and Typst."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"$<$", ">": r"$>$", "|": r"$|$",
    "\u2212": "$-$", "\u2264": r"$\leq$", "\u2265": r"$\geq$", "\u2260": r"$\neq$",
    "\u2248": r"$\approx$", "\u221e": r"$\infty$", "\u2192": r"$\rightarrow$",
    "\u2190": r"$\leftarrow$", "\u2194": r"$\leftrightarrow$",
    "\u2206": r"$\Delta$", "\u221a": r"$\surd$", "\u22c5": r"$\cdot$",
}  # fmt: skip
# Greek capitals that LaTeX has no name for, as they look like Latin letters.
_LATIN = {
    "Alpha": "A", "Beta": "B", "Epsilon": "E", "Zeta": "Z", "Eta": "H", "Iota": "I", "Kappa": "K",
    "Mu": "M", "Nu": "N", "Omicron": "O", "Rho": "P", "Tau": "T", "Chi": "X", "omicron": "o",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of a table: the section it belongs to, its label and its cells."""

    section: str
    label: str
    cells: tuple[str, ...]


def _sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Consecutive rows of one section."""
    for section, own in groupby(rows, key=lambda row: row.section):
        yield section, list(own)


def text(title: str, names: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Plain text, columns to the right."""
    first = max(len(label) for label in [*(r.label for r in rows), *(r.section for r in rows)])
    widths = [max(len(name), *(len(row.cells[j]) for row in rows)) for j, name in enumerate(names)]
    rule = "-" * (first + sum(widths) + 2 * len(widths))

    def line(label: str, cells: Sequence[str]) -> str:
        shown = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([label.ljust(first), *shown]).rstrip()

    lines = [title, ""] if title else []
    lines += [line("", names), rule]
    for section, own in _sections(rows):
        lines += [section, *(line(row.label, row.cells) for row in own)]
    return "\n".join([*lines, rule, *notes])


def html(title: str, names: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """HTML."""
    pad = "padding:0.1em 0.7em;"

    def cells(tag: str, label: str, values: Sequence[str]) -> str:
        left = f'<{tag} style="{pad}text-align:left">{escape(label)}</{tag}>'
        rest = "".join(
            f'<{tag} style="{pad}text-align:right">{escape(value)}</{tag}>' for value in values
        )
        return f"<tr>{left}{rest}</tr>"

    body = []
    for section, own in _sections(rows):
        body.append(
            f'<tr><td colspan="{len(names) + 1}" style="{pad}text-align:left;font-style:italic;'
            f'border-top:1px solid">{escape(section)}</td></tr>'
        )
        body += [cells("td", row.label, row.cells) for row in own]
    head = cells("th", "", names)
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    line = "border-collapse:collapse;border-top:2px solid;border-bottom:2px solid"
    return (
        f'<div><table style="{line}">{caption}<thead>{head}</thead>'
        f"<tbody>{''.join(body)}</tbody></table>{said}</div>"
    )


def latex(
    title: str,
    names: Sequence[str],
    rows: Sequence[Row],
    notes: Sequence[str],
    *,
    label: str | None = None,
) -> str:
    """LaTeX with booktabs."""
    width = len(names) + 1

    def line(first: str, cells: Sequence[str]) -> str:
        return " & ".join([latex_text(first), *map(latex_text, cells)]) + r" \\"

    lines = [rf"\begin{{tabular}}{{l{'r' * len(names)}}}", r"\toprule", line("", names)]
    for section, own in _sections(rows):
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{latex_text(section)}}}}} \\")
        lines += [line(row.label, row.cells) for row in own]
    lines.append(r"\bottomrule")
    for note in notes:
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {latex_text(note)}}} \\")
    lines.append(r"\end{tabular}")
    if not title and label is None:
        return "\n".join(lines)
    caption = [rf"\caption{{{latex_text(title)}}}"] if title else []
    caption += [rf"\label{{{label}}}"] if label else []
    return "\n".join([r"\begin{table}", r"\centering", *caption, *lines, r"\end{table}"])


def latex_text(text: str) -> str:
    """Text with LaTeX's signs escaped, and a minus before numbers."""
    if re.fullmatch(r"-[\d.]+(\*{0,3})", text):
        stars = text.count("*")
        return f"${text.rstrip('*')}$" + "*" * stars
    found = "".join(_LATEX.get(sign) or _greek(sign) or sign for sign in " ".join(text.split()))
    return "{}" + found if found.startswith("[") else found


def _greek(sign: str) -> str | None:
    """A Greek letter as LaTeX's mathematics has it, without its accent; ``None`` for others."""
    known = re.match(r"GREEK (SMALL|CAPITAL) LETTER (FINAL )?(\w+)", unicodedata.name(sign, ""))
    if known is None:
        return None
    name = known[3].replace("LAMDA", "LAMBDA").lower()
    name = name.capitalize() if known[1] == "CAPITAL" else name
    return _LATIN.get(name) or rf"$\{'var' if known[2] else ''}{name}$"


def markdown(title: str, names: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """A pipe table."""

    def line(first: str, cells: Sequence[str]) -> str:
        return "| " + " | ".join([_piped(first), *map(_piped, cells)]) + " |"

    lines = [f"**{title}**", ""] if title else []
    lines += [line("", names), "|:---" + "|---:" * len(names) + "|"]
    for section, own in _sections(rows):
        lines.append(line(f"*{section}*", [""] * len(names)))
        lines += [line(_plain(row.label), [_plain(c) for c in row.cells]) for row in own]
    return "\n".join([*lines, *(f"\n{_plain(note)}" for note in notes)])


def _piped(text: str) -> str:
    return text.replace("|", r"\|")


def _plain(text: str) -> str:
    """Text whose stars and underscores are no marks."""
    return re.sub(r"([*_`\\<])", r"\\\1", text)


def typst(title: str, names: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Typst: a table, within a figure if it has a title."""
    width = len(names) + 1

    def line(first: str, cells: Sequence[str]) -> str:
        return "  " + ", ".join(f"[{_typst(cell)}]" for cell in (first, *cells)) + ","

    lines = [f"table(columns: {width}, align: (left{', right' * len(names)}), stroke: none,"]
    lines += ["  table.hline(),", line("", names)]
    for section, own in _sections(rows):
        lines.append("  table.hline(stroke: 0.5pt),")
        lines.append(f"  table.cell(colspan: {width})[_{_typst(section)}_],")
        lines += [line(row.label, row.cells) for row in own]
    lines.append("  table.hline(),")
    lines += [f"  table.cell(colspan: {width})[{_typst(note)}]," for note in notes]
    body = "\n".join([*lines, ")"])
    return f"#figure({body}, caption: [{_typst(title)}])" if title else f"#{body}"


def _typst(text: str) -> str:
    """Text with Typst's signs escaped."""
    return re.sub(r"([\\*_`$#@<>\[\]~])", r"\\\1", text)
