"""The panel of checks of a fitted model: the value that comes back, and the verb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from interlace.model.fitted import E, Labelled
from interlace.results.shown import as_html, as_text

if TYPE_CHECKING:
    from interlace.model.simulate import Seed
    from interlace.plots.style import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Checks:
    """All checks of a fitted model.

    Attributes
    ----------
    title, table
        By check: what was ``found``, ``p``, and the ``verdict``: "fine", "look", or "-" where there
        is nothing to check.
    notes
        What to do about those that need a look.
    result
        The model.
    """

    title: str
    table: pd.DataFrame
    notes: tuple[str, ...]
    result: Labelled[Any]
    seed: Seed = 0

    def __getitem__(self, column: str) -> pd.Series:
        """A column of the table."""
        return self.table[column]

    def __repr__(self) -> str:
        return as_text(self._shown, by=(), title=self.title, notes=self.notes)

    def _repr_html_(self) -> str:
        return as_html(self._shown, title=self.title, notes=self.notes)

    @property
    def _shown(self) -> pd.DataFrame:
        return self.table.reset_index()[["check", "verdict", "p", "found"]]

    def plot(self, *, level: float = 0.95) -> Figure:
        """The checks as a panel of figures; see :func:`interlace.plots.plot_checks`.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> figure = result.check().plot()
        """
        from interlace.plots.checks import plot_checks

        return plot_checks(self.result, level=level, seed=self.seed)


@dataclass(frozen=True, eq=False)
class Checked(Labelled[E]):
    """Checks of a fitted model of any family; a chapter of a result."""

    def check(self, *, nsim: int = 500, seed: Seed = 0) -> Checks:
        """All checks of the model at once.

        Parameters
        ----------
        nsim, seed
            Of the simulated responses.

        Returns
        -------
        Checks
            ``table`` with a row a check (responses beside simulated ones, linearity, homogeneity,
            normality and simulation of the residuals, random effects, influential rows and groups,
            collinearity, and of generalised models dispersion and separation), ``notes`` on those
            that need a look, ``plot()``.

        Raises
        ------
        InterlaceError
            The result has no rows.

        Notes
        -----
        Each is also a function: :func:`interlace.check_predictions`, ``check_linearity,
        check_heteroscedasticity, check_residuals, check_random_effects, check_influence,
        check_collinearity, check_dispersion, check_zeros, check_separation, check_singularity``.
        Probabilities are judged together by Holm's rule, so that one healthy data set in 20 has a
        fault found in any of them; influence by the cut-off of
        :mod:`interlace.diagnostics.chance`, which has that chance of its own.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.check().table["verdict"].loc[["linearity", "normality"]].to_dict()
        {'linearity': 'fine', 'normality': 'look'}
        """
        from interlace.diagnostics.panel import panel

        table, notes = panel(self, nsim, seed)
        return Checks("Checks of the model", table, notes, self, seed)
