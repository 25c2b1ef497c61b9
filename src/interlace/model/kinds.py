"""Which kind of model a result is of, for verbs that are made for some kinds."""

from __future__ import annotations

from interlace.errors import InterlaceError
from interlace.model.fitted import FittedModel, Labelled


def require_linear(result: object, verb: str) -> None:
    """Refuse what is no linear model with independent residuals, of which verbs may know no more.

    Raises
    ------
    InterlaceError
        The result is of another kind.
    """
    if isinstance(result, Labelled) and not isinstance(result, FittedModel):
        if hasattr(type(result), "weighted"):
            raise InterlaceError(
                f"{verb} takes residual variances as known: ask result.weighted, the linear model "
                f"with the variances that {result.options.residual} was found to have"
            )
        if result.options.residual is not None:
            raise InterlaceError(
                f"{verb} is not built yet for models with residual= ({result.options.residual}): "
                "its results have residuals, tests and intervals of their own"
            )
        raise InterlaceError(
            f"{verb} is made for linear models, and this is a generalised one "
            f"({type(result).__name__}): its residuals and tests follow its family: see "
            f"result.residuals(), augment() and plot()"
        )


def require_gaussian(result: object, verb: str) -> None:
    """Refuse a generalised model.

    Raises
    ------
    InterlaceError
        It is one.
    """
    if not isinstance(result, Labelled) or result.options.residual is None:
        require_linear(result, verb)
