"""The fitted model: labels and public names for what the numerical core computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from interlace.design import Design
from interlace.errors import InterlaceError
from interlace.estimate import Convergence, Estimate
from interlace.formula import MixedFormula
from interlace.terms import Floats, ReTerm

if TYPE_CHECKING:
    from interlace.summary import Summary


@dataclass(frozen=True, eq=False)
class Options:
    """Arguments of the fit, as given."""

    formula: str
    groups: object
    random: object
    method: str
    ddf: str
    weights: str | ArrayLike | None
    offset: str | ArrayLike | None
    missing: str
    solver: str
    theta0: ArrayLike | None
    progress: bool | None

    def arguments(self) -> dict[str, object]:
        """Keyword arguments for :func:`interlace.fit`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, eq=False)
class CrossedLMEResult:
    """A fitted linear mixed model.

    Immutable and picklable (a pickled result leaves the data frame behind, not the rows used).
    Numbers follow lme4's definitions, names statsmodels' habits.

    Attributes
    ----------
    formula
        The parsed formula.
    design
        Rows used: ``y``, ``X``, codes and columns of the random terms.
    estimate
        Numbers of the fit in arrays.
    options
        Arguments of the fit.
    data
        The frame that was fitted, for :meth:`update`; ``None`` after unpickling.

    Examples
    --------
    >>> import interlace
    >>> result = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch")
    >>> round(result.variance_components["Batch"], 2), round(result.scale, 2)
    (1764.05, 2451.25)
    """

    formula: MixedFormula
    design: Design
    estimate: Estimate
    options: Options
    data: object = None

    def __getstate__(self) -> dict[str, object]:
        """The fields without the data frame and without what is derived."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"data": None}

    def __repr__(self) -> str:
        return (
            f"<CrossedLMEResult {self.formula} | {self.method}, {self.nobs} rows, "
            f"criterion {self.criterion:.4f}>"
        )

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return self.summary()._repr_html_()

    # -------------------------------------------------------------- fixed effects

    def _by_coefficient(self, values: Floats, name: str) -> pd.Series:
        return pd.Series(values, index=list(self.estimate.A.names), name=name)

    @cached_property
    def fe_params(self) -> pd.Series:
        """Coefficients of the fixed effects, by formulaic's names."""
        return self._by_coefficient(self.estimate.beta, "estimate")

    @cached_property
    def fe_cov(self) -> NDArray[np.float64]:
        """Covariance of the coefficients, ``scale * (X' Omega^-1 X)^-1``, ``(p, p)``."""
        return _read_only(self.estimate.vcov)

    @cached_property
    def fe_bse(self) -> pd.Series:
        """Standard errors of the coefficients."""
        return self._by_coefficient(np.sqrt(np.diag(self.fe_cov)), "se")

    @cached_property
    def fe_df(self) -> pd.Series:
        """Denominator degrees of freedom; infinite for ``ddf="normal"``."""
        return self._by_coefficient(np.full(len(self.fe_params), np.inf), "df")

    @cached_property
    def fe_tvalues(self) -> pd.Series:
        """Coefficients over standard errors."""
        return (self.fe_params / self.fe_bse).rename("t")

    @cached_property
    def fe_pvalues(self) -> pd.Series:
        """Two-sided p-values, normal approximation."""
        return self._by_coefficient(2.0 * ndtr(-np.abs(self.fe_tvalues.to_numpy())), "p")

    @cached_property
    def fe_conf_int(self) -> pd.DataFrame:
        """95 % Wald intervals, columns ``0.025`` and ``0.975``."""
        return self.conf_int()

    @property
    def params(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_params`."""
        return self.fe_params

    @property
    def bse(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_bse`."""
        return self.fe_bse

    @property
    def tvalues(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_tvalues`."""
        return self.fe_tvalues

    @property
    def pvalues(self) -> pd.Series:
        """statsmodels' name of :attr:`fe_pvalues`."""
        return self.fe_pvalues

    def cov_params(self) -> pd.DataFrame:
        """Covariance of the coefficients as a labelled frame, ``(p, p)``."""
        names = list(self.estimate.A.names)
        return pd.DataFrame(self.fe_cov, index=names, columns=names)

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Wald intervals of the coefficients; columns are the two tail probabilities.

        Raises
        ------
        InterlaceError
            ``level`` is not strictly between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise InterlaceError(f"level must be strictly between 0 and 1, not {level!r}")
        tail = (1.0 - level) / 2.0
        reach = -ndtri(tail) * self.fe_bse
        low, high = round(tail, 12), round(1.0 - tail, 12)
        return pd.DataFrame({low: self.fe_params - reach, high: self.fe_params + reach})

    # -------------------------------------------------------------- random effects

    @cached_property
    def _keys(self) -> dict[str, list[int]]:
        """Positions of the terms of every grouping key, keys in the order of the formula."""
        order = dict.fromkeys(term.key for term in self.formula.random)
        terms = self.estimate.A.terms
        return {key: [j for j, t in enumerate(terms) if t.group == key] for key in order}

    @cached_property
    def variance_components(self) -> dict[str, float | pd.DataFrame]:
        """Variance of the random effects by grouping key.

        A float for an intercept alone, else the covariance as a frame; ``scale`` is the residual's.
        """
        found: dict[str, float | pd.DataFrame] = {}
        for key, members in self._keys.items():
            blocks = [self.estimate.covariances[j] for j in members]
            if self._is_intercept(members):
                found[key] = float(blocks[0][0, 0])
            else:
                names = self._columns(members)
                found[key] = pd.DataFrame(_block_diagonal(blocks), index=names, columns=names)
        return found

    @cached_property
    def random_effects(self) -> dict[str, pd.Series | pd.DataFrame]:
        """Conditional modes (BLUPs) by grouping key, indexed by level."""
        return self._by_level(list(self.estimate.b))

    @cached_property
    def random_effects_se(self) -> dict[str, pd.Series | pd.DataFrame]:
        """Conditional standard deviations, given the parameters (as lme4's ``condVar``)."""
        covariances = self.estimate.b_cov
        return self._by_level([np.sqrt(np.diagonal(c, axis1=1, axis2=2)) for c in covariances])

    def _by_level(self, blocks: list[Floats]) -> dict[str, pd.Series | pd.DataFrame]:
        """Blocks ``(l, k)`` per term as a Series or frame per grouping key."""
        found: dict[str, pd.Series | pd.DataFrame] = {}
        for key, members in self._keys.items():
            index = pd.Index(self.estimate.A.terms[members[0]].levels, name=key)
            values = np.concatenate([blocks[j] for j in members], axis=1)
            if self._is_intercept(members):
                found[key] = pd.Series(values[:, 0], index=index, name="Intercept")
            else:
                found[key] = pd.DataFrame(values, index=index, columns=self._columns(members))
        return found

    def _members(self, members: list[int]) -> list[ReTerm]:
        return [self.estimate.A.terms[j] for j in members]

    def _columns(self, members: list[int]) -> list[str]:
        return [name for term in self._members(members) for name in term.columns]

    def _is_intercept(self, members: list[int]) -> bool:
        return self._columns(members) == ["Intercept"]

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self.estimate.sigma**2

    @property
    def theta(self) -> NDArray[np.float64]:
        """Relative covariance parameters in lme4's order."""
        return _read_only(self.estimate.theta)

    # -------------------------------------------------------------- the fit

    @property
    def method(self) -> str:
        """``"REML"`` or ``"ML"``."""
        return self.options.method

    @property
    def criterion(self) -> float:
        """REML criterion, or minus twice the log-likelihood."""
        return self.estimate.value

    @property
    def llf(self) -> float:
        """Log-likelihood, restricted for REML."""
        return -0.5 * self.criterion

    @property
    def nparams(self) -> int:
        """Fixed effects, free entries of the templates, and the residual variance."""
        return self.estimate.A.p + len(self.theta) + 1

    @property
    def aic(self) -> float:
        """``criterion + 2 nparams`` (Akaike, 1974)."""
        return self.criterion + 2.0 * self.nparams

    @property
    def bic(self) -> float:
        """``criterion + nparams log(nobs)`` (Schwarz, 1978)."""
        return self.criterion + self.nparams * float(np.log(self.nobs))

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.estimate.A.n

    @property
    def n_dropped(self) -> int:
        """Rows left out for missing values."""
        return self.design.n_dropped

    @property
    def ngroups(self) -> dict[str, int]:
        """Levels of every grouping factor."""
        return {key: self.estimate.A.terms[j[0]].l for key, j in self._keys.items()}

    @property
    def converged(self) -> bool:
        """Whether the optimiser met its tolerance."""
        return self.estimate.convergence.converged

    @property
    def convergence(self) -> Convergence:
        """Gradient, Newton eigenvalues, predicted gain, evaluations, message, solver."""
        return self.estimate.convergence

    @property
    def is_singular(self) -> bool:
        """Whether a variance, or a combination of random effects, is estimated as zero."""
        return self.estimate.is_singular

    @cached_property
    def fittedvalues(self) -> NDArray[np.float64]:
        """Conditional predictions for the rows used, ``(nobs,)``."""
        return _read_only(self.predict())

    @cached_property
    def resid(self) -> NDArray[np.float64]:
        """Response less :attr:`fittedvalues`, ``(nobs,)``."""
        return _read_only(self.design.y - self.fittedvalues)

    # -------------------------------------------------------------- verbs

    def summary(self) -> Summary:
        """Tables of the fit; prints as text, shows as HTML in notebooks."""
        from interlace.summary import summarize

        return summarize(self)

    def predict(
        self,
        newdata: object = None,
        include_re: bool | str | Iterable[str] = True,
        *,
        offset: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Expected response, with or without the random effects.

        Parameters
        ----------
        newdata
            A frame of ``m`` rows; ``None`` for the rows used in the fit.  Stored encodings are
            replayed: the same factor levels, the same centring.  Grouping columns are only needed
            if random effects are asked for.
        include_re
            ``True`` adds all random effects, ``False`` none, a name or names those of some
            grouping factors.  A level that is new, or missing, contributes 0.
        offset
            ``(m,)`` values, if the model was fitted with an array as offset.

        Returns
        -------
        ndarray
            ``(m,)``; NaN where a column of the fixed side or left of a bar is missing.

        Raises
        ------
        InterlaceError
            A column is absent from ``newdata``, or a category was not seen in fitting.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> result.predict({"Days": [0, 9], "Subject": ["308", "new"]}).round(1).tolist()
        [292.2, 345.6]
        """
        from interlace.predict import fitted, included, predicted

        include = included(self.estimate.A.terms, include_re)
        if newdata is None:
            return fitted(self.design, self.estimate, include)
        return predicted(self.design, self.estimate, newdata, include, offset=offset)

    def bootstrap_se(
        self,
        statistic: str | Callable[[NDArray[np.float64]], float] = "median",
        n_bootstrap: int = 500,
        resample_level: str = "group",
        *,
        group: str | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> float:
        """Bootstrap standard error of a statistic of the response.

        Parameters
        ----------
        statistic
            ``"median"``, ``"mean"``, ``"std"``, or a function of the response.
        n_bootstrap
            Bootstrap samples.
        resample_level
            ``"group"`` draws whole groups, which keeps the correlation within them;
            ``"observation"`` draws rows.
        group
            Grouping factor to draw; by default the first of the formula.  ``"all"`` draws the
            levels of every factor independently (the pigeonhole bootstrap for crossed designs,
            Owen 2007, Annals of Applied Statistics 1, 386-411).
        seed
            Seed or generator.

        Raises
        ------
        InterlaceError
            An unknown statistic, level or grouping factor.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> result.bootstrap_se("mean", seed=1) > result.bootstrap_se(
        ...     "mean", resample_level="observation", seed=1
        ... )
        True
        """
        from interlace.inference.bootstrap import bootstrap_se

        return bootstrap_se(
            self.design.y,
            {key: self.design.codes[members[0]] for key, members in self._keys.items()},
            statistic=statistic,
            n_bootstrap=n_bootstrap,
            resample_level=resample_level,
            group=group,
            seed=seed,
        )

    def refit(self, y: ArrayLike) -> CrossedLMEResult:
        """Fit the same model to another response ``y`` (nobs,) for the rows used.

        Raises
        ------
        InterlaceError
            ``y`` has another length, or is constant, missing or infinite somewhere.
        """
        from interlace.fit import refit

        return refit(self, y)

    def update(
        self, formula: str | None = None, data: object = None, **changes: object
    ) -> CrossedLMEResult:
        """Fit again with another formula, other data, or other arguments of :func:`interlace.fit`.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days", sleep, groups="Subject")
        >>> round(result.update(method="ML").criterion, 3)
        1794.079
        """
        from interlace.fit import update

        return update(self, formula, data, changes)


def _read_only(array: Floats) -> Floats:
    """A view that cannot be written to: a result does not change."""
    view = array.view()
    view.flags.writeable = False
    return view


def _block_diagonal(blocks: list[Floats]) -> Floats:
    """Covariance of several independent terms."""
    size = sum(len(b) for b in blocks)
    total, start = np.zeros((size, size)), 0
    for block in blocks:
        stop = start + len(block)
        total[start:stop, start:stop] = block
        start = stop
    return total
