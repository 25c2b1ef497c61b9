"""Coefficients of a mixed model with a variance function, and its residual parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from interlace import inference
from interlace.choices import Ddf
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.inference.bootstrap.replicates import BootstrapResult
from interlace.inference.residual_tests import TestedResidualModel
from interlace.inference.robust.clusters import Cluster
from interlace.inference.wald import Reference
from interlace.model.scaled import FittedScaledModel
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class TestedScaledModel(TestedResidualModel[ScaledEstimate], FittedScaledModel):
    """Coefficients with tables, tests and intervals: a chapter of ``ScaledLMEResult``."""

    def _named(self, ddf: str) -> Reference:
        """The reference of a name."""
        return inference.scaled.reference(self, ddf)

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """A cluster-robust reference: that of the model with the weights found."""
        return inference.robust.reference.robust_reference(self.weighted, kind, cluster, ddf)

    def _profile_limits(self, level: float, parm: str | Sequence[str] | None) -> pd.DataFrame:
        """Profile-likelihood limits."""
        return inference.profiles.scaled.profile_limits_scaled(self, parm=parm, level=level)

    def _bootstrapped(self, n: int, seed: int | None) -> BootstrapResult:
        """A parametric bootstrap."""
        return inference.bootstrap.scaled.bootstrap_scaled(self, n, seed=seed)

    @cached_property
    def parameter_covariance(self) -> Floats:
        """Covariance of ``(theta, eta, sigma)``."""
        return inference.scaled.parameter_covariance(self.estimate)

    @property
    def residual_parameters(self) -> pd.DataFrame:
        """The residual standard deviation where the function is 1, and the function's parameters.

        Columns ``estimate`` and ``se``, the latter by the delta method; after a fit by the
        iterative solver also ``mc_error``, the Monte-Carlo error of the function's parameters.
        """
        names, values = zip(*self.residual_values.items(), strict=True)
        ratios = [is_ratio for _, is_ratio in self.ratios]
        slopes = np.where(ratios, values[1:], 1.0 / np.array(self.units))
        q, V = len(self.units), np.diag(self.parameter_covariance)
        errors = np.sqrt(np.append(V[-1], slopes**2 * V[len(V) - 1 - q : -1]))
        columns = {"estimate": values, "se": errors}
        if (chance := self.convergence.monte_carlo_error) is not None:
            columns["mc_error"] = np.append(np.nan, np.abs(slopes) * chance[-q:])
        return pd.DataFrame(columns, index=pd.Index(names, name="parameter"))
