"""Formula text -> :class:`MixedFormula`; no data.

A small scanner finds the random terms (bars in parentheses) and ``offset(...)``; every other piece
of the text is formulaic's, on both sides of the bar.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from formulaic.errors import FormulaicError
from formulaic.parser.types import Factor
from formulaic.utils.code import sanitize_variable_names

from interlace.covariance.patterned import TEMPLATES
from interlace.covariance.templates import Template
from interlace.design.marks import (
    FormulaText,
    Mark,
    Piece,
    refuse_structure,
    structure_at,
    summands,
    trimmed,
)
from interlace.design.powers import refuse_powers
from interlace.design.sides import expression, model_terms, names_in, told_from_numbers
from interlace.errors import InterlaceError

# What formulaic raises on text it cannot read; the last two slip through it on odd input.
_ODD = (RecursionError, TypeError, AttributeError)
_READING_ERRORS = (FormulaicError, SyntaxError, IndexError, ValueError, *_ODD)
_HOM = re.compile(r",\s*hom\s*=\s*(TRUE|True|T|FALSE|False|F)\s*$")
_EARLY = re.compile(r",\s*hom\s*=")
# Whether one standard deviation is that of all columns, where ``hom=`` does not say: as in lme4.
_HOMOGENEOUS = {"diag": False, "cs": False, "ar1": True}
_GROUP_TOKEN = re.compile(r"\s*(?:`(?P<quoted>[^`]+)`|(?P<name>[\w.]+)|(?P<sign>\S))")


@dataclass(frozen=True)
class RandomTerm:
    """One ``(expr | group)``.

    Parameters
    ----------
    expr
        Left of the bar, always with an explicit ``1`` or ``0`` first.
    group
        Names of the grouping columns: one, or several for an interaction.
    correlated
        ``False`` for ``||``: the columns of the term are independent.
    structure
        Another structure than these, by its name in
        :data:`~interlace.covariance.patterned.TEMPLATES`.
    """

    expr: str
    group: tuple[str, ...]
    correlated: bool = True
    structure: str = ""

    @property
    def key(self) -> str:
        """Name of the grouping factor, ``"g"`` or ``"a:b"``."""
        return ":".join(self.group)

    @property
    def label(self) -> str:
        """The term as one writes it, ``"(1 + x | g)"``."""
        group = ":".join(map(_quoted, self.group))
        if self.structure:
            kind, _, text = self.structure.partition("-")
            hom = text == "hom"
            told = "" if hom == _HOMOGENEOUS[kind] else f", hom={hom}"
            return f"{kind}({self.expr} | {group}{told})"
        return f"({self.expr} {'|' if self.correlated else '||'} {group})"

    def template(self, k: int) -> Template:
        """The structure that the bar stands for, of ``k`` columns."""
        return TEMPLATES[self.structure or ("full" if self.correlated else "diagonal")](k)


@dataclass(frozen=True)
class MixedFormula:
    """A parsed formula; ``str()`` gives text that parses to an equal value.

    Parameters
    ----------
    response
        Left of ``~``: a column, or an expression of columns.
    fixed
        Right of ``~`` without random terms and offsets, in formulaic's grammar.
    random
        The random terms, in the order written.
    offset
        Expressions inside ``offset(...)``.
    """

    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    offset: tuple[str, ...] = ()

    def __str__(self) -> str:
        offsets = [f"offset({expr})" for expr in self.offset]
        terms = [term.label for term in self.random]
        return f"{self.response} ~ {' + '.join([self.fixed, *offsets, *terms])}"


def parse(
    formula: str,
    *,
    groups: str | Sequence[str] | None = None,
    random: str | Sequence[str] | None = None,
    fixed_alone: bool = False,
) -> MixedFormula:
    """Read a mixed-model formula.

    Parameters
    ----------
    formula
        ``"response ~ fixed + (columns | group)"``.
    groups
        Grouping columns that get a random intercept each; ``"a:b"`` and ``"a/b"`` as in a formula.
    random
        More random terms, ``"(1 + x | g)"``.
    fixed_alone
        Whether a formula without any random term is one, too.

    Returns
    -------
    MixedFormula
        The terms of the formula, then those of ``random``, then those of ``groups``.

    Raises
    ------
    InterlaceError
        A typing error (with its position), no random term, a term given twice, or a response that
        is also a predictor.

    Examples
    --------
    >>> parsed = parse("y ~ x + (x | a/b)", groups="c")
    >>> print(parsed)
    y ~ x + (1 + x | a) + (1 + x | a:b) + (1 | c)
    >>> [term.key for term in parsed.random]
    ['a', 'a:b', 'c']
    """
    if not isinstance(formula, str):
        raise InterlaceError(f"the formula must be text, not {type(formula).__name__}")
    parsed = _parse(formula, _texts("groups", groups), _texts("random", random))
    if not parsed.random and not fixed_alone:
        text = re.sub(r"\s", " ", formula).strip()
        raise InterlaceError(
            f"the formula '{text}' has no random term: add one in parentheses, such as (1 | g) or "
            "(1 + x | g), or pass groups='g'"
        )
    return parsed


# Sides of the formula -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _RightSide:
    fixed: tuple[Piece, ...]
    offset: tuple[str, ...]
    random: tuple[RandomTerm, ...]


@lru_cache(maxsize=256)
def _parse(formula: str, groups: tuple[str, ...], random: tuple[str, ...]) -> MixedFormula:
    source = FormulaText(re.sub(r"\s", " ", formula))
    tilde = _tilde(source)
    right = _right_side(source, tilde + 1)
    parsed = MixedFormula(
        response=_response(source, tilde),
        fixed=_checked_text(source, right.fixed) or "1",
        random=(
            *right.random,
            *(term for text in random for term in _random_argument(text)),
            *(term for text in groups for term in _groups_argument(text)),
        ),
        offset=right.offset,
    )
    _refuse_repeated(parsed.random)
    _refuse_structures_twice(parsed.random)
    _refuse_response_as_predictor(parsed, source, tilde)
    return parsed


def _texts(argument: str, value: str | Sequence[str] | None) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return () if value is None else (value,)
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise InterlaceError(f"{argument} must be text or a list of texts, not {value!r}")
    return tuple(value)


def _tilde(source: FormulaText) -> int:
    tildes = source.between(0, len(source.text), "~")
    if not tildes:
        raise InterlaceError(
            f"the formula '{source.text.strip()}' has no '~': write 'response ~ predictors'"
        )
    if len(tildes) > 1 or tildes[0].depth:
        raise source.error("only one '~' is possible, outside parentheses", tildes[-1].at)
    return tildes[0].at


def _response(source: FormulaText, tilde: int) -> str:
    piece = trimmed(source, "+", 0, tilde, 0)
    text = source.slice(piece)
    if not text:
        raise source.error("the response is missing left of '~'", tilde)
    bars = source.between(0, tilde, "|")
    if bars:
        raise source.error("a random term belongs right of '~'", bars[0].at)
    if carets := source.between(0, tilde, "^"):
        raise source.error("'^' is no power in the response: power is **", carets[0].at)
    _check(source, expression(text), piece.start)
    return text


def _right_side(source: FormulaText, start: int) -> _RightSide:
    fixed: list[Piece] = []
    offset: list[str] = []
    random: list[RandomTerm] = []
    for piece in _flat(source, summands(source, start, len(source.text), 0)):
        if source.between(piece.start, piece.end, "|"):
            random += _random_terms(source, piece)
        elif source.slice(piece).startswith("offset(") and source.slice(piece).endswith(")"):
            offset.append(_offset(source, piece))
        else:
            refuse_structure(source, piece)
            fixed.append(piece)
    return _RightSide(tuple(fixed), tuple(offset), tuple(random))


def _flat(source: FormulaText, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Pieces with parentheses opened that hold a random term among others: ``(x + (1 | g))``."""
    for piece in pieces:
        bars = source.between(piece.start, piece.end, "|")
        if not bars:
            yield piece
            continue
        name, bare = _structured(source, piece)
        _refuse_misplaced_bar(source, bare, bars)
        if name or any(bar.depth == piece.depth + 1 for bar in bars):
            yield piece
        else:
            inner = summands(source, piece.start + 1, piece.end - 1, piece.depth + 1)
            yield from _flat(source, inner)


def _structured(source: FormulaText, piece: Piece) -> tuple[str, Piece]:
    """The name before the parenthesis of a random term, and the piece without it."""
    at = source.text.find("(", piece.start, piece.end)
    name = source.text[piece.start : max(at, piece.start)].strip()
    if at < 0 or structure_at(source.text, at) != name:
        return "", piece
    return name, replace(piece, start=at)


def _refuse_misplaced_bar(source: FormulaText, piece: Piece, bars: list[Mark]) -> None:
    bare = [bar for bar in bars if bar.depth == piece.depth]
    if bare:
        raise source.error("a random term needs parentheses, as in (1 | g)", bare[0].at)
    closing = [m for m in source.between(piece.start, piece.end, ")") if m.depth == piece.depth]
    if source.text[piece.start] != "(" or closing[0].at != piece.end - 1:
        raise source.error("a random term can only be added with '+'", piece.start)
    if piece.sign == "-":
        raise source.error("a random term cannot be subtracted: leave it out", piece.start)


def _offset(source: FormulaText, piece: Piece) -> str:
    if piece.sign == "-":
        raise source.error("an offset can only be added with '+'", piece.start)
    text = source.slice(piece).removeprefix("offset(").removesuffix(")").strip()
    if not text:
        raise source.error("offset() is empty: name a column, as in offset(x)", piece.start)
    _check(source, expression(text), piece.start + len("offset("))
    if _is_tuple(text):
        raise source.error("offset() takes one column or expression", piece.start)
    return text


def _is_tuple(text: str) -> bool:
    factors = [f for term in model_terms(expression(text)) for f in term.factors]
    code = factors[0].expr if len(factors) == 1 else "()"
    python = factors and factors[0].eval_method is Factor.EvalMethod.PYTHON
    tree = ast.parse(sanitize_variable_names(code, {}, {}), mode="eval") if python else None
    return tree is not None and isinstance(tree.body, ast.Tuple)


def _random_argument(text: str) -> list[RandomTerm]:
    source = FormulaText(re.sub(r"^\s*~", " ", re.sub(r"\s", " ", text)))  # nlme writes ~ x | g
    if source.between(0, len(text), "~"):
        raise InterlaceError(f"random={text!r} is not a random term such as '(1 + x | g)'")
    if any(mark.depth == 0 for mark in source.between(0, len(text), "|")):
        source = FormulaText(f"({source.text})")
    right = _right_side(source, 0)
    if right.fixed or right.offset or not right.random:
        raise InterlaceError(f"random={text!r} is not a random term such as '(1 + x | g)'")
    return list(right.random)


def _groups_argument(text: str) -> list[RandomTerm]:
    if text.strip() and not re.search("[:/`]", text):
        return [RandomTerm("1", (text,))]
    source = FormulaText(text)
    return [RandomTerm("1", group) for group in _groups(source, 0, len(text))]


# Random terms -------------------------------------------------------------------------------------


def _random_terms(source: FormulaText, piece: Piece) -> list[RandomTerm]:
    name, piece = _structured(source, piece)
    bars = source.between(piece.start, piece.end, "|")
    nested = [bar for bar in bars if bar.depth > piece.depth + 1]
    if nested:
        raise source.error("a random term cannot hold another one", nested[0].at)
    correlated = len(bars) == 1
    if len(bars) > 2 or (len(bars) == 2 and bars[1].at != bars[0].at + 1):
        raise source.error("a random term has one bar: (1 | g), or '||'", bars[-1].at)
    if name and (early := _EARLY.search(source.text, piece.start, bars[0].at)):
        message = f"hom= stands after the grouping columns, as in {name}(0 + f | g, hom=True)"
        raise source.error(message, early.start())
    expr = _left_of_bar(source, piece, bars[0])
    if not name:
        groups = _groups(source, bars[-1].at + 1, piece.end - 1)
        return [RandomTerm(expr, group, correlated) for group in groups]
    if not correlated:
        raise source.error(f"{name}() says how effects vary together: it has one bar", bars[0].at)
    hom = _HOM.search(source.text, bars[0].at, piece.end - 1)
    if hom is None and (comma := source.text.find(",", bars[0].at, piece.end - 1)) >= 0:
        message = f"after the grouping columns of {name}() there may be hom=True or hom=False"
        raise source.error(message, comma)
    groups = _groups(source, bars[-1].at + 1, piece.end - 1 if hom is None else hom.start())
    return [_of_structure(source, name, hom, expr, group) for group in groups]


def _of_structure(
    source: FormulaText, name: str, hom: re.Match[str] | None, expr: str, group: tuple[str, ...]
) -> RandomTerm:
    """A random term of a structure that is named: ``us`` is ``|``, and ``diag`` is ``||``."""
    if name == "us":
        if hom is not None:
            raise source.error("us() has a variance for every column: leave hom= out", hom.start())
        return RandomTerm(expr, group)
    same = _HOMOGENEOUS[name] if hom is None else hom[1].startswith("T")
    if name == "diag" and not same:
        return RandomTerm(expr, group, correlated=False)
    return RandomTerm(expr, group, structure=f"{name}-{'hom' if same else 'het'}")


def _left_of_bar(source: FormulaText, piece: Piece, bar: Mark) -> str:
    """Text of the columns, with the intercept made explicit and first."""
    pieces = tuple(summands(source, piece.start + 1, bar.at, piece.depth + 1))
    if not pieces:
        raise source.error("nothing stands left of the bar: write (1 | g)", bar.at)
    text = _checked_text(source, pieces)
    rest = _joined(source, tuple(p for p in pieces if source.slice(p) not in ("0", "1")))
    intercept = "1" if "1" in map(str, model_terms(text)) else "0"
    if not rest and intercept == "0":
        raise source.error("no column is left in this random term", piece.start)
    whole = f"{intercept} {'' if rest[0] == '-' else '+ '}{rest}" if rest else intercept
    _check(source, whole, piece.start)
    return whole


def _groups(source: FormulaText, start: int, end: int) -> list[tuple[str, ...]]:
    """Grouping columns right of the bar: ``a/b`` is ``a`` and ``a:b``."""
    names: tuple[str, ...] = ()
    groups: list[tuple[str, ...]] = []
    expect_name, last = True, start
    for match in _GROUP_TOKEN.finditer(source.text, start, end):
        last = match.start(match.lastgroup or 0)
        name = match["quoted"] or match["name"]
        if (name is not None) != expect_name or (match["sign"] or ":") not in ":/":
            raise source.error(_group_message(match["sign"]), last)
        if name in names:
            raise source.error(f"'{name}' is named twice in one grouping factor", last)
        if name is not None:
            names = (*names, name)
        elif match["sign"] == "/":
            groups.append(names)
        expect_name = not expect_name
    if expect_name:
        raise source.error("a grouping column is missing here", last)
    return [*groups, names]


def _group_message(sign: str | None) -> str:
    if sign is None:
        return "':' or '/' is missing between two grouping columns"
    if sign == "(":
        return "name a grouping column: a function cannot stand here"
    if sign in ":/":
        return f"a grouping column is missing before this '{sign}'"
    return (
        f"'{sign}' cannot combine grouping columns: use ':' (interaction), '/' (nesting) "
        "or separate terms such as (1 | a) + (1 | b)"
    )


def _refuse_repeated(terms: tuple[RandomTerm, ...]) -> None:
    seen: dict[tuple[frozenset[str], str], RandomTerm] = {}
    for term in terms:
        for column in map(str, model_terms(term.expr)):
            first = seen.setdefault((frozenset(term.group), column), term)
            if first is not term:
                what = "the intercept" if column == "1" else f"'{column}'"
                raise InterlaceError(
                    f"{what} varies by '{term.key}' twice: in {first.label} and in {term.label}"
                )


def _refuse_structures_twice(terms: tuple[RandomTerm, ...]) -> None:
    """Refuse two structures of one kind and factor: their correlations would have one name."""
    seen: dict[tuple[frozenset[str], str], RandomTerm] = {}
    for term in terms:
        kind = term.structure.partition("-")[0]
        if kind and (first := seen.setdefault((frozenset(term.group), kind), term)) is not term:
            raise InterlaceError(
                f"{first.label} and {term.label} are both {kind}() of '{term.key}', whose "
                "parameters could not be told apart by name: give one of them another structure"
            )


def _refuse_response_as_predictor(parsed: MixedFormula, source: FormulaText, tilde: int) -> None:
    response, _ = names_in(expression(parsed.response))
    sides = [parsed.fixed, *map(expression, parsed.offset), *(t.expr for t in parsed.random)]
    used = {name for side in sides for name in names_in(side)[0]}
    used.update(name for term in parsed.random for name in term.group)
    for name in sorted(response & used):
        found = re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", source.text[tilde:])
        message = f"the response '{name}' cannot be a predictor or a group too"
        if not found:
            raise InterlaceError(message)
        raise source.error(message, tilde + found.start())


# Pieces that are formulaic's ----------------------------------------------------------------------


def _joined(source: FormulaText, pieces: tuple[Piece, ...]) -> str:
    text = "".join(f" {piece.sign} {_slice(source, piece)}" for piece in pieces)
    return f"-{text[3:]}" if text.startswith(" - ") else text[3:]


def _slice(source: FormulaText, piece: Piece) -> str:
    return told_from_numbers(source.slice(piece))


def _checked_text(source: FormulaText, pieces: tuple[Piece, ...]) -> str:
    """The pieces joined, once formulaic has read each (so that an error has a position)."""
    for piece in pieces:
        if source.slice(piece) == ".":
            raise source.error("'.' for all other columns: name the columns instead", piece.start)
        refuse_powers(source, piece)
        _check(source, _slice(source, piece), piece.start)
    text = _joined(source, pieces)
    if text:
        _check(source, text, pieces[0].start)
    return text


def _check(source: FormulaText, text: str, start: int) -> None:
    try:
        names_in(text)
    except _READING_ERRORS as error:
        message, shift = _explained(error)
        raise source.error(message, min(start + shift, len(source.text))) from error


def _explained(error: Exception) -> tuple[str, int]:
    """Formulaic's message, and the position it marks in the text it was given."""
    if isinstance(error, SyntaxError):
        return f"the formula cannot be read: {error.msg}", 0
    message, _, context = str(error).partition("\n\n")
    marked = re.sub(r"\x1b\[[\d;]*m", "", context).find("\u29db")
    message = message.rstrip(".").replace("`", "'")
    if message.startswith("The '.' operator"):
        message = "'.' for all other columns: name the columns instead"
    return f"the formula cannot be read: {message}", max(marked, 0)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.]+", name) else f"`{name}`"
