"""Tables for papers, the paragraph, and results as text."""

from __future__ import annotations

import functools
import html.parser
import re

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace.errors import InterlaceError
from interlace.reporting import apa
from interlace.reporting.formats import latex_text
from interlace.reporting.summary import Table, fitting


@functools.cache
def models() -> tuple[interlace.CrossedLMEResult, interlace.CrossedLMEResult]:
    sleep = interlace.datasets.load("sleepstudy")
    return (
        interlace.fit("Reaction ~ Days + (1 | Subject)", sleep),
        interlace.fit("Reaction ~ Days + (Days | Subject)", sleep, ddf="satterthwaite"),
    )


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0232, "p = .023"),
        (0.0004, "p < .001"),
        (0.0005, "p = .001"),
        (1.0, "p = 1.000"),
        (0.99949, "p = .999"),
        (float("nan"), "p not available"),
        (0.5, "p = .500"),
    ],
)
def test_probabilities(p: float, text: str) -> None:
    assert apa.p_value(p) == text


def test_numbers() -> None:
    assert apa.number(-0.0001, 2) == "0.00"
    assert apa.number(-1.005, 1) == "-1.0"
    assert apa.decimals_for(0.0031, 2) == 4
    assert apa.decimals_for(310.0, 2) == 2
    assert apa.test(2.5, np.inf, 0.012) == "z = 2.50, p = .012"
    assert apa.test(2.5, 17.04, 0.012) == "t(17.0) = 2.50, p = .012"
    assert apa.test(2.5, 17.0001, 0.012) == "t(17) = 2.50, p = .012"
    assert [apa.stars(p) for p in (0.2, 0.04, 0.004, 0.0004)] == ["", "*", "**", "***"]


# ------------------------------------------------------------------ tables


def test_cells_are_the_estimates() -> None:
    plain, slopes = models()
    frame = interlace.table({"plain": plain, "slopes": slopes}, show=["se", "ci", "p"]).to_frame()
    assert list(frame.columns) == ["plain", "slopes"]
    flat = frame.reset_index()
    at = int(flat.index[flat["row"] == "Days"][0])
    assert flat["slopes"][at] == f"{slopes.fe_params['Days']:.2f}"
    row = slopes.coef_table().loc["Days"]
    assert flat["slopes"][at + 1] == f"({row['se']:.2f})"
    assert flat["slopes"][at + 2] == f"[{row['lower']:.2f}, {row['upper']:.2f}]"
    assert flat["slopes"][at + 3] == "p < .001"
    cells = flat.set_index("row")["plain"]
    assert cells["SD Days, Subject"] == "" and cells["Subject (groups)"] == "18"


def test_stars_only_on_request() -> None:
    assert "*" not in repr(interlace.table(*models()))
    starred = interlace.table(list(models()), stars=True)
    assert "***" in repr(starred) and "p < .05" in starred.notes[-1]


def test_words_and_statistics() -> None:
    found = interlace.table(
        models()[1], labels={"Days": "Nights", "nobs": "N"}, statistics=["nobs", "icc", "caic"]
    )
    rows = [row.label for row in found.rows]
    assert {"Nights", "SD Nights, Subject", "N", "ICC", "Conditional AIC"} <= set(rows)
    only = interlace.table(models()[0], statistics=[], random=False)
    assert {row.section for row in only.rows} == {"Fixed effects", "Fit"}


def test_choices_in_other_letters_are_the_same() -> None:
    plain = models()[0]
    asked = interlace.table(plain, show=["SE", "Ci"], statistics=["AIC", "Nobs"])
    meant = interlace.table(plain, show=["se", "ci"], statistics=["aic", "nobs"])
    assert repr(asked) == repr(meant)


def test_generalised_models_stand_beside() -> None:
    data = interlace.datasets.load("cbpp")
    result = interlace.fit("incidence ~ period + (1 | herd)", data, family="poisson")
    found = interlace.table(result, models()[0]).to_frame().reset_index().set_index("row")["(1)"]
    assert found["R2 marginal"] == found["SD residual"] == ""
    assert found["Observations"] == str(result.nobs)


class Cells(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_well_formed() -> None:
    found = interlace.table(*models(), title="A < B & C", labels={"Days": "<b>"})
    parser = Cells()
    parser.feed(found.to_html())
    assert not parser.open
    assert parser.rows == len(found.rows) + 1 + len({row.section for row in found.rows})
    assert "&lt;b&gt;" in found.to_html() and found._repr_html_() == found.to_html()


def test_latex() -> None:
    found = interlace.table(*models(), title="50 % & more_", labels={"Days": "x_{1}^2 ~ \\a"})
    text = found.to_latex(label="tab:a")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert r"50 \% \& more\_" in text and r"\label{tab:a}" in text
    assert r"x\_\{1\}\textasciicircum{}2 \textasciitilde{} \textbackslash{}a" in text
    for line in text.splitlines():
        if line.endswith(r"\\") and "multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 2
    assert found.to_latex().startswith(r"\begin{table}")
    assert interlace.table(models()[0]).to_latex().startswith(r"\begin{tabular}")
    assert latex_text("-1.50**") == "$-1.50$**" and latex_text("[1, 2]") == "{}[1, 2]"
    greek = latex_text("\u03b8_1 \u039b\u0391 \u03c2\n\u03ac \u2264 \u2212")
    assert greek == r"$\theta$\_1 $\Lambda$A $\varsigma$ $\alpha$ $\leq$ $-$"


def test_markdown_and_typst() -> None:
    found = interlace.table(*models(), stars=True, labels={"Days": "a|b_c"}, title="T")
    lines = [line for line in found.to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert r"a\|b\_c" in found.to_markdown() and r"\*\*\*" in found._repr_markdown_()
    typst = found.to_typst()
    assert typst.startswith("#figure(table(") and r"\*\*\*" in typst and r"a|b\_c" in typst


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"show": "sd"}, "show must be one of"),
        ({"statistics": ["r2"]}, "statistics must be one of"),
        ({"names": ["a"]}, "names must hold one name"),
        ({"level": 2.0}, "strictly between"),
    ],
)
def test_what_makes_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InterlaceError, match=message):
        interlace.table(*models(), **arguments)  # type: ignore[arg-type]


def test_what_is_no_model() -> None:
    with pytest.raises(InterlaceError, match="one fitted model or more"):
        interlace.table()
    with pytest.raises(InterlaceError, match="not DataFrame"):
        interlace.table(pd.DataFrame())


# ------------------------------------------------------------------ text


def test_paragraph() -> None:
    result = models()[1]
    text = result.report()
    for part in (
        "to 180 observations",
        "restricted maximum likelihood",
        "slopes of Days by Subject (18",
        "b = 10.47, 95 % CI [7.21, 13.73], t(17) = 6.77, p < .001",
        "Satterthwaite",
        "25.59 for",
    ):
        assert part in text
    assert "z = 6.77" in result.report(ddf="normal")
    sleep = interlace.datasets.load("sleepstudy")
    sleep.loc[3, "Reaction"] = np.nan
    few = interlace.fit("Reaction ~ 1 + (1 | Subject)", sleep, method="ML", weights=np.ones(180))
    said = few.report()
    assert "1 of 180 rows were left out" in said and "weighted" in said and "Intercept" in said


def test_text_fits_80_columns() -> None:
    frame = interlace.datasets.load("machines").rename(columns={"Machine": "a_rather_long_name"})
    frame["another_name_that_is_long"] = np.arange(len(frame)) % 7
    with pytest.warns(UserWarning):
        result = interlace.fit(
            "score ~ a_rather_long_name * another_name_that_is_long + "
            "(a_rather_long_name + another_name_that_is_long | Worker)",
            frame,
        )
    for shown in (str(result.summary()), str(result), str(result.summary(ddf="satterthwaite"))):
        assert max(map(len, shown.splitlines())) <= 80
    assert "a_rather_long_name" in str(result.summary())


def test_degrees_of_freedom_of_a_summary() -> None:
    result = models()[0]
    assert "P>|z|" in str(result.summary()) and "P>|t|" in str(result.summary(ddf="satterthwaite"))
    with pytest.raises(InterlaceError, match="ddf must be one of"):
        result.summary(ddf="x")


def test_tables_are_cut_to_fit() -> None:
    wide = Table("T", ("", *"abcdef"), (("x" * 60, *["1" * 12] * 6),), labels=1)
    found = fitting(wide)
    assert (
        len(found.header) < 7 and found.rows[0][0].endswith("..") and "more columns" in found.title
    )
    narrow = Table("T", ("", "a"), (("x", "1"),), labels=1)
    assert fitting(narrow) == narrow


def test_printed_it_is_short() -> None:
    result = models()[1]
    assert len(str(result).splitlines()) < 14 and "residual 25.59" in str(result).replace("\n", " ")
    assert repr(result).startswith("<CrossedLMEResult")


def test_lists_and_dicts_of_models() -> None:
    plain, slopes = models()
    one = interlace.anova(plain, slopes).to_frame()
    pd.testing.assert_frame_equal(interlace.anova([plain, slopes]).to_frame(), one)
    named = interlace.anova({"plain": plain, "slopes": slopes})
    assert list(named.index) == ["plain", "slopes"]
    compared = interlace.compare({"plain": plain, "slopes": slopes}, caic=True)
    assert compared["cAIC"]["slopes"] == slopes.caic().caic < compared["cAIC"]["plain"]
    interlace.plot_coef(plain, slopes)


def test_what_maketables_reads() -> None:
    result = models()[1]
    table = result.__maketables_coef_table__
    assert table.index.name == "Coefficient"
    assert list(table.columns) == ["b", "se", "t", "p", "ci95l", "ci95u"]
    assert "sd_Days|Subject" in table.index and table.loc["Days", "b"] == result.fe_params["Days"]
    assert result.__maketables_stat__("N") == 180 and result.__maketables_stat__("x") is None
    assert result.__maketables_stat__("aic") == result.aic
    assert result.__maketables_depvar__ == "Reaction"


def test_nothing_else_of_a_result_for_maketables() -> None:
    """Its reader of statsmodels' results, asked first, takes what has these three."""
    found = models()[1].maketables()
    assert not any(hasattr(found, name) for name in ("params", "bse", "pvalues"))
    assert found.__maketables_coef_table__.index[-1] == "sigma"
    keys = found.__maketables_default_stat_keys__
    assert keys == ["N", "groups Subject", "r2_within", "r2", "aic"]
    values = [found.__maketables_stat__(key) for key in keys]
    assert values[:2] == [180, 18] and values[-1] == found.result.aic
    assert found.__maketables_stat_labels__["groups Subject"] == "Groups: Subject"
