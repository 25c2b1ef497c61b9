"""Means of the parts of a generalised model: of zeros, of all responses, of ordered categories.

On the scale of a linear predictor means over the grid are averages of that, and functions of its
coefficients.  Expected responses and probabilities are averaged themselves, as in R's emmeans: each
is computed in every row of the grid, with random effects of zero, and has its error by the delta
method, all coefficients of the model being estimated together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from interlace.design.design import Design, Encoding
from interlace.design.encode import Encoded
from interlace.design.frame import Column
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.glmm.expected import Expected, expected, of_categories, only, up_to
from interlace.glmm.families import Family
from interlace.glmm.links import LOGIT, Link, Log
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.zeros import Truncated, base_of
from interlace.inference.latent import Given, latent_names
from interlace.inference.means.averages import Functions, means
from interlace.inference.means.grid import Grid
from interlace.inference.means.response import as_parameters
from interlace.inference.means.rows import Seen
from interlace.inference.means.variables import Variables, variables_of
from interlace.model.auxiliary import auxiliary_columns
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.terms import Floats

ZEROS = "zero-inflation"
LOG: Link = Log()
# Ways of means of ordered categories that have a value for every threshold, or category.
CUT, WHOLE = ("linear-predictor", "cumulative", "exceedance"), "probability"


@dataclass(frozen=True, eq=False)
class _Names:
    """Names of coefficients, as an estimate has them."""

    names: tuple[str, ...]

    @property
    def p(self) -> int:
        """How many there are."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class _Estimate:
    A: _Names


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a model with coefficients of its own, as what means ask of a fit."""

    design: Design | None
    data: object
    encoding: Encoding
    estimate: _Estimate


# What the grid is made of ------------------------------------------------------------------------


def seen_of_zeros(model: FittedGeneralModel) -> Seen:
    """The columns that the share of zeros depends on.

    Raises
    ------
    InterlaceError
        The model was fitted without ``zero_inflation=``.
    """
    design = require_rows(model.design, "means of zeros")
    one = design.components.get(ZEROS)
    if ZEROS not in model.family.predictors or one is None:
        raise InterlaceError("component='zero' needs a model with zero_inflation='~ 1'")
    encoding = replace(model.encoding, fixed=one.side)
    names = one.side.names
    rows = replace(
        design, X=one.matrix, names=names, encoding=encoding, factors=one.factors, components={}
    )
    return Seen(Part(rows, model.data, encoding, _Estimate(_Names(names))), variables_of(encoding))


def seen_of_categories(model: FittedGeneralModel) -> Seen:
    """The columns behind ordered categories, with the intercept for which thresholds stand."""
    names = latent_names(model)
    part = Part(model.design, model.data, model.encoding, _Estimate(_Names(names)))
    return Seen(part, variables_of(model.encoding))


def seen_of_all(model: FittedGeneralModel) -> Seen:
    """The columns that expected responses depend on."""
    design = require_rows(model.design, "means of responses")
    found = variables_of(model.encoding)
    for name, one in design.components.items():
        if name == ZEROS or isinstance(_with_law(model.family), Truncated):
            found = _together(found, _variables(model, one))
    return Seen(model, found)


def _with_law(family: Family) -> Family:
    """The law beside zeros, if there is a part for these."""
    return getattr(family, "base", family) if ZEROS in family.predictors else family


def _variables(model: FittedGeneralModel, one: Encoded) -> Variables:
    return variables_of(replace(model.encoding, fixed=one.side))


def _together(a: Variables, b: Variables) -> Variables:
    """Columns that one of two sides reads; rows are encoded as for the first."""
    return replace(
        a,
        names=tuple(dict.fromkeys((*a.names, *b.names))),
        factors={**b.factors, **a.factors},
        terms=(*a.terms, *b.terms),
    )


# What is averaged over it ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Quantity:
    """Something of every row of a grid, or of every row and category.

    ``column`` names the categories ``labels``; ``limits`` is the link on whose scale intervals are
    symmetric, ``None`` for the scale of the values.
    """

    values: tuple[Expected, ...]
    name: str
    limits: Link | None = None
    column: str = ""
    labels: tuple[str, ...] = ()


def response_at(family: Family, eta: Floats, omega: Floats) -> Quantity:
    """Expected responses, zeros included."""
    positive = base_of(family).name not in ("gaussian", "student-t", "binomial", "beta")
    bounded = base_of(family).name in ("binomial", "beta", "beta-binomial")
    limits = LOGIT if bounded else LOG if positive else None
    return Quantity((expected(family, eta, omega),), "response", limits)


def category_at(family: Ordinal, mode: str, response: str, eta: Floats, omega: Floats) -> Quantity:
    """What a mode says of ordered categories.

    ``"mean-class"`` is the mean of 1, 2, ...; ``"linear-predictor"`` is every threshold less the
    linear predictor, ``"cumulative"`` the probability of a category up to it, and ``"exceedance"``
    that of one beyond.
    """
    k = len(omega)
    if mode == "mean-class":
        slopes = family.densities(eta, omega)
        value = family.probabilities(eta, omega) @ np.arange(1.0, k + 2.0)
        return Quantity((Expected(value, slopes.sum(axis=0), -slopes),), "mean_class")
    cuts = tuple(name.removeprefix("threshold:") for name in family.predictors)
    if mode == "linear-predictor":
        one = np.ones_like(eta)
        lines = [Expected(omega[j] - eta, -one, only(k, j, one)) for j in range(k)]
        return Quantity(tuple(lines), "emmean", None, "cut", cuts)
    if mode == "probability":
        each = tuple(of_categories(family, eta, omega))
        return Quantity(each, "probability", LOGIT, response, family.labels)
    below = up_to(family, eta, omega)
    if mode == "exceedance":
        below = [Expected(1.0 - p, -d_eta, -d_omega) for p, d_eta, d_omega in below]
    return Quantity(tuple(below), "probability", LOGIT, "cut", cuts)


def at_grid(model: FittedGeneralModel, grid: Grid) -> tuple[Floats, Floats, Floats, Floats]:
    """Fixed columns (m, p), predictors (m,), and auxiliary columns (K, m, r) and predictors (K, m).

    The columns are those with a coefficient; random effects, offsets and the logarithm of an
    exposure are 0.
    """
    estimate = model.estimate
    X = grid.X[:, grid.X.shape[1] - estimate.A.p :]  # without the intercept of a latent scale
    columns: dict[str, Column] = dict(grid.columns) or {"": np.zeros(grid.size)}
    G = auxiliary_columns(model, columns, grid.size)
    return X, X @ estimate.beta, G, G @ estimate.family_coefficients


def averages(
    model: FittedGeneralModel,
    grid: Grid,
    quantity: Quantity,
    at: tuple[Floats, Floats],
    named: tuple[Sequence[str], Sequence[str]],
    weights: str,
) -> tuple[Grid, Functions, Given]:
    """Means of a quantity: the grid with its categories, functions, and what these are of.

    Parameters
    ----------
    at
        Fixed columns (m, p) and auxiliary columns (K, m, r) of the rows of the grid.
    named
        Columns of the means, and those that make groups; a column of categories that is in neither
        makes groups.
    """
    (X, G), (inner, by) = at, named
    rows = [
        np.column_stack(
            (
                one.value,
                one.d_eta[:, None] * X,
                np.einsum("km,kmr->mr", one.d_omega, G),
            )
        )
        for one in quantity.values
    ]
    if quantity.column:
        grid = _layered(grid, quantity)
        by = by if quantity.column in (*inner, *by) else (*by, quantity.column)
    over = replace(grid, X=np.concatenate(rows))
    found = means(over, inner, by, weights)
    known = found.estimable
    value, J = found.L[known, 0], found.L[known, 1:]
    return over, *as_parameters(found, value, J @ model.estimate.joint_covariance @ J.T)


@dataclass(frozen=True, eq=False)
class _Layers(Grid):
    """A grid once for every category of the response, which the rows do not tell apart."""

    of: Grid

    @property
    def counts(self) -> Floats:
        """Those of the grid, for every category."""
        return np.tile(self.of.counts, self.size // self.of.size)


def _layered(grid: Grid, quantity: Quantity) -> Grid:
    """The grid with the categories of a quantity as its last column.

    Raises
    ------
    InterlaceError
        A column of the fixed effects has the name of theirs.
    """
    name, k = quantity.column, len(quantity.labels)
    if name in grid.values:
        raise InterlaceError(f"the fixed effects read a column {name!r}, which names categories")
    labels = np.array(quantity.labels, dtype=object)
    size = int(np.prod([len(v) for v in grid.values.values()], initial=1))
    columns: dict[str, Column] = {
        key: np.concatenate([np.asarray(values)] * k) for key, values in grid.columns.items()
    }
    return _Layers(
        seen=grid.seen,
        values={**grid.values, name: labels},
        nesting=grid.nesting,
        columns={**columns, name: np.repeat(labels, grid.size)},
        number=np.concatenate([grid.number + size * j for j in range(k)]),
        X=np.concatenate([grid.X] * k),
        excess=np.concatenate([grid.excess] * k),
        of=grid,
    )
