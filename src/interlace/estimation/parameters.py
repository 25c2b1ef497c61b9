"""Standard deviations and correlations of a fit: their names, order and values.

The one place that names them; bootstrap tables, profiles and intervals all read it.  Per term, and
per column of it: the standard deviation of its effects, then the correlations of the later columns
with it, as lme4 orders its profiles; the residual standard deviation comes last.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from interlace.errors import InterlaceError
from interlace.sums.terms import Floats, ReTerm

if TYPE_CHECKING:
    from interlace.estimation.estimate import Estimate

SIGMA = "sigma"
# Names that stand for all fixed effects and for all variance parameters, as in lme4.
GROUPS = ("beta_", "theta_")


def variance_parameter_names(terms: Sequence[ReTerm]) -> list[str]:
    """Names of the standard deviations and correlations of all terms, then ``sigma``.

    ``sd_<column>|<group>`` and ``cor_<later>.<earlier>|<group>``; a term with ``||`` has no
    correlations.

    Examples
    --------
    >>> import numpy as np
    >>> from interlace.covariance.templates import Full
    >>> from interlace.sums.terms import ReTerm
    >>> term = ReTerm("Subject", ("Intercept", "Days"), np.array(["a", "b"]), Full(2))
    >>> variance_parameter_names([term])[:2]
    ['sd_Intercept|Subject', 'cor_Days.Intercept|Subject']
    """
    names = [f"{name}|{t.group}" for t in terms for name in entry_names(t, "sd_{}", "cor_{}.{}")]
    return [*names, SIGMA]


def theta_names(terms: Sequence[ReTerm]) -> list[str]:
    """Names of the entries of ``theta``: ``<group>.<column>`` on the diagonal of a template, and
    ``<group>.<row>.<column>`` below it.
    """
    return [name for t in terms for name in _theta_names(t)]


def _theta_names(t: ReTerm) -> list[str]:
    if named := t.template.labels(t.columns):
        return [f"{t.group}.{kind}.{name}" for kind, name in named]
    return [
        ".".join([t.group, *dict.fromkeys((t.columns[a], t.columns[b]))])
        for a, b in zip(*t.free_index, strict=True)
    ]


def variance_parameters(
    terms: Sequence[ReTerm], templates: Sequence[Floats], sigma: Floats
) -> Floats:
    """Values of the parameters of :func:`variance_parameter_names`, in the units of the response.

    Parameters
    ----------
    terms
        The random-effects terms.
    templates
        Per term ``(..., k, k)``, in the user's units: ``sigma^2 T T'`` is the covariance.  They
        need not be triangular.
    sigma
        Residual standard deviation, ``(...)``.

    Returns
    -------
    ndarray
        ``(..., number of parameters)``; a correlation with a standard deviation of 0 is NaN.
    """
    residual = np.asarray(sigma, dtype=np.float64)[..., None]
    parts = [_term_values(term, T, residual) for term, T in zip(terms, templates, strict=True)]
    return np.concatenate([*parts, residual], axis=-1)


def selected(
    names: Sequence[str], parm: str | Sequence[str] | None, n_fixed: int
) -> dict[str, None]:
    """The names asked for, in their own order; the first ``n_fixed`` are fixed effects.

    ``parm`` is a name, several, or lme4's ``"beta_"`` and ``"theta_"`` for all fixed effects and
    all variance parameters.

    Raises
    ------
    InterlaceError
        A name that no parameter has.
    """
    if parm is None:
        return dict.fromkeys(names)
    asked = [parm] if isinstance(parm, str) else list(parm)
    groups = {"beta_": names[:n_fixed], "theta_": names[n_fixed:]}
    for name in asked:
        if name not in names and name not in GROUPS:
            raise InterlaceError(
                f"unknown parameter {name!r}: choose among {', '.join(map(repr, names))}, or "
                f"'beta_' for all fixed effects, 'theta_' for all variance parameters"
            )
    wanted = {name for a in asked for name in groups.get(a, [a])}
    return dict.fromkeys(name for name in names if name in wanted)


def entry_names(term: ReTerm, variance: str, covariance: str) -> list[str]:
    """Names of the entries of one term's covariance, in the order of their parameters.

    ``variance`` is filled with a column, ``covariance`` with a later and an earlier one; the single
    correlation of a structure has the structure's name in place of both.
    """
    if named := term.template.labels(term.columns):
        alone = covariance.replace("{1}.{0}", "{0}").replace("{}.{}", "{0}").replace("cor_", "rho_")
        return [(variance if kind == "sd" else alone).format(name) for kind, name in named]
    return [
        variance.format(term.columns[a])
        if a == b
        else covariance.format(term.columns[b], term.columns[a])
        for b, a in zip(*term.template.entries, strict=True)
    ]


def broom_names(term: ReTerm) -> list[str]:
    """Names of one term's parameters in broom.mixed, in the order of :attr:`ReTerm.free_index`."""
    names = entry_names(term, "sd__{}", "cor__{1}.{0}")
    return [names[i] for i in term.template.listed(backwards=term.backwards)]


def _term_values(term: ReTerm, T: Floats, sigma: Floats) -> Floats:
    """Values of one term's parameters, ``(..., c)``; ``sigma`` is ``(..., 1)``."""
    power = np.frexp(np.abs(T).max(axis=-1))[1]  # squares stay in range
    size = np.ldexp(np.sqrt((np.ldexp(T, -power[..., None]) ** 2).sum(axis=-1)), power)
    rows = T / np.where(size > 0.0, size, np.nan)[..., None]
    values = np.clip(rows @ np.swapaxes(rows, -1, -2), -1.0, 1.0)
    own = np.arange(term.k)
    values[..., own, own] = sigma * size
    b, a = term.template.entries
    return np.asarray(values[..., b, a])


def powers_of_parameters(estimate: Estimate) -> dict[Hashable, int]:
    """Powers of 2 of the units of every parameter, by its name: fixed effects, then variances."""
    units, terms = estimate.units, estimate.A.terms
    assert units is not None
    powers = units.coefficients.tolist()
    for term, effects in zip(terms, units.effects, strict=True):
        entries = zip(*term.template.entries, strict=True)
        powers += [int(effects[a]) if a == b else 0 for b, a in entries]
    names = [*estimate.A.names, *variance_parameter_names(terms)]
    return dict(zip(names, [*powers, units.sigma], strict=True))
