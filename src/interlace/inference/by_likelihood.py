"""Maximum-likelihood estimates of models fitted by REML, for what compares likelihoods."""

from __future__ import annotations

from typing import Any

from interlace.errors import ConvergenceWarning, warn
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate, estimate_theta
from interlace.glmm.estimate import maximised
from interlace.inference.compare_structured import WITH_RESIDUAL, structured_ml
from interlace.model.fitted import Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.terms import Floats


def ml_estimate(result: Labelled[Any]) -> Any:
    """Maximum-likelihood estimate of a model, from the sums that it holds."""
    if result.method == "ML":
        return result.estimate
    estimate = result.estimate
    if isinstance(result, WITH_RESIDUAL):
        return structured_ml(result)
    if isinstance(result, FittedGeneralModel):
        return maximised(estimate)
    start = None if estimate.is_singular else estimate.theta
    return fit_sums(
        estimate.criterion.on(estimate.A, reml=False),
        theta0=start,
        mc_tolerance=result.options.mc_tolerance,
        what=str(result.formula),
    )


def fit_sums(
    criterion: Criterion, *, theta0: Floats | None, mc_tolerance: float, what: str
) -> Estimate:
    """Minimum of a criterion, with a warning if the optimiser did not finish.

    No start at zero is taken over from another fit: zero is stationary for every variance.
    """
    estimate = estimate_theta(criterion, theta0=theta0, mc_tolerance=mc_tolerance)
    if not estimate.convergence.converged:
        warn(
            f"the refit of {what} did not converge: {estimate.convergence.message}",
            ConvergenceWarning,
        )
    return estimate
