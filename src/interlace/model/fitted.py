"""What a fit found: labels and public names for what the numerical core computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag

from interlace.choices import Ddf, FitMethod
from interlace.design.complete import MISSING, Missing
from interlace.design.design import Design, Encoding
from interlace.design.formula import MixedFormula
from interlace.design.kept import kept_frame, kept_values
from interlace.design.recipe import recipe_of, require_rows
from interlace.errors import InterlaceError, choose, spelled
from interlace.estimation.certificate import Convergence
from interlace.estimation.estimate import Estimate
from interlace.model.missing import missing_table
from interlace.model.optimum import AnyEstimate
from interlace.model.predict import fitted
from interlace.solver.choose import SOLVERS, Solver
from interlace.sums.rows import columns_kept
from interlace.sums.sizes import Powers, Units, tamed
from interlace.sums.terms import Floats, ReTerm

if TYPE_CHECKING:
    from interlace.glmm.families import Family

METHODS: tuple[FitMethod, ...] = get_args(FitMethod)
# Of models with a residual structure, and of all others.
STRUCTURED_DDF: tuple[Ddf, ...] = get_args(Ddf)
DDF: tuple[Ddf, ...] = STRUCTURED_DDF[:3]


@dataclass(frozen=True, eq=False)
class Options:
    """Arguments of the fit, as given."""

    formula: str
    groups: str | Sequence[str] | None = None
    random: str | Sequence[str] | None = None
    method: FitMethod = "REML"
    ddf: Ddf = "normal"
    weights: str | ArrayLike | None = None
    offset: str | ArrayLike | None = None
    missing: Missing = "drop"
    solver: Solver = "auto"
    theta0: ArrayLike | None = None
    progress: bool | None = None
    mc_tolerance: float = 0.01
    seed: int = 0
    family: str | Family = "gaussian"
    link: str | None = None
    trials: str | ArrayLike | None = None
    exposure: str | ArrayLike | None = None
    quadrature: int = 1
    fixed_prior: float | None = None
    zero_inflation: str | None = None
    dispersion: str | None = None
    residual: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Choices in other letters, or by other words, become those that they mean."""
        known = {"method": METHODS, "ddf": DDF, "missing": MISSING, "solver": SOLVERS}
        for name, choices in known.items():
            object.__setattr__(self, name, spelled(getattr(self, name), choices))


def as_kept(options: Options) -> Options:
    """The options with copies of what was given by row."""
    names = ("weights", "offset", "trials", "exposure", "theta0")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    kept = {name: kept_values(value) for name, value in given.items()}
    return replace(options, **kept) if kept else options


def check_solver(options: Options) -> None:
    """Refuse solvers that there are not, and settings of their probes that cannot be meant."""
    choose("solver", options.solver, SOLVERS)
    mc_tolerance, seed = options.mc_tolerance, options.seed
    if not 0.0 < mc_tolerance < np.inf:
        raise InterlaceError(f"mc_tolerance must be a positive number, not {mc_tolerance!r}")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InterlaceError(f"seed must be a whole number from 0 on, not {seed!r}")


E = TypeVar("E", bound=AnyEstimate, covariant=True)


@dataclass(frozen=True, eq=False)
class Labelled(Generic[E]):
    """Estimates under their public names: what every family of models shares."""

    formula: MixedFormula
    design: Design | None
    estimate: E
    options: Options
    held: object = None

    @property
    def data(self) -> object:
        """The data that the model was fitted to, as they were then; ``None`` if not held."""
        return kept_frame(self.held)

    @property
    def encoding(self) -> Encoding:
        """How rows are encoded."""
        return require_rows(self.design, "encoding").encoding

    def __post_init__(self) -> None:
        """Rows that a result holds are written to by nobody."""
        _lock(self.design)

    def __getstate__(self) -> dict[str, object]:
        """The fields without the data frame and without what is derived."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"held": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        """The fields, the rows locked again."""
        self.__dict__.update(state)
        _lock(self.design)

    def __copy__(self) -> Self:
        """The result itself, which does not change."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """The result itself, which does not change."""
        return self

    @property
    def n_dropped(self) -> int:
        """Rows left out for missing values."""
        return require_rows(self.design, "n_dropped").n_dropped

    def missing(self) -> pd.DataFrame:
        """Where values are missing in the data, and what rows that has cost.

        Returns
        -------
        DataFrame
            By column that the model reads: ``missing`` values, their ``share`` of the rows, and the
            rows that are left out for this column ``alone``.  The last line has the rows in which
            any of them is missing, all of which a fit leaves out.

        Raises
        ------
        InterlaceError
            The result no longer holds its data.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> gaps = sleep.assign(Reaction=sleep["Reaction"].where(sleep["Days"] < 8))
        >>> interlace.fit("Reaction ~ Days", gaps, groups="Subject").missing()
                     missing  share  alone
        column
        Reaction          36    0.2     36
        Days               0    0.0      0
        Subject            0    0.0      0
        any of them       36    0.2     36
        """
        names = ("weights", "offset", "trials", "exposure")
        beside = {name: getattr(self.options, name) for name in names}
        return missing_table(self.formula, self.data, {**beside, **self._read_beside()})

    def _read_beside(self) -> dict[str, str]:
        """Further columns that the model reads."""
        return {}

    # -------------------------------------------------------------- fixed effects

    def _by_coefficient(self, values: Floats, name: str) -> pd.Series:
        return pd.Series(values.copy(), index=list(self.estimate.A.names), name=name)

    @property
    def fe_params(self) -> pd.Series:
        """Coefficients of the fixed effects, by formulaic's names."""
        return self._by_coefficient(self.estimate.beta, "estimate")

    @cached_property
    def fe_cov(self) -> NDArray[np.float64]:
        """Covariance of the coefficients, ``scale * (X' Omega^-1 X)^-1``, ``(p, p)``."""
        return read_only(self.estimate.vcov)

    # -------------------------------------------------------------- random effects

    @cached_property
    def _keys(self) -> dict[str, list[int]]:
        """Positions of the terms of every grouping key, both in the order of the formula."""
        order = dict.fromkeys(term.key for term in self.formula.random)
        terms = self.estimate.A.terms
        found = {key: [j for j, t in enumerate(terms) if t.group == key] for key in order}
        return {k: j[::-1] if terms[j[0]].backwards else j for k, j in found.items()}

    def _open(self) -> Sequence[NDArray[np.bool_]]:
        """Which covariances the data leave open, ``(k, k)`` per term: none is known."""
        return [np.zeros((t.k, t.k), dtype=bool) for t in self.estimate.A.terms]

    @property
    def variance_components(self) -> dict[str, Any]:
        """Variance of the random effects by grouping key.

        A float for an intercept alone, else the covariance as a frame; ``scale`` is the residual's.
        Those that the data do not determine are NaN.
        """
        return self._components(whole=True)

    def _components(self, *, whole: bool) -> dict[str, float | pd.DataFrame]:
        """:attr:`variance_components`, or what is to be shown of them.

        Of columns with one standard deviation and one correlation two say it all.
        """
        open_ = self._open()
        found: dict[str, Any] = {}
        for key, members in self._keys.items():
            blocks = [np.where(open_[j], np.nan, self.estimate.covariances[j]) for j in members]
            if self._is_intercept(members):
                found[key] = float(blocks[0][0, 0])
                continue
            terms = [self.estimate.A.terms[j] for j in members]
            shown = [
                (t.columns, S) if whole else _told(t, S) for t, S in zip(terms, blocks, strict=True)
            ]
            names = [name for columns, _ in shown for name in columns]
            values = block_diag(*(S for _, S in shown))
            found[key] = pd.DataFrame(values, index=names, columns=names)
        return found

    @property
    def random_effects(self) -> dict[str, Any]:
        """Conditional modes (BLUPs) by grouping key, indexed by level."""
        return self._by_level(list(self.estimate.b))

    @property
    def random_effects_se(self) -> dict[str, Any]:
        """Conditional standard deviations, given the parameters (as lme4's ``condVar``).

        After a fit by the iterative solver they are estimates: random probes are added until the
        largest error is about one per cent, or there are 1,024.
        """
        return self._by_level(list(self.estimate.b_se))

    def coef(self, group: str | None = None) -> pd.DataFrame:
        """Coefficients of every level: fixed effects plus random effects.

        Parameters
        ----------
        group
            Grouping factor; may be left out where there is one.

        Returns
        -------
        DataFrame
            By level of the factor: all fixed effects, those with a random effect of the same name
            with that added, then random effects that no fixed effect has.  As ``coef()`` in R.

        Raises
        ------
        InterlaceError
            No such factor, or several and none named.

        Examples
        --------
        >>> import interlace
        >>> sleep = interlace.datasets.load("sleepstudy")
        >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
        >>> result.coef("Subject").head(2).round(2)
                 Intercept   Days
        Subject
        308         253.66  19.67
        309         211.01   1.85
        """
        effects = self.random_effects
        known = ", ".join(effects)
        if group is None and len(effects) > 1:
            raise InterlaceError(f"name the grouping factor whose coefficients you want: {known}")
        key = next(iter(effects)) if group is None else group
        if key not in effects:
            raise InterlaceError(f"the model has no grouping factor {key!r}; it has {known}")
        random = effects[key]
        frame = random.to_frame("Intercept") if isinstance(random, pd.Series) else random
        fixed = self.fe_params
        table = pd.DataFrame({n: np.full(len(frame), v) for n, v in fixed.items()}, frame.index)
        for name in frame.columns:
            table[name] = frame[name] + (fixed[name] if name in fixed.index else 0.0)
        return table

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
    def theta(self) -> NDArray[np.float64]:
        """Relative covariance parameters in lme4's order."""
        return read_only(self.estimate.theta)

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
        """Fixed effects, free entries of the templates, and the residual variance (or the like)."""
        return self.estimate.A.p + len(self.theta) + self.estimate.n_family

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


@dataclass(frozen=True, eq=False)
class FittedModel(Labelled[Estimate]):
    """Estimates of a linear mixed model under their public names.

    What can be read off the optimum; :class:`interlace.CrossedLMEResult` adds what can be asked.
    """

    def _open(self) -> Sequence[NDArray[np.bool_]]:
        return self.estimate.undetermined.entries

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self.estimate.variance

    @cached_property
    def fittedvalues(self) -> NDArray[np.float64]:
        """Conditional predictions for the rows used, ``(nobs,)``."""
        design = require_rows(self.design, "fittedvalues")
        return read_only(fitted(design, self.estimate, [True] * len(self.estimate.A.terms)))

    @cached_property
    def resid(self) -> NDArray[np.float64]:
        """Response less :attr:`fittedvalues`, ``(nobs,)``."""
        return read_only(require_rows(self.design, "resid").y - self.fittedvalues)

    @property
    def n_dropped(self) -> int:
        """Rows left out for missing values."""
        return recipe_of(self.design, self.estimate.A).n_dropped

    @property
    def encoding(self) -> Encoding:
        """How rows are encoded; also where none are held."""
        return recipe_of(self.design, self.estimate.A).encoding


Model = TypeVar("Model", bound=FittedModel)


def tame(model: Model) -> Model:
    """The same fit in units in which all numbers are near 1; itself where they are."""
    units, design = model.estimate.units, model.design
    if units is None:
        return model
    if design is not None:
        kept = columns_kept(design.names, model.estimate.A.names)
        fixed = np.zeros(len(kept), dtype=np.int64)
        fixed[kept] = units.fixed
        design = tamed(design, replace(units, fixed=fixed))
    return replace(model, design=design, estimate=model.estimate.tame)


def shown_components(model: Labelled[AnyEstimate]) -> dict[str, float | pd.DataFrame]:
    """What tables show of ``variance_components``: of columns with one standard deviation two."""
    return model._components(whole=False)


def effect_powers(model: FittedModel, units: Units) -> dict[str, Powers]:
    """By grouping key, powers of 2 of the units of random effects."""
    return {
        key: np.concatenate([units.effects[j] for j in members])
        for key, members in model._keys.items()
    }


M = TypeVar("M", bound=FittedModel)


def as_kind(kind: type[M], model: FittedModel) -> M:
    """The same fit as an object of a subclass, which has more verbs."""
    return kind(model.formula, model.design, model.estimate, model.options, model.held)


def _lock(design: Design | None) -> None:
    """Make the arrays of rows read-only."""
    for field in () if design is None else fields(design):
        held = getattr(design, field.name)
        for array in held if isinstance(held, tuple) else (held,):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False


def read_only(array: Floats) -> Floats:
    """A copy that cannot be written to, nor be made so: a result does not change."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy.view()


def _told(term: ReTerm, S: Floats) -> tuple[Sequence[str], Floats]:
    """Columns of a term with one standard deviation that tell its covariance, and their part."""
    named = term.template.labels(term.columns)
    if not named or len(named) > 2 or term.k <= len(named):
        return term.columns, S
    rest = f"(all {term.k}: {named[0][1]})"
    return (*term.columns[: len(named) - 1], rest), S[: len(named), : len(named)]
