"""Numbers as papers print them: probabilities, statistics and estimates."""

from __future__ import annotations

import numpy as np

MINUS = "\N{MINUS SIGN}"


def p_value(p: float, *, name: bool = True) -> str:
    """``p = .023`` or ``p < .001``, without the zero that a probability does not need."""
    if np.isnan(p):
        return "p not available" if name else ""
    if p < 0.0005:
        return "p < .001" if name else "<.001"
    text = f"{p:.3f}".removeprefix("0")
    text = "1.000" if p >= 0.9995 else text
    return f"p = {text}" if name else text


def number(value: float, decimals: int) -> str:
    """A number with some decimals; empty for nan, never ``-0.00``."""
    if np.isnan(value):
        return ""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text


def decimals_for(se: float, least: int) -> int:
    """Decimals that show two digits of a standard error, and at least some."""
    if not np.isfinite(se) or se <= 0.0:
        return least
    return int(np.clip(1 - np.floor(np.log10(se)), least, 8))


def degrees(df: float) -> str:
    """Degrees of freedom: whole numbers as such, others with one decimal."""
    return f"{df:.0f}" if abs(df - round(df)) < 0.005 else f"{df:.1f}"


def test(statistic: float, df: float, p: float) -> str:
    """``t(17) = 6.77, p < .001``, or ``z = ...`` where df is infinite."""
    shown = f"z = {statistic:.2f}" if np.isinf(df) else f"t({degrees(df)}) = {statistic:.2f}"
    return f"{shown}, {p_value(p)}"


def stars(p: float) -> str:
    """``***`` below .001, ``**`` below .01, ``*`` below .05."""
    return "" if np.isnan(p) else "*" * sum(p < limit for limit in (0.001, 0.01, 0.05))
