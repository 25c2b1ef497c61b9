"""One side of a formula as formulaic reads it: its terms, and the names that it reads."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from keyword import iskeyword

from formulaic import SimpleFormula
from formulaic.formula import Formula
from formulaic.parser.types import Factor
from formulaic.utils.code import sanitize_variable_names

_PLAIN_NAME = re.compile(r"[^\W\d][\w.]*")


@lru_cache(maxsize=512)
def model_terms(text: str) -> SimpleFormula:
    """Formulaic's terms of one side of a formula; the cached value must not be changed."""
    return Formula(text)


@lru_cache(maxsize=512)
def names_in(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names that one side of a formula reads: values (columns, mostly), and functions called."""
    values: set[str] = set()
    functions: set[str] = set()
    for factor in (factor for term in model_terms(text) for factor in term.factors):
        if factor.eval_method is Factor.EvalMethod.LOOKUP:
            values.add(factor.expr)
        elif factor.eval_method is Factor.EvalMethod.PYTHON:
            _collect_names(factor.expr, values, functions)
    return frozenset(values), frozenset(functions)


@lru_cache(maxsize=512)
def expression(text: str) -> str:
    """One side of a formula that holds a single expression, evaluated as Python unless a name."""
    text = told_from_numbers(text)
    simple = _PLAIN_NAME.fullmatch(text) or re.fullmatch(r"`[^`]+`|{[^{}]*}", text)
    return f"{text} - 1" if simple else f"{{{text}}} - 1"


def told_from_numbers(text: str) -> str:
    """The text with columns called 0 or 1 spelled so that they are not the intercept.

    Likewise those called as an operator or as a word of Python.
    """
    return re.sub(r"`([^`]+)`", _spelled, text)


def _spelled(quoted: re.Match[str]) -> str:
    name = quoted[1]
    odd = name in ("0", "1") or iskeyword(name) or not re.search(r"\w", name)
    return f"Q({name!r})" if odd else quoted[0]


def side_of(factor: Factor) -> str:
    """The text of a side that holds one factor of another."""
    if factor.eval_method is Factor.EvalMethod.LOOKUP:
        return f"`{factor.expr}` - 1"
    return f"{{{factor.expr}}} - 1"


def _collect_names(code: str, values: set[str], functions: set[str]) -> None:
    aliases: dict[str, str] = {}
    tree = ast.parse(sanitize_variable_names(code, {}, aliases), mode="eval")
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    roots = {id(_root(node)) for node in called}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            name = aliases.get(node.id, node.id)
            (functions if id(node) in roots else values).add(name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Q" and node.args:
            values.add(str(ast.literal_eval(node.args[0])))


def _root(node: ast.expr) -> ast.expr:
    """The name that a chain of attributes starts from: ``np`` of ``np.linalg.norm``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node
