"""``residual="us(visit | subject, by=arm)"``: the text of a residual structure, read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from interlace.covariance.structures import (
    HETEROGENEOUS,
    OF_POINTS,
    OF_TIMES,
    STRUCTURES,
    Structure,
)
from interlace.design.frame import Levels
from interlace.design.variances import VARIANCES, VarianceTerm
from interlace.errors import InterlaceError

_CALL = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
_NAME = re.compile(r"\s*(?:`([^`]+)`|([\w.]+))\s*")
_OPTIONS = ("by", "hom")
# What structures are called elsewhere, in small letters without what is between brackets.
_ELSEWHERE = {
    "un": "us",
    "unstructured": "us",
    "unstr": "us",
    "corsymm": "us",
    "symm": "us",
    "ar": "ar1",
    "corar1": "ar1",
    "arh": "ar1h",
    "arh1": "ar1h",
    "hetar1": "ar1h",
    "corcar1": "car1",
    "sp_pow": "car1",
    "sppow": "car1",
    "sp": "sp_exp",
    "corexp": "sp_exp",
    "ou": "sp_exp",
    "exp": "sp_exp",
    "corgaus": "sp_gau",
    "gau": "sp_gau",
    "corcompsymm": "cs",
    "compound": "cs",
    "exchangeable": "cs",
    "toeplitz": "toep",
    "ante": "adh",
    "antedependence": "adh",
    "vc": "diag",
    "independent": "diag",
    "varexp": "varexp",
}


@dataclass(frozen=True)
class ResidualTerm:
    """One ``structure(visit | subject, by=group) * variance(columns)``, either factor alone too.

    Parameters
    ----------
    structure
        Its name, ``hom=`` taken into account; ``"id"`` for a variance function alone.
    visit
        Column of the visits, or of the times; ``None`` for rows in any order.
    subject
        Columns whose combinations are the subjects; none for rows that are all independent.
    by
        Column of the groups that have a covariance of their own.
    variance
        The variance function.
    beside
        Further coordinates of points, whose distances count.
    """

    structure: str
    visit: str | None
    subject: tuple[str, ...]
    by: str | None = None
    variance: VarianceTerm | None = None
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.visit is None:
            return str(self.variance)
        by = "" if self.by is None else f", by={quoted(self.by)}"
        subject = ":".join(map(quoted, self.subject))
        scaled = "" if self.variance is None else f" * {self.variance}"
        place = ", ".join(map(quoted, (self.visit, *self.beside)))
        return f"{self.structure}({place} | {subject}{by}){scaled}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns read, each once."""
        single = tuple(name for name in (self.visit, self.by) if name is not None)
        scaled = () if self.variance is None else self.variance.columns
        return tuple(dict.fromkeys((*single, *self.beside, *self.subject, *scaled)))

    def of(self, labels: Levels) -> Structure:
        """The structure over visits with these labels."""
        times = labels if self.structure in OF_TIMES else np.arange(len(labels))
        return STRUCTURES[self.structure](times.astype(np.float64))


def parse_residual(text: object) -> ResidualTerm:
    """Read the argument ``residual=`` of a fit.

    Raises
    ------
    InterlaceError
        It is no such text; the message says what is wrong with it.

    Examples
    --------
    >>> print(parse_residual("cs(visit | id, by=arm, hom=False)"))
    csh(visit | id, by=arm)
    """
    if not isinstance(text, str):
        raise InterlaceError(f"residual must be text such as 'us(visit | subject)', not {text!r}")
    found = [_factor(text, part) for part in text.split("*")]
    places = [f for f in found if isinstance(f, ResidualTerm)]
    variances = [f for f in found if isinstance(f, VarianceTerm)]
    if len(places) > 1 or len(variances) > 1:
        raise InterlaceError(
            f"residual={text!r}: one structure and one variance function may be joined by '*'"
        )
    if not places:
        return ResidualTerm("id", None, (), variance=variances[0])
    place = places[0]
    if not variances:
        return place
    if place.structure not in (*HETEROGENEOUS, *OF_TIMES) or place.by is not None:
        has = (
            "a covariance of its own for every group" if place.by else "a variance for every visit"
        )
        raise InterlaceError(
            f"residual={text!r}: {place.structure!r} has {has} already; a variance function scales "
            "structures with one variance, such as 'ar1' or 'cs'"
        )
    return replace(place, variance=variances[0])


def _factor(text: str, part: str) -> ResidualTerm | VarianceTerm:
    """A structure over visits, or a variance function."""
    match = _CALL.fullmatch(part)
    if match is None or (")" in match[2] and "(" not in match[2].partition(")")[0]):
        raise InterlaceError(
            f"residual={text!r} must be a structure over visits within subjects, such as "
            "'us(visit | subject)', a variance function such as 'varident(stratum)', or both "
            "joined by '*'"
        )
    name, inside = match[1], match[2]
    if name.lower() in VARIANCES:
        name = name.lower()
        columns = tuple(_column(text, one) for one in inside.split(":"))
        if name != "varident" and len(columns) > 1:
            raise InterlaceError(f"residual={text!r}: {name} reads one column")
        return VarianceTerm(name, columns)
    name = _known(text, name)
    if inside.count("|") != 1:
        raise InterlaceError(f"residual={text!r} needs one bar: '{name}(visit | subject)'")
    places, _, right = inside.partition("|")
    visit, *beside = places.split(",")
    subject, *rest = right.split(",")
    if beside and name not in OF_POINTS:
        raise InterlaceError(
            f"residual={text!r}: {name} reads one column of visits; distances between points are "
            f"read by {' and '.join(OF_POINTS)}"
        )
    if "/" in subject:
        raise InterlaceError(
            f"residual={text!r}: '/' does not nest here; a covariance for every group is asked "
            "for by 'by=', as in 'us(visit | subject, by=arm)'"
        )
    options = _options(text, rest)
    return ResidualTerm(
        structure=_structure(text, name, options.get("hom")),
        visit=_column(text, visit),
        subject=tuple(_column(text, one) for one in subject.split(":")),
        by=_column(text, options["by"]) if "by" in options else None,
        beside=tuple(_column(text, one) for one in beside),
    )


def _known(text: str, name: str) -> str:
    """The name of a structure, in whatever letters.

    Raises
    ------
    InterlaceError
        There is none of this name; the message has what it may be called here.
    """
    known = [s for s in STRUCTURES if s != "id"]
    if name.lower() in known:
        return name.lower()
    names = [*known, *VARIANCES]
    here = _ELSEWHERE.get(name.lower()) or next(iter(get_close_matches(name.lower(), names, 1)), "")
    meant = f"did you mean {here!r}? There are" if here else "choose one of"
    raise InterlaceError(
        f"residual={text!r}: unknown residual structure {name!r}: {meant} {', '.join(known)}, and "
        f"the variance functions {', '.join(VARIANCES)}"
    )


def _options(text: str, parts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name.strip() == "group":
            raise InterlaceError(
                f"residual={text!r}: a covariance for every group is asked for by 'by=', not "
                "'group='"
            )
        if not equals or name.strip() not in _OPTIONS or name.strip() in found:
            raise InterlaceError(
                f"residual={text!r}: after the subject there may be by=column and hom=True or "
                f"hom=False, each once, not {part.strip()!r}"
            )
        found[name.strip()] = value.strip()
    return found


def _structure(text: str, name: str, hom: str | None) -> str:
    """The name of a structure with equal variances, or with one for every visit."""
    if hom is None:
        return name
    if hom not in ("True", "False"):
        raise InterlaceError(f"residual={text!r}: hom must be True or False, not {hom}")
    if hom == "True":
        equal = {name: name for name in (*HETEROGENEOUS, *OF_TIMES)} | {"diag": "id"}
        found = equal.get(name)
    else:
        found = None if name in OF_TIMES else HETEROGENEOUS.get(name, name)
    if found is None:
        raise InterlaceError(f"residual={text!r}: {name!r} cannot have hom={hom}")
    return found


def _column(text: str, part: str) -> str:
    match = _NAME.fullmatch(part)
    if part.strip() in ("1", "~1", "~ 1"):
        raise InterlaceError(
            f"residual={text!r}: {part.strip()!r} names no visits: name their column; where the "
            "order of the rows counts, make one by data.groupby(subject).cumcount()"
        )
    if "~" in part:
        raise InterlaceError(
            f"residual={text!r}: columns are named without '~', as in 'ar1(visit | subject)'"
        )
    if match is None:
        raise InterlaceError(
            f"residual={text!r}: {part.strip()!r} is not the name of a column (names with other "
            "characters stand between backticks)"
        )
    return str(match[1] or match[2])


def quoted(name: str) -> str:
    """A name of a column as it stands in the text."""
    return name if re.fullmatch(r"[\w.]+", name) else f"`{name}`"
