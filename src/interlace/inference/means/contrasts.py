"""Contrasts of means: their weights, by name, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations, pairwise
from math import gcd, lcm
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from interlace.choices import Contrasted
from interlace.design.frame import Codes, Levels, hint
from interlace.errors import InterlaceError
from interlace.inference.means.averages import Functions
from interlace.sums.terms import Floats

# R's names of the schemes are understood, too.
Method = Contrasted | str | Mapping[str, ArrayLike]

# Contrasts of contrasts: whether, or by which schemes.
Crossing = bool | str | Sequence[str]
# R's names, and others, of the schemes.
_SYNONYMS = {
    "pairs": "pairwise",
    "tukey": "pairwise",
    "revpairwise": "reversed",
    "trt.vs.ctrl": "control",
    "trt.vs.ctrl1": "control",
    "trt.vs.ctrlk": "last",
    "dunnett": "control",
    "poly": "polynomial",
    "consec": "consecutive",
    "mean_chg": "change",
    "eff": "effect",
    "deviation": "effect",
    "del.eff": "others",
}
SCHEMES: tuple[Contrasted, ...] = get_args(Contrasted)
_DEGREES = ("linear", "quadratic", "cubic", "quartic")
_MOST_DEGREES = 6

# Characters that make a level look like arithmetic in the name of a contrast.
_OPERATORS = re.compile(r"[-+*/]")


def scheme(method: Method) -> str:
    """The scheme that a name stands for; ``"custom"`` for weights.

    Raises
    ------
    InterlaceError
        An unknown name.
    """
    if not isinstance(method, str):
        return "custom"
    name = _SYNONYMS.get(method.lower(), method.lower())
    if name not in SCHEMES:
        known = [*SCHEMES, *_SYNONYMS]
        raise InterlaceError(
            f"contrasts must be one of {', '.join(map(repr, SCHEMES))}, or a dict of weights by "
            f"name, not {method!r}{hint(method, known)}"
        )
    return name


def contrasted(
    functions: Functions,
    method: Method,
    *,
    reference: object = None,
    interaction: Crossing = False,
) -> Functions:
    """Contrasts of means within their groups.

    Parameters
    ----------
    functions
        The means.
    method
        A scheme, or weights of the means of a group by the name of the contrast.
    reference
        The level that others are compared with, for ``"control"``; by default the first.
    interaction
        Whether to contrast each factor with the scheme, and the contrasts of one factor with those
        of the next; or the schemes of the factors, in order.

    Returns
    -------
    Functions
        Labelled ``contrast``, then by the columns of the groups.

    Raises
    ------
    InterlaceError
        An unknown scheme, or weights that do not fit the means.
    """
    name = scheme(method)
    if "contrast" in functions.by:
        raise InterlaceError(
            "tables of contrasts have a column 'contrast' of their own: fit with another name, as "
            "in data.rename(columns={'contrast': 'contrast_'})"
        )
    rows, excess, labels = [], [], []
    columns: dict[str, list[Levels]] = {by: [] for by in functions.by}
    for group in functions.groups():
        if interaction:
            C, titles = _crossed(functions, group, _schemes(functions, name, interaction))
        else:
            first = 0 if reference is None else _reference(functions, group, reference)
            C, titles = _weights(name, method, _names(functions, group), first)
        rows.append(C @ np.nan_to_num(functions.L[group], nan=0.0))
        lost = np.isnan(functions.L[group]).any(axis=1)
        rows[-1][(C[:, lost] != 0.0).any(axis=1)] = np.nan
        excess.append(C @ functions.excess[group])
        labels += titles
        for by in functions.by:
            columns[by].append(functions.labels[by][np.full(len(C), group[0])])
    whole = {"contrast": np.array(labels, dtype=object)}
    whole |= {by: np.concatenate(parts) for by, parts in columns.items()}
    return Functions(whole, functions.by, np.concatenate(rows), np.concatenate(excess))


def _weights(
    name: str, method: Method, names: Sequence[str], first: int = 0
) -> tuple[Floats, list[str]]:
    """Weights ``(q, k)`` of a scheme for ``k`` means, and the names of the contrasts.

    ``first`` is the mean that others are compared with.
    """
    k = len(names)
    unit = np.eye(k)
    if name == "custom":
        assert not isinstance(method, str)
        return _given(method, names)
    if name == "effect":
        return unit - 1.0 / k, [f"{one} effect" for one in names]
    if name == "identity":
        return unit, list(names)
    if k < 2:
        raise InterlaceError(
            f"there is one mean in a group ({names[0]}), which has no contrasts: name the factor "
            "to compare in the means, not in by"
        )
    if name == "others":
        return unit - (1.0 - unit) / (k - 1), [f"{one} effect" for one in names]
    if name == "change":
        rows = [np.repeat([-1.0 / i, 1.0 / (k - i)], [i, k - i]) for i in range(1, k)]
        return np.array(rows), [f"{a}|{b}" for a, b in pairwise(names)]
    if name != "polynomial":
        pairs = _pairs(name, k, first)
        rows = [unit[i] - unit[j] for i, j in pairs]
        return np.array(rows), [f"{names[i]} - {names[j]}" for i, j in pairs]
    degrees = range(1, min(k - 1, _MOST_DEGREES) + 1)
    titles = [_DEGREES[d - 1] if d <= len(_DEGREES) else f"degree {d}" for d in degrees]
    return polynomials(k, len(titles)), titles


def _pairs(name: str, k: int, first: int) -> list[tuple[int, int]]:
    """Which means are compared, the second taken from the first."""
    if name == "pairwise":
        return list(combinations(range(k), 2))
    if name == "reversed":
        return [(later, i) for later in range(k) for i in range(later)]
    if name == "consecutive":
        return [(i + 1, i) for i in range(k - 1)]
    one = k - 1 if name == "last" else first
    return [(i, one) for i in range(k) if i != one]


def _schemes(functions: Functions, name: str, interaction: Crossing) -> list[str]:
    """The scheme of every factor.

    Raises
    ------
    InterlaceError
        Weights, or another number of schemes than of factors.
    """
    given = [interaction] if isinstance(interaction, str) else interaction
    names = [name] * len(functions.inner) if isinstance(given, bool) else [scheme(m) for m in given]
    if "custom" in names:
        raise InterlaceError("interaction=True needs a scheme by name, not weights")
    if len(names) != len(functions.inner):
        raise InterlaceError(
            f"interaction= needs a scheme for each of {', '.join(functions.inner)}: "
            f"{len(names)} are given"
        )
    return names


def _crossed(functions: Functions, group: Codes, names: Sequence[str]) -> tuple[Floats, list[str]]:
    """Contrasts of contrasts: products of the weights of every factor, the first running fastest.

    Raises
    ------
    InterlaceError
        The means of the group are not all combinations of the levels of their factors.
    """
    C: Floats = np.ones((1, 1))
    titles = [""]
    for factor, name in zip(functions.inner, names, strict=True):
        values = functions.labels[factor][group]
        levels = list(dict.fromkeys(level_names(factor, values).tolist()))
        own, own_titles = _weights(name, name, levels)
        C = np.asarray(np.kron(own, C), dtype=np.float64)
        titles = [f"{a} : {b}" if a else b for b in own_titles for a in titles]
    if C.shape[1] != len(group):
        raise InterlaceError(
            "interaction=True needs means of all combinations of their factors, and some of "
            f"{', '.join(functions.inner)} do not occur"
        )
    return C, titles


def _given(method: Mapping[str, ArrayLike], names: Sequence[str]) -> tuple[Floats, list[str]]:
    """Weights that the user gave."""
    if not method:
        raise InterlaceError("the dict of contrasts is empty: give weights by name")
    rows = []
    for title, weights in method.items():
        try:
            row = np.asarray(weights, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InterlaceError(f"the weights of '{title}' must be numbers") from error
        if row.shape != (len(names),) or not np.isfinite(row).all():
            raise InterlaceError(
                f"the contrast '{title}' needs {len(names)} finite weights, one for each mean "
                f"({', '.join(names)}), not {np.asarray(weights).tolist()!r}"
            )
        rows.append(row)
    return np.array(rows), [str(title) for title in method]


def _reference(functions: Functions, group: Codes, reference: object) -> int:
    """Position in a group of the mean that others are compared with.

    By its name, or by its levels as they are.
    """
    names = _names(functions, group)
    levels = [functions.labels[name][group].tolist() for name in functions.inner]
    plain = [" ".join(map(str, values)) for values in zip(*levels, strict=True)]
    for known in (names, plain):
        if known.count(str(reference)) == 1:
            return known.index(str(reference))
    raise InterlaceError(
        f"reference {reference!r} is none of the means{hint(str(reference), plain)}"
    )


def _names(functions: Functions, group: Codes) -> list[str]:
    """Names of the means of one group: their levels, numbers with the name of the factor."""
    parts = [level_names(name, functions.labels[name])[group].tolist() for name in functions.inner]
    if not parts:
        return ["overall"] * len(group)
    names = [" ".join(part) for part in zip(*parts, strict=True)]
    return [f"({name})" if _OPERATORS.search(name) else name for name in names]


def level_names(name: str, values: Levels) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Levels as text; if all of them are numbers, after the name of their factor: ``dose10``."""
    texts = [number(v) if isinstance(v, float) else str(v) for v in values.tolist()]
    prefix = name if all(_is_number(t) for t in texts) else ""
    return np.array([prefix + text for text in texts], dtype=object)


def number(value: float) -> str:
    """A number in a label."""
    return f"{value:.6g}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def polynomials(k: int, degrees: int) -> Floats:
    """Orthogonal polynomials on ``k`` equally spaced points as the smallest whole numbers.

    ``(degrees, k)``; the last weight is positive.
    """
    basis = [[Fraction(1)] * k]
    for degree in range(1, degrees + 1):
        row = [Fraction(2 * i - k + 1) ** degree for i in range(k)]
        for other in basis:
            share = _dot(row, other) / _dot(other, other)
            row = [a - share * b for a, b in zip(row, other, strict=True)]
        scale = lcm(*(a.denominator for a in row))
        whole = [int(a * scale) for a in row]
        divisor = gcd(*whole) * (1 if whole[-1] > 0 else -1)
        basis.append([Fraction(a, divisor) for a in whole])
    return np.array([[float(a) for a in row] for row in basis[1:]]).reshape(degrees, k)


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))
