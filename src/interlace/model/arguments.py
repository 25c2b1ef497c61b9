"""Arguments that a generalised model cannot have."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

import numpy as np

from interlace.design.formula import MixedFormula
from interlace.errors import InterlaceError
from interlace.glmm.ordinal import Ordinal
from interlace.model.fitted import Options, check_solver


def refuse_structures(spec: MixedFormula) -> None:
    """Refuse structures of random effects that passes over a file are not built for."""
    for term in spec.random:
        if term.structure:
            raise InterlaceError(
                f"{term.label} is not built for rows beyond memory: write "
                f"{replace(term, structure='').label} for a model with family="
            )


def check_general(options: Options) -> None:
    """Refuse options that a generalised model does not have."""
    if options.ddf != "normal":
        raise InterlaceError(
            f"ddf={options.ddf!r} is for Gaussian models: tests of other families refer to the "
            f"normal distribution; leave ddf out"
        )
    check_solver(options)
    if options.solver == "iterative" and options.method == "REML":
        raise InterlaceError(
            "REML of generalised models needs solver='exact': leave solver='iterative' out, or "
            "method='REML', which differs little where the iterative solver is of use"
        )
    if options.solver == "iterative" and options.quadrature != 1:
        raise InterlaceError(
            "quadrature is exact, one level at a time: leave solver='iterative' out, or quadrature "
            "for Laplace's approximation"
        )
    if options.theta0 is not None:
        raise InterlaceError("theta0 is for Gaussian models: leave it out")
    prior: object = options.fixed_prior
    if prior is not None and not (isinstance(prior, Real) and 0.0 < float(prior) < np.inf):
        raise InterlaceError(f"fixed_prior must be a positive standard deviation, not {prior!r}")
    if options.method == "REML":
        _refuse_restricted(options)


def _refuse_restricted(options: Options) -> None:
    """Refuse what REML of a generalised model cannot have."""
    name = options.family if isinstance(options.family, str) else options.family.name
    if name == Ordinal.name:
        raise InterlaceError(
            "method='REML' is not there for family='ordinal': with thresholds in place of an "
            "intercept it would depend on where columns have their zero; leave method out"
        )
    if options.fixed_prior is not None:
        raise InterlaceError(
            "fixed_prior= is for maximum likelihood: REML integrates over the fixed effects with a "
            "flat prior; leave method or fixed_prior out"
        )
    if options.quadrature != 1:
        raise InterlaceError(
            f"quadrature={options.quadrature!r} is for maximum likelihood: REML integrates over "
            f"the fixed effects by Laplace's approximation; leave method or quadrature out"
        )
