"""What theory promises of an interval or a test in a design of given size."""

from __future__ import annotations

from enum import Enum

from studies.designs import Design, Target
from studies.measure import Cell

# From here on the quantiles of t are close to normal ones (2.01 and 1.96), and the standard
# deviation of a variance estimate is below a fifth of it.
MANY = 50


class Promise(Enum):
    """The letter is the mark in the tables."""

    EXACT = "e"
    CLOSE = "c"
    ASYMPTOTIC = "a"
    NONE = "n"

    @property
    def kept_here(self) -> bool:
        """Whether the design is large enough for the promise to hold in it."""
        return self in (Promise.EXACT, Promise.CLOSE)


def promise(design: Design, cell: Cell) -> Promise:
    """What theory says of an interval or test of ``design``."""
    if cell.target == "joint":
        return Promise.CLOSE if corrected(cell) else Promise.ASYMPTOTIC
    target = design.targets[cell.target]
    if corrected(cell):
        return Promise.EXACT if design.balanced else Promise.CLOSE
    if cell.method in ("wild", "cases", "cases, all"):
        return resampled(design, cell)
    return large(target)


def corrected(cell: Cell) -> bool:
    return cell.method in ("satterthwaite", "kenward-roger")


def large(target: Target) -> Promise:
    """Whether a large-sample method has a large sample of what matters to the target."""
    return Promise.CLOSE if target.df >= MANY else Promise.ASYMPTOTIC


def resampled(design: Design, cell: Cell) -> Promise:
    """Bootstraps that draw or multiply whole groups need many groups, whatever the target.

    Drawing the groups of one factor does not speak for a second, crossed one, and drawing both
    counts the rows' share of the variance more than once (Owen 2007, Annals of Applied Statistics
    1, 386-411).  One random number
    times all residuals of a group does not reproduce the spread of a variance estimate.  The wild
    bootstrap of a crossed design multiplies effects and residuals apart, so that there the rows
    count for what varies between them.
    """
    if cell.method == "wild" and cell.target in design.sds:
        return Promise.NONE
    if not design.nested:
        return large(design.targets[cell.target]) if cell.method == "wild" else Promise.NONE
    return Promise.ASYMPTOTIC
