"""Rows and groups left out of a generalised model, standard units, and power of its tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from interlace import inference
from interlace.design.recipe import require_rows
from interlace.inference.general import TestedGeneralModel
from interlace.results.planned import Power

if TYPE_CHECKING:
    from interlace.diagnostics.general_leftout import GeneralCrossValidation
    from interlace.inference.power.asked import Asked
    from interlace.inference.power.sizes import Sizes
    from interlace.model.simulate import Seed


@dataclass(frozen=True, eq=False)
class GeneralSelection(TestedGeneralModel):
    """Deletions, cross-validation, standard units and power; a chapter of a result."""

    def deletions(self, group: int | str, *, progress: bool | None = None) -> pd.DataFrame:
        """All estimates without each level of a group, by exact refits.

        Parameters
        ----------
        group
            A grouping factor, or 1 for single rows.
        progress
            Whether to show how many refits are done.

        Returns
        -------
        DataFrame
            By level left out: coefficients, standard deviations and correlations, the dispersion,
            size or precision, and ``note``, why there is no fit where the row is nan.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.deletions("herd")[["Intercept", "sd_Intercept|herd"]].head(2).round(2)
              Intercept  sd_Intercept|herd
        herd...
        1         -1.37               0.62
        2         -1.37               0.66
        """
        from interlace.diagnostics.general_leftout import deletions_general

        return deletions_general(self, group, progress=progress)

    def cross_validate(
        self,
        by: int | str,
        *,
        k: int | None = None,
        seed: Seed = None,
        progress: bool | None = None,
    ) -> GeneralCrossValidation:
        """Predictions of rows by fits without them: all parameters are estimated again.

        Parameters
        ----------
        by
            A grouping factor: each of its levels is left out in turn and predicted as a new one,
            its random effects integrated out.  A number: rows are dealt into so many parts, and
            predicted with the random effects that the others give.  ``"rows"``: one at a time.
        k
            Deal the levels of the factor (or the ``"rows"``) into so many parts.
        seed
            Of the dealing.
        progress
            Whether to show how many refits are done.

        Returns
        -------
        GeneralCrossValidation
            ``table`` (``fold, observed, predicted, fitted, log_density`` by row, of proportions if
            binomial), ``scores`` (``rmse, mae, r2, log_density``), ``by_fold``, ``rmse``.

        Raises
        ------
        InterlaceError
            No such factor, or a number of parts that is not between 2 and that of the units.

        Notes
        -----
        ``log_density`` is the logarithm of the probability or density that the other rows give a
        response; of yes-or-no responses minus its mean is the log loss.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> result.cross_validate("herd").scores[["rmse", "log_density"]].round(2)
                   rmse  log_density
        left out   0.13        -1.70
        in sample  0.10        -1.41
        """
        from interlace.diagnostics.general_leftout import cross_validate_general

        return cross_validate_general(self, by, k=k, seed=seed, progress=progress)

    def standardized(self, *, level: float = 0.95) -> pd.DataFrame:
        """Coefficients per standard deviation of the numeric columns, on the scale of the link.

        Parameters
        ----------
        level
            Coverage of the intervals.

        Returns
        -------
        DataFrame
            As :meth:`coef_table`, without the intercept.  Coefficients of factors stay as they are;
            those of numbers are per standard deviation of the number, and in an interaction of each
            number in it.  Linear predictors have no units of their own and are not divided.

        Notes
        -----
        Standard deviations are those of the rows used.

        Examples
        --------
        >>> import interlace
        >>> ticks = interlace.datasets.load("grouseticks")
        >>> result = interlace.fit("TICKS ~ HEIGHT + (1 | BROOD)", ticks, family="poisson")
        >>> result.standardized()[["estimate", "lower", "upper"]].round(2)
                estimate  lower  upper
        HEIGHT     -0.91  -1.18  -0.63
        """
        design, reference = require_rows(self.design, "standardized"), self._reference(None)
        return inference.standardized.standardized_table(
            self, design, reference, level=level, unit=1.0
        )

    def power(
        self,
        test: Asked = None,
        n: int = 1000,
        *,
        sizes: Sizes | None = None,
        effects: Mapping[str, float] | None = None,
        level: float = 0.95,
        seed: Seed = None,
        progress: bool | None = None,
        n_jobs: int = 1,
    ) -> Power:
        """Power of Wald tests of the fixed effects, by simulation from this fit.

        Parameters
        ----------
        test
            A coefficient, a term, or an equation such as ``"a = b"``; a list of them, or a dict of
            hypotheses as in :meth:`wald_test` by name.  By default every coefficient but the
            intercept.
        n
            Simulations of every size.
        sizes
            Numbers of levels by grouping column: ``{"subject": [20, 40, 80]}``; every combination
            is tried.  Levels keep their rows, trials and exposure; where there are not enough of
            them they are repeated under new names.
        effects
            Coefficients, on the scale of the link, to take in place of the estimates: the smallest
            effects of interest.
        level
            Tests are significant where p is below ``1 - level``; also the coverage of the
            intervals of the simulation error.
        seed
            Results depend on it and on the place of a size alone, whatever ``n_jobs``.
        progress
            As in :meth:`bootstrap`.
        n_jobs
            Processes; -1 for as many as there are cores.

        Returns
        -------
        Power
            ``table``, ``plot()``, ``smallest(power)``.

        Raises
        ------
        InterlaceError
            An unknown test, coefficient or grouping column; a result that does not hold its data.

        Notes
        -----
        Responses are drawn from the family, its dispersion, zeros or thresholds as they were
        estimated, with new random effects, and fitted again, small designs as a batch.  A
        simulation that cannot be fitted counts as not significant.

        Examples
        --------
        >>> import interlace
        >>> cbpp = interlace.datasets.load("cbpp")
        >>> result = interlace.fit(
        ...     "incidence ~ period", cbpp, groups="herd", family="binomial", trials="size"
        ... )
        >>> power = result.power("period", 50, effects={"period[T.4]": -0.7}, seed=1)
        >>> power.table[["test", "n"]]
             test   n
        0  period  50
        """
        ways = inference.power.simulate
        plan = ways.Plan(n, "normal", level, seed, progress, n_jobs)
        table = inference.power.general.of_result(self, test, sizes, effects, plan)
        return Power(table, plan.ddf, level)
