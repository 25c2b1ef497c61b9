"""Formula text -> the marks that structure it and the summands between them.

The scanner knows quotes, backticks, brackets and calls, and nothing of what the pieces mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from interlace.covariance.structures import STRUCTURES as RESIDUALS
from interlace.errors import InterlaceError

# Names before a parenthesis that say how the effects of a random term vary together.
STRUCTURES = ("us", "diag", "cs", "ar1")
# Those that residuals alone may have.
_OF_RESIDUALS = frozenset(RESIDUALS) - {*STRUCTURES, "id"}
_CLOSER = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Mark:
    """A character that structures the formula: not inside quotes, calls, or brackets."""

    char: str
    at: int
    depth: int


@dataclass(frozen=True)
class Piece:
    """A signed summand ``text[start:end]`` whose parentheses are at ``depth``."""

    sign: str
    start: int
    end: int
    depth: int


@dataclass(frozen=True)
class FormulaText:
    """Text with its marks; makes the errors that point into it."""

    text: str

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        return tuple(_scan(self))

    def between(self, start: int, end: int, chars: str) -> list[Mark]:
        return [m for m in self.marks if start <= m.at < end and m.char in chars]

    def slice(self, piece: Piece) -> str:
        return self.text[piece.start : piece.end]

    def error(self, message: str, at: int) -> InterlaceError:
        return InterlaceError(f"{message}\n    {self.text}\n    {' ' * at}^")


def _scan(source: FormulaText) -> Iterator[Mark]:
    text, at, depth = source.text, 0, 0
    open_: list[tuple[str, int, bool]] = []  # bracket, position, whether it holds Python code
    while at < len(text):
        char = text[at]
        code = bool(open_) and open_[-1][2]
        if char in "'\"`":
            at = _end_of_quote(source, at)
        elif char in _CLOSER:
            call = _is_call(text, at) and not structure_at(text, at)
            code = code or char != "(" or call
            open_.append((char, at, code))
            if not code:
                yield Mark(char, at, depth)
                depth += 1
        elif char in ")]}":
            if not open_ or _CLOSER[open_[-1][0]] != char:
                raise source.error(f"'{char}' closes nothing", at)
            if not open_.pop()[2]:
                depth -= 1
                yield Mark(char, at, depth)
        elif char == "^" and code:
            raise source.error("'^' is no power inside a call: power is **", at)
        elif char in "~|+-*^" and not code:
            yield Mark(char, at, depth)
        at += 1
    if open_:
        raise source.error(f"'{open_[-1][0]}' is never closed", open_[-1][1])


def _is_call(text: str, at: int) -> bool:
    """Whether the parenthesis at ``at`` follows a name directly, as in ``log(x)``."""
    before = text[at - 1] if at else " "
    return before.isalnum() or before in "_.]"


def structure_at(text: str, at: int) -> str:
    """The structure of a random term whose parenthesis is at ``at``, as in ``ar1(0 + t | g)``.

    Empty where none is named, or where the name is that of a function: nothing inside is a bar.
    """
    before = re.search(r"(?<![\w.])(\w+)$", text[:at])
    if before is None or before[1] not in STRUCTURES:
        return ""
    inside, depth = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", lambda m: " " * len(m[0]), text[at:]), 0
    for char in inside:
        depth += (char in _CLOSER) - (char in ")]}")
        if depth == 0:
            return ""
        if char == "|" and depth == 1:
            return before[1]
    return ""


def refuse_structure(source: FormulaText, piece: Piece) -> None:
    """Refuse a random term whose structure is none of random effects here."""
    name, bracket, inside = source.slice(piece).partition("(")
    if bracket and "|" in inside and name in _OF_RESIDUALS:
        raise source.error(
            f"{name}() is no structure of random effects: there are {', '.join(STRUCTURES)}, and "
            f"of the residuals of a subject residual='{name}(visit | subject)'",
            piece.start,
        )


def _end_of_quote(source: FormulaText, start: int) -> int:
    quote, at = source.text[start], start + 1
    while at < len(source.text):
        if source.text[at] == quote:
            return at
        at += 2 if source.text[at] == "\\" and quote != "`" else 1
    raise source.error(f"the quote {quote} is never closed", start)


def summands(source: FormulaText, start: int, end: int, depth: int) -> Iterator[Piece]:
    """Pieces between ``+`` and ``-`` at this depth; signs in a row (``x + -1``) multiply."""
    sign, begin, operator = "+", start, None
    for mark in [m for m in source.between(start, end, "+-") if m.depth == depth]:
        piece = trimmed(source, sign, begin, mark.at, depth)
        if piece.start < piece.end:
            yield piece
            sign = mark.char
        elif mark.char == "-":
            sign = "+" if sign == "-" else "-"
        begin, operator = mark.at + 1, mark
    piece = trimmed(source, sign, begin, end, depth)
    if piece.start < piece.end:
        yield piece
    elif operator is not None:
        raise source.error(f"nothing follows the '{operator.char}'", operator.at)


def trimmed(source: FormulaText, sign: str, start: int, end: int, depth: int) -> Piece:
    text = source.text[start:end]
    lead = len(text) - len(text.lstrip())
    return Piece(sign, start + lead, start + max(lead, len(text.rstrip())), depth)
