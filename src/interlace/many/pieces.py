"""Fits of many responses, a piece at a time: what a process of ``fit_many`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlace.batch.fits import at_once, slices
from interlace.batch.refits import Responses, SharedDesign, weighted_columns
from interlace.design.design import assemble
from interlace.errors import InterlaceError
from interlace.estimation.criterion import LOST, Criterion
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.estimation.likelihood import n_parameters
from interlace.estimation.parameters import variance_parameters
from interlace.many.fits import Piece, TableRows, blank, rows_of
from interlace.many.responses import Mask, Model, SameRows, values_of
from interlace.model.responses import stand_in
from interlace.solver.choose import choose_solver
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.terms import Floats

Numbers: TypeAlias = NDArray[np.intp]

# Numbers in the responses of one task, and responses of one that are fitted one by one.
_TASK_NUMBERS, _TASK_SINGLES = 1 << 22, 4
# Gain at which a search ends, as in `fit`: replicates of a bootstrap need fewer digits.
_GAIN = 1e-12


class AnyShared(Protocol):
    """What responses with the same rows share, and how these are fitted."""

    @property
    def kept(self) -> Mask:
        """Rows used, ``(n,)`` of those of the data."""
        ...

    @property
    def rows(self) -> TableRows:
        """Rows of the table that a response has."""
        ...

    @property
    def n(self) -> int:
        """Rows used."""
        ...

    @property
    def at_once(self) -> int:
        """Responses of one task."""
        ...

    def fitted(self, which: Sequence[int], Y: Floats) -> list[Piece]:
        """Fits of some responses (n, B); those in ``failed`` are for ``fit`` to explain."""
        ...


@dataclass(frozen=True, eq=False)
class Shared:
    """What responses with the same rows share; ``kept`` (n,) are these rows."""

    model: SharedDesign
    offset: Floats | None
    kept: Mask
    rows: TableRows

    @property
    def n(self) -> int:
        """Rows used."""
        return self.model.A.n

    @property
    def at_once(self) -> int:
        """Responses of one task."""
        if not self.model.batched:
            return _TASK_SINGLES
        A = self.model.A
        return max(1, min(at_once(A.terms, A.p), _TASK_NUMBERS // A.n))

    def fitted(self, which: Sequence[int], Y: Floats) -> list[Piece]:
        """Fits of some responses (n, B); those in ``failed`` are for ``fit`` to explain."""
        failed = blank(which, self.rows)
        around = Y if self.offset is None else Y - self.offset[:, None]
        usable = around.min(axis=0) < around.max(axis=0)  # neither constant nor NaN
        if not usable.any():
            return [failed]
        responses = self.model.rows.responses(around[:, usable])
        numbers = np.array(which)[usable]
        if self.model.batched:
            found = [_together(self, numbers, responses)]
        else:
            found = [_alone(self, numbers[[i]], responses, i) for i in range(len(numbers))]
        return [*found, failed.take(~usable)]


# What the rows without some of them share.
Share: TypeAlias = Callable[[Model, Mask | None], AnyShared]


@dataclass(frozen=True, eq=False)
class Task:
    """Responses ``Y`` (n, B) of one set of rows; ``shared`` is ``None`` if no model fits these."""

    which: tuple[int, ...]
    shared: AnyShared | None
    Y: Floats
    rows: TableRows


def shared_by(model: Model, gaps: Mask | None) -> Shared:
    """Rows and cross-products without those in ``gaps``; noise stands in for the response."""
    noise = stand_in(model.n)
    if gaps is not None:
        noise[gaps] = np.nan
    a = model.arguments
    columns = {**model.columns, model.responses.names[0]: noise}
    design = assemble(model.spec, columns, weights=a.weights, offset=a.offset)
    A = cross_products(design)
    criterion = Criterion(A, a.method == "REML", choose_solver(A, "auto", seed=0))
    core = SharedDesign(criterion, weighted_columns(design, A), np.zeros(A.p))
    rows = rows_of(A.names, A.terms, design.encoding.formula)
    return Shared(core, design.offset, design.kept, rows)


def tasks(
    model: Model, base: AnyShared, groups: Sequence[SameRows], share: Share
) -> Iterator[Task]:
    """Pieces of responses, with what they share."""
    for group in groups:
        shared: AnyShared | None = base
        if group.gaps is not None:
            try:
                shared = share(model, group.gaps)
            except InterlaceError:
                shared = None  # `fit` says why, response by response
        if shared is None:
            yield Task(group.which, None, np.empty((0, 0)), base.rows)
            continue
        for piece in slices(len(group.which), shared.at_once):
            yield _task(model, shared, group.which[piece])


def _task(model: Model, shared: AnyShared, which: tuple[int, ...]) -> Task:
    """Values of some responses; NaN throughout where ``fit`` has something to say."""
    Y = np.full((shared.n, len(which)), np.nan)
    for column, i in zip(Y.T, which, strict=True):
        name = model.responses.names[i]
        values = values_of(model.responses.read(name), name, shared.kept)
        if values is not None:
            column[:] = values
    return Task(which, shared, Y, shared.rows)


def run(task: Task) -> list[Piece]:
    """Fit the responses of a task."""
    if task.shared is None:
        return [blank(task.which, task.rows)]
    return task.shared.fitted(task.which, task.Y)


def _together(shared: Shared, which: Numbers, responses: Responses) -> Piece:
    """All responses as a batch."""
    core = shared.model
    fits = core.together(responses, core.starts(responses), gain_tolerance=_GAIN)
    # Where sums have lost the residuals, `fit` goes on from the rows, or says that nothing is left.
    failed = np.isnan(fits.value) | (fits.share_left < LOST)
    return _piece(
        shared.rows,
        core.A,
        which,
        beta=fits.beta,
        se=fits.se,
        templates=fits.templates,
        sigma=fits.sigma,
        value=np.where(failed, np.nan, fits.value),
        converged=~failed,
        singular=fits.singular,
    )


def _alone(shared: Shared, which: Numbers, responses: Responses, i: int) -> Piece:
    """One response in the ordinary solver, in the plan of all."""
    try:
        estimate = estimate_theta(shared.model.single(responses, i))
    except (InterlaceError, np.linalg.LinAlgError):
        return blank(which, shared.rows)  # `fit` says why
    if estimate.evaluation.share_left < LOST:
        return blank(which, shared.rows)  # `fit` goes on from the rows
    return of_estimate(shared.rows, which, estimate)


def of_estimate(rows: TableRows, which: Numbers, estimate: Estimate) -> Piece:
    """One response as the others are written."""
    return _piece(
        rows,
        estimate.A,
        which,
        beta=estimate.beta[None],
        se=estimate.se[None],
        templates=[T[None] for T in estimate.user_templates],
        sigma=np.array([estimate.sigma]),
        value=np.array([estimate.value]),
        converged=np.array([estimate.convergence.converged]),
        singular=np.array([estimate.is_singular]),
    )


def _piece(
    rows: TableRows,
    A: CrossProducts,
    which: Numbers,
    *,
    beta: Floats,
    se: Floats,
    templates: Sequence[Floats],
    sigma: Floats,
    value: Floats,
    converged: Mask,
    singular: Mask,
) -> Piece:
    """Fits in the columns of the table."""
    variances = variance_parameters(A.terms, templates, sigma)[:, rows.order]
    return Piece(
        which=which,
        rows=rows,
        nobs=A.n,
        nparams=n_parameters(A),
        dropped=A.dropped,
        estimate=np.concatenate((beta, variances), axis=1),
        se=np.concatenate((se, np.full_like(variances, np.nan)), axis=1),
        value=value,
        converged=converged,
        singular=singular,
        failed=np.isnan(value),
        beside={"sigma": sigma},
    )
