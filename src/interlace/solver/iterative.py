"""Iterative solver: eliminate the chain by level, solve the rest by conjugate gradients.

Nothing dense is formed, so that memory and time per iteration grow with the number of distinct
cells.  What :class:`interlace.solver.exact.Factor` gives exactly, this gives to the tolerance of
the conjugate gradients, but for two things that need a trace over all effects: the log determinant
and ``sum of Z'PZ``.  These are estimated from random probes ``z`` and solutions ``x = M~^-1 z``:

- ``log|M~| = E[z' log(M~) z]`` by Lanczos quadrature, whose coefficients are those of the solution
  (Ubaru, Chen and Saad, 2017, SIAM Journal on Matrix Analysis and Applications 38, 1075-1099);
- diagonal blocks of ``B M~^-1 B'`` as the mean of ``(B x)(B z)'``.

The probes are of ``S``, what :mod:`interlace.solver.deflate` leaves of ``M~``.  Because ``M~`` has
unit diagonal blocks, those of ``z z'`` and ``S z z'`` have known means: they are taken off as
control variates, which leaves only what is of second order in the coupling between levels to
chance.  The fixed effects are treated exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from interlace.errors import InterlaceError
from interlace.solver.blocks import (
    low_rank_blocks,
    multiply,
    outer_by_column,
    outer_by_level,
    positive_part,
    sum_product,
)
from interlace.solver.chain import local_sandwiches
from interlace.solver.conjugate import Iterated, norms, quadrature, solve
from interlace.solver.deflate import (
    Deflated,
    Low,
    deflate,
    known_inverse,
)
from interlace.solver.exact import Factor, TermEffects
from interlace.solver.layout import Layout
from interlace.solver.left import check_left
from interlace.solver.probes import CERTAIN, Chance, Probes
from interlace.solver.rest import SAFE, Probed, RestTraces, Share, smallest
from interlace.solver.reverse import TermDerivatives
from interlace.solver.sparse import Reduced, reduce_equations, transposed
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

# Residuals, relative to the right-hand side: of the data, of the probes, of the Newton matrix.
_DATA, _PROBES, _NEWTON = 1e-10, 1e-7, 3e-6


@dataclass(frozen=True, eq=False)
class IterativeFactor:
    """The mixed-model equations solved at given templates (working basis).

    ``z`` (q, m) are the probes; ``solved`` has the solutions of ``S`` for them, ``X`` and ``y``.
    """

    A: CrossProducts
    deflated: Deflated
    probes: Probes
    z: Floats
    solved: Iterated

    @property
    def reduced(self) -> Reduced:
        """The equations of the rest."""
        return self.deflated.reduced

    @property
    def templates(self) -> tuple[Floats, ...]:
        """Working templates."""
        return self.reduced.templates

    @property
    def n_iterations(self) -> int:
        """Iterations of conjugate gradients."""
        return int(self.solved.steps.max(initial=0))

    @property
    def n_probes(self) -> int:
        """Random probes."""
        return int(self.z.shape[1])

    @property
    def complete(self) -> bool:
        """Whether the probes give exact means."""
        return self.probes.complete(len(self.z))

    # -------------------------------------------------------------- the data

    @cached_property
    def _data(self) -> Floats:
        """Solutions of the scaled equations for ``[X y]``, ``(q, p + 1)``."""
        return self.deflated.completed(self.solved.x[:, self.n_probes :], self._right)

    @cached_property
    def _right(self) -> Floats:
        """Right-hand sides of the scaled equations for ``[X y]``, ``(q, p + 1)``."""
        return self.reduced.to_scaled(self.reduced.V)

    @cached_property
    def fixed_images(self) -> Floats:
        """Effects ``B = C~ S_X`` that each column of ``X`` would get, ``(q, p)``."""
        return self.reduced.to_effects(self._data[:, :-1])

    @cached_property
    def _gram(self) -> Floats:
        """``[X y]' V^-1 [X y]``, (p + 1, p + 1), of second order in the error of the solutions.

        With solutions ``x`` of ``M~ x = f`` it is ``VV - f'x - x'f + x'M~x``.
        """
        x = self._data
        half = self._right.T @ x
        gram = self.reduced.VV - half - half.T + x.T @ self.reduced.scaled(x)
        return np.asarray(0.5 * (gram + gram.T), dtype=np.float64)

    @cached_property
    def fixed_root(self) -> Floats:
        """Lower Cholesky factor of ``X' V^-1 X``."""
        return np.asarray(np.linalg.cholesky(self._gram[:-1, :-1]), dtype=np.float64)

    @cached_property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1`` in the working basis, ``(p, p)``."""
        half = solve_triangular(self.fixed_root, np.eye(self.A.p), lower=True)
        return np.asarray(half.T @ half, dtype=np.float64)

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects in the working basis, ``(p,)``."""
        return np.asarray(self.vcov @ self._gram[:-1, -1], dtype=np.float64)

    @cached_property
    def _spherical(self) -> Floats:
        """Solution of the scaled equations for ``y - X beta``, ``(q,)``."""
        return np.asarray(self._data[:, -1] - self._data[:, :-1] @ self.beta, dtype=np.float64)

    @cached_property
    def _coefficients(self) -> tuple[Floats, Floats]:
        """``-b`` of the rest and ``[-beta, 1]``, one column each."""
        fixed = np.append(-self.beta, 1.0)[:, None]
        return -self.reduced.to_effects(self._spherical[:, None]), fixed

    @cached_property
    def _residual_products(self) -> Floats:
        """``e`` of the rest, ``(q, 1)``."""
        v, fixed = self._coefficients
        return self.reduced.schur(v) + self.reduced.V @ fixed

    @cached_property
    def r2(self) -> float:
        """Penalised residual sum of squares."""
        half = solve_triangular(self.fixed_root, self._gram[:-1, -1], lower=True)
        r2 = float(self._gram[-1, -1] - half @ half)
        return check_left(r2, float(self.A.vv[-1, -1]))

    @cached_property
    def effects(self) -> tuple[TermEffects, ...]:
        """Random effects and residual cross-products of every term."""
        v, fixed = self._coefficients
        images = self.reduced.chain_images(v, fixed)
        rest = zip(
            self.reduced.layout.split(v).items(),
            self.reduced.layout.split(self._residual_products).values(),
            strict=True,
        )
        images |= {
            j: (-self.reduced.blocks(j, part), self.reduced.blocks(j, e)) for (j, part), e in rest
        }
        return tuple(
            TermEffects(b[:, :, 0], e[:, :, 0], e[:, :, 0] @ T)
            for (b, e), T in zip(
                (images[j] for j in range(len(self.A.terms))), self.templates, strict=True
            )
        )

    def projected(self, H: Sequence[Floats]) -> Floats:
        """``H' Z' P Z H`` for columns of random-effects coefficients; see the exact solver."""
        layout = self.reduced.layout
        columns = np.cumsum([0, *(h.shape[2] for h in H)])
        full = [np.zeros((*h.shape[:2], columns[-1])) for h in H]
        for h, block, a, b in zip(H, full, columns, columns[1:], strict=False):
            block[:, :, a:b] = h
        image = layout.gram(self.A, full)
        total = sum(
            np.tensordot(h, r, axes=((0, 1), (0, 1))) for h, r in zip(full, image, strict=True)
        )
        fixed = sum(
            np.tensordot(zv[..., :-1], h, axes=((0, 1), (0, 1)))
            for zv, h in zip(self.A.zv, full, strict=True)
        )
        sides = self.reduced.reduced_sides(image, np.asarray(fixed))
        f = self.reduced.to_scaled(sides.rest)
        x = self.deflated.solve(f, _NEWTON)
        left = sides.fixed - self.fixed_images.T @ sides.rest
        half = solve_triangular(self.fixed_root, left, lower=True)
        explained = f.T @ x
        return np.asarray(total - sides.within - 0.5 * (explained + explained.T) - half.T @ half)

    def solve(
        self,
        random: Sequence[Floats],
        fixed: Floats | None = None,
        *,
        tolerance: float | None = None,
    ) -> tuple[tuple[Floats, ...], Floats]:
        """``[b; beta] = C~ [random; fixed]``, see :func:`interlace.solver.solve.solve`."""
        reduced, c = self.reduced, random[0].shape[2]
        sides = self.reduced.reduced_sides(random, np.zeros((self.A.p, c)))
        x = self.deflated.solve(reduced.to_scaled(sides.rest), tolerance or _DATA)
        b, beta = reduced.to_effects(x), np.zeros((self.A.p, c))
        if fixed is not None:
            left = fixed + sides.fixed - self.fixed_images.T @ sides.rest
            beta = self.vcov @ left
            b = b - self.fixed_images @ beta
        images = reduced.chain_images(-b, np.vstack((-beta, np.zeros((1, c)))), sides.chain)
        found = {s: effects for s, (effects, _) in images.items()}
        found |= {j: reduced.blocks(j, part) for j, part in reduced.layout.split(b).items()}
        return tuple(found[j] for j in range(len(self.A.terms))), beta

    # -------------------------------------------------------------- traces

    @cached_property
    def probed(self) -> Probed:
        """Solutions of the probes with their control variates, and ``z' log(S) z``."""
        z, m, deflated = self.z, self.n_probes, self.deflated
        rules = [quadrature(self.solved, i) for i in range(m)]
        coupling = self.solved.first[:, :m] - z
        around = (z * coupling).sum(axis=0)
        mean = np.vdot(deflated.Q, deflated.Q) - np.vdot(deflated.F @ deflated.E, deflated.F)
        size = (z**2).sum(axis=0)
        inverse, log = (_slopes(rules, g) for g in (lambda x: 1.0 / x - 1.0, np.log))
        logs = np.array([s * (w @ np.log(x)) for (x, w), s in zip(rules, size, strict=True)])
        first = deflated.lifted(self.solved.x[:, :m] - z)
        return Probed(
            z=deflated.lifted(z),
            first=first,
            d=first - inverse * deflated.lifted(coupling),
            slope=float(inverse.mean()) if m else 0.0,
            logs=logs - log * (around - mean),
        )

    @property
    def logdet_u(self) -> float:
        """Log determinant of the equations of the random effects."""
        known = self.reduced.logdet + self.deflated.logdet
        return known + float(self.probed.logs.sum() / max(1, self.n_probes))

    @cached_property
    def chance(self) -> Chance:
        """What the probes leave open."""
        return CERTAIN if self.complete else Chance(self.probes, self.probed.logs, self.traces)

    def exact(self, what: str, instead: str = "") -> Factor:
        """Refuse what reads entries of the inverse.

        Raises
        ------
        InterlaceError
            Always; ``what`` begins the message, and ``instead`` ends it with another way out.
        """
        raise InterlaceError(
            f"{what} the inverse of the mixed-model equations, which the iterative solver "
            f"never forms: fit with solver='exact' where the model is small enough for it"
            f"{instead}"
        )

    @property
    def logdet_x(self) -> float:
        """Log determinant of ``X' V^-1 X``."""
        return 2.0 * float(np.log(np.diag(self.fixed_root)).sum())

    def derivatives(self, *, reml: bool) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives with respect to every template."""
        known, traces = self._known, self.traces
        if reml:
            known = tuple(k - x for k, x in zip(known, self._fixed_share, strict=True))
        m = max(1, self.n_probes)
        PZZ = [k + each.sum(axis=0) / m for k, each in zip(known, traces, strict=True)]
        return tuple(
            TermDerivatives(S @ T, S, np.zeros((0, *T.shape)))
            for S, T in zip(PZZ, self.templates, strict=True)
        )

    @cached_property
    def traces(self) -> tuple[Floats, ...]:
        """Share of every probe in ``sum of Z'PZ``, ``(m, k, k)`` per term; the mean is meant."""
        found = self._chain_traces() | {j: share.each for j, share in self._shares.items()}
        return tuple(found[j] for j in range(len(self.A.terms)))

    @cached_property
    def _rest(self) -> RestTraces:
        """Traces of the terms of the rest."""
        return RestTraces(self.deflated, self.probes, self.probed, _PROBES)

    @cached_property
    def _shares(self) -> dict[int, Share]:
        return {j: self._rest.share(j) for j in self.reduced.layout.rest}

    @cached_property
    def _known(self) -> tuple[Floats, ...]:
        """Part of ``sum of Z'PZ`` that needs no probes, without that of the fixed effects."""
        found = {j: share.known for j, share in self._shares.items()}
        for s in self.reduced.layout.chain:
            step, e = self.reduced.steps[s], self._known_images[s][1]
            E = np.eye(step.N.shape[1]) - multiply(step.N, step.K)
            EY = multiply(E, self._local[s])
            low = np.einsum("lis,st,ljt->ij", e, self._low.core, e, optimize=True)
            found[s] = sum_product(E, step.N) - sum_product(EY, transposed(E)) - low
        return tuple(found[j] for j in range(len(self.A.terms)))

    @cached_property
    def _known_images(self) -> dict[int, tuple[Floats, Floats]]:
        """``b`` and ``e`` of the chain terms for the columns of :func:`known_inverse`."""
        return self._images(self._low.U)

    @cached_property
    def _low(self) -> Low:
        """What is known of ``M~^-1``, less the identity."""
        return known_inverse(self.deflated)

    def _images(self, v: Floats) -> dict[int, tuple[Floats, Floats]]:
        """``b`` and ``e`` of the chain terms for effects ``-G v`` of the rest."""
        none = np.zeros((self.A.p + 1, v.shape[1]))
        return self.reduced.chain_images(-self.reduced.to_effects(v), none)

    @cached_property
    def _local(self) -> dict[int, Floats]:
        """Part of ``Y = R C~ R'`` of the chain terms, ``(l, k, k)``, that needs no images."""
        squares = {j: multiply(s.G, transposed(s.G)) for j, s in self.reduced.scaling.items()}
        return local_sandwiches(self.reduced, squares)

    @cached_property
    def _fixed_share(self) -> tuple[Floats, ...]:
        """What the estimation of the fixed effects takes off ``sum of Z'PZ``."""
        p = self.A.p
        fixed = np.vstack((np.eye(p), np.zeros((1, p))))
        v = -self.fixed_images
        images = {s: e for s, (_, e) in self.reduced.chain_images(v, fixed).items()}
        e = self.reduced.schur(v) + self.reduced.V[:, :-1]
        images |= {j: self.reduced.blocks(j, x) for j, x in self.reduced.layout.split(e).items()}
        shares = []
        for j in range(len(self.A.terms)):
            half = images[j] @ solve_triangular(self.fixed_root, np.eye(p), lower=True).T
            shares.append(np.tensordot(half, half, axes=((0, 2), (0, 2))))
        return tuple(shares)

    def _chain_traces(self) -> dict[int, Floats]:
        """``-e e'`` of every probe, with ``e`` the images of ``H (x - z)`` and ``H z``."""
        return {s: -outer_by_column(d[1], z[1]) for s, (d, z) in self._probe_images.items()}

    @cached_property
    def _probe_images(self) -> dict[int, tuple[tuple[Floats, Floats], tuple[Floats, Floats]]]:
        """Images ``(b, e)`` of the chain terms of ``H (x - z)`` and of ``H z``."""
        differences, probes = self._images(self.probed.first), self._images(self.probed.z)
        return {s: (differences[s], probes[s]) for s in self.reduced.layout.chain}

    @property
    def known_inverse(self) -> Low:
        """What is known of ``M~^-1``, less the identity: ``U core U'``."""
        return self._low

    @property
    def probe_effects(self) -> tuple[list[Floats], ...]:
        """Effects ``(l, k, .)`` per term for ``H (x - z)``, ``H z`` and ``U``: linear images."""
        reduced, order = self.reduced, range(len(self.A.terms))
        columns = (self.probed.first, self.probed.z, self._low.U)
        found = []
        for at, v in enumerate(columns):
            parts = reduced.layout.split(reduced.to_effects(v))
            own = {j: reduced.blocks(j, part) for j, part in parts.items()}
            for s in reduced.layout.chain:
                own[s] = self._known_images[s][0] if at == 2 else self._probe_images[s][at][0]
            found.append([own[j] for j in order])
        return tuple(found)

    # -------------------------------------------------------------- conditional variances

    def conditional_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~`` given the fixed effects, ``(l, k, k)`` per term, estimated.

        The coupling between levels can only add to the blocks without it, so what chance takes
        below these is cut off.
        """
        reduced, m = self.reduced, max(1, self.n_probes)
        found: dict[int, Floats] = {}
        d, z, U = (reduced.to_effects(v) for v in (self.probed.d, self.probed.z, self._rest.low.U))
        for j in reduced.layout.rest:
            part, G = reduced.slice(j), reduced.scaling[j].G
            more = outer_by_level(reduced.blocks(j, d[part]), reduced.blocks(j, z[part])) / m
            more += low_rank_blocks(reduced.blocks(j, U[part]), self._rest.low.core)
            found[j] = multiply(G, transposed(G)) + positive_part(more)
        for s, step in reduced.steps.items():
            (b, _), (bz, _) = self._probe_images[s]
            more = multiply(multiply(step.K, self._local[s]), step.K) + outer_by_level(b, bz) / m
            more += low_rank_blocks(self._known_images[s][0], self._low.core)
            found[s] = step.K + positive_part(more)
        return tuple(found[j] for j in range(len(self.A.terms)))


def iterate(
    A: CrossProducts, layout: Layout, templates: Sequence[Floats], probes: Probes
) -> IterativeFactor:
    """Eliminate and solve at the given working templates.

    Raises
    ------
    InterlaceError
        The conjugate gradients do not converge.
    """
    reduced = reduce_equations(A, layout, templates)
    deflated = deflate(reduced, none=probes.complete(layout.q))
    z = probes.draw(layout.q)
    z -= deflated.Q @ (deflated.Q.T @ z)
    data = reduced.to_scaled(reduced.V)
    # what is left of the traces of a template that is divided by counts over its square
    size = smallest([templates[j] for j in layout.rest])
    probe_tolerance = _PROBES * min(1.0, size / SAFE) ** 2
    limit = np.concatenate((probe_tolerance * norms(z), _DATA * norms(data)))
    columns = np.concatenate((z, deflated.complement(data)), axis=1)
    solved = solve(deflated.schur, columns, limit)
    return IterativeFactor(A, deflated, probes, z, solved)


def _slopes(rules: Sequence[tuple[Floats, Floats]], g: Callable[[Floats], Floats]) -> Floats:
    """``tr(g(S) (S - I)) / tr((S - I)^2)``, the multiple of ``S - I`` nearest to ``g(S)``.

    Estimated for every probe from all others, ``(m,)``.
    """
    above = np.array([w @ (g(x) * (x - 1.0)) for x, w in rules])
    below = np.array([w @ (x - 1.0) ** 2 for x, w in rules])
    above, below = above.sum() - above, below.sum() - below
    return np.where(below > 0.0, above / np.where(below > 0.0, below, 1.0), 0.0)
