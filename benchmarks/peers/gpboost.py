"""GPBoost: maximum likelihood only, intercepts only, its default (iterative, stochastic) solver."""

from __future__ import annotations

import os
from collections.abc import Callable

import gpboost
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.common import Answer, Unsupported, square, variables
from benchmarks.problems import Term
from benchmarks.storage import Stored

Fitted = tuple[tuple[str, ...], gpboost.GPModel]


def prepare(stored: Stored, *, method: str, solver: str = "default") -> Callable[[], Fitted]:
    if method != "ML":
        raise Unsupported("GPBoost has no REML")
    if any(term.expr != "1" for term in stored.terms):
        raise Unsupported("GPBoost has no correlated slopes")
    groups = np.column_stack([codes(stored, term) for term in stored.terms])
    slopes = [stored.numbers(name) for name in variables(stored.fixed)]
    X = np.column_stack([np.ones(stored.n), *slopes])
    y = stored.numbers(stored.response)
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))

    def fit() -> Fitted:
        model = gpboost.GPModel(
            group_data=groups,
            likelihood="gaussian",
            num_parallel_threads=threads,
            matrix_inversion_method=solver,
        )
        model.fit(y=y, X=X)
        return tuple(term.key for term in stored.terms), model

    return fit


def codes(stored: Stored, term: Term) -> NDArray[np.int64]:
    """Level of each row (n,) in the term's grouping, an interaction made beforehand."""
    out = np.zeros(stored.n, dtype=np.int64)
    for name in term.groups:
        factor = stored.factor(name)
        out = out * len(factor.labels) + factor.codes
    return out


def answer(result: Fitted, *, exact: bool = False) -> Answer:
    keys, model = result
    scale, *components = (float(v) for v in model.get_cov_pars(format_pandas=False))
    criterion = 2.0 * float(model.get_current_neg_log_likelihood())
    return Answer(
        # The default solver estimates the likelihood by Monte Carlo: only theta is comparable.
        criterion=criterion if exact else None,
        scale=scale,
        covariances={k: square(v) for k, v in zip(keys, components, strict=True)},
        evaluations=None,
    )
