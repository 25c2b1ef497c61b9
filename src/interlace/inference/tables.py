"""Coefficient tables, analysis-of-variance tables and Wald tests, whatever the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from scipy.special import ndtr, stdtr

from interlace.choices import Ddf
from interlace.errors import InterlaceError, choose
from interlace.estimation.estimate import Estimate
from interlace.inference.effects import FixedPart, part_of_rows, part_of_sums
from interlace.inference.hypotheses import Hypothesis, linear_hypothesis, term_hypotheses
from interlace.inference.kenward_roger import KenwardRoger
from interlace.inference.satterthwaite import Satterthwaite
from interlace.inference.wald import FTest, Normal, Reference
from interlace.inference.wald import Rescaled as Rescaled
from interlace.model.confidence import check_level, reach
from interlace.model.fitted import DDF
from interlace.model.optimum import AnyEstimate, SummedEstimate
from interlace.model.reference import standard_errors
from interlace.sums.sizes import in_units_or_nan
from interlace.sums.terms import Floats

if TYPE_CHECKING:
    from interlace.model.fitted import Labelled

REFERENCES: Mapping[Ddf, Callable[[Estimate], Reference]] = {
    "normal": Normal,
    "satterthwaite": Satterthwaite,
    "kenward-roger": KenwardRoger,
}


def reference(estimate: AnyEstimate, ddf: str) -> Reference:
    """What estimates are compared with, by the name of the method.

    Raises
    ------
    InterlaceError
        An unknown name, Kenward-Roger for a fit by ML, or degrees of freedom for a model that is
        not Gaussian.
    """
    name = choose("ddf", ddf, DDF, one_of=True)
    if isinstance(estimate, Estimate):
        return REFERENCES[name](estimate)
    if name != "normal":
        raise InterlaceError(
            f"ddf={ddf!r} is for Gaussian models: tests of other families refer to the normal "
            f"distribution; leave ddf out"
        )
    return Normal(estimate)


# ------------------------------------------------------------------ single functions


class Coefficient(Protocol):
    """What has coefficients."""

    @property
    def beta(self) -> Floats: ...


def function_table(
    estimate: Coefficient,
    reference: Reference,
    L: Floats,
    labels: list[str],
    *,
    value: Floats | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Estimate, test of ``L beta = value`` row by row, and interval of every row of ``L`` (c, p).

    The statistic is t, or z where the degrees of freedom are infinite.
    """
    check_level(level)
    found = L @ estimate.beta
    se = standard_errors(reference, L)
    df = reference.df(L)
    statistic = (found if value is None else found - value) / se
    half = reach(level, df) * se
    columns = {
        "estimate": found,
        "se": se,
        "df": df,
        "statistic": statistic,
        "p": two_sided(statistic, df),
        "lower": found - half,
        "upper": found + half,
    }
    return pd.DataFrame(columns, index=labels)


def two_sided(statistic: Floats, df: Floats) -> Floats:
    """Probability of a larger absolute value, t with ``df`` degrees of freedom or normal."""
    tail = -np.abs(statistic)
    finite = np.where(np.isinf(df), 1.0, df)
    return np.asarray(2.0 * np.where(np.isinf(df), ndtr(tail), stdtr(finite, tail)))


def coefficient_table(
    estimate: AnyEstimate, reference: Reference, *, level: float = 0.95
) -> pd.DataFrame:
    """:func:`function_table` of the coefficients themselves."""
    names = list(estimate.A.names)
    return function_table(estimate, reference, np.eye(len(names)), names, level=level)


# ------------------------------------------------------------------ several at once


@dataclass(frozen=True, eq=False)
class WaldTest:
    """Joint test of linear hypotheses on the fixed effects.

    Attributes
    ----------
    statistic, num_df, den_df, p_value
        F statistic (chi-squared over ``num_df`` where ``den_df`` is infinite) and its test.
    table
        Each hypothesis by itself: ``estimate`` of the left side, ``se, df, statistic, p`` of its
        difference from the right side, and the interval ``lower, upper`` of the left side.
    """

    statistic: float
    num_df: int
    den_df: float
    p_value: float
    table: pd.DataFrame

    def __repr__(self) -> str:
        table = self.table.to_string(float_format=lambda number: f"{number:.5g}")
        return f"{table}\n\n{self._joint()}"

    def _repr_html_(self) -> str:
        """The tests one by one and together, for notebooks."""
        table = self.table.to_html(float_format=lambda number: f"{number:.5g}")
        return f"<div>{table}<p>{self._joint()}</p></div>"

    def _joint(self) -> str:
        if np.isinf(self.den_df):
            chi2 = self.statistic * self.num_df
            return f"Chi-squared = {chi2:.4f}, {self.num_df} df, p = {self.p_value:.4g}"
        df = f"{self.num_df} and {self.den_df:.2f} df"
        return f"F = {self.statistic:.4f}, {df}, p = {self.p_value:.4g}"


def wald_test(
    names: Sequence[str],
    estimate: Coefficient,
    reference: Reference,
    hypothesis: Hypothesis,
    *,
    level: float = 0.95,
) -> WaldTest:
    """Joint and single tests of hypotheses; see the method ``wald_test``."""
    L, value = linear_hypothesis(names, hypothesis)
    joint = reference.f_test(L, value)
    labels = [equation(row, right, names) for row, right in zip(L, value, strict=True)]
    table = function_table(estimate, reference, L, labels, value=value, level=level)
    return WaldTest(joint.statistic, joint.numerator_df, joint.denominator_df, joint.p_value, table)


def equation(row: Floats, right: float, names: Sequence[str]) -> str:
    """One hypothesis in words: ``"Days - 2 Intercept = 0"``."""
    text = ""
    for weight, name in zip(row, names, strict=True):
        if weight:
            sign = "-" if weight < 0 else "+"
            size = "" if abs(weight) == 1.0 else f"{abs(weight):.6g} "
            text += f" {sign} {size}{name}"
    return f"{text.removeprefix(' + ').strip()} = {right:.6g}"


def _fixed_part(model: Labelled[Any]) -> FixedPart:
    """The fixed part of rows that are held, or of sums over them."""
    if model.design is None:
        return part_of_sums(model.encoding, model.estimate.A)
    return part_of_rows(model.design)


def anova_table(
    model: Labelled[SummedEstimate],
    reference: Reference,
    *,
    type: int | str = 3,
    scale: float | None = None,
) -> pd.DataFrame:
    """Test of every fixed term; see the method ``anova``.

    Without a ``scale`` there are no sums of squares.
    """
    A = model.estimate.A
    hypotheses: Mapping[str, Floats] = term_hypotheses(_fixed_part(model), A.names, type)
    tests = {label: reference.f_test(L) for label, L in hypotheses.items()}
    rows = [_anova_row(test, 1.0 if scale is None else scale) for test in tests.values()]
    columns = ["sum_sq", "mean_sq", "num_df", "den_df", "F", "p"]
    table = pd.DataFrame(rows, index=pd.Index(tests, name="term"), columns=columns)
    table = table.astype({name: int if name == "num_df" else float for name in columns})
    return table if scale is not None else table.drop(columns=columns[:2])


def chi_squared_table(
    model: Labelled[Any],
    reference: Reference,
    *,
    type: int | str = 3,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Wald's chi-squared test of every fixed term of a model without residual degrees of freedom.

    ``names`` are those of the coefficients of the reference, by default of the fixed effects.

    Raises
    ------
    InterlaceError
        An unknown type, or type 1.
    """
    if type in (1, "1", "I"):
        raise InterlaceError(
            "type=1 tests terms in turn, which in a generalised model takes a fit for each: use "
            "type=2 or 3, or interlace.anova() of the models"
        )
    part = _fixed_part(model)
    names = model.estimate.A.names if names is None else names
    hypotheses: Mapping[str, Floats] = term_hypotheses(part, names, type)
    tests = {label: reference.f_test(L) for label, L in hypotheses.items()}
    return pd.DataFrame(
        {
            "Chisq": [test.statistic * test.numerator_df for test in tests.values()],
            "Df": [test.numerator_df for test in tests.values()],
            "p": [test.p_value for test in tests.values()],
        },
        index=pd.Index(tests, name="term"),
    )


def in_squared_units(table: pd.DataFrame, power: int) -> pd.DataFrame:
    """An anova table with sums of squares in units of the response ``2^power``.

    Those that are not in the range of double precision are NaN.
    """
    squares = ["sum_sq", "mean_sq"]
    found = in_units_or_nan(table[squares].to_numpy(), 2 * power)
    return table.assign(**dict(zip(squares, found.T, strict=True)))


def _anova_row(test: FTest, scale: float) -> tuple[float, ...]:
    """Sums of squares are those that give the unscaled F with the residual variance."""
    mean = test.statistic / test.scaling * scale
    q = test.numerator_df
    return mean * q, mean, q, test.denominator_df, test.statistic, test.p_value
