"""Fits that many tests ask about, made once a process: what a result returns cannot change it."""

from __future__ import annotations

import functools
import warnings

import interlace
from dense import FORMULAS, frame
from reference import cases


def of_case(name: str, method: str = "REML") -> interlace.CrossedLMEResult:
    """A model of the reference files, in either spelling of the method."""
    return _of_case(name, method.upper())


@functools.cache
def _of_case(name: str, method: str) -> interlace.CrossedLMEResult:
    case = cases.load_case(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.errors.SingularFitWarning)  # some are on purpose
        return interlace.fit(case.formula, case.data, method=method, **case.arguments)


def of_small(name: str, weighted: bool = False) -> interlace.CrossedLMEResult:
    """One of the small models with known matrices, or a formula for their data."""
    return _of_small(name, weighted)


@functools.cache
def _of_small(name: str, weighted: bool) -> interlace.CrossedLMEResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", interlace.errors.SingularFitWarning)
        return interlace.fit(FORMULAS.get(name, name), frame(), weights="w" if weighted else None)
