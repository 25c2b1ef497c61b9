"""Coefficients of a model with a residual structure: tables, tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from interlace import inference
from interlace.choices import Ddf
from interlace.errors import InterlaceError
from interlace.estimation.residual import StructuredEstimate
from interlace.inference.residual_tests import TestedResidualModel
from interlace.model.structured import FittedStructuredModel

if TYPE_CHECKING:
    from interlace.inference.bootstrap.replicates import BootstrapResult
    from interlace.inference.robust.clusters import Cluster
    from interlace.inference.wald import Reference


@dataclass(frozen=True, eq=False)
class TestedStructuredModel(TestedResidualModel[StructuredEstimate], FittedStructuredModel):
    """Coefficients with tables, tests and intervals: a chapter of ``StructuredLMEResult``."""

    def _named(self, ddf: str) -> Reference:
        """The reference of a name."""
        return inference.structured.reference(self.estimate, ddf, self.between)

    def _robust(self, kind: str, cluster: Cluster, ddf: Ddf | None) -> Reference:
        """A reference that is robust to a wrong covariance within subjects.

        Raises
        ------
        InterlaceError
            Clusters other than the subjects, or random effects that subjects share.
        """
        subject = next(iter(self.ngroups))
        if self.shared:
            term = self.estimate.A.terms[self.shared[0]]
            raise InterlaceError(
                f"robust= takes subjects as independent, but they share effects of {term.group!r}: "
                "leave robust out, or the random effects"
            )
        if cluster is not None and not (isinstance(cluster, str) and cluster == subject):
            raise InterlaceError(
                f"models with residual= are robust by subject so far: leave cluster out, or name "
                f"{subject!r}"
            )
        return inference.robust.subjects.subject_reference(self.estimate, kind, ddf, self.with_rows)

    def _profile_limits(self, level: float, parm: str | Sequence[str] | None) -> pd.DataFrame:
        """Profile-likelihood limits."""
        return inference.profiles.structured.profile_limits_structured(
            self, self.parameter_names, parm=parm, level=level
        )

    def _bootstrapped(self, n: int, seed: int | None) -> BootstrapResult:
        """A parametric bootstrap."""
        return inference.bootstrap.structured.bootstrap_structured(self, n, seed=seed)
