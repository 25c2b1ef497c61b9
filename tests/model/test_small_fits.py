"""What a small fit does no more than once, and how little it does: counted, not timed."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import interlace
from interlace.design import encode, formula, sides
from interlace.estimation import optimize
from interlace.machine import memory
from interlace.solver import equations, plan

MODELS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "penicillin": "diameter ~ 1 + (1|plate) + (1|sample)",
}
# Evaluations that these searches take from their start by moments.
EVALUATIONS = {"sleepstudy": 5, "penicillin": 2}
# Calls of functions, those of numpy and pandas included; 6,650 and 5,960 before they were counted.
CALLS = {"sleepstudy": 4700, "penicillin": 4000}


def fitted(name: str) -> interlace.CrossedLMEResult:
    return interlace.fit(MODELS[name], interlace.datasets.load(name))


def counted(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, seen: list[str]
) -> Callable[..., Any]:
    real = getattr(module, name)

    def call(*args: Any, **options: Any) -> Any:
        seen.append(name)
        return real(*args, **options)

    monkeypatch.setattr(module, name, call)
    return call


@pytest.mark.parametrize("name", MODELS)
def test_the_memory_of_the_machine_is_read_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seen: list[str] = []
    counted(monkeypatch, memory, "_control_group", seen)
    monkeypatch.setattr(memory, "_HOLDS", 1e12)
    memory._limit_at.cache_clear()
    fitted(name)
    assert len(seen) == 1


@pytest.mark.parametrize("name", MODELS)
def test_a_formula_is_parsed_once_however_often_it_is_fitted(name: str) -> None:
    caches = (formula._parse, encode._products, sides.model_terms, sides.names_in)
    fitted(name)
    before = [cache.cache_info().misses for cache in caches]
    fitted(name)
    assert [cache.cache_info().misses for cache in caches] == before


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_is_laid_out_once_and_every_point_factored_once(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[str] = []
    counted(monkeypatch, plan, "_lay_out", seen)
    counted(monkeypatch, equations, "factorize", seen)
    result = fitted(name)
    assert seen.count("_lay_out") == 1
    assert seen.count("factorize") == result.convergence.n_evaluations
    assert np.isfinite(result.fe_params).all() and len(result.random_effects)
    assert seen.count("factorize") == result.convergence.n_evaluations


@pytest.mark.parametrize("name", MODELS)
def test_a_search_takes_few_evaluations_and_one_decomposition_each(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[str] = []
    counted(monkeypatch, optimize, "model_of", seen)
    found = fitted(name).convergence
    assert found.converged and found.n_starts == 1
    assert found.n_evaluations <= EVALUATIONS[name]
    assert len(seen) == found.n_evaluations


@pytest.mark.parametrize("name", MODELS)
def test_few_tails_are_no_question_where_all_is_dense(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[str] = []
    counted(monkeypatch, plan, "_sparse_cost", seen)
    fitted(name)
    assert not seen


@pytest.mark.parametrize("name", MODELS)
def test_the_calls_of_a_fit(name: str) -> None:
    """A bound with a margin for other versions of numpy and pandas."""
    data = interlace.datasets.load(name)
    interlace.fit(MODELS[name], data)
    profile = cProfile.Profile()
    profile.enable()
    interlace.fit(MODELS[name], data)
    profile.disable()
    stats: dict[tuple[str, int, str], tuple[int, ...]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    calls = sum(counts[1] for counts in stats.values())
    assert calls < CALLS[name]
