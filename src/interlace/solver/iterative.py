"""Iterative solver: eliminate the chain by level, solve the rest by conjugate gradients.

Nothing dense is formed, so that memory and time per iteration grow with the number of distinct
cells.  What :class:`interlace.solver.exact.Factor` gives exactly, this gives to the tolerance of
the conjugate gradients, but for two things that need a trace over all effects: the log determinant
and ``sum of Z'PZ``.  These are estimated from random probes ``z`` and solutions ``x = M~^-1 z``:

- ``log|M~| = E[z' log(M~) z]`` by Lanczos quadrature, whose coefficients are those of the solution
  (Ubaru, Chen and Saad, 2017, SIAM Journal on Matrix Analysis and Applications 38, 1075-1099);
- diagonal blocks of ``B M~^-1 B'`` as the mean of ``(B x)(B z)'``.

Because ``M~`` has unit diagonal blocks, ``z z'`` and ``(M~ - I) z z'`` have known mean blocks ``I``
and ``0``: they are taken off as control variates, which leaves only what is of second order in the
coupling between levels to chance.  The directions in which all levels of a term move together, or
with a level of a small term, are the least determined ones; they are taken out of the probes and
treated exactly, and so are the fixed effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from interlace.crossprod import Codes, CrossProducts
from interlace.solver.blocks import multiply, sum_product
from interlace.solver.conjugate import Solved, quadrature, solve
from interlace.solver.exact import TermDerivatives, TermEffects
from interlace.solver.layout import Layout
from interlace.solver.probes import Probes, error_of_mean
from interlace.solver.sparse import Reduced, Step, reduce_equations, sums_by_row, transposed
from interlace.terms import Floats

# Residuals, relative to the right-hand side: of the data, of the probes, of the Newton matrix.
_DATA, _PROBES, _NEWTON = 1e-10, 1e-7, 1e-5
# Templates with smaller singular values are not divided by.
_SMALL = 0.02
# Effects of small terms that are treated one by one.
_SINGLE = 32


@dataclass(frozen=True, eq=False)
class Probed:
    """Probes ``z``, ``x = M~^-1 z`` and ``d = x - z - c (M~ - I) z``, (q, r + m) each.

    ``c`` is the multiple that leaves the least spread.  ``logs`` (r + m,) is ``z' log(M~) z`` less
    such a multiple.
    """

    z: Floats
    x: Floats
    d: Floats
    logs: Floats


@dataclass(frozen=True, eq=False)
class IterativeFactor:
    """The mixed-model equations solved at given templates (working basis).

    ``z`` (q, r + m) holds ``r`` orthonormal columns that count once each, then ``m`` random probes
    orthogonal to them, which are averaged.  ``solved`` has the solutions for them, ``X`` and ``y``.
    """

    A: CrossProducts
    reduced: Reduced
    probes: Probes
    r: int
    z: Floats
    solved: Solved

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
        return int(self.z.shape[1]) - self.r

    @property
    def complete(self) -> bool:
        """Whether the probes give exact means."""
        return self.probes.complete(len(self.z))

    # -------------------------------------------------------------- the data

    @cached_property
    def fixed_images(self) -> Floats:
        """Effects ``B = C~ S_X`` that each column of ``X`` would get, ``(q, p)``."""
        return self.reduced.to_effects(self.solved.x[:, self.z.shape[1] : -1])

    @cached_property
    def fixed_root(self) -> Floats:
        """Lower Cholesky factor of ``X' V^-1 X``."""
        V, VV = self.reduced.V[:, :-1], self.reduced.VV[:-1, :-1]
        gram = VV - V.T @ self.fixed_images
        return np.asarray(np.linalg.cholesky(0.5 * (gram + gram.T)), dtype=np.float64)

    @cached_property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1`` in the working basis, ``(p, p)``."""
        half = solve_triangular(self.fixed_root, np.eye(self.A.p), lower=True)
        return np.asarray(half.T @ half, dtype=np.float64)

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects in the working basis, ``(p,)``."""
        V, VV = self.reduced.V, self.reduced.VV
        rhs = VV[:-1, -1] - self.fixed_images.T @ V[:, -1]
        return np.asarray(self.vcov @ rhs, dtype=np.float64)

    @cached_property
    def _spherical(self) -> Floats:
        """Solution of the scaled equations for ``y - X beta``, ``(q,)``."""
        m = self.z.shape[1]
        x = self.solved.x
        return np.asarray(x[:, -1] - x[:, m:-1] @ self.beta, dtype=np.float64)

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
        """Penalised residual sum of squares at the solution (of second order in its error)."""
        v, fixed = self._coefficients
        u = self.reduced.to_spherical(self._spherical[:, None])
        explained = (v * self._residual_products).sum() + fixed[:, 0] @ (self.reduced.V.T @ v)[:, 0]
        r2 = float(explained + fixed[:, 0] @ self.reduced.VV @ fixed[:, 0] + (u**2).sum())
        if not r2 > 0.0:
            raise np.linalg.LinAlgError("no residual variance is left")
        return r2

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
        rest, fixed, within = self.reduced.reduce(image, np.asarray(fixed))
        f = self.reduced.to_scaled(rest)
        x = solve(self.reduced.scaled, f, np.full(f.shape[1], _NEWTON)).x
        left = fixed - self.fixed_images.T @ rest
        half = solve_triangular(self.fixed_root, left, lower=True)
        explained = f.T @ x
        return np.asarray(total - within - 0.5 * (explained + explained.T) - half.T @ half)

    # -------------------------------------------------------------- traces

    @cached_property
    def probed(self) -> Probed:
        """Solutions of the probes with their control variates, and ``z' log(M~) z``."""
        z, c = self.z, self.z.shape[1]
        rules = [quadrature(self.solved, i) for i in range(c)]
        coupling = self.solved.first[:, :c] - z
        around = (z * coupling).sum(axis=0)
        size = (z**2).sum(axis=0)
        inverse, log = (_slope(rules[self.r :], g) for g in (lambda x: 1.0 / x - 1.0, np.log))
        logs = np.array([s * (w @ np.log(x)) for (x, w), s in zip(rules, size, strict=True)])
        x = self.solved.x[:, :c]
        return Probed(z, x, x - z - inverse * coupling, logs - log * around)

    @property
    def logdet_u(self) -> float:
        """Log determinant of the equations of the random effects."""
        return self.reduced.logdet + float(self.total(self.probed.logs))

    @property
    def logdet_error(self) -> float:
        """Monte-Carlo standard error of :attr:`logdet_u`."""
        return float(error_of_mean(self.probed.logs[self.r :], self.complete))

    def total(self, each: Floats) -> Floats:
        """What is estimated, from the share ``(r + m, ...)`` of every column of ``z``."""
        mean = each[self.r :].sum(axis=0) / max(1, self.n_probes)
        return np.asarray(each[: self.r].sum(axis=0) + mean, dtype=np.float64)

    @property
    def logdet_x(self) -> float:
        """Log determinant of ``X' V^-1 X``."""
        return 2.0 * float(np.log(np.diag(self.fixed_root)).sum())

    def derivatives(self, *, reml: bool) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives with respect to every template."""
        known, traces = self._known, self.traces
        if reml:
            known = tuple(k - x for k, x in zip(known, self._fixed_share, strict=True))
        PZZ = [k + self.total(each) for k, each in zip(known, traces, strict=True)]
        return tuple(
            TermDerivatives(S @ T, S, np.zeros((0, *T.shape)))
            for S, T in zip(PZZ, self.templates, strict=True)
        )

    @cached_property
    def traces(self) -> tuple[Floats, ...]:
        """Share of every column of ``z`` in ``sum of Z'PZ``, ``(r + m, k, k)`` per term."""
        found = self._chain_traces()
        for j in self.reduced.layout.rest:
            found[j] = self._small_traces(j) if self._is_small(j) else self._rest_traces(j)
        return tuple(found[j] for j in range(len(self.A.terms)))

    def _is_small(self, j: int) -> bool:
        return bool(np.linalg.svd(self.templates[j], compute_uv=False)[-1] < _SMALL)

    @cached_property
    def _known(self) -> tuple[Floats, ...]:
        """Part of ``sum of Z'PZ`` that needs no probes, without that of the fixed effects."""
        found = {j: self._known_rest(j) for j in self.reduced.layout.rest}
        known = self._local
        for s in self.reduced.layout.chain:
            step = self.reduced.steps[s]
            E = np.eye(step.N.shape[1]) - multiply(step.N, step.K)
            EY = multiply(E, known[s])
            found[s] = sum_product(E, step.N) - sum_product(EY, transposed(E))
        return tuple(found[j] for j in range(len(self.A.terms)))

    def _known_rest(self, j: int) -> Floats:
        """``sum of S - S G G' S`` over levels: exact were the levels not coupled."""
        scaling = self.reduced.scaling[j]
        if self._is_small(j):
            return np.asarray(scaling.S.sum(axis=0), dtype=np.float64)
        SG = multiply(scaling.S, scaling.G)
        total: Floats = scaling.S.sum(axis=0) - sum_product(SG, transposed(SG))
        return total

    @cached_property
    def _local(self) -> dict[int, Floats]:
        """``Y = R C~ R'`` of the chain terms as far as it is known, ``(l, k, k)``.

        The part of the later chain terms given the rest; and, for the last one, that of the
        diagonal blocks of ``C~`` of the rest.
        """
        blocks: dict[tuple[int, int], Floats] = {}
        found: dict[int, Floats] = {}
        for s in reversed(self.reduced.layout.chain):
            step = self.reduced.steps[s]
            Y = np.zeros_like(step.N)
            around: dict[int, Floats] = {}
            for t in step.links:
                parts = [
                    multiply(via.R, _at_parents(blocks, u, t, step))
                    for u, via in step.links.items()
                ]
                around[t] = np.asarray(sum(parts), dtype=np.float64)
                Y += multiply(around[t], transposed(step.links[t].R))
            for t, Q in around.items():
                blocks[s, t] = -multiply(step.K, Q)
            blocks[s, s] = step.K + multiply(multiply(step.K, Y), step.K)
            if not step.links:
                for j, cells in step.cells.items():
                    G = self.reduced.scaling[j].G
                    Y = Y + sums_by_row(cells, multiply(G, transposed(G)), len(Y))
            found[s] = Y
        return found

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
        """``-e e'`` of every probe, with ``e`` the images of ``G d`` and ``G z``.

        Taking ``z z'`` off is right for the last term of the chain alone, where its mean is known.
        """
        none = np.zeros((self.A.p + 1, self.z.shape[1]))
        images = [
            self.reduced.chain_images(-self.reduced.to_effects(v), none)
            for v in (self.probed.x - self.z, self.z)
        ]
        found = {}
        for s in self.reduced.layout.chain:
            d, z = (image[s][1] for image in images)
            found[s] = -_outer(d + z if self.reduced.steps[s].links else d, z)
        return found

    def _rest_traces(self, j: int) -> Floats:
        """``-T^-T (L^-T d)(L^-T z)' T^-1`` of every probe, summed over levels."""
        reduced = self.reduced
        u, w = (
            reduced.blocks(j, reduced.to_spherical(v)[reduced.slice(j)])
            for v in (self.probed.d, self.z)
        )
        inverse = np.linalg.inv(self.templates[j])
        return np.asarray(-inverse.T @ _outer(u, w) @ inverse, dtype=np.float64)

    def _small_traces(self, j: int) -> Floats:
        """``z'(S - S C~ S) z`` of probes of one term, which divides by no template."""
        reduced, part = self.reduced, self.reduced.slice(j)
        z = np.zeros((len(self.z), self.n_probes))
        z[part] = self.probes.draw(len(self.z))[part]
        Sz = reduced.schur(z)
        f = reduced.to_scaled(Sz)
        x = solve(reduced.scaled, f, np.full(self.n_probes, _PROBES)).x
        e = (Sz - reduced.schur(reduced.to_effects(x)))[part]
        own, e = reduced.blocks(j, z[part]), reduced.blocks(j, e)
        return _padded(_outer(e - multiply(reduced.scaling[j].S, own), own), self.r)

    # -------------------------------------------------------------- conditional variances

    def conditional_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~`` given the fixed effects, ``(l, k, k)`` per term, estimated.

        The coupling between levels can only add to the blocks without it, so what chance takes
        below these is cut off.
        """
        reduced = self.reduced
        weights = np.ones(self.z.shape[1])
        weights[self.r :] = 1.0 / max(1, self.n_probes)
        found: dict[int, Floats] = {}
        Gd, Gz = (reduced.to_effects(v) for v in (self.probed.d, self.z))
        for j in reduced.layout.rest:
            a, b = (reduced.blocks(j, v[reduced.slice(j)]) for v in (Gd, Gz))
            G = reduced.scaling[j].G
            found[j] = multiply(G, transposed(G)) + _positive(_level_outer(a, b * weights))
        none = np.zeros((self.A.p + 1, self.z.shape[1]))
        images = [
            reduced.chain_images(-reduced.to_effects(v), none)
            for v in (self.probed.x - self.z, self.z)
        ]
        for s in reduced.layout.chain:
            step = reduced.steps[s]
            d, z = (image[s][0] for image in images)
            K = step.K
            own = multiply(multiply(K, self._local[s]), K)
            more = _level_outer(d + z if step.links else d, z * weights)
            found[s] = K + _positive(own + more)
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
    z, r = _columns(reduced, probes)
    f = np.concatenate((z, reduced.to_scaled(reduced.V)), axis=1)
    tolerance = np.full(f.shape[1], _DATA)
    tolerance[: z.shape[1]] = _PROBES
    return IterativeFactor(A, reduced, probes, r, z, solve(reduced.scaled, f, tolerance))


def _columns(reduced: Reduced, probes: Probes) -> tuple[Floats, int]:
    """Columns that count once each, random ones orthogonal to them, and the number of the first."""
    z = probes.draw(reduced.layout.q)
    if probes.complete(len(z)):
        return z, 0
    Q = _orthonormal(_common(reduced))
    z -= Q @ (Q.T @ z)
    return np.concatenate((Q, z), axis=1), Q.shape[1]


def _common(reduced: Reduced) -> Floats:
    """Scaled vectors of moves that the data tell little of.

    All levels of a term together, ``L' 1``, for each of its columns; every effect of the small
    terms, and what it is confounded with in the others.
    """
    terms = reduced.A.terms
    widths = [terms[j].k for j in reduced.layout.rest]
    found = np.zeros((reduced.layout.q, sum(widths)))
    start = 0
    for j, k in zip(reduced.layout.rest, widths, strict=True):
        upper = np.linalg.inv(reduced.scaling[j].inverse)
        found[reduced.slice(j), start : start + k] = upper.reshape(-1, k)
        start += k
    small = _small_terms(reduced)
    if not len(small):
        return found
    alone = np.zeros((reduced.layout.q, len(small)))
    alone[small, np.arange(len(small))] = 1.0
    return np.concatenate((found, alone, reduced.scaled(alone) - alone), axis=1)


def _small_terms(reduced: Reduced) -> Codes:
    """Effects of the smallest terms of the rest, as many as are cheap to treat one by one."""
    found: list[Codes] = []
    left = _SINGLE
    for j, size in sorted(reduced.layout.sizes.items(), key=lambda item: item[1]):
        if size > left or len(reduced.layout.sizes) == 1:
            break
        part = reduced.slice(j)
        found.append(np.arange(part.start, part.stop))
        left -= size
    return np.concatenate([np.zeros(0, dtype=np.intp), *found])


def _orthonormal(columns: Floats) -> Floats:
    """Orthonormal basis of the columns, of unit length first, without those nearly dependent."""
    norms = np.sqrt((columns**2).sum(axis=0))
    U, s, _ = np.linalg.svd(columns[:, norms > 0.0] / norms[norms > 0.0], full_matrices=False)
    return np.asarray(U[:, s > 1e-6], dtype=np.float64)


def _padded(each: Floats, r: int) -> Floats:
    """Shares of random probes, after nothing for the ``r`` columns that count once each."""
    return np.concatenate((np.zeros((r, *each.shape[1:])), each))


def _slope(rules: Sequence[tuple[Floats, Floats]], g: Callable[[Floats], Floats]) -> float:
    """``tr(g(M~) (M~ - I)) / tr((M~ - I)^2)``: the multiple of ``M~ - I`` nearest to ``g``."""
    above = sum(float(w @ (g(x) * (x - 1.0))) for x, w in rules)
    below = sum(float(w @ (x - 1.0) ** 2) for x, w in rules)
    return above / below if below > 0.0 else 0.0


def _outer(a: Floats, b: Floats) -> Floats:
    """Symmetric part of ``sum over levels of a b'`` for every column, ``(m, k, k)``."""
    full = np.einsum("lim,ljm->mij", a, b, optimize=True)
    return np.asarray(0.5 * (full + full.transpose(0, 2, 1)), dtype=np.float64)


def _level_outer(a: Floats, b: Floats) -> Floats:
    """Symmetric part of ``a b'`` for every level, summed over columns: ``(l, k, k)``."""
    full = np.einsum("lim,ljm->lij", a, b)
    return np.asarray(0.5 * (full + full.transpose(0, 2, 1)), dtype=np.float64)


def _positive(blocks: Floats) -> Floats:
    """Nearest positive semidefinite blocks."""
    if blocks.shape[1] == 1:
        return np.maximum(blocks, 0.0)
    values, vectors = np.linalg.eigh(blocks)
    return np.asarray((vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1))


def _at_parents(blocks: dict[tuple[int, int], Floats], i: int, j: int, step: Step) -> Floats:
    """``C~`` given the rest, between the parents in terms ``i`` and ``j`` of every level."""
    if (i, j) in blocks:
        return blocks[i, j][step.links[i].parents]
    return transposed(blocks[j, i][step.links[j].parents])
