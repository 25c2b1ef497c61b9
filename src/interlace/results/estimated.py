"""Estimated means, slopes and contrasts: the values that the verbs of means return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Never

import numpy as np
import pandas as pd

from interlace.choices import Adjustment
from interlace.design.frame import Levels
from interlace.errors import InterlaceError
from interlace.glmm.averages import bounded
from interlace.hints import MEANS_NAMES, missing_attribute
from interlace.inference.means.adjust import (
    Family,
    adjusted,
    adjustment,
    fitting,
    limits,
)
from interlace.inference.means.averages import Functions
from interlace.inference.means.contrasts import Crossing, Method, contrasted, scheme
from interlace.inference.means.estimates import correlation, estimates
from interlace.inference.means.grid import Grid
from interlace.inference.means.joint import joint_tests
from interlace.inference.means.letters import letters
from interlace.inference.means.response import RATIOS, ratio_names
from interlace.inference.means.said import of_contrasts, of_means, of_tests
from interlace.inference.means.specs import Names, specified
from interlace.inference.wald import Reference
from interlace.model.confidence import check_level, reach
from interlace.results.shown import as_html, as_text
from interlace.sums.terms import Floats

if TYPE_CHECKING:
    from interlace.glmm.links import Link
    from interlace.plots.style import Figure

# Adjustment of each scheme of contrasts unless asked, as in R's emmeans.
_USUAL = {
    "pairwise": "tukey",
    "reversed": "tukey",
    "control": "dunnett",
    "last": "dunnett",
    "polynomial": "none",
    "consecutive": "mvt",
    "change": "mvt",
    "effect": "fdr",
    "others": "fdr",
    "identity": "none",
    "custom": "none",
}
# Columns that verbs and other scales add to tables of means.
_ADDED = ("letters", "ratio")


@dataclass(frozen=True, eq=False)
class EstimatedMeans:
    """Means over a reference grid, or slopes; prints as text, shows as HTML in notebooks.

    Attributes
    ----------
    table
        A column a factor, then ``emmean`` (``trend`` for slopes, ``response`` on its scale), ``se,
        df, lower, upper``.
    functions, grid, reference
        Weights of the coefficients, the grid they come from, and what tests compare with.
    level
        Coverage of the intervals.
    notes
        What else there is to know.
    link
        Maps the means of a generalised model to the scale of the response, if asked for.
    limits
        The link on whose scale limits of means are symmetric, for means of the population.
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
    link: Link | None = None
    limits: Link | None = None
    name: str = "emmean"

    @cached_property
    def table(self) -> pd.DataFrame:
        """The means as a frame."""
        found = estimates(self.functions, self.beta, self.reference)
        half = reach(self.level, found["df"]) * found["se"]
        columns = {self.name: found["estimate"], "se": found["se"], "df": found["df"]}
        columns |= {"lower": found["estimate"] - half, "upper": found["estimate"] + half}
        if self.limits is not None:
            columns |= _limits(columns, self.limits, self.name, self.level)
        if self.link is not None:
            columns = _mapped(columns, self.link, self.name)
        return _framed(self.functions.labels, columns)

    @property
    def by(self) -> tuple[str, ...]:
        """The columns that make groups."""
        return self.functions.by

    def contrasts(
        self,
        method: Method = "pairwise",
        *,
        adjust: Adjustment | None = None,
        by: Names = None,
        reference: object = None,
        interaction: Crossing = False,
        level: float | None = None,
    ) -> Contrasts:
        """Differences between means, tested together.

        Parameters
        ----------
        method
            ``"pairwise"``, or ``"reversed"``, later less earlier; ``"control"``: each with the
            first, or with ``reference``; ``"last"``: with the last; ``"polynomial"``;
            ``"consecutive"``; ``"change"``: the mean of all later ones with that of all up to one;
            ``"effect"``: each with the mean of all; ``"others"``: with the mean of the others;
            ``"identity"``: the means themselves.  R's names (``"trt.vs.ctrl"``, ``"poly"``,
            ``"consec"``, ``"eff"``, ``"revpairwise"``, ``"trt.vs.ctrlk"``, ``"mean_chg"``,
            ``"del.eff"``) do as well.  Or weights of the means by the name of the contrast:
            ``{"drug": [-1, 0.5, 0.5]}``.
        adjust
            ``"none"``, ``"tukey"``, ``"dunnett"``, ``"holm"``, ``"hochberg"``, ``"hommel"``,
            ``"bonferroni"``, ``"sidak"``, ``"scheffe"``, ``"fdr"``, ``"by"``, ``"mvt"``; by default
            what R takes for the method: Tukey for pairs, Dunnett for a control, mvt for consecutive
            ones and changes, fdr for effects, none for the rest.
        by
            Columns that make groups, in place of those of the means.
        reference
            Level that others are compared with.
        interaction
            Contrasts of contrasts: of one factor with the method, and of these across the next; or
            the methods of the factors, in order: ``["pairwise", "consecutive"]``.
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
        Adjustments are within groups, and count contrasts that are not estimable, as in R, but for
        Dunnett's and mvt.
        Tukey's is by the studentised range.  ``"dunnett"`` and ``"mvt"`` are both exact, by the
        multivariate t distribution with the correlations of the contrasts (integration error about
        1e-4) and the degrees of freedom of each; R's default for a control, ``"dunnettx"``, is an
        approximation that differs by up to 0.05, and R's ``"mvt"`` cuts the degrees of
        freedom to whole numbers.  Methods that go through the tests in order (Holm, Hochberg,
        Hommel, false discovery rates) have Bonferroni's intervals.

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
        asked = adjustment(adjust, _USUAL[name])
        inner = 1 if len(means.inner) <= 1 else int(not interaction)
        used, note = fitting(asked, name, inner)
        return _contrasts(self, functions, means, used, level, note)

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

    def letters(self, level: float = 0.95, *, adjust: Adjustment = "tukey") -> pd.DataFrame:
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
            ``table`` with a column ``letters``; ``a`` goes to the first mean of a group.
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
        estimate, start = self.table[self.name].to_numpy(), 0
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
            name=self.name,
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

    def __getattr__(self, name: str) -> Never:
        """Reached for names that there are not: an error that says what is meant."""
        raise missing_attribute(type(self).__name__, name, dir(type(self)), MEANS_NAMES)

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
        The statistic is t, or z where ``df`` is infinite.  Of means of a generalised model on the
        scale of the response ``ratio`` takes the place of ``estimate``, with a log or logit link.
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


def _framed(labels: Mapping[str, Levels], columns: Mapping[str, Floats]) -> pd.DataFrame:
    """Labels beside numbers; a factor cannot have the name of a column of numbers."""
    for name in labels:
        if name in columns or name in _ADDED:
            raise InterlaceError(
                f"tables of means have a column '{name}' of their own: use another name, as in "
                f"data.rename(columns={{'{name}': '{name}_'}})"
            )
    return pd.DataFrame(dict(labels) | dict(columns))


def _mapped(columns: dict[str, Floats], link: Link, name: str) -> dict[str, Floats]:
    """Means, errors by the delta method, and limits on the scale of the response."""
    eta = columns[name]
    jet = link.mean(np.where(np.isnan(eta), 1.0, eta))
    low, high = (
        np.asarray(link.mean(bounded(link, columns[limit])).value) for limit in ("lower", "upper")
    )
    steep = np.abs(np.asarray(jet.d1) + 0.0 * eta)
    return {
        name: np.where(np.isnan(eta), np.nan, jet.value),
        "se": steep * columns["se"],
        "df": columns["df"],
        "lower": np.minimum(low, high),
        "upper": np.maximum(low, high),
    }


def _limits(columns: dict[str, Floats], link: Link, name: str, level: float) -> dict[str, Floats]:
    """Limits of means that are symmetric on the scale of the link."""
    eta = link.to_eta(columns[name])
    half = reach(level, columns["df"]) * columns["se"]
    half = half / np.abs(np.asarray(link.mean(eta).d1) + 0.0 * eta)
    ends = [np.asarray(link.mean(bounded(link, eta + side * half)).value) for side in (-1.0, 1.0)]
    return {"lower": np.minimum(*ends), "upper": np.maximum(*ends)}


def _as_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Exponentials of differences, errors by the delta method."""
    names = {"estimate": "ratio"}
    found = table.rename(columns=names)
    new = {name: np.exp(found[name]) for name in ("ratio", "lower", "upper")}
    found = found.assign(**new, se=new["ratio"] * found["se"])
    return found.assign(contrast=ratio_names(found["contrast"]))


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
            correlation(np.nan_to_num(functions.L[group]), means.reference),
            len(members),
            int(np.linalg.matrix_rank(np.nan_to_num(functions.L[group]))),
        )
        p[group] = adjusted(family, adjust)
        bounds[group] = limits(family, adjust, level)
    half = bounds * found["se"]
    columns = found | {"statistic": statistic, "p": p}
    columns |= {"lower": found["estimate"] - half, "upper": found["estimate"] + half}
    notes = of_contrasts(functions, adjust, level, note)
    table = _framed(functions.labels, columns)
    response = means.response if means.trend is None else f"slopes along {means.trend}"
    notes = (*notes, *of_tests(means.method))
    if means.link is None:
        return Contrasts(table, adjust, functions, level, notes, response)
    kind = RATIOS.get(means.link.name)
    if kind is None:
        notes = (f"Differences are on the scale of the link ({means.link.name}).", *notes)
        return Contrasts(table, adjust, functions, level, notes, response)
    notes = (f"{kind}: tests are of differences on the scale of the link.", *notes)
    return Contrasts(_as_ratios(table), adjust, functions, level, notes, response)
