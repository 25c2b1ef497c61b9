"""Random small models: exact deletion beside brute refits, and a batch beside single fits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import interlace
from interlace import InterlaceError, fit, fit_many, hlm_influence
from random_models import RandomModel, random_model

# Distances of the coefficients from those of the full fit that count as one, in squared standard
# errors: where a variance is flat, two searches may end at a gain of 1e-9 each.
RELATIVE, ABSOLUTE = 1e-3, 1e-5


def fitted(model: RandomModel, data: pd.DataFrame) -> interlace.CrossedLMEResult | None:
    """The fit, if there is one that converged."""
    try:
        result = fit(model.formula, data, method=model.method, weights=model.weights)
    except InterlaceError:
        return None
    return result if result.converged else None


def deletions(model: RandomModel) -> Iterator[tuple[str, float, float]]:
    """Every level of ``a`` without which the model can be fitted: Cook's distances of both."""
    result = fitted(model, model.data)
    if result is None:
        return
    table = hlm_influence(result, "a", approx=False, progress=False)
    for level in table.index:
        other = fitted(model, model.data[model.data["a"] != level])
        if other is None or not other.fe_params.index.equals(result.fe_params.index):
            continue
        change = (result.fe_params - other.fe_params).to_numpy()
        cooks = change @ np.linalg.solve(result.fe_cov, change) / len(change)
        yield f"{model} without a = {level}", float(table.loc[level, "cooksd"]), float(cooks)


def compared(seeds: range, enough: int) -> tuple[int, list[str]]:
    """Levels compared, and those that differ."""
    tried, differ = 0, []
    for seed in seeds:
        for what, exact, brute in deletions(random_model(seed)):
            tried += 1
            if not np.isclose(exact, brute, rtol=RELATIVE, atol=ABSOLUTE):
                differ.append(f"{what}: {exact:.6g}, by refits {brute:.6g}")
        if tried >= enough:
            break
    return tried, differ


def failing(model: RandomModel) -> tuple[set[str], set[str]]:
    """Responses that a batch and single fits cannot fit, of eight."""
    rng = np.random.default_rng(model.seed)
    y = model.data["y"].to_numpy()
    responses = {f"y{i}": y + rng.normal(size=len(y)) * y.std() * i / 4 for i in range(6)}
    data = model.data.drop(columns="y").assign(**responses, same=1.0, exact=model.data["x1"])
    names = [*responses, "same", "exact"]
    alone = set()
    for name in names:
        formula = model.formula.replace("y ~", f"{name} ~", 1)
        try:
            fit(formula, data, method=model.method, weights=model.weights)
        except InterlaceError:
            alone.add(name)
    right = model.formula.split("~", 1)[1]
    many = fit_many(f"~ {right}", data, names, method=model.method, weights=model.weights)
    return set(many.errors), alone


def disagreements(seeds: range) -> tuple[int, list[str]]:
    """Models tried, and those of which a batch and single fits fail for other responses."""
    tried, differ = 0, []
    for seed in seeds:
        model = random_model(seed)
        try:
            many, alone = failing(model)
        except InterlaceError:
            continue  # refused for any response
        tried += 1
        if many != alone:
            differ.append(f"{model}: {sorted(many)}, alone {sorted(alone)}")
    return tried, differ


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Of singular fits and the like there are many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_batch_fails_where_single_fits_do() -> None:
    tried, differ = disagreements(range(6))
    assert tried >= 4 and differ == []


@pytest.mark.parametrize("seed", [20_018, 20_119])
def test_a_response_that_a_random_column_reproduces(seed: int) -> None:
    """Sums never tell that nothing is left, and the search ends: the rows tell."""
    tried, differ = disagreements(range(seed, seed + 1))
    assert tried == 1 and differ == []


@pytest.mark.slow
def test_exact_deletion_equals_brute_refits_on_random_models() -> None:
    """At most 1 level in 1,000 differs, and none is NaN."""
    tried, differ = compared(range(10_000, 11_000), 2000)
    print(f"{tried} levels, {len(differ)} differ", *differ, sep="\n")
    assert tried >= 2000
    assert len(differ) <= tried / 1000 and not any("nan" in one.split(": ")[-1] for one in differ)


@pytest.mark.slow
def test_a_batch_fails_where_single_fits_do_on_random_models() -> None:
    tried, differ = disagreements(range(20_000, 20_150))
    print(f"{tried} models of 8 responses, {len(differ)} differ", *differ, sep="\n")
    assert tried >= 100 and differ == []
