"""Tests whose power is asked for: coefficients, terms and hypotheses by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interlace.design.design import Design
from interlace.design.frame import hint
from interlace.errors import InterlaceError
from interlace.inference.hypotheses import Hypothesis, linear_hypothesis, term_hypotheses
from interlace.sums.terms import Floats

Asked = str | Sequence[str] | Mapping[str, Hypothesis] | None


@dataclass(frozen=True, eq=False)
class Test:
    """A linear hypothesis ``L beta = value``, ``L`` (q, p), and what it is called."""

    label: str
    L: Floats
    value: Floats


def tests_asked(asked: Asked, design: Design, names: Sequence[str]) -> list[Test]:
    """Hypotheses of the tests asked for.

    Raises
    ------
    InterlaceError
        A name is neither a coefficient, nor a term, nor an equation; nothing is asked for.
    """
    if asked is None:
        asked = [name for name in names if name != "Intercept"] or list(names)
    if isinstance(asked, Mapping):
        found = [Test(label, *linear_hypothesis(names, one)) for label, one in asked.items()]
    else:
        texts = [asked] if isinstance(asked, str) else list(asked)
        found = [_named(text, design, names) for text in texts]
    if not found:
        raise InterlaceError("no test is asked for: name a coefficient, a term, or an equation")
    return found


def _named(text: object, design: Design, names: Sequence[str]) -> Test:
    """One test by the name of a coefficient or term, or by its equation."""
    if not isinstance(text, str):
        raise InterlaceError(f"a test is asked for by its name or an equation, not {text!r}")
    if text in names:
        return Test(text, np.eye(len(names))[[list(names).index(text)]], np.zeros(1))
    terms = term_hypotheses(design, names, 3)
    if text in terms:
        return Test(text, terms[text], np.zeros(len(terms[text])))
    if not set(text) & set("=*+-"):
        raise InterlaceError(f"no coefficient or term '{text}'{hint(text, [*names, *terms])}")
    return Test(text, *linear_hypothesis(names, text))
