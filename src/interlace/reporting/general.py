"""The summary of a generalised model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlace.errors import InterlaceError
from interlace.glmm.limits import without_overdispersion
from interlace.reporting.broom import exponentiated
from interlace.reporting.summary import Summary, Table, aligned, fixed_table, random_table

if TYPE_CHECKING:
    from interlace.inference.general import TestedGeneralModel

# What the auxiliary parameter is, by family and its name there.
_AUXILIARY = {
    "size": "Size k (variance mu + mu^2 / k)",
    "precision": "Precision phi (variance mu (1 - mu) / (1 + phi))",
}
_DISPERSION = {
    "negative-binomial": "Dispersion phi (variance mu (1 + phi))",
    "gamma": "Dispersion phi (variance phi mu^2)",
    "inverse-gaussian": "Dispersion phi (variance phi mu^3)",
    "gaussian": "Residual variance",
}
# What exponentials of coefficients are, by family and link, or by link.
_RATIOS = {
    ("", "logit"): "Odds ratios",
    ("", "cloglog"): "Hazard ratios",
    ("binomial", "log"): "Risk ratios",
    ("poisson", "log"): "Rate ratios",
    ("negative-binomial", "log"): "Rate ratios",
    ("", "log"): "Ratios of means",
}


def summarize_general(result: TestedGeneralModel, *, ratios: bool = False) -> Summary:
    """Collect the tables of a generalised model; with ``ratios`` exponentials of coefficients too.

    Raises
    ------
    InterlaceError
        Exponentials of coefficients mean nothing with the link.
    """
    family = result.family
    return Summary(
        title=f"Generalised linear mixed model: {family.name}, {family.link.name} link",
        facts=_facts(result),
        tables=(
            random_table(result.variance_components, None),
            fixed_table(result),
            *([_ratios(result)] if ratios else []),
        ),
        notes=_notes(result),
    )


def _facts(result: TestedGeneralModel) -> tuple[tuple[str, str], ...]:
    convergence, nodes = result.convergence, result.estimate.approximation.nodes
    dropped = f" ({result.n_dropped:,} dropped: missing values)" if result.n_dropped else ""
    state = "converged" if convergence.converged else f"NOT converged: {convergence.message}"
    means = "Laplace" if nodes == 1 else f"adaptive Gauss-Hermite, {nodes} nodes a dimension"
    facts = [
        ("Formula", str(result.formula)),
        ("Observations", f"{result.nobs:,}{dropped}"),
        ("Groups", ", ".join(f"{key} {size:,}" for key, size in result.ngroups.items())),
        ("Approximation", means),
        ("Log-likelihood", f"{result.llf:.4f}"),
        ("AIC, BIC", f"{result.aic:.2f}, {result.bic:.2f}"),
    ]
    if name := result.family.auxiliary:
        label = _AUXILIARY.get(name, _DISPERSION.get(result.family.name, name))
        facts.append((label, f"{result.dispersion:.6g}"))
    facts.append(("Optimiser", f"{state}, {convergence.n_evaluations} evaluations"))
    return tuple(facts)


def _ratios(result: TestedGeneralModel) -> Table:
    """Exponentials of the coefficients but the intercept, with their intervals."""
    link = result.link.name
    title = _RATIOS.get((result.family.name, link)) or _RATIOS.get(("", link))
    if title is None:
        raise InterlaceError(
            f"ratios need a logit, cloglog or log link: exponentials of coefficients mean nothing "
            f"with link={link!r}"
        )
    table = exponentiated(result.coef_table())
    table = table[table.index != "Intercept"]
    columns = (aligned(table[name].to_numpy()) for name in ("estimate", "lower", "upper"))
    rows = tuple(zip(map(str, table.index), *columns, strict=True))
    return Table(title, ("", "Ratio", "[0.025", "0.975]"), rows, labels=1)


def _notes(result: TestedGeneralModel) -> tuple[str, ...]:
    notes = []
    if result.options.fixed_prior is not None:
        notes.append(
            f"The coefficients but the intercept have a normal prior of standard deviation "
            f"{result.options.fixed_prior:g}; the log-likelihood is without it."
        )
    if result.estimate.A.dropped:
        dropped = ", ".join(result.estimate.A.dropped)
        notes.append(f"Dropped as linearly dependent on earlier columns: {dropped}")
    for one in result.separated:
        sign = "-" if one.sign < 0 else "+"
        notes.append(f"The rows are separated: the estimate of {one.name} is {sign}infinity.")
    if without_overdispersion(result.estimate.problem, result.estimate.gamma):
        notes.append(
            "No overdispersion beyond Poisson is left: family='poisson' fits as well, and "
            "the estimate of the family's parameter is at its limit."
        )
    if result.is_singular:
        terms = ", ".join(result.estimate.singular_groups)
        notes.append(
            f"Singular fit: a variance, or a combination of random effects, is zero in {terms}."
        )
    return tuple(notes)
