"""Arguments of a fit, and how its search ended, as plain values in a file, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from interlace.design.formula import parse
from interlace.design.labels import as_series
from interlace.design.reads import sides_of
from interlace.errors import InterlaceError
from interlace.estimation.certificate import Convergence
from interlace.glmm.families import NegativeBinomial
from interlace.glmm.heavy import StudentT
from interlace.glmm.names import FAMILIES, Known, family_of
from interlace.glmm.tweedie import Tweedie
from interlace.glmm.zeros import Truncated
from interlace.model.fitted import Options
from interlace.model.stored_rows import index_in, index_out
from interlace.sources.allowed import refuse_code
from interlace.sources.container import Array, Header
from interlace.sources.labels import Packed
from interlace.sources.specs import value_in, value_out

_BY_ROW = ("weights", "offset", "trials", "exposure")


def options_out(options: Options, packed: Packed) -> Header:
    """Arguments as plain values.

    Raises
    ------
    InterlaceError
        A family that is none of this package's, or values by row that are no numbers.
    """
    return {f.name: _out(f.name, getattr(options, f.name), packed) for f in fields(Options)}


def _out(name: str, value: object, packed: Packed) -> Sequence[object]:
    if name in _BY_ROW and not isinstance(value, str | None):
        return _by_row_out(name, value, packed)
    if name == "family" and not isinstance(value, str):
        return _family_out(value)
    if name == "theta0" and value is not None:
        value = np.asarray(value, dtype=np.float64)
    return value_out(value, packed, f"{name}=")


def options_in(stored: Header, arrays: Mapping[str, Array]) -> Options:
    """What :func:`options_out` has written, its formula held to what a file may say."""
    options = Options(**{name: _in(value, arrays) for name, value in stored.items()})  # type: ignore[arg-type]
    if list(stored) != [f.name for f in fields(Options)] or type(options.formula) is not str:
        raise ValueError("options")
    formula = parse(options.formula, groups=options.groups, random=options.random, fixed_alone=True)
    for text in sides_of(formula):
        refuse_code(text)
    return options


def _in(stored: Sequence[Any], arrays: Mapping[str, Array]) -> object:
    match stored:
        case ["rows", str(name), index]:
            values = arrays[name]
            if values.dtype != np.float64 or values.ndim != 1:
                raise ValueError("rows")
            return values if index is None else pd.Series(values, index_in(index, arrays))
        case ["family", str(name), kind, str(link)]:
            return _family_in(name, kind, link)
    return value_in(stored, arrays)


def _by_row_out(name: str, values: Any, packed: Packed) -> Sequence[object]:
    labelled = as_series(values)
    series = pd.Series(values) if labelled is None else labelled
    try:
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InterlaceError(f"{name}= cannot be saved: make it a column of the data") from error
    index = None if labelled is None else index_out(labelled.index, packed)
    return ["rows", packed.add(numbers), index]


def _family_out(family: object) -> Sequence[object]:
    if isinstance(family, Known):
        setting = _setting(family)
        if _family_in(family.name, setting, family.link.name) == family:
            return ["family", family.name, setting, family.link.name]
    raise InterlaceError(f"family={family!r} cannot be saved: name it, and its link by link=")


def _setting(family: Known) -> float | None:
    """The number that a family is set by, if there is one."""
    match family:
        case NegativeBinomial(kind=kind) | Truncated(base=NegativeBinomial(kind=kind)):
            return kind
        case StudentT(df=number) | Tweedie(power=number):
            return None if number is None else float(number)
    return None


def _family_in(name: str, setting: object, link: str) -> Known:
    family = FAMILIES[name]
    match family:
        case NegativeBinomial():
            family = replace(family, kind=_kind(setting))
        case Truncated(base=NegativeBinomial() as base):
            family = replace(family, base=replace(base, kind=_kind(setting)))
        case StudentT() if type(setting) is float:
            family = replace(family, df=setting)
        case Tweedie() if type(setting) is float:
            family = replace(family, power=setting)
        case _ if setting is not None:
            raise ValueError(setting)
    found = family_of(family, link)
    assert isinstance(found, Known)
    return found


def _kind(setting: object) -> Literal[1, 2]:
    """How the variance of a negative binomial rises."""
    if type(setting) is not int or setting not in (1, 2):
        raise ValueError(setting)
    return 1 if setting == 1 else 2


# How a search ended -------------------------------------------------------------------------------

_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("gradient", "newton_eigenvalues"), (np.ndarray,)),
    **dict.fromkeys(("monte_carlo_error", "statistical_error"), (np.ndarray, type(None))),
    **dict.fromkeys(("converged", "doubtful"), (bool,)),
    **dict.fromkeys(("message", "solver"), (str,)),
    **dict.fromkeys(("n_evaluations", "n_basins", "n_starts"), (int,)),
    "predicted_gain": (float,),
}


def certificate_out(convergence: Convergence, packed: Packed) -> Header:
    """A certificate as plain values."""
    return {
        f.name: value_out(getattr(convergence, f.name), packed, f.name) for f in fields(Convergence)
    }


def certificate_in(stored: Header, arrays: Mapping[str, Array]) -> Convergence:
    """What :func:`certificate_out` has written; values of other types raise ``ValueError``."""
    found: dict[str, Any] = {name: value_in(value, arrays) for name, value in stored.items()}
    if list(found) != [f.name for f in fields(Convergence)]:
        raise ValueError("certificate")
    for name, value in found.items():
        if type(value) not in _KINDS.get(name, (int, float, type(None))):
            raise ValueError(name)
    return Convergence(**found)
