"""What a formula in a file may say: operators, and functions on a list; nothing that runs code.

A formula is code: ``fit`` evaluates what it calls.  One that comes with a file is held to
arithmetic on columns and to functions that are known to do no more than compute.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import ASTNode, Factor, Token
from formulaic.utils.code import sanitize_variable_names

from interlace.design.sides import model_terms
from interlace.errors import InterlaceError

_NUMPY = frozenset(
    [
        "abs",
        "absolute",
        "arccos",
        "arccosh",
        "arcsin",
        "arcsinh",
        "arctan",
        "arctan2",
        "arctanh",
        "cbrt",
        "ceil",
        "clip",
        "cos",
        "cosh",
        "deg2rad",
        "degrees",
        "divide",
        "equal",
        "exp",
        "exp2",
        "expm1",
        "fabs",
        "float_power",
        "floor",
        "floor_divide",
        "fmax",
        "fmin",
        "fmod",
        "greater",
        "greater_equal",
        "hypot",
        "isfinite",
        "isin",
        "isnan",
        "less",
        "less_equal",
        "log",
        "log10",
        "log1p",
        "log2",
        "logaddexp",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "maximum",
        "minimum",
        "mod",
        "multiply",
        "negative",
        "not_equal",
        "power",
        "rad2deg",
        "radians",
        "reciprocal",
        "remainder",
        "rint",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "subtract",
        "tan",
        "tanh",
        "true_divide",
        "trunc",
        "where",
        "add",
    ]
)
_CONTRASTS = frozenset(["treatment", "SAS", "sum", "helmert", "diff", "poly", "custom"])
_FUNCTIONS = frozenset(
    [
        "C",
        "I",
        "Q",
        "bs",
        "cc",
        "cr",
        "cs",
        "center",
        "poly",
        "scale",
        "standardize",
        "hashed",
        "lag",
        "log",
        "log10",
        "log2",
        "exp",
        "exp10",
        "exp2",
        "Treatment",
        "Poly",
        "Sum",
        "Helmert",
        "Diff",
        "abs",
        "round",
        "float",
        "int",
        "bool",
    ]
)
# Arguments of these are sizes: large ones would fill the memory.
_SIZED = frozenset(["bs", "cc", "cr", "cs", "poly", "hashed", "lag"])
_SIZES = ("df", "degree", "levels")
_LARGEST_SIZE = 10_000
_LONGEST = 100_000
_MOST_TERMS = 10_000
_DEEPEST = 50

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
    *(ast.BitAnd, ast.BitOr),
)


def refuse_code(text: str) -> None:
    """Refuse a side of a formula that says more than a file may.

    Raises
    ------
    InterlaceError
        It calls or names something that is not on the list, or is too large; the message says what.
    """
    if len(text) > _LONGEST:
        raise InterlaceError(f"the formula is longer than {_LONGEST} characters")
    tree = DefaultFormulaParser().get_ast(text, context={})
    if tree is not None and _number_of_terms(tree) > _MOST_TERMS:
        raise InterlaceError(f"'{text[:100]}' has more than {_MOST_TERMS} terms")
    for factor in {factor for term in model_terms(text) for factor in term.factors}:
        if factor.eval_method is Factor.EvalMethod.PYTHON:
            _refuse(factor.expr)


def _number_of_terms(node: ASTNode[Token] | Token) -> int:
    """At most as many terms as a formula expands to, found without expanding it."""
    if isinstance(node, Token):
        return 1
    counts = [_number_of_terms(one) for one in node.args]
    match node.operator.symbol:
        case "*":
            return (counts[0] + 1) * (counts[-1] + 1)
        case ":":
            return counts[0] * counts[-1]
        case "/" | "%in%":
            return (counts[0] + 1) * (counts[-1] + 1)
        case "**" | "^":
            power = str(node.args[-1]) if isinstance(node.args[-1], Token) else ""
            whole = power.isdecimal() and len(power) < 3
            return (counts[0] + 1) ** int(power) if whole else _MOST_TERMS + 1
    return sum(counts)


# Expressions --------------------------------------------------------------------------------------


def _refuse(expr: str) -> None:
    try:
        tree = ast.parse(sanitize_variable_names(expr, {}, {}), mode="eval").body
        reason = next(_reasons(tree, 0), None)
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise InterlaceError(f"'{expr[:100]}' cannot stand in a file: it cannot be read") from error
    if reason is not None:
        raise InterlaceError(
            f"'{expr[:100]}' cannot stand in a file: {reason}; make it a column beforehand"
        )


def _reasons(node: ast.expr, depth: int) -> Iterator[str]:
    """Why an expression is more than arithmetic on columns."""
    if depth > _DEEPEST:
        yield "it is nested too deep"
        return
    match node:
        case ast.Name(id=name) if not name.startswith("__"):
            inner: list[ast.expr] = []
        case ast.Constant(value=bool() | int() | float() | str() | None):
            inner = []
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            yield from _reasons_of_arithmetic(left, op, right)
            inner = [left, right]
        case ast.UnaryOp(op=op, operand=operand):
            inner = [operand]
        case ast.BoolOp(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            inner = values
        case ast.Compare(left=left, comparators=others):
            inner = [left, *others]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            inner = [key for key in keys if key is not None] + values
        case ast.Call(func=function, args=args, keywords=named) if _function(function):
            yield from _reasons_of_call(str(_function(function)), args, named)
            inner = [*args, *(keyword.value for keyword in named)]
        case ast.Attribute() if str(_function(node)).startswith("contr."):
            inner = []
        case _:
            yield f"'{ast.unparse(node)[:60]}' is not on the list of what may"
            return
    for one in inner:
        yield from _reasons(one, depth + 1)


def _reasons_of_arithmetic(left: ast.expr, op: ast.operator, right: ast.expr) -> Iterator[str]:
    """Why an operation could fill the memory: lists and texts repeated, huge powers."""
    for one in (left, right):
        text = isinstance(one, ast.Constant) and isinstance(one.value, str)
        if text or isinstance(one, ast.List | ast.Tuple | ast.Dict):
            yield f"it computes with {ast.unparse(one)[:60]}"
    if isinstance(op, ast.Pow):
        sides = [one for one in (left, right) if not _reads(one)]
        if any(not isinstance(_unsigned(one), ast.Constant) for one in sides) or len(sides) == 2:
            yield f"the power {ast.unparse(right)[:60]} is no plain number"


def _reasons_of_call(
    name: str, args: Sequence[ast.expr], named: Sequence[ast.keyword]
) -> Iterator[str]:
    """Why a call could do more than it says: arguments that are not named, huge sizes."""
    if any(isinstance(one, ast.Starred) for one in args):
        yield "it unpacks arguments"
    if any(keyword.arg is None or keyword.arg.startswith("_") for keyword in named):
        yield "it passes arguments that are not named"
    if name in _SIZED:
        sizes = [*args[1:], *(keyword.value for keyword in named if keyword.arg in _SIZES)]
        for one in sizes:
            if isinstance(one, ast.Constant) and isinstance(one.value, int | float):
                if one.value > _LARGEST_SIZE:
                    yield f"{one.value} is too many for {name}()"
            elif not isinstance(one, ast.Constant | ast.List | ast.Tuple):
                yield f"'{ast.unparse(one)[:60]}' is no plain number"


def _reads(node: ast.expr) -> bool:
    """Whether an expression reads a column, so that its value is a float for each row."""
    return any(isinstance(one, ast.Name) for one in ast.walk(node))


def _unsigned(node: ast.expr) -> ast.expr:
    return node.operand if isinstance(node, ast.UnaryOp) else node


def _function(node: ast.expr) -> str | None:
    """Name of a function that may be called; ``None`` for any other."""
    match node:
        case ast.Name(id=name) if name in _FUNCTIONS:
            return name
        case ast.Attribute(value=ast.Name(id="np"), attr=name) if name in _NUMPY:
            return f"np.{name}"
        case ast.Attribute(value=ast.Name(id="contr"), attr=name) if name in _CONTRASTS:
            return f"contr.{name}"
    return None
