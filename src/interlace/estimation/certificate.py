"""How a search ended: the certificate of an optimum."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from interlace.estimation.basins import Searched
from interlace.estimation.optimize import Minimum, P
from interlace.machine.markup import html_facts, text_facts
from interlace.sums.terms import Floats

# Eigenvalues up to this size are those of rotations of a template.
_ROTATION = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Convergence:
    """Certificate of an optimum.

    Attributes
    ----------
    converged, message
        Whether the optimiser met its tolerance, and in which words.
    gradient
        Of the criterion at the optimum, with respect to the square working templates.
    newton_eigenvalues
        Eigenvalues of the Newton matrix there; zeros belong to rotations that change nothing.
    predicted_gain
        Reduction of the criterion that a further Newton step would bring.
    n_evaluations
        Evaluations of the criterion.
    solver
        ``"exact"`` or ``"iterative"``.
    monte_carlo_error
        Standard error of ``theta`` from random probes; ``None`` for the exact solver.  With a
        variance function those of its parameters follow, as the search has them: logarithms of
        ratios, and exponents by their largest logarithm; ``residual_parameters`` has them as they
        are reported.
    criterion_error
        Standard error of the criterion from them, twice that of the log-likelihood.
    n_probes
        How many there are.
    n_iterations
        Iterations of conjugate gradients at the optimum.
    statistical_error
        Standard errors of the same from the data, to compare the former with.
    n_basins
        Different minima that were seen; the lowest is taken.
    n_starts
        Starts from which they were looked for: one, unless a variance is zero or might as well be.
    doubtful
        Whether one of these led elsewhere, or the lowest value is not one of a search that ended: a
        lower one may exist.
    """

    converged: bool
    message: str
    gradient: Floats
    newton_eigenvalues: Floats
    predicted_gain: float
    n_evaluations: int
    solver: str = "exact"
    monte_carlo_error: Floats | None = None
    criterion_error: float | None = None
    n_probes: int | None = None
    n_iterations: int | None = None
    statistical_error: Floats | None = None
    n_basins: int = 1
    n_starts: int = 1
    doubtful: bool = False

    def __repr__(self) -> str:
        return text_facts("Convergence", self._facts())

    def _repr_html_(self) -> str:
        return f"<div><h4>Convergence</h4>{html_facts(self._facts())}</div>"

    def _facts(self) -> list[tuple[str, str]]:
        """What there is to know, in words."""
        facts = [
            ("converged", f"{'yes' if self.converged else 'no'}: {self.message}"),
            ("solver", f"{self.solver}, {self.n_evaluations} evaluations of the criterion"),
            ("largest gradient", f"{np.abs(self.gradient).max(initial=0.0):.2g}"),
            ("predicted gain", f"{self.predicted_gain:.2g} of a further step"),
        ]
        sizes = self.newton_eigenvalues[np.abs(self.newton_eigenvalues) > _ROTATION]
        if len(sizes):  # not those of rotations, which change nothing
            low, high = sizes.min(), sizes.max()
            facts.append(("Newton matrix", f"eigenvalues from {low:.3g} to {high:.3g}"))
        if self.n_starts > 1:
            minima = "one minimum" if self.n_basins == 1 else f"{self.n_basins} minima"
            doubt = "; there may be a lower one" if self.doubtful else ""
            facts.append(("starts", f"{self.n_starts}, which led to {minima}{doubt}"))
        if self.n_probes is not None:
            facts.append(("random probes", f"{self.n_probes}, {self.n_iterations} iterations"))
        if self.criterion_error is not None:
            facts.append(("error of them", f"{self.criterion_error:.2g} in the criterion"))
        return facts


def certificate_of(best: Searched) -> Convergence:
    """What the optimiser says of its end, and the other searches of theirs."""
    return replace(
        certificate(best.found),
        n_basins=best.n_basins,
        n_starts=best.n_starts,
        doubtful=not best.confirmed,
    )


def certificate(found: Minimum[P]) -> Convergence:
    """What the optimiser says of its end."""
    return Convergence(
        converged=found.converged,
        message=found.message,
        gradient=found.gradient,
        newton_eigenvalues=found.eigenvalues,
        predicted_gain=found.predicted_gain,
        n_evaluations=found.n_evaluations,
    )
