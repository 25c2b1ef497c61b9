"""Checks of generalised models: dispersion, zeros, separation, residuals, the approximation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd
from scipy.special import bdtr, chdtrc, kolmogorov

from interlace.design.recipe import require_rows
from interlace.diagnostics.general import ranks_among, residuals
from interlace.diagnostics.simulated import (
    FAULT,
    faults,
    from_uniform,
    linear_residual_checks,
    two_sided,
)
from interlace.errors import InterlaceError
from interlace.glmm.estimate import GeneralEstimate, estimate_general
from interlace.glmm.families import Family, NegativeBinomial, Poisson
from interlace.glmm.laplace import Laplace
from interlace.glmm.leverage import Leverage
from interlace.glmm.parts import parts_of
from interlace.glmm.quadrature import Quadrature, refuse_quadrature
from interlace.glmm.separation import directions_to_infinity
from interlace.glmm.zeros import Truncated, base_of
from interlace.inference.bootstrap.general import GeneralParameters
from interlace.model.drawn import law_at, simulate_general
from interlace.model.fitted import FittedModel
from interlace.model.generalised import FittedGeneralModel
from interlace.model.simulate import Seed, seed_sequence
from interlace.sums.terms import Floats

COUNTS = ("binomial", "poisson", "negative-binomial", "beta-binomial")


@dataclass(frozen=True, eq=False)
class Check:
    """What a check found: a table, and what it says in words.

    Attributes
    ----------
    title, table
        What was checked, and its numbers.
    notes
        Sentences to read them by.
    """

    title: str
    table: pd.DataFrame
    notes: tuple[str, ...]

    def __getitem__(self, column: str) -> pd.Series:
        """A column of the table."""
        return self.table[column]

    def __repr__(self) -> str:
        body = self.table.to_string(float_format=lambda v: f"{v:.4g}")
        return "\n".join([self.title, "=" * len(self.title), body, "", *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<div><h4>{escape(self.title)}</h4>{self.table.to_html()}{notes}</div>"


def _general(result: object, verb: str) -> FittedGeneralModel:
    """The result, if it is of a generalised model."""
    if not isinstance(result, FittedGeneralModel):
        raise InterlaceError(
            f"{verb} is made for generalised models, not for {type(result).__name__}"
        )
    return result


def is_count(family: Family) -> bool:
    """Whether responses are counts, zeros among them."""
    return base_of(family).name in COUNTS and not isinstance(family, Truncated)


# ------------------------------------------------------------------ dispersion


def check_dispersion(result: object, *, nsim: int = 250, seed: Seed = 0) -> Check:
    """Whether responses vary more, or less, around their means than the family says.

    Parameters
    ----------
    result
        A generalised model.
    nsim, seed
        Of the simulated responses.

    Returns
    -------
    Check
        By test: ``ratio`` of variances, 1 if the family is right; ``df`` and ``p``.
        ``"pearson"``: squared Pearson residuals over rows less the effective number of parameters,
        the sum of the exact leverages, upper tail.  ``"simulated"``: squared distances from the
        mean of simulated responses, new random effects drawn, over those of the simulated, both
        tails.  ``"poisson"``: of a negative binomial model, twice the log-likelihood gained over
        Poisson, half-half mixture.

    Raises
    ------
    InterlaceError
        The result is no generalised model.

    Examples
    --------
    >>> import interlace
    >>> ticks = interlace.datasets.load("grouseticks")
    >>> result = interlace.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, family="poisson")
    >>> check_dispersion(result).table.loc["pearson", ["ratio", "p"]].round(3).tolist()
    [2.203, 0.0]
    """
    model = _general(result, "check_dispersion")
    ratio, p = _spread(model.estimate.problem.y, simulate_general(model, nsim, seed))
    rows = {"pearson": _pearson(model), "simulated": (ratio, np.nan, p)}
    notes = [_dispersed(model, rows)]
    own = model.family if isinstance(model.family, NegativeBinomial) else None
    if own is not None and own.kind == 2 and model.estimate.n_family == 1:
        rows["poisson"] = _over_poisson(model, own)
        if rows["poisson"][2] > FAULT:
            notes.append("No overdispersion beyond Poisson is left: family='poisson' fits as well.")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["ratio", "df", "p"])
    return Check("Dispersion", table, tuple(notes))


def dispersion_of(model: FittedGeneralModel, nsim: int, seed: Seed) -> tuple[float, float, str]:
    """A ratio of variances, how probable one as far from 1 is, and what to do about it.

    Pearson's where the family has no parameter for it, else that beside simulated responses.
    """
    if model.family.auxiliary:
        ratio, p = _spread(model.estimate.problem.y, simulate_general(model, nsim, seed))
        return ratio, p, "responses vary otherwise than the family says; see check_dispersion"
    ratio, df, upper = _pearson(model)
    rows = {"pearson": (ratio, df, upper)}
    return ratio, min(1.0, 2.0 * min(upper, 1.0 - upper)), _dispersed(model, rows)


def _pearson(model: FittedGeneralModel) -> tuple[float, float, float]:
    """Pearson's statistic over its effective degrees of freedom."""
    statistic = float((residuals(model, "pearson") ** 2).sum())
    df = model.nobs - Leverage(model.estimate.evaluation).effective
    return statistic / df, df, float(chdtrc(df, statistic))


def _spread(y: Floats, drawn: Floats) -> tuple[float, float]:
    """Squares around the mean of simulated responses, over those of the simulated; and p."""
    center, nsim = drawn.mean(axis=1), drawn.shape[1]
    own = float(((y - center) ** 2).mean())
    others = ((drawn - center[:, None]) ** 2).mean(axis=0) * nsim / (nsim - 1.0)
    return own / float(others.mean()), two_sided(own, others)


def _over_poisson(
    model: FittedGeneralModel, family: NegativeBinomial
) -> tuple[float, float, float]:
    """Twice the log-likelihood gained over Poisson, whose dispersion lies at the bound."""
    estimate = model.estimate
    poisson = Poisson(family.link)
    G, parts = parts_of(poisson, model.nobs)
    plain = replace(estimate.problem, family=poisson, G=G, parts=parts)
    smaller = estimate_general(plain.responding(plain.y), estimate.approximation)
    gain = max(smaller.value - estimate.value, 0.0)
    return gain, 1.0, 0.5 * (float(chdtrc(1, gain)) + float(gain <= 0.0))


def _dispersed(model: FittedGeneralModel, rows: dict[str, tuple[float, float, float]]) -> str:
    """What the two ratios say."""
    ratio, _, p = rows["pearson"]
    if model.family.auxiliary:
        return (
            f"The {model.family.auxiliary} of family={model.family.name!r} is estimated, which "
            f"makes the first ratio near 1; the second looks at random effects too."
        )
    if p < FAULT and ratio > 1.0:
        way = {
            "poisson": "family='negative-binomial', or a random effect of every row",
            "binomial": "a random effect of every row",
        }.get(model.family.name, "another family")
        return f"Overdispersion: standard errors are too small; consider {way}."
    return "No overdispersion was found."


# ------------------------------------------------------------------ zeros


def check_zeros(result: object, *, nsim: int = 250, seed: Seed = 0) -> Check:
    """Whether there are more zeros, or fewer, than the family expects.

    Parameters
    ----------
    result
        A generalised model of counts.
    nsim, seed
        Of the simulated responses.

    Returns
    -------
    Check
        One row: ``observed`` zeros, ``expected`` given the modes of the random effects,
        ``simulated`` with new ones, ``ratio`` of observed to simulated, and ``p``, both tails.

    Raises
    ------
    InterlaceError
        The result is no generalised model of counts.

    Examples
    --------
    >>> import interlace
    >>> ticks = interlace.datasets.load("grouseticks")
    >>> result = interlace.fit("TICKS ~ YEAR + (1 | BROOD)", ticks, family="poisson")
    >>> check_zeros(result).table.loc["zeros", ["observed", "expected"]].round(1).tolist()
    [126.0, 107.3]
    """
    model = _general(result, "check_zeros")
    if not is_count(model.family):
        raise InterlaceError(
            f"check_zeros counts the zeros of counts; family={model.family.name!r} has none"
        )
    y, law = model.estimate.problem.y, law_at(model, model.estimate.eta)
    observed, mean, ratio, p = _zeros(y, simulate_general(model, nsim, seed))
    row = {
        "observed": observed,
        "expected": float(law.cdf(np.zeros_like(y)).sum()),
        "simulated": mean,
        "ratio": ratio,
        "p": p,
    }
    table = pd.DataFrame(row, index=["zeros"])
    more = "more" if observed > mean else "fewer"
    found = f"There are {more} zeros than the family expects." if p < FAULT else "As expected."
    return Check("Zeros", table, (found,))


def _zeros(y: Floats, drawn: Floats) -> tuple[float, float, float, float]:
    """Zeros among the responses, their mean in simulated ones, the ratio of both, and p."""
    observed, others = float((y == 0.0).sum()), (drawn == 0.0).sum(axis=0).astype(np.float64)
    mean = float(others.mean())
    return observed, mean, observed / mean if mean > 0.0 else np.nan, two_sided(observed, others)


# ------------------------------------------------------------------ residuals


def check_residuals(result: object, *, nsim: int = 250, seed: Seed = 0) -> Check:
    """Tests of simulated residuals, as in the package DHARMa.

    Parameters
    ----------
    result
        A fitted model.
    nsim, seed
        Of the simulated responses, for which new random effects are drawn.

    Returns
    -------
    Check
        By test, ``statistic`` and ``p``, for linear models also ``expected``.  ``"uniformity"``:
        Kolmogorov and Smirnov's distance.
        ``"dispersion"``: as in :func:`check_dispersion`.  ``"outliers"``: how many responses lie
        outside all simulated ones.  ``"zeros"``: the ratio of :func:`check_zeros`, for counts.

    Raises
    ------
    InterlaceError
        The result is no fitted model, or a linear one with fewer than 20 simulations.

    Notes
    -----
    Responses of a level share its random effect.  For linear models each simulated response is
    tested among the others in the same way, and p is the share of them that are at least as far
    from what is expected.  For generalised ones the tests do not count with it: with few levels
    their probabilities are too small.

    Examples
    --------
    >>> import interlace
    >>> cbpp = interlace.datasets.load("cbpp")
    >>> result = interlace.fit(
    ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
    ... )
    >>> list(check_residuals(result, nsim=50).table.index)
    ['uniformity', 'dispersion', 'outliers', 'zeros']
    """
    if isinstance(result, FittedModel):
        return Check("Simulated residuals", *linear_residual_checks(result, nsim, seed))
    model = _general(result, "check_residuals")
    y, n, root = model.estimate.problem.y, model.nobs, seed_sequence(seed)
    drawn = simulate_general(model, nsim, root)
    ranks = ranks_among(y, drawn.T, root)
    distance = float(from_uniform(ranks[:, None])[0])
    end = 1.0 / (nsim + 1.0)
    outside = int(((ranks < end) | (ranks > 1.0 - end)).sum())
    rows = {
        "uniformity": (distance, float(kolmogorov(np.sqrt(n) * distance))),
        "dispersion": _spread(y, drawn),
        "outliers": (float(outside), _outliers(outside, n, 2.0 * end)),
    }
    if is_count(model.family):
        rows["zeros"] = _zeros(y, drawn)[2:]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["statistic", "p"])
    said = faults({name: p for name, (_, p) in rows.items()})
    return Check("Simulated residuals", table, (said,))


def _outliers(found: int, n: int, share: float) -> float:
    """Twice the smaller tail of a binomial number."""
    below, above = float(bdtr(found, n, share)), 1.0 - float(bdtr(found - 1, n, share))
    return min(1.0, 2.0 * min(below, above if found else 1.0))


# ------------------------------------------------------------------ separation


def check_separation(result: object) -> Check:
    """Which coefficients have no finite estimate, and levels whose responses are all alike.

    Parameters
    ----------
    result
        A generalised model.

    Returns
    -------
    Check
        By coefficient: ``estimate, se``, and ``limit``, -inf or inf where the rows are separated
        along it, else nan.  The notes count levels that are all 0 or all at the top.

    Raises
    ------
    InterlaceError
        The result is no generalised model.

    Examples
    --------
    >>> import interlace
    >>> cbpp = interlace.datasets.load("cbpp")
    >>> result = interlace.fit(
    ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
    ... )
    >>> check_separation(result).notes[0]
    'The rows are not separated: all coefficients have finite estimates.'
    """
    model = _general(result, "check_separation")
    require_rows(model.design, "check_separation")
    found = {one.name: one for one in directions_to_infinity(model.estimate.problem)}
    names = list(model.estimate.A.names)
    limit = [found[n].sign * np.inf if n in found else np.nan for n in names]
    se = np.sqrt(np.diag(model.fe_cov))
    table = pd.DataFrame(
        {"estimate": model.fe_params.to_numpy(), "se": se, "limit": limit}, index=names
    )
    said = "The rows are not separated: all coefficients have finite estimates."
    if found:
        said = (
            f"Without a finite estimate: {', '.join(found)}; merge levels, or give the "
            f"coefficients a prior with fixed_prior=."
        )
    return Check("Separation", table, (said, *_alike(model)))


def _alike(model: FittedGeneralModel) -> list[str]:
    """Levels all of whose responses are 0, or at the top."""
    problem, name = model.estimate.problem, model.family.name
    if not is_count(model.family):
        return []
    notes = []
    ends = {"0": problem.y == 0.0}
    if name == "binomial":
        ends["at the top"] = problem.y == problem.trials
    pairs = zip(problem.rows.terms, problem.rows.codes, strict=True)
    for term, codes in {term.group: (term, codes) for term, codes in pairs}.values():
        size = np.bincount(codes, minlength=term.l)
        for what, rows in ends.items():
            k = int((np.bincount(codes[rows], minlength=term.l) == size).sum())
            if k:
                notes.append(f"{k} of {term.l} levels of '{term.group}' are all {what}.")
    return notes


# ------------------------------------------------------------------ approximation


def check_approximation(result: object, nodes: int = 15) -> Check:
    """Estimates by Laplace's approximation beside those by quadrature.

    Parameters
    ----------
    result
        A generalised model with one grouping factor and at most three random effects a level.
    nodes
        Of the quadrature, a dimension.

    Returns
    -------
    Check
        By parameter: ``laplace, quadrature, difference``, and ``in_se``, the difference in standard
        errors (of coefficients); the last row is the log-likelihood.

    Raises
    ------
    InterlaceError
        The model is none that quadrature can fit.

    Examples
    --------
    >>> import interlace
    >>> cbpp = interlace.datasets.load("cbpp")
    >>> result = interlace.fit(
    ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
    ... )
    >>> check_approximation(result).table["difference"].round(3).to_dict()["sd_Intercept|herd"]
    0.005
    """
    model = _general(result, "check_approximation")
    if not isinstance(nodes, int | np.integer) or nodes < 2:
        raise InterlaceError(f"nodes must be a whole number of at least 2, not {nodes!r}")
    if model.method == "REML":
        raise InterlaceError('quadrature is for maximum likelihood: refit with update(method="ML")')
    refuse_quadrature(model.estimate.problem, int(nodes))
    used = model.estimate.approximation.nodes
    exact = model.estimate if used > 1 else _again(model, Quadrature(int(nodes)))
    rough = model.estimate if used == 1 else _again(model, Laplace())
    names = [*GeneralParameters(model).names, "log-likelihood"]
    columns = [_parameters(model, one) for one in (rough, exact)]
    difference = columns[1] - columns[0]
    se = np.full(len(names), np.nan)
    se[: model.estimate.A.p] = np.sqrt(np.diag(exact.vcov))
    table = pd.DataFrame(
        {
            "laplace": columns[0],
            "quadrature": columns[1],
            "difference": difference,
            "in_se": difference / se,
        },
        index=names,
    )
    worst = float(np.nanmax(np.abs(table["in_se"])))
    enough = "is enough here" if worst < 0.1 else "is not enough: fit with quadrature="
    number = used if used > 1 else nodes
    said = (
        f"{number} nodes move coefficients by up to {worst:.2g} standard errors: Laplace {enough}"
        f"{'' if worst < 0.1 else number}."
    )
    return Check("Approximation of the likelihood", table, (said,))


def _again(model: FittedGeneralModel, approximation: Quadrature | Laplace) -> GeneralEstimate:
    return estimate_general(model.estimate.problem, approximation, near=model.estimate)


def _parameters(model: FittedGeneralModel, estimate: GeneralEstimate) -> Floats:
    """All parameters, and the log-likelihood."""
    assert model.design is not None
    values = GeneralParameters(model).read(model.design, estimate)
    return np.append(values, -0.5 * estimate.value)
