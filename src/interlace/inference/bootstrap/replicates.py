"""What a bootstrap returns: replicates, and what they say of the estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from interlace.choices import BootstrapLimits
from interlace.errors import choose
from interlace.model.confidence import check_level, normal_reach, tails

METHODS: tuple[BootstrapLimits, ...] = get_args(BootstrapLimits)


@dataclass(frozen=True, eq=False)
class BootstrapResult:
    """Replicates of a bootstrap, and what they say of the estimates.

    Attributes
    ----------
    replicates
        One row for each replicate that succeeded (indexed by its number), one column a parameter.
    estimate
        The same parameters in the fit itself.
    kind, entropy
        Which bootstrap, and the entropy of its seed: ``SeedSequence(entropy)`` draws it again.
    n, n_failed, n_singular
        Replicates asked for, those that failed, and those with a singular covariance.
    failures
        Why replicates failed, by number.
    """

    replicates: pd.DataFrame
    estimate: pd.Series
    kind: str
    n: int
    n_singular: int
    failures: Mapping[int, str]
    entropy: int | Sequence[int] | None

    @property
    def n_failed(self) -> int:
        """Replicates without an estimate."""
        return len(self.failures)

    @property
    def se(self) -> pd.Series:
        """Standard errors: standard deviations over the replicates."""
        power = np.frexp(self.replicates.abs().max().to_numpy())[1]  # squares stay in range
        deviations = np.ldexp(self.replicates.to_numpy(), -power)
        near = pd.DataFrame(deviations, columns=self.replicates.columns).std(ddof=1)
        return pd.Series(np.ldexp(near.to_numpy(), power), index=near.index, name="se")

    @property
    def bias(self) -> pd.Series:
        """Means over the replicates less the estimates."""
        return (self.replicates.mean() - self.estimate).rename("bias")

    def conf_int(self, level: float = 0.95, method: BootstrapLimits = "percentile") -> pd.DataFrame:
        """Bootstrap intervals; columns are the two tail probabilities.

        Parameters
        ----------
        level
            Coverage, strictly between 0 and 1.
        method
            ``"percentile"``: quantiles ``q`` of the replicates.  ``"basic"``: ``2 estimate - q``.
            ``"normal"``: ``estimate - bias -+ z se``.  The last two may leave the range of a
            parameter, below 0 for a standard deviation.

        Raises
        ------
        InterlaceError
            An unknown method, or a level outside (0, 1).

        Notes
        -----
        Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 5.  Replicates
        without a value (a correlation with a standard deviation of 0) are left out.
        """
        check_level(level)
        method = choose("method", method, METHODS)
        tail = (1.0 - level) / 2.0
        low, high = tails(level)
        if method == "normal":
            reach = normal_reach(level) * self.se
            centre = self.estimate - self.bias
            return pd.DataFrame({low: centre - reach, high: centre + reach})
        lower, upper = self.replicates.quantile(tail), self.replicates.quantile(1.0 - tail)
        if method == "basic":
            lower, upper = 2.0 * self.estimate - upper, 2.0 * self.estimate - lower
        return pd.DataFrame({low: lower, high: upper})

    def __repr__(self) -> str:
        return f"{self._title()}\n{self._table().to_string(float_format=lambda v: f'{v:.4g}')}"

    def _repr_html_(self) -> str:
        """Estimates with their errors and intervals, for notebooks."""
        table = self._table().to_html(float_format=lambda v: f"{v:.4g}")
        return f"<div><h4>{self._title()}</h4>{table}</div>"

    def _table(self) -> pd.DataFrame:
        """Estimates, their errors, and intervals."""
        table = pd.concat([self.estimate.rename("estimate"), self.bias, self.se], axis=1)
        return table.join(self.conf_int())

    def _title(self) -> str:
        """Kind and numbers of replicates in one line."""
        parts = [f"{self.kind} bootstrap, {self.n} replicates"]
        parts += [f"{self.n_failed} failed"] if self.n_failed else []
        parts += [f"{self.n_singular} singular"] if self.n_singular else []
        return ", ".join(parts) + "; percentile intervals"
