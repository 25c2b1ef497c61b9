"""Power of tests of generalised models: designs, and responses drawn from a family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.glmm.curvature import Approximation
from interlace.glmm.estimate import estimate_general
from interlace.glmm.families import Family
from interlace.glmm.laws import is_simple, law_of
from interlace.glmm.links import all_inside
from interlace.glmm.names import family_of
from interlace.glmm.problem import Problem, problem_of, unit_of
from interlace.glmm.working import working_rows
from interlace.inference.power.asked import Asked, Test, tests_asked
from interlace.inference.power.simulate import Plan, Template, template_of, tried
from interlace.inference.power.sizes import Sizes, combinations
from interlace.inference.power.truth import Spread, Truth, described, truth_of
from interlace.inference.wald import Normal
from interlace.model.fitted import Options
from interlace.model.generalised import FittedGeneralModel, approximation_of, refuse_pure
from interlace.model.outcomes import check_arguments, read_rows
from interlace.model.simulate import Block
from interlace.sums.terms import Floats

# Replicates of a task.
_EACH = 16


# Arguments by row that a generalised model has beside weights and offset.
_BESIDE = ("trials", "exposure")


def of_result(
    model: FittedGeneralModel,
    asked: Asked,
    sizes: Sizes | None,
    effects: Mapping[str, float] | None,
    plan: Plan,
) -> pd.DataFrame:
    """Power of tests in designs like that of a fit; see the method ``power``."""
    if model.estimate.problem.precision is not None:
        raise InterlaceError(
            "power is that of tests without a prior, and this fit has fixed_prior="
        )
    truth = truth_of(model.estimate, 1.0).with_effects(effects)
    template = template_of(model, beside=_BESIDE)
    designs = GeneralDesigns(template, truth, model.dispersion, model.family, model.options)
    return designs.tried(asked, sizes, plan)


def of_description(
    template: Template,
    options: Options,
    fixed: Mapping[str, float],
    random: Mapping[str, Spread],
    dispersion: float | None,
    asked: Asked,
    sizes: Sizes | None,
    plan: Plan,
) -> pd.DataFrame:
    """Power of tests in a design without responses; see :func:`interlace.power`.

    Raises
    ------
    InterlaceError
        A value is missing or makes no sense.
    """
    family = family_of(options.family, options.link)
    if bool(family.auxiliary) != (dispersion is not None):
        raise InterlaceError(
            f"give dispersion=, the {family.auxiliary} of family={family.name!r}"
            if family.auxiliary
            else f"family={family.name!r} has no parameter beside the mean: leave dispersion= out"
        )
    if dispersion is not None and not 0.0 < dispersion < np.inf:
        raise InterlaceError(f"dispersion must be a positive number, not {dispersion!r}")
    check_arguments(options, family)
    nothing = Truth({}, {}, 1.0)
    designs = GeneralDesigns(template, nothing, dispersion or 1.0, family, options)
    rows, _ = designs.rows({})
    truth = described(rows, working_rows(rows).names, fixed, random, 1.0)
    return replace(designs, truth=truth).tried(asked, sizes, plan)


@dataclass(frozen=True, eq=False)
class GeneralDesigns:
    """Designs of any size with the trials and exposure of their rows, and what is true there."""

    template: Template
    truth: Truth
    auxiliary: float
    family: Family
    options: Options

    def tried(self, asked: Asked, sizes: Sizes | None, plan: Plan) -> pd.DataFrame:
        """Power of every test at every size.

        Raises
        ------
        InterlaceError
            Responses do not follow from their means and one number beside them.
        """
        if not is_simple(self.family) or not np.isfinite(self.auxiliary):
            raise InterlaceError(
                f"power of family={self.family.name!r} with parameters beside the mean that differ "
                f"or are several is not there yet: simulate() and refit() make the replicates"
            )
        wanted = list(combinations(sizes, self.template.factors))
        return tried(lambda one: self.study(asked, one), wanted, plan)

    def study(self, asked: Asked, sizes: Mapping[str, int]) -> GeneralStudy:
        """The design of one size, with its tests."""
        design, trials = self.rows(sizes)
        study = GeneralStudy(design, trials, self, ())
        approximation_of(self.options, study.problem)  # what it refuses, before anything is drawn
        names = study.problem.rows.names
        return replace(study, tests=tests_asked(asked, design, names))

    def rows(self, sizes: Mapping[str, int]) -> tuple[Design, Floats | None]:
        """The rows of a size, noise in place of the response, and their trials."""
        columns, template = self.template.columns_of(sizes), self.template
        return read_rows(
            template.formula, columns, template.extra, template.missing, template.context
        )


@dataclass(frozen=True, eq=False)
class GeneralStudy:
    """A design, what is true there, and the tests that are made."""

    design: Design
    trials: Floats | None
    of: GeneralDesigns
    tests: Sequence[Test]

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def each(self) -> int:
        """Replicates of a task."""
        return _EACH

    @cached_property
    def eta(self) -> Floats:
        """True linear predictors without random effects."""
        names = working_rows(self.design).names
        fixed = self.design.fixed(names) @ self.of.truth.coefficients(names)
        return fixed if self.design.offset is None else fixed + self.design.offset

    @cached_property
    def problem(self) -> Problem:
        """The model, true means in place of responses."""
        family, n = self.of.family, len(self.design.y)
        trials = np.ones(n) if self.trials is None else self.trials
        self._refuse_outside(self.eta)
        y = trials * np.asarray(family.link.mean(self.eta).value)
        rows = working_rows(self.design, unit_of(family, y, trials))
        return problem_of(
            family,
            rows,
            y,
            trials=trials,
            weights=self.design.weights,
            offset=self.design.offset,
        )

    @cached_property
    def approximation(self) -> Approximation:
        """That of the fits."""
        return approximation_of(self.of.options, self.problem)

    def _refuse_outside(self, eta: Floats) -> None:
        link = self.of.family.link
        if not all_inside(link, eta):
            raise InterlaceError(
                f"link={link.name!r} gives no mean for the linear predictor "
                f"{eta[~link.inside(eta)][0]:.3g} that the coefficients lead to: give others, or "
                f"use a link without bounds"
            )

    def drawn(self, rng: np.random.Generator) -> Floats:
        """A new response with new random effects."""
        eta, templates = self.eta.copy(), self.of.truth.of(self.design.terms)
        parts = zip(self.design.terms, self.design.codes, self.design.Z, templates, strict=True)
        for term, codes, Z, T in parts:
            b = rng.standard_normal((term.l, term.k)) @ T.T
            eta += np.einsum("nk,nk->n", Z, b[codes])
        self._refuse_outside(eta)
        mean = np.asarray(self.of.family.link.mean(eta).value)
        return law_of(self.of.family, mean, self.problem.trials, self.of.auxiliary).draw(rng)

    def p_values(self, blocks: Sequence[Block]) -> Floats:
        """Of some replicates ``(B, tests)``; nan where a fit failed."""
        return np.array([self._tested(b.rng) for b in blocks for _ in range(b.size)])

    def _tested(self, rng: np.random.Generator) -> Floats:
        """P-values of one replicate."""
        try:
            new = self.problem.responding(self.drawn(rng))
            if not new.y.any() or self._all_succeed(new.y):
                raise InterlaceError("nothing can be estimated")
            refuse_pure(new)
            estimate = estimate_general(new, self.approximation)
            if not estimate.convergence.converged:
                return np.full(len(self.tests), np.nan)
            compared = Normal(estimate)
            return np.array([compared.f_test(t.L, t.value).p_value for t in self.tests])
        except (InterlaceError, np.linalg.LinAlgError):
            return np.full(len(self.tests), np.nan)

    def _all_succeed(self, y: Floats) -> bool:
        """Whether every trial of a binomial response is a success."""
        return self.of.family.name == "binomial" and bool((y == self.problem.trials).all())
