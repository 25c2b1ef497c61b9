"""Coefficients of a generalised model: tables, tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from interlace.errors import InterlaceError
from interlace.estimation.parameters import selected
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.tested import Coefficients
from interlace.model.generalised import FittedGeneralModel


@dataclass(frozen=True, eq=False)
class TestedGeneralModel(Coefficients[GeneralEstimate], FittedGeneralModel):
    """Coefficients with tables, tests and intervals: a chapter of ``CrossedGLMMResult``."""

    @cached_property
    def fe_conf_int(self) -> pd.DataFrame:
        """95 % Wald intervals of the coefficients, columns ``0.025`` and ``0.975``."""
        return self.conf_int()

    def conf_int(
        self,
        level: float = 0.95,
        method: str = "wald",
        parm: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Wald intervals of the coefficients, on the scale of the link.

        Parameters
        ----------
        level
            Coverage.
        method
            ``"wald"``.
        parm
            Names of the coefficients wanted; all by default.

        Returns
        -------
        DataFrame
            By coefficient; the columns are the two tail probabilities.

        Raises
        ------
        InterlaceError
            A level outside (0, 1), an unknown method or coefficient.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.conf_int(parm="Intercept").round(3)
                   0.025  0.975
        Intercept -1.854 -0.943
        """
        if method != "wald":
            raise InterlaceError(f"method must be 'wald', not {method!r}")
        table = self.coef_table(level=level)
        names = list(table.index)
        wanted = list(selected(names, parm, len(names)))
        tail = (1.0 - level) / 2.0
        limits = table.loc[wanted, ["lower", "upper"]]
        return limits.set_axis([f"{tail:.6g}", f"{1.0 - tail:.6g}"], axis=1)
