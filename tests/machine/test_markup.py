"""Tables in HTML: the answer stands first, in the order of the numbers of the text."""

from __future__ import annotations

import re

import pytest

import fits
import interlace
from interlace.machine.markup import answer_first, breakable


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("g emmean se df lower upper", "g emmean lower upper se df"),
        ("contrast estimate se df statistic p", "contrast estimate p se df statistic"),
        ("Group Effect Variance Corr.", "Group Effect Variance Corr."),
        ("num_df den_df F p", "F p num_df den_df"),
        ("name se df", "name se df"),  # no answer beside which they would be less
    ],
)
def test_the_answer_comes_first(columns: str, expected: str) -> None:
    names = columns.split()
    assert [names[i] for i in answer_first(names)] == expected.split()


def test_labels_break_after_colons_and_are_escaped() -> None:
    assert breakable("a[T.<b>]:x") == "a[T.&lt;b&gt;]:<wbr>x"


def test_the_summary_of_a_notebook() -> None:
    html = fits.of_case("sleepstudy_slope").summary()._repr_html_()
    head = re.findall(r"<th[^>]*>([^<]*)</th>", html.split("Fixed effects")[1])[:5]
    assert head == ["", "Estimate", "P&gt;|z|", "[0.025", "0.975]"]
    row = html.split("Fixed effects")[1].split("<tr>")[3]
    assert re.findall(r">([^<>]+)</td>", row)[:3] == ["Days", "10.467", "&lt;0.001"]


@pytest.mark.parametrize("verb", ["r2", "icc", "wald", "bootstrap"])
def test_results_have_html(verb: str) -> None:
    result = fits.of_case("sleepstudy_slope")
    made = {
        "r2": result.r2,
        "icc": result.icc,
        "wald": lambda: result.wald_test("Days = 0"),
        "bootstrap": lambda: result.bootstrap(5, seed=1),
    }[verb]()
    assert "<table" in made._repr_html_()
    assert isinstance(result, interlace.CrossedLMEResult)
