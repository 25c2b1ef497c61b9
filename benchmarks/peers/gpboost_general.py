"""GPBoost with a family: random intercepts alone, its default settings, from a pandas frame.

Standard errors are asked for after the fit, and are part of what is timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import gpboost
import numpy as np
import pandas as pd

from benchmarks.peers.common import Answer, Unsupported, pandas_frame, square, variables
from benchmarks.peers.gpboost import Fitted, codes
from benchmarks.problems import Floats
from benchmarks.storage import Stored

LIKELIHOODS = {"binomial": "bernoulli_logit", "poisson": "poisson"}


def prepare(stored: Stored, *, method: str) -> Callable[[], Fitted]:
    if any(term.expr != "1" for term in stored.terms):
        raise Unsupported("GPBoost has no correlated slopes")
    if stored.trials:
        raise Unsupported("counts of trials are not in its documentation")
    frame = pandas_frame(stored)
    y = stored.numbers(stored.response)
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))

    def fit() -> Fitted:
        X = matrix(stored, frame)
        model = gpboost.GPModel(
            group_data=np.column_stack([codes(stored, term) for term in stored.terms]),
            likelihood=LIKELIHOODS[stored.family],
            num_parallel_threads=threads,
        )
        model.fit(y=y, X=X)
        model.get_coef(std_err=True)
        return tuple(term.key for term in stored.terms), model

    return fit


def matrix(stored: Stored, frame: pd.DataFrame) -> Floats:
    """Columns of the fixed effects: an intercept, numbers, and levels after the first."""
    columns = [np.ones(stored.n)]
    for name in variables(stored.fixed):
        column = frame[name]
        if column.dtype.name == "category":
            columns += [column.cat.codes == c for c in range(1, len(column.cat.categories))]
        else:
            columns.append(column)
    return np.column_stack(columns).astype(np.float64)


def answer(result: Fitted) -> Answer:
    keys, model = result
    components = (float(v) for v in np.ravel(model.get_cov_pars(format_pandas=False)))
    # With several factors its default solver estimates the likelihood by Monte Carlo, and only the
    # variances can be compared.
    alone = len(keys) == 1
    return Answer(
        criterion=2.0 * float(model.get_current_neg_log_likelihood()) if alone else None,
        scale=0.0,
        covariances={k: square(v) for k, v in zip(keys, components, strict=True)},
    )
