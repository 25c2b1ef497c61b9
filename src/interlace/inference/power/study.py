"""One design, simulated and tested many times: what a process does with some replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import chdtrc, fdtrc

from interlace.batch.degrees import MOST_EFFECTS, DenseRows, ManyTests, dense_rows, many_tests
from interlace.batch.fits import Refits, off_boundary, with_digits
from interlace.batch.refits import Responses, SharedDesign, weighted_columns
from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import estimate_theta
from interlace.inference.kenward_roger import scaled_f
from interlace.inference.power.asked import Test
from interlace.inference.power.truth import Truth
from interlace.inference.satterthwaite import joint_df
from interlace.inference.tables import reference, two_sided
from interlace.model.simulate import Block
from interlace.solver.choose import choose_solver
from interlace.sums.crossprod import cross_products
from interlace.sums.terms import Floats

# Numbers in the matrices of all random effects of a batch; replicates of a block, which are a task
# of single fits; and those of a task that is a batch at most.
_NUMBERS, BLOCK, _TOGETHER = 1 << 20, 16, 512


@dataclass(frozen=True, eq=False)
class Study:
    """A design, what is true there, and the tests that are made."""

    design: Design
    truth: Truth
    tests: Sequence[Test]
    ddf: str
    reml: bool

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def shared(self) -> SharedDesign:
        """Cross-products of the design; responses come as deviations from the true means."""
        A = cross_products(self.design)
        criterion = Criterion(A, self.reml, choose_solver(A, "exact", seed=0))
        beta = self.truth.coefficients(A.names)
        return SharedDesign(criterion, weighted_columns(self.design, A), beta)

    @cached_property
    def batched(self) -> bool:
        """Whether replicates are fitted and tested together."""
        few = sum(t.q for t in self.design.terms) <= MOST_EFFECTS
        return few and self.shared.batched

    @property
    def each(self) -> int:
        """Replicates of a task."""
        if not self.batched:
            return BLOCK
        q = sum(t.q for t in self.design.terms)
        return int(np.clip(_NUMBERS // (q * (q + 8)), BLOCK, _TOGETHER))

    def p_values(self, blocks: Sequence[Block]) -> Floats:
        """Of some replicates ``(B, tests)``; nan where a fit failed."""
        Y = np.concatenate([self.drawn(block) for block in blocks], axis=1)
        responses = self.shared.rows.responses(Y)
        if self.batched:
            return _together(self, responses)
        return np.array([_alone(self, responses, i) for i in range(len(responses))])

    @cached_property
    def dense(self) -> DenseRows:
        """What tests of a batch share."""
        return dense_rows(self.shared)

    @cached_property
    def templates(self) -> list[Floats]:
        """True templates in the order of the terms."""
        return self.truth.of(self.design.terms)

    @cached_property
    def start(self) -> list[Floats]:
        """Working templates to start from: the true ones, off the boundary."""
        return [off_boundary(T) for T in self.shared.criterion.working(self.templates)]

    @cached_property
    def Z(self) -> csr_matrix:
        """All random-effects columns, ``(n, q)``."""
        return self.design.random_matrix

    @cached_property
    def residual_sd(self) -> Floats:
        """Of every row."""
        return self.truth.sigma / self.design.root_weights

    def drawn(self, block: Block) -> Floats:
        """Deviations from the true means, ``(n, B)``."""
        n, q = len(self.design.y), sum(t.q for t in self.design.terms)
        normals = block.rng.standard_normal((block.size, q + n))
        start, parts = 0, []
        for term, T in zip(self.design.terms, self.templates, strict=True):
            u = normals[:, start : start + term.q].reshape(-1, term.k)
            parts.append((self.truth.sigma * (u @ T.T)).reshape(block.size, term.q).T)
            start += term.q
        noise = self.residual_sd[:, None] * normals[:, q:].T
        return np.asarray(noise + self.Z @ np.concatenate(parts))


def names_of(design: Design) -> tuple[str, ...]:
    """Coefficients of a design, redundant columns left out."""
    return cross_products(design).names


def _alone(study: Study, responses: Responses, i: int) -> Floats:
    """One replicate by the ordinary solver."""
    failed = np.full(len(study.tests), np.nan)
    theta0 = study.shared.criterion.theta(study.start)
    try:
        estimate = estimate_theta(study.shared.single(responses, i), theta0=theta0)
        with_digits(estimate.evaluation)
        compared = reference(estimate, study.ddf)
        if not estimate.convergence.converged:
            return failed
        tests = [compared.f_test(test.L, test.value) for test in study.tests]
    except (InterlaceError, np.linalg.LinAlgError):
        return failed
    return np.array([test.p_value for test in tests])


def _together(study: Study, responses: Responses) -> Floats:
    """All replicates of a task as a batch."""
    B = len(responses)
    start = [np.broadcast_to(T, (B, *T.shape)) for T in study.start]
    fits = study.shared.together(responses, start)
    good = np.flatnonzero(np.isfinite(fits.sigma))
    p = np.full((B, len(study.tests)), np.nan)
    if len(good):
        found = many_tests(study.dense, _some(fits, good), _of(responses, good))
        for j, test in enumerate(study.tests):
            p[good, j] = p_values(found, test, study.ddf)
    return p


def p_values(found: ManyTests, test: Test, ddf: str) -> Floats:
    """P-values of one test in all replicates of a batch, ``(B,)``."""
    L = found.contrasts(test.L)
    B, q = len(found.fits.sigma), len(L)
    V = found.adjusted if ddf == "kenward-roger" else found.vcov
    d = found.fits.beta @ test.L.T - test.value
    LVL = L @ V @ L.T
    if q == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            t = d[:, 0] / np.sqrt(LVL[:, 0, 0])
        return two_sided(t, df_of(found, np.broadcast_to(L, (B, *L.shape)), ddf)[:, 0])
    F = np.einsum("xi,xi->x", d, np.linalg.solve(LVL, d[..., None])[..., 0]) / q
    if ddf == "normal":
        return np.asarray(chdtrc(q, q * F))
    if ddf == "kenward-roger":
        pairs = [scaled_f(float(a), float(b), q) for a, b in zip(*found.amounts(L), strict=True)]
        m, scaling = np.array(pairs).T
        return np.asarray(fdtrc(q, m, scaling * F))
    _, vectors = np.linalg.eigh(LVL)
    nu = df_of(found, vectors.swapaxes(1, 2) @ L, ddf)
    return np.asarray(fdtrc(q, np.array([joint_df(one) for one in nu]), F))


def df_of(found: ManyTests, L: Floats, ddf: str) -> Floats:
    """Degrees of freedom of the rows of ``L`` (B, c, p) of a batch, ``(B, c)``."""
    if ddf == "normal":
        return np.full(L.shape[:2], np.inf)
    return found.satterthwaite(L) if ddf == "satterthwaite" else found.kenward_roger(L)


def _some(fits: Refits, which: NDArray[np.intp]) -> Refits:
    """Some of the fits."""
    return replace(
        fits,
        beta=fits.beta[which],
        se=fits.se[which],
        templates=tuple(T[which] for T in fits.templates),
        sigma=fits.sigma[which],
        value=fits.value[which],
        share_left=fits.share_left[which],
        singular=fits.singular[which],
        errors={},
    )


def _of(responses: Responses, which: NDArray[np.intp]) -> Responses:
    """Some of the responses."""
    return Responses(
        responses.coef[:, which],
        responses.scale[which],
        responses.xy[:, which],
        tuple(zy[:, which] for zy in responses.zy),
    )
