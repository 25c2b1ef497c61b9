"""Formula text -> structure, and the errors that point at typing mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlace.design.formula import MixedFormula, RandomTerm, parse
from interlace.design.sides import expression, names_in
from interlace.errors import InterlaceError

G = RandomTerm("1", ("g",))

# text -> fixed side, random terms as they are written out
GRAMMAR = {
    "y ~ x + (1|g)": ("x", ["(1 | g)"]),
    "y~(1|g)": ("1", ["(1 | g)"]),
    "y ~ 1 + (1|g)": ("1", ["(1 | g)"]),
    "y ~ 0 + x + (1|g)": ("0 + x", ["(1 | g)"]),
    "y ~ x - 1 + (1|g)": ("x - 1", ["(1 | g)"]),
    "y ~ -1 + (1|g)": ("-1", ["(1 | g)"]),
    "y ~ x + -1 + (1|g)": ("x - 1", ["(1 | g)"]),
    "y ~ x + (1|g) + z": ("x + z", ["(1 | g)"]),
    "y ~ (x + z)**2 + (1|g)": ("(x + z)**2", ["(1 | g)"]),
    "y ~ x\n  + (1|g)": ("x", ["(1 | g)"]),
    # left of the bar
    "y ~ (x|g)": ("1", ["(1 + x | g)"]),
    "y ~ (1 + x|g)": ("1", ["(1 + x | g)"]),
    "y ~ (x + 1|g)": ("1", ["(1 + x | g)"]),
    "y ~ (0 + x|g)": ("1", ["(0 + x | g)"]),
    "y ~ (x - 1|g)": ("1", ["(0 + x | g)"]),
    "y ~ (-1 + x|g)": ("1", ["(0 + x | g)"]),
    "y ~ (x || g)": ("1", ["(1 + x || g)"]),
    "y ~ (x * z - x:z | g)": ("1", ["(1 + x * z - x:z | g)"]),
    "y ~ (poly(x, 2) | g)": ("1", ["(1 + poly(x, 2) | g)"]),
    "y ~ (1|g) + (0 + x|g)": ("1", ["(1 | g)", "(0 + x | g)"]),
    # right of the bar
    "y ~ (1|a:b)": ("1", ["(1 | a:b)"]),
    "y ~ (1|a/b)": ("1", ["(1 | a)", "(1 | a:b)"]),
    "y ~ (x || a/b/c)": ("1", ["(1 + x || a)", "(1 + x || a:b)", "(1 + x || a:b:c)"]),
    "y ~ (1|a:b/c)": ("1", ["(1 | a:b)", "(1 | a:b:c)"]),
    "y ~ (1|`my group`)": ("1", ["(1 | `my group`)"]),
    "y ~ (1|a.b)": ("1", ["(1 | a.b)"]),
    # parentheses, quotes, code
    "y ~ ((1|g))": ("1", ["(1 | g)"]),
    "y ~ (x + (1|g)) + z": ("x + z", ["(1 | g)"]),
    "y ~ (x + (z + (1|g)))": ("x + z", ["(1 | g)"]),
    "y ~ I(a|b) + (1|g)": ("I(a|b)", ["(1 | g)"]),
    "y ~ {a|b} + (1|g)": ("{a|b}", ["(1 | g)"]),
    "y ~ `a|b~` + (1|g)": ("`a|b~`", ["(1 | g)"]),
    "y ~ C(f, Treatment('a|b')) + (1|g)": ("C(f, Treatment('a|b'))", ["(1 | g)"]),
    "y ~ x[(1|g)] + (1|g)": ("x[(1|g)]", ["(1 | g)"]),
}


@pytest.mark.parametrize("text", GRAMMAR)
def test_grammar(text: str) -> None:
    fixed, random = GRAMMAR[text]
    parsed = parse(text)
    assert parsed.response == "y"
    assert parsed.fixed == fixed
    assert [term.label for term in parsed.random] == random


@pytest.mark.parametrize("text", GRAMMAR)
def test_str_parses_to_an_equal_value(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


def test_parts_of_a_term() -> None:
    term = parse("y ~ (x || a:b)").random[0]
    assert term == RandomTerm("1 + x", ("a", "b"), correlated=False)
    assert (term.key, term.label) == ("a:b", "(1 + x || a:b)")


@pytest.mark.parametrize("response", ["log(y)", "np.log(y)", "y / 2 + 1", "`my y`", "{y + 1}"])
def test_response_may_be_an_expression(response: str) -> None:
    parsed = parse(f"{response} ~ x + (1 | g)")
    assert parsed.response == response
    assert parse(str(parsed)) == parsed


def test_offsets_leave_the_fixed_side() -> None:
    parsed = parse("y ~ offset(log(t)) + x + offset(2 * u) + (1 | g)")
    assert (parsed.fixed, parsed.offset) == ("x", ("log(t)", "2 * u"))
    assert str(parsed) == "y ~ x + offset(log(t)) + offset(2 * u) + (1 | g)"


def test_terms_by_argument_add_up() -> None:
    parsed = parse("y ~ (1 | a)", random=["(0 + x | b)", "z | c"], groups=["d", "e:f", "h/i"])
    expected = "y ~ 1 + (1 | a) + (0 + x | b) + (1 + z | c) + (1 | d) + (1 | e:f)"
    assert str(parsed) == f"{expected} + (1 | h) + (1 | h:i)"


@pytest.mark.parametrize("groups", ["g", ["g"], ("g",)])
def test_groups_as_text_or_list(groups: str | list[str]) -> None:
    assert parse("y ~ x", groups=groups).random == (G,)
    assert parse("y ~ x", random="(1 | g)").random == (G,)


def test_groups_takes_any_column_name() -> None:
    assert parse("y ~ x", groups="my group-1").random[0].group == ("my group-1",)
    assert parse("y ~ x", groups="`a:b`").random[0].group == ("a:b",)


def test_parsing_again_costs_nothing() -> None:
    assert parse("y ~ x + (1 | g)") is parse("y ~ x + (1 | g)")


# text -> message, and what the caret stands under
TYPOS = {
    "y ~ x ~ (1|g)": ("only one '~' is possible, outside parentheses", 6),
    "y ~ (x ~ (1|g))": ("only one '~' is possible, outside parentheses", 7),
    "~ x + (1|g)": ("the response is missing left of '~'", 0),
    "(1|g) ~ x": ("a random term belongs right of '~'", 2),
    "y ~ x + (1|g": ("'(' is never closed", 8),
    "y ~ x) + (1|g)": ("')' closes nothing", 5),
    "y ~ f[x) + (1|g)": ("')' closes nothing", 7),
    "y ~ 'x + (1|g)": ("the quote ' is never closed", 4),
    "y ~ x + (1|g) +": ("nothing follows the '+'", 14),
    "y ~ x -": ("nothing follows the '-'", 6),
    "y ~ x + 1 | g": ("a random term needs parentheses, as in (1 | g)", 10),
    "y ~ x + (|g)": ("nothing stands left of the bar: write (1 | g)", 9),
    "y ~ x + (1 +|g)": ("nothing follows the '+'", 11),
    "y ~ x + (0|g)": ("no column is left in this random term", 8),
    "y ~ (1|g|h)": ("a random term has one bar: (1 | g), or '||'", 8),
    "y ~ (1|||g)": ("a random term has one bar: (1 | g), or '||'", 8),
    "y ~ ((1|g)|h)": ("a random term cannot hold another one", 7),
    "y ~ x - (1|g)": ("a random term cannot be subtracted: leave it out", 8),
    "y ~ x*(1|g)": ("a random term can only be added with '+'", 4),
    "y ~ (1|g)z": ("a random term can only be added with '+'", 4),
    "y ~ x + (1|)": ("a grouping column is missing here", 11),
    "y ~ x + (1|g:)": ("a grouping column is missing here", 12),
    "y ~ x + (1|/g)": ("a grouping column is missing before this '/'", 11),
    "y ~ x + (1|g h)": ("':' or '/' is missing between two grouping columns", 13),
    "y ~ x + (1|g/g)": ("'g' is named twice in one grouping factor", 13),
    "y ~ x + (1|factor(g))": ("name a grouping column: a function cannot stand here", 17),
    "y ~ x + (1|g*h)": (
        "'*' cannot combine grouping columns: use ':' (interaction), '/' (nesting) "
        "or separate terms such as (1 | a) + (1 | b)",
        12,
    ),
    "y ~ x + (1|g+h)": (
        "'+' cannot combine grouping columns: use ':' (interaction), '/' (nesting) "
        "or separate terms such as (1 | a) + (1 | b)",
        12,
    ),
    "y ~ . + (1|g)": ("'.' for all other columns: name the columns instead", 4),
    "y ~ offset() + (1|g)": ("offset() is empty: name a column, as in offset(x)", 4),
    "y ~ x - offset(z) + (1|g)": ("an offset can only be added with '+'", 8),
    "y ~ y + (1|g)": ("the response 'y' cannot be a predictor or a group too", 4),
    "log(y) ~ (x + y|g)": ("the response 'y' cannot be a predictor or a group too", 14),
    "y ~ yy + (1|y)": ("the response 'y' cannot be a predictor or a group too", 12),
    "y ~ x z + (1|g)": ("the formula cannot be read: Missing operator between 'x' and 'z'", 4),
    "y ~ (1|g) + x @ z": ("the formula cannot be read: Unknown operator '@'", 14),
    "y ~ x + log(z +) + (1|g)": ("the formula cannot be read: invalid syntax", 8),
}


@pytest.mark.parametrize("text", TYPOS)
def test_typo_has_a_position(text: str) -> None:
    message, at = TYPOS[text]
    with pytest.raises(InterlaceError) as caught:
        parse(text)
    assert str(caught.value) == f"{message}\n    {text}\n    {' ' * at}^"


NO_RANDOM = (
    "the formula 'y ~ x' has no random term: add one in parentheses, such as (1 | g) "
    "or (1 + x | g), or pass groups='g'"
)
TWICE = "varies by 'g' twice: in"
WRONG = {
    "no tilde": ("x + (1|g)", {}, "the formula 'x + (1|g)' has no '~': write "),
    "nothing": ("", {}, "the formula '' has no '~': write 'response ~ predictors'"),
    "no random term": ("y ~ x", {}, NO_RANDOM),
    "empty groups": ("y ~ x", {"groups": []}, NO_RANDOM),
    "twice": ("y ~ (1|g) + (1|g)", {}, f"the intercept {TWICE} (1 | g) and in (1 | g)"),
    "slope twice": ("y ~ (x|g) + (0+x|g)", {}, f"'x' {TWICE} (1 + x | g) and in (0 + x | g)"),
    "by argument": (
        "y ~ (x|g)",
        {"groups": "g"},
        f"the intercept {TWICE} (1 + x | g) and in (1 | g)",
    ),
    "other order": ("y ~ (1|a:b) + (1|b:a)", {}, "the intercept varies by 'b:a' twice"),
    "nested": ("y ~ (1|g) + (1|g/h)", {}, f"the intercept {TWICE} (1 | g) and in (1 | g)"),
    "response": ("y ~ x", {"groups": "y"}, "the response 'y' cannot be a predictor or a group"),
    "number": ("y ~ x", {"groups": 3}, "groups must be text or a list of texts, not 3"),
    "numbers": ("y ~ x", {"random": [3]}, "random must be text or a list of texts, not [3]"),
    "no bar": ("y ~ x", {"random": "x"}, "random='x' is not a random term such as '(1 + x | g)'"),
    "empty": ("y ~ x", {"groups": "a:"}, "a grouping column is missing here\n    a:\n     ^"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_as_a_whole(name: str) -> None:
    text, arguments, message = WRONG[name]
    with pytest.raises(InterlaceError) as caught:
        parse(text, **arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_formula_must_be_text() -> None:
    with pytest.raises(InterlaceError, match="the formula must be text, not list"):
        parse(["y ~ x"])  # type: ignore[arg-type]


def test_the_cause_is_kept() -> None:
    with pytest.raises(InterlaceError) as caught:
        parse("y ~ x z + (1|g)")
    assert type(caught.value.__cause__).__name__ == "FormulaSyntaxError"


@pytest.mark.parametrize(
    ("text", "values", "functions"),
    [
        ("x + z:w", {"x", "z", "w"}, set()),
        ("poly(x, 2) + np.log(z)", {"x", "z"}, {"poly", "np"}),
        ("`my x` + log(`my z`)", {"my x", "my z"}, {"log"}),
        ("Q('my x')", {"my x"}, {"Q"}),
        ("C(f, Treatment('a'))", {"f"}, {"C", "Treatment"}),
        (expression("y / 2"), {"y"}, set()),
    ],
)
def test_names_in(text: str, values: set[str], functions: set[str]) -> None:
    assert names_in(text) == (values, functions)


pieces = st.sampled_from(
    [
        *("y", "x", "z", "g", "~", "+", "-", "(", ")", "|", "||", ":", "*", "/", "1", "0"),
        *("[", "]", "{", "}", "'", '"', "`", "^", "**", "%", "@", ".", ",", "I(", "log("),
        *("offset(", "in", " ", "\n", "\\", "2.5", "="),
    ]
)


@given(st.lists(pieces, max_size=14).map("".join), st.booleans())
def test_any_text_parses_or_is_refused(text: str, complete: bool) -> None:
    """Nothing but InterlaceError comes out, and what parses survives str()."""
    try:
        parsed = parse(f"y ~ {text} + (1 | g)" if complete else text)
    except InterlaceError:
        return
    assert parse(str(parsed)) == parsed


names = st.sampled_from(["a", "b", "c", "d"])
terms = st.builds(
    RandomTerm,
    st.sampled_from(["1", "1 + x", "0 + x", "1 + x * z", "0 + poly(x, 2)"]),
    st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    st.booleans(),
)


@given(
    st.sampled_from(["y", "log(y)", "y - 1"]),
    st.sampled_from(["1", "x", "0 + x", "x * z - x", "-1"]),
    st.lists(terms, min_size=1, max_size=3, unique_by=lambda t: frozenset(t.group)),
    st.sampled_from([(), ("t",), ("log(t)", "u")]),
)
def test_formula_survives_str(
    response: str, fixed: str, random: list[RandomTerm], offset: tuple[str, ...]
) -> None:
    formula = MixedFormula(response, fixed, tuple(random), offset)
    assert parse(str(formula)) == formula
