"""The one error, the warnings and the check of choices; how a warning finds the user's line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_PACKAGE = str(Path(__file__).parent)


class InterlaceError(ValueError):
    """Wrong input: the message names the column, term or value at fault and the way out."""


class ConvergenceWarning(UserWarning):
    """The optimiser stopped before its certificate of convergence was complete."""


class SingularFitWarning(UserWarning):
    """The estimated covariance of some random effects is singular."""


class UndeterminedWarning(UserWarning):
    """The data do not determine some variances: other values of them fit equally well."""


class RankDeficiencyWarning(UserWarning):
    """Redundant columns of the fixed effects were dropped."""


class SeparationWarning(UserWarning):
    """A coefficient of a generalised model has no finite estimate."""


def choose(
    name: str,
    value: object,
    choices: Sequence[T],
    *,
    one_of: bool = False,
    exact: bool = False,
    where: str = "",
    otherwise: str = "",
) -> T:
    """The choice that a value is.

    Parameters
    ----------
    name, value, choices
        Of the argument, and what it may be.
    one_of
        Say "one of" and list the choices, of which there may be many.
    exact
        The choices are names in the data, where capital letters tell one from another.
    where, otherwise
        What the choices depend on, and how the message ends.

    Raises
    ------
    InterlaceError
        It is none of them.
    """
    if isinstance(value, Hashable):
        for choice in choices:
            if value == choice:
                return choice
        value_here = value if exact else spelled(value, choices)
        if value_here is not value:
            return value_here  # type: ignore[return-value]
    known = f"one of {', '.join(map(repr, choices))}" if one_of else listed(choices)
    raise InterlaceError(f"{name} must be {known}{where}, not {value!r}{otherwise}")


# Other words for choices, folded: what people write elsewhere.
SYNONYMS = {
    "kr": "kenward-roger",
    "kenwardroger": "kenward-roger",
    "pbkrtest": "kenward-roger",
    "satt": "satterthwaite",
    "sat": "satterthwaite",
    "lmertest": "satterthwaite",
    "asymptotic": "normal",
    "z": "normal",
    "wald-z": "normal",
    "boot": "bootstrap",
    "bootstrapped": "bootstrap",
    "prof": "profile",
    "likelihood": "profile",
    "restricted-maximum-likelihood": "REML",
    "maximum-likelihood": "ML",
    "na.omit": "drop",
    "na.fail": "raise",
    "na-omit": "drop",
    "na-fail": "raise",
    "ci": "confidence",
    "pi": "prediction",
    "percentile": "percentile",
    "prob": "probability",
    "class": "category",
    "linear-predictor": "link",
    "linear.predictor": "link",
    "zprob": "zero-probability",
    "para": "parametric",
    "resid": "residual",
    "case": "cases",
    "obs": "observation",
    "row": "observation",
    "groups": "group",
    "cond": "conditional",
    "zi": "zero",
    "zero-inflation": "zero",
    "response": "mean",
    "cum-prob": "cumulative",
    "exc-prob": "exceedance",
}


def spelled(value: object, choices: Iterable[object]) -> object:
    """The choice that a text means: in other letters, or by another word; else the value itself."""
    if not isinstance(value, str) or value in choices:
        return value
    folded = _folded(value)
    for wanted in (folded, _folded(SYNONYMS.get(folded, folded))):
        for choice in choices:
            if isinstance(choice, str) and _folded(choice) == wanted:
                return choice
    return value


def _folded(text: str) -> str:
    """Small letters, words joined by hyphens."""
    return "-".join(text.casefold().replace("_", " ").replace("-", " ").split())


def unknown(what: str, value: object, known: Iterable[str], more: str = "") -> InterlaceError:
    """The error of a name that is none of those known; ``more`` says what else there is."""
    return InterlaceError(f"unknown {what} {value!r}: choose one of {', '.join(known)}{more}")


def listed(choices: Sequence[object]) -> str:
    """``'a', 'b' or 'c'``."""
    quoted = [repr(choice) for choice in choices]
    return " or ".join([", ".join(quoted[:-1])] * (len(quoted) > 1) + quoted[-1:])


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that called it, however deep the call went."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level + 1)
