"""What is true of the auxiliary predictors in a power analysis: dispersions, zeros, thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from interlace.design.design import Design
from interlace.design.frame import hint
from interlace.errors import InterlaceError
from interlace.glmm.families import Family
from interlace.glmm.names import with_zeros
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.parts import constant_of
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.terms import Floats

_THRESHOLD = "threshold:"


@dataclass(frozen=True, eq=False)
class Beside:
    """Coefficients in the user's units of every auxiliary predictor, by the columns of its formula.

    A predictor that is the same in every row has one, of the ``"Intercept"``.
    """

    coefficients: Mapping[str, Mapping[str, float]]

    def omega(self, design: Design) -> Floats:
        """The predictors of the rows of a design, ``(K, n)``.

        Raises
        ------
        InterlaceError
            A formula has other columns there.
        """
        rows = [self._of(name, design) for name in self.coefficients]
        return np.array(rows).reshape(len(rows), len(design.y))

    def _of(self, name: str, design: Design) -> Floats:
        told, one = self.coefficients[name], design.components.get(name)
        if one is None:
            return np.full(len(design.y), told["Intercept"])
        if set(one.side.names) != set(told):
            raise InterlaceError(
                f"the design has the columns {', '.join(one.side.names)} of the formula of "
                f"{name!r}, and the fit had {', '.join(told)}: it must show all levels of its "
                "factors"
            )
        return np.asarray(one.matrix @ np.array([told[column] for column in one.side.names]))


def of_fit(model: FittedGeneralModel) -> Beside:
    """What a fit has found."""
    parts, found = model.estimate.problem.parts, dict[str, dict[str, float]]()
    values = model.estimate.family_coefficients.tolist()
    for name, term, value in zip(parts.predictor, parts.term, values, strict=True):
        found.setdefault(name, {})[term or "Intercept"] = value
    return Beside(found)


def of_words(
    family: Family, dispersion: float | Mapping[str, float] | None, zeros: float | None
) -> tuple[Family, Beside]:
    """What a user says, and the family with its zeros and its categories; see ``interlace.power``.

    Raises
    ------
    InterlaceError
        A value is missing, unknown or out of range.
    """
    told = _by_name(family, dispersion)
    if isinstance(family, Ordinal) and not family.labels:
        family = replace(family, labels=_labels(tuple(told)))
    if zeros is not None:
        if not 0.0 < zeros < 1.0:
            raise InterlaceError(f"zero_inflation must be a share above 0 and below 1: {zeros!r}")
        family = with_zeros(family)
        told["zero-inflation"] = float(np.log(zeros / (1.0 - zeros)))
    for name in told:
        if name not in family.predictors:
            raise InterlaceError(
                f"family={family.name!r} has no parameter {name!r}{hint(name, family.predictors)}"
            )
    return family, Beside(
        {name: {"Intercept": _constant(name, told)} for name in family.predictors}
    )


def _by_name(family: Family, dispersion: float | Mapping[str, float] | None) -> dict[str, float]:
    """Values by the name of the predictor; one number where there is one."""
    names = family.predictors
    if isinstance(dispersion, Mapping):
        prefix = _THRESHOLD if isinstance(family, Ordinal) else ""
        return {prefix + str(k).removeprefix(prefix): v for k, v in dispersion.items()}
    if isinstance(family, Ordinal) or len(names) > 1:
        what = "thresholds" if isinstance(family, Ordinal) else " and ".join(names)
        example = "{'low|mid': -1, 'mid|high': 1}" if isinstance(family, Ordinal) else _of(names)
        raise InterlaceError(
            f"family={family.name!r} has several parameters beside the mean, {what}: give "
            f"dispersion={example}"
        )
    if len(names) != (dispersion is not None):
        raise InterlaceError(
            f"give dispersion=, the {names[0]} of family={family.name!r}"
            if names
            else f"family={family.name!r} has no parameter beside the mean: leave dispersion= out"
        )
    return {} if dispersion is None else {names[0]: dispersion}


def _of(names: tuple[str, ...]) -> str:
    return "{" + ", ".join(f"{name!r}: .." for name in names) + "}"


def _labels(names: tuple[str, ...]) -> tuple[str, ...]:
    """Categories from thresholds between them, in their order."""
    pairs = [name.removeprefix(_THRESHOLD).split("|") for name in names]
    chained = all(len(pair) == 2 for pair in pairs) and all(
        a[1] == b[0] for a, b in pairwise(pairs)
    )
    if not pairs or not chained:
        raise InterlaceError(
            "thresholds are named by the categories on both sides, in order: "
            "dispersion={'low|mid': -1, 'mid|high': 1}"
        )
    return (pairs[0][0], *(pair[1] for pair in pairs))


def _constant(name: str, told: Mapping[str, float]) -> float:
    """The constant of a predictor."""
    if name not in told:
        raise InterlaceError(f"give a value for the parameter {name!r} in dispersion=")
    value = told[name]
    found = constant_of(name, value) if isinstance(value, int | float | np.number) else np.nan
    if not np.isfinite(found):
        kind = "a number" if constant_of(name, -1.0) == -1.0 else "a positive number"
        kind = "a number above 1 and below 2" if name == "power" else kind
        raise InterlaceError(f"dispersion must be {kind}, not {value!r}, for the {name}")
    return found
