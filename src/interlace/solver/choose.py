"""Which solver: from predicted work and memory, before anything large is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from interlace.errors import InterlaceError
from interlace.machine.memory import in_gb, memory_limit
from interlace.solver.equations import Equations, Exact, Iterative
from interlace.solver.plan import Cost, chain_with_most, cost_at_most, exact_costs, sizes_in_words
from interlace.solver.probes import Probes
from interlace.sums.crossprod import CrossProducts

Solver = Literal["auto", "exact", "iterative"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)

# Seconds of an exact evaluation that are not worth saving, and by how much the iterative solver
# must be quicker to be preferred, since it leaves something to chance.
_QUICK, _ADVANTAGE = 0.25, 2.0
# Nonzeros up to which there are many probes to begin with, and the numbers of probes.
_FEW_NONZEROS, _MANY_PROBES, _FEW_PROBES = 5e5, 16, 8
# Effects that are cheap to probe one by one, which is exact.
_ALL = 64
# Iterations to expect; seconds per nonzero in a product and per column of it, and per effect and
# column in what is done with vectors.
_ITERATIONS, _NONZERO, _COLUMN, _EFFECT = 12, 2e-9, 0.7e-9, 4e-9


@dataclass(frozen=True)
class Prediction:
    """Predicted cost of an evaluation by each solver."""

    exact: Cost
    iterative: Cost


def choose_solver(A: CrossProducts, solver: str, seed: int) -> Equations:
    """The solver to fit with, before anything is laid out.

    Parameters
    ----------
    A
        Cross-products of the model.
    solver
        ``"exact"``, ``"iterative"``, or ``"auto"`` for the quicker one, the exact one if in doubt.
    seed
        Of the probes.

    Raises
    ------
    InterlaceError
        The solver, or with ``"auto"`` both, would need more memory than there is.
    """
    limit = memory_limit()
    if solver != "iterative" and (
        _is_quick(cost_at_most(A), limit) or _is_quick(_exact_cost(A), limit)
    ):
        return Exact()
    found = predict_costs(A)
    rival = found.exact.seconds if solver == "auto" and found.exact.bytes <= limit else None
    if solver == "auto":
        solver = _quicker(found, limit)
    needed = found.exact.bytes if solver == "exact" else found.iterative.bytes
    if needed > limit:
        raise InterlaceError(_too_large(A, solver, found, limit))
    return (
        Exact()
        if solver == "exact"
        else Iterative(Probes(_first_count(A), seed), exact_seconds=rival)
    )


def _is_quick(cost: Cost, limit: float) -> bool:
    """Whether solving the equations exactly is so quick that no other solver is asked for."""
    return cost.seconds < _QUICK and cost.bytes <= limit


def predict_costs(A: CrossProducts) -> Prediction:
    """Predicted seconds per evaluation and bytes of both solvers."""
    return Prediction(_exact_cost(A), _iterative_cost(A, _first_count(A)))


def _exact_cost(A: CrossProducts) -> Cost:
    """Cost of the exact solver, one that fits into memory if there is any."""
    limit = memory_limit()
    return min(exact_costs(A), key=lambda cost: (cost.bytes > limit, cost.seconds))


def _quicker(found: Prediction, limit: float) -> str:
    """The solver to use if none is asked for."""
    if found.exact.bytes > limit:
        return "iterative"
    enough = found.exact.seconds < max(_QUICK, _ADVANTAGE * found.iterative.seconds)
    return "exact" if enough or found.iterative.bytes > limit else "iterative"


def _first_count(A: CrossProducts) -> int:
    """Probes to begin with: their share of the error falls with the size of the model."""
    chain = chain_with_most(A)
    q = sum(t.q for j, t in enumerate(A.terms) if j not in chain)
    if q <= _ALL:
        return max(q, 2)
    return _MANY_PROBES if _nonzeros(A) < _FEW_NONZEROS else _FEW_PROBES


def _nonzeros(A: CrossProducts) -> float:
    """Nonzeros of ``Z_i' Z_j`` of all pairs of terms."""
    return float(sum(cells.values.size for cells in A.cells.values()))


def iterative_seconds(A: CrossProducts, probes: int, iterations: int) -> float:
    """Work of an evaluation: products with every right-hand side and back, and vectors added."""
    q_chain, q = _sizes(A)
    columns = _columns(A, probes)
    products = 2.0 * _nonzeros(A) * (_NONZERO + _COLUMN * columns)
    return iterations * (products + _EFFECT * columns * (q_chain + 4.0 * q))


def _iterative_cost(A: CrossProducts, probes: int) -> Cost:
    """For as many iterations as are usual."""
    q_chain, q = _sizes(A)
    columns, nonzeros = _columns(A, probes), _nonzeros(A)
    copied = sum(c.values.size for c in A.cells.values() if c.values.shape[1:] != (1, 1))
    size = 16.0 * copied + 4.0 * nonzeros + 8.0 * columns * (8.0 * q + 4.0 * q_chain)
    return Cost(iterative_seconds(A, probes, _ITERATIONS), size)


def _sizes(A: CrossProducts) -> tuple[int, int]:
    """Effects of the terms that are eliminated, and of all others."""
    chain = chain_with_most(A)
    eliminated = sum(A.terms[s].q for s in chain)
    return eliminated, sum(t.q for t in A.terms) - eliminated


def _columns(A: CrossProducts, probes: int) -> int:
    """Right-hand sides: of the probes, of ``X`` and ``y``, of the terms."""
    return probes + A.p + 1 + sum(t.k for t in A.terms)


def _too_large(A: CrossProducts, solver: str, found: Prediction, limit: float) -> str:
    """What is missing, and what would fit."""
    exact, iterative = found.exact.bytes, found.iterative.bytes
    if solver == "exact" and iterative <= limit:
        way_out = f"solver='iterative' would need {in_gb(iterative)}"
    else:
        way_out = "leave out or coarsen a factor, or use a machine with more memory"
    return (
        f"the {solver} solver would need {in_gb(exact if solver == 'exact' else iterative)} for "
        f"these terms ({sizes_in_words(A)}), but {in_gb(limit)} can be used; {way_out}"
    )
