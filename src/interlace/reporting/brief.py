"""A result in a few lines, and as the package maketables reads it."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

import numpy as np
import pandas as pd

from interlace.estimation.parameters import variance_parameter_names, variance_parameters
from interlace.inference.tested import TestedModel
from interlace.model.fitted import shown_components
from interlace.reporting import apa
from interlace.reporting.explained import icc, r2
from interlace.reporting.summary import WIDTH, fitting, fixed_table, text_rows


def short(result: TestedModel) -> str:
    """Coefficients with their tests, spread of the random effects, and size."""
    formula = wrap(str(result.formula), WIDTH, break_long_words=False)
    lines = [*formula, "", *text_rows(fitting(fixed_table(result)))]
    parts = []
    for key, component in shown_components(result).items():
        frame = component if isinstance(component, pd.DataFrame) else None
        names = ["Intercept"] if frame is None else [str(name) for name in frame.index]
        sds = np.sqrt(np.atleast_1d(component if frame is None else np.diag(frame)))
        shown = [f"{name} {_sd(sd)}" for name, sd in zip(names, sds, strict=True)]
        parts.append(f"{key} ({result.ngroups[key]:,} levels): {', '.join(shown)}")
    parts.append(f"residual {_sd(float(np.sqrt(result.scale)))}")
    lines += wrap(f"Standard deviations: {'; '.join(parts)}", WIDTH, break_long_words=False)
    state = "" if result.converged else "; NOT converged"
    singular = "; singular" if result.is_singular else ""
    lines.append(f"{result.nobs:,} rows, {result.method} {result.criterion:.4f}{state}{singular}")
    return "\n".join(lines)


def _sd(value: float) -> str:
    """A standard deviation; a dash where it is not determined."""
    return apa.number(value, apa.decimals_for(value, 2)) or "-"


@dataclass(frozen=True, eq=False)
class ForMakeTables:
    """A result with nothing but what the package maketables asks of one by its plug-in names.

    That package first asks its own readers, and its reader of statsmodels' results takes whatever
    has ``params``, ``bse`` and ``pvalues``: coefficients alone, without the random part.
    """

    result: TestedModel

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        return maketables_coefficients(self.result)

    @property
    def __maketables_depvar__(self) -> str:
        return self.result.formula.response

    def __maketables_stat__(self, key: str) -> float | int | str | None:
        return maketables_statistic(self.result, key)

    @property
    def __maketables_default_stat_keys__(self) -> list[str]:
        return ["N", *self._groups, "r2_within", "r2", "aic"]

    @property
    def __maketables_stat_labels__(self) -> dict[str, str]:
        labels = {"r2_within": "R2 (marginal)", "r2": "R2 (conditional)", "aic": "AIC"}
        return labels | self._groups

    @property
    def _groups(self) -> dict[str, str]:
        """Keys of the numbers of groups, with their labels."""
        return {f"groups {key}": f"Groups: {key}" for key in self.result.ngroups}


def maketables_coefficients(result: TestedModel) -> pd.DataFrame:
    """Columns ``b, se, t, p, ci95l, ci95u``; standard deviations have an estimate alone."""
    names = {
        "estimate": "b",
        "se": "se",
        "statistic": "t",
        "p": "p",
        "lower": "ci95l",
        "upper": "ci95u",
    }
    fixed = result.coef_table()[list(names)].rename(columns=names)
    terms, estimate = result.estimate.A.terms, result.estimate
    values = variance_parameters(
        terms, [T[None] for T in estimate.user_templates], np.array([estimate.sigma])
    )[0]
    random = pd.DataFrame({"b": values}, index=variance_parameter_names(terms))
    return pd.concat([fixed, random]).rename_axis("Coefficient")


def maketables_statistic(result: TestedModel, key: str) -> float | int | str | None:
    """A statistic by the name that maketables gives it; ``None`` for one that there is not."""
    if key == "N":
        return result.nobs
    if key.startswith("groups "):
        return result.ngroups.get(key.removeprefix("groups "))
    if key in ("aic", "bic"):
        return float(getattr(result, key))
    if key in ("r2", "r2_within"):
        found = r2(result)
        return found.conditional if key == "r2" else found.marginal
    if key in ("ll", "loglik"):
        return result.llf
    if key == "icc":
        return icc(result).adjusted
    if key == "se_type":
        return {"normal": "model", "satterthwaite": "model"}.get(
            result.options.ddf, "Kenward-Roger"
        )
    return None
