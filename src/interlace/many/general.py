"""Generalised models of many responses: rows that they share, and their fits as a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlace.batch.general import estimate_many
from interlace.design.components import columns_beside
from interlace.design.design import Design
from interlace.design.formula import MixedFormula
from interlace.errors import InterlaceError
from interlace.estimation.parameters import variance_parameters
from interlace.glmm.curvature import Approximation
from interlace.glmm.estimate import GeneralEstimate, estimate_general
from interlace.glmm.names import family_of, with_zeros
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.parts import Parts
from interlace.glmm.problem import Problem, has_units
from interlace.many.fits import Piece, TableRows, blank, rows_of
from interlace.many.responses import Mask, Model
from interlace.model.arguments import check_general
from interlace.model.fitted import Options
from interlace.model.generalised import (
    DISPERSED,
    FittedGeneralModel,
    approximation_of,
    problem_at,
    refuse_pure,
)
from interlace.model.outcomes import (
    Outcome,
    check_arguments,
    component_texts,
    read_rows,
    with_response,
)
from interlace.model.responses import stand_in
from interlace.reporting.broom import deviance_of
from interlace.sums.terms import Floats

# Responses of a task: enough for a batch, few enough for progress and processes.
_TASK = 256


@dataclass(frozen=True, eq=False)
class GeneralShared:
    """What responses of a family with the same rows share; ``kept`` (n,) are these rows."""

    formula: MixedFormula
    design: Design
    trials: Floats | None
    options: Options
    problem: Problem
    approximation: Approximation
    rows: TableRows

    @property
    def kept(self) -> Mask:
        """Rows used."""
        return self.design.kept

    @property
    def n(self) -> int:
        """How many."""
        return self.problem.rows.n

    @property
    def at_once(self) -> int:
        """Responses of one task."""
        return _TASK

    def fitted(self, which: Sequence[int], Y: Floats) -> list[Piece]:
        """Fits of some responses (n, B); those in ``failed`` are for ``fit`` to explain."""
        found = [self._outcome(y) for y in Y.T]
        some = [i for i, one in enumerate(found) if one is not None]
        outcomes = [one for one in found if one is not None]
        pieces = []
        for i, outcome, estimate in zip(some, outcomes, self._estimates(outcomes), strict=True):
            if isinstance(estimate, InterlaceError):
                found[i] = None
                continue
            model = FittedGeneralModel(self.formula, outcome.design, estimate, self.options, None)
            pieces.append(of_model(which[i], model))
        failed = [which[i] for i, one in enumerate(found) if one is None]
        return [*joined_pieces(pieces), *([blank(failed, self.rows)] if failed else [])]

    def _outcome(self, y: Floats) -> Outcome | None:
        """Rows with a response, ``None`` if the family cannot have it, or nothing is estimable."""
        family = self.problem.family
        if isinstance(family, Ordinal) or np.isnan(y).any():
            return None  # categories are those of the response: `fit` reads them
        try:
            found = with_response(y, self.design, self.trials, self.options, family, "")
            refuse_pure(self.problem.responding(found.y))
        except InterlaceError:
            return None
        return found

    def _estimates(self, outcomes: Sequence[Outcome]) -> Sequence[GeneralEstimate | InterlaceError]:
        """Together, or each in units of its own."""
        if not outcomes:
            return []
        if not has_units(self.problem.family):
            Y = np.stack([one.y for one in outcomes], axis=1)
            return estimate_many(self.problem, Y, self.approximation)
        return [self._alone(one) for one in outcomes]

    def _alone(self, outcome: Outcome) -> GeneralEstimate | InterlaceError:
        try:
            return estimate_general(problem_at(outcome, self.options), self.approximation)
        except InterlaceError as error:
            return error


def shared_general(model: Model, gaps: Mask | None) -> GeneralShared:
    """Rows without those in ``gaps``; noise stands in for the response while they are read.

    Raises
    ------
    InterlaceError
        The model cannot be fitted to any response.
    """
    noise = stand_in(model.n)
    if gaps is not None:
        noise[gaps] = np.nan
    options = model.arguments.options(model.formula(model.responses.names[0]), "drop")
    family = family_of(options.family, options.link)
    family = family if options.zero_inflation is None else with_zeros(family)
    check_arguments(options, family)
    check_general(options)
    texts = component_texts(options, family)
    columns = {**model.columns, model.responses.names[0]: noise}
    given = model.arguments.beside | columns_beside(list(texts.values()), columns)
    design, trials = read_rows(model.spec, columns, given, "drop", None, texts, family)
    ones = np.ones(len(design.y))
    problem = problem_at(Outcome(design, ones, trials, family), options)
    return GeneralShared(
        model.spec,
        design,
        trials,
        options,
        problem,
        approximation_of(options, problem),
        general_rows(problem, design.encoding.formula),
    )


# ------------------------------------------------------------------ rows of the table


def general_rows(problem: Problem, formula: MixedFormula) -> TableRows:
    """Coefficients of the mean and beside it, then variances, then numbers of the family."""
    linear, parts = rows_of(problem.rows.names, problem.rows.terms, formula), problem.parts
    coefficients, numbers = _named(parts, reported=False), _named(parts, reported=True)
    p, q = len(problem.rows.names), len(linear.order) - 1
    group = ("",) * (p + len(coefficients)) + linear.group[p : p + q]
    return TableRows(
        effect=("fixed",) * (p + len(coefficients)) + ("ran_pars",) * (q + len(numbers)),
        group=group + ("Residual",) * len(numbers),
        term=(*linear.term[:p], *coefficients, *linear.term[p : p + q], *numbers),
        order=linear.order[:-1],
    )


def _named(parts: Parts, *, reported: bool) -> tuple[str, ...]:
    """Coefficients as they are, or those reported by a number of the family."""
    pairs = zip(parts.names, parts.scale, strict=True)
    return tuple(name for name, scale in pairs if bool(scale) == reported)


def of_model(which: int, model: FittedGeneralModel) -> Piece:
    """One response as the others are written."""
    estimate, parts = model.estimate, model.estimate.problem.parts
    rows = general_rows(estimate.problem, model.formula)
    beside = np.array([not scale for scale in parts.scale], dtype=bool)
    templates = estimate.user_templates
    variances = variance_parameters(estimate.A.terms, templates, np.array(1.0))[:-1][rows.order]
    numbers = parts.reported(estimate.family_coefficients)[~beside]
    values = (estimate.beta, estimate.family_coefficients[beside], variances, numbers)
    with np.errstate(invalid="ignore"):
        errors = (
            np.sqrt(np.diag(estimate.vcov)),
            np.sqrt(np.diag(estimate.family_covariance)[beside]),
            np.full(len(variances) + len(numbers), np.nan),
        )
    return Piece(
        which=np.array([which]),
        rows=rows,
        nobs=model.nobs,
        nparams=model.nparams,
        dropped=estimate.A.dropped,
        estimate=np.concatenate(values)[None],
        se=np.concatenate(errors)[None],
        value=np.array([estimate.value]),
        converged=np.array([estimate.convergence.converged]),
        singular=np.array([estimate.is_singular]),
        failed=np.zeros(1, dtype=bool),
        beside=_beside(model),
    )


def _beside(model: FittedGeneralModel) -> Mapping[str, NDArray[np.generic]]:
    """What ``glance`` says of a generalised model alone."""
    family = model.family
    scaled = family.name in DISPERSED and model.estimate.auxiliary is not None
    own = {family.auxiliary: np.array([model.dispersion])} if family.auxiliary else {}
    return {
        "sigma": np.array([np.sqrt(model.dispersion) if scaled else 1.0]),
        "deviance": np.array([deviance_of(model)]),
        "family": np.array([family.name], dtype=object),
        "link": np.array([family.link.name], dtype=object),
        **own,
        "separated": np.array([bool(model.separated)]),
    }


def joined_pieces(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces of one response each, of the same rows, as one."""
    if not pieces:
        return []
    first = pieces[0]
    return [
        Piece(
            np.concatenate([p.which for p in pieces]),
            first.rows,
            first.nobs,
            first.nparams,
            first.dropped,
            np.concatenate([p.estimate for p in pieces]),
            np.concatenate([p.se for p in pieces]),
            np.concatenate([p.value for p in pieces]),
            np.concatenate([p.converged for p in pieces]),
            np.concatenate([p.singular for p in pieces]),
            np.concatenate([p.failed for p in pieces]),
            {name: np.concatenate([p.beside[name] for p in pieces]) for name in first.beside},
        )
    ]
