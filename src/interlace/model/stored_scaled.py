"""Fitted models with a variance function as plain values in a file, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_matrix

from interlace.design.repeated import parse_residual
from interlace.design.variances import one_hot
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.model.fitted import Options
from interlace.model.scaled import FittedScaledModel, refuse_ddf, scaled_criterion, variance_alone
from interlace.model.stored_options import certificate_in
from interlace.model.stored_rows import codes_in, codes_out, design_in, design_out, floats
from interlace.model.structured import check_structured
from interlace.solver.equations import Equations, Exact, Iterative
from interlace.solver.probes import Probes
from interlace.sources.archive import group_in, group_out
from interlace.sources.consistent import is_grouping
from interlace.sources.container import Array, Header
from interlace.sources.labels import Packed
from interlace.sums.terms import Floats


def scaled_out(model: FittedScaledModel, packed: Packed) -> Header:
    """A model as plain values: rows, strata or covariate, and where the search ended."""
    assert model.design is not None
    scales, strata = model.estimate.criterion.scales, model.strata
    told = packed.add(np.asarray(scales.todense())) if strata is None else _codes(model, packed)
    return {
        "rows": design_out(model.design, packed),
        "residual": str(model.residual),
        "scales": told,
        "strata": None if strata is None else group_out(strata, packed),
        "ratios": [list(pair) for pair in model.ratios],
        "units": packed.add(np.array(model.units)),
        "templates": [packed.add(T) for T in model.estimate.templates],
        "eta": packed.add(model.estimate.eta),
        "probes": _probes_out(model.estimate.criterion.base.equations),
    }


def _codes(model: FittedScaledModel, packed: Packed) -> str:
    """The stratum of every row."""
    scales = model.estimate.criterion.scales
    return codes_out(np.asarray(scales @ np.arange(1, scales.shape[1] + 1)).astype(np.intp), packed)


def scaled_in(h: Header, options: Options, arrays: Mapping[str, Array]) -> FittedScaledModel:
    """What :func:`scaled_out` has written; what no model can be raises ``ValueError``."""
    check_structured(options)
    design = design_in(h["rows"], arrays)
    term = parse_residual(h["residual"])
    if term.variance is None or term != variance_alone(options):
        raise ValueError("residual")
    refuse_ddf(term.variance, options.ddf)
    ratios = tuple((name, flag) for name, flag in h["ratios"])
    if not all(type(name) is str and type(flag) is bool for name, flag in ratios):
        raise ValueError("ratios")
    units, eta, n = floats(arrays[h["units"]], 1), floats(arrays[h["eta"]], 1), len(design.y)
    if not len(units) == len(eta) == len(ratios) > 0 or not (units > 0.0).all():
        raise ValueError("parameters")
    strata = None if h["strata"] is None else group_in(h["strata"], arrays)
    if strata is None:
        rows: Floats = floats(arrays[h["scales"]], 2)
        scales = _sparse(rows, (n, len(eta)))
    else:
        codes = codes_in(arrays[h["scales"]])
        known = is_grouping(strata) and len(strata.cells) == len(eta) + 1
        if not known or codes.shape != (n,) or not 0 <= codes.min() <= codes.max() <= len(eta):
            raise ValueError("strata")
        scales = one_hot(codes, len(eta))
    solver = _solver_in(h.get("probes"))
    criterion = scaled_criterion(
        design, scales, reml=options.method == "REML", solver=lambda A: solver
    )
    templates = tuple(floats(arrays[name], 2) for name in h["templates"])
    if [T.shape for T in templates] != [(t.k, t.k) for t in criterion.A.terms]:
        raise ValueError("templates")
    estimate = ScaledEstimate(criterion, templates, eta, certificate_in(h["convergence"], arrays))
    formula, told = design.encoding.formula, tuple(units.tolist())
    return FittedScaledModel(formula, design, estimate, options, None, term, ratios, told, strata)


def _probes_out(solver: Equations) -> list[int] | None:
    """Number and seed of the probes of the iterative solver."""
    return [solver.probes.count, solver.probes.seed] if isinstance(solver, Iterative) else None


def _solver_in(stored: object) -> Equations:
    match stored:
        case None:
            return Exact()
        case [int(count), int(seed)] if 0 < count <= 1 << 20 and seed >= 0:
            return Iterative(Probes(count, seed))
    raise ValueError("probes")


def _sparse(rows: Floats, shape: tuple[int, int]) -> csr_matrix:
    if rows.shape != shape or np.abs(rows).max() > 1.0:
        raise ValueError("scales")
    return csr_matrix(rows)
