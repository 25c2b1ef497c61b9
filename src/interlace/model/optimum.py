"""What verbs need of an optimum, whatever the family of the model."""

from __future__ import annotations

from typing import Protocol

from interlace.estimation.certificate import Convergence
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats, ReTerm


class Labels(Protocol):
    """Names and sizes of a model."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def dropped(self) -> tuple[str, ...]: ...
    @property
    def terms(self) -> tuple[ReTerm, ...]: ...
    @property
    def n(self) -> int: ...
    @property
    def p(self) -> int: ...


class AnyEstimate(Protocol):
    """What the labels need of an optimum, whatever the model."""

    @property
    def A(self) -> Labels: ...
    @property
    def beta(self) -> Floats: ...
    @property
    def vcov(self) -> Floats: ...
    @property
    def b(self) -> tuple[Floats, ...]: ...
    @property
    def b_cov(self) -> tuple[Floats, ...]: ...
    @property
    def b_se(self) -> tuple[Floats, ...]: ...
    @property
    def covariances(self) -> list[Floats]: ...
    @property
    def theta(self) -> Floats: ...
    @property
    def value(self) -> float: ...
    @property
    def convergence(self) -> Convergence: ...
    @property
    def is_singular(self) -> bool: ...
    @property
    def n_family(self) -> int: ...


class SummedEstimate(AnyEstimate, Protocol):
    """An optimum of a model that is linear in its rows: their cross-products are known."""

    @property
    def A(self) -> CrossProducts: ...
