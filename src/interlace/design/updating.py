"""Formulas that change another one: ``". ~ . - x + (1 | g)"``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from interlace.design.formula import MixedFormula, RandomTerm, parse
from interlace.design.frame import hint
from interlace.design.marks import structure_at
from interlace.errors import InterlaceError


def is_change(text: str) -> bool:
    """Whether a formula has a dot in place of a side of another one."""
    sides = text.split("~")
    return len(sides) == 2 and any(
        piece.strip() == "." for side in sides for _, piece in _pieces(side)
    )


def changed(formula: MixedFormula, terms: Sequence[str], text: str) -> str:
    """The formula that a change makes of another one.

    Parameters
    ----------
    formula, terms
        The formula to change, and its fixed terms as they are written out: ``a * b`` has three.
    text
        ``". ~ . - x"``: a dot stands for what the side was; terms are added and taken away.

    Raises
    ------
    InterlaceError
        A term to take away is not there.

    Examples
    --------
    >>> spec = parse("y ~ a * b + (1 + a | g)")
    >>> changed(spec, ["Intercept", "a", "b", "a:b"], ". ~ . - a:b")
    'y ~ 1 + a + b + (1 + a | g)'
    >>> changed(spec, ["Intercept", "a", "b", "a:b"], "log(.) ~ . - (1 + a | g) + (1 | h)")
    'log(y) ~ 1 + a + b + a:b + (1 | h)'
    >>> changed(spec, ["Intercept", "a", "b", "a:b"], ". ~ a + (1 | h)")
    'y ~ 1 + a + (1 | h)'
    """
    left, right = text.split("~")
    response = left.strip().replace(".", formula.response) if _dotted(left) else left.strip()
    pieces = list(_pieces(right))
    kept = any(piece == "." for _, piece in pieces)
    fixed = [] if kept else ["Intercept"]  # which a formula has without saying so
    random = list(formula.random)
    offset = list(formula.offset)
    for sign, piece in pieces:
        if piece == ".":
            fixed += [term for term in terms if term not in fixed]
        elif sign == "+":
            fixed, random = _added(piece, fixed, random)
        elif _is_random(piece):
            gone = _random(piece)
            left_over = [term for term in random if term not in gone]
            if len(left_over) == len(random):
                known = [term.label for term in random]
                raise InterlaceError(f"update: there is no random term {piece}{hint(piece, known)}")
            random = left_over
        else:
            fixed = _removed(piece, fixed)
    if not kept:
        random = [term for term in random if term not in formula.random]
        offset = []
    intercept = "1" if "Intercept" in fixed else "0"
    sides = [intercept, *(term for term in fixed if term != "Intercept")]
    made = MixedFormula(response, " + ".join(sides), tuple(random), tuple(offset))
    return str(made)


def _dotted(side: str) -> bool:
    """Whether a dot of its own stands in a side."""
    around = f" {side} "
    return any(
        around[i] == "."
        and not (around[i - 1].isalnum() or around[i - 1] in "_.")
        and not (around[i + 1].isalnum() or around[i + 1] in "_.")
        for i in range(1, len(around) - 1)
    )


def _pieces(side: str) -> Iterator[tuple[str, str]]:
    """Summands with their signs, not those within brackets."""
    depth, sign, piece = 0, "+", ""
    for letter in side:
        depth += letter in "([{"
        depth -= letter in ")]}"
        if depth == 0 and letter in "+-":
            if piece.strip():
                yield sign, piece.strip()
            sign, piece = letter, ""
        else:
            piece += letter
    if piece.strip():
        yield sign, piece.strip()


def _added(
    piece: str, fixed: list[str], random: list[RandomTerm]
) -> tuple[list[str], list[RandomTerm]]:
    """Terms with one more."""
    if _is_random(piece):
        return fixed, random + [term for term in _random(piece) if term not in random]
    if piece == "0":
        return [term for term in fixed if term != "Intercept"], random
    name = "Intercept" if piece == "1" else piece
    return (fixed if name in fixed else [*fixed, name]), random


def _is_random(piece: str) -> bool:
    """Whether a summand is a random term, ``(1 | g)`` or ``ar1(0 + t | g)``."""
    at = piece.find("(")
    bare = at == 0 or (at > 0 and structure_at(piece, at) == piece[:at].strip())
    return bare and "|" in piece


def _removed(piece: str, fixed: list[str]) -> list[str]:
    """Fixed terms without one."""
    name = "Intercept" if piece == "1" else piece.replace(" ", "")
    left = [term for term in fixed if term.replace(" ", "") != name]
    if len(left) == len(fixed):
        raise InterlaceError(f"update: there is no fixed term '{piece}'{hint(piece, fixed)}")
    return left


def _random(piece: str) -> tuple[RandomTerm, ...]:
    """Random terms of one pair of brackets."""
    return parse(f"y ~ 1 + {piece}").random
