"""GPBoost with a family: random intercepts alone, its default settings."""

from __future__ import annotations

import os
from collections.abc import Callable

import gpboost
import numpy as np

from benchmarks.peers.common import Answer, Unsupported, pandas_frame, square, variables
from benchmarks.peers.gpboost import Fitted, codes
from benchmarks.storage import Stored

LIKELIHOODS = {"binomial": "bernoulli_logit", "poisson": "poisson"}


def prepare(stored: Stored, *, method: str) -> Callable[[], Fitted]:
    if any(term.expr != "1" for term in stored.terms):
        raise Unsupported("GPBoost has no correlated slopes")
    if stored.trials:
        raise Unsupported("counts of trials are not in its documentation")
    groups = np.column_stack([codes(stored, term) for term in stored.terms])
    frame = pandas_frame(stored)
    columns = [np.ones(stored.n)]
    for name in variables(stored.fixed):
        column = frame[name]
        if column.dtype.name == "category":
            columns += [(column.cat.codes == c) for c in range(1, len(column.cat.categories))]
        else:
            columns.append(column)
    X = np.column_stack(columns).astype(np.float64)
    y = stored.numbers(stored.response)
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))

    def fit() -> Fitted:
        model = gpboost.GPModel(
            group_data=groups,
            likelihood=LIKELIHOODS[stored.family],
            num_parallel_threads=threads,
        )
        model.fit(y=y, X=X)
        return tuple(term.key for term in stored.terms), model

    return fit


def answer(result: Fitted) -> Answer:
    keys, model = result
    components = (float(v) for v in np.ravel(model.get_cov_pars(format_pandas=False)))
    return Answer(
        # Its default solver estimates the likelihood by Monte Carlo: only theta is comparable.
        criterion=None,
        scale=0.0,
        covariances={k: square(v) for k, v in zip(keys, components, strict=True)},
    )
