"""Estimated means, slopes and contrasts: what is returned, and the verbs that ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interlace.errors import InterlaceError
from interlace.inference.means.adjust import (
    Family,
    adjusted,
    adjustment,
    fitting,
    limits,
)
from interlace.inference.means.averages import Functions, means
from interlace.inference.means.contrasts import Method, contrasted, scheme
from interlace.inference.means.estimates import correlation, estimates
from interlace.inference.means.grid import Grid, moved, reference_grid
from interlace.inference.means.joint import joint_tests
from interlace.inference.means.letters import letters
from interlace.inference.means.rows import Seen
from interlace.inference.means.said import (
    of_contrasts,
    of_grid,
    of_means,
    of_reference,
    of_tests,
)
from interlace.inference.means.specs import Names, specified
from interlace.inference.means.variables import variables_of
from interlace.inference.tested import TestedModel
from interlace.inference.wald import Reference
from interlace.model.confidence import check_level, reach
from interlace.results.shown import as_html, as_text
from interlace.sums.terms import Floats

if TYPE_CHECKING:
    from interlace.plots.style import Figure

TYPES = ("link", "response")
# Adjustment of each scheme of contrasts unless asked, as in R's emmeans.
_USUAL = {
    "pairwise": "tukey",
    "control": "dunnett",
    "polynomial": "none",
    "consecutive": "mvt",
    "effect": "fdr",
    "custom": "none",
}
# Step to both sides of the mean for slopes, in standard deviations.
_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class EstimatedMeans:
    """Means over a reference grid, or slopes; prints as text, shows as HTML in notebooks.

    Attributes
    ----------
    table
        A column a factor, then ``emmean`` (``trend`` for slopes), ``se, df, lower, upper``.
    functions, grid, reference
        Weights of the coefficients, the grid they come from, and what tests compare with.
    level
        Coverage of the intervals.
    notes
        What else there is to know.
    """

    functions: Functions
    grid: Grid
    beta: Floats
    reference: Reference
    level: float
    notes: tuple[str, ...]
    method: str
    response: str
    trend: str | None = None

    @cached_property
    def table(self) -> pd.DataFrame:
        """The means as a frame."""
        found = estimates(self.functions, self.beta, self.reference)
        half = reach(self.level, found["df"]) * found["se"]
        name = "emmean" if self.trend is None else "trend"
        columns = {name: found["estimate"], "se": found["se"], "df": found["df"]}
        columns |= {"lower": found["estimate"] - half, "upper": found["estimate"] + half}
        return pd.DataFrame(dict(self.functions.labels) | columns)

    @property
    def by(self) -> tuple[str, ...]:
        """The columns that make groups."""
        return self.functions.by

    def contrasts(
        self,
        method: Method = "pairwise",
        *,
        adjust: str | None = None,
        by: Names = None,
        reference: object = None,
        interaction: bool = False,
        level: float | None = None,
    ) -> Contrasts:
        """Differences between means, tested together.

        Parameters
        ----------
        method
            ``"pairwise"``; ``"control"``: each with the first, or with ``reference``;
            ``"polynomial"``; ``"consecutive"``; ``"effect"``: each with the mean of all.  R's names
            ``"trt.vs.ctrl"``, ``"poly"``, ``"consec"``, ``"eff"`` do as well.  Or weights of the
            means by the name of the contrast: ``{"drug": [-1, 0.5, 0.5]}``.
        adjust
            ``"none"``, ``"tukey"``, ``"dunnett"``, ``"holm"``, ``"bonferroni"``, ``"sidak"``,
            ``"fdr"``, ``"mvt"``; by default what R takes for the method: Tukey for pairs, Dunnett
            for a control, mvt for consecutive, fdr for effects, none for the rest.
        by
            Columns that make groups, in place of those of the means.
        reference
            Level that others are compared with.
        interaction
            Contrasts of contrasts: of one factor with the method, and of these across the next.
        level
            Joint coverage of the intervals; by default that of the means.

        Returns
        -------
        Contrasts
            ``table``: ``contrast``, the columns of the groups, ``estimate, se, df, statistic, p,
            lower, upper``.

        Raises
        ------
        InterlaceError
            An unknown method or adjustment, weights that do not fit, one mean in a group.

        Notes
        -----
        Adjustments are within groups, and count contrasts that are not estimable, as in R.
        Tukey's is by the studentised range.  ``"dunnett"`` and ``"mvt"`` are both exact, by the
        multivariate t distribution with the correlations of the contrasts (integration error about
        1e-4) and the degrees of freedom of each; R's default for a control, ``"dunnettx"``, is an
        approximation that differs by up to 0.05, and R's ``"mvt"`` cuts the degrees of
        freedom to whole numbers.  Holm's method and the false discovery rate have Bonferroni's
        intervals.

        Examples
        --------
        >>> import interlace
        >>> machines = interlace.datasets.load("machines")
        >>> result = interlace.fit("score ~ Machine + (Machine | Worker)", machines,
        ...                        ddf="kenward-roger")
        >>> pairs = result.emmeans("Machine").contrasts("pairwise")
        >>> pairs.table[["contrast", "estimate", "df", "p"]].round(3)
          contrast  estimate   df      p
        0    A - B    -7.967  5.0  0.048
        1    A - C   -13.917  5.0  0.001
        2    B - C    -5.950  5.0  0.125
        """
        level = check_level(self.level if level is None else level)
        name = scheme(method)
        means = self._grouped(by)
        functions = contrasted(means, method, reference=reference, interaction=interaction)
        adjust = adjustment(adjust, _USUAL[name])
        inner = 1 if len(means.inner) <= 1 else int(not interaction)
        adjust, note = fitting(adjust, name, inner)
        return _contrasts(self, functions, means, adjust, level, note)

    def _grouped(self, by: Names) -> Functions:
        """The means with other groups."""
        if by is None:
            return self.functions
        names = specified(None, by, list(self.functions.labels))[1]
        for name in names:
            if name not in self.functions.labels:
                known = ", ".join(self.functions.labels)
                raise InterlaceError(f"the means have no column '{name}'; they have {known}")
        return replace(self.functions, by=tuple(names))

    def joint_tests(self) -> pd.DataFrame:
        """F tests of the factors of the means: main effects and interactions, within groups.

        Returns
        -------
        DataFrame
            By term: the columns of the groups, ``num_df, den_df, F, p`` and a ``note``.  Terms of
            which only a part is estimable say so; what is estimable beside all terms is in a last
            row, ``(confounded)``.

        Notes
        -----
        The contrasts of the means of a term, other factors averaged with equal weights: R's
        ``joint_tests``, with its F, which is not scaled under Kenward-Roger, and its denominator,
        the smallest degrees of freedom of the rows after they are made orthogonal in turn.
        ``result.anova()`` has Kenward and Roger's scaled tests.

        Examples
        --------
        >>> import interlace
        >>> cake = interlace.datasets.load("cake")
        >>> result = interlace.fit("angle ~ recipe * temperature + (1 | recipe:replicate)", cake,
        ...                        ddf="satterthwaite")
        >>> tests = result.emmeans(["recipe", "temperature"]).joint_tests()
        >>> tests[["num_df", "den_df", "F"]].round(2)
                            num_df  den_df      F
        term
        recipe                   2    42.0   0.25
        temperature              5   210.0  20.52
        recipe:temperature      10   210.0   1.01
        """
        found = joint_tests(self.grid, self.functions, self.beta, self.reference)
        groups = self.functions.groups()
        rows = {
            by: [self.functions.labels[by][groups[t.group][0]] for t in found] for by in self.by
        }
        table = pd.DataFrame(
            rows
            | {
                "num_df": [t.test.numerator_df for t in found],
                "den_df": [t.test.denominator_df for t in found],
                "F": [t.test.statistic for t in found],
                "p": [t.test.p_value for t in found],
                "note": ["" if t.whole else "estimable part" for t in found],
            },
            index=pd.Index([t.effect for t in found], name="term"),
        )
        return table

    def letters(self, level: float = 0.95, *, adjust: str = "tukey") -> pd.DataFrame:
        """Compact letter display: means that share a letter do not differ.

        Parameters
        ----------
        level
            One minus the level of the tests of all pairs.
        adjust
            As in :meth:`contrasts`.

        Returns
        -------
        DataFrame
            :attr:`table` with a column ``letters``; ``a`` goes to the first mean of a group.
            Means that cannot be estimated have none.

        Examples
        --------
        >>> import interlace
        >>> machines = interlace.datasets.load("machines")
        >>> result = interlace.fit("score ~ Machine + (Machine | Worker)", machines,
        ...                        ddf="kenward-roger")
        >>> result.emmeans("Machine").letters()[["Machine", "emmean", "letters"]].round(2)
          Machine  emmean letters
        0       A   52.36       a
        1       B   60.32       b
        2       C   66.27       b
        """
        pairs = self.contrasts("pairwise", adjust=adjust).table["p"].to_numpy()
        found = np.full(len(self.table), "", dtype=object)
        name = "emmean" if self.trend is None else "trend"
        estimate, start = self.table[name].to_numpy(), 0
        for group in self.functions.groups():
            k = len(group)
            upper = np.triu_indices(k, 1)
            differs = np.zeros((k, k), dtype=bool)
            differs[upper] = pairs[start : start + len(upper[0])] < 1.0 - check_level(level)
            start += len(upper[0])
            found[group] = letters(estimate[group], differs | differs.T)
        return self.table.assign(letters=found)

    def plot(self) -> Figure:
        """Means with their intervals, levels of the first factor from left to right.

        A second factor is told by colour; groups are panels.

        Examples
        --------
        >>> import interlace
        >>> machines = interlace.datasets.load("machines")
        >>> result = interlace.fit("score ~ Machine + (1 | Worker)", machines)
        >>> figure = result.emmeans("Machine").plot()
        """
        from interlace.plots.means import plot_means

        return plot_means(
            self.table,
            inner=self.functions.inner,
            by=self.by,
            y=f"Mean of {self.response}" if self.trend is None else f"Slope along {self.trend}",
            level=self.level,
        )

    @property
    def title(self) -> str:
        """What the table holds, in a line."""
        if self.trend is None:
            return f"Estimated means of {self.response}"
        return f"Slopes of {self.response} along {self.trend}"

    def __repr__(self) -> str:
        return as_text(self.table, by=self.by, title=self.title, notes=self._said)

    def _repr_html_(self) -> str:
        return as_html(self.table, title=self.title, notes=self._said)

    @property
    def _said(self) -> tuple[str, ...]:
        interval = f"{self.level * 100:g} % intervals"
        return (*self.notes, f"{self.method}; {interval}.", *of_means(self.functions))


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Contrasts of means with joint tests and intervals.

    Attributes
    ----------
    table
        ``contrast``, the columns of the groups, ``estimate, se, df, statistic, p, lower, upper``.
        The statistic is t, or z where ``df`` is infinite.
    adjust
        The adjustment of ``p`` and of the intervals.
    functions
        Weights of the coefficients.
    notes
        What else there is to know.
    """

    table: pd.DataFrame
    adjust: str
    functions: Functions
    level: float
    notes: tuple[str, ...]
    response: str

    def plot(self) -> Figure:
        """Contrasts with their intervals, and a line at zero."""
        from interlace.plots.means import plot_contrasts

        return plot_contrasts(self.table, by=self.functions.by, y=self.response, level=self.level)

    def __repr__(self) -> str:
        by = self.functions.by
        return as_text(self.table, by=by, title=self._title, notes=self.notes)

    def _repr_html_(self) -> str:
        return as_html(self.table, title=self._title, notes=self.notes)

    @property
    def _title(self) -> str:
        return f"Contrasts of {self.response}"


def _contrasts(
    means: EstimatedMeans,
    functions: Functions,
    of: Functions,
    adjust: str,
    level: float,
    note: str | None,
) -> Contrasts:
    """Tests and intervals of contrasts, adjusted within groups."""
    found = estimates(functions, means.beta, means.reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = found["estimate"] / found["se"]
    p, bounds = np.full(len(statistic), np.nan), np.full(len(statistic), np.nan)
    for group, members in zip(functions.groups(), of.groups(), strict=True):
        family = Family(
            statistic[group],
            found["df"][group],
            correlation(np.nan_to_num(functions.L[group]), means.reference.vcov),
            len(members),
        )
        p[group] = adjusted(family, adjust)
        bounds[group] = limits(family, adjust, level)
    half = bounds * found["se"]
    columns = found | {"statistic": statistic, "p": p}
    columns |= {"lower": found["estimate"] - half, "upper": found["estimate"] + half}
    labels: dict[str, object] = dict(functions.labels)
    notes = of_contrasts(functions, adjust, level, note)
    table = pd.DataFrame(labels | columns)
    response = means.response if means.trend is None else f"slopes along {means.trend}"
    return Contrasts(table, adjust, functions, level, (*notes, *of_tests(means.method)), response)


# The verbs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Means(TestedModel):
    """Means and slopes of the fixed effects; a chapter of a result."""

    @cached_property
    def _seen(self) -> Seen:
        """What the rows say of the columns of the fixed effects."""
        return Seen(self, variables_of(self.encoding))

    def emmeans(
        self,
        specs: Names = None,
        by: Names = None,
        *,
        at: Mapping[str, object] | None = None,
        weights: str = "equal",
        ddf: str | None = None,
        robust: str | None = None,
        cluster: str | Sequence[str] | ArrayLike | None = None,
        type: str = "link",
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
            ``"link"`` or ``"response"``, which are the same for this family.
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
        its model, weighted where the rows had weights; else give it in ``at``.  With
        linearly dependent columns it cannot tell which means are estimable, and gives nan.

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
        grid = reference_grid(self._seen, at=at)
        inner, groups = specified(specs, by, list(grid.values))
        return self._means(
            grid, inner, groups, weights, ddf, robust, cluster, type, level, trend=None
        )

    def emtrends(
        self,
        var: str,
        by: Names = None,
        *,
        at: Mapping[str, object] | None = None,
        weights: str = "equal",
        ddf: str | None = None,
        robust: str | None = None,
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
        grid = reference_grid(self._seen, at=at)
        inner, groups = specified(by, None, list(grid.values))
        grid = moved(grid, var, self._step(grid, var))
        return self._means(
            grid, inner, groups, weights, ddf, robust, cluster, "link", level, trend=var
        )

    def joint_tests(
        self,
        by: Names = None,
        *,
        at: Mapping[str, object] | None = None,
        ddf: str | None = None,
        robust: str | None = None,
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
            <interlace.results.means.EstimatedMeans.joint_tests>`.

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
        plain = reference_grid(self._seen, at=at)
        spread = {
            name: 1.0
            for name in self._seen.variables.numbers
            if len(plain.values[name]) == 1 and name not in (at or {})
        }
        grid = reference_grid(self._seen, at=at, spread=spread)
        _, groups = specified(None, by, list(grid.values))
        inner = [name for name in grid.values if name not in groups]
        found = self._means(grid, inner, groups, "equal", ddf, robust, cluster, "link", 0.95, None)
        return found.joint_tests()

    def _means(
        self,
        grid: Grid,
        inner: Sequence[str],
        by: Sequence[str],
        weights: str,
        ddf: str | None,
        robust: str | None,
        cluster: str | Sequence[str] | ArrayLike | None,
        type: str,
        level: float,
        trend: str | None,
    ) -> EstimatedMeans:
        if type not in TYPES:
            raise InterlaceError(f"type must be 'link' or 'response', not {type!r}")
        check_level(level)
        functions = means(grid, inner, by, weights)
        return EstimatedMeans(
            functions=functions,
            grid=grid,
            beta=self.estimate.beta,
            reference=self._reference(ddf, robust, cluster),
            level=level,
            notes=of_grid(grid, functions, weights, trend),
            method=of_reference(self.options.ddf if ddf is None else ddf, robust),
            response=self.formula.response,
            trend=trend,
        )

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
