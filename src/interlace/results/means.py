"""Means and slopes of the fixed effects: the verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interlace import inference, results
from interlace.choices import Ddf, MeanWeights, RobustKind, Scale
from interlace.errors import InterlaceError
from interlace.hints import hinted
from interlace.inference.tested import Coefficients
from interlace.model.confidence import check_level
from interlace.model.fitted import E

if TYPE_CHECKING:
    from interlace.inference.means.grid import Grid
    from interlace.inference.means.rows import Seen
    from interlace.inference.means.specs import Names
    from interlace.inference.wald import Reference
    from interlace.results.estimated import EstimatedMeans
    from interlace.sums.terms import Floats

TYPES = ("link", "response")
# Step to both sides of the mean for slopes, in standard deviations.
_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Means(Coefficients[E]):
    """Means and slopes of the fixed effects; a chapter of a result."""

    @cached_property
    def _seen(self) -> Seen:
        """What the rows say of the columns of the fixed effects."""
        return inference.means.rows.Seen(
            self, inference.means.variables.variables_of(self.encoding)
        )

    @hinted
    def emmeans(
        self,
        specs: Names = None,
        by: Names = None,
        *,
        at: Mapping[str, object] | None = None,
        weights: MeanWeights = "equal",
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: str | Sequence[str] | ArrayLike | None = None,
        type: Scale = "link",
        integrate: bool = False,
        level: float = 0.95,
    ) -> EstimatedMeans:
        """Estimated marginal means (least-squares means) of factors.

        Parameters
        ----------
        specs
            Factors to give means of: a name, names, or text such as ``"prime * item"`` or
            ``"prime | item"``.  ``"1"`` gives the overall mean.
        by
            Factors whose levels make groups, within which means are compared.
        at
            Values of columns in place of all levels, or of the mean of a number:
            ``{"age": [20, 40]}``.
        weights
            How the other factors are averaged over: ``"equal"``; ``"proportional"`` to how often
            their combinations occur; ``"outer"``, to how often their levels do; ``"cells"``, to how
            often they occur with the levels of the mean.
        ddf
            As in :meth:`coef_table`.
        robust, cluster
            A cluster-robust covariance, as in :meth:`cov_params`.
        type
            ``"response"`` maps the means of a generalised model to the scale of the response, those
            of a typical group; contrasts are ratios with a log or logit link, else differences on
            the scale of the link.  The two are the same for linear models.
        integrate
            Average the means of a generalised model over the random effects too, on the scale of
            the response: those of the population, of which contrasts are differences.
        level
            Coverage of the intervals, which are not adjusted for their number.

        Returns
        -------
        EstimatedMeans
            ``table``, ``contrasts()``, ``joint_tests()``, ``letters()``, ``plot()``.

        Raises
        ------
        InterlaceError
            A column that the fixed effects do not read, an unknown level or weighting; a mean of a
            number, or frequencies, that a fit without rows cannot tell.

        Notes
        -----
        The grid is that of R's emmeans: factors at all levels, numbers with at most two different
        values at these, others at their mean (each row counting once); a factor that is nested in
        another, which its levels or the terms of the model show, only with the levels that it
        occurs with.  Offsets are 0.  A mean that the data cannot tell, for a combination of levels
        that never occurs, is nan.  Every mean has its own degrees of freedom.

        A fit from sums knows the mean of a number that is a linear combination of columns of
        its model; else give it in ``at``.

        References
        ----------
        Searle, Speed, Milliken (1980), The American Statistician 34, 216-221.

        Examples
        --------
        >>> import interlace
        >>> machines = interlace.datasets.load("machines")
        >>> result = interlace.fit("score ~ Machine + (Machine | Worker)", machines,
        ...                        ddf="kenward-roger")
        >>> result.emmeans("Machine").table.round(2)
          Machine  emmean    se   df  lower  upper
        0       A   52.36  1.68  5.0  48.04  56.68
        1       B   60.32  3.53  5.0  51.25  69.39
        2       C   66.27  1.81  5.0  61.63  70.92
        """
        grid = inference.means.grid.reference_grid(self._seen, at=at)
        inner, groups = inference.means.specs.specified(specs, by, list(grid.values))
        return self._means(
            grid,
            inner,
            groups,
            weights,
            ddf,
            robust,
            cluster,
            type,
            level,
            trend=None,
            integrate=integrate,
        )

    def emtrends(
        self,
        var: str,
        by: Names = None,
        *,
        at: Mapping[str, object] | None = None,
        weights: MeanWeights = "equal",
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: str | Sequence[str] | ArrayLike | None = None,
        level: float = 0.95,
    ) -> EstimatedMeans:
        """Slopes of the expected response along a number, for levels of factors.

        Parameters
        ----------
        var
            A numeric column of the fixed effects.
        by
            Factors to give slopes for, as ``specs`` of :meth:`emmeans`: contrasts compare them
            (within what follows a bar, ``"prime | item"``).
        at, weights, ddf, robust, cluster, level
            As in :meth:`emmeans`.

        Returns
        -------
        EstimatedMeans
            Its ``table`` has ``trend`` in place of ``emmean``.

        Raises
        ------
        InterlaceError
            ``var`` is a factor, or no column of the fixed effects.

        Notes
        -----
        The derivative at the grid, by a difference to both sides: exact for polynomials up
        to the second degree, else to about 1e-7.  It does not average over the values of ``var``.

        Examples
        --------
        >>> import interlace
        >>> orthodont = interlace.datasets.load("orthodont")
        >>> result = interlace.fit("distance ~ age * Sex + (age | Subject)", orthodont,
        ...                        ddf="satterthwaite")
        >>> slopes = result.emtrends("age", by="Sex")
        >>> slopes.table.round(3)
              Sex  trend     se    df  lower  upper
        0    Male  0.784  0.086  25.0  0.607  0.961
        1  Female  0.480  0.104  25.0  0.266  0.693
        >>> slopes.contrasts().table[["contrast", "estimate", "p"]].round(3)
                contrast  estimate      p
        0  Male - Female     0.305  0.033
        """
        grid = inference.means.grid.reference_grid(self._seen, at=at)
        inner, groups = inference.means.specs.specified(by, None, list(grid.values))
        grid = inference.means.grid.moved(grid, var, self._step(grid, var))
        return self._means(
            grid, inner, groups, weights, ddf, robust, cluster, "link", level, trend=var
        )

    def joint_tests(
        self,
        by: Names = None,
        *,
        at: Mapping[str, object] | None = None,
        ddf: Ddf | None = None,
        robust: RobustKind | None = None,
        cluster: str | Sequence[str] | ArrayLike | None = None,
    ) -> pd.DataFrame:
        """F tests of all terms of the fixed effects through means: R's ``joint_tests``.

        Numbers are compared one unit below and above their mean; terms are tested with all other
        factors averaged with equal weights, within the levels of ``by``.

        Parameters
        ----------
        by, at, ddf, robust, cluster
            As in :meth:`emmeans`.

        Returns
        -------
        DataFrame
            As of :meth:`EstimatedMeans.joint_tests
            <interlace.results.estimated.EstimatedMeans.joint_tests>`.

        Examples
        --------
        >>> import interlace
        >>> orthodont = interlace.datasets.load("orthodont")
        >>> result = interlace.fit("distance ~ age * Sex + (age | Subject)", orthodont)
        >>> result.joint_tests(ddf="kenward-roger")[["num_df", "den_df", "F"]].round(2)
                 num_df  den_df      F
        term
        age           1    25.0  88.00
        Sex           1    25.0   9.29
        age:Sex       1    25.0   5.12
        """
        plain = inference.means.grid.reference_grid(self._seen, at=at)
        spread = {
            name: 1.0
            for name in self._seen.variables.numbers
            if len(plain.values[name]) == 1 and name not in (at or {})
        }
        grid = inference.means.grid.reference_grid(self._seen, at=at, spread=spread)
        _, groups = inference.means.specs.specified(None, by, list(grid.values))
        inner = [name for name in grid.values if name not in groups]
        found = self._means(grid, inner, groups, "equal", ddf, robust, cluster, "link", 0.95, None)
        return found.joint_tests()

    def _means(
        self,
        grid: Grid,
        inner: Sequence[str],
        by: Sequence[str],
        weights: str,
        ddf: Ddf | None,
        robust: RobustKind | None,
        cluster: str | Sequence[str] | ArrayLike | None,
        type: Scale,
        level: float,
        trend: str | None,
        integrate: bool = False,
    ) -> EstimatedMeans:
        if type not in TYPES:
            raise InterlaceError(f"type must be 'link' or 'response', not {type!r}")
        check_level(level)
        self._refuse_means(type, trend)
        functions = inference.means.averages.means(grid, inner, by, weights)
        beta, reference = self._compared(ddf, robust, cluster)
        found = results.estimated.EstimatedMeans(
            functions=functions,
            grid=grid,
            beta=beta,
            reference=reference,
            level=level,
            notes=inference.means.said.of_grid(grid, functions, weights, trend),
            method=inference.means.said.of_reference(
                self.options.ddf if ddf is None else ddf, robust
            ),
            response=self.formula.response,
            trend=trend,
            name="emmean" if trend is None else "trend",
        )
        if trend is not None or (type == "link" and not integrate):
            return found
        return self._on_response(found, weights, integrate=integrate)

    def _compared(
        self,
        ddf: Ddf | None,
        robust: RobustKind | None,
        cluster: str | Sequence[str] | ArrayLike | None,
    ) -> tuple[Floats, Reference]:
        """The coefficients that means are functions of, and what tests compare with."""
        return self.estimate.beta, self._reference(ddf, robust, cluster)

    def _refuse_means(self, type: str, trend: str | None) -> None:
        """Refuse what a model has no means of; nothing here."""

    def _on_response(
        self, found: EstimatedMeans, weights: str, *, integrate: bool
    ) -> EstimatedMeans:
        """Means on the scale of the response, which is that of a linear predictor."""
        return found

    def _step(self, grid: Grid, var: str) -> float:
        """Distance for the slope along a number."""
        if var not in self._seen.variables.numbers:
            known = ", ".join(self._seen.variables.numbers) or "none"
            raise InterlaceError(
                f"'{var}' is no number that the fixed effects read; these are: {known}"
            )
        known_moments = self._seen.moments(var)
        size = np.abs(np.asarray(grid.values[var], dtype=np.float64)).max()
        spread = known_moments[1] if known_moments is not None else 0.0
        return _STEP * float(spread if spread > 0.0 else size or 1.0)
