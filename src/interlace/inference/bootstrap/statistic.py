"""Bootstrap standard errors of statistics of the response, by rows or by whole groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from interlace.errors import InterlaceError, choose, unknown
from interlace.inference.bootstrap.cases import factor, members
from interlace.sums.terms import Floats

Codes = NDArray[np.integer]
Statistic = Callable[[Floats], float]

STATISTICS: Mapping[str, Statistic] = {
    "median": lambda y: float(np.median(y)),
    "mean": lambda y: float(np.mean(y)),
    "std": lambda y: float(np.std(y, ddof=1)),
}


def bootstrap_se(
    y: Floats,
    groups: Mapping[str, Codes],
    *,
    statistic: str | Statistic,
    n_bootstrap: int,
    resample_level: str,
    group: str | None,
    seed: int | np.random.Generator | None,
) -> float:
    """Standard deviation of a statistic of ``y`` (n,) over bootstrap samples.

    ``groups`` holds the codes (n,) of every grouping factor; see
    :meth:`interlace.CrossedLMEResult.bootstrap_se` for the arguments.
    """
    compute = _statistic(statistic)
    if n_bootstrap < 2:
        raise InterlaceError(f"n_bootstrap must be at least 2, not {n_bootstrap}")
    rng = np.random.default_rng(seed)
    draw = _sampler(len(y), groups, resample_level, group)
    values = np.array([_number(compute(y[draw(rng)])) for _ in range(n_bootstrap)])
    return float(np.std(values, ddof=1))


def _number(value: object) -> float:
    """The value of a statistic; arrays are refused, their spread is no standard error."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise InterlaceError(f"the statistic must return one number, not {value!r}")
    return float(array.reshape(()))


def _statistic(statistic: str | Statistic) -> Statistic:
    """The function named, or given."""
    if callable(statistic):
        return statistic
    if statistic not in STATISTICS:
        raise unknown("statistic", statistic, STATISTICS, ", or pass a function of the response")
    return STATISTICS[statistic]


def _sampler(
    n: int, groups: Mapping[str, Codes], resample_level: str, group: str | None
) -> Callable[[np.random.Generator], Codes]:
    """A function that draws the rows of one bootstrap sample."""
    resample_level = choose("resample_level", resample_level, ("group", "observation"))
    if resample_level == "observation":
        return lambda rng: rng.integers(0, n, n)
    if group == "all":
        return _pigeonhole(list(groups.values()))
    name = next(iter(groups)) if group is None else group
    if name not in groups:
        raise unknown("grouping factor", name, groups, ", or 'all'")
    return _clusters(groups[name])


def _clusters(codes: Codes) -> Callable[[np.random.Generator], Codes]:
    """Draw levels with replacement and take all rows of each."""
    one = factor(codes)
    return lambda rng: members(one, rng.integers(0, one.l, one.l))


def _pigeonhole(factors: Sequence[Codes]) -> Callable[[np.random.Generator], Codes]:
    """Draw the levels of every factor independently; a row occurs as often as the product says.

    The pigeonhole bootstrap for crossed designs (Owen, 2007).
    """
    sizes = [int(codes.max()) + 1 for codes in factors]

    def draw(rng: np.random.Generator) -> Codes:
        while True:
            times = np.ones(len(factors[0]), dtype=np.intp)
            for codes, size in zip(factors, sizes, strict=True):
                times *= np.bincount(rng.integers(0, size, size), minlength=size)[codes]
            if times.any():
                return np.repeat(np.arange(len(times)), times)

    return draw
