"""A fitted model with a residual structure: options and data to it, and its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.choices import is_linear
from interlace.design import keys
from interlace.design.design import (
    read_design,
    refuse_constant,
    refuse_saturated,
    refuse_unidentifiable,
)
from interlace.design.formula import MixedFormula, parse
from interlace.design.frame import pick
from interlace.design.kept import kept_frame
from interlace.design.reads import columns_of
from interlace.design.recipe import require_rows
from interlace.design.repeated import ResidualTerm, parse_residual
from interlace.design.variances import refuse_reproduced, scales_of
from interlace.design.visits import Grid, first_rows, grid_of
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SingularFitWarning,
    choose,
    warn,
)
from interlace.estimation.residual import StructuredEstimate, estimate_structured
from interlace.estimation.structured import StructuredCriterion
from interlace.machine.progress import watcher
from interlace.model.fitted import (
    METHODS,
    STRUCTURED_DDF,
    Labelled,
    Options,
    as_kept,
    check_solver,
    read_only,
)
from interlace.model.fitting import refuse_generalised
from interlace.model.predict import fitted
from interlace.model.structured_sums import criterion_of, sums_of
from interlace.model.updating import updated_options
from interlace.sources.gathered import gathered
from interlace.sources.opening import open_source
from interlace.sums.crossprod import CrossProducts
from interlace.sums.patterns import Visits
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class FittedStructuredModel(Labelled[StructuredEstimate]):
    """Estimates of a linear model with a residual structure under their public names.

    ``residual`` is the structure as it was read, ``grid`` where the rows stand on it.
    """

    residual: ResidualTerm | None = None
    grid: Grid | None = None

    @property
    def _grid(self) -> Grid:
        assert self.grid is not None
        return self.grid

    @property
    def places(self) -> Visits:
        """Where the rows used stand on the grid of visits."""
        return self._grid.at

    @property
    def _residual(self) -> ResidualTerm:
        assert self.residual is not None
        return self.residual

    def _read_beside(self) -> dict[str, str]:
        """Columns of the residual structure."""
        return {f"residual {i}": name for i, name in enumerate(self._residual.columns)}

    @property
    def tried(self) -> tuple[ResidualTerm, ...]:
        """Structures of a list that came before this one, and did not converge."""
        asked = [with_subject(one, self.formula) for one in _structures(self.options.residual)]
        return tuple(asked[: asked.index(self._residual)])

    @property
    def scale(self) -> float:
        """Residual variance, where it is the same at all visits and in all groups.

        Raises
        ------
        InterlaceError
            There are several.
        """
        if self.estimate.criterion.stack.homogeneous:
            return float(self.estimate.residual_covariances[0, 0, 0])
        raise InterlaceError(
            f"{self._residual} has several residual variances, and no one scale: see "
            "residual_covariance"
        )

    @property
    def residual_covariance(self) -> pd.DataFrame | Any:
        """Covariance of a subject's residuals by visit; a frame for each group of ``by=``.

        Random effects of the subject come on top, and a variance function multiplies it.
        """
        if self._grid.times is not None:
            raise InterlaceError(
                f"subjects do not share the times of {self._residual}: every subject has a "
                "covariance of its own, which follows from residual_parameters"
            )
        labels = pd.Index(self._grid.labels, name=self._residual.visit)
        frames = [
            pd.DataFrame(S, index=labels, columns=labels)
            for S in self.estimate.residual_covariances
        ]
        if self._grid.groups is None:
            return frames[0]
        return dict(zip(self._grid.groups.tolist(), frames, strict=True))

    @cached_property
    def _parameters(self) -> tuple[Floats, Floats]:
        """Values of the reported parameters, and their covariance."""
        return self.estimate.parameters

    @property
    def residual_parameters(self) -> pd.DataFrame:
        """Standard deviations and correlations of the structure: ``estimate`` and ``se``.

        By name; by group and name where there is a covariance for every group.
        """
        values, covariance = self._parameters
        columns = {"estimate": values, "se": np.sqrt(np.diag(covariance))}
        return pd.DataFrame(columns, index=self.parameter_index)

    @property
    def vcov_residual(self) -> pd.DataFrame:
        """Covariance of :attr:`residual_parameters`."""
        index = self.parameter_index
        return pd.DataFrame(self._parameters[1], index=index, columns=index, copy=True)

    @property
    def parameter_index(self) -> pd.Index:
        """Names of the parameters, by group where there are such."""
        labels = keys.texts(self._grid.labels)
        names = self.estimate.criterion.stack.names(labels)
        if self._grid.groups is None:
            return pd.Index(names, name="parameter")
        groups = self._grid.groups.tolist()
        return pd.MultiIndex.from_product([groups, names], names=[self._residual.by, "parameter"])

    @property
    def parameter_names(self) -> list[str]:
        """Parameters of the residual structure as one line of text each: ``a: sd_1`` by group."""
        index = self.parameter_index
        if isinstance(index, pd.MultiIndex):
            return [f"{group}: {name}" for group, name in index.tolist()]
        return [str(name) for name in index]

    @property
    def ngroups(self) -> dict[str, int]:
        """Subjects, and levels of the factors of random effects."""
        subject = self._residual.subject
        subjects = {":".join(subject): self._grid.at.n_subjects} if subject else {}
        return subjects | {t.group: t.l for t in (self.estimate.A.terms[j] for j in self.shared)}

    @property
    def shared(self) -> tuple[int, ...]:
        """Positions of the random terms whose effects subjects share."""
        n_own = len(self.estimate.criterion.stack.designs)
        return self.estimate.criterion.order[n_own:]

    @property
    def bic_subjects(self) -> float:
        """``criterion + nparams log(subjects)``: BIC with subjects in place of rows."""
        return self.criterion + self.nparams * float(np.log(self._grid.at.n_subjects))

    @property
    def n_dropped(self) -> int:
        """Rows left out for missing values."""
        return require_rows(self.design, "n_dropped").n_dropped

    @cached_property
    def fittedvalues(self) -> NDArray[np.float64]:
        """Predictions of the rows used, random effects of the subject included, ``(nobs,)``."""
        design = require_rows(self.design, "fittedvalues")
        return read_only(fitted(design, self.estimate, [True] * len(design.terms)))

    @cached_property
    def resid(self) -> NDArray[np.float64]:
        """Response less :attr:`fittedvalues`, ``(nobs,)``."""
        return read_only(require_rows(self.design, "resid").y - self.fittedvalues)

    @cached_property
    def normalized_resid(self) -> NDArray[np.float64]:
        """Residuals of the fixed part without correlation and with variance 1, ``(nobs,)``.

        Random effects that subjects share are taken off, too.

        Every one less what the earlier visits of its subject say of it, over the standard deviation
        that is left: ``L^-1 r`` with the Cholesky factor ``L`` of the subject's covariance.
        """
        P, at, roots = (
            self.estimate.criterion.patterns,
            self.places,
            self.estimate.evaluation.roots,
        )
        assert roots is not None
        rows = roots[P.of_subject[at.subjects], at.visits]
        return read_only(np.einsum("nj,nj->n", rows, self.deviations[at.subjects]))

    @cached_property
    def pearson_resid(self) -> NDArray[np.float64]:
        """:attr:`resid` over the standard deviations of the residuals, ``(nobs,)``."""
        design, at, P = (
            require_rows(self.design, "pearson_resid"),
            self.places,
            self.estimate.criterion.patterns,
        )
        noise = self.estimate.criterion.stack.noise(self.estimate.x)
        variance = noise[P.groups[P.of_subject[at.subjects]], at.visits, at.visits]
        sd = self.estimate.unit * np.sqrt(variance)
        return read_only(design.root_weights * self.resid / sd)

    @property
    def deviations(self) -> Floats:
        """Residuals of the fixed part by subject and visit, weighted, in working units.

        ``(subjects, V)``, 0 at visits that were missed.  Random effects that subjects share are
        taken off.
        """
        design, at = require_rows(self.design, "residuals by visit"), self.places
        r = np.zeros((at.n_subjects, at.n_visits))
        include = [j in self.shared for j in range(len(design.terms))]
        left = design.y - fitted(design, self.estimate, include)
        r[at.subjects, at.visits] = design.root_weights * left / self.estimate.unit
        return r

    def with_rows(self) -> StructuredCriterion:
        """The criterion with the rows of every subject kept."""
        design, criterion = (
            require_rows(self.design, "a robust covariance"),
            self.estimate.criterion,
        )
        return replace(criterion, patterns=sums_of(design, self.places, criterion.A, keep=True))

    def between(self) -> NDArray[np.bool_]:
        """Which coefficients are of columns that are constant within every subject."""
        design = require_rows(self.design, "ddf='between-within'")
        X, subjects = design.fixed(self.estimate.A.names), self._grid.at.subjects
        return np.asarray((X[first_rows(subjects)[subjects]] == X).all(axis=0))


# ------------------------------------------------------------------ fitting


def fit_structured(options: Options, data: object) -> FittedStructuredModel:
    """Fit a model with a residual structure; see :func:`interlace.fit`.

    Of several structures it is the first whose search ends, or the last.
    """
    options, data = as_kept(options), kept_frame(data)
    check_structured(options)
    refuse_iterative(options)
    spec = parse(options.formula, groups=options.groups, random=options.random, fixed_alone=True)
    terms = [with_subject(one, spec) for one in _structures(options.residual)]
    data = in_memory(options, data, spec, terms)
    options = replace(options, residual=_as_given(options.residual))
    for term in terms:
        model = _fitted(options, data, spec, term)
        if model.converged:
            break
    A = model.estimate.A
    if A.dropped:
        what = f"the fixed effects are rank deficient; dropped: {', '.join(A.dropped)}"
        warn(what, RankDeficiencyWarning)
    warn_of(model)
    return model


def _as_given(residual: str | Sequence[str] | None) -> str | Sequence[str] | None:
    """The argument as it is now."""
    return residual if isinstance(residual, str | None) else tuple(residual)


def _structures(residual: object) -> list[ResidualTerm]:
    """The residual structures asked for, in order."""
    texts = list(residual) if isinstance(residual, list | tuple) else [residual]
    if not texts:
        raise InterlaceError("residual=[] names no structure: leave it out, or name one")
    return [parse_residual(text) for text in texts]


def _fitted(
    options: Options, data: object, spec: MixedFormula, term: ResidualTerm
) -> FittedStructuredModel:
    """The fit of one residual structure."""
    beside = {f"residual {i}": name for i, name in enumerate(term.columns)}
    extra = {"weights": options.weights, "offset": options.offset, **beside}
    design, rows = read_design(spec, data, extra, options.missing, None)
    refuse_constant(design.response, f"the response '{spec.response}'")
    refuse_unidentifiable(design.terms, len(design.y))
    refuse_saturated(design.X)
    scales = scales_of(term.variance, rows)
    refuse_reproduced(term.variance, design.X, scales.strata, rows)
    grid, criterion = criterion_of(
        design,
        grid_of(term, rows),
        term,
        scales,
        reml=options.method == "REML",
    )
    with watcher(options.progress) as watch:
        estimate = estimate_structured(criterion, watch=watch)
    return FittedStructuredModel(spec, design, estimate, options, data, term, grid)


def warn_of(model: FittedStructuredModel) -> None:
    """Warn of a search that did not end, and of random effects that are zero."""
    estimate, term = model.estimate, model.residual
    if not estimate.convergence.converged:
        why = (
            "the likelihood grows without bound as the covariance of the residuals becomes "
            "singular: too few subjects were seen at the same visits"
            if estimate.degenerate
            else f"the fit did not converge: {estimate.convergence.message}"
        )
        warn(
            f"{why}; a structure with fewer parameters than {term} may be all that the data can "
            "tell",
            ConvergenceWarning,
        )
    if estimate.is_singular:
        groups = ", ".join(map(repr, estimate.singular_groups))
        warn(
            f"singular fit: a variance, or a combination of random effects, of {groups} is "
            "estimated as zero; the estimates are valid",
            SingularFitWarning,
        )


def with_subject(term: ResidualTerm, spec: MixedFormula) -> ResidualTerm:
    """The residual structure, its subjects those of the random effects, where there are such.

    Raises
    ------
    InterlaceError
        Random effects of several factors beside a variance function alone.
    """
    if not spec.random:
        return term
    if not term.subject:
        term = replace(term, subject=spec.random[0].group)
    own = [one for one in spec.random if set(one.group) == set(term.subject)]
    if term.visit is None and len(own) < len(spec.random):
        raise InterlaceError(
            f"residual='{term}' beside {spec.random[-1].label}: in a list of structures a variance "
            "function has no random effects of a factor other than the subject: fit it by itself"
        )
    return term


def check_structured(options: Options) -> None:
    """Refuse options that a model with a residual structure does not have."""
    if not is_linear(options.family, options.link):
        link = "" if options.link is None else f" with link={options.link!r}"
        raise InterlaceError(
            f"residual= is for Gaussian responses, not family={options.family!r}{link}: leave it "
            f"out"
        )
    refuse_generalised(options)
    choose("method", options.method, METHODS)
    choose("ddf", options.ddf, STRUCTURED_DDF, one_of=True)
    if options.ddf.startswith("kenward-roger") and options.method == "ML":
        raise InterlaceError(
            f"ddf={options.ddf!r} corrects a fit by REML: use method='REML', or ddf='satterthwaite'"
        )
    check_solver(options)
    if options.theta0 is not None:
        raise InterlaceError("theta0 is of random effects, which residual= does not have yet")


def refuse_iterative(options: Options) -> None:
    """Refuse the iterative solver, where subjects are solved for one by one."""
    if options.solver == "iterative":
        raise InterlaceError(
            f"residual={options.residual!r} with these random effects is fitted by "
            "solver='exact': leave solver out (the iterative solver is for variance functions "
            "beside random effects of several factors)"
        )


def in_memory(
    options: Options, data: object, spec: MixedFormula, terms: Sequence[ResidualTerm]
) -> object:
    """The data, or the columns that the model reads of what is read part by part.

    Raises
    ------
    InterlaceError
        Cross-products, in which the rows of a subject are no longer together.
    """
    if isinstance(data, CrossProducts):
        raise InterlaceError(
            "residual= needs the rows of every subject together, which cross-products do not "
            "keep: pass the data, which may be files, DuckDB or Dask"
        )
    source = open_source(data)
    if source is None:
        return data
    beside = [options.weights, options.offset, *(name for term in terms for name in term.columns)]
    columns = columns_of(spec, source.header, beside=beside)
    pick(source.header, columns)
    why = "residual= needs the rows of a subject together"
    return gathered(source, columns, why=why, progress=options.progress)


def updated(
    model: FittedStructuredModel, formula: str | None, data: object, changes: Mapping[str, object]
) -> FittedStructuredModel:
    """Fit again with some options changed; see the method ``update``."""
    if "residual" in changes and changes["residual"] is None:
        raise InterlaceError(
            "update(residual=None) would be a model of another kind: fit it with interlace.fit"
        )
    return fit_structured(*updated_options(model, formula, data, changes))
