"""Solutions of the mixed-model equations for any right-hand sides, through the elimination.

``C~ = Lambda_ext M^-1 Lambda_ext'`` is the covariance of ``[b - b^, beta^]`` over ``sigma^2``; it
is applied here without being formed, in memory proportional to the right-hand sides.  Everything is
in the working basis, and nothing is divided by a template.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg.lapack import dtrtrs

from interlace.solver.blocks import multiply
from interlace.solver.equations import Solved
from interlace.solver.exact import Factor
from interlace.solver.iterative import IterativeFactor
from interlace.solver.scaled import scale_rows
from interlace.sums.terms import Floats


def solve(
    factor: Solved, random: Sequence[Floats], fixed: Floats | None = None
) -> tuple[tuple[Floats, ...], Floats]:
    """``[b; beta] = C~ [random; fixed]``.

    Parameters
    ----------
    random
        Right-hand sides of every term, ``(l, k, c)`` each.
    fixed
        Right-hand sides of the fixed effects, ``(p, c)``.  ``None`` takes the fixed effects as
        known: ``C~`` of the random effects alone, and a ``beta`` of zeros.

    Returns
    -------
    b, beta
        ``(l, k, c)`` per term, and ``(p, c)``.
    """
    return factor.solve(random, fixed)


def fixed_images(factor: Factor) -> tuple[Floats, ...]:
    """``Z_j' Omega^-1 X``, ``(l, k, p)`` per term, with ``Omega = V / sigma^2``."""
    q, p = factor.plan.q_dense, factor.A.p
    half = np.zeros((len(factor.L), p))
    half[:q] = factor.L[q:-1, :q].T
    v = -np.array(dtrtrs(factor.L, half, lower=1, trans=1)[0])
    scale_rows(factor.A, factor.plan, factor.templates, v)
    v[q:-1] = np.eye(p)
    return tuple(e for _, e in factor.images(v))


def gram_times(factor: Factor | IterativeFactor, H: Sequence[Floats]) -> tuple[Floats, ...]:
    """``Z_i' Z H`` of every term for coefficients ``H`` (l, k, c) a term."""
    if isinstance(factor, IterativeFactor):
        return tuple(factor.reduced.layout.gram(factor.A, H))
    terms, c = factor.A.terms, H[0].shape[2]
    found = []
    for i, term in enumerate(terms):
        total = multiply(factor.A.zz[i], H[i])
        for j in range(len(terms)):
            if j != i:
                product = factor.plan.cross[i, j] @ H[j].reshape(-1, c)
                total = total + product.reshape(term.l, term.k, c)
        found.append(total)
    return tuple(found)


def projected_square(factor: Factor, H: Sequence[Floats]) -> Floats:
    """``(Z H)' P Z H`` for coefficients ``H`` (l, k, c) a term, ``(c, c)``.

    ``P`` is ``Omega^-1`` with the fixed effects projected out.
    """
    ZZH = gram_times(factor, H)
    pairs = list(zip(H, ZZH, strict=True))
    square = sum(np.tensordot(h, g, ((0, 1), (0, 1))) for h, g in pairs)
    XZH = sum(
        np.tensordot(zv[..., :-1], h, ((0, 1), (0, 1)))
        for zv, h in zip(factor.A.zv, H, strict=True)
    )
    return np.asarray(square - factor.explained(ZZH, np.asarray(XZH)), dtype=np.float64)
