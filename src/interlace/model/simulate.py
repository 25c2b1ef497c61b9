"""New responses from a fitted model.

Replicates are drawn in blocks of fixed size, each from a child of one seed sequence, so that a
replicate depends on the seed and its number alone: not on how many are drawn, nor by whom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from interlace.design.design import Design
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.sums.terms import Floats

Seed = int | np.random.Generator | np.random.SeedSequence | None

# Replicates in a block.
_BLOCK = 16


def simulate(
    design: Design | None,
    estimate: Estimate,
    nsim: int = 1,
    seed: Seed = None,
    include_re: bool = False,
) -> Floats:
    """Draw new responses from a fitted model for the rows used.

    Parameters
    ----------
    design, estimate
        Rows and numbers of the fit.
    nsim
        How many responses.
    seed
        An integer, a generator (which is advanced), a seed sequence (which is not), or ``None``.
    include_re
        ``False`` draws new random effects, ``True`` keeps the conditional modes.

    Returns
    -------
    ndarray
        ``(n, nsim)``; a column depends on the seed and its position, not on ``nsim``.

    Raises
    ------
    InterlaceError
        ``nsim`` is not a positive integer, or the model was fitted without holding its rows.

    Notes
    -----
    ``X beta + offset + Z b + e`` with ``b ~ N(0, Sigma)`` per level and term, and
    ``e ~ N(0, scale / weights)``.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> simulate(result.design, result.estimate, 3, seed=1).shape
    (180, 3)
    """
    rows = require_rows(design, "simulate")
    check_nsim(nsim)
    model = Simulator(rows, estimate, bool(include_re))
    out = np.empty((len(rows.y), nsim))
    for block in blocks(seed, nsim):
        normals = block.rng.standard_normal((block.size, model.n_draws))
        out[:, block.columns] = model.deviations(normals)
    out += expected(rows, estimate)[:, None]
    return out


def expected(design: Design, estimate: Estimate) -> Floats:
    """``X beta + offset`` of every row, ``(n,)``."""
    mean: Floats = design.fixed(estimate.A.names) @ estimate.beta
    return mean if design.offset is None else mean + design.offset


@dataclass(frozen=True, eq=False)
class Simulator:
    """Turns standard normal numbers into deviations from ``X beta + offset``."""

    design: Design
    estimate: Estimate
    include_re: bool = False

    @property
    def n_draws(self) -> int:
        """Normal numbers for one replicate: those of the random effects, then of the rows."""
        q = 0 if self.include_re else sum(t.q for t in self.design.terms)
        return q + len(self.design.y)

    @cached_property
    def Z(self) -> csr_matrix:
        """All random-effects columns, ``(n, q)``."""
        return self.design.random_matrix

    @cached_property
    def residual_sd(self) -> Floats:
        """Standard deviation of every row's residual, ``(n, 1)``."""
        return self.estimate.sigma / self.design.root_weights[:, None]

    def deviations(self, normals: Floats) -> Floats:
        """``Z b + e`` from ``normals`` (B, n_draws): ``(n, B)``."""
        n = len(self.design.y)
        noise = self.residual_sd * normals[:, -n:].T
        if self.include_re:
            b = np.concatenate([b.ravel() for b in self.estimate.b])
            return np.asarray(noise + (self.Z @ b)[:, None])
        start, parts = 0, []
        for term, T in zip(self.design.terms, self.estimate.user_templates, strict=True):
            u = normals[:, start : start + term.q].reshape(-1, term.k)
            b = self.estimate.sigma * (u @ T.T)
            parts.append(b.reshape(len(normals), term.q).T)
            start += term.q
        return np.asarray(noise + self.Z @ np.concatenate(parts))


# ------------------------------------------------------------------ seeds


@dataclass(frozen=True, eq=False)
class Block:
    """Some consecutive replicates and their source of random numbers."""

    columns: slice
    sequence: np.random.SeedSequence

    @property
    def size(self) -> int:
        """How many replicates."""
        return int(self.columns.stop - self.columns.start)

    @property
    def rng(self) -> np.random.Generator:
        """A generator at its start."""
        return np.random.default_rng(self.sequence)


def check_nsim(nsim: int) -> None:
    """A number of simulations is a positive integer.

    Raises
    ------
    InterlaceError
        It is not.
    """
    if not isinstance(nsim, int | np.integer) or nsim < 1:
        raise InterlaceError(f"nsim must be a positive integer, not {nsim!r}")


def blocks(seed: Seed, n: int) -> Iterator[Block]:
    """Blocks of ``n`` replicates.

    A block must draw replicate after replicate, so that a shorter one is the start of a full one.
    """
    root = seed_sequence(seed)
    for i, start in enumerate(range(0, n, _BLOCK)):
        yield Block(slice(start, min(start + _BLOCK, n)), _child(root, i))


def seed_sequence(seed: Seed) -> np.random.SeedSequence:
    """A seed as a sequence that its ``entropy`` alone tells.

    A generator gives (and loses) some of its numbers; the child of a sequence starts a new one.
    """
    if isinstance(seed, np.random.SeedSequence):
        if not seed.spawn_key and seed.pool_size == np.random.SeedSequence().pool_size:
            return seed
        return np.random.SeedSequence(seed.generate_state(4).tolist())
    if isinstance(seed, np.random.Generator):
        return np.random.SeedSequence(seed.integers(0, 2**32, 4).tolist())
    if seed is None or (isinstance(seed, int | np.integer) and seed >= 0):
        return np.random.SeedSequence(None if seed is None else int(seed))
    raise InterlaceError(
        f"seed must be a non-negative integer, a numpy Generator or SeedSequence, or None, "
        f"not {seed!r}"
    )


def _child(root: np.random.SeedSequence, i: int) -> np.random.SeedSequence:
    """Child ``i`` of a sequence, which keeps no count of it."""
    return np.random.SeedSequence(root.entropy, spawn_key=(i,))
