"""How the covariance of the fixed effects moves with the covariance of the random effects.

For ``V = sigma^2 (I + sum over terms Z_j Gamma_j Z_j')`` the derivative of ``X' V^-1 X`` by an
entry of ``Gamma_j`` is a sum over levels of products of ``Z_j' Omega^-1 X``; both Satterthwaite's
and Kenward and Roger's approximations are made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from interlace.errors import InterlaceError
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats


class Summed(Protocol):
    """What follows from cross-products."""

    @property
    def A(self) -> CrossProducts: ...


def working_contrasts(estimate: Summed, L: Floats) -> Floats:
    """Rows of ``L`` (c, p), in the user's basis, for the working fixed effects.

    Raises
    ------
    InterlaceError
        If ``L`` does not have one column for each fixed effect.
    """
    A = estimate.A
    if L.ndim != 2 or L.shape[1] != A.p:
        raise InterlaceError(
            f"contrasts of shape {L.shape} do not fit {A.p} fixed effects ({', '.join(A.names)}): "
            f"give one column for each"
        )
    return L @ A.basis.fixed[:-1, :-1]


def level_products(images: Sequence[Floats], v: Floats) -> list[Floats]:
    """Sums over levels of ``E E'``, ``E = Z_j' Omega^-1 X v_c``: ``(c, k, k)`` per term.

    ``images`` are the ``Z_j' Omega^-1 X`` (l, k, p); ``v`` is (p, c).
    """
    return [np.einsum("lac,lbc->cab", E, E) for E in (np.asarray(image @ v) for image in images)]
