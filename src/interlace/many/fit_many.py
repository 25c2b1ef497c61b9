"""``fit_many``: one model and many responses to a tidy table."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from interlace.choices import FamilyName, FitMethod, LinkName, is_linear
from interlace.design import frame
from interlace.design.complete import MISSING, Missing
from interlace.design.design import column_of
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SeparationWarning,
    SingularFitWarning,
    UndeterminedWarning,
    choose,
    warn,
)
from interlace.glmm.families import Family
from interlace.machine.parallel import in_order, n_workers
from interlace.machine.progress import counter
from interlace.many.fits import (
    ManyFits,
    Piece,
    TableRows,
    blank,
    glance_table,
    rows_of,
    tidy_table,
)
from interlace.many.general import of_model, shared_general
from interlace.many.pieces import Share, of_estimate, run, shared_by, tasks
from interlace.many.responses import LISTED, Arguments, Model, by_rows, model_of, named_responses
from interlace.model.fitted import METHODS
from interlace.model.fitting import refuse_generalised
from interlace.results import CrossedLMEResult


def fit_many(
    formula: str,
    data: object,
    responses: Iterable[str] | ArrayLike | object,
    groups: str | Sequence[str] | None = None,
    *,
    random: str | Sequence[str] | None = None,
    method: FitMethod | None = None,
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
    missing: Missing = "drop",
    family: FamilyName | Family = "gaussian",
    link: LinkName | None = None,
    trials: str | ArrayLike | None = None,
    exposure: str | ArrayLike | None = None,
    zero_inflation: str | None = None,
    dispersion: str | None = None,
    quadrature: int = 1,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> ManyFits:
    """Fit one linear or generalised linear mixed model to many responses.

    The rows are read once: responses share all cross-products that involve none of them, and
    small models are fitted as a batch.  Each answer is that of :func:`interlace.fit`.

    Parameters
    ----------
    formula
        ``"~ x + (1 + x | g)"``.  A name left of ``~`` only holds the place of the responses.
    data
        As for :func:`interlace.fit`.
    responses
        Columns of ``data`` by name; or their values: a frame or dict of columns with as many rows
        as ``data`` (matched by their index, or without one by position), or an array ``(n, R)``,
        whose columns are named ``"y0", "y1", ..``.
    groups, random, method, weights, offset
        As for :func:`interlace.fit`.
    family, link, trials, exposure, zero_inflation, dispersion, quadrature
        As for :func:`interlace.fit`: one family, and the same trials and exposure, of all
        responses.
    missing
        ``"drop"`` leaves out rows with a missing value in a column of the model and, for each
        response, rows in which it is missing; ``"raise"`` refuses both.  Responses that are missing
        in the same rows share their cross-products.
    n_jobs
        Processes; -1 for as many as there are cores.  Starting them takes a second or two, once.
    progress
        ``True`` shows a bar, ``False`` never does, ``None`` does when it takes long and standard
        error is a terminal.

    Returns
    -------
    ManyFits
        ``table`` (one row for each response and parameter), ``glance()`` (one row for each
        response), ``result(name)`` (all that ``fit`` returns), ``errors``.

    Raises
    ------
    InterlaceError
        The formula or the data cannot be used for any response, or ``responses`` names something
        that cannot be one.  What is wrong with a single response is in ``errors``, in ``fit``'s
        words.

    Warns
    -----
    ConvergenceWarning
        Responses failed or did not converge.
    RankDeficiencyWarning
        Fixed effects were dropped.
    SeparationWarning
        Coefficients of some responses have no finite estimate.

    Notes
    -----
    New responses change ``Z'y, X'y, y'y`` only.  Each search starts at a moment estimate of its
    own, as that of ``fit`` does.  Of other families the searches for modes and parameters run side
    by side, by the rules of a single fit; what they do not settle is fitted alone.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> rates = {"time": sleep["Reaction"], "speed": 1000.0 / sleep["Reaction"]}
    >>> many = interlace.fit_many("~ Days + (Days | Subject)", sleep, rates)
    >>> many
    <ManyFits ~ Days + (1 + Days | Subject) | REML, 2 responses>
    >>> many.table.query("term == 'Days'")[["response", "estimate", "p.value"]].round(4)
      response  estimate  p.value
    1     time   10.4673      0.0
    7    speed   -0.1110      0.0
    >>> many.result("speed").nobs
    180
    >>> cbpp = interlace.datasets.load("cbpp")
    >>> counts = {"seen": cbpp["incidence"], "healthy": cbpp["size"] - cbpp["incidence"]}
    >>> interlace.fit_many("~ period + (1 | herd)", cbpp, counts, family="binomial", trials="size")
    <ManyFits ~ period + (1 | herd) | binomial, ML, 2 responses>
    """
    linear = is_linear(family, link)
    method = method or ("REML" if linear else "ML")
    _check(method, missing, n_jobs)
    table = frame.open_table(data)
    named = named_responses(responses, table)
    given = {"weights": weights, "offset": offset, "trials": trials, "exposure": exposure}
    for name, values in given.items():
        if values is not None and not isinstance(values, str):
            given[name] = np.asarray(column_of(name, values, table))
    arguments = Arguments(
        groups,
        random,
        method,
        **given,
        family=family,
        link=link,
        zero_inflation=zero_inflation,
        dispersion=dispersion,
        quadrature=quadrature,
    )
    if linear:
        refuse_generalised(arguments.options("", missing))
    model = model_of(formula, data, table, named, arguments)
    share: Share = shared_by if linear else shared_general
    base = share(model, None)
    alike = by_rows(model, base.kept, missing)
    with counter(len(named.names), progress, what="fit_many", unit="responses") as advance:
        pieces: list[Piece] = []
        for found in in_order(
            run, tasks(model, base, alike, share), n_workers(n_jobs, len(named.names))
        ):
            pieces += found
            advance(sum(len(piece.which) for piece in found))
    return _collected(model, pieces)


# Warnings of single fits, which are said of all responses together.
_SAID = (
    RankDeficiencyWarning,
    SingularFitWarning,
    ConvergenceWarning,
    SeparationWarning,
    UndeterminedWarning,
)


def _check(method: str, missing: str, n_jobs: int) -> None:
    """Refuse arguments out of range."""
    method = choose("method", method, METHODS)
    missing = choose("missing", missing, MISSING)
    if not isinstance(n_jobs, int | np.integer) or (n_jobs < 1 and n_jobs != -1):
        raise InterlaceError(f"n_jobs must be a positive integer or -1, not {n_jobs!r}")


# ------------------------------------------------------------------ the whole


def _collected(model: Model, found: Sequence[Piece]) -> ManyFits:
    """All pieces as one result; what failed is tried, or explained, by ``fit``."""
    names = model.responses.names
    pieces = [piece.take(~piece.failed) for piece in found]
    errors: dict[str, str] = {}
    for piece in found:
        for i in piece.which[piece.failed]:
            again, errors_of_one = _again(model, int(i), piece.rows)
            pieces.append(again)
            errors |= errors_of_one
    errors = {name: errors[name] for name in names if name in errors}
    glance = glance_table(names, pieces, model.arguments.method)
    separated = glance.loc[glance["separated"], "response"] if "separated" in glance else ()
    unsettled = glance.loc[~glance["converged"], "response"]
    known = {*errors, *separated}
    _warn(names, pieces, errors, [name for name in unsettled if name not in known])
    _warn_separated(names, list(separated))
    return ManyFits(
        formula=str(model.spec).removeprefix(model.spec.response).strip(),
        method=model.arguments.method,
        names=names,
        table=tidy_table(names, pieces),
        errors=errors,
        _glance=glance,
        _model=model,
        family=model.arguments.family_name,
    )


def _again(model: Model, i: int, rows: TableRows) -> tuple[Piece, dict[str, str]]:
    """One response by ``fit``, or why it cannot be fitted."""
    name = model.responses.names[i]
    which = np.array([i])
    with warnings.catch_warnings():  # said of all responses together
        for category in _SAID:
            warnings.simplefilter("ignore", category)
        try:
            result = model.fit(name)
        except InterlaceError as error:
            return blank(which, rows), {name: str(error)}
    if not isinstance(result, CrossedLMEResult):
        return of_model(i, result), {}
    A = result.estimate.A
    return of_estimate(rows_of(A.names, A.terms, result.formula), which, result.estimate), {}


def _warn(
    names: Sequence[str], pieces: Sequence[Piece], errors: Mapping[str, str], unsettled: list[str]
) -> None:
    """Say what the user should know."""
    dropped = dict.fromkeys(name for p in pieces if len(p.which) for name in p.dropped)
    if dropped:
        count = sum(len(p.which) for p in pieces if p.dropped)
        warn(
            f"the fixed effects are rank deficient for {count} of {len(names)} responses; "
            f"dropped: {', '.join(dropped)}",
            RankDeficiencyWarning,
        )
    if errors:
        first = next(iter(errors))
        warn(
            f"{len(errors)} of {len(names)} responses could not be fitted (see errors); "
            f"'{first}': {errors[first]}",
            ConvergenceWarning,
        )
    if unsettled:
        more = f" and {len(unsettled) - LISTED} more" if len(unsettled) > LISTED else ""
        warn(
            f"{len(unsettled)} of {len(names)} fits did not converge: "
            f"{', '.join(unsettled[:LISTED])}{more}",
            ConvergenceWarning,
        )


def _warn_separated(names: Sequence[str], separated: Sequence[str]) -> None:
    """Say of which responses coefficients have no finite estimate."""
    if separated:
        more = f" and {len(separated) - LISTED} more" if len(separated) > LISTED else ""
        warn(
            f"coefficients of {len(separated)} of {len(names)} responses have no finite estimate, "
            f"since rows are separated: {', '.join(separated[:LISTED])}{more}; result(name) says "
            f"which and what to do",
            SeparationWarning,
        )
