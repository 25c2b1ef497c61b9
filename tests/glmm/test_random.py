"""Random models: one optimum from every start, no warning but true ones, no lower peer."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import interlace
from glmm.random_glmms import Drawn, drawn
from interlace.families import NegativeBinomial
from interlace.glmm.laplace import Laplace
from interlace.glmm.search import Search, minimised
from interlace.glmm.start import start_of

STORED = Path(__file__).parents[1] / "reference" / "glmm" / "random_glmms.json"
PEERS = {m["seed"]: m for m in json.loads(STORED.read_text())["models"]}
SAME = 1e-7
# What a start multiplies the templates by, before a random rotation, and adds to the coefficients.
STARTS = ((0.2, 0.0), (2.0, 0.0), (0.7, 0.3))


def fitted(model: Drawn) -> interlace.CrossedGLMMResult:
    """The fit, with no other warning than that of a singular one."""
    family = NegativeBinomial(kind=1) if model.family == "nbinom1" else model.family
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", interlace.SingularFitWarning)
        return interlace.fit(
            model.formula, model.data, family=family, link=model.link, trials=model.trials or None
        )


def values_from_other_starts(result: interlace.CrossedGLMMResult, seed: int) -> list[float]:
    """Minima that searches from other starts find."""
    problem, rng = result.estimate.problem, np.random.default_rng(seed)
    at, u = start_of(problem)
    found = []
    for size, shift in STARTS:
        templates = [
            size * T @ np.linalg.qr(rng.normal(size=T.shape))[0]
            if term.template.joint > 1
            else size * T
            for T, term in zip(at.templates, problem.rows.terms, strict=True)
        ]
        shift = 0.1 * shift if result.link.name == "sqrt" else shift
        beta = at.beta + shift * rng.normal(size=len(at.beta))
        x = problem.pack(templates, beta, at.gamma)
        search = Search(problem, Laplace(), u, x, np.ones(len(x), dtype=bool))
        found.append(minimised(search, None).point.value)
    return found


def check(seed: int) -> None:
    model = drawn(seed)
    stored = PEERS[seed]
    assert model.data.y.sum() == pytest.approx(stored["total"], abs=1e-5), "other data"
    result = fitted(model)
    assert result.converged
    value = -2.0 * result.llf
    for peer in ("glmmTMB", "lme4"):
        if stored[peer] is not None:
            assert value <= stored[peer] + SAME, peer
    for other in values_from_other_starts(result, seed):
        assert abs(other - value) <= SAME


@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_a_few_random_models(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_random_models(seed):
    check(seed)
