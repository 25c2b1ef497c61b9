"""Powers in a formula: refused in calls where they are no powers, and where they would not end."""

from __future__ import annotations

import re

from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import ASTNode, Token

from interlace.design.marks import FormulaText, Piece

_POWER = re.compile(r"(?:\*\*|\^)\s*(\d+)")
_LARGEST = 10
_MOST_PRODUCTS = 100_000


def refuse_powers(source: FormulaText, piece: Piece) -> None:
    """Refuse ``(a + b)**k`` with a large ``k``, or with more products than can be formed.

    Raises
    ------
    InterlaceError
        It points at the power.
    """
    marks = [m.at for m in source.between(piece.start, piece.end, "*^")]
    powers = [at for at in marks if (found := _POWER.match(source.text, at)) and found.end()]
    for at in powers:
        exponent = _POWER.match(source.text, at)
        if exponent is not None and len(exponent[1]) > 1 and float(exponent[1]) > _LARGEST:
            raise source.error(
                f"the exponent {exponent[1]} is too large: interactions of at most {_LARGEST} "
                f"variables can be asked for; for the power of a number write I(x**{exponent[1]})",
                at,
            )
    if powers and _products(source.slice(piece)) > _MOST_PRODUCTS:
        raise source.error(
            f"this power gives more than {_MOST_PRODUCTS:,} products: name the interactions, or "
            "take a smaller exponent",
            powers[-1],
        )


def _products(text: str) -> float:
    """At most as many products as formulaic would form; 0 for text that it cannot read."""
    try:
        tree = DefaultFormulaParser().get_ast(text, context={})
    except (FormulaicError, SyntaxError, IndexError, ValueError):
        return 0.0
    return 0.0 if tree is None else _size(tree)


def _size(node: ASTNode[Token] | Token) -> float:
    if isinstance(node, Token):
        return 1.0
    sizes = [_size(one) for one in node.args]
    match node.operator.symbol:
        case "*" | "/" | "%in%":
            return (sizes[0] + 1.0) * (sizes[-1] + 1.0)
        case ":":
            return sizes[0] * sizes[-1]
        case "**" | "^":
            power = str(node.args[-1])
            return float(sizes[0] ** int(power)) if power.isdecimal() else 1.0
    return sum(sizes)
