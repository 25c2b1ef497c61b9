"""The examples of the README give the output shown there."""

import doctest
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def session() -> str:
    """All examples in order, with empty lines of their output in doctest's spelling."""
    blocks = re.findall(r"```pycon\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    return "\n".join(re.sub(r"^$", "<BLANKLINE>", block, flags=re.MULTILINE) for block in blocks)


def test_examples() -> None:
    examples = doctest.DocTestParser().get_doctest(session(), {}, "README.md", None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    outcome = runner.run(examples)
    assert outcome.attempted > 5
    assert outcome.failed == 0
