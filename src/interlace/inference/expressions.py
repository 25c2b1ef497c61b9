"""Text such as ``"2*a - b = 1"`` -> weights of coefficients, whose names may hold any character.

A recursive-descent parser of sums, products and parentheses.  Every value is an array
``(p + 1,)``: the weights of the coefficients, then the constant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interlace.design.frame import hint
from interlace.errors import InterlaceError
from interlace.sums.terms import Floats

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.\[])")
_SIGN = re.compile(r"[-+*/()=]")
# What may be meant as one name: brackets and what is in them belong to it.
_WORD = re.compile(r"(?:\[[^\]]*\]|\([^)]*\)|[^\s\[\]()=+*/-])+")


@dataclass(frozen=True)
class _Token:
    """A number, the position of a coefficient, or a sign."""

    number: float | None = None
    coefficient: int | None = None
    sign: str = ""


def linear(text: str, names: Sequence[str]) -> tuple[Floats, float]:
    """Weights ``(p,)`` and value of a linear hypothesis written as text; without ``=``, 0.

    Raises
    ------
    InterlaceError
        Text that is no linear equation of known coefficients.

    Examples
    --------
    >>> linear("2*a - b = 1", ["a", "b"])
    (array([ 2., -1.]), 1.0)
    """
    parser = _Parser(text, tuple(names))
    tokens = parser.tokens()
    sides = [parser.side(part) for part in _split(tokens)]
    if len(sides) > 2:
        raise parser.error("it has more than one '='")
    total = sides[0] - sides[1] if len(sides) == 2 else sides[0]
    return total[:-1], 0.0 - float(total[-1])


def _split(tokens: Sequence[_Token]) -> list[list[_Token]]:
    """Tokens between the signs ``=``."""
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        if token.sign == "=":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


@dataclass(frozen=True)
class _Parser:
    text: str
    names: tuple[str, ...]

    def error(self, reason: str) -> InterlaceError:
        return InterlaceError(f"the hypothesis {self.text!r} cannot be read: {reason}")

    def tokens(self) -> list[_Token]:
        """Tokens of the text; of several names that fit, the longest."""
        longest = sorted(self.names, key=len, reverse=True)
        name = re.compile("|".join(map(_pattern, longest)) or "(?!)")
        found, at = [], 0
        while at < len(self.text):
            if self.text[at].isspace():
                at += 1
                continue
            match = name.match(self.text, at)
            if match:
                found.append(_Token(coefficient=self.names.index(match[0])))
            elif match := _NUMBER.match(self.text, at):
                found.append(_Token(number=float(match[0])))
            elif match := _SIGN.match(self.text, at):
                found.append(_Token(sign=match[0]))
            else:
                word = (_WORD.match(self.text, at) or [self.text[at]])[0]
                raise InterlaceError(
                    f"the model has no coefficient '{word}'{hint(word, self.names)}"
                )
            at = match.end()
        return found

    def side(self, tokens: Sequence[_Token]) -> Floats:
        value, rest = self._sum(list(tokens))
        if rest:
            raise self.error(f"an operator is missing before {self._shown(rest[0])}")
        return value

    def _sum(self, tokens: list[_Token]) -> tuple[Floats, list[_Token]]:
        value, tokens = self._product(tokens)
        while tokens and tokens[0].sign in ("+", "-"):
            sign = 1.0 if tokens[0].sign == "+" else -1.0
            term, tokens = self._product(tokens[1:])
            value = value + sign * term
        return value, tokens

    def _product(self, tokens: list[_Token]) -> tuple[Floats, list[_Token]]:
        value, tokens = self._atom(tokens)
        while tokens and tokens[0].sign in ("*", "/"):
            divide = tokens[0].sign == "/"
            factor, tokens = self._atom(tokens[1:])
            if divide:
                value = self._divided(value, factor)
            elif factor[:-1].any() and value[:-1].any():
                raise self._nonlinear()
            else:
                value = factor * value[-1] if factor[:-1].any() else value * factor[-1]
        return value, tokens

    def _divided(self, value: Floats, by: Floats) -> Floats:
        if by[:-1].any():
            raise self._nonlinear()
        if by[-1] == 0.0:
            raise self.error("it divides by 0")
        return value / float(by[-1])

    def _atom(self, tokens: list[_Token]) -> tuple[Floats, list[_Token]]:
        """A number, a coefficient, a sum in parentheses, or one of these with a sign."""
        if not tokens:
            raise self.error("a number or coefficient is missing at the end of a side")
        token, rest = tokens[0], tokens[1:]
        value = np.zeros(len(self.names) + 1)
        if token.number is not None:
            value[-1] = token.number
        elif token.coefficient is not None:
            value[token.coefficient] = 1.0
        elif token.sign in ("+", "-"):
            value, rest = self._atom(rest)
            value = value if token.sign == "+" else -value
        elif token.sign == "(":
            value, rest = self._sum(rest)
            if not rest or rest[0].sign != ")":
                raise self.error("a ')' is missing")
            rest = rest[1:]
        else:
            raise self.error(f"a number or coefficient is missing before {self._shown(token)}")
        return value, rest

    def _nonlinear(self) -> InterlaceError:
        return InterlaceError(
            f"the hypothesis {self.text!r} is not linear: coefficients can be added, subtracted, "
            "and multiplied or divided by numbers"
        )

    def _shown(self, token: _Token) -> str:
        if token.coefficient is not None:
            return f"'{self.names[token.coefficient]}'"
        return f"'{token.sign}'" if token.number is None else f"'{token.number:g}'"


def _pattern(name: str) -> str:
    """The name where no longer one starts: ``a`` does not fit ``ab``, ``a[T.x]`` or ``a:b``."""
    return re.escape(name) + (r"(?![\w.:\[(])" if re.search(r"\w$", name) else r"(?![\w.:\[])")
