"""Linear hypotheses on the fixed effects: those of analysis-of-variance tables, and the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.linalg import qr

from interlace.design.design import Design
from interlace.design.frame import Codes, hint
from interlace.errors import InterlaceError
from interlace.inference.effects import Effect, FixedPart, effects_of, part_of_rows
from interlace.inference.estimable import marginal
from interlace.inference.expressions import linear
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats

Hypothesis: TypeAlias = (
    ArrayLike | pd.DataFrame | Mapping[str, float] | str | Sequence[str | Mapping[str, float]]
)

TYPES: Mapping[object, int] = {1: 1, 2: 2, 3: 3, "1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}

# A hypothesis follows from others if less than this share of its length is left without them.
_REDUNDANT = 1e-10


# Analysis of variance -----------------------------------------------------------------------------


def term_hypotheses(
    design: Design | FixedPart, names: Sequence[str], type: int | str = 3
) -> dict[str, Floats]:
    """Hypotheses of an analysis-of-variance table: that a term of the fixed effects does nothing.

    Parameters
    ----------
    design
        The rows of the model, or what tests need of them.
    names
        Names of the ``p`` coefficients (``CrossProducts.names``): redundant columns have none.
    type
        1, 2 or 3, or ``"I"``, ``"II"``, ``"III"``:

        1. sequential: every term adjusted for those before it;
        2. every term adjusted for all terms that do not contain it;
        3. marginal: averages over the levels of the other factors, all levels counting alike,
           whatever the contrasts of the fit.

    Returns
    -------
    dict
        Label of the term -> ``L`` (q, p) of full row rank, for all terms that have a coefficient
        but the intercept; the hypothesis is ``L beta = 0``.

    Raises
    ------
    InterlaceError
        An unknown type; for type 3, contrasts that do not span the differences of the levels, or
        numeric columns so far from zero that effects cannot be told apart.

    Notes
    -----
    The three types are those of SAS (SAS Institute, *The Four Types of Estimable Functions*), as
    lmerTest computes them for mixed models.  For types 1 and 2, ``L`` are rows of the Cholesky
    factor of ``X'X``, without weights, for type 2 with the terms that contain the term moved behind
    it.

    For type 3 take the functions of the effect and of all effects that contain it, and there the
    orthogonal complement of those of the latter alone, the coefficients being those of the model
    with an indicator for each level of every factor.  A term contains another if it has the same
    numeric columns, and its factors and more, coded alike; ``a:b`` in ``a + a:b`` stands for ``b``
    too and does not contain ``a``.  A transform of several columns (``poly(x, 2)``) counts as a
    factor there, as in lmerTest; a column of booleans is a number.

    A joint F test is the same for all ``L`` with the same row space, but Satterthwaite's degrees of
    freedom for it are not; the rows are therefore those of lmerTest.  An effect that nothing
    contains is tested by its own coefficients for types 2 and 3, unless it is the only one beside
    the intercept.  Where the intercept, a
    margin (``a + a:b``) or connections between cells are missing, these are treatment contrasts for
    type 3, and for type 2 those of the fit.

    Examples
    --------
    >>> from interlace import datasets
    >>> from interlace.design.design import assemble
    >>> from interlace.design.formula import parse
    >>> design = assemble(parse("distance ~ age * Sex + (1 | Subject)"), datasets.load("orthodont"))
    >>> for term, L in term_hypotheses(design, design.names, type=3).items():
    ...     print(term, (L.round(2) + 0.0).tolist())
    age [[0.0, 1.0, 0.0, 0.5]]
    Sex [[0.0, 0.0, 1.0, 0.0]]
    age:Sex [[0.0, 0.0, 0.0, 1.0]]
    """
    kind = TYPES.get(type)
    if kind is None:
        if not isinstance(type, int | str):
            raise InterlaceError("anova() of a model takes a type: compare interlace.anova(a, b)")
        raise InterlaceError(f"type must be 1, 2 or 3 (or 'I', 'II', 'III'), not {type!r}")
    part = design if isinstance(design, FixedPart) else part_of_rows(design)
    kept = columns_kept(part.names, names)
    effects = effects_of(part, names)
    alone = len(effects) == 2 and not effects[0].factors  # nothing to be marginal to
    if len(effects) == 1:  # no intercept: the coefficients themselves
        found = [np.eye(len(names))]
    elif kind == 3 and not alone:
        found = marginal(part, effects, kept)
    else:
        root = _triangular(part.X[:, kept]) if part.root is None else part.root
        found = _sequential(effects, root, kind == 2 and not alone)
    tables = zip(effects, found, strict=True)
    return {effect.label: L for effect, L in tables if effect.factors and len(L)}


def _sequential(effects: Sequence[Effect], X: Floats, containment: bool) -> list[Floats]:
    """Every effect adjusted for all that neither follow nor, with ``containment``, contain it.

    The rows of ``R beta``, ``X = Q R``, that belong to an effect are its coefficients after the
    columns before it are projected out, free of these.
    """
    R = _triangular(X)
    found = []
    for i, effect in enumerate(effects):
        last = [e for e in effects if effect.within(e)] if containment else effects[i + 1 :]
        if containment and not last:  # adjusted for all others: its own coefficients
            found.append(np.eye(R.shape[1])[effect.kept])
            continue
        first = [e for e in effects if e is not effect and e not in last]
        order: Codes = np.concatenate([e.kept for e in (*first, effect, *last)])
        start = sum(len(e.kept) for e in first)
        rows = slice(start, start + len(effect.kept))
        triangular = _triangular(R[:, order])[rows]
        L = np.zeros((len(effect.kept), len(order)))
        L[:, order] = triangular / np.diag(triangular[:, rows])[:, None]
        found.append(L)
    return found


def _triangular(X: Floats) -> Floats:
    """``R`` of ``X = Q R``."""
    (R,) = qr(X, mode="r")  # by scipy, whose `r` comes in a tuple
    return np.asarray(R[: X.shape[1]], dtype=np.float64)


# The user's ---------------------------------------------------------------------------------------


def linear_hypothesis(
    names: Sequence[str], hypothesis: Hypothesis, value: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Linear functions of the coefficients and their values, from what users write.

    Parameters
    ----------
    names
        Names of the ``p`` coefficients.
    hypothesis
        One of

        - text, or a list of texts: ``"Days = 0"``, ``"2*a - b = 1"``, ``"a[T.x] = a[T.y]"``;
          without ``=`` the function is compared with 0;
        - a dict of weights by coefficient, or a list of them;
        - an array ``(p,)`` or ``(q, p)``, weights in the order of ``names``;
        - a DataFrame with a row for each function and coefficients as columns.
    value
        ``(q,)`` values of the functions under the hypothesis, or one for all; 0 by default.  Text
        holds its own.

    Returns
    -------
    L
        ``(q, p)`` weights, of full row rank.
    value
        ``(q,)``; the hypothesis is ``L beta = value``.

    Raises
    ------
    InterlaceError
        An unknown coefficient, text that is not linear, an array of the wrong shape, or a function
        that follows from others.

    Examples
    --------
    >>> names = ["Intercept", "recipe[T.B]", "recipe[T.C]"]
    >>> linear_hypothesis(names, "recipe[T.B] = 2 * recipe[T.C] + 1")
    (array([[ 0.,  1., -2.]]), array([1.]))
    >>> L, value = linear_hypothesis(names, [{"recipe[T.B]": 1}, {"recipe[T.C]": 1}], [0, 2])
    >>> L.tolist(), value.tolist()
    ([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 2.0])
    """
    names = list(names)
    parts = _as_list(hypothesis)
    if parts is None:
        L, constants = _weights(names, hypothesis), None
        labels = [f"number {i} (counted from 0)" for i in range(len(L))]
    else:
        rows = [
            linear(part, names) if isinstance(part, str) else (_from_dict(part, names), 0.0)
            for part in parts
        ]
        L = np.array([row for row, _ in rows]).reshape(len(rows), len(names))
        constants = np.array([constant for _, constant in rows])
        labels = [repr(part) for part in parts]
    _refuse_unusable(L, labels)
    texts = [part for part in parts or () if isinstance(part, str)]
    return L, _values(value, len(L), constants, texts)


def _as_list(hypothesis: Hypothesis) -> list[str | Mapping[str, float]] | None:
    """Texts and dicts of a hypothesis; ``None`` if it is an array or a frame."""
    if isinstance(hypothesis, str | Mapping):
        return [hypothesis]
    if isinstance(hypothesis, list | tuple) and any(
        isinstance(part, str | Mapping) for part in hypothesis
    ):
        for part in hypothesis:
            if not isinstance(part, str | Mapping):
                raise InterlaceError(
                    f"a list of hypotheses holds texts or dicts of weights, not {part!r}"
                )
        return list(hypothesis)
    return None


def _from_dict(weights: Mapping[str, float], names: Sequence[str]) -> Floats:
    row = np.zeros(len(names))
    for name, weight in weights.items():
        row[_position(name, names)] = _numbers(weight, f"the weight of '{name}'")
    return row


def _weights(names: Sequence[str], hypothesis: Hypothesis) -> Floats:
    """Weights ``(q, p)`` of an array or a frame."""
    if isinstance(hypothesis, pd.DataFrame):
        L = np.zeros((len(hypothesis), len(names)))
        positions = [_position(name, names) for name in hypothesis.columns]
        L[:, positions] = _numbers(hypothesis, "the weights")
        return L
    given = _numbers(hypothesis, "the weights")
    L = np.atleast_2d(given)
    if L.ndim != 2 or L.shape[1] != len(names):
        raise InterlaceError(
            f"a hypothesis needs {len(names)} weights, one for each coefficient "
            f"({', '.join(names)}), not an array of shape {given.shape}"
        )
    return L


def _position(name: object, names: Sequence[str]) -> int:
    if name not in names:
        raise InterlaceError(f"the model has no coefficient '{name}'{hint(str(name), names)}")
    return list(names).index(str(name))


def _numbers(values: object, what: str) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InterlaceError(f"{what} must be numbers, not {values!r}") from error
    if not np.isfinite(numbers).all():
        raise InterlaceError(f"{what} must be finite, not {values!r}")
    return numbers


def _values(
    value: ArrayLike | None, q: int, constants: Floats | None, texts: Sequence[str]
) -> Floats:
    if value is None:
        return np.zeros(q) if constants is None else constants
    if texts:
        raise InterlaceError(f"value cannot be given with text: write it into {texts[0]!r}")
    values = _numbers(value, "value")
    if values.shape not in ((), (q,)):
        raise InterlaceError(
            f"value must hold one number for each of the {q} functions, not shape {values.shape}"
        )
    return np.broadcast_to(values, q).copy()


def _refuse_unusable(L: Floats, labels: Sequence[str]) -> None:
    """Refuse functions without a coefficient, and those that follow from the ones before."""
    if not len(L):
        raise InterlaceError("the hypothesis is empty: give at least one function")
    basis = np.zeros((0, L.shape[1]))
    for row, label in zip(L, labels, strict=True):
        size = np.abs(row).max(initial=0.0)
        if size == 0.0:
            raise InterlaceError(f"hypothesis {label} holds no coefficient")
        unit = row / np.linalg.norm(row)
        rest = unit - (unit @ basis.T) @ basis
        rest -= (rest @ basis.T) @ basis
        norm = np.linalg.norm(rest)
        if norm < _REDUNDANT:
            raise InterlaceError(
                f"hypothesis {label} is redundant: the functions before it determine its left side"
            )
        basis = np.vstack((basis, rest / norm))
