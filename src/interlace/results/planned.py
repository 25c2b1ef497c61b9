"""Power of tests by simulation: the value that comes back, the verb, and the same from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from numpy.typing import ArrayLike

from interlace import inference
from interlace.choices import Ddf, FitMethod, is_linear
from interlace.design.formula import parse
from interlace.errors import InterlaceError, choose
from interlace.inference.tested import TestedModel
from interlace.model.confidence import check_level
from interlace.model.fitted import METHODS, Options
from interlace.model.simulate import Seed
from interlace.results.shown import as_html, as_text

if TYPE_CHECKING:
    from interlace.glmm.families import Family
    from interlace.inference.power.asked import Asked
    from interlace.inference.power.sizes import Sizes
    from interlace.inference.power.truth import Spread
    from interlace.plots.style import Figure

_FIXED = ("test", "power", "lower", "upper", "n", "n_failed")


@dataclass(frozen=True, eq=False)
class Power:
    """Power of tests at sizes of a design; prints as text, shows as HTML in notebooks.

    Attributes
    ----------
    table
        ``test``, a column for each grouping factor whose size varies, ``power, lower, upper``
        (exact binomial limits), ``n`` simulations, and ``n_failed`` of them that could not be
        fitted or tested.  These count as not significant.
    ddf, level
        How tests are made: significant where p is below ``1 - level``, which is also what the
        intervals leave out.
    """

    table: pd.DataFrame
    ddf: str
    level: float

    @property
    def sizes(self) -> list[str]:
        """Grouping factors whose size varies."""
        return [str(name) for name in self.table.columns if name not in _FIXED]

    def smallest(self, power: float = 0.8) -> pd.DataFrame:
        """The smallest of the sizes tried at which each test has the power wanted.

        Returns
        -------
        DataFrame
            The row of ``table`` of every test with the fewest levels (their product, where several
            factors vary); nan for a test that no size gives the power.

        Raises
        ------
        InterlaceError
            No sizes were tried, or ``power`` is no probability.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> power = result.power("Days", 200, sizes={"Subject": [4, 8, 12]}, seed=1)
        >>> power.smallest(0.8)[["test", "Subject"]]
           test  Subject
        0  Days        4
        """
        check_level(power, "power")
        if not self.sizes:
            raise InterlaceError("no sizes were tried: give sizes={'group': [20, 40, 80]}")
        rows = []
        for test in dict.fromkeys(self.table["test"]):
            own = self.table[(self.table["test"] == test) & (self.table["power"] >= power)]
            levels = own[self.sizes].prod(axis=1)
            first = own.loc[[levels.idxmin()]] if len(own) else self.table.iloc[:0].reindex([0])
            rows.append(first.assign(test=test))
        found: pd.DataFrame = pd.concat(rows)[list(self.table.columns)].reset_index(drop=True)
        return found

    def plot(self) -> Figure:
        """Power against the first size, tests by colour; other sizes are panels.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> figure = result.power("Days", 50, sizes={"Subject": [4, 8]}, seed=1).plot()
        """
        from interlace.plots.power import plot_power

        return plot_power(self.table, self.sizes, level=self.level)

    @property
    def _notes(self) -> tuple[str, ...]:
        failed = int(self.table["n_failed"].max())
        said: tuple[str, ...] = (
            f"Tests at the level {1.0 - self.level:.3g} ({self.ddf}); lower and upper are exact "
            f"{100 * self.level:g} % limits of the simulation error.",
        )
        if failed:
            said += (f"Up to {failed} simulations failed; they count as not significant.",)
        return said

    def __repr__(self) -> str:
        return as_text(self._shown, by=(), title="Power by simulation", notes=self._notes)

    def _repr_html_(self) -> str:
        return as_html(self._shown, title="Power by simulation", notes=self._notes)

    @property
    def _shown(self) -> pd.DataFrame:
        """The table in three decimals."""
        return self.table.round({"power": 3, "lower": 3, "upper": 3})


@dataclass(frozen=True, eq=False)
class Planned(TestedModel):
    """Power of tests in a design like this one; a chapter of a result."""

    def power(
        self,
        test: Asked = None,
        n: int = 1000,
        *,
        sizes: Sizes | None = None,
        effects: Mapping[str, float] | None = None,
        ddf: Ddf | None = None,
        level: float = 0.95,
        seed: Seed = None,
        progress: bool | None = None,
        n_jobs: int = 1,
    ) -> Power:
        """Power of tests of the fixed effects, by simulation from this fit.

        Parameters
        ----------
        test
            A coefficient, a term (its type-3 F test), or an equation such as ``"a = b"``; a list of
            them, or a dict of hypotheses as in :meth:`wald_test` by name.  By default every
            coefficient but the intercept.  All tests are made in the same simulations.
        n
            Simulations of every size.
        sizes
            Numbers of levels by grouping column: ``{"subject": [20, 40, 80]}``; every combination
            is tried.  Levels keep their rows; where there are not enough of them they are repeated
            under new names, with those of grouping columns nested in them.
        effects
            Coefficients to take in place of the estimates: the smallest effects of interest.
            Estimates themselves, taken for the truth, promise too much power.
        ddf
            Degrees of freedom of the tests, as in :meth:`coef_table`; by default those of the fit.
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
        Responses are drawn from the model with new random effects and fitted again.  Designs of few
        random effects are fitted and tested as a batch, Satterthwaite's and Kenward and Roger's
        degrees of freedom too.  A simulation that cannot be fitted counts as not significant.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep,
        ...                        ddf="satterthwaite")
        >>> power = result.power("Days", effects={"Days": 4}, sizes={"Subject": [18, 36]}, seed=1)
        >>> power.table[["test", "Subject", "power", "n_failed"]].round(2)
           test  Subject  power  n_failed
        0  Days       18   0.67         0
        1  Days       36   0.96         0
        """
        ways = inference.power.simulate
        plan = ways.Plan(n, ddf or self.options.ddf, level, seed, progress, n_jobs)
        truth = inference.power.truth.of_estimate(self.estimate).with_effects(effects)
        reml = self.method == "REML"
        table = ways.simulated(ways.template_of(self), truth, test, sizes, plan, reml=reml)
        return Power(table, plan.ddf, level)


def power(
    formula: str,
    design: object,
    fixed: Mapping[str, float],
    random: Mapping[str, Spread],
    sigma: float | None = None,
    test: Asked = None,
    n: int = 1000,
    *,
    sizes: Sizes | None = None,
    ddf: Ddf | None = None,
    method: FitMethod | None = None,
    level: float = 0.95,
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
    family: str | Family = "gaussian",
    link: str | None = None,
    trials: str | ArrayLike | None = None,
    exposure: str | ArrayLike | None = None,
    dispersion: float | Mapping[str, float] | None = None,
    zero_inflation: float | None = None,
    quadrature: int = 1,
    seed: Seed = None,
    progress: bool | None = None,
    n_jobs: int = 1,
) -> Power:
    """Power of tests in a design that has no responses yet.

    Parameters
    ----------
    formula
        As in :func:`interlace.fit`; the response may be any name, or left out: ``"~ x + (1 | g)"``.
    design
        A frame with a row for every observation and the columns of the formula.
    fixed
        Values of all coefficients by name.
    random
        By grouping factor: the standard deviation of its intercepts; standard deviations of several
        columns, as a list or by name (``{"Intercept": 30, "x": 10}``), of independent effects; or
        their covariance, a square array or frame such as ``variance_components`` has.
    sigma
        Standard deviation of the residuals of a linear model.
    test, n, sizes, level, seed, progress, n_jobs
        As in :meth:`interlace.CrossedLMEResult.power`.
    ddf, method
        How the simulated responses of a linear model are fitted and tested, by default by REML and
        Satterthwaite's degrees of freedom.  Tests of other families are normal.
    weights, offset, family, link, trials, exposure, quadrature
        As in :func:`interlace.fit`.
    dispersion
        The parameter that a family has beside the mean: the size of a negative binomial, the
        dispersion of a Gamma, the precision of a beta.  Several by name: ``{"scale": 1, "df": 5}``
        of Student's t, ``{"dispersion": 1, "power": 1.5}`` of a Tweedie, and the thresholds of
        ordered categories, ``{"low|mid": -1, "mid|high": 1}``.
    zero_inflation
        The share of zeros in excess, or of all zeros where the family has none.

    Returns
    -------
    Power
        ``table``, ``plot()``, ``smallest(power)``.

    Raises
    ------
    InterlaceError
        A value is missing or makes no sense, or a column is absent.

    Examples
    --------
    >>> import interlace, pandas as pd
    >>> design = pd.DataFrame({"subject": [s for s in range(12) for _ in range(10)],
    ...                        "x": [0, 1] * 60})
    >>> found = interlace.power("y ~ x + (1 | subject)", design, {"Intercept": 0, "x": 0.5},
    ...                         {"subject": 0.6}, 1.0, "x", 500, seed=1)
    >>> found.table[["test", "power"]].round(2)
      test  power
    0    x   0.75
    """
    text = f"response {formula.lstrip()}" if formula.lstrip().startswith("~") else formula
    ways = inference.power.simulate
    if not is_linear(family, link):
        _refuse_linear(sigma=sigma, ddf=ddf, method=method)
        options = Options(
            text,
            method="ML",
            family=family,
            link=link,
            trials=trials,
            exposure=exposure,
            quadrature=quadrature,
        )
        plan = ways.Plan(n, "normal", level, seed, progress, n_jobs)
        template = ways.template_from(
            parse(text), design, weights=weights, offset=offset, trials=trials, exposure=exposure
        )
        general = inference.power.general
        table = general.of_description(
            template, options, fixed, random, dispersion, zero_inflation, test, sizes, plan
        )
        return Power(table, plan.ddf, level)
    method = choose("method", method or "REML", METHODS)
    plan = ways.Plan(n, ddf or "satterthwaite", level, seed, progress, n_jobs)
    _refuse_general(
        trials=trials, exposure=exposure, dispersion=dispersion, zero_inflation=zero_inflation
    )
    if sigma is None:
        raise InterlaceError("give sigma, the standard deviation of the residuals")
    template = ways.template_from(parse(text), design, weights=weights, offset=offset)
    rows = template.design({})
    names = inference.power.study.names_of(rows)
    truth = inference.power.truth.described(rows, names, fixed, random, sigma)
    table = ways.simulated(template, truth, test, sizes, plan, reml=method == "REML")
    return Power(table, plan.ddf, level)


def _refuse_linear(**given: object) -> None:
    """Refuse what belongs to linear models."""
    for name, value in given.items():
        if value is not None and (name, value) not in (("ddf", "normal"), ("method", "ML")):
            raise InterlaceError(f"{name}= belongs to family='gaussian': leave it out")


def _refuse_general(**given: object) -> None:
    """Refuse what belongs to other families."""
    for name, value in given.items():
        if value is not None:
            raise InterlaceError(f"{name}= belongs to other families: name one by family=")
