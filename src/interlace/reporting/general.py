"""The summary of a generalised model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from interlace.errors import InterlaceError
from interlace.glmm.limits import at_limit
from interlace.glmm.zeros import Inflated, base_of
from interlace.inference.components import component_table
from interlace.reporting.broom import exponentiated
from interlace.reporting.summary import (
    Summary,
    Table,
    aligned,
    chance_notes,
    chance_table,
    fixed_table,
    random_table,
)

if TYPE_CHECKING:
    from interlace.inference.general import TestedGeneralModel

# What the parameters of a family are, by family and name.
_AUXILIARY = {
    ("negative-binomial", "size"): "Size k (variance mu + mu^2 / k)",
    ("beta", "precision"): "Precision phi (variance mu (1 - mu) / (1 + phi))",
    ("beta-binomial", "precision"): "Precision phi",
    ("student-t", "scale"): "Scale s",
    ("student-t", "df"): "Degrees of freedom",
    ("tweedie", "dispersion"): "Dispersion phi (variance phi mu^power)",
    ("tweedie", "power"): "Power",
}
_COMPONENTS = {"threshold": "Thresholds", "zero-inflation": "Zeros (logit)"}
# What is not there where the parameter of a family is at its limit, and what fits as well.
_SIMPLER = {
    "": ("zeros in excess are left", "the model without zero_inflation="),
    "negative-binomial": ("overdispersion beyond Poisson is left", "family='poisson'"),
    "beta-binomial": ("overdispersion beyond binomial is left", "family='binomial'"),
    "student-t": ("heavier tails than normal ones are left", "family='gaussian'"),
}
_DISPERSION = {
    "negative-binomial": "Dispersion phi (variance mu (1 + phi))",
    "gamma": "Dispersion phi (variance phi mu^2)",
    "inverse-gaussian": "Dispersion phi (variance phi mu^3)",
    "gaussian": "Residual variance",
}
_CRITERION = {"ML": "Log-likelihood", "REML": "Restricted log-likelihood"}
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
            *([fixed_table(result)] if len(result.fe_params) else []),
            *_component_tables(result),
            *([_ratios(result)] if ratios else []),
            *chance_table(result),
        ),
        notes=_notes(result),
    )


def _facts(result: TestedGeneralModel) -> tuple[tuple[str, str], ...]:
    convergence, nodes = result.convergence, result.estimate.approximation.nodes
    dropped = f" ({result.n_dropped:,} dropped: missing values)" if result.n_dropped else ""
    state = "converged" if convergence.converged else f"NOT converged: {convergence.message}"
    means = "Laplace" if nodes == 1 else f"adaptive Gauss-Hermite, {nodes} nodes a dimension"
    if result.method == "REML":
        means = "REML: Laplace, over the fixed effects too"
    facts = [
        ("Formula", str(result.formula)),
        ("Observations", f"{result.nobs:,}{dropped}"),
        ("Groups", ", ".join(f"{key} {size:,}" for key, size in result.ngroups.items())),
        ("Approximation", means),
        (_CRITERION[result.method], f"{result.llf:.4f}"),
        ("AIC, BIC", f"{result.aic:.2f}, {result.bic:.2f}"),
    ]
    facts += _family_facts(result)
    by = ", iterative solver" if convergence.solver == "iterative" else ""
    facts.append(("Optimiser", f"{state}, {convergence.n_evaluations} evaluations{by}"))
    return tuple(facts)


def _family_facts(result: TestedGeneralModel) -> list[tuple[str, str]]:
    """Parameters of the family that are the same for all rows."""
    parts, base = result.estimate.problem.parts, base_of(result.family)
    values = parts.reported(result.estimate.family_coefficients)
    return [
        (_AUXILIARY.get((base.name, name), _DISPERSION.get(base.name, name)), f"{value:.6g}")
        for name, scale, value in zip(parts.names, parts.scale, values, strict=True)
        if scale
    ]


def _component_tables(result: TestedGeneralModel) -> Iterator[Table]:
    """A table for every auxiliary predictor with coefficients of its own."""
    whole = component_table(result.estimate)
    for component in whole.index.unique("component"):
        table = whole.loc[component]
        columns = {
            "": [str(name) for name in table.index],
            "Estimate": aligned(table["estimate"].to_numpy()),
            "Std. error": aligned(table["se"].to_numpy()),
            "z": [f"{z:.3f}" for z in table["statistic"]],
            "P>|z|": [f"{p:.3f}" if p >= 0.0005 else "<0.001" for p in table["p"]],
            "[0.025": aligned(table["lower"].to_numpy()),
            "0.975]": aligned(table["upper"].to_numpy()),
        }
        if component == "threshold":
            del columns["z"], columns["P>|z|"]
        rows = tuple(zip(*columns.values(), strict=True))
        title = _COMPONENTS.get(component, f"Model of the logarithm of the {component}")
        yield Table(title, tuple(columns), rows, labels=1)


def _limit_notes(result: TestedGeneralModel) -> list[str]:
    """What a fit has come to whose family has a simpler law as a limit."""
    if not at_limit(result.estimate.problem, result.estimate.gamma):
        return []
    family = result.family
    key = "" if isinstance(family, Inflated) else family.name
    nothing, way = _SIMPLER[key]
    return [
        f"No {nothing}: {way} fits as well, and the estimate of the family's parameter is at its "
        f"limit."
    ]


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
    notes = chance_notes(result)
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
    notes += _limit_notes(result)
    if result.is_singular:
        terms = ", ".join(result.estimate.singular_groups)
        notes.append(
            f"Singular fit: a variance, or a combination of random effects, is zero in {terms}."
        )
    return tuple(notes)
