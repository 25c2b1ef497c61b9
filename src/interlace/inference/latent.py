"""The latent scale of ordered categories, on which their model has an intercept.

``P(Y <= j) = F(threshold_j - eta)``: what ``eta`` leaves open is where the thresholds lie, so that
minus their mean stands for the intercept, as in R's emmeans (``mode="latent"``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlace.errors import InterlaceError
from interlace.inference.wald import FTest, wald_f
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class Given:
    """Parameters with their covariance, as a reference in large samples: normal, chi-squared."""

    beta: Floats
    vcov: Floats

    def df(self, L: Floats) -> Floats:
        """Infinite."""
        return np.full(len(L), np.inf)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Wald's chi-squared test, the statistic divided by its degrees of freedom."""
        return FTest(wald_f(self.beta, self.vcov, L, value), len(L), np.inf)


def latent_names(model: FittedGeneralModel) -> tuple[str, ...]:
    """Names of the coefficients on the latent scale.

    Raises
    ------
    InterlaceError
        The formula leaves the intercept out, in place of which thresholds stand.
    """
    if "Intercept" not in model.encoding.fixed.names:
        raise InterlaceError(
            "means and tests of terms of ordered categories need the intercept in the formula, for "
            "which the thresholds stand: leave '0 +' out of it"
        )
    return ("Intercept", *model.estimate.A.names)


def latent(model: FittedGeneralModel) -> Given:
    """Minus the mean of the thresholds, and the fixed effects, with their joint covariance."""
    estimate = model.estimate
    p = estimate.A.p
    joint = np.concatenate((estimate.beta, estimate.family_coefficients))
    r = len(joint) - p
    J = np.zeros((1 + p, p + r))
    J[0, p:] = -1.0 / r
    J[1:, :p] = np.eye(p)
    return Given(J @ joint, J @ estimate.joint_covariance @ J.T)
