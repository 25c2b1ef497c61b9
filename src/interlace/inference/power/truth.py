"""What is simulated: coefficients, covariances of random effects, and a residual variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interlace.covariance.templates import canonical
from interlace.design.design import Design
from interlace.design.frame import hint
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.glmm.estimate import GeneralEstimate
from interlace.sums.terms import Floats, ReTerm

# Share of a covariance by which it may miss the structure of its term.
_UNLIKE = 1e-6
# What a grouping factor may vary with: a standard deviation, several by column, or a covariance.
Spread = float | Mapping[str, float] | pd.Series | pd.DataFrame | ArrayLike
Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Truth:
    """Coefficients by name, templates by grouping factor and columns, and ``sigma``."""

    beta: Mapping[str, float]
    templates: Mapping[Key, Floats]
    sigma: float

    def with_effects(self, effects: Mapping[str, float] | None) -> Truth:
        """With other values of some coefficients.

        Raises
        ------
        InterlaceError
            A name is no coefficient, or a value no number.
        """
        changed = dict(self.beta)
        for name, value in (effects or {}).items():
            if name not in changed:
                known = list(changed)
                raise InterlaceError(f"effects: no coefficient '{name}'{hint(str(name), known)}")
            changed[name] = _number(value, f"effects: the coefficient '{name}'")
        return replace(self, beta=changed)

    def coefficients(self, names: Sequence[str]) -> Floats:
        """Values in the order of the coefficients of a design.

        Raises
        ------
        InterlaceError
            The design has other coefficients.
        """
        lost = [name for name in self.beta if name not in names]
        new = [name for name in names if name not in self.beta]
        if lost or new:
            what = f"has no {', '.join(lost)}" if lost else f"has {', '.join(new)} beside them"
            raise InterlaceError(
                f"the design {what}: it must show all levels of the factors of the fixed effects, "
                "and a value must be given for each coefficient"
            )
        return np.array([self.beta[name] for name in names])

    def of(self, terms: Sequence[ReTerm]) -> list[Floats]:
        """Templates in the order of the terms of a design."""
        return [self.templates[term.group, term.columns] for term in terms]


def of_estimate(estimate: Estimate) -> Truth:
    """What a fit has found."""
    return truth_of(estimate, estimate.sigma)


def truth_of(estimate: Estimate | GeneralEstimate, sigma: float) -> Truth:
    """What a fit has found, whose templates are relative to ``sigma``; 1 if they are not."""
    A = estimate.A
    pairs = zip(A.terms, estimate.user_templates, strict=True)
    return Truth(
        dict(zip(A.names, estimate.beta.tolist(), strict=True)),
        {(term.group, term.columns): T for term, T in pairs},
        sigma,
    )


def described(
    design: Design,
    names: Sequence[str],
    fixed: Mapping[str, float],
    random: Mapping[str, Spread],
    sigma: float,
) -> Truth:
    """What a user says of a model; see :func:`interlace.power`.

    Raises
    ------
    InterlaceError
        A coefficient or a grouping factor is unknown or absent, or a value makes no sense.
    """
    for kind, known, given in (
        ("coefficient", list(names), list(fixed)),
        ("grouping factor", [t.group for t in design.terms], list(random)),
    ):
        for name in given:
            if name not in known:
                raise InterlaceError(f"the model has no {kind} '{name}'{hint(str(name), known)}")
        for name in known:
            if name not in given:
                raise InterlaceError(f"give a value for the {kind} '{name}'")
    if not sigma > 0.0:
        raise InterlaceError(f"sigma must be a positive number, not {sigma!r}")
    beta = {name: _number(fixed[name], f"the coefficient '{name}'") for name in names}
    templates = {
        (t.group, t.columns): _template(t, design.terms, random[t.group]) / sigma
        for t in design.terms
    }
    return Truth(beta, templates, float(sigma))


def _template(term: ReTerm, terms: Sequence[ReTerm], spread: Spread) -> Floats:
    """``L`` with ``L L'`` the covariance of one term of a grouping factor."""
    all_columns = [c for t in terms if t.group == term.group for c in t.columns]
    covariance = _covariance(term.group, all_columns, spread)
    own = [all_columns.index(column) for column in term.columns]
    part = covariance[np.ix_(own, own)]
    if not term.correlated and np.abs(part - np.diag(np.diag(part))).max(initial=0.0) > 0.0:
        raise InterlaceError(
            f"the random effects of '{term.group}' are independent in the formula (||): give "
            "standard deviations, or a diagonal covariance"
        )
    values, vectors = np.linalg.eigh(part)
    if values.min() < -1e-8 * max(values.max(), 1.0):
        raise InterlaceError(f"the covariance of '{term.group}' is not positive semidefinite")
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    found = term.template.canonical(canonical(root))
    if np.abs(found @ found.T - part).max() > _UNLIKE * np.abs(part).max():
        raise InterlaceError(
            f"the covariance given for '{term.group}' is none of the structure that the formula "
            f"names, {term.template.name}"
        )
    return found


def _covariance(group: str, columns: Sequence[str], spread: Spread) -> Floats:
    """The covariance of all columns of a grouping factor."""
    if isinstance(spread, pd.DataFrame):
        lost = [c for c in columns if c not in spread.index or c not in spread.columns]
        if lost:
            raise InterlaceError(f"the covariance of '{group}' has no row and column '{lost[0]}'")
        return spread.loc[list(columns), list(columns)].to_numpy(dtype=np.float64)
    if isinstance(spread, Mapping | pd.Series):
        given = dict(spread.items())
        for name in given:
            if name not in columns:
                raise InterlaceError(f"'{group}' has no column '{name}'{hint(str(name), columns)}")
        lost = [c for c in columns if c not in given]
        if lost:
            raise InterlaceError(f"give the standard deviation of '{lost[0]}' by '{group}'")
        sds = np.array([_number(given[c], f"the deviation of '{c}'") for c in columns])
    else:
        values = np.asarray(spread, dtype=np.float64)
        if values.ndim == 2 and values.shape == (len(columns), len(columns)):
            return values
        sds = np.atleast_1d(values)
    if sds.shape != (len(columns),) or not (sds >= 0.0).all():
        raise InterlaceError(
            f"the random effects of '{group}' need {len(columns)} standard deviations "
            f"({', '.join(columns)}), not {spread!r}"
        )
    return np.diag(sds**2)


def _number(value: object, what: str) -> float:
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = np.nan
    if not np.isfinite(found):
        raise InterlaceError(f"{what} must be a finite number, not {value!r}")
    return found
