"""Fitted generalised models as plain values in a file, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from interlace.design.design import Design
from interlace.design.encode import Encoded
from interlace.design.recipe import require_rows
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.families import Family
from interlace.glmm.names import family_of, with_zeros
from interlace.glmm.ordinal import Ordinal
from interlace.model.arguments import check_general
from interlace.model.fitted import Options
from interlace.model.generalised import (
    FittedGeneralModel,
    approximation_of,
    problem_at,
    refuse_empty,
)
from interlace.model.outcomes import Outcome, component_texts
from interlace.model.stored_options import certificate_in
from interlace.model.stored_rows import column_in, column_out, design_in, design_out, floats
from interlace.solver.probes import Probes
from interlace.sources.allowed import refuse_code
from interlace.sources.container import Array, Header
from interlace.sources.labels import Packed
from interlace.sources.specs import side_in, side_out
from interlace.sums.terms import Floats


def general_out(model: FittedGeneralModel, packed: Packed) -> Header:
    """A generalised model as plain values."""
    estimate, problem = model.estimate, model.estimate.problem
    counted = model.options.trials is not None
    design = require_rows(model.design, "save")
    return {
        "rows": design_out(design, packed),
        "components": [
            [name, _component_out(one, packed)] for name, one in design.components.items()
        ],
        "labels": list(model.family.labels) if isinstance(model.family, Ordinal) else None,
        "trials": [packed.add(problem.trials), packed.add(problem.y)] if counted else None,
        "x": packed.add(estimate.x),
        "u": [packed.add(u) for u in estimate.u],
        "hessian": packed.add(estimate.hessian),
        "n_steps": estimate.n_steps,
    }


def general_in(h: Header, options: Options, arrays: Mapping[str, Array]) -> FittedGeneralModel:
    """What :func:`general_out` has written; what no model can be raises ``ValueError``."""
    check_general(options)
    design = design_in(h["rows"], arrays)
    y, trials = design.y, None
    if h["trials"] is not None:
        trials, y = (floats(arrays[name], 1) for name in h["trials"])
        if not np.array_equal(y / trials, design.y):
            raise ValueError("trials")
    family = _family_in(h["labels"], options, y)
    design = replace(
        design, components=_components_in(h["components"], options, family, design, arrays)
    )
    problem = problem_at(Outcome(design, y, trials, family), options)
    convergence = certificate_in(h["convergence"], arrays)
    if convergence.solver == "iterative":
        if convergence.n_probes is None or not 0 < convergence.n_probes <= 1 << 20:
            raise ValueError("solver")
        problem = replace(problem, probes=Probes(convergence.n_probes, options.seed))
    x, hessian = floats(arrays[h["x"]], 1), floats(arrays[h["hessian"]], 2)
    u = [floats(arrays[name], 2) for name in h["u"]]
    if hessian.shape != (len(x), len(x)) or len(x) != sum(problem.sizes):
        raise ValueError("parameters")
    if not np.allclose(hessian, hessian.T, rtol=1e-6, atol=1e-6 * float(np.abs(hessian).max())):
        raise ValueError("second derivatives")
    if [part.shape for part in u] != [(t.l, t.k) for t in design.terms]:
        raise ValueError("modes")
    if type(h["n_steps"]) is not int or (trials is None) is not (options.trials is None):
        raise ValueError("steps")
    estimate = GeneralEstimate(
        problem=problem,
        approximation=approximation_of(options, problem),
        x=x,
        u=u,
        hessian=hessian,
        convergence=convergence,
        n_steps=h["n_steps"],
    )
    if not np.isfinite(estimate.covariance).all():  # of the second derivatives, which are as stored
        raise ValueError("second derivatives")
    return FittedGeneralModel(design.encoding.formula, design, estimate, options)


# Parts beside the mean ----------------------------------------------------------------------------


def _family_in(labels: Sequence[str] | None, options: Options, y: Floats) -> Family:
    """The family of the options, with the categories of the response and a part for zeros."""
    family = family_of(options.family, options.link)
    if options.zero_inflation is not None:
        return with_zeros(family)
    if not isinstance(family, Ordinal):
        if labels is not None:
            raise ValueError("labels")
        return family
    if labels is None or not all(type(one) is str for one in labels):
        raise ValueError("labels")
    if len(labels) < 3 or len(set(labels)) < len(labels):
        raise ValueError("labels")
    found = replace(family, labels=tuple(labels))
    if not np.isin(y, found.scores).all():
        raise ValueError("categories")
    refuse_empty(found, y)
    return found


def _component_out(one: Encoded, packed: Packed) -> Header:
    refuse_code(one.side.text)
    return {
        "side": side_out(one.side, packed),
        "matrix": packed.add(one.matrix),
        "factors": [[name, column_out(own, name, packed)] for name, own in one.factors.items()],
    }


def _components_in(
    stored: Sequence[Sequence[object]],
    options: Options,
    family: Family,
    design: Design,
    arrays: Mapping[str, Array],
) -> dict[str, Encoded]:
    """Auxiliary predictors that have a formula, which are those that the options name."""
    texts = component_texts(options, family)
    if [name for name, _ in stored] != list(texts):
        raise ValueError("components")
    found = {}
    for (name, held), text in zip(stored, texts.values(), strict=True):
        assert isinstance(held, dict)
        refuse_code(text)
        if held["side"]["text"] != text:
            raise ValueError("side")
        side, matrix = side_in(held["side"], arrays), floats(arrays[held["matrix"]], 2)
        factors = {key: column_in(own, arrays) for key, own in held["factors"]}
        if matrix.shape != (len(design.y), len(side.names)):
            raise ValueError("columns")
        if not all(type(key) is str and len(own) == len(matrix) for key, own in factors.items()):
            raise ValueError("factors")
        found[str(name)] = Encoded(side, matrix, factors)
    return found
