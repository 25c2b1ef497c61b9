"""Power of tests of generalised models: designs, and responses drawn from a family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from interlace.batch.general import estimate_many
from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.glmm.curvature import Approximation
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.families import Family
from interlace.glmm.laws import Law
from interlace.glmm.links import all_inside
from interlace.glmm.mixed_laws import law_at
from interlace.glmm.names import family_of
from interlace.glmm.problem import Problem
from interlace.inference.power.asked import Asked, Test, tests_asked
from interlace.inference.power.beside import Beside, of_fit, of_words
from interlace.inference.power.simulate import RESPONSE, Plan, Template, template_of, tried
from interlace.inference.power.sizes import Sizes, combinations
from interlace.inference.power.truth import Spread, Truth, described, truth_of
from interlace.inference.wald import Normal
from interlace.model.fitted import Options
from interlace.model.generalised import (
    FittedGeneralModel,
    approximation_of,
    columns_of,
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
from interlace.model.simulate import Block
from interlace.sums.terms import Floats

# Replicates of a task, which are fitted together.
_EACH = 256


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
    texts = component_texts(model.options, model.family)
    template = template_of(model, beside=_BESIDE, texts=list(texts.values()))
    designs = GeneralDesigns(template, truth, of_fit(model), model.family, model.options)
    return designs.tried(asked, sizes, plan)


def of_description(
    template: Template,
    options: Options,
    fixed: Mapping[str, float],
    random: Mapping[str, Spread],
    dispersion: float | Mapping[str, float] | None,
    zeros: float | None,
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
    family, beside = of_words(family_of(options.family, options.link), dispersion, zeros)
    check_arguments(options, family)
    nothing = Truth({}, {}, 1.0)
    designs = GeneralDesigns(template, nothing, beside, family, options)
    rows, _ = designs.rows({})
    truth = described(rows, columns_of(rows, family), fixed, random, 1.0)
    return replace(designs, truth=truth).tried(asked, sizes, plan)


@dataclass(frozen=True, eq=False)
class GeneralDesigns:
    """Designs of any size with the trials and exposure of their rows, and what is true there."""

    template: Template
    truth: Truth
    beside: Beside
    family: Family
    options: Options

    def tried(self, asked: Asked, sizes: Sizes | None, plan: Plan) -> pd.DataFrame:
        """Power of every test at every size."""
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
            template.formula,
            columns,
            template.extra,
            template.missing,
            template.context,
            component_texts(self.options, self.family),
            self.family,
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
        names = columns_of(self.design, self.of.family)
        fixed = self.design.fixed(names) @ self.of.truth.coefficients(names)
        return fixed if self.design.offset is None else fixed + self.design.offset

    @cached_property
    def omega(self) -> Floats:
        """True auxiliary predictors, ``(K, n)``."""
        return self.of.beside.omega(self.design)

    def law(self, eta: Floats) -> Law:
        """Of the responses, at linear predictors (n,).

        Raises
        ------
        InterlaceError
            The link gives no mean for one of them.
        """
        link = self.of.family.link
        if not all_inside(link, eta):
            raise InterlaceError(
                f"link={link.name!r} gives no mean for the linear predictor "
                f"{eta[~link.inside(eta)][0]:.3g} that the coefficients lead to: give others, or "
                f"use a link without bounds"
            )
        return law_at(self.of.family, eta, self.omega, 1.0 if self.trials is None else self.trials)

    @cached_property
    def problem(self) -> Problem:
        """The model, true means in place of responses."""
        law = self.law(self.eta)
        outcome = Outcome(self.design, law.mean * law.trials, self.trials, self.of.family)
        return problem_at(outcome, self.of.options)

    @cached_property
    def approximation(self) -> Approximation:
        """That of the fits."""
        return approximation_of(self.of.options, self.problem)

    def drawn(self, rng: np.random.Generator) -> Floats:
        """A new response with new random effects."""
        eta, templates = self.eta.copy(), self.of.truth.of(self.design.terms)
        parts = zip(self.design.terms, self.design.codes, self.design.Z, templates, strict=True)
        for term, codes, Z, T in parts:
            b = rng.standard_normal((term.l, term.k)) @ T.T
            eta += np.einsum("nk,nk->n", Z, b[codes])
        return self.law(eta).draw(rng)

    def p_values(self, blocks: Sequence[Block]) -> Floats:
        """Of some replicates ``(B, tests)``; nan where a fit failed."""
        responses = [
            self._usable(rng) for block in blocks for rng in [block.rng] for _ in range(block.size)
        ]
        p = np.full((len(responses), len(self.tests)), np.nan)
        some = [i for i, y in enumerate(responses) if y is not None]
        if some:
            Y = np.stack([y for y in responses if y is not None], axis=1)
            estimates = estimate_many(self.problem, Y, self.approximation)
            for i, estimate in zip(some, estimates, strict=True):
                if not isinstance(estimate, InterlaceError) and estimate.convergence.converged:
                    p[i] = self._tested(estimate)
        return p

    def _usable(self, rng: np.random.Generator) -> Floats | None:
        """A new response; ``None`` if nothing can be estimated of it."""
        of = self.of
        try:
            y = self.drawn(rng)
            y = with_response(y, self.design, self.trials, of.options, of.family, RESPONSE).y
            refuse_pure(self.problem.responding(y))
        except InterlaceError:
            return None
        return y

    def _tested(self, estimate: GeneralEstimate) -> Floats | float:
        """P-values of one replicate."""
        compared = Normal(estimate)
        try:
            return np.array([compared.f_test(t.L, t.value).p_value for t in self.tests])
        except np.linalg.LinAlgError:
            return np.nan
