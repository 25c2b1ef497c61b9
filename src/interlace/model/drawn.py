"""New responses from a fitted generalised model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.glmm import mixed_laws
from interlace.glmm.laws import Law
from interlace.glmm.links import all_inside
from interlace.model.generalised import FittedGeneralModel
from interlace.model.simulate import Seed, blocks, check_nsim
from interlace.sums.terms import Floats


def law_at(model: FittedGeneralModel, eta: Floats) -> Law:
    """The law of the rows used at linear predictors ``eta``.

    Raises
    ------
    InterlaceError
        The link has bounds, and they are outside.
    """
    link = model.link
    if not all_inside(link, eta):
        row = int(np.argmax(~link.inside(eta)))
        raise InterlaceError(
            f"link={link.name!r} gives no mean for a linear predictor of {eta[row]:.3g} (row "
            f"{row}), which random effects drawn from the model lead to: keep the modes "
            f"(include_re=True), or use a link without bounds"
        )
    estimate = model.estimate
    return mixed_laws.law_at(model.family, eta, estimate.omega, estimate.problem.trials)


def simulate_general(
    model: FittedGeneralModel, nsim: int = 1, seed: Seed = None, include_re: bool = False
) -> Floats:
    """New responses for the rows used, ``(n, nsim)``; see the method ``simulate``.

    A column depends on the seed and its number, not on ``nsim``.
    """
    require_rows(model.design, "simulate")
    check_nsim(nsim)
    drawn = np.empty((model.nobs, nsim))
    for i, one in enumerate(draws(model, nsim, seed, include_re=bool(include_re))):
        drawn[:, i] = one
    return drawn


def draws(
    model: FittedGeneralModel, nsim: int, seed: Seed, *, include_re: bool = False
) -> Iterator[Floats]:
    """New responses one after the other, as the columns of :func:`simulate_general`."""
    for block in blocks(seed, int(nsim)):
        rng = block.rng
        for _ in range(block.size):
            yield draw_one(model, rng, include_re=include_re)


def draw_one(
    model: FittedGeneralModel, rng: np.random.Generator, *, include_re: bool = False
) -> Floats:
    """One new response of the rows used, ``(n,)``: of counts if binomial, of scores if ordinal."""
    if include_re:
        return law_at(model, model.estimate.eta).draw(rng)
    problem, at = model.estimate.problem, model.estimate.at
    terms = problem.rows.terms
    b = [rng.standard_normal((t.l, t.k)) @ T.T for t, T in zip(terms, at.templates, strict=True)]
    return law_at(model, problem.fixed_part(at.beta) + problem.rows.image(b)).draw(rng)
