"""Conditional AIC: how well a model predicts new responses of the same groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interlace.batch.refits import weighted_columns
from interlace.design.recipe import require_rows
from interlace.estimation.estimate import Estimate
from interlace.inference.information import profiled_information, theta_inverse
from interlace.machine.markup import html_facts, text_facts
from interlace.model.fitted import FittedModel
from interlace.solver.blocks import solved
from interlace.solver.rows import quadratic_forms
from interlace.solver.solve import gram_times
from interlace.sums.rows import Rows
from interlace.sums.terms import Floats

_NEEDS = "the conditional AIC needs"


@dataclass(frozen=True, repr=False)
class ConditionalAIC:
    """Conditional AIC and its parts.

    Attributes
    ----------
    caic
        ``-2 loglik + 2 df``.
    loglik
        Log-likelihood of the responses given the predicted random effects.
    df
        Effective degrees of freedom: those of the fitted values and one for the residual variance,
        as the R package cAIC4 counts them.
    df_exact
        The same with the derivative of the fitted values by the responses in full, as refits to
        changed responses give it; cAIC4 takes half of one of its parts.
    df_fixed_theta
        Trace of the hat matrix: degrees of freedom if the variances were known.
    """

    caic: float
    loglik: float
    df: float
    df_exact: float
    df_fixed_theta: float

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        return pd.DataFrame([{name: getattr(self, name) for name in self.__dataclass_fields__}])

    def __repr__(self) -> str:
        return text_facts("Conditional AIC", self._facts())

    def _repr_html_(self) -> str:
        return f"<div><h4>Conditional AIC</h4>{html_facts(self._facts())}</div>"

    def _facts(self) -> list[tuple[str, str]]:
        """What there is to know, in words."""
        return [
            ("conditional AIC", f"{self.caic:.2f}"),
            ("log-likelihood", f"{self.loglik:.2f}, given the random effects"),
            ("effective df", f"{self.df:.2f} ({self.df_fixed_theta:.2f} if variances were known)"),
        ]


def caic(result: FittedModel) -> ConditionalAIC:
    """Conditional AIC with the uncertainty of the variances; see the method ``caic``."""
    design = require_rows(result.design, "caic")
    estimate = result.estimate
    n, sigma = estimate.A.n, estimate.sigma
    w = design.weights
    squares = float(((result.resid * design.root_weights) ** 2).sum())
    log_w = 0.0 if w is None else float(np.log(w).sum())
    loglik = -0.5 * (n * np.log(2.0 * np.pi * sigma**2) - log_w + squares / sigma**2)
    rows = design.in_basis(estimate.A.basis, estimate.A.names).times(design.root_weights)
    trace = float(quadratic_forms(estimate.evaluation.dense(_NEEDS), rows).sum())
    half, whole = _of_theta(estimate, design, result.resid)
    df = trace + 1.0 + half
    value = float(2.0 * (df - loglik))
    return ConditionalAIC(value, float(loglik), df, trace + 1.0 + whole, trace)


def _of_theta(estimate: Estimate, rows: Rows, resid: Floats) -> tuple[float, float]:
    """What estimating theta adds: the trace of ``(d fitted / d theta) (d theta / d y)``.

    First as cAIC4 has it, with half of the part that comes from the residual variance, then whole.

    With ``a_r = P V_r P y`` the first is ``a_r`` and, as the gradient stays 0, the second
    ``-H^-1 (2 nu / r2) (q_r P y / r2 - a_r)``, ``q_r = y' a_r``.
    """
    criterion, A = estimate.criterion, estimate.A
    factor = criterion.at_theta(estimate.theta).dense(_NEEDS)  # whose templates are triangular
    parts = []
    for term, basis, T, f in zip(
        A.terms, A.basis.random, factor.templates, factor.effects, strict=True
    ):
        D = solved(basis, term.slopes(basis @ T))
        E = D @ T.T + T @ D.swapaxes(1, 2)
        parts.append(np.einsum("rab,lb->lar", E, f.e))
    widths = np.cumsum([0, *(part.shape[2] for part in parts)])
    H = [np.zeros((*part.shape[:2], widths[-1])) for part in parts]
    for h, part, start in zip(H, parts, widths, strict=False):
        h[..., start : start + part.shape[2]] = part
    ZZH = gram_times(factor, H)
    XZH = sum(
        np.tensordot(zv[..., :-1], h, ((0, 1), (0, 1))) for zv, h in zip(A.zv, H, strict=True)
    )
    b, beta = factor.solve(ZZH, np.asarray(XZH))
    columns = weighted_columns(rows, A)
    left = [(h - one).reshape(-1, widths[-1]) for h, one in zip(H, b, strict=True)]
    a = sum(Z.T @ h for Z, h in zip(columns.Z, left, strict=True)) - columns.Q @ beta
    Py = resid * columns.root_w * A.basis.response_scale
    r2, nu = factor.r2, criterion.nu
    q = np.concatenate(
        [np.einsum("lar,la->r", p, f.e) for p, f in zip(parts, factor.effects, strict=True)]
    )
    H_theta = profiled_information(criterion, estimate.theta)
    inverse = 2.0 * nu / r2 * theta_inverse(criterion, estimate.theta, H_theta)
    direct = float((inverse * (a.T @ a)).sum())
    by_sigma = float((inverse * np.outer(q, Py @ a)).sum()) / r2
    return direct - 0.5 * by_sigma, direct - by_sigma
